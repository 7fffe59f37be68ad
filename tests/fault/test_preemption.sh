#!/usr/bin/env bash
# A batch system that preempts, requeues or cancels sends TERM to the ranks and to gptdist-run, which passes USR1 on to the ranks: one
# request, whatever the order and however often. The step is finished and saved though the save takes seconds, the job leaves with 75,
# and the same line goes on to the bits of the run that nobody stopped.
. "$(dirname "${BASH_SOURCE[0]}")/../numerics/lib.sh"
command -v cc > /dev/null || { echo "skipped: no C compiler"; exit 77; }
slow=$work/slow_disk.so
cc -D_GNU_SOURCE -shared -fPIC -O1 -o "$slow" "$source/tests/fault/slow_disk.c" -ldl || { echo "slow_disk.c does not compile"; exit 1; }
settings="run.steps=600 parallel.tensor=2 validation.interval_steps=0 checkpoint.interval_steps=0 log.interval_steps=1000"

ranks_of() { pgrep -f "gptdist-train --config .*run.directory=$work/$1( |\$)" | while read -r pid; do
  [ "$(cat "/proc/$pid/comm" 2> /dev/null)" = gptdist-train ] && echo "$pid"; done; }
to() { # to SIGNAL ranks|launcher
  local pid
  if [ "$2" = launcher ]; then kill -"$1" "$launcher"; else
    for pid in $(ranks_of "$name"); do kill -"$1" "$pid"; done
  fi
}

# preempted NAME SCRIPT: a run on a slow disk gets the signals of SCRIPT once it trains
preempted() {
  name=$1
  local set=() setting
  for setting in $settings; do set+=(--set "$setting"); done
  LD_PRELOAD=$slow SLOW_DISK=/checkpoints/ SLOW_DISK_MS=100 "$bin/gptdist-run" -n 2 -- "$bin/gptdist-train" \
    --config "$work/gpt2.yaml" --set "run.directory=$work/$name" "${set[@]}" > "$work/$name.out" 2>&1 < /dev/null &
  launcher=$!
  for ((i = 0; i < 600; i++)); do grep -q '"train"' "$work/$name/metrics.jsonl" 2> /dev/null && break; sleep 0.1; done
  [ "$(ranks_of "$name" | wc -l)" -eq 2 ] || { echo "no two ranks"; return 1; }
  eval "$2"
  wait $launcher
  local code=$?
  [ $code -eq 75 ] && return
  echo "left with $code, expected 75"
  tail -5 "$work/$name.out"
  return 1
}
saved() { # everything that was done is in a checkpoint, and nothing is left half done
  local step
  step=$(sed -n 's/^stopped at step \([0-9]*\) of .* (signal), checkpointed.*/\1/p' "$work/$1.out")
  [ -n "$step" ] && [ -e "$work/$1/checkpoints/$(printf 'step-%08d' "$step")/MANIFEST.pb" ] && ! compgen -G "$work/$1/checkpoints/*.tmp-*" > /dev/null &&
    grep -q '"code": 75' "$work/$1/exit.json" && return
  ls "$work/$1/checkpoints"
  return 1
}

# shellcheck disable=SC2086
train whole 2 gpt2 $settings || finish
bad=0
while read -r name script; do
  before=$failed
  check "$name: $script: left with 75" preempted "$name" "$script"
  check "$name: the last finished step is saved" saved "$name"
  # shellcheck disable=SC2086
  train "$name" 2 gpt2 $settings && check "$name: goes on to the state of the run that was not stopped" same_state whole "$name"
  [ $failed -eq $before ] || bad=$((bad + 1))
done << 'SCRIPTS'
requeue to TERM ranks; to TERM launcher
launcher-first to TERM launcher; to TERM ranks
time-limit to USR1 launcher; sleep 1; to TERM ranks; to TERM launcher
insistent to TERM ranks; sleep 1; to TERM ranks; to TERM launcher; sleep 1; to TERM launcher
SCRIPTS

# gptdist-run itself is killed (out of memory): the job does not go with it before it has saved.
orphaned() {
  preempted orphan 'kill -9 $launcher' > /dev/null # 137: gptdist-run has no say in it
  for ((i = 0; i < 300; i++)); do [ -n "$(ranks_of orphan)" ] || return 0; sleep 0.1; done
  ranks_of orphan
  return 1
}
before=$failed
check "gptdist-run is killed: the ranks leave" orphaned
check "the last finished step is saved" saved orphan
[ $failed -eq $before ] || bad=$((bad + 1))
evidence preemption 5 $bad
finish
