#!/usr/bin/env bash
# What a resumed run remembers besides weights and moments: the best validation so far, and how many steps in a row were not finite.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# field CHECKPOINT NAME   a number of the manifest's state
field() {
  "$bin/gptdist-ckpt" inspect "$1" --json | grep -oE "\"$2\": ?-?[0-9.e+-]+" | grep -oE '[-0-9.e+]+$'
}

# Step 3 has no validation of its own, so what step 2 found is known from the checkpoint alone. The steps after it spoil the model: no
# later validation is better.
settings="schedule.kind=constant schedule.warmup_steps=0 checkpoint.keep=20"
# shellcheck disable=SC2086
train whole 1 gpt2 run.steps=4 checkpoint.interval_steps=3 $settings || finish
from=$work/whole/checkpoints/step-00000003
check "step 3 knows that step 2 was the best" [ "$(field "$from" best_step)" = 2 ]
# shellcheck disable=SC2086
train spoilt 1 gpt2 run.steps=6 $settings optimizer.lr=5 "--resume=$from" || finish
check "a resumed run still knows the best" [ "$(field "$work/spoilt" best_step)" = 2 ]

# A model that is no longer finite: three bad steps in a row end the run, and two of them were before the resume.
bad="optimizer.lr=1000 optimizer.min_lr=1000 optimizer.weight_decay=100 optimizer.clip=0 schedule.warmup_steps=0"
# shellcheck disable=SC2086
train diverging 1 gpt2 run.steps=40 $bad guard.max_bad_steps=1000 checkpoint.interval_steps=1 checkpoint.keep=50 \
  validation.interval_steps=0 || finish
two=
for checkpoint in "$work"/diverging/checkpoints/step-*; do
  [ "$(field "$checkpoint" bad_steps)" = 2 ] && two=$checkpoint
done
check "a checkpoint is from after two bad steps in a row" [ -n "$two" ]
[ -n "$two" ] || finish
# shellcheck disable=SC2086
attempt third 1 gpt2 run.steps=50 $bad guard.max_bad_steps=3 validation.interval_steps=0 "--resume=$two" > "$work/third.log" 2>&1
check "the third bad step in a row ends the resumed run with 77" [ $? -eq 77 ]
# The checkpoint's step is the second bad one, so the last finite step is the one before the first.
check "... counted from before the resume" grep -qF "3 steps in a row (last finite before step $(($(field "$two" step) - 1)))" "$work/third.out"
finish
