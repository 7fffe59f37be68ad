#!/bin/bash
# Two test devices run each stream at an extreme of what its order allows (comm/device_lazy.c): lazy as late as possible, everything
# that is not there yet poisoned; eager runs compute late and communication at once. A training on them, and one resumed on them, must
# give the bits of the CPU device, or a wait is missing somewhere.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"

train cpu 1 gpt2 || finish
same_as_cpu() { # TEXT NAME RANKS settings...
  local text=$1 name=$2
  shift 2
  local ranks=$1
  shift
  if train "$name" "$ranks" gpt2 "$@"; then
    check "$text: the CPU device's losses" same_curve cpu "$name"
    check "$text: the same state" same_state cpu "$name"
  else
    check "$text" false
  fi
}
for device in lazy eager; do
  same_as_cpu "$device, one rank" $device-one 1 run.device=$device
  same_as_cpu "$device, tensor 2 x data 2, ZeRO 1, micro-batches of 5" $device-four 4 run.device=$device parallel.tensor=2 \
    parallel.zero=1 batch.micro=5
  same_as_cpu "$device, data 3, ZeRO 0, micro-batches of 3" $device-three 3 run.device=$device parallel.zero=0 batch.micro=3
  # The second half again from the checkpoint of step 2.
  mkdir -p "$work/$device-resumed"
  cp -r "$work/cpu/checkpoints" "$work/$device-resumed/"
  rm -rf "$work/$device-resumed/checkpoints/step-00000004" "$work/$device-resumed/checkpoints/LATEST"
  if train $device-resumed 2 gpt2 run.device=$device parallel.tensor=2; then
    check "$device, resumed at step 2 on tensor 2: the same state" same_state cpu $device-resumed
    check "$device, resumed: it did resume" grep -q "step 2" "$work/$device-resumed.out"
  else
    check "$device, resumed" false
  fi
done

# A layer of which a part is frozen has two buckets, and waits for the one that is gathered.
part="finetune.train=[layers.1.mlp.*, layers.0.norm2.*]"
if train cpu-part 1 gpt2 "$part"; then
  for device in lazy eager; do
    train $device-part 4 gpt2 "$part" run.device=$device parallel.tensor=2 parallel.zero=1 batch.micro=5 &&
      check "$device, a part of the model learns: the same state" same_state cpu-part $device-part
  done
fi

# Here the host is a step ahead of the device: a request to stop takes hold after the step that was enqueued meanwhile, on every rank.
attempt lazy-stopped 1 gpt2 run.device=lazy run.steps=100000 schedule.decay_steps=100 checkpoint.interval_steps=0 \
  validation.interval_steps=0 --max-time=1s > "$work/stopped.said"
check "lazy, stopped after a second: it left with 75" test $? -eq 75
last=$(grep -c '"event": *"train"' "$work/lazy-stopped/metrics.jsonl")
if [ "$last" -gt 1 ] && train cpu-as-long 1 gpt2 "run.steps=$last" schedule.decay_steps=100 checkpoint.interval_steps=0 \
  validation.interval_steps=0; then
  check "lazy, stopped after step $last: the CPU device's losses" same_curve cpu-as-long lazy-stopped
  check "lazy, stopped after step $last: the same state" same_state cpu-as-long lazy-stopped
else
  check "lazy, stopped after a second, at step $last" false
fi
# A request that is read with the last step enqueued comes too late: a run that has done all its steps says that it is done.
wrong=0
for ((steps = last - 4; steps <= last + 4; steps++)); do
  rm -rf "$work/late"
  "$bin/gptdist-train" --config "$work/gpt2.yaml" --set "run.directory=$work/late" --set run.device=lazy --set "run.steps=$steps" \
    --set checkpoint.interval_steps=0 --set validation.interval_steps=0 --max-time=1s > "$work/late.out" 2>&1
  code=$?
  all=$([ "$(grep -c '"event": *"train"' "$work/late/metrics.jsonl")" -eq "$steps" ] && echo 0 || echo 75)
  [ $code -eq "$all" ] || { wrong=1; echo "run.steps=$steps: left with $code, should have with $all"; }
done
check "lazy, asked to stop near the end: done where all steps are" test $wrong -eq 0
finish
