#!/usr/bin/env bash
# Damaged data end training and evaluation, of one rank and of two, with 65 and one line that names the file, before a step is made of
# them; so do a damaged tokenizer, which no checkpoint takes along, a damaged digest of the data, and a checkpoint under another's name.
. "$(dirname "${BASH_SOURCE[0]}")/../numerics/lib.sh"
start() { launch "$1" "$bin/gptdist-train" --config "$work/gpt2.yaml" --set run.steps=4 --set run.directory="$work/run" --set "data.path=$2" "${@:3}"; }
# ends WHAT CODE TEXT COMMAND...: with this code; TEXT stands in exactly one line of what it says
ends() {
  local what=$1 wanted=$2 text=$3 code
  shift 3
  "$@" >"$work/out" 2>&1
  code=$?
  check "$what: code $wanted (found $code)" test $code = "$wanted"
  check "$what: \"$text\" once" test "$(grep -cF -- "$text" "$work/out")" = 1
  [ $code = "$wanted" ] || cat "$work/out"
}
# turn FILE BYTE BIT
turn() {
  python3 - "$@" <<'END'
import sys
with open(sys.argv[1], "r+b") as f:
    f.seek(int(sys.argv[2]))
    byte = f.read(1)[0]
    f.seek(int(sys.argv[2]))
    f.write(bytes([byte ^ 1 << int(sys.argv[3])]))
END
}
# fresh: a whole copy of the dataset in $data
fresh() {
  rm -rf "$work/run" "$data"
  cp -r "$work/whole" "$data"
}
command -v python3 >/dev/null || { echo "skipped: no python3"; exit 77; }
data=$work/data
"$bin/gptdist-data" prepare --tokenizer bytes --shard-tokens 9000 --output "$work/whole" --validation-fraction 0.1 "$work/text.txt" >/dev/null
check "a dataset of several shards" test "$(ls "$work/whole/train" | wc -l)" -gt 4

fresh
check "training on whole data" start 2 "$data"
check "... says what the digests took" grep -qE 'data: ([0-9]+) of \1 token shards have the SHA-256 of their index, 0\.[0-9]+ GB compared in 0\.[0-9]+ s$' "$work/run/log/rank-00000.log"
cp -r "$work/run" "$work/run-whole"

# Once these gave other tokens without a word, SIGSEGV and SIGFPE.
for place in "1361 3" "4055 0" "4055 7" "4128 1" "4128 6" "20000 5"; do
  fresh
  # shellcheck disable=SC2086
  turn "$data/train/00001.h5" $place
  ends "bit $place of a shard" 65 "train/00001.h5: is damaged or another shard: SHA-256 is" start 1 "$data"
  check "... no step was made" test ! -s "$work/run/metrics.jsonl"
  ends "... in verify" 65 "train/00001.h5: is damaged or another shard" "$bin/gptdist-data" verify "$data"
done
ends "... with two ranks" 65 "train/00001.h5: is damaged or another shard: SHA-256 is" start 2 "$data"
digest=$(sha256sum "$data/train/00001.h5")
check "both digests are told" grep -q "SHA-256 is ${digest%% *}, .*index.json expects $(sha256sum "$work/whole/train/00001.h5" | cut -c1-64)" "$work/out"
fresh
mv "$data/train/00000.h5" "$work/x" && mv "$data/train/00001.h5" "$data/train/00000.h5" && mv "$work/x" "$data/train/00001.h5"
ends "two shards that changed places" 65 "is damaged or another shard" start 2 "$data"
# What is not compared in the first seconds is before its first use: here the first read of each process takes longer than those.
late=$work/faults.so
if cc -shared -fPIC -O1 -I"$source" -o "$late" "$source/tests/fault/faults.c" -ldl; then
  for n in 1 2; do
    fresh
    turn "$data/train/00002.h5" 4055 0
    ends "a shard compared while training, $n ranks" 65 "train/00002.h5: is damaged or another shard: SHA-256 is" launch $n env LD_PRELOAD="$late" ASAN_OPTIONS=verify_asan_link_order=0 \
      GD_FAULT_PATH=.h5 GD_FAULT_CALLS=read GD_FAULT_NTH=1 GD_FAULT_DELAY_MS=3500 "$bin/gptdist-train" --config "$work/gpt2.yaml" \
      --set run.steps=400 --set checkpoint.interval_steps=0 --set run.directory="$work/run" --set "data.path=$data"
    check "... some were compared before" grep -qE 'data: [1-6] of [78] token shards .*; the others are compared before their first use' "$work/run/log/rank-00000.log"
  done
  fresh
  check "whole ones are told at the end" launch 1 env LD_PRELOAD="$late" ASAN_OPTIONS=verify_asan_link_order=0 GD_FAULT_PATH=.h5 GD_FAULT_CALLS=read GD_FAULT_NTH=1 \
    GD_FAULT_DELAY_MS=3500 "$bin/gptdist-train" --config "$work/gpt2.yaml" --set run.steps=100 --set run.directory="$work/run" --set "data.path=$data"
  check "... in the log" grep -qE 'data: ([78]) of \1 token shards were compared' "$work/run/log/rank-00000.log"
fi
fresh
turn "$data/validation/00000.h5" 4055 0
ends "a shard of the validation split" 65 "validation/00000.h5: is damaged or another shard" start 2 "$data"
for n in 1 2; do
  ends "... in gptdist-eval, $n ranks" 65 "validation/00000.h5: is damaged or another shard" launch $n "$bin/gptdist-eval" --tensor 1 \
    --checkpoint "$work/run-whole" --task perplexity --data "$data"
done
fresh
turn "$data/train/index.json" 100 0
ends "an index" 65 "train/index.json: is damaged" start 1 "$data"
ends "... in gptdist-data at" 65 "train/index.json: is damaged" "$bin/gptdist-data" at --config "$work/gpt2.yaml" --set "data.path=$data" --step 0
ends "... in gptdist-data inspect" 65 "train/index.json: is damaged" "$bin/gptdist-data" inspect "$data"

# The tokenizer: at the start, and between the start and a save.
rm -rf "$work/bpe" "$work/whole"
"$bin/gptdist-data" train-tokenizer --vocab-size 300 --output "$work/bpe" "$work/text.txt" >/dev/null
"$bin/gptdist-data" prepare --tokenizer "$work/bpe" --output "$work/whole" --validation-fraction 0.1 "$work/text.txt" >/dev/null
fresh
turn "$data/tokenizer/merges.txt" 200 0
ends "a tokenizer's file" 65 "tokenizer/merges.txt is damaged" start 2 "$data"
check "... and no checkpoint has it" test ! -e "$work/run/checkpoints"
ends "... in gptdist-data encode" 65 "tokenizer/merges.txt is damaged" "$bin/gptdist-data" encode --tokenizer "$data" <"$work/text.txt"
fresh
rm -r "$data/tokenizer"
"$bin/gptdist-data" prepare --tokenizer chars --output "$work/other" "$work/text.txt" >/dev/null
cp -r "$work/other/tokenizer" "$data/tokenizer"
ends "another tokenizer, whole" 65 "is another tokenizer: its digest is" start 1 "$data"

# Each rank finds whole data under the same name, but not the same.
for other in training validation; do
  rm -rf "$work/first" "$work/second" "$work/run"
  mkdir "$work/first" "$work/second"
  cp -r "$work/whole" "$work/first/data"
  cp -r "$work/whole" "$work/second/data"
  folder=${other/training/train}
  rm -r "$work/second/data/$folder"
  cp -r "$work/corpus/$folder" "$work/second/data/$folder"
  line=("$(realpath "$bin/gptdist-train")" --config "$work/gpt2.yaml" --set run.directory="$work/run" --set data.path=data)
  ends "two ranks with other $other data" 64 "data.path: rank 1 on $(uname -n) finds other $other data than rank 0" \
    mpirun --oversubscribe --bind-to none -np 1 --wdir "$work/first" "${line[@]}" : -np 1 --wdir "$work/second" "${line[@]}"
done

# The run directory.
fresh
check "training" start 2 "$data"
cp "$work/run/data.sha256" "$work/sums"
turn "$work/run/data.sha256" 20 0
ends "one bit of the digest of the data" 65 "data.sha256: is damaged: found" start 1 "$data"
printf 'abc' >"$work/run/data.sha256"
ends "a digest of the data cut short" 65 "data.sha256: is damaged: found 3 bytes that are no digest" start 1 "$data"
tr 0-9a-f a-f0-9 <"$work/sums" >"$work/run/data.sha256"
ends "the digest of other data" 64 "was started with other data" start 1 "$data"
cp "$work/sums" "$work/run/data.sha256"
sed -i '3s/.$/]/' "$work/run/metrics.jsonl"
ends "a damaged line of metrics.jsonl" 0 "metrics.jsonl:3: is damaged" start 1 "$data" --set run.steps=6
mv "$work/run/checkpoints/step-00000002" "$work/run/checkpoints/step-00000030"
ends "a checkpoint under another's name, looked at" 65 "gptdist-ckpt: $work/run/checkpoints/step-00000030: is named after step 30, but its MANIFEST.pb says step 2" "$bin/gptdist-ckpt" verify "$work/run/checkpoints/step-00000030"
ends "a checkpoint under another's name" 0 "step-00000030: is named after step 30, but its MANIFEST.pb says step 2" start 1 "$data" --set run.steps=6
finish
