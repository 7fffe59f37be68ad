/* attention_backward.cu - gradients of attention, the weights recomputed, the operations of cpu/attention_backward.c. No
 * atomics: dq has a block for 64 query rows, one chain over key tiles ascending; dk and dv a block for 64 keys, whose leaves
 * (time block, query block, query head of the group) are chains over rows and meet in a tree whose nodes wait in scratch
 * memory. */
#include "trainer/kernels/cuda/attention.cuh"

/* ---- delta ---- */

/* A warp a row: the row sum of dout * out. */
template <typename T>
static __global__ void row_deltas(gd_attention a) {
  int64_t item = warp_row(), row = item / a.heads, head = item % a.heads;
  int64_t sequence = row / a.query_length, query = row % a.query_length;
  if (sequence >= a.batch) return;
  int64_t at = sequence * a.out_batch + query * a.out_row + head * a.head_size;
  quad sum = {};
  for (int64_t c = row_start(); c < a.head_size; c += ROW_LANES) {
    quad x = load_quad((const T *)a.dout + at, c, a.head_size), y = load_quad((const T *)a.out + at, c, a.head_size);
#pragma unroll
    for (int i = 0; i < 4; i++)
      if (c + i < a.head_size) sum.x[i] = fmaf(x.x[i], y.x[i], sum.x[i]);
  }
  float total = row_total(sum);
  if (row_start() == 0) a.delta[(sequence * a.heads + head) * a.query_length + query] = total;
}

/* ---- weights and their gradients ---- */

/* A row of a tile and what forward left of it. */
typedef struct backward_row {
  row_view view;
  float lse, delta;
} backward_row;

__device__ __forceinline__ backward_row row_of(const gd_attention &a, int64_t sequence, int64_t query, int64_t head,
                                               bool there) {
  backward_row row = {{0, -1, 0, 0}, 0.0f, 0.0f};
  if (!there || query >= a.query_length) return row;
  int64_t at = (sequence * a.heads + head) * a.query_length + query;
  row.view = view_of(a, sequence, query, head);
  row.lse = a.lse[at];
  row.delta = a.delta[at];
  return row;
}

/* score: q k -> P after dropout; dscore: dP -> dS = P (dP - delta), of one row and key. */
__device__ __forceinline__ void gradients_of(const gd_attention &a, const weight_dropout &dropout, const backward_row &row,
                                             int32_t key, float *score, float *dscore) {
  if (!sees(row.view, key)) {
    *score = *dscore = 0.0f;
    return;
  }
  float weight = vf_exp(vf_sub(vf_mul(*score, a.scale), row.lse)), used = weight, dweight = *dscore;
  if (a.dropout > 0.0f) {
    float factor = dropout_factor(a, dropout, row.view.random + key);
    used = vf_mul(weight, factor);
    dweight = vf_mul(dweight, factor);
  }
  *score = used;
  *dscore = vf_mul(weight, vf_sub(dweight, row.delta));
}

/* ---- dq ---- */

template <typename T, int GROUPS>
static __global__ void __launch_bounds__(FLAT_THREADS) query_gradients(gd_attention a, weight_dropout dropout) {
  __shared__ __align__(16) float left[CHUNK][TILE_LD];
  __shared__ __align__(16) float right[CHUNK][TILE_LD];
  __shared__ __align__(16) float dscores[TILE][TILE_LD]; /* [key][row] */
  __shared__ __align__(16) float chunk[CHUNK * (TILE * GROUPS + 4)];
  __shared__ row_view views[TILE];
  int64_t sequence = blockIdx.y / a.heads, head = blockIdx.y % a.heads, kv_head = head / (a.heads / a.kv_heads);
  int64_t first_query = (int64_t)(gridDim.x - 1 - blockIdx.x) * TILE; /* the last sees most: first */
  int row = (int)threadIdx.x / 16 * 4, column = (int)threadIdx.x % 16 * 4;
  if (threadIdx.x < TILE) views[threadIdx.x] = view_of(a, sequence, first_query + threadIdx.x, head);
  backward_row rows[4];
#pragma unroll
  for (int i = 0; i < 4; i++) rows[i] = row_of(a, sequence, first_query + row + i, head, true);
  __syncthreads();
  int64_t left_over = a.query_length - first_query;
  head_rows<T> queries = rows_of<T>(a.q, sequence * a.q_batch + first_query * a.q_row + head * a.head_size, a.q_row, left_over);
  head_rows<T> douts =
      rows_of<T>(a.dout, sequence * a.out_batch + first_query * a.out_row + head * a.head_size, a.out_row, left_over);
  quad dq[GROUPS][4] = {}, scores[4], dweights[4];
  int32_t tile, end;
  tiles_seen(views, &tile, &end);
  for (; tile < end; tile++) {
    int32_t key = tile * TILE;
    if (!any_sees_tile(views, key)) continue;
    int64_t at = sequence * a.kv_batch + (int64_t)key * a.kv_row + kv_head * a.head_size;
    head_rows<T> keys = rows_of<T>(a.k, at, a.kv_row, a.key_length - key);
    head_rows<T> values = rows_of<T>(a.v, at, a.kv_row, a.key_length - key);
    multiply_rows(queries, keys, a.head_size, left, right, scores);
    multiply_rows(douts, values, a.head_size, left, right, dweights);
#pragma unroll
    for (int j = 0; j < 4; j++) {
      quad of_key;
#pragma unroll
      for (int i = 0; i < 4; i++) {
        gradients_of(a, dropout, rows[i], key + column + j, &scores[i].x[j], &dweights[i].x[j]);
        of_key.x[i] = dweights[i].x[j];
      }
      store_aligned(&dscores[column + j][row], of_key);
    }
    add_rows<GROUPS>(dscores, keys, 0, a.head_size, chunk, dq);
  }
#pragma unroll
  for (int i = 0; i < 4; i++) {
    int64_t query = first_query + row + i;
    if (query >= a.query_length) continue;
    T *to = (T *)a.dq + sequence * a.q_batch + query * a.q_row + head * a.head_size;
#pragma unroll
    for (int g = 0; g < GROUPS; g++) {
#pragma unroll
      for (int j = 0; j < 4; j++) dq[g][i].x[j] = (dq[g][i].x[j] + 0.0f) * a.scale + 0.0f;
      store_quad(to, column + g * TILE, a.head_size, dq[g][i]);
    }
  }
}

/* ---- dk and dv ---- */

/* Numbers of leaves: time block, query block in it and head of the group as the digits of one number, each with room up to a
 * power of two, so that one tree over them is the three nested ones. */
typedef struct leaf_numbers {
  int64_t time_block, query_block; /* rows */
  int64_t blocks, heads;           /* room for them */
} leaf_numbers;

static int64_t power_of_two_from(int64_t n) {
  int64_t power = 1;
  while (power < n) power *= 2;
  return power;
}

static leaf_numbers leaf_numbers_of(const gd_attention *a) {
  leaf_numbers n = {a->time_block > 0 ? a->time_block : INT32_MAX, 0, 0, 0};
  n.query_block = a->query_block > 0 && a->query_block < n.time_block ? a->query_block : n.time_block;
  n.blocks = power_of_two_from((n.time_block + n.query_block - 1) / n.query_block);
  n.heads = power_of_two_from(a->heads / a->kv_heads);
  return n;
}

/* The leaf of a position, for the first head of the group. */
static __host__ __device__ __forceinline__ int64_t leaf_number(const leaf_numbers &n, int64_t position) {
  return (position / n.time_block * n.blocks + position % n.time_block / n.query_block) * n.heads;
}

/* The end of the rows that are one leaf with row `query`. */
__device__ __forceinline__ int64_t leaf_end(const gd_attention &a, const leaf_numbers &n, int64_t query) {
  int64_t leaf = leaf_number(n, query_position(a, query)), end = query + 1;
  if (!a.positions) {
    int64_t inside = query_position(a, query) % n.time_block, left = n.query_block - inside % n.query_block;
    end = query + (left < n.time_block - inside ? left : n.time_block - inside);
  }
  while (a.positions && end < a.query_length && leaf_number(n, query_position(a, end)) == leaf) end++;
  return end < a.query_length ? end : a.query_length;
}

/* The nodes that wait, the sums of node i in this thread's part of slot i. */
template <int GROUPS>
struct node_stack {
  enum { SUMS = 2 * GROUPS * 16 };
  float *memory; /* [slots][SUMS][FLAT_THREADS] */
  int depth;
  int64_t leaf[TREE_DEPTH]; /* any leaf of the node */

  __device__ __forceinline__ float *at(int slot, int sum) const {
    return memory + ((int64_t)slot * SUMS + sum) * FLAT_THREADS + threadIdx.x;
  }
  __device__ __forceinline__ void merge() {
    depth--;
    for (int i = 0; i < SUMS; i++) *at(depth - 1, i) = *at(depth - 1, i) + *at(depth, i);
  }
  /* Leaf `next` is above all that entered. */
  __device__ __forceinline__ void enter(int64_t next, const quad (*dk)[4], const quad (*dv)[4]) {
    while (depth > 1 && (leaf[depth - 2] ^ leaf[depth - 1]) < (leaf[depth - 1] ^ next)) merge();
#pragma unroll
    for (int i = 0; i < GROUPS * 16; i++) {
      *at(depth, i) = dk[i / 16][i / 4 % 4].x[i % 4];
      *at(depth, GROUPS * 16 + i) = dv[i / 16][i / 4 % 4].x[i % 4];
    }
    leaf[depth++] = next;
  }
};

/* Item blockIdx.x + first: (sequence, key/value head, key tile, part of the head's columns). */
typedef struct key_items {
  int64_t first, tiles, parts;
  int64_t slots;  /* nodes a block may keep */
  float *scratch; /* a stack a block of the launch */
} key_items;

template <typename T, int GROUPS>
static __global__ void __launch_bounds__(FLAT_THREADS)
    key_gradients(gd_attention a, weight_dropout dropout, leaf_numbers numbers, key_items items) {
  __shared__ __align__(16) float stages[2 * CHUNK * TILE_LD]; /* of both operands of a product, or rows of one */
  __shared__ __align__(16) float weights[TILE][TILE_LD];      /* [row][key] */
  __shared__ __align__(16) float dscores[TILE][TILE_LD];
  __shared__ backward_row rows[TILE];
  static_assert(CHUNK * (TILE * GROUPS + 4) <= 2 * CHUNK * TILE_LD, "rows lie in the memory of the stages");
  float(*left)[TILE_LD] = (float(*)[TILE_LD])stages, (*right)[TILE_LD] = left + CHUNK;
  int64_t item = items.first + blockIdx.x, first_column = item % items.parts * TILE * GROUPS;
  int64_t key = item / items.parts % items.tiles * TILE, kv_head = item / items.parts / items.tiles % a.kv_heads;
  int64_t sequence = item / items.parts / items.tiles / a.kv_heads, group = a.heads / a.kv_heads;
  int row = (int)threadIdx.x / 16 * 4, column = (int)threadIdx.x % 16 * 4;
  int64_t at = sequence * a.kv_batch + key * a.kv_row + kv_head * a.head_size;
  head_rows<T> keys = rows_of<T>(a.k, at, a.kv_row, a.key_length - key);
  head_rows<T> values = rows_of<T>(a.v, at, a.kv_row, a.key_length - key);
  node_stack<GROUPS> tree;
  tree.memory = items.scratch + blockIdx.x * items.slots * node_stack<GROUPS>::SUMS * FLAT_THREADS;
  tree.depth = 0;
  for (int64_t first = 0, end; first < a.query_length; first = end) {
    end = leaf_end(a, numbers, first);
    int64_t leaf = leaf_number(numbers, query_position(a, first));
    for (int64_t g = 0; g < group; g++) {
      int64_t head = kv_head * group + g;
      quad dk[GROUPS][4] = {}, dv[GROUPS][4] = {}, scores[4], dweights[4];
      bool seen = false;
      for (int64_t query = first; query < end; query += TILE) {
        __syncthreads(); /* what is written below was read above */
        if (threadIdx.x < TILE) rows[threadIdx.x] = row_of(a, sequence, query + threadIdx.x, head, query + threadIdx.x < end);
        __syncthreads();
        bool any = false;
        for (int r = 0; r < TILE && !any; r++) any = sees_tile(rows[r].view, (int32_t)key);
        if (!any) continue;
        seen = true;
        head_rows<T> queries =
            rows_of<T>(a.q, sequence * a.q_batch + query * a.q_row + head * a.head_size, a.q_row, end - query);
        head_rows<T> douts =
            rows_of<T>(a.dout, sequence * a.out_batch + query * a.out_row + head * a.head_size, a.out_row, end - query);
        multiply_rows(queries, keys, a.head_size, left, right, scores);
        multiply_rows(douts, values, a.head_size, left, right, dweights);
#pragma unroll
        for (int i = 0; i < 4; i++) {
#pragma unroll
          for (int j = 0; j < 4; j++)
            gradients_of(a, dropout, rows[row + i], (int32_t)key + column + j, &scores[i].x[j], &dweights[i].x[j]);
          store_aligned(&weights[row + i][column], scores[i]);
          store_aligned(&dscores[row + i][column], dweights[i]);
        }
        add_rows<GROUPS>(weights, douts, (int)first_column, a.head_size, stages, dv);
        add_rows<GROUPS>(dscores, queries, (int)first_column, a.head_size, stages, dk);
      }
      if (seen) tree.enter(leaf + g, dk, dv);
    }
  }
  while (tree.depth > 1) tree.merge();
#pragma unroll
  for (int i = 0; i < 4; i++) {
    if (key + row + i >= a.key_length) continue;
#pragma unroll
    for (int g = 0; g < GROUPS; g++) {
      int64_t c = first_column + g * TILE + column;
      quad dk = {}, dv = {};
#pragma unroll
      for (int j = 0; j < 4 && tree.depth > 0; j++) {
        dk.x[j] = (*tree.at(0, g * 16 + i * 4 + j) + 0.0f) * a.scale + 0.0f;
        dv.x[j] = *tree.at(0, GROUPS * 16 + g * 16 + i * 4 + j) + 0.0f;
      }
      store_quad((T *)a.dk + at + (row + i) * a.kv_row, c, a.head_size, dk);
      store_quad((T *)a.dv + at + (row + i) * a.kv_row, c, a.head_size, dv);
    }
  }
}

/* Nodes that a tree over the rows' leaves holds at most: one a level, and one to build in. */
static int64_t slots_needed(const gd_attention *a, const leaf_numbers *n) {
  int64_t slots = 3,
          last = leaf_number(*n, a->positions ? INT32_MAX : (int64_t)a->query_start + a->query_length - 1) + n->heads - 1;
  for (; last > 0; last /= 2) slots++;
  return slots < TREE_DEPTH ? slots : (int64_t)TREE_DEPTH;
}

/* As many blocks at a time as have room for their nodes. */
template <typename T, int GROUPS>
static gd_status launch_keys(const gd_attention *a, const gd_cuda_state *state, weight_dropout dropout, cudaStream_t stream) {
  leaf_numbers numbers = leaf_numbers_of(a);
  key_items items = {0, blocks_of(a->key_length, TILE), blocks_of(a->head_size, TILE * GROUPS), slots_needed(a, &numbers),
                     (float *)state->scratch};
  int64_t count = (int64_t)a->batch * a->kv_heads * items.tiles * items.parts;
  int64_t bytes = items.slots * node_stack<GROUPS>::SUMS * FLAT_THREADS * (int64_t)sizeof(float);
  int64_t at_once = (int64_t)state->scratch_bytes / bytes;
  if (at_once < 1) return gd_fail(GD_BUG, "attention: %lld nodes of a tree do not fit scratch memory", (long long)items.slots);
  for (; items.first < count; items.first += at_once) {
    int64_t blocks = count - items.first < at_once ? count - items.first : at_once;
    key_gradients<T, GROUPS><<<(unsigned)blocks, FLAT_THREADS, 0, stream>>>(*a, dropout, numbers, items);
    GD_TRY(launched("attention_backward"));
  }
  return GD_OK;
}

gd_status gd_cuda_attention_backward(gd_kernels *kernels, const gd_attention *args) {
  GD_TRY(attention_check(args));
  if (args->batch < 1 || args->query_length < 1) return GD_OK;
  int64_t rows = (int64_t)args->batch * args->query_length * args->heads;
  dim3 grid((unsigned)blocks_of(args->query_length, TILE), (unsigned)((int64_t)args->batch * args->heads));
  GD_TRY(check_grid("attention_backward", row_blocks(rows), (int64_t)args->batch * args->heads));
  cudaStream_t stream = enter(kernels);
  weight_dropout dropout = weight_dropout_of(args);
  WITH_STORED(args->dtype, "attention_backward", row_deltas<T><<<(unsigned)row_blocks(rows), FLAT_THREADS, 0, stream>>>(*args));
  GD_TRY(launched("attention_backward"));
  WITH_STORED(args->dtype, "attention_backward",
              WITH_GROUPS(args->head_size, query_gradients<T, GROUPS><<<grid, FLAT_THREADS, 0, stream>>>(*args, dropout)));
  GD_TRY(launched("attention_backward"));
  const gd_cuda_state *state = gd_cuda_state_of(kernels);
  WITH_STORED(args->dtype, "attention_backward",
              GD_TRY(args->head_size <= TILE ? (launch_keys<T, 1>(args, state, dropout, stream))
                                             : (launch_keys<T, 2>(args, state, dropout, stream))));
  return GD_OK;
}
