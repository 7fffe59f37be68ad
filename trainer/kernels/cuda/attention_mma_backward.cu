/* attention_mma_backward.cu - gradients of bfloat16 attention on tensor cores, the weights recomputed. No atomics: dq has a
 * block for 64 query rows, one chain over keys ascending; dk and dv a block for 64 keys, whose leaves (time block, query block,
 * query head of the group) are chains over rows and meet in a tree (attention_backward.cuh). P and dS are rounded to bfloat16
 * as operands. Not run on a GPU. */
#include "trainer/kernels/cuda/attention_backward.cuh"
#include "trainer/kernels/cuda/attention_mma.cuh"

/* ---- dq ---- */

/* KEYS: of a tile at a time, what shared memory has room for; no bit depends on it. */
template <int COLUMNS, int KEYS>
static __global__ void __launch_bounds__(MMA_THREADS) query_gradients(gd_attention a, weight_dropout dropout, wide_rows wide) {
  enum { ROW_CHUNKS = TILE * COLUMNS / CHUNK8, KEY_CHUNKS = KEYS * COLUMNS / CHUNK8 };
  extern __shared__ uint4 tiles[];
  __shared__ row_view views[TILE];
  uint4 *queries = tiles, *douts = queries + ROW_CHUNKS, *keys = douts + ROW_CHUNKS, *values = keys + KEY_CHUNKS;
  int64_t sequence = blockIdx.y / a.heads, head = blockIdx.y % a.heads, kv_head = head / (a.heads / a.kv_heads);
  int64_t first_query = (int64_t)(gridDim.x - 1 - blockIdx.x) * TILE, at = sequence * a.kv_batch + kv_head * a.head_size;
  int lane = (int)threadIdx.x % WARP, first_row = (int)threadIdx.x / WARP * MMA, column = lane % 4 * 2;
  const bf16 *all_keys = (const bf16 *)a.k + at, *all_values = (const bf16 *)a.v + at;
  if (threadIdx.x < TILE) views[threadIdx.x] = view_of(a, sequence, first_query + threadIdx.x, head);
  int64_t q_at = sequence * a.q_batch + first_query * a.q_row + head * a.head_size;
  int64_t out_at = sequence * a.out_batch + first_query * a.out_row + head * a.head_size, left = a.query_length - first_query;
  fetch_rows<TILE, COLUMNS>((const bf16 *)a.q + q_at, a.q_row, left, a.head_size, wide.q, queries);
  fetch_rows<TILE, COLUMNS>((const bf16 *)a.dout + out_at, a.out_row, left, a.head_size, wide.out, douts);
  copy_commit();
  backward_row rows[2];
#pragma unroll
  for (int h = 0; h < 2; h++) rows[h] = row_of(a, sequence, first_query + first_row + lane / 4 + h * 8, head, true);
  __syncthreads();
  mma_sums dq[COLUMNS / 8] = {}, scores[KEYS / 8], dweights[KEYS / 8];
  int32_t tile, end;
  tiles_seen(views, &tile, &end);
  int32_t key = next_keys<KEYS>(views, tile * TILE, end *= TILE);
  copy_wait<0>(); /* also where no key is seen */
  for (; key < end; key = next_keys<KEYS>(views, key + KEYS, end)) {
    __syncthreads(); /* what comes now was read */
    fetch_rows<KEYS, COLUMNS>(all_keys + key * a.kv_row, a.kv_row, a.key_length - key, a.head_size, wide.kv, keys);
    copy_commit();
    fetch_rows<KEYS, COLUMNS>(all_values + key * a.kv_row, a.kv_row, a.key_length - key, a.head_size, wide.kv, values);
    copy_commit();
    copy_wait<1>();
    __syncthreads(); /* the keys are there */
    multiply_rows<COLUMNS>(queries, first_row, keys, a.head_size, scores);
    copy_wait<0>();
    __syncthreads(); /* the values are there */
    multiply_rows<COLUMNS>(douts, first_row, values, a.head_size, dweights);
#pragma unroll
    for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
      for (int e = 0; e < 4; e++)
        gradients_of(a, dropout, rows[e / 2], key + j * 8 + column + e % 2, &scores[j].x[e], &dweights[j].x[e]);
    add_rows<COLUMNS>(dweights, keys, 0, a.head_size, dq);
  }
#pragma unroll
  for (int h = 0; h < 2; h++) {
    int64_t query = first_query + first_row + lane / 4 + h * 8;
    if (query >= a.query_length) continue;
    bf16 *to = (bf16 *)a.dq + sequence * a.q_batch + query * a.q_row + head * a.head_size;
#pragma unroll
    for (int c = 0; c < COLUMNS / 8; c++)
      store_pair(to + c * 8 + column, a.head_size - c * 8 - column, (dq[c].x[2 * h] + 0.0f) * a.scale + 0.0f,
                 (dq[c].x[2 * h + 1] + 0.0f) * a.scale + 0.0f);
  }
}

/* ---- dk and dv ---- */

enum { LEAF_ROWS = 32 }; /* query rows in shared memory at a time */

/* A warp has 16 of the block's keys: its products are the transposed scores, [key][row]. OUT: columns of the result that the
 * block makes. */
template <int COLUMNS, int OUT>
static __global__ void __launch_bounds__(MMA_THREADS)
    key_gradients(gd_attention a, weight_dropout dropout, wide_rows wide, leaf_numbers numbers, key_items items) {
  enum { KEY_CHUNKS = TILE * COLUMNS / CHUNK8, ROW_CHUNKS = LEAF_ROWS * COLUMNS / CHUNK8 };
  typedef node_stack<OUT, MMA_THREADS> stack; /* OUT / 8 x 4 sums of each of dk and dv */
  extern __shared__ uint4 tiles[];
  __shared__ backward_row rows[LEAF_ROWS];
  uint4 *keys = tiles, *values = keys + KEY_CHUNKS, *queries = values + KEY_CHUNKS, *douts = queries + ROW_CHUNKS;
  int64_t item = items.first + blockIdx.x;
  int first_column = (int)(item % items.parts) * OUT;
  int64_t key = item / items.parts % items.tiles * TILE, kv_head = item / items.parts / items.tiles % a.kv_heads;
  int64_t sequence = item / items.parts / items.tiles / a.kv_heads, group = a.heads / a.kv_heads;
  int lane = (int)threadIdx.x % WARP, first_key = (int)threadIdx.x / WARP * MMA, column = lane % 4 * 2;
  int64_t at = sequence * a.kv_batch + key * a.kv_row + kv_head * a.head_size;
  fetch_rows<TILE, COLUMNS>((const bf16 *)a.k + at, a.kv_row, a.key_length - key, a.head_size, wide.kv, keys);
  fetch_rows<TILE, COLUMNS>((const bf16 *)a.v + at, a.kv_row, a.key_length - key, a.head_size, wide.kv, values);
  copy_commit();
  copy_wait<0>();
  stack tree;
  tree.memory = items.scratch + blockIdx.x * items.slots * (stack::BYTES / (int)sizeof(float));
  tree.depth = 0;
  for (int64_t first = 0, end; first < a.query_length; first = end) {
    end = leaf_end(a, numbers, first);
    int64_t leaf = leaf_number(numbers, query_position(a, first));
    for (int64_t g = 0; g < group; g++) {
      int64_t head = kv_head * group + g;
      mma_sums dk[OUT / 8] = {}, dv[OUT / 8] = {};
      bool seen = false;
      for (int64_t query = first; query < end; query += LEAF_ROWS) {
        __syncthreads(); /* what is written below was read above */
        if (threadIdx.x < LEAF_ROWS)
          rows[threadIdx.x] = row_of(a, sequence, query + threadIdx.x, head, query + threadIdx.x < end);
        __syncthreads();
        bool any = false;
        for (int r = 0; r < LEAF_ROWS && !any; r++) any = sees_tile(rows[r].view, (int32_t)key);
        if (!any) continue;
        seen = true;
        int64_t q_at = sequence * a.q_batch + query * a.q_row + head * a.head_size;
        int64_t out_at = sequence * a.out_batch + query * a.out_row + head * a.head_size;
        fetch_rows<LEAF_ROWS, COLUMNS>((const bf16 *)a.q + q_at, a.q_row, end - query, a.head_size, wide.q, queries);
        copy_commit();
        fetch_rows<LEAF_ROWS, COLUMNS>((const bf16 *)a.dout + out_at, a.out_row, end - query, a.head_size, wide.out, douts);
        copy_commit();
        mma_sums weights[LEAF_ROWS / 8], dscores[LEAF_ROWS / 8];
        copy_wait<1>();
        __syncthreads(); /* the queries are there */
        multiply_rows<COLUMNS>(keys, first_key, queries, a.head_size, weights);
        copy_wait<0>();
        __syncthreads(); /* the gradients of the results are there */
        multiply_rows<COLUMNS>(values, first_key, douts, a.head_size, dscores);
#pragma unroll
        for (int j = 0; j < LEAF_ROWS / 8; j++)
#pragma unroll
          for (int e = 0; e < 4; e++)
            gradients_of(a, dropout, rows[j * 8 + column + e % 2], (int32_t)key + first_key + lane / 4 + e / 2 * 8,
                         &weights[j].x[e], &dscores[j].x[e]);
        add_rows<COLUMNS>(weights, douts, first_column, a.head_size, dv);
        add_rows<COLUMNS>(dscores, queries, first_column, a.head_size, dk);
      }
      if (seen) tree.enter(leaf + g, &dk[0].x[0], &dv[0].x[0]);
    }
  }
  while (tree.depth > 1) tree.merge();
#pragma unroll
  for (int h = 0; h < 2; h++) {
    int row = first_key + lane / 4 + h * 8;
    if (key + row >= a.key_length) continue;
    bf16 *dk_row = (bf16 *)a.dk + at + row * a.kv_row, *dv_row = (bf16 *)a.dv + at + row * a.kv_row;
    for (int c = 0; c < OUT / 8; c++) {
      float dk[2] = {}, dv[2] = {};
#pragma unroll
      for (int e = 0; e < 2 && tree.depth > 0; e++) {
        dk[e] = (*tree.at(0, c * 4 + 2 * h + e) + 0.0f) * a.scale + 0.0f;
        dv[e] = *tree.at(0, OUT / 2 + c * 4 + 2 * h + e) + 0.0f;
      }
      int x = first_column + c * 8 + column;
      store_pair(dk_row + x, a.head_size - x, dk[0], dk[1]);
      store_pair(dv_row + x, a.head_size - x, dv[0], dv[1]);
    }
  }
}

template <int COLUMNS, int KEYS, int OUT>
static gd_status launch(const gd_attention *a, const gd_cuda_state *state, cudaStream_t stream) {
  enum { QUERY_BYTES = 2 * (TILE + KEYS) * COLUMNS * (int)sizeof(bf16) };
  enum { KEY_BYTES = 2 * (TILE + LEAF_ROWS) * COLUMNS * (int)sizeof(bf16) };
  dim3 grid((unsigned)blocks_of(a->query_length, TILE), (unsigned)((int64_t)a->batch * a->heads));
  weight_dropout dropout = weight_dropout_of(a);
  wide_rows wide = wide_rows_of(a);
  GD_TRY(ask_shared(query_gradients<COLUMNS, KEYS>, QUERY_BYTES));
  query_gradients<COLUMNS, KEYS><<<grid, MMA_THREADS, QUERY_BYTES, stream>>>(*a, dropout, wide);
  GD_TRY(launched("attention_backward"));
  leaf_numbers numbers = leaf_numbers_of(a);
  key_items items = {0, blocks_of(a->key_length, TILE), blocks_of(a->head_size, OUT), slots_needed(a, &numbers),
                     (float *)state->scratch};
  int64_t count = (int64_t)a->batch * a->kv_heads * items.tiles * items.parts;
  return for_key_items(
      items, count, node_stack<OUT, MMA_THREADS>::BYTES, state, [&](const key_items &some, unsigned blocks) -> gd_status {
        GD_TRY(ask_shared(key_gradients<COLUMNS, OUT>, KEY_BYTES));
        key_gradients<COLUMNS, OUT><<<blocks, MMA_THREADS, KEY_BYTES, stream>>>(*a, dropout, wide, numbers, some);
        return launched("attention_backward");
      });
}

gd_status gd_cuda_attention_backward_bf16(gd_kernels *kernels, const gd_attention *args) {
  cudaStream_t stream = enter(kernels);
  const gd_cuda_state *state = gd_cuda_state_of(kernels);
  if (args->head_size <= 64) return launch<64, 64, 64>(args, state, stream);
  return args->head_size <= 128 ? launch<128, 64, 128>(args, state, stream) : launch<256, 32, 128>(args, state, stream);
}
