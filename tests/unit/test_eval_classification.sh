#!/usr/bin/env bash
# gptdist-eval --task classification: answers are those of the classifier's logits behind each document, on any ranks; scores are those of
# the answers and of the validation in training; an earlier checkpoint beside it; mistakes.
. "$(dirname "${BASH_SOURCE[0]}")/eval_checks.sh"

# Texts that name their colour, or two properties, among other letters.
awk 'BEGIN { split("red green blue", name, " "); for (i = 0; i < 60; i++) {
  k = i % 3 + 1; printf "%s\t%s%s\n", name[i % 11 == 0 ? 1 : k], substr("abcdefghij", 1, 1 + i * 7 % 10), name[k] } }' >colours.tsv
awk 'BEGIN { for (i = 0; i < 40; i++) printf "%d\t%d\t%s%s%s\n", i % 2, int(i / 2) % 2, substr("abcdefghij", 1, 1 + i * 7 % 10),
  i % 2 ? "warm" : "", int(i / 2) % 2 ? "wet" : "" }' >weather.tsv
sed 's/^red/blue/' colours.tsv >two.tsv
prepare colours --task classification --columns label=1,text=2 --repeated keep --validation colours.tsv colours.tsv
prepare weather --task classification --columns label=1,label=2,text=3 --repeated keep --validation weather.tsv weather.tsv
prepare two --task classification --columns label=1,text=2 --repeated keep --validation two.tsv two.tsv
cut -f2 colours.tsv >colours.txt
prepare plain --validation-fraction 0.2 colours.txt
small=(model.layers=1 model.context=32 validation.interval_steps=12 validation.batches=0)
"$bin/gptdist-data" prepare --tokenizer chars --output chars --task classification --columns label=1,text=2 --repeated keep --test colours.tsv colours.tsv >out 2>&1 || { cat out; exit 1; }
train one colours "${small[@]}" checkpoint.interval_steps=2 checkpoint.keep=9
train several weather "${small[@]}"
train binary two "${small[@]}" finetune.loss=sigmoid
train language plain "${small[@]}"

cat >check.py <<'END'
import json, math, subprocess, sys
bin, bad = sys.argv[1], 0


def check(good, text):
    global bad
    if not good:
        print("FAILED:", text)
        bad = 1


def run(*arguments):
    out = subprocess.run([f"{bin}/gptdist-eval", "--threads", "1", "--json", *arguments], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    return [json.loads(line) for line in out.stdout.splitlines()]


def validation(name):
    lines = [json.loads(line) for line in open(f"{name}/metrics.jsonl")]
    return [line for line in lines if line["event"] == "validation"][-1]


def ask(name, data, classes):
    scores, = run("--checkpoint", name, "--task", "classification", "--data", f"{data}/validation", "--predictions", f"{name}.jsonl")
    answers = [json.loads(line) for line in open(f"{name}.jsonl")]
    right = sum(a["label"] == a["predicted"] for a in answers)
    check(abs(scores["accuracy"] - right / len(answers)) < 1e-9 and scores["examples"] == len(answers), f"{name}: accuracy {scores['accuracy']}, {right} of {len(answers)}")
    check([a["index"] for a in answers] == list(range(len(answers))), f"{name}: numbers")
    seen = validation(name)
    check(abs(seen["loss"] - scores["loss"]) < 1e-4, f"{name}: loss {scores['loss']}, at the end of training {seen['loss']}")
    check(abs(seen["accuracy"] - scores["accuracy"]) < 1e-6, f"{name}: accuracy {scores['accuracy']}, at the end of training {seen['accuracy']}")
    for index in 0, 7, 23:
        text = open(f"{data}.tsv").read().splitlines()[index].split("\t")[-1]
        rows = run("--checkpoint", name, "--task", "logits", "--prompt", text)
        logits = rows[-1]["logits"]
        found = answers[index]["probabilities"]
        if classes == "softmax":
            total = sum(map(math.exp, logits))
            wanted = [math.exp(z) / total for z in logits]
        else:
            wanted = [1 / (1 + math.exp(-z)) for z in logits]
            if classes == "one":
                wanted = [1 - wanted[0], wanted[0]]
        check(len(found) == len(wanted) and all(abs(a - b) < 1e-5 for a, b in zip(found, wanted)), f"{name}: {found}, of its logits {wanted}")
    return scores


one = ask("one", "colours", "softmax")
check(0.4 < one["accuracy"] < 1, f"the texts say nothing: {one['accuracy']}")
check([label["label"] for label in one["labels"]] == ["blue", "green", "red"], "labels")
ask("several", "weather", "each")
ask("binary", "two", "one")
beside, = run("--checkpoint", "one", "--task", "classification", "--data", "colours/validation", "--compare", "one/checkpoints/step-00000002")
early, = run("--checkpoint", "one/checkpoints/step-00000002", "--task", "classification", "--data", "colours/validation")
check(beside["before"] == {key: early[key] for key in ("loss", "accuracy", "macro_f1", "weighted_f1", "micro_f1")}, f"before: {beside['before']}, alone {early}")
check(all(beside[key] == value for key, value in one.items()), "--compare changes what is said of the checkpoint")
difference = round(60 * (one["accuracy"] - early["accuracy"]))
check(beside["right_after_alone"] - beside["right_before_alone"] == difference, f"{beside['right_after_alone']} - {beside['right_before_alone']}, not {difference}")
sys.exit(bad)
END
python3 check.py "$bin" || failed=1

classify() { "$bin/gptdist-eval" --threads 1 --task classification "$@" 2>err; }
classify --checkpoint one --data colours/validation --json >alone || fail "$(cat err)"
for layout in "2 2" "2 1" "4 2"; do
  read -r ranks tensor <<<"$layout"
  mpirun --allow-run-as-root --oversubscribe --bind-to none -np "$ranks" "$bin/gptdist-eval" --threads 1 --task classification --tensor "$tensor" \
    --checkpoint one --data colours/validation --predictions other.jsonl --json >other 2>err || fail "$layout: $(cat err)"
  diff <(grep -o '"index.*"predicted":"[a-z]*"' one.jsonl) <(grep -o '"index.*"predicted":"[a-z]*"' other.jsonl) >out || fail "$layout: $(cat out)"
  [ "$(sed 's/.*"accuracy"/"accuracy"/' alone)" = "$(sed 's/.*"accuracy"/"accuracy"/' other)" ] || fail "$layout: $(cat other)"
done
classify --checkpoint one --data colours/validation --compare one/checkpoints/step-00000002 >text || fail "$(cat err)"
grep -qE '^right before alone [0-9]+, after alone [0-9]+: McNemar' text && grep -q '^ *accuracy ' text && grep -q '^confusion matrix' text || fail "text: $(cat text)"

refuses() { # CODE TEXT ARGUMENT...
  local code=$1 text=$2 got
  shift 2
  classify "$@" >out
  got=$?
  [ "$got" = "$code" ] || fail "left with $got, expected $code: $* ($(cat err))"
  [ "$(grep -cF -- "$text" err)" = 1 ] || fail "expected once \"$text\": $* ($(cat err))"
  [ ! -s out ] || fail "a result of bad input: $* ($(cat out))"
}
refuses 64 'language: is a language model, expected a classifier' --checkpoint language --data colours/validation
refuses 64 'language: is a language model, expected a classifier' --checkpoint one --data colours/validation --compare language
refuses 64 '--data: has other labels than the classifier one' --checkpoint one --data two/validation
refuses 64 '--data: has other labels than the classifier' --checkpoint one --data colours/validation --compare several
refuses 64 '--data: was made with tokenizer chars' --checkpoint one --data chars/test
# A model folder has the labels of its id2label, where it was given some, and the tokenizer in another file.
sed 's/^red/rot/' colours.tsv >farben.tsv
prepare farben --task classification --columns label=1,text=2 --repeated keep --validation farben.tsv farben.tsv
"$bin/gptdist-ckpt" export-hf one folder >out 2>&1 || fail "$(cat out)"
"$bin/gptdist-ckpt" import-hf folder imported >out 2>&1 || fail "$(cat out)"
classify --checkpoint one --data colours/validation >expected
for from in folder imported; do
  classify --checkpoint $from --data colours/validation >out && cmp -s out expected || fail "$from: $(cat err)"
  refuses 64 "--data: has other labels than the classifier $from" --checkpoint $from --data farben/validation
done
sed -i 's/{"0": "[a-z]*", "1": "[a-z]*", "2": "[a-z]*"}/{"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}/' folder/config.json
grep -q LABEL_2 folder/config.json && classify --checkpoint folder --data farben/validation >out || fail "no labels: $(cat err)"
"$bin/gptdist-ckpt" export-hf binary single >out 2>&1 || fail "$(cat out)"
classify --checkpoint binary --data two/validation >expected
classify --checkpoint single --data two/validation >out && cmp -s out expected || fail "one output in a folder: $(cat err)"
sed 's/green/grun/' two.tsv >zwei.tsv
prepare zwei --task classification --columns label=1,text=2 --repeated keep --validation zwei.tsv zwei.tsv
refuses 64 '--data: has other labels than the classifier single' --checkpoint single --data zwei/validation
# Of a language model the ids are compared, too.
cut -f2 two.tsv | tr a-z A-Z >upper.txt
"$bin/gptdist-data" prepare --tokenizer chars --validation-fraction 0.2 --output upper upper.txt >out 2>&1 || fail "$(cat out)"
"$bin/gptdist-eval" --threads 1 --checkpoint language --task perplexity --data upper >out 2>err
[ $? = 64 ] && grep -qF 'upper was made with tokenizer chars' err || fail "perplexity of another tokenizer's ids: $(cat out err)"
"$bin/gptdist-ckpt" export-hf language words >out 2>&1 || fail "$(cat out)"
"$bin/gptdist-eval" --threads 1 --checkpoint words --task perplexity --data plain >out 2>err || fail "the tokenizer in another file: $(cat err)"
refuses 64 'plain/train: found data for lm, expected texts with labels' --checkpoint one --data plain/train
refuses 64 'colours: found no index.json, expected a split' --checkpoint one --data colours
refuses 64 '--data: not given' --checkpoint one
exit $failed
