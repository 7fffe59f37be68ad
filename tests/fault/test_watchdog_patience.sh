#!/usr/bin/env bash
# Who works is not stuck: a save on a slow disk and a forward pass on a slow processor, each longer than run.watchdog_s, go on to
# their end; a disk that does not answer at all is reported.
. "$(dirname "${BASH_SOURCE[0]}")/../numerics/lib.sh"
command -v cc > /dev/null || { echo "skipped: no C compiler"; exit 77; }
slow=$work/slow_disk.so
cc -D_GNU_SOURCE -shared -fPIC -O1 -o "$slow" "$source/tests/fault/slow_disk.c" -ldl || { echo "slow_disk.c does not compile"; exit 1; }

# on_disk MS NAME RANKS SETTING...   a run whose checkpoints lie on a disk with calls of MS milliseconds
on_disk() {
  local ms=$1
  shift
  LD_PRELOAD=$slow SLOW_DISK=/checkpoints/ SLOW_DISK_MS=$ms attempt "$1" "$2" gpt2 run.watchdog_s=2 checkpoint.interval_steps=4 "${@:3}"
}
slower_than() { # SECONDS NAME: the save of the run took longer
  local took
  took=$(($(stat -c %Y "$work/$2"/checkpoints/step-*/MANIFEST.pb | tail -1) - $(stat -c %Y "$work/$2/config.yaml")))
  [ "$took" -gt "$1" ] || { echo "the save took $took s"; return 1; }
}
reported() { # NAME TEXT: the run left with 76 and said so
  grep -qF -- "$2" "$work/$1.out" || { tail -5 "$work/$1.out"; return 1; }
}

one_rank() {
  train plain 1 gpt2 checkpoint.interval_steps=4
  check "one rank waits for its own slow save" on_disk 200 one 1
  check "... which took longer than the watchdog" slower_than 6 one
  check "... and holds what a save on a fast disk holds" same_state plain one
}
two_ranks() {
  train plain2 2 gpt2 checkpoint.interval_steps=4 parallel.tensor=2
  check "two ranks wait for their slow saves" on_disk 200 two 2 parallel.tensor=2
  check "... with the state of a fast disk" same_state plain2 two
}
foreground() {
  check "a slow save in the foreground" on_disk 200 front 1 checkpoint.background=false
}
# One call that takes three deadlines: a disk that stalls, by a rank that the other one waits for.
stalls() {
  LD_PRELOAD=$slow SLOW_DISK=MANIFEST SLOW_DISK_MS=6000 SLOW_DISK_LOG=$work/stalls attempt stall 2 gpt2 run.watchdog_s=2 \
    checkpoint.interval_steps=4 parallel.tensor=2
}
a_stall() {
  check "a disk that stalls for three deadlines is no hang" stalls
  check "... and it did stall" [ -s "$work/stalls" ]
}
dead_disk() {
  on_disk 60000 dead 2 parallel.tensor=2 > "$work/log" 2>&1
  check "a disk that does not answer ends the run with 76" [ $? -eq 76 ]
  check "... and the report names the ranks and what they do" reported dead ", phase "
}
# One thread of the plainest instructions, 6 layers: a forward pass takes seconds, each kernel a small part of that.
cat > "$work/deep.yaml" << YAML
include: gpt2.yaml
model: {layers: 6, heads: 8, width: 128, context: 256}
batch: {global: 4, micro: 4}
YAML
long_forward() {
  GPTDIST_ISA=generic attempt deep 1 deep run.watchdog_s=2 run.steps=1 schedule.warmup_steps=0 validation.interval_steps=0
  check "a forward pass longer than the watchdog" [ $? -eq 0 ]
}
together one_rank two_ranks foreground a_stall dead_disk long_forward
finish
