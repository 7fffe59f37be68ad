/* gemm_pack.c - copies of operands in the order in which the micro-kernel reads them. */
#include "trainer/kernels/cpu/gemm.h"
#include "trainer/kernels/cpu/gemm_load.h"
#include "trainer/kernels/cpu/transpose.h"

/* How far a packing reads ahead of itself: nobody fetched the operands of a product's first one, which lie in memory or in
 * another core's cache. */
enum { AHEAD_ELEMS = 256, AHEAD_BYTES = 256 };

/* `units` is a constant wherever these are inlined. */

static ALWAYS_INLINE const char *address(const gemm_operand *m, const gemm_units units, int64_t x, int64_t k) {
  return (const char *)m->base + (x * m->x_stride + k * m->k_stride) * gemm_element_bytes(units);
}

/* One unit of k for 16 neighbours along x from p on, x contiguous, of which n are there; second: the other row of a pair or
 * NULL. */
static ALWAYS_INLINE vf along_x(const gemm_units units, const char *p, const char *second, int64_t n) {
  if (units == GEMM_FLOAT32) return n >= 16 ? vf_load((const float *)p) : vf_load_n((const float *)p, (int)n);
  const gd_bfloat16 *low = (const gd_bfloat16 *)p;
#if defined(__AVX512BF16__)
  if (units == GEMM_PAIRS) {
    const gd_bfloat16 *high = (const gd_bfloat16 *)second;
    __mmask16 m = n >= 16 ? 0xffff : vm_first((int)n);
    __m256i a = _mm256_maskz_loadu_epi16(m, low), b = high ? _mm256_maskz_loadu_epi16(m, high) : _mm256_setzero_si256();
    __m512i order = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37, 5, 36, 4,
                                     35, 3, 34, 2, 33, 1, 32, 0);
    return _mm512_castsi512_ps(_mm512_permutex2var_epi16(_mm512_castsi256_si512(a), order, _mm512_castsi256_si512(b)));
  }
#endif
  (void)second;
  return n >= 16 ? vf_load_bf16(low) : vf_load_bf16_n(low, (int)n);
}

/* B is [n][k]: blocks of 16 x 16 units are transposed. out has room for whole blocks of 16 units. */
static ALWAYS_INLINE void transpose_b(const gemm_operand *b, const gemm_units units, int64_t x, int64_t count, int64_t k,
                                      int64_t length, float *out) {
  int64_t elems = gemm_unit_elems(units), panels = (count + GEMM_NR - 1) / GEMM_NR, panel_floats = gemm_b_panel(units, length);
  int64_t row_bytes = b->x_stride * gemm_element_bytes(units);
  for (int64_t column = 0; column < panels * GEMM_NR; column += VF_LANES) {
    float *to = out + column / GEMM_NR * panel_floats + column % GEMM_NR;
    for (int64_t at = 0; at < length; at += 16 * elems) {
      const char *p = address(b, units, x + column, k + at);
      vf rows[16];
      for (int i = 0; i < 16; i++) __builtin_prefetch(p + i * row_bytes + AHEAD_BYTES);
      for (int i = 0; i < 16; i++) rows[i] = column + i < count ? along_k(units, p + i * row_bytes, length - at) : vf_zero();
      transpose16(rows, to + at / elems * GEMM_NR, GEMM_NR);
    }
  }
}

/* The matrix is [k][x]: whole rows are read, which the processor's prefetch follows, and dealt to panels `width` units wide and
 * panel_floats apart. Stores of 16 lanes may run into the next unit of a panel, which is written after it. */
static ALWAYS_INLINE void deal_rows(const gemm_operand *m, const gemm_units units, int64_t x, int64_t count, int64_t k,
                                    int64_t length, float *out, const int width, const int64_t panel_floats) {
  int64_t elems = gemm_unit_elems(units), element_bytes = gemm_element_bytes(units);
  int64_t panels = (count + width - 1) / width;
  int64_t ahead = (1 + AHEAD_ELEMS / count) * elems * m->k_stride * element_bytes; /* whole rows of memory */
  for (int64_t at = 0, u = 0; at < length; at += elems, u++) {
    const char *row = address(m, units, x, k + at), *second = at + 1 < length ? row + m->k_stride * element_bytes : NULL;
    for (int64_t panel = 0; panel < panels; panel++)
      for (int j = 0; j < width; j += VF_LANES) {
        int64_t column = panel * width + j, skip = column * element_bytes;
        __builtin_prefetch(row + skip + ahead);
        if (second) __builtin_prefetch(second + skip + ahead);
        float *to = out + panel * panel_floats + u * width + j;
        vf_store(to, column < count ? along_x(units, row + skip, second ? second + skip : NULL, count - column) : vf_zero());
      }
  }
}

/* A is [m][k]: its rows are copied. */
static ALWAYS_INLINE void copy_rows(const gemm_operand *a, const gemm_units units, int64_t x, int64_t count, int64_t k,
                                    int64_t length, float *out) {
  int64_t elems = gemm_unit_elems(units), panels = (count + GEMM_MR - 1) / GEMM_MR, used = (length + elems - 1) / elems;
  for (int64_t i = 0; i < panels * GEMM_MR; i++) {
    float *row = out + i * GEMM_AROW;
    const char *p = address(a, units, x + i, k);
    if (i >= count) {
      memset(row, 0, (size_t)used * sizeof *row);
      continue;
    }
    for (int64_t u = 0; u < used; u += VF_LANES)
      vf_store(row + u, along_k(units, p + u * (units == GEMM_EXPANDED ? 2 : 4), length - u * elems));
  }
}

void GD_CPU(gemm_pack_b)(const gemm_operand *b, int64_t x, int64_t count, int64_t k, int64_t length, float *out) {
#define PACK_B(units)                                                                      \
  case units:                                                                              \
    if (b->along_k) {                                                                      \
      transpose_b(b, units, x, count, k, length, out);                                     \
    } else {                                                                               \
      deal_rows(b, units, x, count, k, length, out, GEMM_NR, gemm_b_panel(units, length)); \
    }                                                                                      \
    break;
  switch (b->units) {
    PACK_B(GEMM_FLOAT32)
    PACK_B(GEMM_EXPANDED)
    PACK_B(GEMM_PAIRS)
  }
}

void GD_CPU(gemm_pack_a)(const gemm_operand *a, int64_t x, int64_t count, int64_t k, int64_t length, float *out) {
#define PACK_A(units)                                                             \
  case units:                                                                     \
    if (a->along_k) {                                                             \
      copy_rows(a, units, x, count, k, length, out);                              \
    } else {                                                                      \
      deal_rows(a, units, x, count, k, length, out, GEMM_MR, GEMM_MR *GEMM_AROW); \
    }                                                                             \
    break;
  switch (a->units) {
    PACK_A(GEMM_FLOAT32)
    PACK_A(GEMM_EXPANDED)
    PACK_A(GEMM_PAIRS)
  }
}
