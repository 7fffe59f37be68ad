#!/bin/bash
# gptdist-data: every bad input gets one clear line and its exit code, and what was there before stays.
set -u
build=$1
data=$build/bin/gptdist-data
work=$(mktemp -d)
mounted=
trap '[ -n "$mounted" ] && umount "$mounted"; rm -rf "$work"' EXIT
export OMP_NUM_THREADS=1
failed=0
fail() {
  echo "FAILED: $*"
  failed=1
}
# expect CODE TEXT COMMAND...: the code, and TEXT in exactly one line of stderr
expect() {
  local code=$1 text=$2 found
  shift 2
  "$@" >"$work/out" 2>"$work/err"
  found=$?
  [ $found = "$code" ] || fail "$*: code $found, expected $code: $(cat "$work/err")"
  [ "$(grep -cF -- "$text" "$work/err")" = 1 ] || fail "$*: expected once \"$text\": $(cat "$work/err")"
}
ranks() { mpirun --allow-run-as-root --oversubscribe --bind-to none -np "$1" "${@:2}"; }
prepare() { "$data" prepare --tokenizer bytes "$@"; }

cd "$work" || exit 1
seq 1 3000 >good.txt
prepare --output set --shard-tokens 5000 good.txt >/dev/null || fail "prepare"

# command line
expect 64 'preparr: unknown command; did you mean "prepare"?' "$data" preparr
expect 64 'prepare needs --tokenizer, --output and at least one input file' "$data" prepare --output x
expect 64 '--validation-fracton' "$data" prepare --validation-fracton 0.1
expect 64 '--validation-fraction' prepare --output x --validation-fraction 2 good.txt
expect 64 '--format: found "word", expected auto, text, jsonl, json, csv or tsv' prepare --output x --format word good.txt
expect 64 'tokenizer "gpt3" is not known, expected gpt2:DIR' "$data" prepare --tokenizer gpt3 --output x good.txt
expect 64 'none.txt: No such file or directory, expected a corpus file' prepare --output x none.txt
cp good.txt good.xyz
expect 64 'good.xyz: the name does not say what is in it; expected .txt' prepare --output x good.xyz
expect 64 'good.xyz: the name does not say what is in it; expected .txt' "$data" train-tokenizer --vocab-size 300 --output x good.xyz
expect 64 'expected the text of one line' prepare --output x --document-separator '' good.txt
expect 64 '-: standard input is read by one process, found a job of 2 ranks' ranks 2 "$data" prepare --tokenizer bytes --output x -
expect 64 '*.json: no file has such a name' prepare --output x '*.json'
expect 64 'set: exists already; --force replaces it' prepare --output set good.txt

# corpora
: >empty.txt
expect 65 'the inputs hold no text, the first is empty.txt' prepare --output x empty.txt
printf 'one\ntwo\xff\n' >bad.txt
expect 65 'bad.txt:2: found the byte 0xff, expected UTF-8' prepare --output x bad.txt
expect 65 'bad.txt:2: found the byte 0xff, expected UTF-8' ranks 3 "$data" prepare --tokenizer bytes --output x good.txt bad.txt
prepare --output replaced --invalid-utf8 replace bad.txt >/dev/null || fail "--invalid-utf8 replace"
printf '{"text": "a"}\n{"text": "b"\n' >bad.jsonl
expect 65 'bad.jsonl:2: ' prepare --output x bad.jsonl
printf '{"body": "a"}\n' >field.jsonl
expect 65 'field.jsonl:1: no field "text" (the first is "body"), see --text-field' prepare --output x field.jsonl
printf 'text\n"open\n' >open.csv
expect 65 'open.csv:2: the quote that opens here is never closed' prepare --output x open.csv
gzip -c good.txt | head -c 2000 >cut.txt.gz
expect 65 'cut.txt.gz: damaged gzip data near packed byte 2000: the file ends in the middle, it is truncated' prepare --output x cut.txt.gz
if command -v zstd >/dev/null; then
  zstd -qc good.txt | head -c 2000 >cut.txt.zst
  expect 65 'cut.txt.zst: damaged zstd data near packed byte 2000' prepare --output x cut.txt.zst
fi
printf 'abc' | prepare --output pipe /dev/stdin >/dev/null || fail "a pipe as input"
printf 'abc' | expect 64 '/dev/stdin: expected a plain file, the chars tokenizer reads its inputs twice' "$data" prepare \
  --tokenizer chars --output x /dev/stdin
printf 'abc' >abc.txt
"$data" prepare --tokenizer chars --output abc abc.txt >/dev/null || fail "chars"
echo xyz >xyz.txt
expect 65 'the character "x" (U+0078) is not in the vocabulary of the chars tokenizer' "$data" prepare --tokenizer abc --output x xyz.txt
printf 'y' | expect 65 'the character "y"' "$data" encode --tokenizer abc
printf '5 900' | expect 65 'id 900 has no text' "$data" decode --tokenizer bytes
printf '5 five' | expect 65 'found "five", expected a token id' "$data" decode --tokenizer bytes

# datasets
expect 64 'nowhere: No such file or directory, expected a dataset folder' "$data" verify nowhere
cp -r set lost && rm lost/train/00001.h5
expect 65 'lost/train/00001.h5: the token shard is missing' "$data" verify lost
cp -r set cut && truncate -s 9000 cut/train/00001.h5
expect 65 'cut/train/00001.h5: not a whole HDF5 file (truncated file' "$data" verify cut
cp -r set text && echo hello >text/train/00000.h5
expect 65 'text/train/00000.h5: not a whole HDF5 file' "$data" verify text
cp -r set swapped && cp set/train/00000.h5 swapped/train/00001.h5
expect 65 'swapped/train/00001.h5' "$data" verify swapped
cp -r set other && sed -i 's/"version": 1/"version": 7/' other/train/index.json
expect 65 'format version 7, this program reads version 1' "$data" inspect other
cp -r set broken && head -c 100 set/train/index.json >broken/train/index.json
expect 65 'broken/train/index.json:' "$data" inspect broken
cp -r set wrong && sed -i 's/"vocabulary": 257/"vocabulary": 300/' wrong/train/index.json
expect 65 'wrong/train/00000.h5: made with tokenizer bytes' "$data" verify wrong
cp -r set digest && sed -i "s/\"sha256\": \"[0-9a-f]*\"/\"sha256\": \"$(printf '%064d' 0)\"/" digest/train/index.json
expect 65 'digest/train/00000.h5: SHA-256 is' "$data" verify digest
cp -r set flipped && printf '\377' | dd of=flipped/train/00000.h5 bs=1 seek=9000 conv=notrunc 2>/dev/null
"$data" verify flipped >out 2>err
[ $? = 65 ] && grep -q 'flipped/train/00000.h5' err || fail "a flipped byte: $(cat err)"

# disk full: once while ids are written, once in HDF5; an existing dataset stays as it was
full() { # full LIMIT_KIB OUTPUT INPUT
  (
    trap '' XFSZ
    ulimit -f "$1"
    exec "$data" prepare --tokenizer bytes --force --output "$2" "$3"
  )
}
cp -r set before
expect 74 'cannot write set.tmp-' full 16 set good.txt
yes 'words and words' | head -c 27000000 >long.txt # units of ids below the limit, the shard above
expect 74 'train/00000.h5: ' full 40000 set long.txt
diff -r set before >/dev/null || fail "a full disk changed the dataset"
mkdir small
if [ "$(id -u)" = 0 ] && mount -t tmpfs -o size=256k tmpfs small 2>/dev/null; then
  mounted=$work/small
  head -c 300000 long.txt >medium.txt
  expect 74 'No space left on device' prepare --output small/set medium.txt
  [ -z "$(ls small)" ] || fail "a full disk leaves $(ls small)"
fi
ls | grep -q tmp- && fail "a work folder was left: $(ls)"
"$data" verify set >/dev/null || fail "the dataset is not whole any more"
mkdir locked && chmod 500 locked
[ "$(id -u)" = 0 ] || expect 74 'locked' prepare --output locked/set good.txt
exit $failed
