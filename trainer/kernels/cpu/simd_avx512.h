/* simd_avx512.h - vf on AVX-512 (F, BW, VL, DQ): one register. Included by simd.h only. */
#ifndef GD_TRAINER_KERNELS_CPU_SIMD_AVX512_H
#define GD_TRAINER_KERNELS_CPU_SIMD_AVX512_H

typedef __m512 vf;    /* 16 float32 */
typedef __m512i vi;   /* 16 int32 */
typedef __mmask16 vm; /* 16 truth values */

static inline vf vf_set1(float x) {
  return _mm512_set1_ps(x);
}
static inline vf vf_load(const float *p) {
  return _mm512_loadu_ps(p);
}
static inline void vf_store(float *p, vf a) {
  _mm512_storeu_ps(p, a);
}
static inline vm vm_first(int n) {
  return (vm)((1u << n) - 1u);
}
static inline vf vf_load_n(const float *p, int n) {
  return _mm512_maskz_loadu_ps(vm_first(n), p);
}
static inline void vf_store_n(float *p, vf a, int n) {
  _mm512_mask_storeu_ps(p, vm_first(n), a);
}

static inline vf vf_add(vf a, vf b) {
  return _mm512_add_ps(a, b);
}
static inline vf vf_sub(vf a, vf b) {
  return _mm512_sub_ps(a, b);
}
static inline vf vf_mul(vf a, vf b) {
  return _mm512_mul_ps(a, b);
}
static inline vf vf_div(vf a, vf b) {
  return _mm512_div_ps(a, b);
}
static inline vf vf_sqrt(vf a) {
  return _mm512_sqrt_ps(a);
}
/* a * b + c, one rounding. */
static inline vf vf_fma(vf a, vf b, vf c) {
  return _mm512_fmadd_ps(a, b, c);
}
/* a > b ? a : b, and a < b ? a : b: the second operand where either is NaN. */
static inline vf vf_max(vf a, vf b) {
  return _mm512_max_ps(a, b);
}
static inline vf vf_min(vf a, vf b) {
  return _mm512_min_ps(a, b);
}

static inline vm vf_lt(vf a, vf b) {
  return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ);
}
static inline vm vf_le(vf a, vf b) {
  return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ);
}
static inline vm vf_gt(vf a, vf b) {
  return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ);
}
static inline vm vf_is_nan(vf a) {
  return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);
}
/* m ? a : b in each lane. */
static inline vf vf_select(vm m, vf a, vf b) {
  return _mm512_mask_blend_ps(m, b, a);
}

static inline vi vf_bits(vf a) {
  return _mm512_castps_si512(a);
}
static inline vf vf_from_bits(vi a) {
  return _mm512_castsi512_ps(a);
}
static inline vi vi_set1(int32_t x) {
  return _mm512_set1_epi32(x);
}
static inline vi vi_load(const int32_t *p) {
  return _mm512_loadu_si512(p);
}
static inline void vi_store(int32_t *p, vi a) {
  _mm512_storeu_si512(p, a);
}
static inline vi vi_load_n(const int32_t *p, int n) {
  return _mm512_maskz_loadu_epi32(vm_first(n), p);
}
static inline vi vi_add(vi a, vi b) {
  return _mm512_add_epi32(a, b);
}
static inline vi vi_sub(vi a, vi b) {
  return _mm512_sub_epi32(a, b);
}
static inline vi vi_and(vi a, vi b) {
  return _mm512_and_si512(a, b);
}
static inline vi vi_or(vi a, vi b) {
  return _mm512_or_si512(a, b);
}
static inline vi vi_xor(vi a, vi b) {
  return _mm512_xor_si512(a, b);
}
static inline vm vi_eq(vi a, vi b) {
  return _mm512_cmpeq_epi32_mask(a, b);
}
static inline vm vi_gt(vi a, vi b) {
  return _mm512_cmpgt_epi32_mask(a, b);
}
static inline vi vi_select(vm m, vi a, vi b) {
  return _mm512_mask_blend_epi32(m, b, a);
}
/* Shifts by a constant; right shift is arithmetic (sra) or logical (srl). */
#define vi_shl(a, count) _mm512_slli_epi32((a), (count))
#define vi_sra(a, count) _mm512_srai_epi32((a), (count))
#define vi_srl(a, count) _mm512_srli_epi32((a), (count))
/* Rounds to nearest even; |a| < 2^31. */
static inline vi vf_to_int(vf a) {
  return _mm512_cvtps_epi32(a);
}
static inline vf vi_to_float(vi a) {
  return _mm512_cvtepi32_ps(a);
}

/* x 2^n, rounded once: one instruction for what trainer/kernels/math.h makes of factors. */
#define VF_HAS_SCALE
static inline vf vf_scale(vf x, vi n) {
  return _mm512_scalef_ps(x, vi_to_float(n));
}

/* Numbers of 16 bits to the upper halves of lanes, zeros below: one permutation, where widening and a shift are two. */
static inline vf vf_widen_bf16(__m512i all, __m512i order) {
  return _mm512_castsi512_ps(_mm512_maskz_permutexvar_epi16(0xaaaaaaaa, order, all));
}
static inline __m512i vf_bf16_order(void) {
  return _mm512_set_epi16(15, 0, 14, 0, 13, 0, 12, 0, 11, 0, 10, 0, 9, 0, 8, 0, 7, 0, 6, 0, 5, 0, 4, 0, 3, 0, 2, 0, 1, 0, 0, 0);
}

static inline vf vf_load_bf16(const gd_bfloat16 *p) {
  __m256i half = _mm256_loadu_si256((const __m256i *)(const void *)p);
  return vf_widen_bf16(_mm512_castsi256_si512(half), vf_bf16_order());
}

static inline vf vf_load_bf16_n(const gd_bfloat16 *p, int n) {
  return vf_widen_bf16(_mm512_castsi256_si512(_mm256_maskz_loadu_epi16(vm_first(n), p)), vf_bf16_order());
}

/* 32 numbers from p on. */
static inline void vf_load_bf16_pair(const gd_bfloat16 *p, vf *x) {
  __m512i all = _mm512_loadu_si512(p), order = vf_bf16_order();
  x[0] = vf_widen_bf16(all, order);
  x[1] = vf_widen_bf16(all, _mm512_add_epi16(order, _mm512_set1_epi32(16 << 16)));
}

/* To nearest even, as gd_bfloat16_from_float. The instruction for it rounds alike, but takes subnormal numbers as zero: they
 * are rare, so they get a branch. */
static inline __m256i vf_round_bf16(vf a) {
#if defined(__AVX512BF16__)
  enum { SUBNORMAL = 0x20 };
  if (__builtin_expect(_mm512_fpclass_ps_mask(a, SUBNORMAL) == 0, 1)) return (__m256i)_mm512_cvtneps_pbh(a);
#endif
  __m512i bits = _mm512_castps_si512(a);
  __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  __m512i up = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  up = _mm512_mask_or_epi32(up, vf_is_nan(a), bits, _mm512_set1_epi32(0x400000));
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(up, 16));
}

static inline void vf_store_bf16(gd_bfloat16 *p, vf a) {
  _mm256_storeu_si256((__m256i *)(void *)p, vf_round_bf16(a));
}
static inline void vf_store_bf16_n(gd_bfloat16 *p, vf a, int n) {
  _mm256_mask_storeu_epi16(p, vm_first(n), vf_round_bf16(a));
}

#if defined(__AVX512BF16__)
/* Four vectors by one branch. */
static inline bool vf_any_subnormal(const vf *x) {
  enum { SUBNORMAL = 0x20 };
  __mmask16 any = _mm512_fpclass_ps_mask(x[0], SUBNORMAL) | _mm512_fpclass_ps_mask(x[1], SUBNORMAL) |
                  _mm512_fpclass_ps_mask(x[2], SUBNORMAL) | _mm512_fpclass_ps_mask(x[3], SUBNORMAL);
  return any != 0;
}

/* Two vectors without a subnormal number. */
static inline void vf_store_bf16_pair(gd_bfloat16 *p, const vf *x) {
  _mm512_storeu_si512(p, (__m512i)_mm512_cvtne2ps_pbh(x[1], x[0]));
}
#endif

#endif
