/* common.cuh - what the CUDA kernels share on the device's side: stored values, launches, sums in a fixed order.
 *
 * Sums. A CHAIN is one thread adding in ascending order. A ROW SUM is taken by ROW_THREADS threads, each a chain over the
 * elements c = thread, thread + ROW_THREADS, ...; then the lanes of a warp and then the warps are added in pairs at falling
 * distances. Its order depends on the row's length alone, not on the grid, on other rows or on where the row lies, so equal
 * rows have equal bits. The CPU adds rows over 16 lanes: the two device kinds agree within rounding, not bit for bit. */
#ifndef GD_TRAINER_KERNELS_CUDA_COMMON_CUH
#define GD_TRAINER_KERNELS_CUDA_COMMON_CUH

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include "trainer/kernels/cuda/table.h"

enum { ROW_THREADS = 256, FLAT_THREADS = 256, WARP = 32, TREE_DEPTH = 48 };

typedef __nv_bfloat16 bf16;

/* Stored values are read as float32 and rounded once (to nearest, ties to even) when written. */
__device__ __forceinline__ float load(const float *p, int64_t i) {
  return p[i];
}
__device__ __forceinline__ float load(const bf16 *p, int64_t i) {
  return __bfloat162float(p[i]);
}
__device__ __forceinline__ void store(float *p, int64_t i, float x) {
  p[i] = x;
}
__device__ __forceinline__ void store(bf16 *p, int64_t i, float x) {
  p[i] = __float2bfloat16_rn(x);
}

/* The sum of every thread's value, known to all ROW_THREADS threads. `shared` has room for ROW_THREADS / WARP values; it may be
 * used again at once. */
__device__ __forceinline__ float row_sum(float value, float *shared) {
  for (int distance = WARP / 2; distance > 0; distance /= 2) value += __shfl_xor_sync(0xffffffffu, value, distance);
  __syncthreads();
  if (threadIdx.x % WARP == 0) shared[threadIdx.x / WARP] = value;
  __syncthreads();
  float sum[ROW_THREADS / WARP];
#pragma unroll
  for (int i = 0; i < ROW_THREADS / WARP; i++) sum[i] = shared[i];
#pragma unroll
  for (int half = ROW_THREADS / WARP / 2; half > 0; half /= 2)
#pragma unroll
    for (int i = 0; i < half; i++) sum[i] += sum[i + half];
  return sum[0];
}

/* The canonical tree (shard/tree.h) on a small stack: leaf number `leaf` enters, the first one is 0. */
template <typename F>
__device__ __forceinline__ void tree_push(F *stack, int *depth, int64_t leaf, F value) {
  for (; leaf & 1; leaf >>= 1) value = stack[--*depth] + value;
  stack[(*depth)++] = value;
}

/* The whole tree; +0 for no leaves. */
template <typename F>
__device__ __forceinline__ F tree_root(const F *stack, int depth) {
  if (depth == 0) return F(0);
  F sum = stack[--depth];
  while (depth > 0) sum = stack[--depth] + sum;
  return sum;
}

/* The element this thread works on in a launch of flat_blocks(elements) blocks of FLAT_THREADS. */
__device__ __forceinline__ int64_t flat_index() {
  return (int64_t)blockIdx.x * FLAT_THREADS + threadIdx.x;
}

static inline int64_t blocks_of(int64_t elements, int64_t each) {
  return (elements + each - 1) / each;
}

/* A grid has at most 2^31 - 1 blocks along x and 65535 along y. */
static inline gd_status check_grid(const char *kernel, int64_t x, int64_t y = 1) {
  if (x <= 0x7fffffff && y <= 65535) return GD_OK;
  return gd_fail(GD_USAGE, "%s: %lld x %lld blocks are more than a launch takes; use a smaller micro-batch", kernel,
                 (long long)x, (long long)y);
}

/* The fault of the launch just made. */
static inline gd_status launched(const char *kernel) {
  cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? GD_OK : gd_cuda_fault(error, kernel);
}

static inline cudaStream_t enter(const gd_kernels *kernels) {
  return gd_cuda_stream_enter(kernels->stream);
}

/* Runs `call` with T the type of a stored dtype. */
#define WITH_STORED(dtype, kernel, ...)                                                                 \
  do {                                                                                                  \
    if ((dtype) == GD_FLOAT32) {                                                                        \
      typedef float T;                                                                                  \
      __VA_ARGS__;                                                                                      \
    } else if ((dtype) == GD_BFLOAT16) {                                                                \
      typedef bf16 T;                                                                                   \
      __VA_ARGS__;                                                                                      \
    } else {                                                                                            \
      return gd_fail(GD_BUG, "%s of %s: expected float32 or bfloat16", (kernel), gd_dtype_name(dtype)); \
    }                                                                                                   \
  } while (0)

#endif
