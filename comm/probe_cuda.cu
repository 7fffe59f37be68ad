/* probe_cuda.cu - whether the GPU runs what this build compiled, asked of a kernel that does nothing. */
#include "comm/device_cuda.h"

static __global__ void probe() {}

unsigned gd_cuda_probe(void) {
  cudaFuncAttributes attributes;
  return (unsigned)cudaFuncGetAttributes(&attributes, probe);
}
