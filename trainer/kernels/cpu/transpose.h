/* transpose.h - the one transposition of 16 x 16 units, from 16 vectors to memory: keys for attention, weights for the product.
 */
#ifndef GD_TRAINER_KERNELS_CPU_TRANSPOSE_H
#define GD_TRAINER_KERNELS_CPU_TRANSPOSE_H

#include "trainer/kernels/cpu/simd.h"

/* to[c * to_row + i] = lane c of r[i]. */
static inline void transpose16(const vf r[16], float *to, int64_t to_row) {
#if defined(GD_SIMD_AVX512)
  __m512 t[16], s[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) { /* s[i + c], quarter q: column 4 q + c of rows i .. i + 3 */
    s[i] = _mm512_shuffle_ps(t[i], t[i + 2], 0x44);
    s[i + 1] = _mm512_shuffle_ps(t[i], t[i + 2], 0xee);
    s[i + 2] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    s[i + 3] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0xee);
  }
#pragma GCC unroll 4
  for (int c = 0; c < 4; c++) {
    __m512 low0 = _mm512_shuffle_f32x4(s[c], s[c + 4], 0x88), high0 = _mm512_shuffle_f32x4(s[c], s[c + 4], 0xdd);
    __m512 low1 = _mm512_shuffle_f32x4(s[c + 8], s[c + 12], 0x88), high1 = _mm512_shuffle_f32x4(s[c + 8], s[c + 12], 0xdd);
    _mm512_storeu_ps(to + c * to_row, _mm512_shuffle_f32x4(low0, low1, 0x88));
    _mm512_storeu_ps(to + (c + 8) * to_row, _mm512_shuffle_f32x4(low0, low1, 0xdd));
    _mm512_storeu_ps(to + (c + 4) * to_row, _mm512_shuffle_f32x4(high0, high1, 0x88));
    _mm512_storeu_ps(to + (c + 12) * to_row, _mm512_shuffle_f32x4(high0, high1, 0xdd));
  }
#else
  float block[16][16];
  for (int i = 0; i < 16; i++) vf_store(block[i], r[i]);
  for (int c = 0; c < 16; c++)
    for (int i = 0; i < 16; i++) to[c * to_row + i] = block[i][c];
#endif
}

#endif
