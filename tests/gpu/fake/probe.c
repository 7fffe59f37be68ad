/* probe.c - in place of comm/probe_cuda.cu. FAKE_CUDA_KERNELS=CODE: why the GPU does not run the build's kernels. */
#include <stdlib.h>

#include "comm/device_cuda.h"

unsigned gd_cuda_probe(void) {
  const char *code = getenv("FAKE_CUDA_KERNELS");
  return code ? (unsigned)atoi(code) : 0;
}
