/* gemm_pack.c - copies of operands in the order in which the micro-kernel reads them. */
#include "trainer/kernels/cpu/gemm.h"

/* 16 units of row x along k, k contiguous, of which `length` elements are there (the rest +0). */
static inline vf along_k(const gemm_operand *m, int64_t x, int64_t k, int64_t length) {
  int64_t at = x * m->x_stride + k;
  if (m->units == GEMM_FLOAT32) return vf_load_as(GD_FLOAT32, m->base, at, vf_left(0, length));
  if (m->units == GEMM_EXPANDED) return vf_load_as(GD_BFLOAT16, m->base, at, vf_left(0, length));
#if defined(__AVX512BF16__)
  const gd_bfloat16 *p = (const gd_bfloat16 *)m->base + at;
  if (length >= 32) return _mm512_castsi512_ps(_mm512_loadu_si512(p));
  return _mm512_castsi512_ps(_mm512_maskz_loadu_epi16((__mmask32)((1u << length) - 1u), p));
#else
  return vf_zero();
#endif
}

/* One unit of k (one or two rows of the matrix) for n <= 16 neighbours x ..., x contiguous; has_second: the pair is whole. */
static inline vf along_x(const gemm_operand *m, int64_t x, int64_t k, bool has_second, int n) {
  int64_t at = k * m->k_stride + x;
  if (m->units == GEMM_FLOAT32) return vf_load_as(GD_FLOAT32, m->base, at, n);
  vf first = vf_load_as(GD_BFLOAT16, m->base, at, n);
  if (m->units == GEMM_EXPANDED) return first;
  vi second = has_second ? vf_bits(vf_load_as(GD_BFLOAT16, m->base, at + m->k_stride, n)) : vi_set1(0);
  return vf_from_bits(vi_or(vi_srl(vf_bits(first), 16), second));
}

#if defined(GD_SIMD_AVX512)
/* Column c of the 16 x 16 block r[] goes to out + c * GEMM_NR. */
static inline void store_transposed(const __m512 r[16], float *out) {
  __m512 t[16], s[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) { /* s[i + c]: column 4 q + c of rows i .. i + 3 in quarter q */
    s[i] = _mm512_shuffle_ps(t[i], t[i + 2], 0x44);
    s[i + 1] = _mm512_shuffle_ps(t[i], t[i + 2], 0xee);
    s[i + 2] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    s[i + 3] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0xee);
  }
  for (int c = 0; c < 4; c++) {
    __m512 low0 = _mm512_shuffle_f32x4(s[c], s[c + 4], 0x88), high0 = _mm512_shuffle_f32x4(s[c], s[c + 4], 0xdd);
    __m512 low1 = _mm512_shuffle_f32x4(s[c + 8], s[c + 12], 0x88), high1 = _mm512_shuffle_f32x4(s[c + 8], s[c + 12], 0xdd);
    _mm512_storeu_ps(out + c * GEMM_NR, _mm512_shuffle_f32x4(low0, low1, 0x88));
    _mm512_storeu_ps(out + (c + 8) * GEMM_NR, _mm512_shuffle_f32x4(low0, low1, 0xdd));
    _mm512_storeu_ps(out + (c + 4) * GEMM_NR, _mm512_shuffle_f32x4(high0, high1, 0x88));
    _mm512_storeu_ps(out + (c + 12) * GEMM_NR, _mm512_shuffle_f32x4(high0, high1, 0xdd));
  }
}
#else
static inline void store_transposed(const vf r[16], float *out) {
  float block[16][16];
  for (int i = 0; i < 16; i++) vf_store(block[i], r[i]);
  for (int c = 0; c < 16; c++)
    for (int i = 0; i < 16; i++) out[c * GEMM_NR + i] = block[i][c];
}
#endif

/* B is [n][k]: blocks of 16 x 16 units are transposed. out has room for whole blocks of 16 units. */
static void pack_b_along_k(const gemm_operand *b, int64_t x, int n, int64_t k, int64_t length, float *out) {
  int64_t elems = gemm_unit_elems(b->units), units = (length + elems - 1) / elems;
  for (int64_t u = 0; u < units; u += 16) {
    vf rows[16];
    for (int i = 0; i < 16; i++) rows[i] = i < n ? along_k(b, x + i, k + u * elems, length - u * elems) : vf_zero();
    store_transposed(rows, out + u * GEMM_NR);
  }
}

static void pack_b_along_x(const gemm_operand *b, int64_t x, int n, int64_t k, int64_t length, float *out) {
  int64_t elems = gemm_unit_elems(b->units), units = (length + elems - 1) / elems;
  for (int64_t u = 0; u < units; u++)
    vf_store(out + u * GEMM_NR, n > 0 ? along_x(b, x, k + u * elems, (u + 1) * elems <= length, n) : vf_zero());
}

void GD_CPU(gemm_pack_b)(const gemm_operand *b, int64_t x, int64_t count, int64_t k, int64_t length, float *out) {
  int64_t panels = (count + GEMM_NR - 1) / GEMM_NR;
  for (int64_t p = 0; p < panels; p++)
    for (int j = 0; j < GEMM_NV; j++) {
      int64_t column = p * GEMM_NR + j * VF_LANES;
      int n = column < count ? vf_left(column, count) : 0;
      float *to = out + p * (GEMM_NR * GEMM_KU) + j * VF_LANES;
      if (b->along_k) {
        pack_b_along_k(b, x + column, n, k, length, to);
      } else {
        pack_b_along_x(b, x + column, n, k, length, to);
      }
    }
}

void GD_CPU(gemm_pack_a)(const gemm_operand *a, int64_t x, int64_t count, int64_t k, int64_t length, float *out) {
  int64_t elems = gemm_unit_elems(a->units), units = (length + elems - 1) / elems;
  int64_t panels = (count + GEMM_MR - 1) / GEMM_MR;
  if (a->along_k) {
    for (int64_t i = 0; i < panels * GEMM_MR; i++) {
      float *row = out + i * GEMM_AROW;
      for (int64_t u = 0; u < units; u += VF_LANES)
        vf_store(row + u, i < count ? along_k(a, x + i, k + u * elems, length - u * elems) : vf_zero());
    }
    return;
  }
  /* A store of 16 lanes runs into the next unit, which is written after it. */
  for (int64_t u = 0; u < units; u++)
    for (int64_t p = 0; p < panels; p++)
      vf_store(out + p * (GEMM_MR * GEMM_AROW) + u * GEMM_MR,
               along_x(a, x + p * GEMM_MR, k + u * elems, (u + 1) * elems <= length, vf_left(p * GEMM_MR, count)));
}
