/* gemm_bf16.cu - the bfloat16 product of `invariant` on tensor cores (docs/rounding.md): an element of a leaf is one chain of
 * steps of 16 terms from the leaf's start on, whatever the tile, the number of rows and the way its operands come to shared
 * memory. Leaves as in gemm.cu. Copies of the next steps are under way while this one is multiplied. Not run on a GPU. */
#include "trainer/kernels/cuda/mma_tile.cuh"

enum {
  STEP = 32, /* of k in shared memory at a time: two steps of a chain */
  STAGES = 3,
  SMALL_TILE = 64, /* or twice as much */
};

/* Element (k, x) is base[k * ld + x], or base[x * ld + k] where rows are along k. */
typedef struct operand {
  const bf16 *base;
  int64_t ld;
  int64_t count; /* rows of C for A, columns for B */
  bool wide;     /* chunks are aligned */
} operand;

/* Starts the way of one step to `to`: rows of STEP along k, or STEP rows along x; zeros past the ends. */
template <int TILE, bool ALONG_K>
__device__ __forceinline__ void fetch_tile(const operand &o, int64_t k, int64_t k_end, int64_t x, uint4 *to) {
  enum { COLUMNS = ALONG_K ? STEP : TILE, CHUNKS = COLUMNS / CHUNK8 };
#pragma unroll
  for (int g = 0; g < TILE * STEP / CHUNK8 / FLAT_THREADS; g++) {
    int i = (int)threadIdx.x + g * FLAT_THREADS, row = i / CHUNKS, chunk = i % CHUNKS;
    int64_t r = (ALONG_K ? x : k) + row, c = (ALONG_K ? k : x) + chunk * CHUNK8;
    int64_t rows = ALONG_K ? o.count : k_end, columns = ALONG_K ? k_end : o.count;
    bool some = r < rows && c < columns;
    tile_copy(to + tile_at<COLUMNS>(row, chunk), some ? o.base + r * o.ld + c : o.base, some ? columns - c : 0, o.wide);
  }
}

/* sums += one step of the chains: the warp's TILE / 2 rows and TILE / 4 columns from row and column on, inner index at `k`. */
template <int TILE, bool A_ALONG_K, bool B_ALONG_K>
__device__ __forceinline__ void add_step(const uint4 *a, const uint4 *b, int row, int column, int k,
                                         mma_sums (*sums)[TILE / 32]) {
  uint32_t left[TILE / 32][4], right[TILE / 64][4];
#pragma unroll
  for (int i = 0; i < TILE / 32; i++)
    if (A_ALONG_K)
      load_left<STEP>(a, row + i * MMA, k / CHUNK8, left[i]);
    else
      load_left_across<TILE>(a, k, (row + i * MMA) / CHUNK8, left[i]);
#pragma unroll
  for (int j = 0; j < TILE / 64; j++)
    if (B_ALONG_K)
      load_right_across<STEP>(b, column + j * MMA, k / CHUNK8, right[j]);
    else
      load_right<TILE>(b, k, (column + j * MMA) / CHUNK8, right[j]);
#pragma unroll
  for (int i = 0; i < TILE / 32; i++)
#pragma unroll
    for (int j = 0; j < TILE / 32; j++) mma_add(left[i], right[j / 2] + j % 2 * 2, &sums[i][j]);
}

/* One TILE x TILE part of one leaf by 2 x 4 warps; blockIdx.x: tiles of C row by row, blockIdx.y: the leaf. */
template <int TILE, bool A_ALONG_K, bool B_ALONG_K, typename C>
static __global__ void __launch_bounds__(FLAT_THREADS, 2) multiply(gd_cuda_gemm g) {
  enum { TILE_CHUNKS = TILE * STEP / CHUNK8 };
  __shared__ uint4 left[STAGES][TILE_CHUNKS];
  __shared__ uint4 right[STAGES][TILE_CHUNKS];
  int64_t across = (g.n + TILE - 1) / TILE, row = blockIdx.x / across * TILE, column = blockIdx.x % across * TILE;
  int64_t outer = blockIdx.y / g.inner, start = blockIdx.y % g.inner * g.k_leaf;
  int64_t end = start + g.k_leaf < g.k ? start + g.k_leaf : g.k, steps = (end - start + STEP - 1) / STEP;
  operand a = {(const bf16 *)g.a + outer * g.a_leaf_stride, g.lda, g.m, g.a_wide};
  operand b = {(const bf16 *)g.b + outer * g.b_leaf_stride, g.ldb, g.n, g.b_wide};
  C *c = (C *)g.c + blockIdx.y * g.c_leaf_stride;
  int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
  int warp_row = warp / 4 * (TILE / 2), warp_column = warp % 4 * (TILE / 4);
  int64_t first_row = row + warp_row + lane / 4, first_column = column + warp_column + lane % 4 * 2;
  mma_sums sums[TILE / 32][TILE / 32] = {}; /* x[2 h + e] of [i][j]: row i * 16 + h * 8, column j * 8 + e */
  if (g.accumulate) {
#pragma unroll
    for (int i = 0; i < TILE / 32; i++)
#pragma unroll
      for (int j = 0; j < TILE / 32; j++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
          int64_t r = first_row + i * MMA + e / 2 * 8, x = first_column + j * 8 + e % 2;
          if (r < g.m && x < g.n) sums[i][j].x[e] = load(c, r * g.ldc + x);
        }
  }
  for (int s = 0; s < STAGES - 1; s++) {
    int64_t k = start + s * STEP;
    if (s < steps) fetch_tile<TILE, A_ALONG_K>(a, k, end, row, left[s]);
    if (s < steps) fetch_tile<TILE, B_ALONG_K>(b, k, end, column, right[s]);
    copy_commit();
  }
  int stage = 0, ahead = STAGES - 1;
  for (int64_t s = 0; s < steps; s++) {
    copy_wait<STAGES - 2>();
    __syncthreads(); /* this step is there, and the one before was read */
    if (s + STAGES - 1 < steps) {
      int64_t k = start + (s + STAGES - 1) * STEP;
      fetch_tile<TILE, A_ALONG_K>(a, k, end, row, left[ahead]);
      fetch_tile<TILE, B_ALONG_K>(b, k, end, column, right[ahead]);
    }
    copy_commit();
#pragma unroll
    for (int k = 0; k < STEP; k += MMA)
      add_step<TILE, A_ALONG_K, B_ALONG_K>(left[stage], right[stage], warp_row, warp_column, k, sums);
    stage = stage + 1 < STAGES ? stage + 1 : 0;
    ahead = ahead + 1 < STAGES ? ahead + 1 : 0;
  }
#pragma unroll
  for (int j = 0; j < TILE / 32; j++) {
    int64_t x = first_column + j * 8, left_over = g.n - x;
    float shift[2] = {};
#pragma unroll
    for (int e = 0; e < 2; e++)
      if (g.bias && e < left_over) shift[e] = load((const bf16 *)g.bias, x + e);
#pragma unroll
    for (int i = 0; i < TILE / 32; i++)
#pragma unroll
      for (int h = 0; h < 2; h++) {
        int64_t r = first_row + i * MMA + h * 8;
        float low = sums[i][j].x[2 * h], high = sums[i][j].x[2 * h + 1];
        if (g.bias) low += shift[0], high += shift[1];
        if (r < g.m) store_pair(c + r * g.ldc + x, left_over, low, high);
      }
  }
}

template <int TILE, typename C>
static void launch(const gd_cuda_gemm *g, unsigned tiles, unsigned leaves, cudaStream_t stream) {
  dim3 grid(tiles, leaves);
  switch (g->form) {
    case GD_MATMUL_NT: multiply<TILE, true, true, C><<<grid, FLAT_THREADS, 0, stream>>>(*g); return;
    case GD_MATMUL_NN: multiply<TILE, true, false, C><<<grid, FLAT_THREADS, 0, stream>>>(*g); return;
    case GD_MATMUL_TN: multiply<TILE, false, false, C><<<grid, FLAT_THREADS, 0, stream>>>(*g); return;
  }
}

/* along_k: inner leaves start inside rows. */
static bool is_wide(const void *base, int64_t ld, int64_t leaf_stride, bool along_k, const gd_cuda_gemm *g) {
  return (uintptr_t)base % CHUNK_BYTES == 0 && ld % CHUNK8 == 0 && leaf_stride % CHUNK8 == 0 &&
         (!along_k || g->inner == 1 || g->k_leaf % CHUNK8 == 0);
}

gd_status gd_cuda_gemm_bf16_run(gd_kernels *kernels, const gd_cuda_gemm *args) {
  enum { BUSY = 160 }; /* blocks that fill a GPU of 8.0 or 9.0 */
  gd_cuda_gemm g = *args;
  int64_t leaves = g.leaves * g.inner;
  int64_t large = blocks_of(g.m, 2 * SMALL_TILE) * blocks_of(g.n, 2 * SMALL_TILE);
  int64_t small = blocks_of(g.m, SMALL_TILE) * blocks_of(g.n, SMALL_TILE);
  bool large_tile = g.m > SMALL_TILE && g.n > SMALL_TILE && large * leaves >= BUSY; /* no bit depends on it */
  g.a_wide = is_wide(g.a, g.lda, g.a_leaf_stride, g.form != GD_MATMUL_TN, args);
  g.b_wide = is_wide(g.b, g.ldb, g.b_leaf_stride, g.form == GD_MATMUL_NT, args);
  GD_TRY(check_grid("matmul", large_tile ? large : small, leaves));
  cudaStream_t stream = enter(kernels);
  WITH_STORED(g.c_dtype, "matmul", {
    if (large_tile)
      launch<2 * SMALL_TILE, T>(&g, (unsigned)large, (unsigned)leaves, stream);
    else
      launch<SMALL_TILE, T>(&g, (unsigned)small, (unsigned)leaves, stream);
  });
  return launched("matmul");
}
