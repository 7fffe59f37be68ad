#!/bin/bash
# Training on tasks in whole runs: classification and responses learnt by heart; every layout has the one-rank run's bits, a run
# resumes elsewhere, a classifier is put upon a base, and what does not fit is refused.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
. "$here/layouts.sh"

prepare() { # DATASET ARGUMENT...
  local out=$1
  shift
  "$bin/gptdist-data" prepare --tokenizer bytes --output "$work/$out" "$@" > "$work/prepare.log" 2>&1 || { cat "$work/prepare.log"; exit 1; }
}
# Texts of different lengths that name their colour; the same with two labels, either of which may be there; sums.
awk 'BEGIN { split("red green blue", name, " "); for (i = 0; i < 90; i++) {
       k = i % 3 + 1; printf "%s\t%s%s\n", name[k], substr("abcdefghij", 1, 1 + i * 7 % 10), name[k] } }' > "$work/colours.tsv"
awk 'BEGIN { split("red green blue", name, " "); split("7 2 7 7 5 7 7 12 7 30 7", letters, " "); s = 1
       for (i = 0; i < 800; i++) { s = s * 16807 % 2147483647; k = s % 3 + 1; word = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnop"
       printf "%s\t%s%s\n", name[k], substr(word, 1 + s % 7, letters[1 + int(s / 7) % 11]), substr(name[k], 1, 1) } }' > "$work/short.tsv"
awk 'BEGIN { for (i = 0; i < 60; i++) printf "%d\t%d\t%s%s%s\n", i % 2, int(i / 2) % 2, substr("abcdefghij", 1, 1 + i * 7 % 10),
       i % 2 ? "warm" : "", int(i / 2) % 2 ? "wet" : "" }' > "$work/weather.tsv"
awk 'BEGIN { for (i = 0; i < 32; i++) { a = i * 5 % 32; printf "%d\tn%d\n", a + 10, a * 37 % 100 } }' > "$work/pairs.tsv"
awk 'BEGIN { for (i = 0; i < 48; i++) printf "%s\t%d\n", substr("one two three four five", 1, 1 + i * 11 % 23), i }' > "$work/counts.tsv"
prepare colours --task classification --columns label=1,text=2 --repeated keep --validation "$work/colours.tsv" "$work/colours.tsv"
prepare short --task classification --columns label=1,text=2 --repeated keep --validation "$work/short.tsv" "$work/short.tsv"
prepare weather --task classification --columns label=1,label=2,text=3 --repeated keep --validation "$work/weather.tsv" "$work/weather.tsv"
for name in pairs counts; do
  prepare $name --task sft --template plain --columns prompt=1,response=2 --repeated keep --validation "$work/$name.tsv" "$work/$name.tsv"
done

# ---- layouts ----

# task CONFIG DTYPE "SETTING..." LAYOUT...   the one-rank run, then each layout "ranks tensor zero micro threads"
task() {
  local config=$1 dtype=$2 layout
  read -ra extra <<< "$3"
  shift 3
  one_rank "$config" "$dtype"
  for layout in "$@"; do
    # shellcheck disable=SC2086
    same_bits "$config" "$dtype" $layout
  done
  rm -rf "${work:?}/$config-$dtype"
}
task gpt2 fp32 "data.path=$work/colours finetune.class_weights=[1,2,0.5] optimizer.label_smoothing=0.1" "4 2 1 5 2" "3 1 0 3 1"
# many documents a sequence: how many end in the fullest chunk is another number in each share
task gpt2 "$half" "data.path=$work/short model.context=128 model.width=64 parallel.time_blocks=1 batch.global=4 optimizer.clip=0" "4 1 0 0 1" "4 2 1 1 1"
task llama "$half" "data.path=$work/weather finetune.pack=false" "2 2 1 12 1" "4 4 1 24 1"
task gpt2 "$half" "data.path=$work/pairs optimizer.label_smoothing=0.1" "4 2 0 5 1"
task llama fp32 "data.path=$work/pairs parallel.time_blocks=4" "3 1 1 3 1" "4 4 1 24 1"
task llama fp32 "data.path=$work/counts finetune.pack=false" "3 1 1 3 1" "4 2 1 5 1" # targets early in some rows, late in others
task llama fp32 "data.path=$work/colours finetune.train=head parallel.time_blocks=2" "2 2 1 5 1"
extra=()

# ---- a run that is stopped and goes on elsewhere ----

common="data.path=$work/colours run.steps=8 checkpoint.keep=9"
# shellcheck disable=SC2086
{
  train whole 2 gpt2 $common parallel.tensor=2 || finish
  train elsewhere 3 gpt2 $common parallel.zero=1 "--resume=$work/whole/checkpoints/step-00000004" &&
    check "resumed on 3 ranks: the same state" same_state whole elsewhere
}
"$bin/gptdist-ckpt" inspect "$work/whole" > "$work/inspect.out"
check "a checkpoint says what it is for" grep -qE '^task +classification: 3 labels, blue green red$' "$work/inspect.out"

# ---- learnt ----

small="schedule.kind=constant schedule.warmup_steps=0 validation.batches=0 validation.interval_steps=1000 model.dropout=0"
# shellcheck disable=SC2086
{
  train learnt 1 gpt2 data.path=$work/colours $small run.steps=40
  check "every text of training gets its label" grep -q '"validation".*"accuracy": 1, "macro_f1": 1, "weighted_f1": 1, "micro_f1": 1,' "$work/learnt/metrics.jsonl"
  train several 1 gpt2 data.path=$work/weather $small run.steps=60
  check "and each of several labels" grep -q '"validation".*"accuracy": 1,' "$work/several/metrics.jsonl"
  train heart 1 llama data.path=$work/pairs $small run.steps=${STEPS:-150} optimizer.lr=0.005
}
loss_of() { grep -oE '"loss": [-+.e0-9]+' | cut -d' ' -f2; }
trained=$(grep '"validation"' "$work/heart/metrics.jsonl" | loss_of)
evaluated=$("$bin/gptdist-eval" --checkpoint "$work/heart" --task perplexity --data "$work/pairs" --json | sed -E 's/.*"loss":([-+.e0-9]+).*/\1/')
check "packed rows and an example at a time have one loss ($trained, $evaluated)" \
  awk -v a="$trained" -v b="$evaluated" 'BEGIN { d = a - b; exit !(a != "" && b != "" && d < 1e-5 && d > -1e-5) }'
# A prompt of the plain template ends with a line's end; the answer with the end token, which is no text.
came_back=0
while IFS=$'\t' read -r prompt response; do
  found=$("$bin/gptdist-generate" --checkpoint "$work/heart" --prompt "$prompt"$'\n' --max-new-tokens 8 --temperature 0 --json 2> "$work/generate.err")
  grep -qF "\"text\":\"$response\"" <<< "${found//: /:}" && came_back=$((came_back + 1))
done < "$work/pairs.tsv"
[ $came_back -eq 32 ] || echo "the last: $found $(cat "$work/generate.err")"
check "$came_back of 32 responses come back, ended by the end token" [ $came_back -eq 32 ]

# ---- a classifier upon a base ----

train base 1 gpt2 run.steps=1 schedule.warmup_steps=0
train upon 1 gpt2 "data.path=$work/colours" "model.init_from=$work/base" run.steps=1 schedule.warmup_steps=0 'optimizer.lr_scale={"*": 0}'
"$bin/gptdist-ckpt" diff "$work/base" "$work/upon" > "$work/diff.out" 2>&1
check "all but the classifier is the base's" eval 'grep -q "classifier.weight tensor: only in the second" "$work/diff.out" &&
  ! grep -qE "weights: [0-9]" "$work/diff.out"'
check "a checkpoint names its base" grep -qE "base +$work/base" <("$bin/gptdist-ckpt" inspect "$work/upon")

# ---- refused: of data that does not fit there is more in tests/unit/test_task_mistakes.sh ----

refused() { # TEXT RUN-ARGUMENT...   one message with the text, and 64
  local message=$1
  shift
  attempt refused 1 gpt2 "$@" > "$work/log" 2>&1
  check "refused: $message" eval '[ '$?' -eq 64 ] && grep -qF -- "$message" "$work/refused.out" && [ "$(grep -c "^gptdist-train: " "$work/refused.out")" -eq 1 ]'
  rm -rf "$work/refused"
}
prepare alpaca --task sft --template alpaca --max-tokens 256 --columns prompt=1,response=2 "$work/pairs.tsv"
refused "finetune.task: found sft, but data.path $work/colours is for classification" data.path=$work/colours finetune.task=sft
refused "finetune.loss: found sigmoid, but data.path has 3 labels of which a text has one, expected softmax" data.path=$work/colours finetune.loss=sigmoid
refused "finetune.loss: found softmax, but a text of data.path may have several labels" data.path=$work/weather finetune.loss=softmax
refused "finetune.class_weights: found 2 numbers, but data.path has 3 labels" data.path=$work/colours 'finetune.class_weights=[1,2]'
refused "finetune.class_weights: weigh the one label of a text" data.path=$work/weather finetune.class_weights=balanced
refused "finetune.loss: is of a classifier, but data.path $corpus is for lm" finetune.loss=softmax
refused "data.path: $work/pairs is for sft, but model.classes, found 3, is of a run for classification" "data.path=$work/pairs" "model.init_from=$work/whole"
refused "data.reset_positions: needs data.mask_documents: true" data.reset_positions=true
refused "its longest example has" data.path=$work/alpaca
for task in perplexity lambada; do
  "$bin/gptdist-eval" --checkpoint "$work/learnt" --task $task --data "$work/pairs" > "$work/log" 2>&1
  check "gptdist-eval --task $task refuses a classifier" eval '[ '$?' -eq 64 ] && grep -qF "is a classifier of 3 outputs, expected a language model" "$work/log"'
done
"$bin/gptdist-eval" --checkpoint "$work/heart" --task perplexity --data "$work/colours" > "$work/log" 2>&1
check "... and labels" eval '[ '$?' -eq 64 ] && grep -qF "holds examples for classification, which have no next tokens to score" "$work/log"'
"$bin/gptdist-eval" --checkpoint "$work/learnt" --task logits --prompt "abred" --json > "$work/log" 2>&1
check "the logits of a classifier are those of its classes" grep -qE '"logits":\[[^,]+,[^,]+,[^,]+\]\}' "$work/log"
"$bin/gptdist-ckpt" export-hf "$work/learnt" "$work/folder" --dtype float32 > "$work/export.log" 2>&1
check "it goes out as a folder of a classifier" grep -q '"GPT2ForSequenceClassification"' "$work/folder/config.json"
"$bin/gptdist-eval" --checkpoint "$work/folder" --task logits --prompt "abred" --json > "$work/log.folder" 2>&1
check "which gives the same logits" cmp "$work/log" "$work/log.folder"
finish
