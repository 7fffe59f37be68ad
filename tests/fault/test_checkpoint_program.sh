#!/usr/bin/env bash
# Damaged checkpoints, a full disk, a held lock and another model, as one who starts gptdist-train meets them: the code it leaves
# with, the fault named once in the whole job, and nothing older lost.
set -u
bin=$(cd "$1/bin" && pwd) || exit 1
source=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
cd "$folder" || exit 1
export OMP_NUM_THREADS=1
failed=0

for i in $(seq 300); do echo "Line $i of a small text that says the same thing again and again, $((i % 7)) times."; done >text.txt
"$bin/gptdist-data" prepare --tokenizer bytes --output data text.txt >out 2>&1 || { cat out; exit 1; }
cat >run.yaml <<END
run: {directory: run, steps: 6, device: cpu}
data: {path: data}
model: {layers: 1, heads: 2, width: 64, context: 16}
batch: {global: 4}
numerics: invariant
schedule: {kind: constant, warmup_steps: 0}
checkpoint: {interval_steps: 2, keep: 3}
END

complain() {
  echo "FAILED: $1"
  cat out
  failed=1
}

# train CODE TEXT [ARGUMENT...]: two ranks; TEXT ("" = none) must be said exactly once
train() {
  local expected=$1 text=$2 code
  shift 2
  timeout 100 mpirun --allow-run-as-root --oversubscribe --bind-to none --quiet -np 2 "$bin/gptdist-train" --config run.yaml "$@" \
    >out 2>&1 </dev/null
  code=$?
  [ "$code" = "$expected" ] || complain "$* left with $code, expected $expected"
  if [ -n "$text" ] && [ "$(grep -cF -- "$text" out)" != 1 ]; then complain "$*: expected once: $text"; fi
}

flip() { # FILE: one bit in its middle
  python3 - "$1" <<'END' 2>/dev/null || perl -e 'open F,"+<",$ARGV[0];$s=-s F;seek F,$s/2,0;read F,$b,1;seek F,$s/2,0;print F chr(ord($b)^1)' "$1"
import sys
f = open(sys.argv[1], "r+b")
f.seek(0, 2)
middle = f.tell() // 2
f.seek(middle)
byte = f.read(1)
f.seek(middle)
f.write(bytes([byte[0] ^ 1]))
END
}

steps_of() { grep -o '"event": "train", "step": [0-9]*' "$1/metrics.jsonl" | grep -o '[0-9]*$' | tr '\n' ' '; }

train 0 '' --set run.steps=8 --set run.directory=whole
train 0 ''
cp -r run first

# The newest is damaged: the one before it is taken, and the run ends as if nothing had been.
flip run/checkpoints/step-00000006/rank-00001.h5
train 0 'set aside as step-00000006.bad' --set run.steps=8
grep -qF 'rank-00001.h5: is damaged' out || complain 'the damaged file is not named'
[ -d run/checkpoints/step-00000006.bad ] || complain 'the damaged checkpoint was not set aside'
[ "$(steps_of run)" = '1 2 3 4 5 6 7 8 ' ] || complain "metrics.jsonl holds the steps $(steps_of run)"
[ "$("$bin/gptdist-ckpt" hash run)" = "$("$bin/gptdist-ckpt" hash whole)" ] || complain 'the resumed run ended elsewhere'

# A cut-off manifest.
rm -rf run && cp -r first run
truncate -s -7 run/checkpoints/step-00000006/MANIFEST.pb
train 0 'set aside as step-00000006.bad' --set run.steps=8
[ "$("$bin/gptdist-ckpt" hash run)" = "$("$bin/gptdist-ckpt" hash whole)" ] || complain 'the resumed run ended elsewhere'

# All are damaged: no silent start from the beginning, now or on the next try.
rm -rf run && cp -r first run
for step in 2 4 6; do rm run/checkpoints/step-0000000$step/rank-00000.h5; done
train 65 'no checkpoint in run/checkpoints is whole'
train 65 'holds only damaged checkpoints'

# Another model in the same directory.
rm -rf run && cp -r first run
train 64 'model.width' --set model.width=32 --set run.steps=8
"$bin/gptdist-ckpt" verify run >out 2>&1 || complain 'checkpoints suffered'

# A live lock, and a dead one.
"$bin/gptdist-train" --config run.yaml --set run.directory=held --set run.steps=1000000 >held.out 2>&1 &
holder=$!
for _ in $(seq 100); do [ -s held/lock ] && break; sleep 0.1; done
train 74 "held is in use by process $holder on " --set run.directory=held
kill -9 $holder
wait $holder 2>/dev/null
rm -rf held/checkpoints
train 0 '' --set run.directory=held

# A folder that cannot be made.
train 74 'cannot make the folder' --set run.directory=text.txt/run

# A disk with room for one checkpoint and a bit; removals on it take so long that a rank which does not wait for them has left.
if unshare -m true 2>/dev/null && [ "$(id -u)" = 0 ] && command -v cc >/dev/null; then
  cc -D_GNU_SOURCE -shared -fPIC -O1 -o slow_disk.so "$source/tests/fault/slow_disk.c" -ldl || failed=1
  size=$(($(du -sk first/checkpoints/step-00000002 | cut -f1) * 17 / 10 + 100))
  mkdir small
  export bin size
  export -f train complain
  unshare -m bash -c 'mount -t tmpfs -o size=${size}k tmpfs small && failed=0 && {
    LD_PRELOAD=$PWD/slow_disk.so SLOW_DISK=/step-00000004.tmp- SLOW_DISK_MS=200 \
      train 74 "it was the last one of this run" --set run.directory=small/run --set log.tensorboard=false
    grep -q "No space left on device" out || complain "the reason is missing"
    "$bin/gptdist-ckpt" verify small/run >out 2>&1 || complain "the older checkpoint suffered"
    grep -q "step-00000002: whole" out || complain "the older checkpoint is gone"
    grep -q "\.c:[0-9]" out && complain "a source line on the terminal"
    grep -q "\.c:[0-9]" small/run/log/rank-00000.log || complain "the log does not say where"
    ls small/run/checkpoints | grep tmp && complain "a part of the failed one stayed"
    exit $failed; }' || failed=1
else
  echo 'no right to mount a small disk, or no compiler: that part was skipped'
fi

[ $failed = 0 ] && echo 'all faults were met as promised'
exit $failed
