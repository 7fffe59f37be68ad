/* peak.c - how fast this processor multiplies and adds when no memory is in the way: what shares of peak are measured against.
 */
#include "comm/machine.h"
#include "trainer/kernels/cpu/simd.h"
#include "trainer/kernels/cpu/table.h"

/* Independent sums: enough to cover the latency of an addition, few enough for the registers. */
#if defined(GD_SIMD_AVX2)
enum { CHAINS = 6, ROUNDS = 4096 };
#else
enum { CHAINS = 12, ROUNDS = 4096 };
#endif

/* Returns a number that depends on all chains, so that none is optimised away. */
static float float32_rounds(float seed) {
  vf sum[CHAINS], a = vf_set1(seed), b = vf_set1(1.0f - seed);
  for (int i = 0; i < CHAINS; i++) sum[i] = vf_set1(seed * (float)i);
  for (int round = 0; round < ROUNDS; round++) {
#pragma GCC unroll 16
    for (int i = 0; i < CHAINS; i++) sum[i] = vf_fma(sum[i], b, a);
  }
  for (int i = 1; i < CHAINS; i++) sum[0] = vf_add(sum[0], sum[i]);
  return vf_hsum(sum[0]);
}

#if defined(__AVX512BF16__)
static float bfloat16_rounds(float seed) {
  __m512 sum[CHAINS];
  __m512bh a = _mm512_cvtne2ps_pbh(_mm512_set1_ps(seed), _mm512_set1_ps(1.0f));
  for (int i = 0; i < CHAINS; i++) sum[i] = _mm512_set1_ps(seed * (float)i);
  for (int round = 0; round < ROUNDS; round++) {
#pragma GCC unroll 16
    for (int i = 0; i < CHAINS; i++) sum[i] = _mm512_dpbf16_ps(sum[i], a, a);
  }
  for (int i = 1; i < CHAINS; i++) sum[0] = vf_add(sum[0], sum[i]);
  return vf_hsum(sum[0]);
}
#endif

double GD_CPU(peak_loop)(gd_dtype dtype, double seconds) {
  float (*rounds)(float) = float32_rounds;
  double flops = 2.0 * VF_LANES * CHAINS * ROUNDS;
  if (dtype == GD_BFLOAT16) {
#if defined(__AVX512BF16__)
    rounds = bfloat16_rounds;
    flops *= 2.0;
#else
    return 0.0;
#endif
  }
  volatile float sink = 1e-3f;
  double best = 0.0, start = gd_machine_seconds();
  do { /* the best of many short runs: the machine may be busy */
    double begin = gd_machine_seconds();
    sink = rounds(1e-3f + 0.0f * sink);
    double rate = flops / (gd_machine_seconds() - begin);
    if (rate > best) best = rate;
  } while (gd_machine_seconds() - start < seconds);
  return best;
}
