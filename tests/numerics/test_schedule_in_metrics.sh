#!/bin/bash
# The learning rate in metrics.jsonl is the schedule's at each step, by arithmetic of its own, for every kind; and
# it is the rate that the optimizer used.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"

# rates_are NAME AWK_EXPRESSION   of step s, counted from 0; equal to seven digits (float32)
rates_are() {
  curve "$1" | grep '"train"' | sed -E 's/.*"step": ?([0-9]+).*"lr": ?([-+.e0-9]+).*/\1 \2/' |
    awk "{ s = \$1 - 1; want = $2; if ((\$2 - want) ^ 2 > (1.2e-7 * want) ^ 2) { printf \"step %d: %.9g, not %.9g\\n\", s, \$2, want; bad = 1 } }
         END { exit bad || NR != 12 }"
}
small="run.steps=12 schedule.warmup_steps=3 batch.global=4 optimizer.lr=0.01 optimizer.min_lr=0.002 validation.interval_steps=0 checkpoint.interval_steps=0"
warm='s < 3 ? 0.01 * (s + 1) / 4 :'
# shellcheck disable=SC2086
{
  train cosine 1 gpt2 $small schedule.kind=cosine || finish
  check "cosine" rates_are cosine "$warm 0.002 + 0.008 * cos(atan2(1, 1) * 2 * (s - 3) / 9) ^ 2"
  train linear 1 gpt2 $small schedule.kind=linear schedule.decay_steps=6 || finish
  check "linear over 6 steps" rates_are linear "$warm s < 9 ? 0.01 - 0.008 * (s - 3) / 6 : 0.002"
  train constant 1 gpt2 $small schedule.kind=constant || finish
  check "constant" rates_are constant "$warm 0.01"
  train wsd 1 gpt2 $small schedule.kind=wsd schedule.decay_steps=4 || finish
  check "warm-up, stable, decay" rates_are wsd "$warm s < 8 ? 0.01 : 0.01 - 0.008 * (s - 8) / 4"
  # The first of one warm-up step is half the rate: the same weights as from half the rate at once, and not as from the whole.
  one="$small run.steps=1 schedule.kind=constant"
  train half 1 gpt2 $one schedule.warmup_steps=0 optimizer.lr=0.005 || finish
  train whole 1 gpt2 $one schedule.warmup_steps=0 optimizer.lr=0.01 || finish
  train warming 1 gpt2 $one schedule.warmup_steps=1 optimizer.lr=0.01 || finish
  check "the optimizer uses the rate that is printed" same_state half warming
  check "another rate gives other weights" eval '! same_state whole warming > /dev/null'
}
finish
