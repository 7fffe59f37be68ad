/* gemm.cu - the float32 product whose elements are the CPU's chains, and the end of a product made of leaves.
 *
 * A block of threads owns TILE x TILE elements of one leaf's product; a thread keeps its part of them in registers and adds k
 * ascending, so an element is one chain of fused multiply-adds, whatever the tile it lies in. Nothing is split along k but what
 * the call says: each leaf is a product of its own (blockIdx.y), the tree over leaves a second kernel. */
#include "trainer/kernels/cuda/common.cuh"

enum {
  STEP = 16,      /* of k in shared memory at a time */
  QUAD_TILE = 64, /* 16 x 16 threads of 4 x 4 elements; a tile is 1 or 2 of them each way */
  PAD = 4,        /* floats between rows of a tile in shared memory */
};

/* Element (k, x) of an operand is base[k * k_stride + x * x_stride], one of the strides being 1. */
typedef struct operand {
  const float *base;
  int64_t k_stride, x_stride;
  int64_t count; /* rows of C for A, columns for B */
  bool wide;     /* four neighbours may be read at once */
} operand;

/* What a thread moves from memory to a tile: GROUPS quads of neighbours, along k or along x. */
template <int GROUPS>
struct move {
  quad quads[GROUPS];
};

template <bool ALONG_K>
__device__ __forceinline__ quad fetch(const operand *o, int64_t k, int64_t k_end, int64_t x) {
  quad q = {};
  int64_t left = ALONG_K ? (x < o->count ? k_end - k : 0) : (k < k_end ? o->count - x : 0);
  const float *p = o->base + k * o->k_stride + x * o->x_stride;
  if (o->wide && left >= 4) return load_aligned(p);
#pragma unroll
  for (int i = 0; i < 4; i++)
    if (i < left) q.x[i] = p[i];
  return q;
}

/* Quad number `i` of a tile: where it starts. Threads that are neighbours read neighbours. */
template <int TILE, bool ALONG_K>
__device__ __forceinline__ void place(int i, int *k, int *x) {
  *k = ALONG_K ? i % (STEP / 4) * 4 : i / (TILE / 4);
  *x = ALONG_K ? i / (STEP / 4) : i % (TILE / 4) * 4;
}

template <int TILE, bool ALONG_K>
__device__ __forceinline__ void fetch_tile(const operand *o, int64_t k, int64_t k_end, int64_t x, move<TILE / QUAD_TILE> *to) {
#pragma unroll
  for (int g = 0; g < TILE / QUAD_TILE; g++) {
    int in_k, in_x;
    place<TILE, ALONG_K>((int)threadIdx.x + g * FLAT_THREADS, &in_k, &in_x);
    to->quads[g] = fetch<ALONG_K>(o, k + in_k, k_end, x + in_x);
  }
}

template <int TILE, bool ALONG_K>
__device__ __forceinline__ void store_tile(const move<TILE / QUAD_TILE> &from, float (*to)[TILE + PAD]) {
#pragma unroll
  for (int g = 0; g < TILE / QUAD_TILE; g++) {
    int k, x;
    place<TILE, ALONG_K>((int)threadIdx.x + g * FLAT_THREADS, &k, &x);
    if (ALONG_K) {
#pragma unroll
      for (int i = 0; i < 4; i++) to[k + i][x] = from.quads[g].x[i];
    } else {
      store_aligned(&to[k][x], from.quads[g]);
    }
  }
}

/* sums += one step of k. */
template <int TILE>
__device__ __forceinline__ void add_step(const float *a, const float *b, quad (*sums)[TILE / QUAD_TILE]) {
  quad left[TILE / QUAD_TILE], right[TILE / QUAD_TILE];
#pragma unroll
  for (int g = 0; g < TILE / QUAD_TILE; g++) {
    left[g] = load_aligned(a + g * QUAD_TILE);
    right[g] = load_aligned(b + g * QUAD_TILE);
  }
#pragma unroll
  for (int i = 0; i < TILE / 16; i++)
#pragma unroll
    for (int g = 0; g < TILE / QUAD_TILE; g++)
#pragma unroll
      for (int j = 0; j < 4; j++) sums[i][g].x[j] = __fmaf_rn(left[i / 4].x[i % 4], right[g].x[j], sums[i][g].x[j]);
}

__device__ __forceinline__ operand operand_of(const float *base, int64_t ld, bool along_k, int64_t count, bool wide) {
  return {base, along_k ? 1 : ld, along_k ? ld : 1, count, wide};
}

/* One TILE x TILE part of one leaf; blockIdx.x: tiles of C row by row, blockIdx.y: the leaf. */
template <int TILE, bool A_ALONG_K, bool B_ALONG_K>
static __global__ void __launch_bounds__(FLAT_THREADS) multiply(gd_cuda_gemm g) {
  __shared__ float4 left_tiles[2][STEP][(TILE + PAD) / 4];
  __shared__ float4 right_tiles[2][STEP][(TILE + PAD) / 4];
  typedef float tile[STEP][TILE + PAD];
  tile *left = (tile *)left_tiles, *right = (tile *)right_tiles;
  int64_t across = (g.n + TILE - 1) / TILE, row = blockIdx.x / across * TILE, column = blockIdx.x % across * TILE;
  int64_t outer = blockIdx.y / g.inner, start = blockIdx.y % g.inner * g.k_leaf;
  int64_t end = start + g.k_leaf < g.k ? start + g.k_leaf : g.k;
  operand a = operand_of((const float *)g.a + outer * g.a_leaf_stride, g.lda, A_ALONG_K, g.m, g.a_wide);
  operand b = operand_of((const float *)g.b + outer * g.b_leaf_stride, g.ldb, B_ALONG_K, g.n, g.b_wide);
  int thread_row = (int)threadIdx.x / 16 * 4, thread_column = (int)threadIdx.x % 16 * 4;
  float *c = (float *)g.c + blockIdx.y * g.c_leaf_stride;
  quad sums[TILE / 16][TILE / QUAD_TILE] = {}; /* row i: thread_row + i % 4 + i / 4 * QUAD_TILE */
  if (g.accumulate) {
#pragma unroll
    for (int i = 0; i < TILE / 16; i++)
#pragma unroll
      for (int q = 0; q < TILE / QUAD_TILE; q++) {
        int64_t r = row + thread_row + i % 4 + i / 4 * QUAD_TILE;
        if (r < g.m) sums[i][q] = load_quad(c + r * g.ldc, column + thread_column + q * QUAD_TILE, g.n);
      }
  }
  move<TILE / QUAD_TILE> next_left, next_right;
  fetch_tile<TILE, A_ALONG_K>(&a, start, end, row, &next_left);
  fetch_tile<TILE, B_ALONG_K>(&b, start, end, column, &next_right);
  int half = 0;
  for (int64_t k = start; k < end; k += STEP, half ^= 1) {
    /* The other half is still read by those who come late; this one was read before the last barrier. */
    store_tile<TILE, A_ALONG_K>(next_left, left[half]);
    store_tile<TILE, B_ALONG_K>(next_right, right[half]);
    __syncthreads();
    if (k + STEP < end) {
      fetch_tile<TILE, A_ALONG_K>(&a, k + STEP, end, row, &next_left);
      fetch_tile<TILE, B_ALONG_K>(&b, k + STEP, end, column, &next_right);
    }
    const float *from_left = &left[half][0][thread_row], *from_right = &right[half][0][thread_column];
    if (k + STEP <= end) {
#pragma unroll
      for (int s = 0; s < STEP; s++) add_step<TILE>(from_left + s * (TILE + PAD), from_right + s * (TILE + PAD), sums);
    } else { /* a zero added to -0 would make it +0 */
      for (int s = 0; s < (int)(end - k); s++)
        add_step<TILE>(from_left + s * (TILE + PAD), from_right + s * (TILE + PAD), sums);
    }
  }
#pragma unroll
  for (int i = 0; i < TILE / 16; i++)
#pragma unroll
    for (int q = 0; q < TILE / QUAD_TILE; q++) {
      int64_t r = row + thread_row + i % 4 + i / 4 * QUAD_TILE, x = column + thread_column + q * QUAD_TILE;
      if (r >= g.m) continue;
      quad sum = sums[i][q];
      if (g.bias) {
        quad shift = load_quad((const float *)g.bias, x, g.n);
#pragma unroll
        for (int j = 0; j < 4; j++) sum.x[j] += shift.x[j];
      }
      store_quad(c + r * g.ldc, x, g.n, sum);
    }
}

/* ---- the tree over leaves ---- */

template <typename T, typename B>
static __global__ void finish_flat(gd_cuda_finish a) {
  int64_t i = flat_index();
  if (i >= a.rows * a.columns) return;
  int64_t row = i / a.columns, column = i % a.columns;
  const float *leaf = a.sum + row * a.sum_ld + column;
  float outer_stack[TREE_DEPTH];
  int outer_depth = 0;
  for (int64_t outer = 0; outer < a.leaves; outer++) {
    float inner_stack[TREE_DEPTH];
    int inner_depth = 0;
    for (int64_t inner = 0; inner < a.inner; inner++, leaf += a.leaf_stride) tree_push(inner_stack, &inner_depth, inner, *leaf);
    tree_push(outer_stack, &outer_depth, outer, tree_root(inner_stack, inner_depth));
  }
  float x = tree_root(outer_stack, outer_depth);
  if (a.bias) x += load((const B *)a.bias, column);
  store((T *)a.c, row * a.ldc + column, x);
}

template <int TILE>
static void launch(const gd_cuda_gemm *g, unsigned tiles, unsigned leaves, cudaStream_t stream) {
  dim3 grid(tiles, leaves);
  switch (g->form) {
    case GD_MATMUL_NT: multiply<TILE, true, true><<<grid, FLAT_THREADS, 0, stream>>>(*g); return;
    case GD_MATMUL_NN: multiply<TILE, true, false><<<grid, FLAT_THREADS, 0, stream>>>(*g); return;
    case GD_MATMUL_TN: multiply<TILE, false, false><<<grid, FLAT_THREADS, 0, stream>>>(*g); return;
  }
}

static bool is_wide(const void *base, int64_t ld, int64_t leaf_stride) {
  return (uintptr_t)base % (4 * sizeof(float)) == 0 && ld % 4 == 0 && leaf_stride % 4 == 0;
}

gd_status gd_cuda_gemm_run(gd_kernels *kernels, const gd_cuda_gemm *args) {
  enum { BUSY = 160 }; /* blocks that fill a GPU of 8.0 or 9.0 */
  gd_cuda_gemm g = *args;
  int64_t leaves = g.leaves * g.inner;
  int64_t large = blocks_of(g.m, 2 * QUAD_TILE) * blocks_of(g.n, 2 * QUAD_TILE);
  int64_t small = blocks_of(g.m, QUAD_TILE) * blocks_of(g.n, QUAD_TILE);
  bool wide_tile = g.m > QUAD_TILE && g.n > QUAD_TILE && large * leaves >= BUSY; /* no bit depends on it */
  bool a_along_k = g.form != GD_MATMUL_TN, b_along_k = g.form == GD_MATMUL_NT;
  g.a_wide = is_wide(g.a, g.lda, g.a_leaf_stride) && (!a_along_k || g.inner == 1 || g.k_leaf % 4 == 0);
  g.b_wide = is_wide(g.b, g.ldb, g.b_leaf_stride) && (!b_along_k || g.inner == 1 || g.k_leaf % 4 == 0);
  GD_TRY(check_grid("matmul", wide_tile ? large : small, leaves));
  cudaStream_t stream = enter(kernels);
  if (wide_tile)
    launch<2 * QUAD_TILE>(&g, (unsigned)large, (unsigned)leaves, stream);
  else
    launch<QUAD_TILE>(&g, (unsigned)small, (unsigned)leaves, stream);
  return launched("matmul");
}

gd_status gd_cuda_matmul_finish(gd_kernels *kernels, const gd_cuda_finish *args) {
  int64_t blocks = blocks_of(args->rows * args->columns, FLAT_THREADS);
  if (blocks == 0) return GD_OK;
  GD_TRY(check_grid("matmul", blocks));
  cudaStream_t stream = enter(kernels);
  unsigned grid = (unsigned)blocks;
  WITH_STORED(args->c_dtype, "matmul", {
    if (args->bias_dtype == GD_BFLOAT16)
      finish_flat<T, bf16><<<grid, FLAT_THREADS, 0, stream>>>(*args);
    else
      finish_flat<T, float><<<grid, FLAT_THREADS, 0, stream>>>(*args);
  });
  return launched("matmul");
}
