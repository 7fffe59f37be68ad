/* embedding.cu - rows of the token table, and their gradient in canonical order without float atomics.
 *
 * Backward links the rows that hold the same token into lists in ascending order: a warp a row looks for the next row of its
 * token, so every link has one writer and the lists do not depend on timing. Then the first row of each list walks it, a thread
 * a column: chains within a leaf, the tree over all leaves with the absent ones left out. */
#include "trainer/kernels/cuda/common.cuh"

/* Where the token's row lies among the blocks here, in elements from the start of the table; -1: not here. */
__device__ __forceinline__ int64_t table_at(const gd_embedding *a, int32_t token) {
  int64_t block = token / a->block_rows - a->first_block;
  if (token < 0 || block < 0 || block >= a->blocks) return -1;
  return block * a->block_stride + token % a->block_rows * a->width;
}

template <typename T>
static __global__ void look_up(gd_embedding a) {
  int64_t i = flat_index();
  if (i >= a.rows * a.width) return;
  int64_t row = i / a.width, c = i % a.width, at = table_at(&a, a.tokens[row]);
  a.out[i] = at >= 0 ? load((const T *)a.weight, at + c) + 0.0f : 0.0f;
}

/* next[row] = the next row of the same token or -1; inner[that row] = 1. A warp a row; inner starts as zero. */
static __global__ void link_rows(gd_embedding a, int32_t *next, int32_t *inner) {
  int64_t row = (int64_t)blockIdx.x * (FLAT_THREADS / WARP) + threadIdx.x / WARP;
  if (row >= a.rows) return; /* the whole warp */
  int32_t token = a.tokens[row];
  if (table_at(&a, token) < 0) return;
  int lane = threadIdx.x % WARP;
  int64_t found = -1;
  for (int64_t base = row + 1; base < a.rows && found < 0; base += WARP) {
    bool same = base + lane < a.rows && a.tokens[base + lane] == token;
    unsigned hits = __ballot_sync(0xffffffffu, same);
    if (hits) found = base + __ffs((int)hits) - 1;
  }
  if (lane != 0) return;
  next[row] = (int32_t)found;
  if (found >= 0) inner[found] = 1;
}

/* The canonical tree over numbered leaves of which some are absent: an absent leaf adds nothing and the others keep their
 * places. Two neighbours meet in the node of the highest bit in which their numbers differ; the bits on the stack fall towards
 * its top. */
typedef struct present_tree {
  float values[TREE_DEPTH];
  int bits[TREE_DEPTH]; /* where a value meets the one below it */
  int depth;
  int64_t last;
} present_tree;

__device__ __forceinline__ void merge_top(present_tree *t) {
  t->depth--;
  t->values[t->depth - 1] = t->values[t->depth - 1] + t->values[t->depth];
}

/* Leaves enter in ascending order. */
__device__ __forceinline__ void present_push(present_tree *t, int64_t leaf, float value) {
  int bit = t->depth > 0 ? 63 - __clzll(leaf ^ t->last) : 0;
  while (t->depth > 1 && t->bits[t->depth - 1] < bit) merge_top(t);
  t->values[t->depth] = value;
  t->bits[t->depth++] = bit;
  t->last = leaf;
}

/* Block (row, column chunk); only rows that start a list work. */
template <typename T>
static __global__ void walk_lists(gd_embedding a, const int32_t *next, const int32_t *inner) {
  int64_t row = blockIdx.x, c = (int64_t)blockIdx.y * FLAT_THREADS + threadIdx.x;
  int64_t at = table_at(&a, a.tokens[row]);
  if (at < 0 || inner[row] || c >= a.width) return;
  const T *dx = (const T *)a.dx;
  float *gradient = a.gradient + at + c;
  present_tree tree;
  tree.depth = 0;
  float chain = 0.0f;
  int64_t leaf = row / a.leaf_rows;
  for (; row >= 0; row = next[row]) {
    if (row / a.leaf_rows != leaf) {
      present_push(&tree, leaf, chain);
      chain = 0.0f;
      leaf = row / a.leaf_rows;
    }
    chain += load(dx, row * a.width + c);
  }
  present_push(&tree, leaf, chain);
  while (tree.depth > 1) merge_top(&tree);
  *gradient = a.accumulate ? *gradient + tree.values[0] : tree.values[0];
}

gd_status gd_cuda_embedding_forward(gd_kernels *kernels, const gd_embedding *args) {
  int64_t blocks = blocks_of(args->rows * args->width, FLAT_THREADS);
  if (blocks == 0) return GD_OK;
  GD_TRY(check_grid("embedding_forward", blocks));
  cudaStream_t stream = enter(kernels);
  WITH_STORED(args->dtype, "embedding_forward", look_up<T><<<(unsigned)blocks, FLAT_THREADS, 0, stream>>>(*args));
  return launched("embedding_forward");
}

static gd_status clear_tables(const gd_embedding *a, cudaStream_t stream) {
  size_t bytes = (size_t)(a->block_rows * a->width) * sizeof(float);
  for (int32_t block = 0; block < a->blocks; block++) {
    cudaError_t error = cudaMemsetAsync(a->gradient + block * a->block_stride, 0, bytes, stream);
    if (error != cudaSuccess) return gd_cuda_fault(error, "embedding_backward");
  }
  return GD_OK;
}

gd_status gd_cuda_embedding_backward(gd_kernels *kernels, const gd_embedding *args) {
  const gd_cuda_state *state = gd_cuda_state_of(kernels);
  cudaStream_t stream = enter(kernels);
  int64_t most = (int64_t)(state->scratch_bytes / (2 * sizeof(int32_t)));
  if (args->rows > most)
    return gd_fail(GD_USAGE, "a micro-batch of %lld tokens is too long for the embedding (most: %lld)", (long long)args->rows,
                   (long long)most);
  if (!args->accumulate) GD_TRY(clear_tables(args, stream));
  if (args->rows == 0 || args->width == 0) return GD_OK;
  int32_t *next = (int32_t *)state->scratch, *inner = next + args->rows;
  cudaError_t error = cudaMemsetAsync(inner, 0, (size_t)args->rows * sizeof(int32_t), stream);
  if (error != cudaSuccess) return gd_cuda_fault(error, "embedding_backward");
  int64_t chunks = blocks_of(args->width, FLAT_THREADS);
  GD_TRY(check_grid("embedding_backward", args->rows, chunks));
  link_rows<<<(unsigned)blocks_of(args->rows, FLAT_THREADS / WARP), FLAT_THREADS, 0, stream>>>(*args, next, inner);
  GD_TRY(launched("embedding_backward"));
  dim3 grid((unsigned)args->rows, (unsigned)chunks);
  WITH_STORED(args->dtype, "embedding_backward", walk_lists<T><<<grid, FLAT_THREADS, 0, stream>>>(*args, next, inner));
  return launched("embedding_backward");
}
