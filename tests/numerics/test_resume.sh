#!/bin/bash
# A resumed run goes on bit for bit: on the same layout (fast and invariant), and in invariant mode on any other layout. The
# interrupted half is a checkpoint of the uninterrupted run; the resumed run starts from it in a folder of its own.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"

# after STEP: the curve's lines behind that step
after() {
  curve "$1" | awk -v from="$2" 'match($0, /"step": ?[0-9]+/) { split(substr($0, RSTART, RLENGTH), a, /: ?/); if (a[2] + 0 > from) print }'
}
same_rest() { # WHOLE RESUMED STEP
  local a b
  a=$(after "$1" "$3") b=$(after "$2" "$3")
  [ -n "$a" ] && [ "$a" = "$b" ] && return 0
  diff <(echo "$a") <(echo "$b") | head -4
  return 1
}
resumes() { # TEXT WHOLE NAME RANKS CONFIG settings...
  local text=$1 whole=$2 name=$3
  shift 3
  local checkpoint=$work/$whole/checkpoints/step-00000004
  [ -d "$checkpoint" ] || { check "$text: $checkpoint is there" false; return; }
  if train "$name" "$@" "--resume=$checkpoint"; then
    check "$text" same_rest "$whole" "$name" 4
    check "$text, state" same_state "$whole" "$name"
  else
    check "$text" false
  fi
}
common="run.steps=8 checkpoint.keep=9"
for config in gpt2 llama; do
  dtype=$([ $config = gpt2 ] && echo $half || echo fp32)
  settings="$common precision.dtype=$dtype"
  # shellcheck disable=SC2086
  {
    train "$config-whole" 2 $config $settings parallel.tensor=2 || finish
    resumes "$config $dtype: tensor 2, resumed on tensor 2" "$config-whole" "$config-same" 2 $config $settings parallel.tensor=2
    resumes "$config $dtype: tensor 2, resumed on one rank" "$config-whole" "$config-one" 1 $config $settings parallel.zero=0
    resumes "$config $dtype: tensor 2, resumed on data 3, ZeRO 1" "$config-whole" "$config-three" 3 $config $settings parallel.zero=1
    resumes "$config $dtype: tensor 2, resumed on tensor 2 x data 2, micro-batch 5" "$config-whole" "$config-four" 4 $config \
      $settings parallel.tensor=2 batch.micro=5
  }
done
# shellcheck disable=SC2086
{
  train fast-whole 2 gpt2 $common numerics=fast parallel.zero=1 || finish
  resumes "fast: data 2, ZeRO 1, resumed on the same layout" fast-whole fast-same 2 gpt2 $common numerics=fast parallel.zero=1
}
# The best validation so far is carried over: that of step 4, which the checkpoint of step 6 knows; what a far too high
# rate makes of step 8 is no new best.
# shellcheck disable=SC2086
{
  settings="$common validation.interval_steps=4 precision.dtype=fp32 schedule.kind=constant schedule.warmup_steps=0"
  high="optimizer.lr=30 optimizer.min_lr=30"
  train best-whole 1 gpt2 $settings || finish
  if train best-resumed 1 gpt2 $settings $high "--resume=$work/best-whole/checkpoints/step-00000006"; then
    check "a resumed run knows the best validation before it" eval '! grep -qs 00000008 "$work/best-resumed/checkpoints/BEST"'
    check "the later one is worse, or nothing was seen" awk 'NR == 1 { a = $1 } END { exit !($1 > a + 0.5) }' \
      <(for name in best-whole best-resumed; do curve $name | grep '"validation"' | sed -E 's/.*"loss": ?([-+.e0-9]+).*/\1/' | tail -n 1; done)
  else
    check "a run resumed with another rate" false
  fi
}
# The last step is validated after its save, which may be on the disk by then.
for background in true false; do
  train best-$background 1 gpt2 run.steps=8 checkpoint.interval_steps=4 validation.interval_steps=3 precision.dtype=fp32 checkpoint.background=$background
  check "saved in the background $background: the last step is marked as the best" grep -qs 00000008 "$work/best-$background/checkpoints/BEST"
done
# A run that only measures saves nothing when its steps are done, but does when it is stopped before.
measures="checkpoint.at_end=false checkpoint.interval_steps=0 validation.interval_steps=0 precision.dtype=fp32"
# shellcheck disable=SC2086
{
  train measured 1 gpt2 $measures
  check "checkpoint.at_end: false saves nothing at the end" [ "$(ls "$work/measured/checkpoints")" = "" ]
  attempt stopped 1 gpt2 $measures run.steps=1000000 >/dev/null &
  until grep -qs '"step": 3,' "$work/stopped/metrics.jsonl" || ! kill -0 $!; do sleep 0.05; done
  kill -TERM "$(sed -nE 's/.*"pid": ([0-9]+).*/\1/p' "$work/stopped/exit.json")"
  wait $!
  check "stopped by a signal it leaves with 75" [ $? = 75 ]
  check "and saves" [ -n "$(state stopped)" ]
}
finish
