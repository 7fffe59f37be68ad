#!/bin/bash
# Random models, stopped at a random step on a random layout and resumed on another, end in the losses and the state of the one-rank
# run that was never stopped. PAIRS=N SEED=S: more of them, others (20 take some minutes); a failed one prints its settings.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
RANDOM=${SEED:-1}
pairs=${PAIRS:-3} bad=0

one_of() { # WORD...
  shift $((RANDOM % $#))
  echo "$1"
}

# layout: a random number of ranks and their cut, for a model of 4 blocks and a batch of 12
layout() {
  local ranks tensor
  ranks=$(one_of 1 2 3 4)
  tensor=1
  [ $((ranks % 2)) -eq 0 ] && tensor=$(one_of 1 2)
  [ "$ranks" -eq 4 ] && tensor=$(one_of 1 2 4)
  echo "$ranks parallel.tensor=$tensor parallel.zero=$(one_of 0 1) batch.micro=$(one_of 1 2 3) run.threads=$(one_of 1 2)"
}

linear="model.rope_kind=linear model.rope_factor=2.5"
llama3="model.rope_kind=llama3 model.rope_factor=8 model.rope_original=16"

# model: a random one of 4 canonical blocks
model() {
  local heads size
  heads=$(one_of 4 8)
  size=$(one_of 4 8 16)
  echo "model.layers=$(one_of 1 2 3) model.heads=$heads model.kv_heads=$(one_of 4 $heads) model.head_size=$size" \
    "model.width=$(one_of 32 48 64) model.ffn=$(one_of 64 96 176) model.context=32 model.dropout=$(one_of 0 0.1 0.3)" \
    "model.norm=$(one_of layernorm rmsnorm) model.activation=$(one_of gelu_tanh gelu swiglu) model.bias=$(one_of true false qkv attention mlp)" \
    "model.position=$(one_of learned rotary "rotary $linear" "rotary $llama3") model.tied_head=$(one_of true false) model.init_std=0.1" \
    "precision.dtype=$(one_of fp32 $half) optimizer.kind=$(one_of adamw adamw sgd) optimizer.clip=$(one_of 0 0.5)" \
    "batch.sequence=$(one_of 16 32) batch.global=12 parallel.blocks=4 run.seed=$RANDOM"
}

for ((pair = 1; pair <= pairs; pair++)); do
  steps=$((4 + RANDOM % 4))
  stop=$((1 + RANDOM % (steps - 1)))
  read -r -a settings <<< "$(model)"
  read -r -a first <<< "$(layout)"
  read -r -a second <<< "$(layout)"
  settings+=(schedule.decay_steps=$steps schedule.warmup_steps=1 checkpoint.interval_steps="$(one_of 0 2)" checkpoint.keep=1
    validation.interval_steps="$(one_of 0 2 3)")
  before=$failed
  if train "whole-$pair" 1 gpt2 "${settings[@]}" run.steps=$steps parallel.tensor=1 parallel.zero=0 &&
    train "pieces-$pair" "${first[0]}" gpt2 "${settings[@]}" "${first[@]:1}" run.steps=$stop &&
    train "pieces-$pair" "${second[0]}" gpt2 "${settings[@]}" "${second[@]:1}" run.steps=$steps; then
    check "pair $pair: step $stop of $steps, ${first[0]} ranks, then ${second[0]}: the same losses" same_curve "whole-$pair" "pieces-$pair"
    check "pair $pair: the same state" same_state "whole-$pair" "pieces-$pair"
  else
    check "pair $pair: its runs" false
  fi
  [ $failed -eq $before ] || { bad=$((bad + 1)); echo "        ${settings[*]} | ${first[*]} | ${second[*]}"; }
  [ -n "${KEEP:-}" ] || rm -rf "${work:?}/whole-$pair" "$work/pieces-$pair"
done
evidence resume_random "$pairs" $bad
finish
