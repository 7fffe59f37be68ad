/* cuda_runtime.h - CUDA C++ as far as the kernels use it: a block is a set of coroutines, blocks run one after another. */
#ifndef GD_TESTS_EMULATION_RUNTIME_H
#define GD_TESTS_EMULATION_RUNTIME_H
#include <cuda_runtime_api.h>
#include <cmath>
#include <cstring>
#include <functional>
#include <strings.h>
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __shared__ static
struct dim3 {
  unsigned x, y, z;
  dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
extern dim3 threadIdx, blockIdx;
void emulate_launch(dim3 grid, dim3 block, const std::function<void()> &f);
void __syncthreads();
float __shfl_xor_sync(unsigned, float, int);
unsigned __ballot_sync(unsigned, bool);
static inline int __ffs(int x) {
  return ffs(x);
}
static inline void sincospif(float x, float *s, float *c) {
  *s = (float)sin(M_PI * (double)x);
  *c = (float)cos(M_PI * (double)x);
}
using std::isfinite;
#define CUDART_INF_F __builtin_inff()
static inline int __clzll(long long x) {
  return __builtin_clzll((unsigned long long)x);
}

#endif
