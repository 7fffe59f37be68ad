/* embedding.cu - rows of the token table, and their gradient in canonical order without float atomics.
 *
 * Backward sorts the rows by token, those of a token in ascending order: chunks in shared memory, then merges, in which every
 * key finds its own place. Then the first row of each token walks them, a thread a column: chains within a leaf, the tree over
 * all leaves with the absent ones left out. */
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

enum { SORT_KEYS = 1024, SORT_THREADS = SORT_KEYS / 2 };

/* The token's row among the blocks here << 32 | row; no two are the same. */
typedef unsigned long long sort_key;
#define TOKEN_ELSEWHERE 0xffffffffu

__device__ __forceinline__ uint32_t token_of(sort_key key) {
  return (uint32_t)(key >> 32);
}

__device__ __forceinline__ sort_key key_of(const gd_embedding *a, int64_t row) {
  if (row >= a->rows) return ~0ull; /* behind all others */
  int64_t token = a->tokens[row] - a->first_block * a->block_rows;
  bool here = token >= 0 && token < a->blocks * a->block_rows;
  return (sort_key)(here ? (uint32_t)token : TOKEN_ELSEWHERE) << 32 | (sort_key)row;
}

/* Batcher's bitonic sort of SORT_KEYS rows. */
static __global__ void sort_chunk(gd_embedding a, sort_key *keys) {
  __shared__ sort_key held[SORT_KEYS];
  int64_t first = (int64_t)blockIdx.x * SORT_KEYS;
  int thread = (int)threadIdx.x;
  for (int i = thread; i < SORT_KEYS; i += SORT_THREADS) held[i] = key_of(&a, first + i);
  for (int size = 2; size <= SORT_KEYS; size *= 2)
    for (int stride = size / 2; stride > 0; stride /= 2) {
      int low = 2 * thread - (thread & (stride - 1)), high = low + stride;
      __syncthreads();
      sort_key x = held[low], y = held[high];
      if ((x > y) == ((low & size) == 0)) {
        held[low] = y;
        held[high] = x;
      }
    }
  __syncthreads();
  for (int i = thread; i < SORT_KEYS; i += SORT_THREADS)
    if (first + i < a.rows) keys[first + i] = held[i];
}

/* Merges neighbouring sorted runs of `length` keys. */
static __global__ void merge_runs(const sort_key *from, sort_key *to, int64_t count, int64_t length) {
  int64_t i = flat_index();
  if (i >= count) return;
  int64_t run = i / length, other = (run ^ 1) * length, low = other, high = other + length < count ? other + length : count;
  sort_key key = from[i];
  while (low < high) { /* the other run's first key above this one */
    int64_t middle = (low + high) / 2;
    if (from[middle] < key)
      low = middle + 1;
    else
      high = middle;
  }
  to[run / 2 * 2 * length + i % length + (low - other)] = key;
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

/* Block (place among the keys, column chunk); only the first key of a token works. */
template <typename T>
static __global__ void walk_keys(gd_embedding a, const sort_key *keys) {
  int64_t i = blockIdx.x, c = (int64_t)blockIdx.y * FLAT_THREADS + threadIdx.x;
  uint32_t token = token_of(keys[i]);
  if (token == TOKEN_ELSEWHERE || (i > 0 && token_of(keys[i - 1]) == token) || c >= a.width) return;
  const T *dx = (const T *)a.dx;
  float *gradient = a.gradient + token / a.block_rows * a.block_stride + token % a.block_rows * a.width + c;
  present_tree tree;
  tree.depth = 0;
  float chain = 0.0f;
  int64_t leaf = (int64_t)(uint32_t)keys[i] / a.leaf_rows;
  for (; i < a.rows && token_of(keys[i]) == token; i++) {
    int64_t row = (int64_t)(uint32_t)keys[i];
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

/* The sorted keys, in one of the two buffers. */
static gd_status sort_rows(const gd_embedding *a, sort_key *keys, sort_key *others, cudaStream_t stream, sort_key **out) {
  unsigned blocks = (unsigned)blocks_of(a->rows, FLAT_THREADS);
  sort_chunk<<<(unsigned)blocks_of(a->rows, SORT_KEYS), SORT_THREADS, 0, stream>>>(*a, keys);
  GD_TRY(launched("embedding_backward"));
  for (int64_t length = SORT_KEYS; length < a->rows; length *= 2) {
    merge_runs<<<blocks, FLAT_THREADS, 0, stream>>>(keys, others, a->rows, length);
    GD_TRY(launched("embedding_backward"));
    sort_key *swap = keys;
    keys = others;
    others = swap;
  }
  *out = keys;
  return GD_OK;
}

gd_status gd_cuda_embedding_backward(gd_kernels *kernels, const gd_embedding *args) {
  const gd_cuda_state *state = gd_cuda_state_of(kernels);
  cudaStream_t stream = enter(kernels);
  int64_t most = (int64_t)(state->scratch_bytes / (2 * sizeof(sort_key)));
  if (args->rows > most)
    return gd_fail(GD_USAGE, "a micro-batch of %lld tokens is too long for the embedding (most: %lld)", (long long)args->rows,
                   (long long)most);
  if (!args->accumulate) GD_TRY(clear_tables(args, stream));
  if (args->rows == 0 || args->width == 0) return GD_OK;
  sort_key *keys = (sort_key *)state->scratch;
  int64_t chunks = blocks_of(args->width, FLAT_THREADS);
  GD_TRY(check_grid("embedding_backward", args->rows, chunks));
  GD_TRY(sort_rows(args, keys, keys + args->rows, stream, &keys));
  dim3 grid((unsigned)args->rows, (unsigned)chunks);
  WITH_STORED(args->dtype, "embedding_backward", walk_keys<T><<<grid, FLAT_THREADS, 0, stream>>>(*args, keys));
  return launched("embedding_backward");
}
