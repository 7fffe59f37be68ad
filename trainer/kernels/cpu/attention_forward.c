/* attention_forward.c - softmax(Q K^T) V by tiles with a running maximum (online softmax: Milakov and Gimelshein 2018; tiling
 * as in Dao et al. 2022). Key tiles ascend; the running maximum, sum and result of a row are rescaled once a key tile that it
 * sees. */
#include "trainer/kernels/cpu/attention_tile.h"
#include "trainer/kernels/cpu/math.h"
#include "trainer/kernels/cpu/parallel.h"
#include "trainer/kernels/cpu/philox.h"

typedef struct forward_item {
  const gd_attention *a;
  attention_shape shape;
  attention_scratch *s;
  int64_t sequence, kv_head;
  int64_t first_row; /* in the (query, head of the group) rows of this key/value head */
  int rows, padded;  /* padded to whole register tiles; one row stays one */
} forward_item;

static int64_t query_offset(const forward_item *f, int r, int64_t row_stride, int64_t batch_stride) {
  int64_t row = f->first_row + r, query = row / f->shape.group, head = f->kv_head * f->shape.group + row % f->shape.group;
  return f->sequence * batch_stride + query * row_stride + head * f->a->head_size;
}

static void load_queries(const forward_item *f) {
  const gd_attention *a = f->a;
  attention_scratch *s = f->s;
  for (int r = 0; r < f->padded; r++) {
    s->max[r] = -INFINITY;
    s->sum[r] = 0.0f;
    if (r >= f->rows) {
      row_sees_nothing(s, r);
      memset(s->q + r * f->shape.unit_ld, 0, (size_t)f->shape.unit_ld * sizeof(float));
      continue;
    }
    int64_t row = f->first_row + r;
    if (r + 8 < f->rows)
      prefetch_row(a->dtype, a->head_size, element_at(a->dtype, a->q, query_offset(f, r + 8, a->q_row, a->q_batch)));
    row_sees(a, s, r, f->sequence, row / f->shape.group, f->kv_head * f->shape.group + row % f->shape.group);
    load_rows(&f->shape, a->dtype, a->head_size, element_at(a->dtype, a->q, query_offset(f, r, a->q_row, a->q_batch)), 0, 1,
              s->q + r * f->shape.unit_ld);
  }
  memset(s->out, 0, (size_t)(f->padded * f->shape.width) * sizeof(float));
}

/* Stores the weights of one row as the left operand of the product with the values. */
static inline void store_weights(const forward_item *f, float *score, int v, vf weights) {
#if defined(__AVX512BF16__)
  if (f->shape.pairs) {
    store_pairs(score, v, weights);
    return;
  }
#else
  (void)f;
#endif
  vf_store(score + v * VF_LANES, weights);
}

/* Scores of one row to weights. The row's maximum moves on; rescale[r] becomes the logarithm of what the row's sum and result
 * so far are worth, and lse[r] the sum of the tile's weights. */
ATTENTION_INLINE void row_softmax(const forward_item *f, int r, int32_t key, const int vectors) {
  const gd_attention *a = f->a;
  attention_scratch *s = f->s;
  float *score = s->score + r * SCORE_LD;
  vf x[KEY_TILE / VF_LANES];
  if (s->columns[r] == 0) {
    for (int v = 0; v < vectors; v++) store_weights(f, score, v, vf_zero());
    s->rescale[r] = s->lse[r] = 0.0f;
    return;
  }
  mask_row(s, r, key, vectors * VF_LANES, score);
  vf largest = vf_set1(-INFINITY), scale = vf_set1(a->scale);
  for (int v = 0; v < vectors; v++) {
    x[v] = vf_mul(vf_load(score + v * VF_LANES), scale);
    largest = vf_max(x[v], largest);
  }
  float old = s->max[r], tile_max = vf_hmax(largest);
  float now = tile_max > old ? tile_max : old;
  vf shift = vf_set1(now), sums[KEY_TILE / VF_LANES] = {vf_zero(), vf_zero(), vf_zero(), vf_zero()};
  for (int v = 0; v < vectors; v++) sums[v] = x[v] = vf_exp(vf_sub(x[v], shift));
  s->max[r] = now;
  s->rescale[r] = old - now;
  s->lse[r] = vf_hsum(vf_add(vf_add(sums[0], sums[2]), vf_add(sums[1], sums[3]))); /* a row sum of 64 lanes */
  if (a->dropout > 0.0f) {
    float factors[PHILOX_ELEMS];
    philox_dropout64(&a->rng, (uint64_t)(s->random[r] + key), gd_rng_dropout_threshold(a->dropout), 1.0f / (1.0f - a->dropout),
                     factors);
    for (int v = 0; v < vectors; v++) x[v] = vf_mul(x[v], vf_load(factors + v * VF_LANES));
  }
  for (int v = 0; v < vectors; v++) store_weights(f, score, v, x[v]);
}

/* One register tile of rows against the key tile: scores, weights, result. */
static void forward_rows(const forward_item *f, int first, int rows, int32_t key) {
  attention_scratch *s = f->s;
  int columns = 0;
  for (int r = first; r < first + rows; r++) columns = max32(columns, s->columns[r]);
  if (columns == 0) return;
  int vectors = (columns + VF_LANES - 1) / VF_LANES;
  tile_product scores = {.steps = f->shape.units,
                         .a = s->q + first * f->shape.unit_ld,
                         .a_row = f->shape.unit_ld,
                         .a_step = 1,
                         .b = s->key_columns,
                         .b_step = KEY_TILE,
                         .c = s->score + first * SCORE_LD,
                         .c_row = SCORE_LD,
                         .start = CHAIN_ZERO};
  multiply(&scores, rows, vectors, f->shape.pairs);
  for (int r = first; r < first + rows; r++) {
    ATTENTION_FOR_VECTORS(row_softmax, f, r, key, vectors);
  }
  vf rescale = vf_exp(vf_load_n(s->rescale + first, rows));
  vf_store_n(s->rescale + first, rescale, rows);
  vf_store_n(s->sum + first, vf_fma(vf_load_n(s->sum + first, rows), rescale, vf_load_n(s->lse + first, rows)), rows);
  tile_product result = {.steps = units_of(&f->shape, columns),
                         .a = s->score + first * SCORE_LD,
                         .a_row = SCORE_LD,
                         .a_step = 1,
                         .b = s->values,
                         .b_step = f->shape.width,
                         .c = s->out + first * f->shape.width,
                         .c_row = f->shape.width,
                         .start = CHAIN_SCALE,
                         .scale = s->rescale + first};
  multiply(&result, rows, f->shape.width / VF_LANES, f->shape.pairs);
}

static void store_results(const forward_item *f) {
  const gd_attention *a = f->a;
  attention_scratch *s = f->s;
  for (int r = 0; r < f->rows; r++) {
    int64_t row = f->first_row + r, query = row / f->shape.group, head = f->kv_head * f->shape.group + row % f->shape.group;
    bool empty = s->sum[r] == 0.0f;
    vf inverse = empty ? vf_zero() : vf_div(vf_set1(1.0f), vf_set1(s->sum[r]));
    int64_t to = query_offset(f, r, a->out_row, a->out_batch);
    for (int64_t d = 0; d < a->head_size; d += VF_LANES) {
      vf x = attention_settle(vf_load(s->out + r * f->shape.width + d), f->shape.pairs);
      vf_store_as(a->dtype, a->out, to + d, attention_settle(vf_mul(x, inverse), false), vf_left(d, a->head_size));
    }
    float *lse = a->lse + (f->sequence * a->heads + head) * a->query_length + query;
    vf_store_n(lse, empty ? vf_set1(-INFINITY) : vf_add(vf_set1(s->max[r]), vf_log(vf_set1(s->sum[r]))), 1);
  }
}

static void forward_tile(const forward_item *f) {
  const gd_attention *a = f->a;
  attention_scratch *s = f->s;
  int32_t tile, end;
  load_queries(f);
  tiles_seen(s, f->padded, &tile, &end);
  for (; tile < end; tile++) {
    int32_t key = tile * KEY_TILE;
    int first, stop, keys = min32(keys_of(a, f->sequence) - key, KEY_TILE);
    if (!rows_active(s, f->padded, key, &first, &stop)) continue;
    int64_t at = keys_at(a, f->sequence) + (int64_t)key * a->kv_row + f->kv_head * a->head_size;
    pack_columns(&f->shape, a->dtype, a->head_size, element_at(a->dtype, a->k, at), a->kv_row, keys,
                 element_at(a->dtype, a->v, at), s->rows, s->key_columns);
    pack_rows(&f->shape, a->dtype, a->head_size, element_at(a->dtype, a->v, at), a->kv_row, keys, KEY_TILE, s->values);
    if (f->padded == 1) {
      forward_rows(f, 0, 1, key);
      continue;
    }
    for (int r = first; r < stop; r += ROW_GROUP) forward_rows(f, r, ROW_GROUP, key);
  }
  store_results(f);
}

static gd_status attention_forward_run(const gd_attention *a, const gd_cpu_context *context) {
  GD_TRY(attention_check(a));
  attention_shape shape = attention_shape_of(a);
  int64_t rows = (int64_t)a->query_length * shape.group, tiles = (rows + ROW_TILE - 1) / ROW_TILE;
  int64_t items = a->batch * a->kv_heads * tiles;
  int threads =
      gd_parallel_threads(context->threads, rows * a->batch * a->kv_heads * a->head_size * min32(a->key_length, 64) / 4);
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
  for (int64_t i = 0; i < items; i++) {
    int64_t tile = tiles - 1 - i % tiles, group = i / tiles; /* the last tile sees most keys: first */
    forward_item f = {.a = a,
                      .shape = shape,
                      .s = gd_cpu_scratch(context, omp_get_thread_num()),
                      .sequence = group / a->kv_heads,
                      .kv_head = group % a->kv_heads,
                      .first_row = tile * ROW_TILE};
    f.rows = rows - f.first_row < ROW_TILE ? (int)(rows - f.first_row) : ROW_TILE;
    f.padded = f.rows == 1 ? 1 : (f.rows + ROW_GROUP - 1) / ROW_GROUP * ROW_GROUP;
    forward_tile(&f);
  }
  return GD_OK;
}

GD_CPU_KERNEL(attention_forward, gd_attention, args->lse,
              (size_t)args->batch *(size_t)args->heads *(size_t)args->query_length * sizeof(float))
