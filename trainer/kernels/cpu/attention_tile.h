/* attention_tile.h - products of small tiles in registers, and how operands are packed for them. */
#ifndef GD_TRAINER_KERNELS_CPU_ATTENTION_TILE_H
#define GD_TRAINER_KERNELS_CPU_ATTENTION_TILE_H

#include "trainer/kernels/cpu/attention.h"
#include "trainer/kernels/cpu/transpose.h"

#define ATTENTION_INLINE static inline __attribute__((always_inline))

/* Loops over a register tile are unrolled, and rows get code for each number of vectors, where vectors are registers; the
 * generic code would only grow. */
#if defined(GD_SIMD_AVX512) || defined(GD_SIMD_AVX2)
#define ATTENTION_UNROLL _Pragma("GCC unroll 8")
#else
#define ATTENTION_UNROLL
#endif
#if defined(GD_SIMD_AVX512)
#define ATTENTION_FOR_VECTORS(function, f, first, key, rows, vectors) \
  switch (vectors) {                                                  \
    case 4: function(f, first, key, rows, 4); break;                  \
    case 3: function(f, first, key, rows, 3); break;                  \
    case 2: function(f, first, key, rows, 2); break;                  \
    case 1: function(f, first, key, rows, 1); break;                  \
    default: function(f, first, key, rows, 0);                        \
  }
#else
#define ATTENTION_FOR_VECTORS(function, f, first, key, rows, vectors) function(f, first, key, rows, vectors)
#endif

#if defined(GD_SIMD_AVX512)
enum { PANEL = 4 }; /* 6 x 4 vectors of 16 lanes: 24 of 32 registers */
#else
enum { PANEL = 1 };
#endif

#if defined(__AVX512BF16__)
/* Sixteen left operands of pair products, rounded to nearest even. The instruction makes subnormal numbers zero, as the
 * products would. */
ATTENTION_INLINE void store_pairs(float *row, int v, vf x) {
  __m256bh half = _mm512_cvtneps_pbh(x);
  memcpy((char *)row + v * 32, &half, sizeof half);
}
#endif

/* Where the chains of a product start: from +0, from C, or from C * scale[row]. */
typedef enum chain_start { CHAIN_ZERO, CHAIN_KEEP, CHAIN_SCALE } chain_start;

/* C[r][n] = start + sum over k ascending of A[r * a_row + k * a_step] * B[k * b_step + n]. */
typedef struct tile_product {
  int64_t steps; /* units of the inner index */
  const float *a;
  int64_t a_row, a_step;
  const float *b;
  int64_t b_step;
  float *c;
  int64_t c_row;
  chain_start start;
  const float *scale;
} tile_product;

ATTENTION_INLINE vf chain_step(bool pairs, vf a, vf b, vf c) {
#if defined(__AVX512BF16__)
  if (pairs) return _mm512_dpbf16_ps(c, (__m512bh)a, (__m512bh)b);
#else
  (void)pairs;
#endif
  return vf_fma(a, b, c);
}

/* One register tile of `rows` rows and `vectors` vectors; all three constants at compile time. */
ATTENTION_INLINE void register_tile(const tile_product *p, int64_t row, int64_t column, const int rows, const int vectors,
                                    const bool pairs) {
  vf sum[ROW_GROUP][PANEL];
  float *c = p->c + row * p->c_row + column;
  const float *a = p->a + row * p->a_row, *b = p->b + column;
  const int64_t a_row = p->a_row, a_step = p->a_step, b_step = p->b_step;
  ATTENTION_UNROLL for (int r = 0; r < rows; r++) {
    ATTENTION_UNROLL for (int v = 0; v < vectors; v++) {
      sum[r][v] = vf_zero();
      if (p->start != CHAIN_ZERO) sum[r][v] = vf_load(c + r * p->c_row + v * VF_LANES);
      if (p->start == CHAIN_SCALE) sum[r][v] = vf_mul(sum[r][v], vf_set1(p->scale[row + r]));
    }
  }
  for (int64_t k = 0; k < p->steps; k++) {
    vf right[PANEL];
    ATTENTION_UNROLL for (int v = 0; v < vectors; v++) right[v] = vf_load(b + k * b_step + v * VF_LANES);
    ATTENTION_UNROLL for (int r = 0; r < rows; r++) {
      vf left = vf_set1(a[r * a_row + k * a_step]);
      ATTENTION_UNROLL for (int v = 0; v < vectors; v++) sum[r][v] = chain_step(pairs, left, right[v], sum[r][v]);
    }
  }
  ATTENTION_UNROLL for (int r = 0; r < rows; r++) {
    ATTENTION_UNROLL for (int v = 0; v < vectors; v++) vf_store(c + r * p->c_row + v * VF_LANES, sum[r][v]);
  }
}

ATTENTION_INLINE void register_tile_of(const tile_product *p, int64_t row, int64_t column, const int rows, int vectors,
                                       const bool pairs) {
#if defined(GD_SIMD_AVX512)
  if (vectors == 4) register_tile(p, row, column, rows, 4, pairs);
  if (vectors == 3) register_tile(p, row, column, rows, 3, pairs);
  if (vectors == 2) register_tile(p, row, column, rows, 2, pairs);
#endif
  if (vectors == 1) register_tile(p, row, column, rows, 1, pairs);
}

/* The whole product: rows rounded up to whole register tiles (one row alone stays one), `vectors` x 16 columns. */
ATTENTION_INLINE void multiply_as(const tile_product *p, int64_t rows, int64_t vectors, const bool pairs) {
  for (int64_t v = 0; v < vectors; v += PANEL) {
    int width = vectors - v < PANEL ? (int)(vectors - v) : PANEL;
    if (rows == 1) {
      register_tile_of(p, 0, v * VF_LANES, 1, width, pairs);
    } else {
      for (int64_t r = 0; r < rows; r += ROW_GROUP) register_tile_of(p, r, v * VF_LANES, ROW_GROUP, width, pairs);
    }
  }
}

static __attribute__((noinline)) void multiply(const tile_product *p, int64_t rows, int64_t vectors, bool pairs) {
#if defined(__AVX512BF16__)
  if (pairs) {
    multiply_as(p, rows, vectors, true);
    return;
  }
#else
  (void)pairs;
#endif
  multiply_as(p, rows, vectors, false);
}

/* Rows of one head lie far apart, which hardware prefetching does not follow. */
static inline void prefetch_row(gd_dtype dtype, int64_t head_size, const void *row) {
  for (int64_t byte = 0; byte < head_size * (int64_t)gd_dtype_bytes(dtype); byte += 64)
    __builtin_prefetch((const char *)row + byte);
}

/* to[r][.] = row r of `from` as units along D, zeros to unit_ld; `stride` elements between rows. */
static inline void load_rows(const attention_shape *shape, gd_dtype dtype, int64_t head_size, const void *from, int64_t stride,
                             int64_t rows, float *to) {
  for (int64_t r = 0; r < rows; r++) {
    const void *row = element_at(dtype, from, r * stride);
    float *units = to + r * shape->unit_ld;
    if (r + 8 < rows) prefetch_row(dtype, head_size, element_at(dtype, row, 8 * stride));
    if (shape->pairs) {
      int64_t d = 0;
      for (; d + 2 * VF_LANES <= head_size; d += 2 * VF_LANES) memcpy(units + d / 2, (const char *)row + 2 * d, 4 * VF_LANES);
      if (d == head_size) continue;
      memcpy(units + d / 2, (const char *)row + 2 * d, (size_t)(head_size - d) * 2);
      memset((char *)units + head_size * 2, 0, (size_t)(shape->unit_ld * 4 - head_size * 2));
    } else {
      int64_t d = 0; /* unit_ld is head_size rounded up to 16 */
      if (dtype == GD_FLOAT32) {
        for (; d + VF_LANES <= head_size; d += VF_LANES) vf_store(units + d, vf_load((const float *)row + d));
      }
      for (; d < head_size; d += VF_LANES) vf_store(units + d, vf_load_as(dtype, row, d, vf_left(d, head_size)));
    }
  }
}

/* columns[unit of D][KEY_TILE] from n rows of keys (or values); columns of absent rows are zero. The n rows at `next` (or
 * NULL), which will be read after these, are fetched meanwhile. */
static inline void pack_columns(const attention_shape *shape, gd_dtype dtype, int64_t head_size, const void *from,
                                int64_t stride, int n, const void *next, float *rows, float *columns) {
  for (int first = 0; first < KEY_TILE; first += 16) {
    int count = n - first < 16 ? n - first : 16;
    if (count <= 0) {
      for (int64_t d = 0; d < shape->unit_ld; d++) memset(columns + d * KEY_TILE + first, 0, 16 * sizeof(float));
      continue;
    }
    const float *source = rows;
    int64_t source_row = shape->unit_ld;
    for (int r = first + 16; r < n && r < first + 32; r++) prefetch_row(dtype, head_size, element_at(dtype, from, r * stride));
    for (int r = first; next && r < n && r < first + 16; r++)
      prefetch_row(dtype, head_size, element_at(dtype, next, r * stride));
    if (dtype == GD_FLOAT32 && count == 16 && head_size % 16 == 0) {
      source = (const float *)from + first * stride;
      source_row = stride;
    } else if (shape->pairs && count == 16 && head_size % 32 == 0 && stride % 2 == 0) {
      source = (const float *)element_at(dtype, from, first * stride); /* pairs in place */
      source_row = stride / 2;
    } else {
      load_rows(shape, dtype, head_size, element_at(dtype, from, first * stride), stride, count, rows);
      memset(rows + count * shape->unit_ld, 0, (size_t)((16 - count) * shape->unit_ld) * sizeof(float));
    }
    for (int64_t d = 0; d < shape->unit_ld; d += 16) {
      vf block[16];
      for (int r = 0; r < 16; r++) block[r] = vf_load(source + r * source_row + d);
      transpose16(block, columns + d * KEY_TILE + first, KEY_TILE);
    }
  }
}

/* to[j][i] = the pair (from row 2 j element i, row 2 j + 1 element i), i < width, bfloat16 rows `stride` elements apart; rows
 * from n on and elements from `present` on are zero. n_padded = rows to write, even. */
static inline void interleave_rows(const void *from, int64_t stride, int64_t n, int64_t n_padded, int64_t present,
                                   int64_t width, float *to, int64_t to_row) {
  for (int64_t j = 0; j < n_padded / 2; j++) {
    const char *low = (const char *)from + 4 * j * stride, *high = low + 2 * stride;
    float *out = to + j * to_row;
    int64_t filled = 2 * j < n ? present : 0;
    bool both = 2 * j + 1 < n;
    int64_t i = 0;
#if defined(GD_SIMD_AVX512)
    for (; both && i + VF_LANES <= filled; i += VF_LANES) {
      __m512i a = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)(low + 2 * i)));
      __m512i b = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)(high + 2 * i)));
      _mm512_storeu_si512(out + i, _mm512_or_si512(a, _mm512_slli_epi32(b, 16)));
    }
#endif
    for (; i < filled; i++) {
      uint16_t a, b = 0;
      memcpy(&a, low + 2 * i, 2);
      if (both) memcpy(&b, high + 2 * i, 2);
      uint32_t word = (uint32_t)a | (uint32_t)b << 16;
      memcpy(out + i, &word, 4);
    }
    memset(out + filled, 0, (size_t)(width - filled) * 4);
  }
}

/* The right operand of a product over rows: [unit of rows][width], from n rows of stored elements; n_padded rows are written.
 */
static inline void pack_rows(const attention_shape *shape, gd_dtype dtype, int64_t head_size, const void *from, int64_t stride,
                             int64_t n, int64_t n_padded, float *to) {
  if (shape->pairs) {
    interleave_rows(from, stride, n, n_padded, head_size, shape->width, to, shape->width);
    return;
  }
  load_rows(shape, dtype, head_size, from, stride, n, to); /* unit_ld == width here */
  memset(to + n * shape->width, 0, (size_t)((n_padded - n) * shape->width) * sizeof(float));
}

/* Units in `rows` rows of a product over rows. */
static inline int64_t units_of(const attention_shape *shape, int64_t rows) {
  return shape->pairs ? (rows + 1) / 2 : rows;
}

#endif
