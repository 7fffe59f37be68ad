#!/usr/bin/env bash
# gptdist-eval --task generation: what it writes is what gptdist-generate writes for the same prompts, however many at once and on however
# many ranks, and its scores are those of --task bleu, rouge and exact.
. "$(dirname "${BASH_SOURCE[0]}")/eval_checks.sh"
evaluate() { "$bin/gptdist-eval" --threads 1 --checkpoint run --task generation "$@" 2>err; }

# A model that has learnt some answers from text, and questions: one is asked three times, one has a wrong answer.
answers=(one two three four five six seven eight nine)
for _ in $(seq 40); do
  for i in 1 2 3 4 5 6 7 8; do printf 'what is %d?\nit is %s\n<|endoftext|>\n' $i "${answers[i - 1]}"; done
done >text.txt
{
  echo prompt,response
  for i in 1 2 3 4 5 6 7; do echo "what is $i?,it is ${answers[i - 1]}"; done
  printf 'what is 2?,2 it is\nwhat is 8?,it is nine\nwhat is 2?,two\n'
} >test.csv
printf 'prompt,response\nx,y\n' >train.csv
{
  "$bin/gptdist-data" prepare --tokenizer bytes --output data text.txt &&
    "$bin/gptdist-data" prepare --task sft --columns prompt=prompt,response=response --template plain --tokenizer bytes --repeated keep --test test.csv \
      --output asked train.csv && echo 'run: {steps: 250, directory: run, device: cpu, threads: 1}' >run.yaml &&
    "$bin/gptdist-train" --config run.yaml --set data.path=data --set model.layers=1 --set model.heads=2 --set model.width=32 \
      --set model.context=48 --set batch.global=8 --set optimizer.lr=1e-2 --set optimizer.min_lr=1e-3 --set schedule.warmup_steps=5
} >out 2>&1 || { cat out; exit 1; }

evaluate --data asked/test --predictions written.jsonl --json --max-new-tokens 20 >scores || fail "left with $?: $(cat err)"
python3 - "$bin" <<'END' || failed=1
import json, subprocess, sys
bin, bad = sys.argv[1], 0


def check(good, text):
    global bad
    if not good:
        print("FAILED:", text)
        bad = 1


def run(program, *arguments, given=None):
    out = subprocess.run([f"{bin}/{program}", *arguments], input=given, capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    return [json.loads(line) for line in out.stdout.splitlines()]


scores = json.load(open("scores"))
written = [json.loads(line) for line in open("written.jsonl")]
check([w["prompt"] for w in written] == [f"what is {i}?\n" for i in range(1, 9)], f"prompts: {[w['prompt'] for w in written]}")
check(written[1]["references"] == ["it is two", "2 it is", "two"], f"references: {written[1]}")
check([w["index"] for w in written] == [0, 1, 2, 3, 4, 5, 6, 8], "numbers of documents")
asked = "".join(json.dumps({"prompt": w["prompt"]}) + "\n" for w in written)
alone = run("gptdist-generate", "--checkpoint", "run", "--threads", "1", "--jsonl", "-", "--temperature", "0", "--max-new-tokens", "20", given=asked)
check([w["text"] for w in alone] == [w["text"] for w in written], f"texts: {written}, gptdist-generate: {alone}")
check([w["stopped_by"] for w in alone] == [w["stopped_by"] for w in written], "what stopped them")
check(0 < scores["exact_match"] < 1 and 0 < scores["ended"] < 8, f"the questions say nothing: {scores}")
check(scores["ended"] == sum(w["stopped_by"] == "end" for w in written), "ended")
check(scores["tokens"] == sum(len(w["token_ids"]) for w in alone), "tokens")
for task in "bleu", "rouge", "exact":
    found, = run("gptdist-eval", "--json", "--task", task, "--hypotheses", "written.jsonl", "--references", "written.jsonl", "--reference-field", "references")
    for key, value in found.items():
        check(key == "task" or scores.get(key) == value, f"{task}: {key} is {scores.get(key)}, of the texts alone {value}")
sys.exit(bad)
END

# The same however it is done; a beam search is that of gptdist-generate.
rest() { sed 's/,"tokens_per_s.*//' "$1"; }
same() {
  [ "$(rest scores)" = "$(rest other)" ] && cmp -s written.jsonl other.jsonl || fail "$1: $(cat other err)"
}
evaluate --data asked/test --predictions other.jsonl --json --max-new-tokens 20 --batch 1 >other && same "one at a time"
evaluate --data asked/test --predictions other.jsonl --json --max-new-tokens 20 --batch 3 >other && same "three at once"
mpirun --allow-run-as-root --oversubscribe --bind-to none -np 2 "$bin/gptdist-eval" --threads 1 --checkpoint run --task generation --data asked/test \
  --predictions other.jsonl --json --max-new-tokens 20 >other 2>err && same "two ranks"
evaluate --data asked/test --predictions beams.jsonl --beams 2 --max-new-tokens 20 --limit 3 >other || fail "beams: $(cat err)"
grep -qx 'of 3 texts' other || fail "--limit: $(cat other)"
sed 's/.*\("prompt":"[^"]*"\).*/{\1}/' beams.jsonl | "$bin/gptdist-generate" --threads 1 --checkpoint run --jsonl - --beams 2 --max-new-tokens 20 >beams.out 2>err
[ "$(grep -o '"text":"[^"]*"' beams.jsonl)" = "$(grep -o '"text":"[^"]*"' beams.out)" ] || fail "beams: $(cat beams.jsonl beams.out err)"

# Mistakes.
refuses() {
  local code=$1 text=$2 got
  shift 2
  evaluate "$@" >out
  got=$?
  [ "$got" = "$code" ] || fail "left with $got, expected $code: $* ($(cat err))"
  [ "$(grep -cF -- "$text" err)" = 1 ] || fail "expected once \"$text\": $* ($(cat err))"
  [ ! -s out ] || fail "a result of bad input: $* ($(cat out))"
}
printf 'ham\thi\nspam\tbuy\nham\tyes\nspam\tnow\n' >labels.tsv
"$bin/gptdist-data" prepare --task classification --columns label=1,text=2 --split 0.5,0,0.5 --tokenizer bytes --output labelled labels.tsv >out 2>&1 || fail "$(cat out)"
"$bin/gptdist-data" train-tokenizer --vocab-size 260 --output bpe text.txt >out 2>&1 || fail "$(cat out)"
"$bin/gptdist-data" prepare --task sft --columns prompt=prompt,response=response --template plain --tokenizer hf:bpe/tokenizer.json --repeated keep --test test.csv \
  --output other-ids train.csv >out 2>&1 || fail "$(cat out)"
printf 'prompt,response\nx,%050d\n' 5 >long.csv
"$bin/gptdist-data" prepare --task sft --columns prompt=prompt,response=response --template plain --tokenizer bytes --repeated keep --test long.csv --output long train.csv >out 2>&1 || fail "$(cat out)"
refuses 64 'asked: found no index.json, expected a split' --data asked
refuses 64 'nowhere' --data nowhere
refuses 64 'data/train: found data for lm, expected prompts and responses' --data data/train
refuses 64 'labelled/test: found data for classification, expected prompts and responses' --data labelled/test
refuses 64 'other-ids/test was made with tokenizer' --data other-ids/test
refuses 64 '48' --data long/test
refuses 64 '--data: not given' --max-new-tokens 3
refuses 64 '--tokenize: found "moses", expected none, 13a, zh or char' --data asked/test --tokenize moses
exit $failed
