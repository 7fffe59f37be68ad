/* common.cuh - what the CUDA kernels share on the device's side: stored values, launches, sums in a fixed order.
 *
 * Sums. A CHAIN is one thread adding in ascending order. A ROW SUM is taken by one warp and has the CPU's 128 lanes
 * (docs/rounding.md): thread t holds lanes 4 t to 4 t + 3, so that it reads four neighbours at once; lane i + lane i + 64, 32,
 * 16, 8 and 4 meet across threads, + 2 and + 1 inside each. More warps a row would be another order. */
#ifndef GD_TRAINER_KERNELS_CUDA_COMMON_CUH
#define GD_TRAINER_KERNELS_CUDA_COMMON_CUH

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include "trainer/kernels/cuda/table.h"

enum { FLAT_THREADS = 256, WARP = 32, TREE_DEPTH = 48 };

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

/* Four neighbouring elements. */
typedef struct quad {
  float x[4];
} quad;

template <typename T>
__device__ __forceinline__ bool quad_aligned(const T *p) {
  return (uintptr_t)p % (4 * sizeof(T)) == 0;
}

__device__ __forceinline__ quad load_aligned(const float *p) {
  float4 four = *(const float4 *)p;
  return {{four.x, four.y, four.z, four.w}};
}
__device__ __forceinline__ quad load_aligned(const bf16 *p) {
  uint2 two = *(const uint2 *)p;
  bf16 four[4];
  memcpy(four, &two, sizeof four);
  return {{load(four, 0), load(four, 1), load(four, 2), load(four, 3)}};
}
__device__ __forceinline__ void store_aligned(float *p, const quad &q) {
  *(float4 *)p = make_float4(q.x[0], q.x[1], q.x[2], q.x[3]);
}
__device__ __forceinline__ void store_aligned(bf16 *p, const quad &q) {
  bf16 four[4];
  uint2 two;
#pragma unroll
  for (int i = 0; i < 4; i++) store(four, i, q.x[i]);
  memcpy(&two, four, sizeof two);
  *(uint2 *)p = two;
}

/* Elements c to c + 3 of a row of `width`; +0 past its end. In one piece where the row's address allows it. */
template <typename T>
__device__ __forceinline__ quad load_quad(const T *row, int64_t c, int64_t width) {
  if (c + 4 <= width && quad_aligned(row + c)) return load_aligned(row + c);
  quad q;
#pragma unroll
  for (int i = 0; i < 4; i++) q.x[i] = c + i < width ? load(row, c + i) : 0.0f;
  return q;
}

template <typename T>
__device__ __forceinline__ void store_quad(T *row, int64_t c, int64_t width, const quad &q) {
  if (c + 4 <= width && quad_aligned(row + c)) {
    store_aligned(row + c, q);
    return;
  }
#pragma unroll
  for (int i = 0; i < 4; i++)
    if (c + i < width) store(row, c + i, q.x[i]);
}

/* A kernel of warp rows has row_blocks(rows) blocks of FLAT_THREADS; all threads of a warp have the same row. */
enum { ROWS_A_BLOCK = FLAT_THREADS / WARP, ROW_LANES = 4 * WARP };

__device__ __forceinline__ int64_t warp_row() {
  return (int64_t)blockIdx.x * ROWS_A_BLOCK + threadIdx.x / WARP;
}

/* The first element of the row that is this thread's; the next lie ROW_LANES further each. */
__device__ __forceinline__ int64_t row_start() {
  return threadIdx.x % WARP * 4;
}

/* The row sum of all lanes, known to all threads of the warp. */
__device__ __forceinline__ float row_total(quad lanes) {
#pragma unroll
  for (int distance = WARP / 2; distance > 0; distance /= 2)
#pragma unroll
    for (int i = 0; i < 4; i++) lanes.x[i] += __shfl_xor_sync(0xffffffffu, lanes.x[i], distance);
  return (lanes.x[0] + lanes.x[2]) + (lanes.x[1] + lanes.x[3]);
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

static inline int64_t row_blocks(int64_t rows) {
  return blocks_of(rows, ROWS_A_BLOCK);
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
