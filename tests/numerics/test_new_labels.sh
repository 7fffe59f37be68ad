#!/bin/bash
# Training on, upon a classifier, with data that has more labels: rows go by label whatever its number, new labels have the rows of a fresh
# classifier, with the same bits on every layout; labels that the data lacks are refused.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
bin=$(cd "$bin" && pwd) ckpt=$bin/gptdist-ckpt
cd "$work" || exit 1
labelled 30 red green blue > three.tsv
labelled 30 red green blue amber teal > five.tsv
labelled 30 red green teal > other.tsv
labelled 30 red green > two.tsv
awk -F'\t' '{ print $1 == "red" ? 1 : 0, $1 == "green" ? 1 : 0, $2 }' OFS='\t' three.tsv > either.tsv
prepare() { # DATASET TSV ARGUMENT...
  "$bin/gptdist-data" prepare --task classification --columns label=1,text=2 --output "$1" "${@:3}" --repeated keep --validation "$2" "$2" > prepare.out 2>&1 && return
  cat prepare.out
  exit 1
}
prepare three three.tsv --tokenizer bytes
settings=(batch.global=12 model.context=24 validation.interval_steps=2 validation.batches=0)
train base 1 gpt2 "${settings[@]}" data.path=$work/three run.steps=6 precision.dtype=fp32 || finish
prepare five-sorted five.tsv --tokenizer base # amber blue green red teal: each label of the base has another number
prepare five-behind five.tsv --tokenizer base --labels base
check "--labels keeps the numbers" grep -qF '"labels": ["blue", "green", "red", "amber", "teal"]' five-behind/train/index.json
check "without it they are sorted" grep -qF '"labels": ["amber", "blue", "green", "red", "teal"]' five-sorted/train/index.json

# ---- the same bits on every layout ----

runs() { # DATA DTYPE < LAYOUTS
  local data=$1 dtype=$2 ranks tensor zero micro
  local begin=("${settings[@]}" "model.init_from=$work/base" "data.path=$work/five-$data" "precision.dtype=$dtype" run.steps=4 checkpoint.at_start=true)
  train "$data" 1 gpt2 "${begin[@]}"
  while read -r ranks tensor zero micro; do
    train layout "$ranks" gpt2 "${begin[@]}" "parallel.tensor=$tensor" "parallel.zero=$zero" "batch.micro=$micro"
    check "$data $dtype: $ranks ranks, tensor $tensor, ZeRO $zero: the one-rank run's bits" same_curve "$data" layout
    check "$data $dtype: $ranks ranks, tensor $tensor, ZeRO $zero: state" same_state "$data" layout
    check "$data $dtype: $ranks ranks: the first state" [ "$("$ckpt" hash "$data@0")" = "$("$ckpt" hash layout@0)" ]
    rm -rf layout
  done
}
runs sorted fp32 <<< "2 2 0 12
4 1 1 3
4 2 1 6"
runs behind $half <<< "2 1 1 6
4 4 0 4"
for data in sorted behind; do
  check "$data: it is told" grep -qF 'classifier: 3 labels kept, 2 new: "amber", "teal"' $data.out
done

# ---- the rows, and what they say ----

rm -rf behind # to be whole in fp32
train behind 1 gpt2 "${settings[@]}" model.init_from=$work/base data.path=$work/five-behind precision.dtype=fp32 run.steps=2 checkpoint.at_start=true
train plain 1 gpt2 "${settings[@]}" data.path=$work/corpus run.steps=2 precision.dtype=fp32 validation.interval_steps=0
python=$(command -v python3) || echo "left out: no python3 to look at rows"
for data in sorted behind; do
  # A fresh classifier of these labels: one put upon a language model.
  train fresh-$data 1 gpt2 "${settings[@]}" model.init_from=$work/plain data.path=$work/five-$data run.steps=2 checkpoint.at_start=true precision.dtype=fp32
  for of in base $data@0 fresh-$data@0; do "$ckpt" export-hf $of rows-$of --dtype float32 > out 2>&1 || cat out; done
  [ -z "$python" ] || check "$data: known rows are the base's, new ones a fresh classifier's" python3 "$here/labelled_rows.py" rows-base rows-$data@0 rows-fresh-$data@0 amber teal
  rm -rf rows-*
done
"$ckpt" diff base behind@0 > diff.out 2>&1
compared() { grep -q '^final_norm.weight first: ' diff.out; } # the moments of the base, which a run that begins does not have
check "all else is the base's" eval 'compared && grep -q "^classifier.weight shape: 3 x 32 and 5 x 32" diff.out && ! grep -v classifier diff.out | grep -qE "weights: [0-9]"'
logits() { # CHECKPOINT NUMBER...   of the last token of a text, of the labels with these numbers
  "$bin/gptdist-eval" --checkpoint "$1" --task logits --prompt abcred --json --dtype float32 --threads 1 2> err |
    awk -v numbers="${*:2}" '{ split(numbers, at, " "); sub(/.*\[/, ""); sub(/\].*/, ""); split($0, x, ","); line = ""
      for (i = 1; i <= 3; i++) line = line " " x[at[i]] } END { print line }'
}
want=$(logits base 1 2 3)
check "old labels have the base's logits before a step ($want)" eval '[ "${#want}" -gt 10 ] && [ "$(logits sorted@0 2 3 4)" = "$want" ]'

# ---- stopped, gone on elsewhere, by its own config.yaml; special tokens beside; no new label; out and in again ----

again=("${settings[@]}" "model.init_from=$work/base" "data.path=$work/five-sorted" precision.dtype=fp32 run.steps=4 checkpoint.at_start=true checkpoint.interval_steps=1)
train halves 2 gpt2 "${again[@]}" parallel.tensor=2
rm -rf halves/checkpoints/step-0000000[34]
check "and by its own config.yaml" eval 'launch 2 "$bin/gptdist-train" --config halves/config.yaml > own.out 2>&1'
check "a resumed run has the bits of the whole one" same_state sorted halves
prepare five-marked five.tsv --tokenizer base --labels base --add-special '<|x|>'
train marked 1 gpt2 "${settings[@]}" model.init_from=$work/base data.path=$work/five-marked precision.dtype=fp32 run.steps=2 checkpoint.at_start=true
check "with a special token beside: both are told" eval 'grep -qF "get 1 more" marked.out && grep -qF "classifier: 3 labels kept, 2 new" marked.out'
"$ckpt" diff behind@0 marked@0 > diff.out 2>&1
check "and only the table differs" eval 'grep -q "token_embedding.weight" diff.out && ! grep -v token_embedding diff.out | grep -qE "weights: [0-9]"'
train same 1 gpt2 "${settings[@]}" model.init_from=$work/base data.path=$work/three precision.dtype=fp32 run.steps=2 checkpoint.at_start=true
"$ckpt" diff base same@0 > diff.out 2>&1
check "no new label: all is the base's" eval 'compared && ! grep -qE "weights: [0-9]" diff.out && grep -qF "classifier: 3 labels kept" same.out && ! grep -q " new: " same.out'
"$ckpt" export-hf base folder > out 2>&1 || cat out
train of-folder 1 gpt2 "${settings[@]}" model.init_from=$work/folder data.path=$work/five-sorted precision.dtype=fp32 run.steps=4
check "a model folder gives the bits of the checkpoint" same_state sorted of-folder
prepare of-labels five.tsv --tokenizer folder --labels folder
check "--labels takes a model folder" grep -qF '"labels": ["blue", "green", "red", "amber", "teal"]' of-labels/train/index.json

# ---- refused ----

refused() { # TEXT SETTING...   one message with the text, and 64
  local message=$1
  shift
  attempt refused 1 gpt2 "${settings[@]}" run.steps=2 "$@" > log 2>&1
  check "refused: $message" eval '[ '$?' -eq 64 ] && grep -qF -- "$message" refused.out && [ "$(grep -c "^gptdist-train: [a-z.]*: " refused.out)" -eq 1 ] && [ ! -e refused ]'
}
prepare other other.tsv --tokenizer base
prepare two two.tsv --tokenizer base
"$bin/gptdist-data" prepare --task classification --columns label=1,label=2,text=3 --tokenizer base --output either either.tsv > out 2>&1 || cat out
refused "data.path: $work/other lacks the label \"blue\" of the classifier of model.init_from $work/base; prepare the data with --labels $work/base" model.init_from=$work/base data.path=$work/other
refused "data.path: $work/other lacks the label \"blue\" of the classifier of model.init_from $work/folder" model.init_from=$work/folder data.path=$work/other
refused "data.path: its texts have any number of labels, those of the classifier of model.init_from $work/base one label each" model.init_from=$work/base data.path=$work/either
refused "model.classes: found 7, but the 5 labels of data.path take 5" model.init_from=$work/base data.path=$work/five-behind model.classes=7
refused "data.path: $work/corpus is for lm, but model.classes, found 3, is of a run for classification" model.init_from=$work/base data.path=$work/corpus
train binary 1 gpt2 "${settings[@]}" data.path=$work/two run.steps=2 finetune.loss=sigmoid precision.dtype=fp32
prepare grown five.tsv --tokenizer base --labels two
refused "finetune.loss: gives 5 outputs to the 5 labels of data.path, where the classifier of model.init_from $work/binary has 1 for 2 labels" model.init_from=$work/binary data.path=$work/grown
finish
