#!/usr/bin/env bash
# Every CUDA kernel, run on the CPU by a small emulation of threads, barriers, warps and cuBLASLt (tests/gpu/emulation), agrees with the
# CPU's kernel, whether threads come in ascending, descending or random order, and touches nothing outside its buffers: indices,
# barriers and the order of sums, not what a GPU adds to that. Needs no GPU; skipped where the build has no CUDA.
set -u
build=$(realpath "$1")
emulation=$(cd "$(dirname "${BASH_SOURCE[0]}")/emulation" && pwd)
program=$build/tests/gpu/check_kernels
for need in g++ gcc python3; do
  command -v "$need" >/dev/null || { echo "skipped: no $need"; exit 77; }
done
if [ ! -x "$program" ]; then
  echo "skipped: built without CUDA"
  exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bash "$emulation/build" "$work" || exit 1
bad=0
random=1 # drawn shapes of each kernel, in the first order
for order in ascending descending 7; do
  echo "threads $order"
  GPTDIST_EMULATION_ORDER=$order timeout 60 bash "$emulation/start" "$work" "$work/check_mma" || bad=1
  GPTDIST_CHECK_RANDOM=$random GPTDIST_EMULATION_ORDER=$order timeout 300 bash "$emulation/start" "$work" "$program" || bad=1
  random=0
done
timeout 200 bash "$emulation/start" "$work" "$build/tests/gpu/check_shapes" small || bad=1
exit "$bad"
