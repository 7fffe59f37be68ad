#!/usr/bin/env bash
# Every CUDA kernel, run on the CPU by a small emulation of threads, barriers, warps and cuBLASLt (tests/gpu/emulation), agrees with the
# CPU's kernel: indices, barriers and the order of sums, not what a GPU adds to that. Needs no GPU;
# skipped where the build has no CUDA.
set -u
build=$(realpath "$1")
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
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
flags=(-I"$root/tests/gpu/emulation" -I"$root" -D_GNU_SOURCE -fPIC -O2 -ffp-contract=off -w)
for file in "$root"/trainer/kernels/cuda/*.cu; do
  name=$(basename "$file" .cu)
  python3 "$root/tests/gpu/emulation/rewrite.py" "$file" "$work/$name.cpp" || exit 1
  g++ -std=c++17 "${flags[@]}" -c "$work/$name.cpp" -o "$work/$name.o" || exit 1
done
g++ -x c++ -std=c++17 "${flags[@]}" -c "$root/tests/gpu/emulation/emulation.cu" -o "$work/emulation.o" || exit 1
for file in "$root"/trainer/kernels/cuda/*.c "$root/comm/device_cuda.c"; do
  gcc "${flags[@]}" -c "$file" -o "$work/$(basename "$file" .c).o" || exit 1
done
g++ -shared -o "$work/emulated.so" "$work"/*.o || exit 1
GPTDIST_DEVICE_GUARD=1 GPTDIST_CHECK_NO_TIMING=1 OMP_NUM_THREADS=1 GPTDIST_CUDA_LIBRARY=$work/emulated.so timeout 300 "$program"
