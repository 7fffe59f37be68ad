#!/usr/bin/env bash
# Is it the same run? What a resumed run changes: weights and moments that would mean something else and numbers that would
# silently be others are refused by key, found and expected; what a person may change is told, old and new; the rest is silent.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
train base 1 gpt2 run.steps=2 schedule.warmup_steps=1 || finish
train base_bf16 1 gpt2 run.steps=2 schedule.warmup_steps=1 precision.dtype=$half || finish

# again CONFIG BASE WORD...   resumes from BASE in a folder of its own for one more step; the output is in $work/again.out
again() {
  local config=$1 base=$2
  shift 2
  rm -rf "$work/again"
  attempt again 1 "$config" run.steps=3 schedule.warmup_steps=1 "--resume=$work/$base" "$@" > "$work/again.log" 2>&1
}
refused() { # TEXT CODE KEY FOUND EXPECTED WORD...
  local text=$1 want=$2 key=$3 found=$4 expected=$5 code
  shift 5
  again gpt2 base "$@"
  code=$?
  check "$text is refused" [ "$code" -eq "$want" ]
  check "$text: key, found, expected" grep -qF -- "$key: found $found, expected $expected as in" "$work/again.out"
  check "$text: nothing is written over the resolved run file" [ ! -e "$work/again/config.yaml" ]
}
told() { # KEY OLD NEW
  grep -qF -- "resume: $1 was $2, is now $3" "$work/again.out" || { cat "$work/again.out"; return 1; }
}

# Never: shape, constants, the optimizer's kind.
refused "another depth" 64 model.layers 3 2 model.layers=3
refused "another width of the mlp" 64 model.ffn 64 128 model.ffn=64
refused "another norm epsilon" 64 model.norm_epsilon 1e-06 1e-05 model.norm_epsilon=1e-6
refused "another rotary base" 64 model.rope_theta 20000 10000 model.rope_theta=20000
refused "another optimizer" 64 optimizer.kind sgd adamw optimizer.kind=sgd
again gpt2 base optimizer.kind=sgd --allow-change=optimizer.kind
check "... and cannot be allowed" grep -qF -- "--allow-change optimizer.kind: a checkpoint has no meaning with another one" "$work/again.out"
again gpt2 base --allow-change=run.sede
check "a misspelt permission is refused with the nearest key" grep -qF -- '--allow-change run.sede: unknown key; did you mean "run.seed"?' "$work/again.out"

# Asked: other numbers or data.
[ $half = bf16 ] && refused "another dtype" 64 precision.dtype bf16 fp32 precision.dtype=bf16
refused "other numerics" 64 numerics fast invariant numerics=fast
refused "other canonical blocks" 64 parallel.blocks 2 4 parallel.blocks=2
refused "another seed" 64 run.seed 8 7 run.seed=8
refused "another sequence length" 64 batch.sequence 16 32 batch.sequence=16
refused "another order" 64 batch.order sequential shuffled batch.order=sequential
check "... and goes on where it is allowed by name" again gpt2 base run.seed=8 batch.sequence=16 --allow-change=batch.sequence,run.seed
check "... which is told" told run.seed 7 8
check "... or each by an option of its own" again gpt2 base run.seed=8 batch.sequence=16 --allow-change=batch.sequence --allow-change=run.seed

# Told: the data too, where the run goes on in another directory (in its own the digests are compared).
"$bin/gptdist-data" prepare --tokenizer bytes --output "$work/other" --validation-fraction 0.05 "$source/README.md" > /dev/null 2>&1
check "other data in another directory go on" again gpt2 base "data.path=$work/other"
check "... and are told" told data.path "$corpus" "$work/other"
check "what a person may change goes on" again gpt2 base optimizer.lr=0.02 optimizer.beta2=0.9 model.dropout=0.2 schedule.kind=linear \
  batch.global=12
check "the learning rate is told" told optimizer.lr 0.01 0.02
check "beta2 is told" told optimizer.beta2 0.95 0.9
check "dropout is told" told model.dropout 0.1 0.2
check "the schedule is told" told schedule.kind cosine linear
check "the batch is told" told batch.global 24 12
check "the length of the run is told" told run.steps 2 3

# Silent: where and how it runs.
check "layout and intervals go on" again gpt2 base parallel.zero=0 batch.micro=5 checkpoint.keep=7 data.prefetch=3
check "... without a word about them" [ "$(grep -c '^resume: \|resume: parallel\|resume: batch.micro\|resume: checkpoint' "$work/again.out")" -le 2 ]

# A run that is shorter than what is done already.
attempt again 1 gpt2 run.steps=1 schedule.warmup_steps=1 "--resume=$work/base" > "$work/again.log" 2>&1
check "fewer steps than the checkpoint has are refused" [ $? -eq 64 ]
check "... naming both" grep -qF "run.steps: found 1, but" "$work/again.out"

# bfloat16 where the kernels have no such products.
if [ $half = bf16 ]; then
  export GPTDIST_ISA=avx2
  again gpt2 base_bf16 precision.dtype=bf16
  check "bfloat16 without its instructions is refused in invariant" [ $? -eq 64 ]
  check "... naming key, rank and kernels" grep -qF "precision.dtype: found bf16, but rank 0 has no bfloat16 products (kernels cpu-avx2)" "$work/again.out"
  train fallback 2 gpt2 precision.dtype=bf16 numerics=fast
  check "in fast it becomes float32" [ $? -eq 0 ]
  check "... which is told" grep -qF "all ranks compute in float32" "$work/fallback.out"
  check "... stands in the resolved run file" grep -qE "dtype: fp32" "$work/fallback/config.yaml"
  check "... and the manifest names the kernels that ran" bash -c "'$bin/gptdist-ckpt' inspect '$work/fallback' | grep -qF '(cpu-avx2)'"
  unset GPTDIST_ISA
fi

# A start anew beside older checkpoints says so.
train base 1 gpt2 run.steps=2 schedule.warmup_steps=1 --resume=none
check "--resume none names what it sets aside" grep -qF -- "--resume none: starting anew; 1 checkpoint in" "$work/base.out"
check "... which is there whole, whatever the new run saves" eval '"$bin/gptdist-ckpt" verify "$work/base/checkpoints/step-00000002.old" > /dev/null'
check "... and the new run has its own" eval '"$bin/gptdist-ckpt" verify "$work/base/checkpoints/step-00000002" > /dev/null'
# One that a kill left under its other name is an older one too: no later start goes on from it.
mv "$work/base/checkpoints/step-00000002" "$work/base/checkpoints/step-00000002.replaced"
train base 1 gpt2 run.steps=2 schedule.warmup_steps=1 --resume=none
check "--resume none sets aside what a kill left as step-N.replaced" grep -qF -- "--resume none: starting anew; 1 checkpoint in" "$work/base.out"
check "... by another name" [ "$(cd "$work/base/checkpoints" && echo step-*)" = "step-00000002 step-00000002.old step-00000002.old.2" ]
finish
