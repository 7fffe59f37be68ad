#!/usr/bin/env bash
# gptdist-generate and gptdist-eval on two real models: the published greedy text, logits against float64, any rank count, and what
# they say to mistakes.
set -u
build=$1
models=$(cd "$(dirname "$0")/../.." && pwd)/../shared/data/models
[ -d "$models" ] || { echo "skipped: no ../shared/data"; exit 77; }
llama=$models/stories260K tiny=$models/tiny_gpt2
export OMP_NUM_THREADS=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

fail() { echo "FAILED: $*"; failed=1; }
ranks() { local n=$1; shift; mpirun --allow-run-as-root --oversubscribe --bind-to none -np "$n" "$@"; }
generate() { "$build/bin/gptdist-generate" --threads 1 "$@"; }
evaluate() { "$build/bin/gptdist-eval" --threads 1 "$@"; }

# expect CODE TEXT COMMAND...: the exit code, and TEXT once on stderr.
expect() {
  local code=$1 text=$2 got
  shift 2
  "$@" >"$work/out" 2>"$work/err"
  got=$?
  [ "$got" = "$code" ] || fail "exit code $got, expected $code: $* ($(cat "$work/err"))"
  [ "$(grep -cF -- "$text" "$work/err")" = 1 ] || fail "expected once \"$text\": $* ($(cat "$work/err"))"
}

# The reference's 200 greedy ids, first of them the start token, with one rank and shared by two and four.
python3 - "$llama/reference.json" >"$work/want" <<'PY' || { echo "skipped: no python3"; exit 77; }
import json, sys
print(*json.load(open(sys.argv[1]))["greedy_ids_from_bos"][1:])
PY
generate --checkpoint "$llama" --token-ids 1 --no-echo --temperature 0 --max-new-tokens 199 >"$work/one" 2>/dev/null
cmp -s "$work/one" "$work/want" || fail "greedy ids of stories260K differ from reference.json"
for n in 2 4; do
  ranks $n "$build/bin/gptdist-generate" --checkpoint "$llama" --token-ids 1 --no-echo --temperature 0 --max-new-tokens 199 >"$work/many" 2>/dev/null
  cmp -s "$work/many" "$work/want" || fail "greedy ids differ on $n ranks"
done
generate --checkpoint "$llama" --tokenizer "llama2c:$llama/tok512.bin" --temperature 0 --max-new-tokens 199 >"$work/text" 2>/dev/null
python3 - "$llama/reference.json" "$work/text" <<'PY' || fail "greedy text of stories260K differs from reference.json"
import json, sys
want = json.load(open(sys.argv[1]))["greedy_text"].strip()
got = open(sys.argv[2]).read().strip()
sys.exit(not (want.startswith(got) and len(got) > 400))
PY

# Logits: 1e-5 for tiny_gpt2; stories260K has logits of 10 and more, so 1e-5 of their size.
python3 - "$models" "$build/bin/gptdist-eval" <<'PY' || fail "logits differ from reference.json"
import json, subprocess, sys
models, program = sys.argv[1:]
def logits(model, ids):
    out = subprocess.run([program, "--checkpoint", f"{models}/{model}", "--task", "logits", "--token-ids", " ".join(map(str, ids)),
                          "--json", "--threads", "1"], capture_output=True, text=True, check=True).stdout
    return [json.loads(line)["logits"] for line in out.splitlines()]
bad = 0
tiny = json.load(open(f"{models}/tiny_gpt2/reference.json"))
for ids, want in zip(tiny["inputs"], tiny["logits_tied_head"]):
    got = logits("tiny_gpt2", ids)
    error = max(abs(a - b) for g, w in zip(got, want) for a, b in zip(g, w))
    bad += error > 1e-5 or len(got) != len(want)
stories = json.load(open(f"{models}/stories260K/reference.json"))
got = logits("stories260K", stories["greedy_ids_from_bos"])
want = stories["logits_first_4_positions"] + [stories["logits_last_position"]]
for g, w in zip(got[:4] + got[-1:], want):
    bad += max(abs(a - b) for a, b in zip(g, w)) > 1e-5 * max(map(abs, w))
sys.exit(bad)
PY

# A seed is a text; another seed another one; a stop text ends before it.
draw() { generate --checkpoint "$llama" --token-ids 1 --temperature 1 --top-k 50 --top-p 0.95 --max-new-tokens 40 --seed "$1" 2>/dev/null; }
[ "$(draw 4)" = "$(draw 4)" ] || fail "the same seed gave two texts"
[ "$(draw 4)" != "$(draw 5)" ] || fail "two seeds gave one text"
stopped=$(generate --checkpoint "$llama" --tokenizer "llama2c:$llama/tok512.bin" --prompt "Once upon" --temperature 0 --no-echo --stop "big, red" 2>/dev/null)
[ "$stopped" = " a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a " ] ||
  fail "--stop: \"$stopped\""

# Perplexity does not depend on how windows are dealt.
head -c 6000 "$models/../text/tinyshakespeare.txt" >"$work/text.txt"
score() { grep -o 'loss [0-9.]*'; }
one=$(evaluate --checkpoint "$llama" --tokenizer "llama2c:$llama/tok512.bin" --task perplexity --data "$work/text.txt" --length 200 2>/dev/null | score)
two=$(ranks 4 "$build/bin/gptdist-eval" --tensor 2 --checkpoint "$llama" --tokenizer "llama2c:$llama/tok512.bin" --task perplexity --data "$work/text.txt" --length 200 2>/dev/null | score)
[ -n "$one" ] && [ "$one" = "$two" ] || fail "perplexity: \"$one\" on one rank, \"$two\" on tensor 2 x data 2"

# Mistakes.
expect 64 "--checkpoint: not given" generate --prompt x
expect 64 "brings no tokenizer; name one with --tokenizer" generate --checkpoint "$llama" --prompt x
expect 65 "found neither a gptdist checkpoint" generate --checkpoint "$work" --prompt x
expect 65 "token id 512 at position 1 of the prompt: this model has ids 0 to 511" generate --checkpoint "$llama" --token-ids "1 512"
expect 64 'found "two", expected whole numbers' generate --checkpoint "$llama" --token-ids "1 two"
expect 64 "the prompt has 512 tokens, but the context of this model is 512 tokens" generate --checkpoint "$llama" \
  --token-ids "$(yes 5 | head -512 | tr '\n' ' ')"
expect 64 "the prompt is empty" generate --checkpoint "$llama" --token-ids ""
expect 64 "give one of --prompt, --prompt-file, --token-ids, --jsonl and --chat" generate --checkpoint "$llama" --prompt a --token-ids 1
expect 64 'did you mean "--temperature"' generate --checkpoint "$llama" --temprature 1
expect 64 "3 tensor ranks do not divide this model" ranks 3 "$build/bin/gptdist-generate" --checkpoint "$llama" --token-ids 1
expect 64 'found "bleurt", expected perplexity' evaluate --checkpoint "$llama" --task bleurt --data x
expect 64 "--data: not given" evaluate --checkpoint "$llama" --task perplexity
generate --checkpoint "$tiny" --token-ids "1 2 3" --max-new-tokens 3 --ids --ignore-end >"$work/out" 2>/dev/null || fail "tiny_gpt2 does not generate"
cp -r "$tiny" "$work/described" && echo '{}' >"$work/described/gptdist-tokenizer.json" # one of ours is whole or told, in a model folder, too
generate --checkpoint "$work/described" --token-ids "1 2 3" --max-new-tokens 3 >"$work/none" 2>"$work/err"
{ [ $? = 65 ] && grep -q 'described/gptdist-tokenizer.json' "$work/err"; } || fail "a damaged tokenizer beside a model: $(cat "$work/err")"
grep -Eqx '1 2 3( [0-9]+){3}' "$work/out" || fail "tiny_gpt2: expected the prompt and 3 ids, found $(cat "$work/out")"
generate --checkpoint "$tiny" --token-ids "1 2 3" --max-new-tokens 3 --ids --ignore-end --no-echo >"$work/new" 2>/dev/null
[ "1 2 3 $(cat "$work/new")" = "$(cat "$work/out")" ] || fail "tiny_gpt2 --no-echo: found $(cat "$work/new")"

# A vocabulary that is larger than the tokenizer's: its other ids are never drawn; and what is printed is UTF-8.
for temperature in 0 1; do
  generate --checkpoint "$llama" --tokenizer bytes --prompt "Once é" --temperature $temperature --max-new-tokens 300 --ignore-end >"$work/out" 2>"$work/err" ||
    fail "a padded vocabulary, temperature $temperature: $(cat "$work/err")"
  python3 -c 'import sys; text = sys.stdin.buffer.read().decode(); sys.exit(not text.startswith("Once é"))' <"$work/out" ||
    fail "temperature $temperature: the text is no UTF-8"
done
# Bytes of one character, one an id: nothing is printed before it is whole; two of three bytes at the end are one mark each.
[ "$(generate --checkpoint "$llama" --tokenizer bytes --token-ids "228 184 173 228 184" --max-new-tokens 0 2>/dev/null)" = "中��" ] ||
  fail "an unfinished character at the end"
# The mark that begins a text is no text.
for i in $(seq 60); do echo "once upon a time $i"; done >"$work/words.txt"
"$build/bin/gptdist-data" train-tokenizer --vocab-size 300 --output "$work/bpe" "$work/words.txt" >/dev/null
sed 's/<|endoftext|>/<|begin_of_text|>/g' "$work/bpe/tokenizer.json" >"$work/begin.json"
[ "$(generate --checkpoint "$llama" --tokenizer "hf:$work/begin.json" --prompt "once" --max-new-tokens 0 2>/dev/null)" = once ] ||
  fail "the mark that begins a text is printed"
# On a terminal the statistics stand on a line of their own: standard output and error in the order they were written.
generate --checkpoint "$llama" --token-ids 1 --temperature 0 --max-new-tokens 3 >"$work/out" 2>&1
grep -Eq '^3 tokens after a prompt of 1' "$work/out" || fail "the statistics run into the text: $(cat "$work/out")"
exit $failed
