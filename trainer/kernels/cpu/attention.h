/* attention.h - what the forward and the backward attention kernel share: tile sizes, one thread's scratch memory, masks.
 *
 * A work item holds a tile of ROW_TILE query rows against key tiles of KEY_TILE keys at absolute multiples. Rows of a tile are
 * (query, head of the group) pairs, so that grouped heads share the packed keys. Every element of a product is one chain over
 * its inner index ascending (bfloat16 pairs on avx512bf16), so its bits do not depend on the tile that holds it; wholly masked
 * rows and key columns only ever add zeros, and the sign of a zero is made + at the end (attention_settle).
 */
#ifndef GD_TRAINER_KERNELS_CPU_ATTENTION_H
#define GD_TRAINER_KERNELS_CPU_ATTENTION_H

#include "shard/base/dtype.h"
#include "trainer/kernels.h"
#include "trainer/kernels/cpu/simd.h"
#include "trainer/kernels/cpu/table.h"

enum {
  KEY_TILE = 64,
  ROW_GROUP = 6,  /* rows of a register tile */
  ROW_TILE = 132, /* a multiple of ROW_GROUP and of 2 */
  MAX_HEAD = 256,
  SCORE_LD = 80, /* distance of two rows of a score tile; columns up to 71 may be read */
  KEY_ROWS = 66, /* KEY_TILE rounded up to ROW_GROUP */
  POOL_ELEMS = (GD_CPU_SCRATCH_BYTES - (5 << 18)) / 4,
};

/* A "unit" is what one step of a chain takes: a float32, or a pair of bfloat16 in the same 4 bytes. All buffers hold units. */
typedef struct attention_scratch {
  _Alignas(64) float q[ROW_TILE * MAX_HEAD];
  float dout[ROW_TILE * MAX_HEAD];
  float out[ROW_TILE * MAX_HEAD];         /* accumulators of the forward result, or of dq */
  float rows[16 * MAX_HEAD];              /* rows on their way through a transposition */
  float key_columns[MAX_HEAD * KEY_TILE]; /* [unit of D][key] */
  float value_columns[MAX_HEAD * KEY_TILE];
  float keys[KEY_TILE * MAX_HEAD]; /* [unit of keys][D] */
  float values[KEY_TILE * MAX_HEAD];
  float score[ROW_TILE * SCORE_LD];   /* S, then P */
  float dscore[ROW_TILE * SCORE_LD];  /* dP, then dS */
  float q_units[ROW_TILE * MAX_HEAD]; /* [unit of rows][D]: right operands of dk and dv */
  float dout_units[ROW_TILE * MAX_HEAD];
  float score_units[ROW_TILE * SCORE_LD]; /* [unit of rows][key] */
  float dscore_units[ROW_TILE * SCORE_LD];
  float max[ROW_TILE], sum[ROW_TILE], rescale[ROW_TILE];
  float lse[ROW_TILE], delta[ROW_TILE];
  int32_t low[ROW_TILE], high[ROW_TILE], prefix[ROW_TILE]; /* keys low .. high and all below prefix are seen */
  int64_t random[ROW_TILE];                                /* dropout index of key 0 */
  int columns[ROW_TILE];                                   /* row_columns of the key tile at hand */
  float pool[POOL_ELEMS]; /* backward: sums of dk and dv by slots, then, in the one-pass way, all of dq */
} attention_scratch;

/* How the operands of a call are laid out. */
typedef struct attention_shape {
  bool pairs;      /* bfloat16 pairs and vdpbf16ps */
  int32_t group;   /* query heads a key/value head */
  int64_t units;   /* steps of a chain over D */
  int64_t unit_ld; /* units rounded up to 16: distance of two rows of q, dout, rows */
  int64_t width;   /* D rounded up to 16: distance of two rows of out, keys, values */
} attention_shape;

static inline attention_shape attention_shape_of(const gd_attention *a) {
  attention_shape shape = {false, a->heads / a->kv_heads, a->head_size, 0, (a->head_size + 15) / 16 * 16};
#if defined(__AVX512BF16__)
  if (a->dtype == GD_BFLOAT16) {
    shape.pairs = true;
    shape.units = (a->head_size + 1) / 2;
  }
#endif
  shape.unit_ld = (shape.units + 15) / 16 * 16;
  return shape;
}

static inline int32_t min32(int32_t a, int32_t b) {
  return a < b ? a : b;
}
static inline int32_t max32(int32_t a, int32_t b) {
  return a > b ? a : b;
}

static inline const void *element_at(gd_dtype dtype, const void *base, int64_t index) {
  return (const char *)base + index * (int64_t)gd_dtype_bytes(dtype);
}

static inline int32_t query_position(const gd_attention *a, int64_t query) {
  return a->positions ? a->positions[query] : a->query_start + (int32_t)query;
}

/* Keys of sequence b, and where the first of them is. */
static inline int32_t keys_of(const gd_attention *a, int64_t b) {
  return a->starts ? a->starts[b] + a->query_length : a->key_length;
}
static inline int64_t keys_at(const gd_attention *a, int64_t b) {
  return (a->slots ? a->slots[b] : b) * a->kv_batch;
}

/* Writes what query `query` of sequence b, head `head` sees into row r; rows past the end see nothing. */
static inline void row_sees(const gd_attention *a, attention_scratch *s, int r, int64_t b, int64_t query, int64_t head) {
  int32_t position = a->starts ? a->starts[b] + (int32_t)query : query_position(a, query), keys = keys_of(a, b);
  s->low[r] = a->document_starts ? max32(a->document_starts[b * a->query_length + query], 0) : 0;
  s->high[r] = min32(position, keys - 1);
  s->prefix[r] = min32(max32(a->prefix_length, 0), keys);
  s->random[r] = (((a->first_sequence + b) * a->all_heads + a->first_head + head) * a->query_total + position) * a->key_total;
}

static inline void row_sees_nothing(attention_scratch *s, int r) {
  s->low[r] = 0;
  s->high[r] = -1;
  s->prefix[r] = 0;
  s->random[r] = 0;
}

/* Columns [0, end) of the key tile at `key` hold all that row r sees of it; 0 = nothing. */
static inline int row_columns(const attention_scratch *s, int r, int32_t key) {
  int32_t end = s->prefix[r] > key ? s->prefix[r] - key : 0;
  if (s->high[r] >= key && s->high[r] >= s->low[r] && s->low[r] < key + KEY_TILE) end = max32(end, s->high[r] - key + 1);
  return min32(end, KEY_TILE);
}

/* The key tiles [*first, *end) that rows [0, rows) see; empty: 0, 0. */
static inline void tiles_seen(const attention_scratch *s, int rows, int32_t *first, int32_t *end) {
  int32_t low = INT32_MAX, high = -1;
  for (int r = 0; r < rows; r++) {
    if (s->prefix[r] > 0) {
      low = 0;
      high = max32(high, s->prefix[r] - 1);
    }
    if (s->high[r] >= s->low[r]) {
      low = min32(low, s->low[r]);
      high = max32(high, s->high[r]);
    }
  }
  *first = high < 0 ? 0 : low / KEY_TILE;
  *end = high < 0 ? 0 : high / KEY_TILE + 1;
}

/* Writes columns of [0, rows) and the rows [*first, *end) that see anything of the tile, out to whole register tiles; false:
 * none does. */
static inline bool rows_active(attention_scratch *s, int rows, int32_t key, int *first, int *end) {
  int low = rows, high = -1;
  for (int r = 0; r < rows; r++) {
    s->columns[r] = row_columns(s, r, key);
    if (s->columns[r] > 0) {
      low = low < r ? low : r;
      high = r;
    }
  }
  if (high < 0) return false;
  *first = low / ROW_GROUP * ROW_GROUP;
  *end = (high / ROW_GROUP + 1) * ROW_GROUP;
  return true;
}

/* What a row sees of a key tile: columns low .. high and all below prefix. */
typedef struct row_mask {
  bool all; /* of the columns asked for */
  vi low, high, prefix;
} row_mask;

static inline row_mask row_mask_of(const attention_scratch *s, int r, int32_t key, int columns) {
  int32_t low = s->low[r] - key, high = s->high[r] - key, prefix = s->prefix[r] - key;
  return (row_mask){(low <= 0 && high >= columns - 1) || prefix >= columns, vi_set1(low), vi_set1(high), vi_set1(prefix)};
}

/* Vector v of a row's scores: those of columns that it does not see become -infinity, as they stay when scaled. */
static inline vf mask_vector(const row_mask *mask, int v, vf score) {
  static const int32_t lanes[VF_LANES] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  if (mask->all) return score;
  vi column = vi_add(vi_load(lanes), vi_set1(v * VF_LANES));
  vf x = vf_select(vi_gt(mask->low, column), vf_set1(-INFINITY), score);
  x = vf_select(vi_gt(column, mask->high), vf_set1(-INFINITY), x);
  return vf_select(vi_gt(mask->prefix, column), score, x);
}

/* Makes an accumulator independent of how many zeros were added to it: a zero becomes +0, and where products are bfloat16 pairs
 * (the instruction takes subnormal numbers as zero) a subnormal becomes +0 too. */
static inline vf attention_settle(vf x, bool pairs) {
  if (pairs) x = vf_select(vf_lt(vf_abs(x), vf_set1(0x1p-126f)), vf_zero(), x);
  return vf_add(x, vf_zero());
}

static_assert(sizeof(attention_scratch) <= GD_CPU_SCRATCH_BYTES, "attention scratch of a thread");

/* Refuses what the kernels cannot do. */
GD_CHECKED static inline gd_status attention_check(const gd_attention *a) {
  if (a->head_size < 1 || a->head_size > MAX_HEAD)
    return gd_fail(GD_BUG, "attention: head size %d, expected 1 to %d", (int)a->head_size, MAX_HEAD);
  if (a->kv_heads < 1 || a->heads % a->kv_heads)
    return gd_fail(GD_BUG, "attention: %d query heads over %d key/value heads", (int)a->heads, (int)a->kv_heads);
  return GD_OK;
}

#endif
