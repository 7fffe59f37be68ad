#!/usr/bin/env bash
# A run file is what trains and what is planned: --dry-run --ranks plans a large job in one process from the file alone; the
# model of model.init_from counts for every program, and a key that contradicts it is refused.
set -u
command -v python3 >/dev/null || { echo 'skipped: no python3'; exit 77; }
bin=$(cd "$1/bin" && pwd) || exit 1
source=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
export OMP_NUM_THREADS=1
failed=0
fail() { echo "FAILED: $*"; tail -4 said; failed=1; }

# expect CODE TEXT PROGRAM ARGUMENT...: the exit code, and a pattern of what stderr says; stdout stays in the file out
expect() {
  local code=$1 text=$2 got
  shift 2
  timeout 60 "$bin/gptdist-$1" "${@:2}" >out 2>said </dev/null
  got=$?
  [ $got = "$code" ] || fail "exit code $got, expected $code: $*"
  [ -z "$text" ] || grep -qE -- "$text" said || fail "expected \"$text\": $*"
}
# holds WHAT EXPRESSION: of the JSON document d that is in the file out
holds() { python3 -c 'import json, sys; d = json.load(open("out")); sys.exit(not eval("(" + sys.argv[1] + ")"))' "$2" 2>/dev/null || fail "$1: $(cat out)"; }

# ---- a plan from the file alone ----

cp "$source/cluster-configs/models/gpt3-175b.yaml" . && cat >large.yaml <<'END_OF_FILE'
include: gpt3-175b.yaml
run: {directory: nowhere/run}
data: {path: nowhere/data}
parallel: {tensor: 8}
batch: {global: 1536, micro: 1}
END_OF_FILE
expect 0 'planned without the data: nowhere/data' train --config large.yaml --dry-run --ranks 1024
grep -qE '^layout +1024 ranks = data 128 x tensor 8' out || fail "the plan is not of 1024 ranks"
grep -qE '^ +0 +11 +forward +0-10 +1 +0-95' out || fail "eleven equal micro-batches are not one line: $(grep forward out)"
grep -qE '^ +37 +96 +backward +11 +1 +95-0' out || fail "the layers of the last backward are not one line: $(grep backward out)"
[ "$(grep -cE '^ +[0-9]+ +[0-9]+ +forward ' out)" = 2 ] && [ "$(grep -cE '^ +[0-9]+ +[0-9]+ +backward ' out)" = 2 ] ||
  fail "rows are not folded"
[ -e nowhere ] && fail "a plan made a folder"
expect 0 '' train --config large.yaml --set data.path= --dry-run --ranks 1024 --json
holds "the document" 'd["ranks"] == 1024 and d["data"] == 128 and d["parameters"] > 174e9 and d["step_rows"] == 332'
holds "its folded step" '[(r["row"], r["action"], r["micro"], r["repeats"], r["sequences"], r["waits_for"]) for r in d["step"]] ==
  [(0, "forward", 0, 11, 1, None), (1, "head", 0, 11, 1, None), (2, "backward", 0, 11, 1, None),
   (33, "forward", 11, 1, 1, None), (34, "head", 11, 1, 1, None), (35, "reduce", None, 2, None, 34),
   (37, "backward", 11, 96, 1, None), (38, "reduce", None, 96, None, 37), (229, "reduce", None, 2, None, 227),
   (231, "vote", None, 1, None, 230), (232, "update", None, 1, None, None), (233, "gather", None, 99, None, 232)]'
# The last micro-batch is a smaller one: it has lines of its own.
expect 0 '' train --config large.yaml --set batch.micro=5 --dry-run --ranks 1024 --json
holds "a smaller last micro-batch" '[(r["row"], r["micro"], r["repeats"], r["sequences"]) for r in d["step"]][:5] ==
  [(0, 0, 2, 5), (1, 0, 2, 5), (2, 0, 2, 5), (6, 2, 1, 2), (7, 2, 1, 2)]'
expect 64 'model.vocabulary: not set, and there is no data.path' train --config large.yaml --set model.vocabulary=0 --set data.path= --dry-run --ranks 1024
expect 64 'model.vocabulary: not set; without the data' train --config large.yaml --set model.vocabulary=0 --dry-run --ranks 1024
expect 64 'batch.global: found 1536, expected a multiple of the 125' train --config large.yaml --dry-run --ranks 1000
expect 64 'ranks: for --dry-run only' train --config large.yaml --ranks 4

# ---- the vocabulary comes from the data ----

for i in $(seq 200); do echo "Line $i of a small text that says the same again, $((i % 7)) times."; done >text.txt
"$bin/gptdist-data" prepare --tokenizer bytes --validation-fraction 0.2 --output data text.txt >out 2>said || fail "prepare"
small="run: {directory: RUN, steps: 2, device: cpu}
data: {path: data}
model: {layers: 2, heads: 2, width: 32, context: 16}
batch: {global: 4}"
echo "${small/RUN/first}" >first.yaml
expect 0 '' train --config first.yaml --dry-run --ranks 4 --json
holds "the data's vocabulary" 'd["vocabulary"] == 257 and d["ranks"] == 4'
expect 64 'model.vocabulary: found 100, but the data' train --config first.yaml --set model.vocabulary=100 --dry-run

# ---- the model comes from model.init_from ----

expect 0 '' train --config first.yaml
cat >second.yaml <<'END_OF_FILE'
run: {directory: second, steps: 1, device: cpu}
data: {path: data}
model: {init_from: first, dropout: 0.1}
batch: {global: 4}
END_OF_FILE
expect 0 '' train --config second.yaml --dry-run --json
holds "a plan's shape" 'd["sequence"] == 16 and d["parameters"] == 257 * 32 + 16 * 32 + 64 + 2 * (12 * 32 * 32 + 13 * 32)'
expect 0 '' data at --config second.yaml --step 0
[ "$(sed -nE 's/.*tokens ([0-9]+) to ([0-9]+),.*/\1 \2/p' out | while read -r a b; do echo $((b - a)); done | sort -u)" = 16 ] ||
  fail "windows are not the folder's 16 tokens: $(head -1 out)"
expect 64 'model.layers: found 3 \(--set\), expected 2 as in model.init_from first' train --config second.yaml --set model.layers=3
[ -e second ] && fail "a refused run left a folder"
timeout 60 mpirun --allow-run-as-root --oversubscribe --bind-to none -np 2 "$bin/gptdist-train" --config second.yaml --num-layers 3 >out 2>said
[ "$(grep -c 'model.layers: found 3 (--num-layers), expected 2' said)" = 1 ] || fail "two ranks tell the contradiction not once"
expect 64 'model.layers: found 3 \(--num-layers\), expected 2' train --config second.yaml --num-layers 3 --dry-run
sed 's/dropout: 0.1/context: 64/' second.yaml >third.yaml
expect 64 'model.context: found 64 \(third.yaml:3\), expected 16' data at --config third.yaml --step 0
for key in heads=4 kv_heads=1 width=64 head_size=8 ffn=64 vocabulary=200 norm=rmsnorm activation=gelu position=rotary bias=false \
  tied_head=false norm_epsilon=1e-6 rope_theta=500; do
  expect 64 "model.${key%%=*}: found .* \\(--set\\), expected .* as in model.init_from first" train --config second.yaml --set "model.$key" --dry-run
done
expect 64 "model.vocabulary: found 300, expected 257 as in model.init_from first, or the 257 of the data's tokenizer" \
  train --config second.yaml --set model.vocabulary=300 --dry-run
# What is said again is no contradiction, nor a zero that comes to the same; nor what the weights do not fix.
expect 0 '' train --config second.yaml --set model.layers=2 --set model.kv_heads=0 --set model.head_size=0 --set model.ffn=128 \
  --set model.vocabulary=0 --set model.norm_epsilon=0.00001 --set model.init_std=0.3
expect 0 '' train --config second/config.yaml --set run.directory=again
grep -qE 'dropout: 0.100000001|dropout: 0.1' second/config.yaml || fail "dropout is not the run's"
mv second first-of-second # what follows is no resume

# ---- the model's shape is read without its weights, the weights are hashed before they are used ----

cp -r first damaged && printf x | dd of="$(echo damaged/checkpoints/step-*/rank-00000.h5)" bs=1 seek=5000 conv=notrunc 2>/dev/null
expect 0 '' train --config second.yaml --set model.init_from=damaged --dry-run
expect 65 'rank-00000.h5: is damaged' train --config second.yaml --set model.init_from=damaged --set run.directory=fourth

# ---- the data's tokenizer is that of the weights ----

# 257 tokens as "bytes" has, but other ones.
python3 -c 'print("".join(chr(0x4e00 + i) for i in range(240)) + "abcdefghijklmnop")' >chars.txt
"$bin/gptdist-data" prepare --tokenizer chars --output other chars.txt >out 2>said || fail "prepare with other characters"
grep -q 'vocabulary 257' out || fail "the other tokenizer has another size: $(cat out)"
told='data.path: other was made with tokenizer chars \([0-9a-f]{12}\), but the weights of model.init_from first belong to bytes \([0-9a-f]{12}\)'
expect 64 "$told" train --config second.yaml --set data.path=other --set run.directory=fifth
[ -e fifth ] && fail "a refused run left a folder"
expect 64 "$told" train --config second.yaml --set data.path=other --dry-run
expect 64 "$told" data at --config second.yaml --set data.path=other --step 0
again=$(sed -nE 's/.*prepare the data with --tokenizer (.*)$/\1/p' said)
"$bin/gptdist-data" prepare --tokenizer "$again" --output advised text.txt >out 2>said || fail "the advised tokenizer $again"
expect 0 '' train --config second.yaml --set data.path=advised --dry-run
grep -q compare said && fail "tokenizers were compared, yet it is said that they were not"
cp -r first bare && rm -r bare/checkpoints/step-*/tokenizer
expect 0 'model.init_from bare: no tokenizer to compare with the data.s \(bytes, 257 tokens\): it brings none; only the sizes were compared' train --config second.yaml --set model.init_from=bare --dry-run

# A Hugging Face folder: its shape by config.json, its tokenizer by size alone.
stories=$source/../shared/data/models/stories260K
if [ -d "$stories" ]; then
  expect 0 'no tokenizer to compare .*; only the sizes were compared' train --config second.yaml --set "model.init_from=$stories" --dry-run --json
  layers=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["num_hidden_layers"])' "$stories/config.json")
  expect 64 "model.layers: found 9 \\(--set\\), expected $layers as in model.init_from" train --config second.yaml --set "model.init_from=$stories" --set model.layers=9 --dry-run
fi

exit $failed
