#!/usr/bin/env bash
# The host's side of CUDA and NCCL, on a fake runtime (tests/gpu/fake): what the device and the groups do with memory, tasks, waits and
# faults. Needs no GPU; skipped where the build has no CUDA.
set -u
build=$(realpath "$1")
program=$build/tests/gpu/check_host
export GPTDIST_CUDA_LIBRARY=$build/tests/gpu/fake/libgptdist-cuda.so
if [ ! -x "$program" ] || [ ! -e "$GPTDIST_CUDA_LIBRARY" ]; then
  echo "skipped: built without CUDA"
  exit 77
fi
bad=0

# scene NAME CODE TEXT [VARIABLE=VALUE...]: the scene leaves with that code and says that
scene() {
  local name=$1 code=$2 text=$3 found
  shift 3
  found=$(env "$@" timeout 30 "$program" "$name" 2>&1)
  local left=$?
  if [ "$left" != "$code" ] || [[ "$found" != *"$text"* ]]; then
    echo "FAILED $name $*: left with $left, expected $code; said \"$found\", expected \"$text\""
    bad=1
  else
    echo "passed  $name $*"
  fi
}

scene tasks_and_memory 0 'passed'
scene tasks_and_memory 0 'passed' GPTDIST_DEVICE_GUARD=1
scene overrun_after 70 '1 bytes after a request for 1000 bytes of memory (number 1) were overwritten, the first of them 0 bytes' \
  GPTDIST_DEVICE_GUARD=1
scene overrun_before 70 '1 bytes before a request for 4096 bytes of memory (number 1) were overwritten, the first of them 1 bytes' \
  GPTDIST_DEVICE_GUARD=1
# Behind the guards nothing is allocated, so that compute-sanitizer sees what the guards do not; the fake runtime stands in for it.
scene overrun_far_after 70 'fill: ' GPTDIST_DEVICE_GUARD=1
scene overrun_far_before 70 'fill: ' GPTDIST_DEVICE_GUARD=1

# What a kernel did wrong is our bug (70); what the GPU did is not (71), nor that the build has no kernels for it.
scene work 0 'passed'
scene work 70 'a CUDA kernel went wrong before this call: an illegal memory access' FAKE_CUDA_FAULT=700@5
scene work 70 'a CUDA kernel went wrong before this call' FAKE_CUDA_FAULT=719@10
scene work 70 'a CUDA kernel went wrong before this call' FAKE_CUDA_FAULT=716@1
scene work 71 'the GPU is lost or not usable: uncorrectable ECC error' FAKE_CUDA_FAULT=214@5
scene work 71 'the GPU has compute capability 12.0, this build of gptdist has kernels for 80-real, 90' \
  FAKE_CUDA_FAULT=209@1 FAKE_CUDA_CAPABILITY=120

# NCCL: what a communicator meets while the host waits ends the wait, though the collective never does.
scene peer_is_gone 0 '76 collectives on group data: NCCL: remote process exited or there was a network error' \
  FAKE_NCCL_HANGS=1 FAKE_NCCL_ERROR=6
scene peer_is_gone 0 '76 all_reduce on group data, which failed before' FAKE_NCCL_HANGS=1 FAKE_NCCL_ERROR=6
scene peer_is_gone 0 'again 76' FAKE_NCCL_HANGS=1 FAKE_NCCL_ERROR=6
# A fault of the GPU that NCCL sees first, while the host waits and when a call is taken, is not NCCL's.
scene peer_is_gone 70 '70 wait for a stream: a CUDA kernel went wrong before this call: an illegal memory access' \
  FAKE_NCCL_HANGS=1 FAKE_NCCL_ERROR=1 FAKE_NCCL_BREAKS=700
scene peer_is_gone 71 '71 wait for a stream: the GPU is lost or not usable: uncorrectable ECC error' \
  FAKE_NCCL_HANGS=1 FAKE_NCCL_ERROR=1 FAKE_NCCL_BREAKS=214
scene peer_is_gone 70 'all_reduce on group data: a CUDA kernel went wrong before this call: an illegal memory access' \
  FAKE_NCCL_POLLS=1 FAKE_NCCL_ERROR=1 FAKE_NCCL_BREAKS=700
scene peer_is_gone 70 '70 wait for a stream: a CUDA kernel went wrong before this call' \
  FAKE_NCCL_HANGS=1 FAKE_NCCL_ERROR=6 FAKE_NCCL_BREAKS_LATE=700
# A call is asked after 200 us without a pause (a microsecond a question here), then with pauses.
scene many_calls 0 'launch order 1, 0 pauses' FAKE_NCCL_POLLS=100
scene many_calls 0 'launch order 1, 202000 pauses' FAKE_NCCL_POLLS=300
scene many_calls 0 'launch order 0, 0 pauses' NCCL_LAUNCH_ORDER_IMPLICIT=0
exit $bad
