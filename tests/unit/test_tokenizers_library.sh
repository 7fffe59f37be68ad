#!/bin/bash
# A trained tokenizer.json in Hugging Face's own library: it loads, gives the same ids, and brings any text back. Needs Python with
# `tokenizers` (GPTDIST_TEST_PYTHON names another interpreter).
set -u
build=$1
python=${GPTDIST_TEST_PYTHON:-python3}
data=$build/bin/gptdist-data
source=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -c 'import tokenizers' 2>/dev/null || { echo "skipped: no Python library tokenizers"; exit 77; }
{ cat "$source"/*.md "$source"/docs/*.md; for i in $(seq 1 40); do echo "naïve café 漢字 😀 it's $((i * 7919))"; done; } >"$work/a.txt"
"$data" train-tokenizer --vocab-size 1200 --output "$work/bpe" "$work/a.txt" >/dev/null || exit 1
"$python" - "$work" "$data" <<'END'
import json, random, subprocess, sys
import tokenizers
work, data = sys.argv[1:]
theirs = tokenizers.Tokenizer.from_file(work + "/bpe/tokenizer.json")
random.seed(5)
spaces = "\t\n\v\f\r \x85\xa0\u1680\u180e\u2000\u200a\u200b\u2028\u2029\u202f\u205f\u3000\ufeff"
letters = "abcXYZ'stdmrvel012٣½éß漢字😀_-.,{}\"\\"
texts = [open(work + "/a.txt").read(), "", " ", "it's  we'LL\n\n x"]
texts += ["".join(random.choice(random.choice([spaces, letters])) for _ in range(random.randrange(60))) for _ in range(2000)]
lines = "".join(json.dumps(text) + "\n" for text in texts)
out = subprocess.run([data, "encode", "--jsonl", "--tokenizer", work + "/bpe"], input=lines, capture_output=True, text=True, check=True).stdout
wrong = 0
for text, line in zip(texts, out.splitlines(), strict=True):
    ours, found = json.loads(line), theirs.encode(text).ids
    if ours != found or theirs.decode(found) != text:
        wrong += 1
        if wrong < 4: print("FAILED:", repr(text[:60]), ours[:20], found[:20])
assert theirs.get_vocab_size() == 1200 and theirs.token_to_id("<|endoftext|>") == 1199
print(f"{len(texts)} texts, {wrong} differ")
sys.exit(wrong > 0)
END
