#!/usr/bin/env bash
# What `run.device: auto` and `cuda` do on a machine whose CUDA part is missing, broken, of another version, or finds no GPU: one
# line with the reason, on rank 0 only.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
program=$1/tests/test_session
[ -x "$program" ] || { echo "skipped: no $program"; exit 77; }
command -v mpirun >/dev/null || { echo "skipped: no mpirun"; exit 77; }
compiler=$(command -v cc || command -v gcc || command -v clang) || { echo "skipped: no C compiler"; exit 77; }
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
cp "$program" "$out/program"
bad=0

# expect CASE KIND CODE TEXT [LINES]
expect() {
  local code lines
  OMP_NUM_THREADS=1 timeout -k 5 60 mpirun --allow-run-as-root --oversubscribe --bind-to none -np 2 "$out/program" device "$2" 0 \
    >"$out/log" 2>&1
  code=$?
  lines=$(grep -c '^LOG ' "$out/log")
  if [ "$code" -eq "$3" ] && [ "$lines" -eq "${5:-1}" ] && grep -qF -- "$4" "$out/log"; then return; fi
  echo "FAILED $1: exit code $code (expected $3), $lines lines (expected ${5:-1}), looking for: $4"
  sed 's/^/  | /' "$out/log"
  bad=1
}

# library ABI BODY-OF-OPEN [BODY-OF-IDENTIFY [LACKS]]: by default each local rank sees a GPU of its own
library() {
  cat >"$out/fake.c" <<SOURCE
#include <stdio.h>
#include <string.h>
#include "comm/cuda_backend.h"
static int32_t nccl;
static gd_status nccl_version(int32_t *out) {
  *out = nccl;
  return nccl < 0 ? gd_fail_user(GD_NO_MEMORY, "there is no NCCL") : GD_OK;
}
static gd_status open_device(int32_t local_rank, gd_device *out) { (void)out; $2 }
static gd_status identify(int32_t local_rank, gd_cuda_gpu *out) {
  memset(out, 0, sizeof *out);
  out->uuid[0] = (unsigned char)(1 + local_rank);
  out->count = 2;
  strcpy(out->name, "NVIDIA Fake");
  strcpy(out->bus, "0000:3b:00.0");
  nccl = 22809;
  ${3:-return GD_OK;}
}
const gd_cuda_backend_table *gd_cuda_backend(void) {
  static gd_cuda_backend_table table;
  table.abi = $1;
  table.identify = identify;
  table.open_device = open_device;
  table.nccl_version = nccl_version;
  table.lacks = ${4:-NULL};
  table.unproved = ${5:-NULL};
  return &table;
}
SOURCE
  "$compiler" -shared -fPIC -I. -o "$out/libgptdist-cuda.so" "$out/fake.c" || exit 1
}

export GPTDIST_TEST_WITHOUT_DRIVER=1
expect 'no library' auto 0 'no libgptdist-cuda.so here'
expect 'no library, CUDA wanted' cuda 64 'run.device: cuda was asked for, but no libgptdist-cuda.so here'
echo nonsense >"$out/libgptdist-cuda.so"
expect 'a file that is no library' auto 0 'device: CPU'
library 'GD_CUDA_BACKEND_ABI + 1' 'return GD_OK;'
expect 'another version' auto 0 'is of another version of gptdist'
no_driver='return gd_fail_user(GD_NO_MEMORY, "no CUDA driver for local rank %d", (int)local_rank);'
library GD_CUDA_BACKEND_ABI 'return GD_BUG;' "$no_driver"
expect 'no driver' auto 0 'no CUDA driver for local rank 0'
expect 'no driver, CUDA wanted' cuda 64 'but no CUDA driver for local rank 0'
library GD_CUDA_BACKEND_ABI 'return local_rank == 0 ? gd_device_open_cpu(out) : gd_fail_user(GD_NO_MEMORY, "GPU is full");'
expect 'one rank without a GPU' auto 0 'device: CPU'
expect 'one rank without a GPU' auto 0 'rank 1: GPU is full'

# These are refused before anything of a GPU is taken: open_device would end the process.
library GD_CUDA_BACKEND_ABI '__builtin_trap();' 'return GD_OK;' '"attention"'
expect 'a kernel is missing' auto 0 'device: CPU'
expect 'a kernel is missing, CUDA wanted' cuda 64 'but libgptdist-cuda.so has no CUDA kernel for attention yet; use auto or cpu'
library GD_CUDA_BACKEND_ABI 'return gd_fail_user(GD_NO_MEMORY, "GPU is full");' 'return GD_OK;' NULL '"it is new"'
expect 'not proved yet' auto 0 'device: CPU'
expect 'not proved yet' auto 0 'it is new, so only run.device: cuda takes a GPU'
expect 'not proved yet, CUDA wanted' cuda 64 'but GPU is full'
library GD_CUDA_BACKEND_ABI '__builtin_trap();' 'out->uuid[0] = 7; out->count = 1; return GD_OK;'
expect 'two ranks, one GPU' cuda 64 'but ranks 0 and 1 would share GPU 0 (NVIDIA Fake, 0000:3b:00.0) of host'
expect 'two ranks, one GPU' cuda 64 'where 2 ranks see 1 GPU: start at most one rank a GPU'
expect 'two ranks, one GPU' auto 0 'ranks 0 and 1 would share GPU 0'
library GD_CUDA_BACKEND_ABI '__builtin_trap();' 'nccl -= 2 * local_rank; return GD_OK;'
expect 'two versions of NCCL' cuda 64 'loads NCCL 2.28.7, rank 0 has 2.28.9: all hosts need the same libnccl.so.2'
export GPTDIST_TEST_SHARE_GPU=1
library GD_CUDA_BACKEND_ABI 'return gd_device_open_cpu(out);' 'out->uuid[0] = 7; out->count = 1; return GD_OK;'
expect 'two ranks share a GPU in a test' cuda 0 'device: CPU' 2
expect 'over MPI, and why' cuda 0 'which is slow: ranks 0 and 1 share GPU 0, and NCCL takes one rank a GPU' 2
library GD_CUDA_BACKEND_ABI 'return gd_device_open_cpu(out);' 'nccl = 22505; return GD_OK;'
expect 'an old NCCL is warned of' cuda 0 'NCCL 2.25.5 does not keep the order of collectives on two streams' 2
library GD_CUDA_BACKEND_ABI 'return gd_device_open_cpu(out);' 'nccl = 22602; return GD_OK;'
expect 'one that keeps the order is not' cuda 0 'device: CPU'
export GPTDIST_TEST_SHARE_GPU=nccl
library GD_CUDA_BACKEND_ABI 'return gd_device_open_cpu(out);' 'out->uuid[0] = 7; out->count = 1; return GD_OK;'
expect 'two ranks share a GPU and NCCL' cuda 0 'device: CPU'
export GPTDIST_TEST_SHARE_GPU=yes
expect 'a word that says nothing' cuda 64 'ranks 0 and 1 would share GPU 0'
unset GPTDIST_TEST_SHARE_GPU
library GD_CUDA_BACKEND_ABI 'return gd_device_open_cpu(out);' 'nccl = -1; return GD_OK;'
expect 'no NCCL' cuda 0 'over MPI through host memory, which is slow: rank 0: there is no NCCL' 2
unset GPTDIST_TEST_WITHOUT_DRIVER
if ! ldconfig -p 2>/dev/null | grep -q 'libcuda\.so\.1'; then
  library GD_CUDA_BACKEND_ABI '__builtin_trap();' '__builtin_trap();'
  expect 'no driver: the library stays closed' auto 0 'no NVIDIA driver (libcuda.so.1) here'
fi
exit $bad
