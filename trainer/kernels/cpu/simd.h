/* simd.h - vectors of 16 float32 lanes that give the same bits on every instruction set.
 *
 * A vf is one zmm register (AVX-512), two ymm (AVX2) or an array (generic). Every function rounds as IEEE 754 says, fused
 * multiply-add is fused everywhere, and horizontal sums have one fixed order, so a kernel written in these gives equal bits on
 * all tables. Tails: the _n forms touch only the first n lanes of memory (0 <= n <= 16); lanes from n on load as +0. An
 * element-wise kernel that uses them gives an element the same value wherever a loop was cut.
 */
#ifndef GD_TRAINER_KERNELS_CPU_SIMD_H
#define GD_TRAINER_KERNELS_CPU_SIMD_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "shard/base/dtype.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
#define GD_SIMD_AVX512 1
#include <immintrin.h>
#elif defined(__AVX2__) && defined(__FMA__)
#define GD_SIMD_AVX2 1
#include <immintrin.h>
#endif

enum { VF_LANES = 16 };

#define ALWAYS_INLINE inline __attribute__((always_inline))

#if defined(GD_SIMD_AVX512)
#include "trainer/kernels/cpu/simd_avx512.h"
#elif defined(GD_SIMD_AVX2)
#include "trainer/kernels/cpu/simd_avx2.h"
#else
#include "trainer/kernels/cpu/simd_generic.h"
#endif

/* ---- the same on all instruction sets ---- */

static inline vf vf_zero(void) {
  return vf_set1(0.0f);
}

/* -x, also of zeros and NaN. */
static inline vf vf_neg(vf a) {
  return vf_from_bits(vi_xor(vf_bits(a), vi_set1((int32_t)0x80000000u)));
}

static inline vf vf_abs(vf a) {
  return vf_from_bits(vi_and(vf_bits(a), vi_set1(0x7fffffff)));
}

/* |a| with the sign of b; a must not be negative. */
static inline vf vf_with_sign(vf a, vf b) {
  return vf_from_bits(vi_or(vf_bits(a), vi_and(vf_bits(b), vi_set1((int32_t)0x80000000u))));
}

/* -a * b + c, one rounding. */
static inline vf vf_fnma(vf a, vf b, vf c) {
#if defined(GD_SIMD_AVX512)
  return _mm512_fnmadd_ps(a, b, c);
#else
  return vf_fma(vf_neg(a), b, c);
#endif
}

/* The sum of 16 lanes: lane i + lane i + 8, then + 4, + 2, + 1. */
static inline float vf_hsum(vf a) {
#if defined(GD_SIMD_AVX512) || defined(GD_SIMD_AVX2)
#if defined(GD_SIMD_AVX512)
  __m256 half = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
#else
  __m256 half = _mm256_add_ps(a.a, a.b);
#endif
  __m128 x4 = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  __m128 x2 = _mm_add_ps(x4, _mm_movehl_ps(x4, x4));
  return _mm_cvtss_f32(_mm_add_ss(x2, _mm_movehdup_ps(x2)));
#else
  float x[VF_LANES];
  vf_store(x, a);
  for (int width = 8; width > 0; width /= 2)
    for (int i = 0; i < width; i++) x[i] += x[i + width];
  return x[0];
#endif
}

/* The largest lane (no lane may be NaN). */
static inline float vf_hmax(vf a) {
#if defined(GD_SIMD_AVX512) || defined(GD_SIMD_AVX2)
#if defined(GD_SIMD_AVX512)
  __m256 half = _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
#else
  __m256 half = _mm256_max_ps(a.a, a.b);
#endif
  __m128 x4 = _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  __m128 x2 = _mm_max_ps(x4, _mm_movehl_ps(x4, x4));
  return _mm_cvtss_f32(_mm_max_ss(x2, _mm_movehdup_ps(x2)));
#else
  float x[VF_LANES];
  vf_store(x, a);
  for (int width = 8; width > 0; width /= 2)
    for (int i = 0; i < width; i++) x[i] = x[i] > x[i + width] ? x[i] : x[i + width];
  return x[0];
#endif
}

/* Lane r is vf_hsum, or vf_hmax, of rows[r]; n of them, at most 8, a constant. With AVX-512 all rows take each step together.
 */
static ALWAYS_INLINE vf vf_fold_rows(const vf *rows, const int n, const bool largest) {
#if defined(GD_SIMD_AVX512)
#define FOLD(a, b) (largest ? vf_max((a), (b)) : vf_add((a), (b)))
  if (n == 1) return vf_set1(largest ? vf_hmax(rows[0]) : vf_hsum(rows[0]));
  vf x8[4], x4[2]; /* two rows of 8 lanes, four of 4 */
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {
    vf a = rows[2 * i < n ? 2 * i : 0], b = rows[2 * i + 1 < n ? 2 * i + 1 : 0];
    x8[i] = FOLD(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
  }
#pragma GCC unroll 2
  for (int i = 0; i < 2; i++) {
    vf a = x8[2 * i], b = x8[2 * i + 1];
    x4[i] = FOLD(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
  }
  __m512d a = _mm512_castps_pd(x4[0]), b = _mm512_castps_pd(x4[1]);
  vf x2 = FOLD(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)), _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
  vf x1 = FOLD(x2, _mm512_movehdup_ps(x2)); /* rows 0, 4, 1, 5, 2, 6, 3, 7 in every other lane */
#undef FOLD
  return _mm512_permutexvar_ps(_mm512_set_epi32(0, 0, 0, 0, 0, 0, 0, 0, 14, 10, 6, 2, 12, 8, 4, 0), x1);
#else
  float x[VF_LANES] = {0.0f};
  for (int r = 0; r < n; r++) x[r] = largest ? vf_hmax(rows[r]) : vf_hsum(rows[r]);
  return vf_load(x);
#endif
}
static ALWAYS_INLINE vf vf_hsum_rows(const vf *rows, const int n) {
  return vf_fold_rows(rows, n, false);
}
static ALWAYS_INLINE vf vf_hmax_rows(const vf *rows, const int n) {
  return vf_fold_rows(rows, n, true);
}

/* Lanes 0 .. n-1 of a, the others from b. */
static inline vf vf_first_n(vf a, vf b, int n) {
  return vf_select(vm_first(n), a, b);
}

/* How many lanes are left from index i of n: 16, or the tail. */
static inline int vf_left(int64_t i, int64_t n) {
  return n - i >= VF_LANES ? VF_LANES : (int)(n - i);
}

/* Tensors of the stored dtype (float32 or bfloat16), element index i. */
static inline vf vf_load_as(gd_dtype dtype, const void *base, int64_t i, int n) {
  if (dtype == GD_BFLOAT16) {
    const gd_bfloat16 *p = (const gd_bfloat16 *)base + i;
    return n == VF_LANES ? vf_load_bf16(p) : vf_load_bf16_n(p, n);
  }
  const float *p = (const float *)base + i;
  return n == VF_LANES ? vf_load(p) : vf_load_n(p, n);
}

static inline void vf_store_as(gd_dtype dtype, void *base, int64_t i, vf a, int n) {
  if (dtype == GD_BFLOAT16) {
    gd_bfloat16 *p = (gd_bfloat16 *)base + i;
    if (n == VF_LANES) {
      vf_store_bf16(p, a);
    } else {
      vf_store_bf16_n(p, a, n);
    }
    return;
  }
  float *p = (float *)base + i;
  if (n == VF_LANES) {
    vf_store(p, a);
  } else {
    vf_store_n(p, a, n);
  }
}

/* Some whole vectors at once, as many as registers hold. A function of one vector is a long wait, and a processor looks only so
 * far ahead: where they lie side by side, each step of one fills the wait of the others. */
#if defined(GD_SIMD_AVX512)
enum { VF_GROUP = 4 };
#elif defined(GD_SIMD_AVX2)
enum { VF_GROUP = 2 };
#else
enum { VF_GROUP = 1 };
#endif
enum { VF_GROUP_LANES = VF_GROUP * VF_LANES };
#define VF_FOR_GROUP(v) _Pragma("GCC unroll 4") for (int v = 0; v < VF_GROUP; v++)

static ALWAYS_INLINE void vf_load_group(const gd_dtype dtype, const void *base, int64_t i, vf x[VF_GROUP]) {
#if defined(GD_SIMD_AVX512)
  if (dtype == GD_BFLOAT16) {
    vf_load_bf16_pair((const gd_bfloat16 *)base + i, x);
    vf_load_bf16_pair((const gd_bfloat16 *)base + i + 2 * VF_LANES, x + 2);
    return;
  }
#endif
  for (int v = 0; v < VF_GROUP; v++) x[v] = vf_load_as(dtype, base, i + v * VF_LANES, VF_LANES);
}

static ALWAYS_INLINE void vf_store_group(const gd_dtype dtype, void *base, int64_t i, const vf x[VF_GROUP]) {
#if defined(__AVX512BF16__)
  if (dtype == GD_BFLOAT16 && __builtin_expect(!vf_any_subnormal(x), 1)) {
    vf_store_bf16_pair((gd_bfloat16 *)base + i, x);
    vf_store_bf16_pair((gd_bfloat16 *)base + i + 2 * VF_LANES, x + 2);
    return;
  }
#endif
  for (int v = 0; v < VF_GROUP; v++) vf_store_as(dtype, base, i + v * VF_LANES, x[v], VF_LANES);
}

/* ---- sums along a row ---- */

/* A row sum has 128 lanes (docs/rounding.md), which are eight vectors: lane l is the chain over elements l, l + 128, ... */
enum { ROW_VECTORS = 8, ROW_LANES = ROW_VECTORS * VF_LANES };

typedef struct row_sum {
  vf lanes[ROW_VECTORS];
} row_sum;

static inline row_sum row_sum_zero(void) {
  vf zero = vf_zero();
  return (row_sum){{zero, zero, zero, zero, zero, zero, zero, zero}};
}

/* Lane i + lane i + 64, then + 32, + 16, + 8, + 4, + 2, + 1. */
static inline float row_sum_total(row_sum s) {
  for (int half = ROW_VECTORS / 2; half > 0; half /= 2)
    for (int v = 0; v < half; v++) s.lanes[v] = vf_add(s.lanes[v], s.lanes[v + half]);
  return vf_hsum(s.lanes[0]);
}

/* Visits a row of `width` elements: the vector at c belongs to lanes[v] and has n elements. Vectors past the end are left out:
 * their +0 would change nothing. First the whole groups of 128, where n is the constant 16, then the rest. As many lanes at
 * once as registers hold (of two sums), a stretch of the row that stays in the first cache once for each such group; code of
 * its own for each vector, without which a compiler keeps the sums in memory. */
#if defined(GD_SIMD_AVX512)
enum { ROW_AT_ONCE = 8 };
#define ROW_UNROLL _Pragma("GCC unroll 8")
#elif defined(GD_SIMD_AVX2)
enum { ROW_AT_ONCE = 2 };
#define ROW_UNROLL _Pragma("GCC unroll 8")
#else
enum { ROW_AT_ONCE = 1 };
#define ROW_UNROLL
#endif
enum { ROW_STRETCH = 8 * ROW_LANES };
/* clang-format off */
#define ROW_FOR_VECTORS(v, c, n, width)                                                                      \
  ROW_UNROLL for (int v##_rest = 0; v##_rest < 2; v##_rest++)                                                \
    for (int64_t v##_from = v##_rest ? (width) / ROW_LANES * ROW_LANES : 0,                                  \
                 v##_end = v##_rest ? (width) : (width) / ROW_LANES * ROW_LANES;                             \
         v##_from < v##_end; v##_from += ROW_STRETCH)                                                        \
      ROW_UNROLL for (int64_t v##_group = 0; v##_group < ROW_VECTORS; v##_group += ROW_AT_ONCE)              \
        for (int64_t v##_first = v##_from + v##_group * VF_LANES;                                            \
             v##_first < v##_end && v##_first < v##_from + ROW_STRETCH; v##_first += ROW_LANES)              \
          ROW_UNROLL for (int64_t v = v##_group, c = v##_first; v < v##_group + ROW_AT_ONCE; v++, c += VF_LANES) \
            for (int n = !v##_rest ? VF_LANES : c < (width) ? vf_left(c, width) : 0; n > 0; n = 0)
/* clang-format on */

#endif
