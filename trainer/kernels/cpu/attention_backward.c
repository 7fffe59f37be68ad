/* attention_backward.c - gradients of attention, the weights recomputed from the log of the sum of exp (Dao 2023, algorithm 2).
 *
 * dq of a row is one chain over key tiles ascending. dk and dv of a key tile are a tree over time blocks of trees over
 * query blocks of trees over the query heads of the group, each leaf one chain over its rows ascending. Two ways to the same
 * bits: one pass over (key tile, head, query block) with all of dq in scratch memory, or, where that does not fit or there are
 * too few key/value heads for the threads, a pass for dq and a pass for dk and dv. */
#include "trainer/kernels/cpu/attention_tile.h"
#include "trainer/kernels/cpu/math.h"
#include "trainer/kernels/cpu/parallel.h"
#include "trainer/kernels/cpu/philox.h"
#include "trainer/kernels/cpu/tree_stack.h"

typedef struct backward_rows {
  const gd_attention *a;
  attention_shape shape;
  attention_scratch *s;
  int64_t sequence, head, kv_head, first_query;
  int rows, padded;
} backward_rows;

/* ---- rows and keys into scratch memory ---- */

static void see_rows(backward_rows *b, int64_t head, int64_t first_query, int64_t rows) {
  b->head = head;
  b->first_query = first_query;
  b->rows = (int)rows;
  b->padded = (b->rows + ROW_GROUP - 1) / ROW_GROUP * ROW_GROUP;
  for (int r = 0; r < b->padded; r++) {
    if (r < b->rows) {
      row_sees(b->a, b->s, r, b->sequence, first_query + r, head);
    } else {
      row_sees_nothing(b->s, r);
    }
  }
}

static void load_backward_rows(const backward_rows *b) {
  const gd_attention *a = b->a;
  attention_scratch *s = b->s;
  int64_t unit_ld = b->shape.unit_ld, head = b->head * a->head_size;
  int64_t q = b->sequence * a->q_batch + b->first_query * a->q_row + head;
  int64_t out = b->sequence * a->out_batch + b->first_query * a->out_row + head;
  load_rows(&b->shape, a->dtype, a->head_size, element_at(a->dtype, a->q, q), a->q_row, b->rows, s->q);
  load_rows(&b->shape, a->dtype, a->head_size, element_at(a->dtype, a->dout, out), a->out_row, b->rows, s->dout);
  size_t rest = (size_t)((b->padded - b->rows) * unit_ld) * sizeof(float);
  memset(s->q + b->rows * unit_ld, 0, rest);
  memset(s->dout + b->rows * unit_ld, 0, rest);
  int64_t row = (b->sequence * a->heads + b->head) * a->query_length + b->first_query;
  for (int r = 0; r < b->padded; r++) {
    s->lse[r] = r < b->rows ? a->lse[row + r] : 0.0f;
    s->delta[r] = r < b->rows ? a->delta[row + r] : 0.0f;
  }
}

static void load_keys(const backward_rows *b, int32_t key, bool for_dq) {
  const gd_attention *a = b->a;
  attention_scratch *s = b->s;
  int keys = min32(a->key_length - key, KEY_TILE);
  int64_t at = b->sequence * a->kv_batch + (int64_t)key * a->kv_row + b->kv_head * a->head_size;
  const void *k = element_at(a->dtype, a->k, at), *v = element_at(a->dtype, a->v, at);
  pack_columns(&b->shape, a->dtype, a->head_size, k, a->kv_row, keys, v, s->rows, s->key_columns);
  pack_columns(&b->shape, a->dtype, a->head_size, v, a->kv_row, keys, NULL, s->rows, s->value_columns);
  if (for_dq) pack_rows(&b->shape, a->dtype, a->head_size, k, a->kv_row, keys, KEY_TILE, s->keys);
}

/* ---- weights and their gradients ---- */

static inline void store_operand(const attention_shape *shape, float *row, int v, vf x) {
#if defined(__AVX512BF16__)
  if (shape->pairs) {
    store_pairs(row, v, x);
    return;
  }
#else
  (void)shape;
#endif
  vf_store(row + v * VF_LANES, x);
}

/* score := P (after dropout), dscore := dS = P * (dP - delta), over the whole key tile; columns from `vectors` on are zero. */
ATTENTION_INLINE void row_gradients(const backward_rows *b, int r, int32_t key, const int vectors) {
  const gd_attention *a = b->a;
  attention_scratch *s = b->s;
  float *score = s->score + r * SCORE_LD, *dscore = s->dscore + r * SCORE_LD;
  float factors[PHILOX_ELEMS];
  bool sees = s->columns[r] > 0, dropout = a->dropout > 0.0f;
  row_mask mask = row_mask_of(s, r, key, vectors * VF_LANES);
  if (sees && dropout) {
    philox_dropout64(&a->rng, (uint64_t)(s->random[r] + key), gd_rng_dropout_threshold(a->dropout), 1.0f / (1.0f - a->dropout),
                     factors);
  }
  vf scale = vf_set1(a->scale), lse = vf_set1(s->lse[r]), delta = vf_set1(s->delta[r]);
  for (int v = 0; sees && v < vectors; v++) {
    vf seen = mask_vector(&mask, v, vf_load(score + v * VF_LANES));
    vf weight = vf_exp(vf_sub(vf_mul(seen, scale), lse)), dweight = vf_load(dscore + v * VF_LANES);
    vf used = weight;
    if (dropout) {
      vf factor = vf_load(factors + v * VF_LANES);
      used = vf_mul(weight, factor);
      dweight = vf_mul(dweight, factor);
    }
    store_operand(&b->shape, score, v, used);
    store_operand(&b->shape, dscore, v, vf_mul(weight, vf_sub(dweight, delta)));
  }
  for (int v = sees ? vectors : 0; v < KEY_TILE / VF_LANES; v++) {
    store_operand(&b->shape, score, v, vf_zero());
    store_operand(&b->shape, dscore, v, vf_zero());
  }
}

ATTENTION_INLINE void tile_gradients(const backward_rows *b, int first, int32_t key, const int rows, const int vectors) {
  for (int r = first; r < first + rows; r++) row_gradients(b, r, key, vectors);
}

/* P and dS of one register tile of rows; where dq is given (its row 0 is row 0 of the tile), dq += dS K. */
static void score_rows(const backward_rows *b, int first, int32_t key, float *dq) {
  attention_scratch *s = b->s;
  int columns = 0;
  for (int r = first; r < first + ROW_GROUP; r++) columns = max32(columns, s->columns[r]);
  int vectors = (columns + VF_LANES - 1) / VF_LANES;
  tile_product scores = {.steps = b->shape.units,
                         .a = s->q + first * b->shape.unit_ld,
                         .a_row = b->shape.unit_ld,
                         .a_step = 1,
                         .b = s->key_columns,
                         .b_step = KEY_TILE,
                         .c = s->score + first * SCORE_LD,
                         .c_row = SCORE_LD,
                         .start = CHAIN_ZERO};
  multiply(&scores, ROW_GROUP, vectors, b->shape.pairs);
  scores.a = s->dout + first * b->shape.unit_ld;
  scores.b = s->value_columns;
  scores.c = s->dscore + first * SCORE_LD;
  multiply(&scores, ROW_GROUP, vectors, b->shape.pairs);
  ATTENTION_FOR_VECTORS(tile_gradients, b, first, key, ROW_GROUP, vectors);
  if (!dq || vectors == 0) return;
  tile_product product = {.steps = units_of(&b->shape, columns),
                          .a = s->dscore + first * SCORE_LD,
                          .a_row = SCORE_LD,
                          .a_step = 1,
                          .b = s->keys,
                          .b_step = b->shape.width,
                          .c = dq + first * b->shape.width,
                          .c_row = b->shape.width,
                          .start = CHAIN_KEEP};
  multiply(&product, ROW_GROUP, b->shape.width / VF_LANES, b->shape.pairs);
}

/* dk += dS^T q, dv += P^T dout over rows [first, end) of the tile. */
static void add_key_gradients(const backward_rows *b, int first, int end, float *dk, float *dv) {
  attention_scratch *s = b->s;
  int64_t width = b->shape.width, rows = end - first;
  const float *weights = s->score + first * SCORE_LD, *dscores = s->dscore + first * SCORE_LD;
  const float *q = s->q + first * width, *dout = s->dout + first * width; /* unit_ld == width without pairs */
  if (b->shape.pairs) {
    int64_t ld = b->shape.unit_ld;
    interleave_rows(weights, 2 * SCORE_LD, rows, rows, KEY_TILE, KEY_TILE, s->score_units, SCORE_LD);
    interleave_rows(dscores, 2 * SCORE_LD, rows, rows, KEY_TILE, KEY_TILE, s->dscore_units, SCORE_LD);
    interleave_rows(s->q + first * ld, 2 * ld, rows, rows, b->a->head_size, width, s->q_units, width);
    interleave_rows(s->dout + first * ld, 2 * ld, rows, rows, b->a->head_size, width, s->dout_units, width);
    weights = s->score_units;
    dscores = s->dscore_units;
    q = s->q_units;
    dout = s->dout_units;
  }
  tile_product product = {.a_row = 1, .a_step = SCORE_LD, .b_step = width, .c_row = width, .start = CHAIN_KEEP};
  int row = first;
  for (int64_t column = 0; column < KEY_TILE; column += ROW_GROUP) {
    while (row < end && s->columns[row] <= column) row++; /* rows before see none of these keys, nor of those after */
    int even = first + (row - first) / 2 * 2;
    int64_t skipped = units_of(&b->shape, even - first);
    product.steps = units_of(&b->shape, end - even);
    product.a = weights + skipped * SCORE_LD + column;
    product.b = dout + skipped * width;
    product.c = dv + column * width;
    multiply(&product, ROW_GROUP, width / VF_LANES, b->shape.pairs);
    product.a = dscores + skipped * SCORE_LD + column;
    product.b = q + skipped * width;
    product.c = dk + column * width;
    multiply(&product, ROW_GROUP, width / VF_LANES, b->shape.pairs);
  }
}

/* ---- the tree over leaves: sums in slots, an absent leaf takes none ---- */

static int64_t slot_elems(const attention_shape *shape) {
  return 2 * KEY_ROWS * shape->width;
}

/* The sums of a slot: dk where which is 0, dv where it is 1. */
static float *slot_sums(const backward_rows *b, int slot, int which) {
  return b->s->pool + (2 * slot + which) * KEY_ROWS * b->shape.width;
}

/* Slot top - 2 := slot top - 2 + slot top - 1. */
static void merge(const backward_rows *b, int top) {
  for (int i = 0; i < 2; i++) {
    float *to = slot_sums(b, top - 2, i), *from = slot_sums(b, top - 1, i);
    for (int64_t e = 0; e < KEY_TILE * b->shape.width; e += VF_LANES)
      vf_store(to + e, vf_add(vf_load(to + e), vf_load(from + e)));
  }
}

static void close_nodes(const backward_rows *b, tree_stack *tree, int64_t next) {
  while (tree_closes(tree, next)) merge(b, tree->depth--);
}

static void close_all(const backward_rows *b, tree_stack *tree) {
  while (tree->depth > 1) merge(b, tree->depth--);
}

/* ---- dk and dv of one key tile ---- */

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

/* The leaf of a row, for the first head of the group. */
static int64_t leaf_number(const gd_attention *a, const leaf_numbers *n, int64_t query) {
  int64_t position = query_position(a, query);
  return (position / n->time_block * n->blocks + position % n->time_block / n->query_block) * n->heads;
}

/* The end of the rows that are one leaf with row `query`. */
static int64_t leaf_end(const gd_attention *a, const leaf_numbers *n, int64_t query) {
  int64_t leaf = leaf_number(a, n, query), end = query + 1;
  if (!a->positions) {
    int64_t inside = query_position(a, query) % n->time_block, left = n->query_block - inside % n->query_block;
    end = query + (left < n->time_block - inside ? left : n->time_block - inside);
  }
  while (a->positions && end < a->query_length && leaf_number(a, n, end) == leaf) end++;
  return end < a->query_length ? end : a->query_length;
}

/* One leaf: rows [query, end) of a head, into a slot. False where no row sees the key tile; then the slot is as it was. */
static bool leaf_gradients(backward_rows *b, int64_t head, int64_t query, int64_t end, int32_t key, int slot, float *dq) {
  bool seen = false;
  int first, stop;
  for (; query < end; query += ROW_TILE) {
    see_rows(b, head, query, end - query < ROW_TILE ? end - query : ROW_TILE);
    if (!rows_active(b->s, b->padded, key, &first, &stop)) continue;
    if (!seen) memset(slot_sums(b, slot, 0), 0, (size_t)slot_elems(&b->shape) * sizeof(float));
    seen = true;
    load_backward_rows(b);
    for (int r = first; r < stop; r += ROW_GROUP) score_rows(b, r, key, dq ? dq + query * b->shape.width : NULL);
    add_key_gradients(b, first, stop, slot_sums(b, slot, 0), slot_sums(b, slot, 1));
  }
  return seen;
}

/* Rows of dq, dk or dv from their sums; `stride` elements from row to row of `to`, whose first is element `at`. */
static void store_gradients(const backward_rows *b, const float *sums, float factor, int64_t rows, void *to, int64_t at,
                            int64_t stride) {
  const gd_dtype dtype = b->a->dtype;
  const int64_t size = b->a->head_size, width = b->shape.width;
  const bool pairs = b->shape.pairs;
  for (int64_t r = 0; r < rows; r++, sums += width, at += stride) {
    for (int64_t d = 0; d < size; d += VF_LANES) {
      vf x = vf_mul(attention_settle(vf_load(sums + d), pairs), vf_set1(factor));
      vf_store_as(dtype, to, at + d, attention_settle(x, false), vf_left(d, size));
    }
  }
}

/* From slot 0; seen: false where no row sees the key tile. */
static void store_key_gradients(const backward_rows *b, int32_t key, bool seen) {
  const gd_attention *a = b->a;
  int64_t at = b->sequence * a->kv_batch + (int64_t)key * a->kv_row + b->kv_head * a->head_size;
  int keys = min32(a->key_length - key, KEY_TILE);
  if (!seen) memset(slot_sums(b, 0, 0), 0, (size_t)slot_elems(&b->shape) * sizeof(float));
  store_gradients(b, slot_sums(b, 0, 0), a->scale, keys, a->dk, at, a->kv_row);
  store_gradients(b, slot_sums(b, 0, 1), 1.0f, keys, a->dv, at, a->kv_row);
}

/* dq: NULL, or [group][query_length][width]. */
static void key_tile_gradients(backward_rows *b, int32_t key, float *dq) {
  const gd_attention *a = b->a;
  const leaf_numbers numbers = leaf_numbers_of(a);
  tree_stack tree = {.depth = 0};
  load_keys(b, key, dq != NULL);
  for (int64_t query = 0, end; query < a->query_length; query = end) {
    end = leaf_end(a, &numbers, query);
    int64_t leaf = leaf_number(a, &numbers, query);
    for (int64_t g = 0; g < b->shape.group; g++) {
      close_nodes(b, &tree, leaf + g);
      if (leaf_gradients(b, b->kv_head * b->shape.group + g, query, end, key, tree.depth,
                         dq ? dq + g * a->query_length * b->shape.width : NULL))
        tree_enter(&tree, leaf + g);
    }
  }
  close_all(b, &tree);
  store_key_gradients(b, key, tree.depth > 0);
}

/* ---- the passes ---- */

static void store_query_gradients(const backward_rows *b, int64_t head, int64_t query, int64_t rows, const float *dq) {
  const gd_attention *a = b->a;
  int64_t at = b->sequence * a->q_batch + query * a->q_row + head * a->head_size;
  store_gradients(b, dq, a->scale, rows, a->dq, at, a->q_row);
}

static void one_pass(backward_rows *b, float *dq) {
  const gd_attention *a = b->a;
  int64_t head_elems = a->query_length * b->shape.width;
  memset(dq, 0, (size_t)(b->shape.group * head_elems) * sizeof(float));
  for (int32_t key = 0; key < a->key_length; key += KEY_TILE) key_tile_gradients(b, key, dq);
  for (int64_t g = 0; g < b->shape.group; g++)
    store_query_gradients(b, b->kv_head * b->shape.group + g, 0, a->query_length, dq + g * head_elems);
}

static void query_tile_gradients(backward_rows *b, int64_t head, int64_t query) {
  attention_scratch *s = b->s;
  int32_t tile, end;
  int first, stop;
  int64_t rows = b->a->query_length - query < ROW_TILE ? b->a->query_length - query : ROW_TILE;
  see_rows(b, head, query, rows);
  load_backward_rows(b);
  memset(s->out, 0, (size_t)(b->padded * b->shape.width) * sizeof(float));
  tiles_seen(s, b->padded, &tile, &end);
  for (; tile < end; tile++) {
    if (!rows_active(s, b->padded, tile * KEY_TILE, &first, &stop)) continue;
    load_keys(b, tile * KEY_TILE, true);
    for (int r = first; r < stop; r += ROW_GROUP) score_rows(b, r, tile * KEY_TILE, s->out);
  }
  store_query_gradients(b, head, query, rows, s->out);
}

static void row_deltas(const gd_attention *a, int64_t sequence, int64_t query) {
  for (int64_t head = 0; head < a->heads; head++) {
    int64_t at = sequence * a->out_batch + query * a->out_row + head * a->head_size;
    row_sum sum = row_sum_zero();
    ROW_FOR_VECTORS(v, d, n, a->head_size) {
      sum.lanes[v] = vf_fma(vf_load_as(a->dtype, a->dout, at + d, n), vf_load_as(a->dtype, a->out, at + d, n), sum.lanes[v]);
    }
    a->delta[(sequence * a->heads + head) * a->query_length + query] = row_sum_total(sum);
  }
}

/* Slots that the tree of a key tile holds at most: a node a level, and one to build in. */
static int slots_needed(const gd_attention *a) {
  const leaf_numbers numbers = leaf_numbers_of(a);
  int slots = 3;
  for (int64_t last = leaf_number(a, &numbers, a->query_length - 1) + numbers.heads - 1; last > 0; last /= 2) slots++;
  return slots;
}

static gd_status attention_backward_run(const gd_attention *a, const gd_cpu_context *context) {
  GD_TRY(attention_check(a));
  if (a->batch < 1 || a->query_length < 1) return GD_OK;
  attention_shape shape = attention_shape_of(a);
  int64_t groups = (int64_t)a->batch * a->kv_heads, key_tiles = (a->key_length + KEY_TILE - 1) / KEY_TILE;
  int64_t row_tiles = (a->query_length + ROW_TILE - 1) / ROW_TILE;
  int64_t rows = (int64_t)a->batch * a->query_length;
  for (int32_t i = 1; a->positions && i < a->query_length; i++) {
    if (a->positions[i] <= a->positions[i - 1])
      return gd_fail(GD_BUG, "attention: backward needs ascending positions; query %d stands at %d", i, a->positions[i]);
  }
  int threads = gd_parallel_threads(context->threads, rows * a->heads * a->head_size);
  int64_t pool_slots = slots_needed(a), dq_at = pool_slots * slot_elems(&shape);
  if (dq_at > POOL_ELEMS)
    return gd_fail(GD_BUG, "attention: too many query blocks of %d for head size %d", (int)a->query_block, (int)a->head_size);
  bool together = dq_at + (shape.group * a->query_length + ROW_GROUP) * shape.width <= POOL_ELEMS &&
                  (threads == 1 || groups >= 2 * threads);
#pragma omp parallel num_threads(threads)
  {
#pragma omp for schedule(static)
    for (int64_t i = 0; i < rows; i++) row_deltas(a, i / a->query_length, i % a->query_length);
    backward_rows b = {.a = a, .shape = shape, .s = gd_cpu_scratch(context, omp_get_thread_num())};
    if (together) {
#pragma omp for schedule(dynamic, 1)
      for (int64_t i = 0; i < groups; i++) {
        b.sequence = i / a->kv_heads;
        b.kv_head = i % a->kv_heads;
        one_pass(&b, b.s->pool + dq_at);
      }
    } else {
#pragma omp for schedule(dynamic, 1) nowait
      for (int64_t i = 0; i < groups * shape.group * row_tiles; i++) {
        int64_t head = i / row_tiles % a->heads;
        b.sequence = i / row_tiles / a->heads;
        b.kv_head = head / shape.group;
        query_tile_gradients(&b, head, (row_tiles - 1 - i % row_tiles) * ROW_TILE);
      }
#pragma omp for schedule(dynamic, 1)
      for (int64_t i = 0; i < groups * key_tiles; i++) {
        b.sequence = i / key_tiles / a->kv_heads;
        b.kv_head = i / key_tiles % a->kv_heads;
        key_tile_gradients(&b, (int32_t)(i % key_tiles) * KEY_TILE, NULL);
      }
    }
  }
  return GD_OK;
}

GD_CPU_KERNEL(attention_backward, gd_attention, args->delta,
              (size_t)args->batch *(size_t)args->heads *(size_t)args->query_length * sizeof(float))
