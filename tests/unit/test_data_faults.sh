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
expect 65 'field.jsonl:1: no field "text" (there are "body"), see --text-field' prepare --output x field.jsonl
printf '{"text": "a"}\n{"text": "b"}\n{"text": " "}\n' >empty.jsonl
expect 65 'empty.jsonl:3: column "text" is empty; --empty drop leaves out and counts such rows' prepare --output x empty.jsonl
prepare --output dropped --empty drop --json empty.jsonl | grep -q '"train_documents": 2, .*"dropped_empty": 1, ' || fail "--empty drop"
expect 64 '--empty: found "some", expected error or drop' prepare --output x --empty some empty.jsonl
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
expect 65 'cut/train/00001.h5: is damaged or another shard: SHA-256 is' "$data" verify cut
cp -r set text && echo hello >text/train/00000.h5
expect 65 'text/train/00000.h5: is damaged or another shard: SHA-256 is' "$data" verify text
# sign SPLIT: the index as if prepare had written it so: the digests of its shards and its own are made anew
sign() {
  local index=$1/index.json shard digest
  for shard in "$1"/*.h5; do
    digest=$(sha256sum <"$shard")
    sed -i "s/\(\"file\": \"$(basename "$shard")\".*\"sha256\": \)\"[0-9a-f]*\"/\1\"${digest%% *}\"/" "$index"
  done
  head -c -83 "$index" >"$index.body"
  digest=$(sha256sum <"$index.body")
  printf ',\n  "digest": "%s"\n}\n' "${digest%% *}" >>"$index.body"
  mv "$index.body" "$index"
}
cp -r set same && sign same/train
cmp -s set/train/index.json same/train/index.json || fail "sign does not write what prepare writes"
sign text/train
expect 65 'text/train/00000.h5: not a whole HDF5 file' "$data" verify text
cp -r set swapped && cp set/train/00000.h5 swapped/train/00001.h5
expect 65 'swapped/train/00001.h5' "$data" verify swapped
cp -r set other && sed -i 's/"version": 2/"version": 7/' other/train/index.json
expect 65 'other/train/index.json: format version 7, this program reads versions 1 to 3' "$data" inspect other
cp -r set broken && head -c 100 set/train/index.json >broken/train/index.json
expect 65 'broken/train/index.json: is damaged: its last line is not the SHA-256 of what comes before it' "$data" inspect broken
for change in 's/"vocabulary": 257/"vocabulary": 300/' 's/"eot": 256/"eot": 255/' 's/"tokenizer": "bytes"/"tokenizer": "bites"/'; do
  rm -rf wrong && cp -r set wrong && sed -i "$change" wrong/train/index.json
  expect 65 'wrong/train/index.json: is damaged' "$data" inspect wrong
  sign wrong/train
  expect 65 'wrong/train/00000.h5: made with tokenizer bytes' "$data" verify wrong
done
cp -r set digest && sed -i "s/\"sha256\": \"[0-9a-f]*\"/\"sha256\": \"$(printf '%064d' 0)\"/" digest/train/index.json
expect 65 'digest/train/index.json: is damaged' "$data" verify digest
# an index of version 1 has no digest of its own; its shards have
cp -r set first && sed -i -e 's/"version": 2/"version": 1/' -e '/^  "digest": /d' -e 's/^  \],$/  ]/' first/train/index.json
"$data" verify first >/dev/null || fail "an index of version 1 is not read"
printf '\001' | dd of=first/train/00000.h5 bs=1 seek=4055 conv=notrunc 2>/dev/null
expect 65 'first/train/00000.h5: is damaged or another shard' "$data" verify first
# ... so a later one that says it is of version 1 is damaged
cp -r set says && sed -i -e 's/"version": 2/"version": 1/' -e 's/"eot": 256/"eot": 255/' says/train/index.json
expect 65 'says/train/index.json: is damaged: its last line is not the SHA-256' "$data" verify says
rm -rf says && cp -r set says && sed -i 's/"version": 2/"version": 1/' says/train/index.json
expect 65 'says/train/index.json: is damaged' "$data" inspect says
# two shards that changed places; the tokenizer's description and files
cp -r set swap && mv swap/train/00000.h5 swap/x && mv swap/train/00001.h5 swap/train/00000.h5 && mv swap/x swap/train/00001.h5
expect 65 'swap/train/00000.h5: is damaged or another shard' "$data" verify swap
for change in 's/"eot": 256/"eot": 255/' 's/"vocabulary": 257/"vocabulary": 256/' 's/"kind": /"kind":  /' 's/"format"/"farmat"/' \
  's/"kind": "bytes"/"kind": "bites"/' 's/"digest": "./"digest": "x/'; do
  rm -rf token && cp -r set token && sed -i "$change" token/tokenizer/gptdist-tokenizer.json
  expect 65 'token/tokenizer/gptdist-tokenizer.json' "$data" verify token
  expect 65 'token/tokenizer/gptdist-tokenizer.json' "$data" encode --tokenizer token <good.txt
done
cp -r abc letters && printf 'abd' >letters/tokenizer/chars.txt
expect 65 'letters/tokenizer/chars.txt is damaged' "$data" verify letters
expect 65 'letters/tokenizer/chars.txt is damaged' "$data" prepare --tokenizer letters --output x abc.txt
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
