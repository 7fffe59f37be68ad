/* cuda_runtime.h - CUDA C++ as far as the kernels use it (threads.cu). rewrite.py makes calls of launches and of declarations
 * of shared memory. */
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
#define __launch_bounds__(...)
struct dim3 {
  unsigned x, y, z;
  dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
extern dim3 threadIdx, blockIdx, blockDim, gridDim;
/* More dynamic shared memory than 48 KiB must be asked for right before the launch. */
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
cudaError_t emulate_ask_shared(int bytes);
#define cudaFuncSetAttribute(function, attribute, bytes) emulate_ask_shared(bytes)
void emulate_must(bool good, const char *what);
/* What a stream does when it comes to it (streams.cu); without a stream at once. */
void emulate_enqueue(cudaStream_t stream, std::function<void()> task);
void emulate_grid(dim3 grid, dim3 block, size_t dynamic_bytes, size_t asked_bytes, const std::function<void()> &f);
/* Ends the program where no launch is like that; gives the shared memory that was asked for. */
size_t emulate_must_launch(dim3 grid, dim3 block, size_t dynamic_bytes);
/* Arguments are those of the call, whenever the kernel runs. */
template <typename K, typename... A>
void emulate_launch(dim3 grid, dim3 block, size_t dynamic_bytes, cudaStream_t stream, K kernel, A... arguments) {
  size_t asked_bytes = emulate_must_launch(grid, block, dynamic_bytes);
  emulate_enqueue(stream, [=] { emulate_grid(grid, block, dynamic_bytes, asked_bytes, [&] { kernel(arguments...); }); });
}
/* The block's memory of one declaration. */
void *emulate_shared(const void *key, size_t bytes);
void *emulate_dynamic_shared();
int emulate_thread();
bool emulate_is_shared(const void *from, size_t bytes);
void emulate_copies_end();
void emulate_barrier(int line);
void emulate_warp_barrier(int line);
float emulate_shuffle(int line, unsigned mask, float value, int from);
float emulate_shuffle_xor(int line, unsigned mask, float value, int distance);
unsigned emulate_ballot(int line, unsigned mask, bool vote);
#define __syncthreads() emulate_barrier(__LINE__)
#define __syncwarp() emulate_warp_barrier(__LINE__)
#define __shfl_sync(mask, value, from) emulate_shuffle(__LINE__, mask, value, from)
#define __shfl_xor_sync(mask, value, distance) emulate_shuffle_xor(__LINE__, mask, value, distance)
#define __ballot_sync(mask, vote) emulate_ballot(__LINE__, mask, vote)
static inline int __ffs(int x) {
  return ffs(x);
}
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
static inline float2 make_float2(float x, float y) {
  return {x, y};
}
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
