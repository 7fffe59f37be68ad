#!/bin/bash
# A run that began with model.init_from goes on without it: moved away, or another model by now. Shape, labels and tokenizer are those
# of the checkpoint, which the data is compared with, and what the run began with stays in its manifest.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
bin=$(cd "$bin" && pwd) ckpt=$bin/gptdist-ckpt
cd "$work" || exit 1
prepare() { # DATASET FILE ARGUMENT...
  "$bin/gptdist-data" prepare --output "$1" "${@:3}" "$2" > prepare.out 2>&1 && return
  cat prepare.out
  exit 1
}
labelled 20 red green blue > three.tsv
labelled 20 red green blue amber teal > five.tsv
labelled 20 red green blue amber pink > pink.tsv
for i in $(seq 40); do
  printf '{"messages": [{"role": "user", "content": "line %d"}, {"role": "assistant", "content": "says %d"}]}\n' "$i" $((i % 7))
done > talks.jsonl
label=(--task classification --columns label=1,text=2)
settings=(batch.global=12 model.context=48 validation.interval_steps=0 precision.dtype=fp32)
start=("${settings[@]}" run.steps=2)
train base 1 gpt2 "${start[@]}" || finish
train roomy 1 gpt2 "${start[@]}" model.vocabulary=300
train stranger 1 llama "${start[@]}" model.context=32
prepare three three.tsv "${label[@]}" --tokenizer bytes
train colours 1 gpt2 "${start[@]}" data.path=three
"$ckpt" export-hf base folder > out 2>&1 || cat out
prepare five five.tsv "${label[@]}" --tokenizer base
prepare pink pink.tsv "${label[@]}" --tokenizer base
prepare talks talks.jsonl --task sft --template chatml --columns messages=messages --tokenizer base --add-special '<|im_start|>,<|im_end|>'
prepare hf-talks talks.jsonl --task sft --template chatml --columns messages=messages --tokenizer folder --add-special '<|im_start|>,<|im_end|>'
labelled 20 teal amber > two.tsv
prepare turned-labels two.tsv "${label[@]}" --tokenizer base
prepare turned-five five.tsv "${label[@]}" --tokenizer base --labels turned-labels
prepare plainer talks.jsonl --task sft --template plain --columns messages=messages --tokenizer base --add-special '<|im_start|>,<|im_end|>'
prepare turned talks.jsonl --task sft --template chatml --columns messages=messages --tokenizer base --add-special '<|im_end|>,<|im_start|>'

# What a run began with, as its newest checkpoint says.
began() { "$ckpt" inspect "$1" --json | grep -oE '"base": ?\{[^}]*\}'; }
first_half() { # NAME RANKS SETTING...
  train "$1" "$2" gpt2 "${@:3}"
  rm -rf "$1"/checkpoints/step-0000000[34]
}
# goes_on NAME BASE DATA RANKS SETTING...   the bits of the run that nobody stopped, without its base and beside another
goes_on() {
  local name=$1 base=$2 ranks=$4 told
  local line=("${settings[@]}" run.steps=4 checkpoint.interval_steps=1 checkpoint.keep=9 "model.init_from=$base" "data.path=$3" "${@:5}")
  train "$name" "$ranks" gpt2 "${line[@]}"
  for now in gone replaced; do
    first_half "$name-$now" "$ranks" "${line[@]}"
    told=$(began "$name-$now")
    mv "$base" away
    [ $now = gone ] || cp -r stranger "$base"
    train "$name-$now" "$ranks" gpt2 "${line[@]}"
    check "$name, $ranks ranks, base $now: the bits of the whole run" same_state "$name" "$name-$now"
    check "$name, $ranks ranks, base $now: it went on" grep -q 'resumed at step 2 of 4' "$name-$now.out"
    check "$name, $ranks ranks, base $now: the manifest says what it began with ($told)" [ "${told:+$(began "$name-$now")}" = "$told" ]
    rm -rf "$base"
    mv away "$base"
  done
}
goes_on plain base corpus 1
goes_on plain-2 base corpus 2 parallel.tensor=2
goes_on of-folder folder corpus 2
goes_on upon base five 1 finetune.train=head
goes_on labels colours five 2 parallel.zero=0
goes_on grown base talks 1
goes_on grown-2 folder hf-talks 2 parallel.tensor=2

# ---- every way to go on ----

line=("${settings[@]}" run.steps=4 checkpoint.interval_steps=1 checkpoint.keep=9 model.init_from=base data.path=talks)
again() { # NAME   a run of talks that stopped at step 2
  rm -rf "$1"
  cp -r half "$1"
}
first_half half 1 "${line[@]}"
sed -i 's|directory: .*half"\?|directory: own|' half/config.yaml
mv base away
plan=("$bin/gptdist-train" --config gpt2.yaml --dry-run --json)
for setting in "${line[@]}"; do plan+=(--set "$setting"); done
vocabulary() { grep -q '"vocabulary": 259' plan.out; }
check "a plan" eval '"${plan[@]}" --set run.directory=half > plan.out 2> plan.err && vocabulary'
check "a plan with --resume" eval '"${plan[@]}" --set run.directory=new --resume=half@2 > plan.out 2> plan.err && vocabulary'
check "gptdist-data at" eval '"$bin/gptdist-data" at --config half/config.yaml --set run.directory=half --step 3 > at.out 2>&1'
train elsewhere 1 gpt2 "${line[@]}" --resume=half@2
check "--resume in another run directory" same_state grown elsewhere
again own
check "its own config.yaml" "$bin/gptdist-train" --config own/config.yaml --set checkpoint.keep=9 > own.out 2>&1
check "the same bits" same_state grown own
again said
train said 1 gpt2 "${line[@]}" model.vocabulary=257 model.layers=2
check "a run file with the shape of the base" same_state grown said
check "... whose rows are told" [ "$(grep -cF "resume: model.vocabulary: found 257 (--set), but $work/said/checkpoints/step-00000002 has 259, which stay" said.out)" -eq 1 ]
# A kill in the middle of a replacement left the only checkpoint under its other name.
again aside
rm -r aside/checkpoints/step-00000001
mv aside/checkpoints/step-00000002 aside/checkpoints/step-00000002.replaced
check "a plan beside a checkpoint that stepped aside" eval '"${plan[@]}" --set run.directory=aside > plan.out 2> plan.err && vocabulary'
check "it stays aside" [ -e aside/checkpoints/step-00000002.replaced ]
train aside 1 gpt2 "${line[@]}"
check "the run goes on from it" eval 'grep -q "resumed at step 2 of 4" aside.out && same_state grown aside'
# One in the middle of a replacement, and damage to the newer one behind it: the older one is whole.
again twice
rm -r twice/checkpoints/step-00000001
cp -r twice/checkpoints/step-00000002 twice/checkpoints/step-00000002.replaced
weights=twice/checkpoints/step-00000002/rank-00000.h5
printf damaged | dd of="$weights" bs=1 seek=$(($(stat -c %s "$weights") / 2)) conv=notrunc 2> /dev/null
check "a plan beside both" eval '"${plan[@]}" --set run.directory=twice > plan.out 2> plan.err && vocabulary'
check "both stay" [ -e twice/checkpoints/step-00000002 -a -e twice/checkpoints/step-00000002.replaced ]
train twice 2 gpt2 "${line[@]}" parallel.tensor=2
check "the run goes on from the whole one" eval 'grep -q "resumed at step 2 of 4" twice.out && same_state grown twice'
check "... and says what became of the other" grep -qF "step-00000002 is not whole and is set aside as step-00000002.bad: " twice.out
check "... which is kept" [ -e twice/checkpoints/step-00000002.bad -a ! -e twice/checkpoints/step-00000002.replaced ]
again by-run
words=()
for setting in "${line[@]}"; do words+=(--set "$setting"); done
check "gptdist-run" "$bin/gptdist-run" -n 2 -- "$bin/gptdist-train" --config gpt2.yaml --set run.directory=by-run "${words[@]}" > by-run.out 2>&1
check "the same bits" same_state grown by-run

# ---- refused ----

refused() { # CODE TEXT NAME SETTING...   one message with the text
  local code=$1 message=$2 name=$3
  shift 3
  attempt "$name" 1 gpt2 "${line[@]}" "$@" > log 2>&1
  check "refused with $code: $message" eval '[ '$?' -eq '"$code"' ] && [ "$(grep -cF -- "$message" "$name.out")" -eq 1 ]'
}
refused 64 "base: No such file" never
refused 64 "base: No such file" half --resume=none
check "checkpoints stay where they are" [ -e half/checkpoints/step-00000002 ]
refused 64 "nowhere: No such file" new --resume=nowhere
mkdir -p empty/checkpoints
refused 65 "--resume empty: found no checkpoint there" new --resume=empty
at=half/checkpoints/step-00000002
refused 64 "model.layers: found 3 (--set), expected 2 as in $work/$at; drop the key, or choose another run.directory" half model.layers=3
refused 64 "model.layers: found 3 (--set), expected 2 as in $at; drop the key, or choose another run.directory" new model.layers=3 --resume=half@2
refused 64 "data.path: turned was made with tokenizer bytes" new data.path=turned --resume=half
refused 64 "but the weights of $at belong to bytes" new data.path=turned --resume=half
refused 64 "but the weights of $at belong to bytes" late data.path=turned model.init_from= --resume=half
refused 64 "data.path: five is for classification, expected sft as in $at" new data.path=five --resume=half
refused 64 "data.path: five is for classification, expected sft as in $work/$at" half data.path=five
five=labels/checkpoints/step-00000004
for other in corpus talks; do
  task=lm
  [ $other = talks ] && task=sft
  refused 64 "data.path: $other is for $task, expected classification as in $five" new data.path=$other --resume=labels
  refused 64 "data.path: $other is for $task, expected classification as in $work/$five" labels data.path=$other finetune.loss=softmax
  refused 64 "data.path: $other is for $task, but model.classes, found 5, is of a run for classification; drop the key, or name other data" new data.path=$other model.init_from= model.classes=5
done
other_labels() { printf 'data.path: %s is for classification with other labels than %s (classification): %s; begin anew in' "$@"; }
refused 64 "$(other_labels pink upon/checkpoints/step-00000004 '"pink" is new, "teal" is missing')" new data.path=pink finetune.train=head --resume=upon
refused 64 "$(other_labels three $five '"amber", "teal" are missing')" new data.path=three --resume=labels 'finetune.class_weights=[1,2,3,4,5]'
refused 64 "$(other_labels turned-five $five 'they are numbered otherwise')" new data.path=turned-five --resume=labels
refused 64 "data.path: plainer is for sft with another template than $at (sft): found plain, expected chatml; begin anew in" new data.path=plainer --resume=half
# A key may say what the run began with, as long as that can be.
keys=("${settings[@]}" run.steps=4 model.init_from=gone data.path=five parallel.zero=0)
refused 64 "model.vocabulary: found 300, expected 259 as in $work/$at; drop the key" half model.vocabulary=300
refused 64 "model.vocabulary: found 100, expected 300 as in $work/roomy/checkpoints/step-00000002; drop the key" roomy data.path=$corpus model.vocabulary=100
check "where the key comes from is said" grep -q "model.vocabulary: from --set" roomy.out
refused 64 "model.classes: found 7, expected 5 as in $work/$five; drop the key" labels data.path=five model.classes=7
train labels 2 gpt2 "${keys[@]}" model.classes=3
check "fewer labels are those of the base, which is told" [ "$(grep -cF "resume: model.classes: found 3 (--set), but $work/$five has 5, which stay" labels.out)" -eq 1 ]
train labels 2 gpt2 "${keys[@]}" model.classes=5
check "the same ones are not" eval '! grep -q "model.classes" labels.out'
refused 64 "run directory $work/half was started with other data" half data.path=turned model.init_from=
check "a plan with data of another tokenizer" eval '! "${plan[@]}" --set run.directory=new --set data.path=turned --resume half > plan.out 2> plan.err && grep -qF "the weights of $at belong to" plan.err'
check "nothing was made" [ ! -e new ]

# ---- of a run that stopped early it is the newest that goes on, whatever became of the best ----

early=("${settings[@]}" validation.interval_steps=1 checkpoint.interval_steps=1 checkpoint.keep=9 optimizer.lr=0.9 optimizer.min_lr=0.9 "data.path=$corpus")
train begun 1 gpt2 "${start[@]}"
train early 1 gpt2 "${early[@]}" run.steps=12 validation.patience=1 model.init_from=begun
best=$(cat early/checkpoints/BEST) newest=$(cat early/checkpoints/LATEST)
check "it stopped early, behind its best" [ "$best" != "$newest" ]
printf garbage > "early/checkpoints/$best/MANIFEST.pb"
train early 1 gpt2 "${early[@]}" run.steps=12 validation.patience=5 model.init_from=stranger
check "it goes on, and says that another model is named now" \
  eval 'grep -q "resumed at step $((10#${newest#step-}))" early.out && grep -q "model.init_from" early.out'
finish
