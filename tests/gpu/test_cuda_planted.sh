#!/usr/bin/env bash
# The emulated check of the CUDA kernels finds each fault that tests/gpu/planted puts into them. Needs no GPU; skipped where the build
# has no CUDA.
set -u
build=$(realpath "$1")
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
for need in g++ gcc python3; do
  command -v "$need" >/dev/null || { echo "skipped: no $need"; exit 77; }
done
if [ ! -x "$build/tests/gpu/check_kernels" ]; then
  echo "skipped: built without CUDA"
  exit 77
fi
timeout 580 python3 "$here/planted" "$build"
