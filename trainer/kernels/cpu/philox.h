/* philox.h - the counter RNG of shard/base/rng.h, 16 counters at a time: the words of 64 neighbouring elements. Integers only,
 * so plain loops over 16 lanes, which the compiler turns into vectors. */
#ifndef GD_TRAINER_KERNELS_CPU_PHILOX_H
#define GD_TRAINER_KERNELS_CPU_PHILOX_H

#include "shard/base/rng.h"
#include "trainer/kernels/cpu/simd.h"

enum { PHILOX_ELEMS = 64 };

/* out[i] = gd_rng_word(rng, 4 * index4 + i), i < 64. */
static inline void philox_words64(const gd_rng *rng, uint64_t index4, uint32_t out[PHILOX_ELEMS]) {
#if defined(GD_SIMD_AVX512)
  __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  __m512i c0 = _mm512_add_epi32(_mm512_set1_epi32((int32_t)(uint32_t)index4), lane);
  __mmask16 carry = _mm512_cmplt_epu32_mask(c0, lane);
  __m512i c1 = _mm512_set1_epi32((int32_t)(uint32_t)(index4 >> 32));
  c1 = _mm512_mask_add_epi32(c1, carry, c1, _mm512_set1_epi32(1));
  __m512i c2 = _mm512_set1_epi32((int32_t)rng->stream[0]), c3 = _mm512_set1_epi32((int32_t)rng->stream[1]);
  __m512i m0 = _mm512_set1_epi32((int32_t)0xD2511F53u), m1 = _mm512_set1_epi32((int32_t)0xCD9E8D57u);
  uint32_t k0 = rng->key[0], k1 = rng->key[1];
  for (int round = 0; round < 10; round++) {
    __m512i p0_even = _mm512_mul_epu32(c0, m0), p0_odd = _mm512_mul_epu32(_mm512_srli_epi64(c0, 32), m0);
    __m512i p1_even = _mm512_mul_epu32(c2, m1), p1_odd = _mm512_mul_epu32(_mm512_srli_epi64(c2, 32), m1);
    __m512i high0 = _mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64(p0_even, 32), p0_odd);
    __m512i high1 = _mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64(p1_even, 32), p1_odd);
    __m512i low0 = _mm512_mask_blend_epi32(0xaaaa, p0_even, _mm512_slli_epi64(p0_odd, 32));
    __m512i low1 = _mm512_mask_blend_epi32(0xaaaa, p1_even, _mm512_slli_epi64(p1_odd, 32));
    c0 = _mm512_xor_si512(_mm512_xor_si512(high1, c1), _mm512_set1_epi32((int32_t)k0));
    c2 = _mm512_xor_si512(_mm512_xor_si512(high0, c3), _mm512_set1_epi32((int32_t)k1));
    c1 = low1;
    c3 = low0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  /* Word w of counter c goes to 4 c + w: a transposition of 16 x 4. */
  __m512i a = _mm512_unpacklo_epi32(c0, c1), b = _mm512_unpackhi_epi32(c0, c1);
  __m512i c = _mm512_unpacklo_epi32(c2, c3), d = _mm512_unpackhi_epi32(c2, c3);
  __m512i r0 = _mm512_unpacklo_epi64(a, c), r1 = _mm512_unpackhi_epi64(a, c); /* counters 4 L, 4 L + 1 in 128-bit lane L */
  __m512i r2 = _mm512_unpacklo_epi64(b, d), r3 = _mm512_unpackhi_epi64(b, d); /* counters 4 L + 2, 4 L + 3 */
#define PHILOX_STORE(lane)                                                                           \
  _mm_storeu_si128((__m128i *)(void *)(out + 16 * (lane)), _mm512_extracti32x4_epi32(r0, lane));     \
  _mm_storeu_si128((__m128i *)(void *)(out + 16 * (lane) + 4), _mm512_extracti32x4_epi32(r1, lane)); \
  _mm_storeu_si128((__m128i *)(void *)(out + 16 * (lane) + 8), _mm512_extracti32x4_epi32(r2, lane)); \
  _mm_storeu_si128((__m128i *)(void *)(out + 16 * (lane) + 12), _mm512_extracti32x4_epi32(r3, lane))
  PHILOX_STORE(0);
  PHILOX_STORE(1);
  PHILOX_STORE(2);
  PHILOX_STORE(3);
#undef PHILOX_STORE
#else
  uint32_t c0[16], c1[16], c2[16], c3[16];
  uint32_t k0 = rng->key[0], k1 = rng->key[1];
  for (int i = 0; i < 16; i++) {
    uint64_t index = index4 + (uint64_t)i;
    c0[i] = (uint32_t)index;
    c1[i] = (uint32_t)(index >> 32);
    c2[i] = rng->stream[0];
    c3[i] = rng->stream[1];
  }
  for (int round = 0; round < 10; round++) {
    for (int i = 0; i < 16; i++) {
      uint64_t p0 = (uint64_t)0xD2511F53u * c0[i], p1 = (uint64_t)0xCD9E8D57u * c2[i];
      c0[i] = (uint32_t)(p1 >> 32) ^ c1[i] ^ k0;
      c2[i] = (uint32_t)(p0 >> 32) ^ c3[i] ^ k1;
      c1[i] = (uint32_t)p1;
      c3[i] = (uint32_t)p0;
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  for (int i = 0; i < 16; i++) {
    out[4 * i] = c0[i];
    out[4 * i + 1] = c1[i];
    out[4 * i + 2] = c2[i];
    out[4 * i + 3] = c3[i];
  }
#endif
}

/* factors[i] = 0 where element index + i is dropped, else `kept`; i < 64. Any index. */
static inline void philox_dropout64(const gd_rng *rng, uint64_t index, uint32_t threshold, float kept,
                                    float factors[PHILOX_ELEMS]) {
  uint32_t words[PHILOX_ELEMS + 4];
  philox_words64(rng, index / 4, words);
  if (index % 4) gd_rng_words(rng, index / 4 + 16, words + PHILOX_ELEMS);
  const uint32_t *w = words + index % 4;
  for (int i = 0; i < PHILOX_ELEMS; i++) factors[i] = w[i] < threshold ? 0.0f : kept;
}

#endif
