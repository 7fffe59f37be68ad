/* attention_mma.cuh - what the bfloat16 attention kernels share: blocks of 4 warps, each with 16 rows of a tile; products of
 * tiles in shared memory as chains of steps of 16 (docs/rounding.md). A thread holds of its warp's rows lane / 4 and that + 8,
 * and of every 8 columns two neighbours. Not run on a GPU. */
#ifndef GD_TRAINER_KERNELS_CUDA_ATTENTION_MMA_CUH
#define GD_TRAINER_KERNELS_CUDA_ATTENTION_MMA_CUH

#include "trainer/kernels/cuda/attention.cuh"
#include "trainer/kernels/cuda/mma_tile.cuh"

enum { MMA_WARPS = TILE / MMA, MMA_THREADS = MMA_WARPS * WARP };

/* Rows of one head in memory: of q, of out and dout, of k and v. wide: their chunks are aligned to 16 bytes. */
typedef struct wide_rows {
  bool q, out, kv;
} wide_rows;

static inline bool rows_are_wide(const void *base, int64_t row, int64_t batch, int32_t head_size) {
  return (uintptr_t)base % CHUNK_BYTES == 0 && row % CHUNK8 == 0 && batch % CHUNK8 == 0 && head_size % CHUNK8 == 0;
}

static inline wide_rows wide_rows_of(const gd_attention *a) {
  return {
      rows_are_wide(a->q, a->q_row, a->q_batch, a->head_size), rows_are_wide(a->dout, a->out_row, a->out_batch, a->head_size),
      rows_are_wide(a->k, a->kv_row, a->kv_batch, a->head_size) && rows_are_wide(a->v, a->kv_row, a->kv_batch, a->head_size)};
}

/* Starts the way of ROWS rows of `width` elements to a tile of COLUMNS: `count` from base on, stride apart, then zeros. */
template <int ROWS, int COLUMNS>
__device__ __forceinline__ void fetch_rows(const bf16 *base, int64_t stride, int64_t count, int width, bool wide, uint4 *to) {
  enum { CHUNKS = COLUMNS / CHUNK8 };
  for (int i = (int)threadIdx.x; i < ROWS * CHUNKS; i += MMA_THREADS) {
    int row = i / CHUNKS, chunk = i % CHUNKS;
    bool some = row < count && chunk * CHUNK8 < width;
    tile_copy(to + tile_at<COLUMNS>(row, chunk), some ? base + row * stride + chunk * CHUNK8 : base,
              some ? width - chunk * CHUNK8 : 0, wide);
  }
}

/* sums[j] = 16 rows of x from `row` on by rows 8 j to 8 j + 7 of y, over the whole head. */
template <int COLUMNS, int N>
__device__ __forceinline__ void multiply_rows(const uint4 *x, int row, const uint4 *y, int width, mma_sums (&sums)[N]) {
#pragma unroll
  for (int j = 0; j < N; j++) sums[j] = {};
#pragma unroll 2
  for (int d = 0; d < width; d += MMA) {
    uint32_t left[4], right[4];
    load_left<COLUMNS>(x, row, d / CHUNK8, left);
#pragma unroll
    for (int j = 0; j < N; j += 2) {
      load_right_across<COLUMNS>(y, j * 8, d / CHUNK8, right);
      mma_add(left, right, &sums[j]);
      mma_add(left, right + 2, &sums[j + 1]);
    }
  }
}

/* sums[c] += weights, 16 rows of N / 2 steps, by rows 0 to 8 N - 1 of y, columns first + 8 c on. The weights are rounded. */
template <int COLUMNS, int N, int OUT>
__device__ __forceinline__ void add_rows(const mma_sums (&weights)[N], const uint4 *y, int first, int width,
                                         mma_sums (&sums)[OUT]) {
#pragma unroll
  for (int s = 0; s < N; s += 2) {
    const uint32_t left[4] = {mma_pack(weights[s].x[0], weights[s].x[1]), mma_pack(weights[s].x[2], weights[s].x[3]),
                              mma_pack(weights[s + 1].x[0], weights[s + 1].x[1]),
                              mma_pack(weights[s + 1].x[2], weights[s + 1].x[3])};
#pragma unroll
    for (int c = 0; c < OUT; c += 2) {
      if (first + c * 8 >= width) continue;
      uint32_t right[4];
      load_right<COLUMNS>(y, s * 8, first / CHUNK8 + c, right);
      mma_add(left, right, &sums[c]);
      mma_add(left, right + 2, &sums[c + 1]);
    }
  }
}

/* The first key from `key` on, a multiple of KEYS, whose tile a row of the block sees; `end` if there is none. */
template <int KEYS>
__device__ __forceinline__ int32_t next_keys(const row_view *views, int32_t key, int32_t end) {
  while (key < end && !any_sees_tile(views, key / TILE * TILE)) key += KEYS;
  return key;
}

/* The kernel of the next launch takes that much dynamic shared memory. */
template <typename F>
static inline gd_status ask_shared(F *kernel, int bytes) {
  cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  (void)kernel;
  return error == cudaSuccess ? GD_OK : gd_cuda_fault(error, "attention");
}

#endif
