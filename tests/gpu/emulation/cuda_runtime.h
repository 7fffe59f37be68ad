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
struct float4 {
  float x, y, z, w;
};
struct uint2 {
  unsigned x, y;
};
static inline float4 make_float4(float x, float y, float z, float w) {
  return {x, y, z, w};
}
/* Compiled without contraction: each rounds once. */
static inline float __fadd_rn(float a, float b) {
  return a + b;
}
static inline float __fsub_rn(float a, float b) {
  return a - b;
}
static inline float __fmul_rn(float a, float b) {
  return a * b;
}
static inline float __fdiv_rn(float a, float b) {
  return a / b;
}
static inline float __fmaf_rn(float a, float b, float c) {
  return fmaf(a, b, c);
}
static inline int __float2int_rn(float x) {
  return x != x ? 0 : (int)rintf(x);
}
static inline float __int2float_rn(int x) {
  return (float)x;
}
static inline int __float_as_int(float x) {
  int bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}
static inline float __int_as_float(int bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}
using std::isfinite;
static inline int __clzll(long long x) {
  return __builtin_clzll((unsigned long long)x);
}

#endif
