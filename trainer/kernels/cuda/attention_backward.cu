/* attention_backward.cu - gradients of float32 attention, the weights recomputed, the operations of cpu/attention_backward.c.
 * No atomics: dq has a block for 64 query rows, one chain over key tiles ascending; dk and dv a block for 64 keys, whose leaves
 * (time block, query block, query head of the group) are chains over rows and meet in a tree whose nodes wait in scratch
 * memory. */
#include "trainer/kernels/cuda/attention_backward.cuh"

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
  typedef node_stack<2 * GROUPS * 16, FLAT_THREADS> stack;
  stack tree;
  tree.memory = items.scratch + blockIdx.x * items.slots * (stack::BYTES / (int)sizeof(float));
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
      if (seen) tree.enter(leaf + g, &dk[0][0].x[0], &dv[0][0].x[0]);
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

template <int GROUPS>
static gd_status launch_keys(const gd_attention *a, const gd_cuda_state *state, weight_dropout dropout, cudaStream_t stream) {
  leaf_numbers numbers = leaf_numbers_of(a);
  key_items items = {0, blocks_of(a->key_length, TILE), blocks_of(a->head_size, TILE * GROUPS), slots_needed(a, &numbers),
                     (float *)state->scratch};
  int64_t count = (int64_t)a->batch * a->kv_heads * items.tiles * items.parts;
  return for_key_items(items, count, node_stack<2 * GROUPS * 16, FLAT_THREADS>::BYTES, state,
                       [&](const key_items &some, unsigned blocks) -> gd_status {
                         key_gradients<float, GROUPS><<<blocks, FLAT_THREADS, 0, stream>>>(*a, dropout, numbers, some);
                         return launched("attention_backward");
                       });
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
  if (args->dtype == GD_BFLOAT16) return gd_cuda_attention_backward_bf16(kernels, args);
  WITH_GROUPS(args->head_size, query_gradients<float, GROUPS><<<grid, FLAT_THREADS, 0, stream>>>(*args, dropout));
  GD_TRY(launched("attention_backward"));
  const gd_cuda_state *state = gd_cuda_state_of(kernels);
  return args->head_size <= TILE ? launch_keys<1>(args, state, dropout, stream) : launch_keys<2>(args, state, dropout, stream);
}
