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

/* Where row r is: its query, and its head among all of the sequence. Rows are walked in order, without a division for each. */
typedef struct row_place {
  int64_t query, head;
} row_place;

static row_place first_place(const forward_item *f) {
  return (row_place){f->first_row / f->shape.group, f->kv_head * f->shape.group + f->first_row % f->shape.group};
}

static inline void next_place(const forward_item *f, row_place *at) {
  if (++at->head < (f->kv_head + 1) * f->shape.group) return;
  at->head -= f->shape.group;
  at->query++;
}

static inline int64_t offset_of(const forward_item *f, row_place at, int64_t row_stride, int64_t batch_stride) {
  return f->sequence * batch_stride + at.query * row_stride + at.head * f->a->head_size;
}

static void load_queries(const forward_item *f) {
  const gd_attention *a = f->a;
  attention_scratch *s = f->s;
  row_place at = first_place(f), ahead = at;
  for (int r = 0; r < 8 && f->rows > 8; r++) next_place(f, &ahead);
  for (int r = 0; r < f->padded; r++, next_place(f, &at), next_place(f, &ahead)) {
    s->max[r] = -INFINITY;
    s->sum[r] = 0.0f;
    if (r >= f->rows) {
      row_sees_nothing(s, r);
      memset(s->q + r * f->shape.unit_ld, 0, (size_t)f->shape.unit_ld * sizeof(float));
      continue;
    }
    if (r + 8 < f->rows)
      prefetch_row(a->dtype, a->head_size, element_at(a->dtype, a->q, offset_of(f, ahead, a->q_row, a->q_batch)));
    row_sees(a, s, r, f->sequence, at.query, at.head);
    load_rows(&f->shape, a->dtype, a->head_size, element_at(a->dtype, a->q, offset_of(f, at, a->q_row, a->q_batch)), 0, 1,
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

/* Scores of a register tile to weights. The rows' maxima and sums move on, and rescale becomes what their sums and results so
 * far are worth. All rows take each step together: of one row alone a step is a long wait for the one before. */
ATTENTION_INLINE void tile_softmax(const forward_item *f, int first, int32_t key, const int rows, const int vectors) {
  const gd_attention *a = f->a;
  attention_scratch *s = f->s;
  vf largest[ROW_GROUP], sums[ROW_GROUP], scale = vf_set1(a->scale);
  for (int r = 0; r < rows; r++) {
    float *score = s->score + (first + r) * SCORE_LD;
    row_mask mask = row_mask_of(s, first + r, key, vectors * VF_LANES);
    largest[r] = vf_set1(-INFINITY);
    ATTENTION_UNROLL for (int v = 0; v < vectors; v++) {
      vf x = vf_mul(mask_vector(&mask, v, vf_load(score + v * VF_LANES)), scale);
      largest[r] = vf_max(x, largest[r]);
      vf_store(score + v * VF_LANES, x);
    }
  }
  vm sees = vi_gt(vi_load_n(s->columns + first, rows), vi_set1(0)); /* of a row that does not, all weights are zero */
  vf old = vf_load_n(s->max + first, rows), now = vf_max(vf_hmax_rows(largest, rows), old);
  vf rescale = vf_exp(vf_select(sees, vf_sub(old, now), vf_zero()));
  _Alignas(64) float shift_of[VF_LANES];
  vf_store(shift_of, vf_select(sees, now, vf_zero()));
  vf_store_n(s->max + first, now, rows);
  vf_store(s->rescale, rescale);
  for (int r = 0; r < rows; r++) {
    float *score = s->score + (first + r) * SCORE_LD;
    vf shift = vf_set1(shift_of[r]), zero = vf_zero(), x[KEY_TILE / VF_LANES] = {zero, zero, zero, zero};
    ATTENTION_UNROLL for (int v = 0; v < vectors; v++) x[v] = vf_exp(vf_sub(vf_load(score + v * VF_LANES), shift));
    sums[r] = vf_add(vf_add(x[0], x[2]), vf_add(x[1], x[3])); /* a row sum of 64 lanes */
    if (a->dropout > 0.0f) {
      float factors[PHILOX_ELEMS];
      philox_dropout64(&a->rng, (uint64_t)(s->random[first + r] + key), gd_rng_dropout_threshold(a->dropout),
                       1.0f / (1.0f - a->dropout), factors);
      for (int v = 0; v < vectors; v++) x[v] = vf_mul(x[v], vf_load(factors + v * VF_LANES));
    }
    ATTENTION_UNROLL for (int v = 0; v < vectors; v++) store_weights(f, score, v, x[v]);
  }
  vf_store_n(s->sum + first, vf_fma(vf_load_n(s->sum + first, rows), rescale, vf_hsum_rows(sums, rows)), rows);
}

/* One register tile of rows (one row alone stays one) against the key tile: scores, weights, result. */
ATTENTION_INLINE void forward_rows(const forward_item *f, int first, int32_t key, const int rows) {
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
  ATTENTION_FOR_VECTORS(tile_softmax, f, first, key, rows, vectors);
  tile_product result = {.steps = units_of(&f->shape, columns),
                         .a = s->score + first * SCORE_LD,
                         .a_row = SCORE_LD,
                         .a_step = 1,
                         .b = s->values,
                         .b_step = f->shape.width,
                         .c = s->out + first * f->shape.width,
                         .c_row = f->shape.width,
                         .start = CHAIN_SCALE,
                         .scale = s->rescale};
  multiply(&result, rows, f->shape.width / VF_LANES, f->shape.pairs);
}

/* Not inlined: next to so much code a compiler leaves the loops over keys in forward_tile as they stand, 3 to 8 % of one query.
 */
static __attribute__((noinline)) void forward_row(const forward_item *f, int32_t key) {
  forward_rows(f, 0, key, 1);
}
static __attribute__((noinline)) void forward_row_group(const forward_item *f, int first, int32_t key) {
  forward_rows(f, first, key, ROW_GROUP);
}

/* lse[r] and what to multiply row r's result with, into rescale[r]; a row that saw nothing has sum 0. */
static void finish_sums(const forward_item *f) {
  attention_scratch *s = f->s;
  for (int r = 0; r < f->rows; r += VF_LANES) {
    int n = vf_left(r, f->rows);
    vf sum = vf_load_n(s->sum + r, n), max = vf_load_n(s->max + r, n);
    vm empty = vi_eq(vf_bits(sum), vi_set1(0));
    vf_store_n(s->rescale + r, vf_select(empty, vf_zero(), vf_div(vf_set1(1.0f), sum)), n);
    vf_store_n(s->lse + r, vf_select(empty, vf_set1(-INFINITY), vf_add(max, vf_log(sum))), n);
  }
}

static void store_results(const forward_item *f) {
  const gd_attention *a = f->a;
  attention_scratch *s = f->s;
  row_place at = first_place(f);
  finish_sums(f);
  for (int r = 0; r < f->rows; r++, next_place(f, &at)) {
    vf inverse = vf_set1(s->rescale[r]);
    int64_t to = offset_of(f, at, a->out_row, a->out_batch);
    for (int64_t d = 0; d < a->head_size; d += VF_LANES) {
      vf x = attention_settle(vf_load(s->out + r * f->shape.width + d), f->shape.pairs);
      vf_store_as(a->dtype, a->out, to + d, attention_settle(vf_mul(x, inverse), false), vf_left(d, a->head_size));
    }
    a->lse[(f->sequence * a->heads + at.head) * a->query_length + at.query] = s->lse[r];
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
      forward_row(f, key);
      continue;
    }
    for (int r = first; r < stop; r += ROW_GROUP) forward_row_group(f, r, key);
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
