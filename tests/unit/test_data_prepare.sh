#!/bin/bash
# gptdist-data prepare: the same bytes from any number of ranks and any packing; encode and decode undo each other; own BPE.
. "$(dirname "${BASH_SOURCE[0]}")/data_checks.sh"
ranks() { mpirun --allow-run-as-root --oversubscribe --bind-to none -np "$1" "${@:2}"; }

# Text with separators, long lines, lines without end, characters of one to four bytes.
for i in $(seq 1 400); do
  echo "Document number $i begins; it says: naïve café 漢字 😀 $((i * 7919 % 1000))."
  for k in $(seq 1 $((i % 40))); do echo "  line $k of $i, words and words and words, it's $((k * i))"; done
  [ $((i % 3)) = 0 ] && echo '<|endoftext|>'
done >"$work/a.txt"
for i in $(seq 1 30); do cat "$work/a.txt"; done >"$work/big.txt" # more than one unit of 8 MiB
awk '{gsub(/[\\"]/, ""); printf "{\"id\": %d, \"text\": \"%s\"}\n", NR, $0}' "$work/a.txt" >"$work/b.jsonl"
printf 'label,text\n1,"a quoted, text\nof two lines"\n2,plain\n' >"$work/c.csv"

for n in 1 2 3; do
  check "prepare on $n ranks" ranks $n "$data" prepare --tokenizer bytes --output "$work/n$n" --validation-fraction 0.1 \
    --shard-tokens 2000000 "$work/big.txt" "$work/b.jsonl" "$work/c.csv"
done
diff -r "$work/n1" "$work/n2" >/dev/null && diff -r "$work/n1" "$work/n3" >/dev/null || fail "the folder depends on the number of ranks"
check "verify" "$data" verify "$work/n1"
check "prepare without mpirun" "$data" prepare --tokenizer bytes --output "$work/plain" --validation-fraction 0.1 \
  --shard-tokens 2000000 "$work/big.txt" "$work/b.jsonl" "$work/c.csv"
diff -r "$work/n1" "$work/plain" >/dev/null || fail "the folder depends on mpirun"
ls "$work" | grep -q tmp- && fail "a work folder was left"

gzip -k "$work/a.txt"
check "prepare .txt" "$data" prepare --tokenizer chars --output "$work/txt" "$work/a.txt"
check "prepare .gz" "$data" prepare --tokenizer chars --output "$work/gz" "$work/a.txt.gz"
diff -r "$work/txt" "$work/gz" >/dev/null || fail "packed text gives other tokens"

# A file cut into units has the tokens of the text as one piece.
check "train-tokenizer" "$data" train-tokenizer --vocab-size 600 --output "$work/bpe" "$work/a.txt"
check "train-tokenizer again" "$data" train-tokenizer --vocab-size 600 --output "$work/bpe2" "$work/a.txt"
diff -r "$work/bpe" "$work/bpe2" >/dev/null || fail "training a tokenizer twice gives two tokenizers"
grep -v '^<|endoftext|>$' "$work/big.txt" >"$work/one.txt"
check "prepare by units" "$data" prepare --tokenizer "$work/bpe" --output "$work/units" --json "$work/one.txt"
"$data" encode --tokenizer "gpt2:$work/bpe" <"$work/one.txt" >"$work/ids"
ids=$(wc -w <"$work/ids")
grep -q "\"train_tokens\": $((ids + 1))," "$work/out" || fail "units change the ids: $ids and an end, found $(cat "$work/out")"
"$data" decode --tokenizer "$work/bpe" <"$work/ids" | cmp -s - "$work/one.txt" || fail "decode does not undo encode"

head -c 20000 /dev/urandom >"$work/random"
for spec in bytes "$work/bpe"; do
  "$data" encode --tokenizer "$spec" <"$work/random" | "$data" decode --tokenizer "$spec" | cmp -s - "$work/random" ||
    fail "random bytes do not come back from $spec"
done
printf '"a\\u0000\\n"\n"\\u00e9 <|endoftext|>"\n' >"$work/lines"
"$data" encode --jsonl --tokenizer bytes <"$work/lines" | "$data" decode --jsonl --tokenizer bytes >"$work/back"
printf '"a\\u0000\\n"\n"é <|endoftext|>"\n' | cmp -s - "$work/back" || fail "--jsonl: $(cat "$work/back")"
[ "$(printf 'x<|endoftext|>' | "$data" encode --tokenizer bytes --allow-special)" = "120 256" ] || fail "--allow-special"

# Folders, patterns, standard input, arrays of objects: the tokens of the same text in plain files.
mkdir -p "$work/tree/sub"
cp "$work/a.txt" "$work/tree/a.txt"
cp "$work/c.csv" "$work/tree/sub/c.csv"
check "files" "$data" prepare --tokenizer bytes --output "$work/by-file" "$work/tree/a.txt" "$work/tree/sub/c.csv"
check "a folder" "$data" prepare --tokenizer bytes --output "$work/by-folder" "$work/tree"
check "patterns" "$data" prepare --tokenizer bytes --output "$work/by-pattern" "$work/tr*/*.txt" "$work/tree/sub/*"
check "standard input" "$data" prepare --tokenizer bytes --output "$work/by-input" - "$work/tree/sub" <"$work/a.txt"
for way in folder pattern input; do
  diff -r "$work/by-file" "$work/by-$way" >/dev/null || fail "a $way gives other tokens than its files"
done
check "train-tokenizer -" "$data" train-tokenizer --vocab-size 600 --output "$work/bpe3" --json - <"$work/a.txt"
grep -q '"vocabulary": 600, "merges": 343, "bytes": [0-9]*, "words": ' "$work/out" || fail "train-tokenizer --json: $(cat "$work/out")"
diff -r "$work/bpe" "$work/bpe3" >/dev/null || fail "standard input gives another tokenizer"
sed '1s/^/[/; $!s/$/,/; $s/$/]/' "$work/b.jsonl" >"$work/b.json"
check ".jsonl" "$data" prepare --tokenizer bytes --output "$work/lines-set" "$work/b.jsonl"
check ".json" "$data" prepare --tokenizer bytes --output "$work/array-set" "$work/b.json"
diff -r "$work/lines-set" "$work/array-set" >/dev/null || fail "an array of objects gives other tokens than their lines"
sed 's/^<|endoftext|>$/-----/' "$work/a.txt" >"$work/dashes.txt"
check "--document-separator" "$data" prepare --tokenizer chars --output "$work/dashes" --document-separator ----- "$work/dashes.txt"
diff -r "$work/txt" "$work/dashes" >/dev/null || fail "another separator gives other tokens"
[ "$(printf 'hi' | "$data" encode --tokenizer bytes -)" = "104 105" ] || fail "encode -"
[ "$(printf 'hi' | "$data" encode --tokenizer bytes --json)" = '{"ids": [104, 105]}' ] || fail "encode --json"
"$data" encode --tokenizer bytes "$work/a.txt" | "$data" decode --tokenizer bytes - | cmp -s - "$work/a.txt" || fail "encode FILE"

# A document that begins a shard: eight documents of ten tokens in shards of twenty.
for i in $(seq 8); do printf 'line %d ..\n<|endoftext|>\n' "$i"; done | sed 's/ \.\.$/ ./' >"$work/tens.txt"
check "shards that documents begin" "$data" prepare --tokenizer bytes --output "$work/tens" --shard-tokens 20 "$work/tens.txt"
[ "$(grep -o '"tokens": 20, "documents": 2,' "$work/tens/train/index.json" | wc -l)" = 4 ] ||
  fail "documents that begin a shard: $(cat "$work/tens/train/index.json")"
check "verify them" "$data" verify "$work/tens"

# Paths in JSON are text in JSON; a long read says how far it is.
mkdir "$work/a \"quoted\" folder"
check "a name with quotes" "$data" prepare --tokenizer bytes --json --output "$work/a \"quoted\" folder/set" "$work/c.csv"
grep -q 'a \\"quoted\\" folder/set", "bytes"' "$work/out" || fail "a path in JSON: $(cat "$work/out")"
check "inspect it" "$data" inspect --json "$work/a \"quoted\" folder/set"
grep -q '{"folder": "[^ ]*/a \\"quoted\\" folder/set/train", "tok' "$work/out" || fail "a path in JSON: $(cat "$work/out")"
mkfifo "$work/slow"
(cat "$work/big.txt"; sleep 1; cat "$work/big.txt") >"$work/slow" &
GPTDIST_TERMINAL=1 check "progress" "$data" prepare --tokenizer bytes --output "$work/progress" "$work/slow"
tr '\r' '\n' <"$work/err" | grep -Eq '^encode: [0-9.]+ MB, [0-9.]+ MB/s' || fail "no line says how far it is: $(cat "$work/err")"

if [ -f "$shared/text/tinyshakespeare.txt" ]; then
  # the split that nanoGPT publishes for characters
  check "characters of Shakespeare" "$data" prepare --tokenizer chars --output "$work/shakespeare" --validation-fraction 0.1 --json \
    "$shared/text/tinyshakespeare.txt"
  grep -q '"vocabulary": 65, "train_tokens": 1003854, .*"validation_tokens": 111540,' "$work/out" || fail "Shakespeare: $(cat "$work/out")"
  check "Shakespeare in GPT-2" "$data" prepare --tokenizer "gpt2:$shared/tokenizer/gpt2" --output "$work/gpt2" --json \
    "$shared/text/tinyshakespeare.txt"
  grep -q '"train_tokens": 338026,' "$work/out" || fail "GPT-2 ids of Shakespeare: $(cat "$work/out")"
else
  echo "skipped: no ../shared/data"
fi
exit $failed
