#!/bin/bash
# A real disk that is full: a failed save is no reason to stop, the older checkpoint stays, nothing of the failed one keeps its space;
# where the space returns the next save works and the run ends in the state of one that nothing disturbed; three failed saves in a
# row end it. One that cannot hold the last checkpoint does not say "done".
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../numerics/lib.sh"
if [ "$(id -u)" != 0 ] || ! unshare -m true 2> /dev/null; then
  finished=yes
  echo 'skipped: no right to mount a small disk'
  exit 77
fi
if [ "${GPTDIST_SMALL_DISK:-}" != mounted ]; then # all that follows with mounts of its own
  finished=yes
  GPTDIST_SMALL_DISK=mounted TMPDIR=$work unshare -m bash "$0" "$@"
  exit
fi
faults=$work/faults.so
cc -shared -fPIC -O1 -I"$source" -o "$faults" "$source/tests/fault/faults.c" -ldl || { echo "faults.c does not compile"; exit 1; }
settings="run.steps=12 checkpoint.interval_steps=2 checkpoint.keep=1 validation.interval_steps=0 batch.global=8 precision.dtype=fp32"

# shellcheck disable=SC2086
train whole 1 gpt2 $settings || finish
one=$(du -sk "$work"/whole/checkpoints/step-00000012 | cut -f1)
roomy=$((4 * one + 400)) tight=$((17 * one / 10 + 100)) # KiB: for three checkpoints, for one
mkdir "$work/disk"
disk() { mount -t tmpfs -o "size=${1}k" tmpfs "$work/disk"; }
resize() { mount -o "remount,size=${1}k" "$work/disk"; }
told() { [ "$(grep -cE "$1" "$work/out")" -eq "$2" ] || { tail -5 "$work/out"; false; }; }
whole_at() { "$bin/gptdist-ckpt" verify "$work/disk/run" | grep -q "step-0*$1: whole"; }
no_parts() { ! ls "$work/disk/run/checkpoints" | grep tmp; }
again() { "$bin/gptdist-train" "${line[@]}" > "$work/out" 2>&1 < /dev/null; }
line=(--config "$work/gpt2.yaml" --set "run.directory=$work/disk/run")
for setting in $settings; do line+=(--set "$setting"); done

if ! disk "$tight" 2> /dev/null; then
  finished=yes
  echo 'skipped: no right to mount a small disk'
  exit 77
fi

# The process stops where it removes what it could write of step 4; then there is room.
(
  export LD_PRELOAD=$faults ASAN_OPTIONS=verify_asan_link_order=0:${ASAN_OPTIONS:-}
  export GD_FAULT_PATH=step-00000004.tmp GD_FAULT_CALLS=unlink GD_FAULT_NTH=1 GD_FAULT_STOP=1
  exec "$bin/gptdist-train" "${line[@]}"
) > "$work/out" 2>&1 < /dev/null &
main=$!
for ((i = 0; i < 1200; i++)); do
  case $(sed 's/.*) //' "/proc/$main/stat" 2> /dev/null) in T* | "" | Z*) break ;; esac
  sleep 0.05
done
resize "$roomy"
kill -CONT $main
wait $main
check "space returns: the run ends well" [ $? -eq 0 ]
check "the failed save is told, once, with its reason" told 'rank-00000.h5.*No space left on device' 1
check "and that training goes on" told 'training goes on .1 of 3 failed saves' 1
check "the next save worked" told 'step 6  checkpoint saved' 1
check "the same state" eval '[ "$("$bin/gptdist-ckpt" hash "$work/disk/run" | grep -oE "[0-9a-f]{64}")" = "$(state whole)" ]'
check "nothing of the failed save stays" no_parts
umount "$work/disk"

disk "$tight"
again
check "three failed saves in a row: 74" [ $? -eq 74 ]
check "each with its reason" told 'rank-00000.h5.*No space left on device' 3
check "the third says that it is the end" told '3 saves in a row failed: the run ends here' 1
check "the checkpoint of step 2 is whole" whole_at 2
check "nothing of the failed ones stays" no_parts
: > "$work/disk/ballast"
dd if=/dev/zero of="$work/disk/ballast" bs=4k 2> /dev/null # to the last block
again
check "another start on the full disk fails, too" [ $? -eq 74 ]
check "but not before its saves do" told '3 saves in a row failed: the run ends here' 1
rm "$work/disk/ballast"
resize "$roomy"
again
check "with room the same line ends well" [ $? -eq 0 ]
check "in the same state" eval '[ "$("$bin/gptdist-ckpt" hash "$work/disk/run" | grep -oE "[0-9a-f]{64}")" = "$(state whole)" ]'
umount "$work/disk"

disk "$tight"
line+=(--set run.steps=4)
again
check "no room for the last checkpoint: 74" [ $? -eq 74 ]
check "and it says so" told 'it was the last one of this run' 1
check "the one before is whole" whole_at 2
umount "$work/disk"
finish
