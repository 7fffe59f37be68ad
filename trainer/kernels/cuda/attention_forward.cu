/* attention_forward.cu - softmax(Q K^T) V in float32 by tiles with a running maximum, the operations of
 * cpu/attention_forward.c: a block for 64 query rows of a head, key tiles ascending, a warp for 8 rows of the softmax. */
#include "trainer/kernels/cuda/attention.cuh"

enum { ROWS_A_WARP = TILE / (FLAT_THREADS / WARP) };

/* What a row has so far. */
typedef struct row_state {
  float max, sum, rescale;
} row_state;

/* Scores of a row to weights, by a warp: a lane has keys `lane` and lane + 32. */
__device__ __forceinline__ void row_softmax(const gd_attention &a, const weight_dropout &dropout, const row_view &view,
                                            int32_t key, const float *scores, row_state *state, float (*weights)[TILE_LD],
                                            int row) {
  int lane = (int)threadIdx.x % WARP;
  if (!sees_tile(view, key)) { /* the whole warp */
    weights[lane][row] = weights[lane + WARP][row] = 0.0f;
    if (lane == 0) state->rescale = 1.0f;
    return;
  }
  float x[2], largest = -INFINITY;
  for (int i = 0; i < 2; i++) {
    int32_t column = lane + i * WARP;
    x[i] = sees(view, key + column) ? vf_mul(scores[column], a.scale) : -INFINITY;
    largest = vf_max(x[i], largest);
  }
  for (int distance = WARP / 2; distance > 0; distance /= 2)
    largest = vf_max(__shfl_xor_sync(0xffffffffu, largest, distance), largest);
  float old = state->max, now = largest > old ? largest : old;
  for (int i = 0; i < 2; i++) x[i] = vf_exp(vf_sub(x[i], now));
  float sum = x[0] + x[1]; /* a row sum of 64 lanes */
  for (int distance = WARP / 2; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, distance);
  for (int i = 0; i < 2; i++) {
    int32_t column = lane + i * WARP;
    if (a.dropout > 0.0f) x[i] = vf_mul(x[i], dropout_factor(a, dropout, view.random + key + column));
    weights[column][row] = x[i];
  }
  if (lane > 0) return; /* all lanes have read the state: they met in a shuffle */
  float rescale = vf_exp(vf_sub(old, now));
  state->max = now;
  state->rescale = rescale;
  state->sum = vf_fma(state->sum, rescale, sum);
}

/* blockIdx.x: tiles of query rows, the last (it sees most) first; blockIdx.y: sequence and head. */
template <typename T, int GROUPS>
static __global__ void __launch_bounds__(FLAT_THREADS) forward(gd_attention a, weight_dropout dropout) {
  enum { VALUES = CHUNK * (TILE * GROUPS + 4), SCORES = TILE * TILE_LD };
  __shared__ __align__(16) float left[CHUNK][TILE_LD];
  __shared__ __align__(16) float right[CHUNK][TILE_LD];
  __shared__ __align__(16) float both[SCORES]; /* scores, then values */
  __shared__ __align__(16) float weights[TILE][TILE_LD];
  __shared__ row_view views[TILE];
  __shared__ row_state states[TILE];
  static_assert((int)VALUES <= (int)SCORES, "values lie in the memory of scores");
  int64_t sequence = blockIdx.y / a.heads, head = blockIdx.y % a.heads, kv_head = head / (a.heads / a.kv_heads);
  int64_t first_query = (int64_t)(gridDim.x - 1 - blockIdx.x) * TILE, first_key = keys_at(a, sequence);
  int32_t key_count = keys_of(a, sequence);
  int row = (int)threadIdx.x / 16 * 4, column = (int)threadIdx.x % 16 * 4, warp = (int)threadIdx.x / WARP;
  if (threadIdx.x < TILE) {
    views[threadIdx.x] = view_of(a, sequence, first_query + threadIdx.x, head);
    states[threadIdx.x] = {-INFINITY, 0.0f, 1.0f};
  }
  __syncthreads();
  head_rows<T> queries =
      rows_of<T>(a.q, sequence * a.q_batch + first_query * a.q_row + head * a.head_size, a.q_row, a.query_length - first_query);
  quad out[GROUPS][4] = {}, scores[4];
  int32_t tile, end;
  tiles_seen(views, &tile, &end);
  for (; tile < end; tile++) {
    int32_t key = tile * TILE;
    if (!any_sees_tile(views, key)) continue;
    int64_t at = first_key + (int64_t)key * a.kv_row + kv_head * a.head_size;
    head_rows<T> keys = rows_of<T>(a.k, at, a.kv_row, key_count - key);
    head_rows<T> values = rows_of<T>(a.v, at, a.kv_row, key_count - key);
    multiply_rows(queries, keys, a.head_size, left, right, scores);
#pragma unroll
    for (int i = 0; i < 4; i++) store_aligned(both + (row + i) * TILE_LD + column, scores[i]);
    __syncthreads();
    for (int r = warp * ROWS_A_WARP; r < (warp + 1) * ROWS_A_WARP; r++)
      row_softmax(a, dropout, views[r], key, both + r * TILE_LD, &states[r], weights, r);
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 4; i++) {
      float rescale = states[row + i].rescale;
#pragma unroll
      for (int g = 0; g < GROUPS; g++)
#pragma unroll
        for (int j = 0; j < 4; j++) out[g][i].x[j] = vf_mul(out[g][i].x[j], rescale);
    }
    add_rows<GROUPS>(weights, values, 0, a.head_size, both, out);
  }
#pragma unroll
  for (int i = 0; i < 4; i++) {
    int64_t query = first_query + row + i;
    if (query >= a.query_length) continue;
    row_state state = states[row + i];
    bool empty = state.sum == 0.0f;
    float inverse = empty ? 0.0f : vf_div(1.0f, state.sum);
    T *to = (T *)a.out + sequence * a.out_batch + query * a.out_row + head * a.head_size;
#pragma unroll
    for (int g = 0; g < GROUPS; g++) {
#pragma unroll
      for (int j = 0; j < 4; j++) out[g][i].x[j] = (out[g][i].x[j] + 0.0f) * inverse + 0.0f;
      store_quad(to, column + g * TILE, a.head_size, out[g][i]);
    }
    if (column == 0)
      a.lse[(sequence * a.heads + head) * a.query_length + query] = empty ? -INFINITY : state.max + vf_log(state.sum);
  }
}

gd_status gd_cuda_attention_forward(gd_kernels *kernels, const gd_attention *args) {
  GD_TRY(attention_check(args));
  if (args->batch < 1 || args->query_length < 1) return GD_OK;
  if (args->dtype == GD_BFLOAT16) return gd_cuda_attention_forward_bf16(kernels, args);
  dim3 grid((unsigned)blocks_of(args->query_length, TILE), (unsigned)((int64_t)args->batch * args->heads));
  GD_TRY(check_grid("attention_forward", 1, (int64_t)args->batch * args->heads));
  cudaStream_t stream = enter(kernels);
  weight_dropout dropout = weight_dropout_of(args);
  WITH_GROUPS(args->head_size, forward<float, GROUPS><<<grid, FLAT_THREADS, 0, stream>>>(*args, dropout));
  return launched("attention_forward");
}
