#!/usr/bin/env bash
# What gptdist-train says where a machine or its GPUs are not fit, and how it leaves: on a fake runtime (tests/gpu/fake), which can lack
# everything. One message, with what to do; `run.device: auto` takes the CPU where the GPUs cannot be had at all. Skipped where the build
# has no CUDA.
programs=gptdist-generate
. "$(dirname "${BASH_SOURCE[0]}")/fake.sh"
program=$bin/gptdist-train
words=(--config "$work/gpt2.yaml" --set run.steps=3 --set checkpoint.interval_steps=0 --set validation.interval_steps=0)

# start DEVICE RANKS [VARIABLE=VALUE...]: a run, whose code it leaves with
start() {
  local device=$1 ranks=$2 command=()
  shift 2
  rm -rf "$work/run"
  [ "$ranks" = 1 ] || command=(mpirun --oversubscribe --bind-to none -np "$ranks")
  env "$@" timeout -k 5 100 "${command[@]}" "$program" "${words[@]}" --set run.device="$device" --set run.directory="$work/run" \
    >"$work/out" 2>&1 </dev/null
}

# says TEXT CODE DEVICE RANKS [VARIABLE=VALUE...]: a run leaves with that code and says TEXT in one error
says() {
  local text=$1 code=$2 left errors
  start "${@:3}"
  left=$?
  errors=$(grep -c 'gptdist-train: error' "$work/out")
  if [ "$left" = "$code" ] && grep -qF -- "$text" "$work/out" && [ "$errors" = $((code != 0)) ]; then return 0; fi
  echo "left with $left, expected $code; $errors errors; expected: $text"
  sed 's/^/  | /' "$work/out"
  return 1
}

check "no driver" says 'but no CUDA driver: libcuda.so.1 of NVIDIA' 64 cuda 1 FAKE_CUDA_DRIVER=0
check "no driver, auto" says 'device: CPU' 0 auto 1 FAKE_CUDA_DRIVER=0
check "too old a driver" says 'but too old a CUDA driver: it serves CUDA 11.4, this build of gptdist uses ' 64 cuda 1 FAKE_CUDA_DRIVER=11040
check "no GPU" says 'but no GPU: no CUDA-capable device is detected (driver for CUDA ' 64 cuda 1 FAKE_CUDA_DEVICES=0
check "no GPU is visible" says ', CUDA_VISIBLE_DEVICES=-1)' 64 cuda 1 FAKE_CUDA_DEVICES=0 CUDA_VISIBLE_DEVICES=-1
check "too old a GPU" says 'has compute capability 7.0; 8.0 or newer is needed' 64 cuda 1 FAKE_CUDA_CAPABILITY=70
check "fewer GPUs than ranks" says 'but ranks 0 and 2 would share GPU 0 (NVIDIA H100 80GB HBM3, 0000:3b:00.0) of host' 64 cuda 3 FAKE_CUDA_DEVICES=2
check "and how many there are" grep -q 'where 3 ranks see 2 GPUs: start at most one rank a GPU' "$work/out"
check "a kernel is missing" says 'but libgptdist-cuda.so has no CUDA kernel for attention yet' 64 cuda 1 FAKE_CUDA_LACKS=attention

# A buffer finds no room in so many bytes besides scratch. With guards every request is an allocation of its own.
memory() { says "$2" 71 cuda 1 FAKE_CUDA_MEMORY=$((134217728 + $1)) GPTDIST_DEVICE_GUARD=1; }
check "no memory for scratch" memory 0 'this is for scratch of the kernels'
check "no memory for parameters" memory 100000 'this is for parameters (307200 bytes); what helps: more ranks with a larger parallel.tensor; gptdist-train --dry-run'
check "no memory for the workspace" memory 4500000 'this is for workspace ('
check "and what helps" grep -q 'what helps: a smaller batch.micro or batch.sequence' "$work/out"
check "and how much was free" grep -qE 'cannot allocate [1-9][0-9.]* (bytes|MiB) of GPU memory: out of memory \(cudaErrorMemoryAllocation\); [0-9.]+ (bytes|MiB) of [1-9][0-9.]* MiB' "$work/out"

# The same code, but no matter of memory: with guards, the first fills are of scratch and of parameters.
for at in 2 5; do
  check "a GPU lost meanwhile ($at)" says 'the GPU is lost or not usable: uncorrectable ECC' 71 cuda 1 FAKE_CUDA_FAULT=214@$at GPTDIST_DEVICE_GUARD=1
  check "is not short of memory" [ "$(grep -c 'this is for' "$work/out")" = 0 ]
done

check "a lost GPU" says 'the GPU is lost or not usable: uncorrectable ECC error encountered' 71 cuda 1 FAKE_CUDA_FAULT=214@300
check "which exit.json says too" grep -q '"code": 71, "reason": ".*uncorrectable ECC' "$work/run/exit.json"
check "a kernel that went wrong" says 'a CUDA kernel went wrong before this call: an illegal memory access' 70 cuda 1 FAKE_CUDA_FAULT=700@300
# No kernels for this GPU: told before memory is taken. Later it is one rank's fault, which no other has agreed on.
for code in 209 98 222; do
  check "a GPU without kernels ($code)" says 'but the GPU does not run the kernels: ' 64 cuda 1 FAKE_CUDA_KERNELS=$code FAKE_CUDA_CAPABILITY=120
  check "and what it would need" grep -q 'the GPU has compute capability 12.0, this build of gptdist has kernels for .* with 120 among' "$work/out"
done
check "a GPU without kernels, auto" says 'device: CPU' 0 auto 1 FAKE_CUDA_KERNELS=209
check "a GPU that turns out to have none" says 'the GPU has compute capability 12.0, this build of gptdist has kernels for' 71 cuda 1 \
  FAKE_CUDA_FAULT=209@300 FAKE_CUDA_CAPABILITY=120

# One rank of two has the fault, in a program whose ranks leave in order where they agreed: the other must not wait for it.
generates() {
  local two=("$work/bin/gptdist-generate" --checkpoint "$work/cpu" --device cuda --token-ids 1,2 --temperature 0 --max-new-tokens 8)
  FAKE_CUDA_DEVICES=2 timeout -k 5 60 mpirun --oversubscribe --bind-to none -np 1 "${two[@]}" : \
    -np 1 -x FAKE_CUDA_FAULT=209@100 "${two[@]}" >"$work/out" 2>&1 </dev/null
  [ $? = 71 ] && grep -aq 'rank 1 on .*no kernel image is available' "$work/out" && return 0
  sed 's/^/  | /' "$work/out"
  return 1
}
train cpu 1 gpt2 run.device=cpu
check "one rank's GPU turns out to have none while it generates" generates

# A write outside its memory, in a whole program: a kernel's would be found in the same way.
outside() {
  start cuda 1 FAKE_CUDA_OVERRUN=3 GPTDIST_DEVICE_GUARD=1
  [ $? = 70 ] && grep -q '3 bytes after a request for [0-9]* bytes of memory (number [0-9]*) were overwritten' "$work/out" && return 0
  sed 's/^/  | /' "$work/out"
  return 1
}
check "a write outside its memory" outside

versions() {
  rm -rf "$work/run"
  local two=("$program" "${words[@]}" --set run.device=cuda --set run.directory="$work/run")
  FAKE_CUDA_DEVICES=2 timeout -k 5 100 mpirun --oversubscribe --bind-to none -np 1 -x FAKE_NCCL_VERSION=22809 "${two[@]}" : \
    -np 1 -x FAKE_NCCL_VERSION=22703 "${two[@]}" >"$work/out" 2>&1 </dev/null
  [ $? = 64 ] && grep -q 'loads NCCL 2.27.3, rank 0 has 2.28.9: all hosts need the same libnccl.so.2' "$work/out" && return 0
  sed 's/^/  | /' "$work/out"
  return 1
}
check "two versions of NCCL" versions

check "one rank" says 'device: GPU 0 of 1' 0 cuda 1 FAKE_NCCL_LOADED="$work/nccl"
check "does not open NCCL" [ ! -e "$work/nccl" ]
check "two that share a GPU" says 'would share GPU 0' 64 cuda 2 FAKE_NCCL_LOADED="$work/nccl"
check "do" [ -e "$work/nccl" ]
echo nonsense >"$work/lib/libnccl.so.2"
check "an NCCL that does not open" says 'MPI through host memory, which is slow: rank 0: several GPUs need NCCL, which does not open: ' 0 cuda 2 FAKE_CUDA_DEVICES=2
rm "$work/lib/libnccl.so.2"
check "one rank without it" says 'device: GPU 0 of 1' 0 cuda 1
finish
