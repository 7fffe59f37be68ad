#!/bin/bash
# finetune.train and optimizer.lr_scale in whole runs: every layout has the one-rank run's bits, what is frozen keeps its own, a run
# resumes elsewhere, a checkpoint holds weights alone of what is frozen, and what a resume may not change is refused.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
. "$here/layouts.sh"

# part CONFIG DTYPE TRAIN LR_SCALE LAYOUT...   the one-rank run, then each layout "ranks tensor zero micro threads"
part() {
  local config=$1 dtype=$2 layout
  extra=("finetune.train=$3" "optimizer.lr_scale=$4")
  shift 4
  one_rank "$config" "$dtype"
  for layout in "$@"; do
    # shellcheck disable=SC2086
    same_bits "$config" "$dtype" $layout
  done
  rm -rf "${work:?}/$config-$dtype"
}
mixed='{"*": 0.5, "layers.1.*": 2, "final_norm.*": 0}'
part gpt2 fp32 head '{}' "2 2 1 12 1" "3 1 1 3 1"
part gpt2 "$half" '["layers.1.mlp.*", "*.bias"]' "$mixed" "2 1 1 5 1" "4 2 0 5 2"
part llama "$half" head '{"*": 0.5, "head.*": 2, "final_norm.*": 0}' "2 2 0 4 2" "4 2 1 5 1"
part llama fp32 '[top:1, "layers.0.norm1.*"]' '{}' "2 1 0 7 1" "4 4 0 24 1" "4 2 1 5 1"
part gpt2 fp32 all "$mixed" "2 2 1 12 1" "3 1 1 3 1"
extra=()

# Weights to begin with, and a run that trains a part of them.
train base 1 llama run.steps=2 || finish
common="run.steps=8 checkpoint.keep=9 model.init_from=$work/base"
train whole 2 llama $common parallel.tensor=2 'finetune.train=[layers.1.mlp.*, head.*]' || finish
"$bin/gptdist-ckpt" diff "$work/base" "$work/whole" > "$work/diff.out" 2>&1
changed=$(grep -oE '^[a-z0-9_.]+ weights: [0-9]' "$work/diff.out" | cut -d' ' -f1 | sort | tr '\n' ' ')
check "the weights of what is trained change, and no others" \
  [ "$changed" = "head.weight layers.1.mlp.down.weight layers.1.mlp.gate.weight layers.1.mlp.up.weight " ]
check "diff: what is frozen has no moments" grep -qF "layers.0.norm1.weight first: only in the first" "$work/diff.out"
check "diff: what is trained has them" eval '! grep -q "layers.1.mlp.up.weight first: only" "$work/diff.out"'

# The same checkpoint as every tool sees it.
"$bin/gptdist-ckpt" inspect "$work/whole" > "$work/inspect.out"
check "inspect counts the frozen tensors" grep -qE "^frozen +17 of them: weights alone" "$work/inspect.out"
check "inspect marks them" grep -qE "^  layers.0.norm1.weight +\[64\] frozen" "$work/inspect.out"
check "inspect marks no others" [ "$(grep -c ' frozen$' "$work/inspect.out")" = 17 ]
check "verify finds it whole" eval '"$bin/gptdist-ckpt" verify "$work/whole/checkpoints/step-00000008" > /dev/null'
check "a run that trains all writes format 1, one with frozen tensors format 2" \
  [ "$(head -c 2 "$work"/base/checkpoints/step-00000002/MANIFEST.pb | od -An -tx1)$(head -c 2 "$work"/whole/checkpoints/step-00000008/MANIFEST.pb | od -An -tx1)" = " 08 01 08 02" ]

# Stopped in the middle and resumed elsewhere.
from="--resume=$work/whole/checkpoints/step-00000004"
resumes() { # NAME RANKS settings...
  local name=$1 ranks=$2
  shift 2
  train "$name" "$ranks" llama $common "$from" 'finetune.train=[layers.1.mlp.*, head.*]' "$@" &&
    check "resumed on $ranks ranks, $*: the same state" same_state whole "$name"
  rm -rf "${work:?}/$name"
}
resumes one 1 parallel.zero=0 batch.micro=7
resumes three 3 parallel.zero=1
resumes four 4 parallel.tensor=2 batch.micro=5

# A checkpoint with frozen tensors is a model like others.
train onward 1 llama run.steps=1 schedule.warmup_steps=0 "model.init_from=$work/whole" && check "init_from takes its weights" true
attempt all 1 llama $common "$from" > "$work/log" 2>&1
check "another finetune.train is refused" [ $? -eq 64 ]
check "... and a tensor that was frozen" \
  grep -qF "(final_norm.weight is frozen there and learns here); choose another run.directory" "$work/all.out"
check "... naming both" grep -qF 'finetune.train: found all, expected ["layers.1.mlp.*", "head.*"] as in' "$work/all.out"
check "... and what to do" grep -qF "choose another run.directory (model.init_from takes the weights alone)" "$work/all.out"
attempt fewer 1 llama $common "$from" 'finetune.train=[layers.1.mlp.*]' > "$work/log" 2>&1
check "a part of it is refused" [ $? -eq 64 ]
check "... naming what learned" grep -qF "(head.weight learns there and is frozen here)" "$work/fewer.out"
# The same tensors in other words.
words='finetune.train=[head.weight, "layers.1.mlp.[a-z]*.weight"]'
train words 3 llama $common "$from" "$words" &&
  check "the same tensors in other words: the same state" same_state whole words
check "... and it is told" grep -qF 'resume: finetune.train was ["layers.1.mlp.*", "head.*"], is now ["head.weight", "layers.1.mlp.[a-z]*.weight"]: the same tensors learn' "$work/words.out"
attempt scaled 1 llama $common "$from" 'finetune.train=[layers.1.mlp.*, head.*]' 'optimizer.lr_scale={"head.*": 5}' > "$work/log" 2>&1
check "another lr_scale goes on" [ $? -eq 0 ]
check "... and is told" grep -qF 'resume: optimizer.lr_scale was {}, is now {"head.*": 5}' "$work/scaled.out"

# What README and help offer holds for the default model.
example=$(sed -n '/^finetune: *{train: /p; /^optimizer: *{lr_scale: /p' "$source/README.md")
check "README has an example" [ "$(wc -l <<< "$example")" = 2 ]
printf '%s\nmodel: {vocabulary: 300}\n' "$example" > "$work/example.yaml"
check "README's example is taken" "$bin/gptdist-train" --dry-run --config "$work/example.yaml"
echo 'model: {vocabulary: 300}' > "$work/default.yaml"
offered=$("$bin/gptdist-train" --help-config | grep -oE '\{"[^}]*\}'
  "$bin/gptdist-train" --dry-run --config "$work/default.yaml" --set optimizer.lr_scale=5 2>&1 | grep -oE '\{"[^}]*\}')
check "help and hint have an example each" [ "$(wc -l <<< "$offered")" = 2 ]
while read -r factors; do
  check "$factors is taken" "$bin/gptdist-train" --dry-run --config "$work/default.yaml" --set "optimizer.lr_scale=$factors"
done <<< "$offered"

# Factors are factors of the learning rate, and of nothing else.
train doubled 1 gpt2 optimizer.lr=0.02 optimizer.min_lr=0.002
train factor 1 gpt2 'optimizer.lr_scale={"*": 2}'
check "a factor of 2 for all is twice the rate" same_state doubled factor
train still 1 gpt2 'optimizer.lr_scale={"layers.0.*": 0}' run.steps=1 schedule.warmup_steps=0
train begun 1 gpt2 'optimizer.lr_scale={"*": 0}' run.steps=1 schedule.warmup_steps=0
"$bin/gptdist-ckpt" diff "$work/still" "$work/begun" > "$work/diff.out" 2>&1
check "a factor of 0 keeps the weights" eval '! grep -q "^layers.0.*weights: " "$work/diff.out" && grep -q "^layers.1.*weights: " "$work/diff.out"'
check "... and they have moments all the same" eval '! grep -q "only in" "$work/diff.out"'

# In bfloat16, where what is trained has masters and what is frozen is what is stored.
if [ $half = bf16 ]; then
  settings="run.steps=8 checkpoint.keep=9 precision.dtype=bf16 finetune.train=top:1"
  # shellcheck disable=SC2086
  {
    train half-whole 2 llama $settings parallel.tensor=2
    train half-again 3 llama $settings parallel.zero=1 "--resume=$work/half-whole/checkpoints/step-00000004" &&
      check "bf16: resumed on 3 ranks: the same state" same_state half-whole half-again
  }
fi

# In a plan.
"$bin/gptdist-train" --dry-run --ranks 4 --config "$work/llama.yaml" --set finetune.train=head > "$work/plan.out" 2>&1
check "a plan says how much is trained" grep -qE "^trained +16512 of them; no layer goes backward" "$work/plan.out"
check "... it has no backward rows" eval '! grep -qE "^ +[0-9]+ +[0-9]+ +backward" "$work/plan.out"'
check "... it sums and gathers what is trained" \
  [ "$(grep -oE "(reduce|gather) .*(head|norm)" "$work/plan.out" | tr -s ' ' | tr '\n' ';')" = "reduce - - - head - final_norm;gather - - - final_norm - head;" ]
finish
