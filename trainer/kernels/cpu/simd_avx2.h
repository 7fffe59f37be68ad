/* simd_avx2.h - vf on AVX2 with FMA: two registers, `a` holds lanes 0-7 and `b` lanes 8-15. Included by simd.h only. */
#ifndef GD_TRAINER_KERNELS_CPU_SIMD_AVX2_H
#define GD_TRAINER_KERNELS_CPU_SIMD_AVX2_H

typedef struct vf {
  __m256 a, b;
} vf;
typedef struct vi {
  __m256i a, b;
} vi;
typedef struct vm { /* all ones or all zeros in each lane */
  __m256 a, b;
} vm;

static inline vf vf_set1(float x) {
  return (vf){_mm256_set1_ps(x), _mm256_set1_ps(x)};
}
static inline vf vf_load(const float *p) {
  return (vf){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}
static inline void vf_store(float *p, vf x) {
  _mm256_storeu_ps(p, x.a);
  _mm256_storeu_ps(p + 8, x.b);
}

static inline vi vi_set1(int32_t x) {
  return (vi){_mm256_set1_epi32(x), _mm256_set1_epi32(x)};
}

static inline vm vm_first(int n) {
  __m256i count = _mm256_set1_epi32(n);
  return (vm){_mm256_castsi256_ps(_mm256_cmpgt_epi32(count, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))),
              _mm256_castsi256_ps(_mm256_cmpgt_epi32(count, _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15)))};
}

static inline vf vf_load_n(const float *p, int n) {
  vm m = vm_first(n);
  return (vf){_mm256_maskload_ps(p, _mm256_castps_si256(m.a)), _mm256_maskload_ps(p + 8, _mm256_castps_si256(m.b))};
}
static inline void vf_store_n(float *p, vf x, int n) {
  vm m = vm_first(n);
  _mm256_maskstore_ps(p, _mm256_castps_si256(m.a), x.a);
  _mm256_maskstore_ps(p + 8, _mm256_castps_si256(m.b), x.b);
}

static inline vf vf_add(vf x, vf y) {
  return (vf){_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)};
}
static inline vf vf_sub(vf x, vf y) {
  return (vf){_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)};
}
static inline vf vf_mul(vf x, vf y) {
  return (vf){_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)};
}
static inline vf vf_div(vf x, vf y) {
  return (vf){_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)};
}
static inline vf vf_sqrt(vf x) {
  return (vf){_mm256_sqrt_ps(x.a), _mm256_sqrt_ps(x.b)};
}
/* x * y + z, one rounding. */
static inline vf vf_fma(vf x, vf y, vf z) {
  return (vf){_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
/* x > y ? x : y, and x < y ? x : y: the second operand where either is NaN. */
static inline vf vf_max(vf x, vf y) {
  return (vf){_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)};
}
static inline vf vf_min(vf x, vf y) {
  return (vf){_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)};
}

static inline vm vf_lt(vf x, vf y) {
  return (vm){_mm256_cmp_ps(x.a, y.a, _CMP_LT_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_LT_OQ)};
}
static inline vm vf_le(vf x, vf y) {
  return (vm){_mm256_cmp_ps(x.a, y.a, _CMP_LE_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_LE_OQ)};
}
static inline vm vf_gt(vf x, vf y) {
  return (vm){_mm256_cmp_ps(x.a, y.a, _CMP_GT_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_GT_OQ)};
}
static inline vm vf_is_nan(vf x) {
  return (vm){_mm256_cmp_ps(x.a, x.a, _CMP_UNORD_Q), _mm256_cmp_ps(x.b, x.b, _CMP_UNORD_Q)};
}
/* m ? x : y in each lane. */
static inline vf vf_select(vm m, vf x, vf y) {
  return (vf){_mm256_blendv_ps(y.a, x.a, m.a), _mm256_blendv_ps(y.b, x.b, m.b)};
}

static inline vi vf_bits(vf x) {
  return (vi){_mm256_castps_si256(x.a), _mm256_castps_si256(x.b)};
}
static inline vf vf_from_bits(vi x) {
  return (vf){_mm256_castsi256_ps(x.a), _mm256_castsi256_ps(x.b)};
}
static inline vi vi_load(const int32_t *p) {
  return (vi){_mm256_loadu_si256((const __m256i *)(const void *)p), _mm256_loadu_si256((const __m256i *)(const void *)(p + 8))};
}
static inline void vi_store(int32_t *p, vi x) {
  _mm256_storeu_si256((__m256i *)(void *)p, x.a);
  _mm256_storeu_si256((__m256i *)(void *)(p + 8), x.b);
}
static inline vi vi_load_n(const int32_t *p, int n) {
  vm m = vm_first(n);
  return (vi){_mm256_maskload_epi32(p, _mm256_castps_si256(m.a)), _mm256_maskload_epi32(p + 8, _mm256_castps_si256(m.b))};
}
static inline vi vi_add(vi x, vi y) {
  return (vi){_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)};
}
static inline vi vi_sub(vi x, vi y) {
  return (vi){_mm256_sub_epi32(x.a, y.a), _mm256_sub_epi32(x.b, y.b)};
}
static inline vi vi_and(vi x, vi y) {
  return (vi){_mm256_and_si256(x.a, y.a), _mm256_and_si256(x.b, y.b)};
}
static inline vi vi_or(vi x, vi y) {
  return (vi){_mm256_or_si256(x.a, y.a), _mm256_or_si256(x.b, y.b)};
}
static inline vi vi_xor(vi x, vi y) {
  return (vi){_mm256_xor_si256(x.a, y.a), _mm256_xor_si256(x.b, y.b)};
}
static inline vm vi_eq(vi x, vi y) {
  return (vm){_mm256_castsi256_ps(_mm256_cmpeq_epi32(x.a, y.a)), _mm256_castsi256_ps(_mm256_cmpeq_epi32(x.b, y.b))};
}
static inline vm vi_gt(vi x, vi y) {
  return (vm){_mm256_castsi256_ps(_mm256_cmpgt_epi32(x.a, y.a)), _mm256_castsi256_ps(_mm256_cmpgt_epi32(x.b, y.b))};
}
static inline vi vi_select(vm m, vi x, vi y) {
  return vf_bits(vf_select(m, vf_from_bits(x), vf_from_bits(y)));
}
/* Right shift is arithmetic (sra) or logical (srl). */
static inline vi vi_shl(vi x, int count) {
  return (vi){_mm256_slli_epi32(x.a, count), _mm256_slli_epi32(x.b, count)};
}
static inline vi vi_sra(vi x, int count) {
  return (vi){_mm256_srai_epi32(x.a, count), _mm256_srai_epi32(x.b, count)};
}
static inline vi vi_srl(vi x, int count) {
  return (vi){_mm256_srli_epi32(x.a, count), _mm256_srli_epi32(x.b, count)};
}
/* Rounds to nearest even; |x| < 2^31. */
static inline vi vf_to_int(vf x) {
  return (vi){_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)};
}
static inline vf vi_to_float(vi x) {
  return (vf){_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)};
}

static inline __m256 vf_expand_bf16(__m128i half) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}
static inline vf vf_load_bf16(const gd_bfloat16 *p) {
  return (vf){vf_expand_bf16(_mm_loadu_si128((const __m128i *)(const void *)p)),
              vf_expand_bf16(_mm_loadu_si128((const __m128i *)(const void *)(p + 8)))};
}
static inline vf vf_load_bf16_n(const gd_bfloat16 *p, int n) {
  gd_bfloat16 copy[16] = {0};
  memcpy(copy, p, (size_t)n * sizeof *p);
  return vf_load_bf16(copy);
}

/* To nearest even, as gd_bfloat16_from_float. */
static inline __m256i vf_round_bf16_half(__m256 x) {
  __m256i bits = _mm256_castps_si256(x);
  __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  __m256i up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  __m256 nan = _mm256_cmp_ps(x, x, _CMP_UNORD_Q);
  up = _mm256_castps_si256(_mm256_blendv_ps(_mm256_castsi256_ps(up), _mm256_castsi256_ps(quiet), nan));
  return _mm256_srli_epi32(up, 16);
}
static inline void vf_store_bf16(gd_bfloat16 *p, vf x) {
  __m256i packed = _mm256_packus_epi32(vf_round_bf16_half(x.a), vf_round_bf16_half(x.b)); /* quarters a0 b0 a1 b1 */
  _mm256_storeu_si256((__m256i *)(void *)p, _mm256_permute4x64_epi64(packed, 0xd8));
}
static inline void vf_store_bf16_n(gd_bfloat16 *p, vf x, int n) {
  gd_bfloat16 copy[16];
  vf_store_bf16(copy, x);
  memcpy(p, copy, (size_t)n * sizeof *p);
}

#endif
