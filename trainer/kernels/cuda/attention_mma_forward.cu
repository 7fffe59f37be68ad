/* attention_mma_forward.cu - softmax(Q K^T) V in bfloat16 on tensor cores (Dao 2023): a block for 64 query rows of a head, a
 * warp for 16 of them, key tiles ascending at absolute multiples. Keys come while values are multiplied and the other way
 * round. Weights are rounded to bfloat16 as operands of P V; their sum is that of the unrounded ones. Not run on a GPU. */
#include "trainer/kernels/cuda/attention_mma.cuh"

/* A row of this thread and what it has so far. */
typedef struct forward_row {
  row_view view;
  float max, sum;
} forward_row;

/* Scores to weights, those of the row: x[2 h] and x[2 h + 1] of each. The four lanes of a row go together; each adds its
 * weights in ascending order of keys. What the row's result so far is worth. */
__device__ __forceinline__ float row_softmax(const gd_attention &a, const weight_dropout &dropout, int32_t key,
                                             forward_row *row, mma_sums (&scores)[TILE / 8], int h) {
  float largest = -INFINITY, sum = 0.0f;
#pragma unroll
  for (int j = 0; j < TILE / 8; j++)
#pragma unroll
    for (int e = 0; e < 2; e++) {
      float *x = &scores[j].x[2 * h + e];
      *x = sees(row->view, key + j * 8 + e) ? vf_mul(*x, a.scale) : -INFINITY;
      largest = vf_max(*x, largest);
    }
#pragma unroll
  for (int distance = 1; distance < 4; distance *= 2)
    largest = vf_max(__shfl_xor_sync(0xffffffffu, largest, distance), largest);
  float now = largest > row->max ? largest : row->max, shift = now == -INFINITY ? 0.0f : now; /* it saw nothing yet */
#pragma unroll
  for (int j = 0; j < TILE / 8; j++)
#pragma unroll
    for (int e = 0; e < 2; e++) {
      float *x = &scores[j].x[2 * h + e];
      *x = vf_exp(vf_sub(*x, shift));
      sum += *x;
      if (a.dropout > 0.0f) *x = vf_mul(*x, dropout_factor(a, dropout, row->view.random + key + j * 8 + e));
    }
#pragma unroll
  for (int distance = 1; distance < 4; distance *= 2) sum += __shfl_xor_sync(0xffffffffu, sum, distance);
  float rescale = vf_exp(vf_sub(row->max, shift));
  row->max = now;
  row->sum = vf_fma(row->sum, rescale, sum);
  return rescale;
}

/* blockIdx.x: tiles of query rows, the last (it sees most) first; blockIdx.y: sequence and head. */
template <int COLUMNS>
static __global__ void __launch_bounds__(MMA_THREADS, COLUMNS <= 128 ? 2 : 1)
    forward(gd_attention a, weight_dropout dropout, wide_rows wide) {
  enum { TILE_CHUNKS = TILE * COLUMNS / CHUNK8 };
  extern __shared__ uint4 tiles[];
  __shared__ row_view views[TILE];
  uint4 *queries = tiles, *keys = queries + TILE_CHUNKS, *values = keys + TILE_CHUNKS;
  int64_t sequence = blockIdx.y / a.heads, head = blockIdx.y % a.heads, kv_head = head / (a.heads / a.kv_heads);
  int64_t first_query = (int64_t)(gridDim.x - 1 - blockIdx.x) * TILE, at = keys_at(a, sequence) + kv_head * a.head_size;
  int32_t key_count = keys_of(a, sequence);
  int lane = (int)threadIdx.x % WARP, first_row = (int)threadIdx.x / WARP * MMA, column = lane % 4 * 2;
  const bf16 *all_keys = (const bf16 *)a.k + at, *all_values = (const bf16 *)a.v + at;
  if (threadIdx.x < TILE) views[threadIdx.x] = view_of(a, sequence, first_query + threadIdx.x, head);
  fetch_rows<TILE, COLUMNS>((const bf16 *)a.q + sequence * a.q_batch + first_query * a.q_row + head * a.head_size, a.q_row,
                            a.query_length - first_query, a.head_size, wide.q, queries);
  __syncthreads();
  forward_row rows[2];
#pragma unroll
  for (int h = 0; h < 2; h++) rows[h] = {views[first_row + lane / 4 + h * 8], -INFINITY, 0.0f};
  mma_sums out[COLUMNS / 8] = {}, scores[TILE / 8];
  int32_t tile, end;
  tiles_seen(views, &tile, &end);
  int32_t key = next_keys<TILE>(views, tile * TILE, end *= TILE);
  if (key < end) fetch_rows<TILE, COLUMNS>(all_keys + key * a.kv_row, a.kv_row, key_count - key, a.head_size, wide.kv, keys);
  copy_commit();
  copy_wait<0>(); /* queries too, where no key is seen */
  while (key < end) {
    copy_wait<0>();
    __syncthreads(); /* the keys are there, the values were read */
    fetch_rows<TILE, COLUMNS>(all_values + key * a.kv_row, a.kv_row, key_count - key, a.head_size, wide.kv, values);
    copy_commit();
    multiply_rows<COLUMNS>(queries, first_row, keys, a.head_size, scores);
#pragma unroll
    for (int h = 0; h < 2; h++) {
      float rescale = row_softmax(a, dropout, key + column, &rows[h], scores, h);
#pragma unroll
      for (int c = 0; c < COLUMNS / 8; c++)
#pragma unroll
        for (int e = 0; e < 2; e++) out[c].x[2 * h + e] = vf_mul(out[c].x[2 * h + e], rescale);
    }
    key = next_keys<TILE>(views, key + TILE, end);
    copy_wait<0>();
    __syncthreads(); /* the values are there, the keys were read */
    if (key < end) fetch_rows<TILE, COLUMNS>(all_keys + key * a.kv_row, a.kv_row, key_count - key, a.head_size, wide.kv, keys);
    copy_commit();
    add_rows<COLUMNS>(scores, values, 0, a.head_size, out);
  }
#pragma unroll
  for (int h = 0; h < 2; h++) {
    int64_t query = first_query + first_row + lane / 4 + h * 8;
    if (query >= a.query_length) continue;
    bool empty = rows[h].sum == 0.0f;
    float inverse = empty ? 0.0f : vf_div(1.0f, rows[h].sum);
    bf16 *to = (bf16 *)a.out + sequence * a.out_batch + query * a.out_row + head * a.head_size;
#pragma unroll
    for (int c = 0; c < COLUMNS / 8; c++)
      store_pair(to + c * 8 + column, a.head_size - c * 8 - column, (out[c].x[2 * h] + 0.0f) * inverse + 0.0f,
                 (out[c].x[2 * h + 1] + 0.0f) * inverse + 0.0f);
    if (column == 0)
      a.lse[(sequence * a.heads + head) * a.query_length + query] = empty ? -INFINITY : rows[h].max + vf_log(rows[h].sum);
  }
}

template <int COLUMNS>
static gd_status launch(const gd_attention *a, cudaStream_t stream) {
  enum { BYTES = 3 * TILE * COLUMNS * (int)sizeof(bf16) };
  dim3 grid((unsigned)blocks_of(a->query_length, TILE), (unsigned)((int64_t)a->batch * a->heads));
  GD_TRY(ask_shared(forward<COLUMNS>, BYTES));
  weight_dropout dropout = weight_dropout_of(a);
  forward<COLUMNS><<<grid, MMA_THREADS, BYTES, stream>>>(*a, dropout, wide_rows_of(a));
  return launched("attention_forward");
}

gd_status gd_cuda_attention_forward_bf16(gd_kernels *kernels, const gd_attention *args) {
  GD_TRY(check_grid("attention_forward", 1, (int64_t)args->batch * args->heads));
  cudaStream_t stream = enter(kernels);
  if (args->head_size <= 64) return launch<64>(args, stream);
  return args->head_size <= 128 ? launch<128>(args, stream) : launch<256>(args, stream);
}
