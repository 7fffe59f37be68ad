#!/usr/bin/env bash
# A whole training with run.device: cuda where there is no GPU: the real device on a fake runtime (tests/gpu/fake), with the CPU's kernels
# as its tasks. It has the CPU's losses, and what it says of speed and memory is the GPU's. Skipped where the build has no CUDA.
programs=gptdist-ckpt
. "$(dirname "${BASH_SOURCE[0]}")/fake.sh"

train cpu 1 gpt2 run.device=cpu
GPTDIST_DEVICE_GUARD=1 train gpu 1 gpt2 run.device=cuda
check "a run names its GPU" grep -q 'device: GPU 0 of 1, NVIDIA H100 80GB HBM3, 80.0 GiB' "$work/gpu.out"
check "it has the CPU's losses, norms and validation" same_curve cpu gpu
check "and weights and moments" same_state cpu gpu
train llama-cpu 1 llama run.device=cpu
train llama-gpu 1 llama run.device=cuda batch.micro=5
check "so has the other model, in other micro-batches" same_curve llama-cpu llama-gpu
check "and its weights" same_state llama-cpu llama-gpu

# A step copies to the device from pinned memory alone: more steps are no more pageable copies.
for steps in 2 5; do
  FAKE_CUDA_REPORT=$work/report-$steps train copies-$steps 1 gpt2 run.device=cuda run.steps=$steps schedule.decay_steps=9 \
    checkpoint.interval_steps=0 validation.interval_steps=1
done
pinned() { # what of the two runs: how many more
  awk -v word="$1" '{ for (i = 1; i < NF; i++) if ($i == word) count[NR] = $(i + 1) } END { print count[2] - count[1] }' \
    "$work/report-2" "$work/report-5"
}
check "three more steps have no more copies from pageable memory" [ "$(pinned pageable)" = 0 ]
check "but more from pinned memory" [ "$(pinned pinned)" -gt 8 ]

# 66.9 TFLOP/s: an H100's float32.
share() {
  awk 'function field(name) { match($0, "\"" name "\": [^,}]*"); return substr($0, RSTART + length(name) + 4, RLENGTH - length(name) - 4) + 0 }
  /"event": "train"/ { lines++
    ratio = field("tflops") / field("mfu") / 66.9
    if (ratio < 0.99999 || ratio > 1.00001) { print "the peak is", ratio, "of an H100"; bad = 1 } }
  END { exit bad || lines != 4 }' "$work/gpu/metrics.jsonl"
}
check "MFU is a share of the GPU's peak" share
check "the peak and both counts are told" grep -qE 'MFU [0-9.e-]+% of a peak of 66.9 TFLOP/s \(float32, the vendor' "$work/gpu.out"

# A run of many steps, of which one is slow: what was computed over the time that it took, not the mean of the steps' rates.
FAKE_CUDA_NAP=1000@900 train slow 1 gpt2 run.device=cuda checkpoint.interval_steps=0 validation.interval_steps=0
whole() {
  local told
  told=$(sed -n 's/.*MFU \([0-9.e-]*\)% of a peak.*/\1/p' "$work/slow.out")
  awk -v told="$told" 'function field(name) { match($0, "\"" name "\": [^,}]*"); return substr($0, RSTART + length(name) + 4, RLENGTH - length(name) - 4) + 0 }
  /"event": "train"/ { if (lines++) { time += field("ms"); work += field("ms") * field("tflops"); rates += field("tflops") } }
  END { share = 100 * work / time / 66.9; mean = 100 * rates / (lines - 1) / 66.9
    print "told " told ", whole " share ", mean " mean
    exit !(mean > 1.1 * share && told > 0.99 * share && told < 1.01 * share) }' "$work/slow/metrics.jsonl"
}
check "the share of the run is of its whole work and time" whole

FAKE_CUDA_NAME="NVIDIA Quux" FAKE_CUDA_MEMORY=1000000000 train unknown 1 gpt2 run.device=cuda
check "an unknown GPU has no MFU" [ "$(grep -c '"mfu": null' "$work/unknown/metrics.jsonl")" = 4 ]
check "and that is said" grep -q '(MFU unknown)' "$work/unknown.out"
# Scratch, and arenas of this model in a chunk or two, not what the process holds.
held() {
  awk '/"event": "train"/ { match($0, /"memory_bytes": [0-9]*/); bytes = substr($0, RSTART + 16, RLENGTH - 16) + 0; lines++
    if (bytes != first && lines > 1) bad = 1
    first = bytes
    if (bytes < (128 + 64) * 1048576 || bytes > (129 + 3 * 65) * 1048576) { print bytes " bytes"; bad = 1 } } END { exit bad || !lines }' "$work/unknown/metrics.jsonl"
}
check "memory_bytes is of the GPU" held

# Kernels are timed one by one: all of them together take no longer than the steps, and the numbers are the same.
train profiled 1 gpt2 run.device=cuda log.profile=true
check "a profile changes no number" same_curve cpu profiled
profile() {
  grep '"event": "profile"' "$work/profiled/metrics.jsonl" | tr '{' '\n' | awk 'function field(name) { match($0, "\"" name "\": [^,}]*"); return substr($0, RSTART + length(name) + 4, RLENGTH - length(name) - 4) + 0 }
    /"copy_bytes_per_s"/ { steps = field("steps"); whole = field("seconds"); copy = field("copy_bytes_per_s"); peak = field("peak_operations_per_s"); kernels = 1 }
    kernels && /"calls"/ { sum += field("seconds"); rows++ }
    /"products"/ { kernels = 0 }
    END { print steps " steps, " rows " kernels, " sum " of " whole " s, copy " copy ", peak " peak; exit !(steps == 3 && rows > 15 && sum > 0.5 * whole && sum < whole && copy > 1e7 && peak > 6e13) }'
}
check "and has the kernels of three steps, within their time, and both limits" profile

dry() { "$bin/gptdist-train" --config "$work/gpt2.yaml" --set run.device="$1" --dry-run "${@:2}" 2>&1; }
dry cuda >"$work/dry"
check "--dry-run counts what a GPU holds besides" \
  grep -q 'on a GPU besides: scratch of kernels 128.0, workspace of cuBLASLt 32.0, CUDA context about 600 (an estimate)' "$work/dry"
dry cuda --ranks 2 >"$work/dry"
check "and NCCL with several ranks" grep -q 'CUDA context and NCCL about 1000 (an estimate)' "$work/dry"
dry cpu >"$work/dry"
check "and nothing of that on the CPU" [ "$(grep -c 'GPU' "$work/dry")" = 0 ]
dry cuda --json >"$work/dry"
check "the document has it too" \
  grep -q '"gpu_bytes": {"scratch": 134217728, "workspace": 33554432, "context_estimate": 629145600, "total_estimate": ' "$work/dry"
finish
