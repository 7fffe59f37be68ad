#!/bin/bash
# A checkpoint holds the numbers of its own step, however long its writing takes: saves after every step, on a thread, with slowed
# writes (tests/fault/slow_disk.c), against saves that training waits for. Hash by hash, one rank and tensor 2 x data 2.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
slow=$work/slow_disk.so
cc -D_GNU_SOURCE -shared -fPIC -O1 -o "$slow" "$source/tests/fault/slow_disk.c" -ldl || { echo "slow_disk.c does not compile"; exit 1; }

same_checkpoints() { # NAME NAME
  local step a b
  for step in 1 2 3 4; do
    a=$("$bin/gptdist-ckpt" hash "$work/$1/checkpoints/step-0000000$step" | grep -oE '[0-9a-f]{64}')
    b=$("$bin/gptdist-ckpt" hash "$work/$2/checkpoints/step-0000000$step" | grep -oE '[0-9a-f]{64}')
    [ -n "$a" ] && [ "$a" = "$b" ] || { echo "step $step: $a is not $b"; return 1; }
  done
}
every="checkpoint.interval_steps=1 checkpoint.keep=9 validation.interval_steps=0"
for layout in "fp32 1 1" "$half 4 2"; do
  read -r dtype ranks tensor <<< "$layout"
  # shellcheck disable=SC2086
  {
    train waited-$ranks 1 gpt2 $every precision.dtype=$dtype checkpoint.background=false || finish
    export SLOW_DISK=/rank-0 SLOW_DISK_MS=25 SLOW_DISK_LOG=$work/slowed-$ranks
    if LD_PRELOAD=$slow train slow-$ranks "$ranks" gpt2 $every precision.dtype=$dtype parallel.tensor="$tensor"; then
      check "$dtype, $ranks ranks, saves of every step under slow writes: the steps' own numbers" same_checkpoints waited-$ranks slow-$ranks
      check "$dtype, $ranks ranks: the writes were slowed" [ "$(stat -c %s "$SLOW_DISK_LOG" 2> /dev/null || echo 0)" -ge 12 ]
    else
      check "$dtype, $ranks ranks, saves of every step under slow writes" false
    fi
    unset SLOW_DISK SLOW_DISK_MS SLOW_DISK_LOG
  }
done
finish
