#!/bin/bash
# Data that does not fit a run is refused before a step, with one message and 64: of another task, template, label map or tokenizer, beside
# other data, for validation, upon a base, in a resumed run; weights of a class without a text. Labels of a run are known without its data.
. "$(dirname "${BASH_SOURCE[0]}")/data_checks.sh"
train=$build/bin/gptdist-train
prepare() { # DATASET ARGUMENT...
  "$data" prepare --output "$@" >out 2>&1 || { cat out; exit 1; }
}
for i in $(seq 12); do printf '%s\tx%d\n' "$(cut -d' ' -f$((i % 3 + 1)) <<<"blue green red")" "$i"; done >colours.tsv
sed 's/^red/rot/' colours.tsv >farben.tsv
sed 's/x/y/' colours.tsv >recoloured.tsv
printf '1\t0\ta\n0\t1\tb\n' >pairs.tsv
echo '{"name": "short", "user": ["", ":"], "assistant": ["", ""]}' >short.json
labelled=(--task classification --columns label=1,text=2)
prepare colours --tokenizer bytes "${labelled[@]}" colours.tsv
prepare recoloured --tokenizer bytes "${labelled[@]}" recoloured.tsv
prepare farben --tokenizer bytes "${labelled[@]}" farben.tsv
prepare chars --tokenizer chars "${labelled[@]}" --repeated keep --test colours.tsv colours.tsv
prepare several --tokenizer bytes --task classification --columns label=1,label=2,text=3 pairs.tsv
prepare pairs --tokenizer bytes --task sft --template plain --columns prompt=1,response=3 pairs.tsv
prepare short --tokenizer bytes --task sft --template short.json --columns prompt=1,response=3 pairs.tsv
echo '{"name": "plain", "user": ["", ": "], "assistant": ["", ""]}' >longer.json
prepare longer --tokenizer bytes --task sft --template longer.json --columns prompt=1,response=3 pairs.tsv
cut -f2 colours.tsv >plain.txt
prepare plain --tokenizer bytes plain.txt
cat >run.yaml <<YAML
run: {steps: 1, device: cpu, threads: 1}
model: {layers: 1, heads: 2, width: 8, context: 16, dropout: 0}
batch: {global: 2}
schedule: {warmup_steps: 0}
YAML
run() { # NAME DATA SETTING-OR-OPTION...
  local arguments=(--config run.yaml --set "run.directory=$1" --set "data.path=$2") s
  shift 2
  for s in "$@"; do
    case $s in --*) arguments+=("$s") ;; *) arguments+=(--set "$s") ;; esac
  done
  "$train" "${arguments[@]}"
}
check "a classifier" run one colours validation.interval_steps=1 data.validation=colours/train
check "of several labels a text" run many several
check "a language model that was asked" run asked pairs

# refused TEXT DATA ARGUMENT...: 64, and the text once among what is told
refused() {
  local text=$1 found
  shift
  run never "$@" >out 2>err
  found=$?
  [ $found = 64 ] || fail "code $found, expected 64: $* ($(cat err))"
  [ "$(grep -cF -- "$text" err)" = 1 ] || fail "expected once \"$text\": $* ($(cat err))"
  [ "$(grep -c '^gptdist-train: ' err)" = 1 ] || fail "more than a message: $* ($(cat err))"
  ls never/checkpoints/step-* >/dev/null 2>&1 && fail "a step was made: $*"
  rm -rf never
}
refused 'is for another task (classification) than' '[pairs, colours]'
refused 'is for another task (classification) than colours/train (classification), or has other labels or another template' '[colours, farben]'
refused 'is for another task (sft) than pairs/train (sft), or has other labels or another template' '[pairs, short]'
refused 'all sources need the same one' '[colours, chars]'
refused 'data.validation: is for another task (sft) than data.path (classification)' colours data.validation=pairs/train
refused 'data.validation: has other labels than data.path' colours data.validation=farben/train
refused 'data.validation: has another template than data.path' pairs data.validation=short/train
refused 'data.validation: was made with tokenizer chars' colours data.validation=chars/test
refused 'data.path: farben lacks the label "red" of the classifier of model.init_from one; prepare the data with --labels one' farben model.init_from=one
refused 'data.path: its texts have any number of labels, those of the classifier of model.init_from one one label each' several model.init_from=one
refused 'data.path: chars was made with tokenizer chars' chars model.init_from=one
upon=one/checkpoints/step-00000001
refused "data.path: plain is for lm, expected classification as in $upon; begin anew in" plain --resume=one@last run.steps=2
refused "data.path: farben is for classification with other labels than $upon (classification): \"rot\" is new, \"red\" is missing; begin anew in" \
  farben --resume=one@last run.steps=2
refused "data.path: several is for classification with any number of labels a text, $upon (classification) has one; begin anew in" several --resume=one@last \
  run.steps=2
upon=asked/checkpoints/step-00000001
refused "data.path: short is for sft with another template than $upon (sft): found short, expected plain; begin anew in" short --resume=asked@last run.steps=2
refused "data.path: longer is for sft with another template than $upon (sft): found plain, expected plain with the texts that it had there; begin anew in" \
  longer --resume=asked@last run.steps=2
own() { # TEXT NAME DATA: in the directory of a run
  run "$2" "$3" run.steps=2 >out 2>err
  [ $? = 64 ] && [ "$(grep -cF -- "$1" err)" = 1 ] || fail "expected once \"$1\": $2 $3 ($(cat err))"
}
own "data.path: plain is for lm, expected classification as in one/checkpoints/step-00000001; begin anew in" one plain
own 'data.path: farben is for classification with other labels than one/checkpoints/step-00000001 (classification): "rot" is new, "red" is missing' one farben
own "data.path: short is for sft with another template than asked/checkpoints/step-00000001 (sft): found short, expected plain" asked short
own "data.path: colours is for classification, expected sft as in asked/checkpoints/step-00000001" asked colours
own "data.path: run directory one was started with other data (digest " one recoloured
refused 'validation.metric: found accuracy, which is of data for classification; the data here is sft, which has loss' pairs validation.metric=accuracy

# ---- one output for two labels, or one for each: a resumed run has what its checkpoint has, and is told the key that says so ----
grep -v '^red' colours.tsv >two.tsv
prepare two --tokenizer bytes "${labelled[@]}" two.tsv
check "a base" run base plain
kept() { # FOUND EXPECTED NAME SETTING-OR-OPTION...: one message that names the key, what it is and was, and what to write
  local found=$1 expected=$2 at=$3/checkpoints/step-00000001 code
  run "$3" two run.steps=2 "${@:4}" >out 2>err
  code=$?
  [ $code = 64 ] && [ "$(grep -c '^gptdist-train: ' err)" = 1 ] || fail "code $code, expected 64 and one message: ${*:3} ($(cat err))"
  grep -qF "finetune.loss: found $found" err && grep -qF "expected $expected as in $at" err && grep -qF "write finetune.loss: $expected" err ||
    fail "expected finetune.loss: found $found, expected $expected: ${*:3} ($(cat err))"
  grep -qE 'model\.classes|drop the key|resume: finetune' err && fail "misleading: ${*:3} ($(cat err))"
}
for base in '' base; do
  check "one output" run one-output$base two finetune.loss=sigmoid model.init_from=$base
  check "two outputs" run two-outputs$base two model.init_from=$base
  kept 'softmax, which is what two labels have where nothing is said' sigmoid one-output$base model.init_from=$base
  kept 'softmax, which is what two labels have where nothing is said' sigmoid one-output$base model.init_from=$base finetune.loss=softmax
  kept sigmoid softmax two-outputs$base model.init_from=$base finetune.loss=sigmoid
done
kept 'softmax, which is what two labels have where nothing is said' sigmoid one-outputbase model.init_from=base model.classes=2
check "what the message says" run one-outputbase two model.init_from=base finetune.loss=sigmoid run.steps=2
expect 64 '--allow-change finetune.loss: a checkpoint has no meaning with another one' run two-outputs two finetune.loss=sigmoid run.steps=2 --allow-change=finetune.loss
# A run's own config.yaml says how many outputs it has.
"$train" --config one-output/config.yaml --set finetune.loss=auto --set run.steps=3 >out 2>err
[ $? = 64 ] && grep -qF 'model.classes: found 1, but the 2 labels of data.path take 2 with finetune.loss: softmax; write finetune.loss: sigmoid for one output, or drop' err ||
  fail "expected finetune.loss: $(cat err)"

# ---- a start that is refused for its data leaves nothing that refuses the next one ----
cp -r colours torn
shard=$(ls torn/train/*.h5 | head -1)
printf '\377' | dd of="$shard" bs=1 seek=$(($(stat -c %s "$shard") / 2)) conv=notrunc 2>dd.err
for wrong in 'plain --resume=one@last' torn; do
  # shellcheck disable=SC2086
  run again $wrong >out 2>err && fail "$wrong was taken"
  [ -e again/exit.json ] || fail "$wrong was refused before the run directory was made"
  [ -e again/data.sha256 ] && fail "$wrong left its digest"
done
check "the right data after them" run again several
[ -e again/data.sha256 ] || fail "no digest of the data that was taken"
run again colours >out 2>err
[ $? = 64 ] || fail "other data go on in a run directory"

# ---- labels of a run, whose data may be gone; those that no text has ----
mv colours away && mv several gone
printf 'red\tnew\namber\tnewer\n' >new.tsv
for from in one one@best one@1 one/checkpoints; do
  check "labels of $from" "$data" prepare "${labelled[@]}" --tokenizer bytes --force --output more --labels "$from" new.tsv
  grep -qF 'warning: no row for training has the labels "blue", "green"; --labels keeps them' err || fail "no warning: $(cat err)"
  check "inspect" "$data" inspect --json more
  has '"labels": ["blue", "green", "red", "amber"]'
done
printf '1\t1\t0\tx\n0\t1\t1\ty\n' >late.tsv
check "several labels of a run" "$data" prepare --task classification --columns label=3,label=2,label=1,text=4 --tokenizer bytes --output late --labels many late.tsv
check "inspect" "$data" inspect --json late
has '"labels": ["1", "2", "3"]'
expect 64 'asked: has no labels, expected examples for classification, or a run that was trained on them' "$data" prepare "${labelled[@]}" --tokenizer bytes \
  --output x --labels asked new.tsv
expect 64 'asked@best: no validation has marked a best one' "$data" prepare "${labelled[@]}" --tokenizer bytes --output x --labels asked@best new.tsv
refused 'finetune.class_weights: found balanced, but no text for training has "blue", "green"; expected a text of each label, or a list of 4 numbers' \
  more finetune.class_weights=balanced
check "a list of weights" run listed more 'finetune.class_weights=[1,1,2,2]'
check "no weights" run unweighed more
exit $failed
