/* attention.cuh - what the attention kernels share: tiles of 64 query rows against 64 keys, products of tiles, what a row sees.
 *
 * A block has 256 threads; thread (y, x) = (t / 16, t % 16) holds rows 4 y to 4 y + 3 and columns 4 x to 4 x + 3 of a tile. Key
 * tiles lie at absolute multiples, as on the CPU (cpu/attention.h). Every element of a product is one chain over its inner
 * index ascending, in float32; a key that a row does not see only adds zeros, and the sign of a zero is made + at the end. */
#ifndef GD_TRAINER_KERNELS_CUDA_ATTENTION_CUH
#define GD_TRAINER_KERNELS_CUDA_ATTENTION_CUH

#include "trainer/kernels/cuda/common.cuh"
#include "trainer/kernels/cuda/math.cuh"

enum {
  TILE = 64,    /* query rows, and keys */
  CHUNK = 16,   /* of the inner index in shared memory at a time */
  TILE_LD = 68, /* floats between rows of a tile in shared memory */
  MAX_HEAD = 256,
};

/* Rows of one head: row r < count is base + r * stride, `width` elements. */
template <typename T>
struct head_rows {
  const T *base;
  int64_t stride;
  int count;
};

template <typename T>
__device__ __forceinline__ head_rows<T> rows_of(const void *base, int64_t at, int64_t stride, int64_t count) {
  return {(const T *)base + at, stride, count < TILE ? (int)count : (int)TILE};
}

/* to[i][r] = element d + i of row r, i < CHUNK; +0 past the ends. Each thread moves four neighbours. */
template <typename T>
__device__ __forceinline__ void stage_columns(const head_rows<T> &rows, int d, int width, float (*to)[TILE_LD]) {
  int r = (int)threadIdx.x / 4, i = (int)threadIdx.x % 4 * 4;
  quad q = {};
  if (r < rows.count && d + i < width) q = load_quad(rows.base + r * rows.stride, d + i, width);
#pragma unroll
  for (int j = 0; j < 4; j++) to[i + j][r] = q.x[j];
}

/* to[r * LD + i] = element first + i of row `row` + r, r < CHUNK, i < COLUMNS; +0 past the ends. */
template <int COLUMNS, int LD, typename T>
__device__ __forceinline__ void stage_rows(const head_rows<T> &rows, int row, int first, int width, float *to) {
  for (int n = (int)threadIdx.x; n < CHUNK * (COLUMNS / 4); n += FLAT_THREADS) {
    int r = n / (COLUMNS / 4), i = n % (COLUMNS / 4) * 4;
    quad q = {};
    if (row + r < rows.count && first + i < width) q = load_quad(rows.base + (row + r) * rows.stride, first + i, width);
    store_aligned(to + r * LD + i, q);
  }
}

/* sums[i] += left[i] * right, i < 4. */
__device__ __forceinline__ void add_outer(const quad &left, const quad &right, quad *sums) {
#pragma unroll
  for (int i = 0; i < 4; i++)
#pragma unroll
    for (int j = 0; j < 4; j++) sums[i].x[j] = __fmaf_rn(left.x[i], right.x[j], sums[i].x[j]);
}

/* sums = rows of x by rows of y, over the whole head. left and right: [CHUNK][TILE_LD]; all threads. */
template <typename T>
__device__ __forceinline__ void multiply_rows(const head_rows<T> &x, const head_rows<T> &y, int width, float (*left)[TILE_LD],
                                              float (*right)[TILE_LD], quad *sums) {
  int row = (int)threadIdx.x / 16 * 4, column = (int)threadIdx.x % 16 * 4;
#pragma unroll
  for (int i = 0; i < 4; i++) sums[i] = {};
  for (int d = 0; d < width; d += CHUNK) {
    __syncthreads(); /* what is written below was read above */
    stage_columns(x, d, width, left);
    stage_columns(y, d, width, right);
    __syncthreads();
    int steps = width - d < CHUNK ? width - d : CHUNK;
    for (int s = 0; s < steps; s++) add_outer(load_aligned(&left[s][row]), load_aligned(&right[s][column]), sums);
  }
}

/* sums[g] += the chain over TILE steps of left[step][row] * row `step` of `rows`, columns first + 64 g on; the thread's rows
 * and columns. right: [CHUNK][64 GROUPS + 4]; all threads. */
template <int GROUPS, typename T>
__device__ __forceinline__ void add_rows(float (*left)[TILE_LD], const head_rows<T> &rows, int first, int width, float *right,
                                         quad (*sums)[4]) {
  enum { COLUMNS = TILE * GROUPS, LD = COLUMNS + 4 };
  int row = (int)threadIdx.x / 16 * 4, column = (int)threadIdx.x % 16 * 4;
  for (int chunk = 0; chunk < TILE; chunk += CHUNK) {
    __syncthreads(); /* what is written below was read above; the left tile is whole */
    stage_rows<COLUMNS, LD>(rows, chunk, first, width, right);
    __syncthreads();
#pragma unroll
    for (int s = 0; s < CHUNK; s++) {
      quad weights = load_aligned(&left[chunk + s][row]);
#pragma unroll
      for (int g = 0; g < GROUPS; g++) add_outer(weights, load_aligned(right + s * LD + g * TILE + column), sums[g]);
    }
  }
}

/* ---- what a row sees ---- */

/* Keys low .. high and all below prefix; random: dropout's index of key 0. */
typedef struct row_view {
  int32_t low, high, prefix;
  int64_t random;
} row_view;

__device__ __forceinline__ int32_t query_position(const gd_attention &a, int64_t query) {
  return a.positions ? a.positions[query] : a.query_start + (int32_t)query;
}

/* Keys of a sequence, and where the first of them is. */
__device__ __forceinline__ int32_t keys_of(const gd_attention &a, int64_t sequence) {
  return a.starts ? a.starts[sequence] + a.query_length : a.key_length;
}
__device__ __forceinline__ int64_t keys_at(const gd_attention &a, int64_t sequence) {
  return (a.slots ? a.slots[sequence] : sequence) * a.kv_batch;
}

__device__ __forceinline__ row_view view_of(const gd_attention &a, int64_t sequence, int64_t query, int64_t head) {
  if (query >= a.query_length) return {0, -1, 0, 0};
  int32_t position = a.starts ? a.starts[sequence] + (int32_t)query : query_position(a, query), low = 0;
  int32_t keys = keys_of(a, sequence);
  if (a.document_starts) low = a.document_starts[sequence * a.query_length + query];
  row_view v;
  v.low = low > 0 ? low : 0;
  v.high = position < keys - 1 ? position : keys - 1;
  v.prefix = a.prefix_length < 0 ? 0 : a.prefix_length < keys ? a.prefix_length : keys;
  v.random = (((a.first_sequence + sequence) * a.all_heads + a.first_head + head) * a.query_total + position) * a.key_total;
  return v;
}

__device__ __forceinline__ bool sees(const row_view &v, int32_t key) {
  return (key >= v.low && key <= v.high) || key < v.prefix;
}

/* Whether the row sees a key of the tile at `key`. */
__device__ __forceinline__ bool sees_tile(const row_view &v, int32_t key) {
  return v.prefix > key || (v.high >= key && v.high >= v.low && v.low < key + TILE);
}

/* Whether any row of the block's tile sees a key of the tile at `key`; the same for all threads. */
__device__ __forceinline__ bool any_sees_tile(const row_view *views, int32_t key) {
  for (int r = 0; r < TILE; r++)
    if (sees_tile(views[r], key)) return true;
  return false;
}

/* The key tiles that rows of the tile may see lie in [first, end). */
__device__ __forceinline__ void tiles_seen(const row_view *views, int32_t *first, int32_t *end) {
  int32_t low = INT32_MAX, high = -1;
  for (int r = 0; r < TILE; r++) {
    if (views[r].prefix > 0) {
      low = 0;
      high = views[r].prefix - 1 > high ? views[r].prefix - 1 : high;
    }
    if (views[r].high < views[r].low) continue;
    low = views[r].low < low ? views[r].low : low;
    high = views[r].high > high ? views[r].high : high;
  }
  *first = high < 0 ? 0 : low / TILE;
  *end = high < 0 ? 0 : high / TILE + 1;
}

/* The factor of one weight. */
typedef struct weight_dropout {
  uint32_t threshold;
  float kept; /* 1 / (1 - p) */
} weight_dropout;

__device__ __forceinline__ float dropout_factor(const gd_attention &a, const weight_dropout &d, int64_t index) {
  return gd_rng_word(&a.rng, (uint64_t)index) < d.threshold ? 0.0f : d.kept;
}

static inline weight_dropout weight_dropout_of(const gd_attention *a) {
  return {gd_rng_dropout_threshold(a->dropout), 1.0f / (1.0f - a->dropout)};
}

/* Refuses what the kernels cannot do. */
static inline gd_status attention_check(const gd_attention *a) {
  if (a->head_size < 1 || a->head_size > MAX_HEAD)
    return gd_fail(GD_BUG, "attention: head size %d, expected 1 to %d", (int)a->head_size, (int)MAX_HEAD);
  if (a->kv_heads < 1 || a->heads % a->kv_heads)
    return gd_fail(GD_BUG, "attention: %d query heads over %d key/value heads", (int)a->heads, (int)a->kv_heads);
  return GD_OK;
}

/* Runs `call` with GROUPS the number of 64 columns that hold a head, at most `most`. */
#define WITH_GROUPS(columns, ...)       \
  do {                                  \
    if ((columns) <= TILE) {            \
      enum { GROUPS = 1 };              \
      __VA_ARGS__;                      \
    } else if ((columns) <= 2 * TILE) { \
      enum { GROUPS = 2 };              \
      __VA_ARGS__;                      \
    } else {                            \
      enum { GROUPS = 4 };              \
      __VA_ARGS__;                      \
    }                                   \
  } while (0)

#endif
