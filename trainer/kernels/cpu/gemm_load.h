/* gemm_load.h - operands of a product to vectors of units, and the step of a chain. */
#ifndef GD_TRAINER_KERNELS_CPU_GEMM_LOAD_H
#define GD_TRAINER_KERNELS_CPU_GEMM_LOAD_H

#include "trainer/kernels/cpu/gemm.h"

/* 16 units along k from p on, k contiguous, of which `left` elements are there (the rest +0). */
static ALWAYS_INLINE vf along_k(const gemm_units units, const char *p, int64_t left) {
  if (units == GEMM_FLOAT32) return left >= 16 ? vf_load((const float *)p) : vf_load_n((const float *)p, (int)left);
  const gd_bfloat16 *half = (const gd_bfloat16 *)p;
#if defined(__AVX512BF16__)
  if (units == GEMM_PAIRS)
    return _mm512_castsi512_ps(left >= 32 ? _mm512_loadu_si512(half)
                                          : _mm512_maskz_loadu_epi16((__mmask32)((1u << left) - 1u), half));
#endif
  return left >= 16 ? vf_load_bf16(half) : vf_load_bf16_n(half, (int)left);
}

/* sum + a * b: one product, or the two of a pair. */
static ALWAYS_INLINE vf gemm_step(bool pairs, vf a, vf b, vf sum) {
#if defined(__AVX512BF16__)
  if (pairs) return _mm512_dpbf16_ps(sum, (__m512bh)_mm512_castps_si512(a), (__m512bh)_mm512_castps_si512(b));
#else
  (void)pairs;
#endif
  return vf_fma(a, b, sum);
}

#endif
