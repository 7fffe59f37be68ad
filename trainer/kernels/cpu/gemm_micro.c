/* gemm_micro.c - the innermost loop of the matrix product: a tile of sums in registers. */
#include "trainer/kernels/cpu/gemm_load.h"

/* Without a branch on where a row ends: such a branch is mispredicted, and sums wait for it. */
static ALWAYS_INLINE void fetch(gemm_ahead *a) {
  __builtin_prefetch((const void *)a->at, 0, 2);
  a->row--;
  a->at += (uintptr_t)(a->row ? GEMM_LINE : a->jump);
  a->row = a->row ? a->row : a->lines;
}

/* rows, panel and pairs are constants wherever this is inlined, so the tile lives in registers. */
static ALWAYS_INLINE void tile(gemm_micro *call, const int rows, const gemm_panel panel, const bool pairs) {
  vf sum[GEMM_MR][GEMM_NV];
  if (call->from) {
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
      for (int j = 0; j < GEMM_NV; j++) sum[i][j] = vf_load(call->from + i * call->from_ld + j * VF_LANES);
  } else {
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
      for (int j = 0; j < GEMM_NV; j++) sum[i][j] = vf_zero();
  }
#pragma GCC unroll 16
  for (int i = 0; i < rows; i++) /* the end of the tile will write here */
#pragma GCC unroll 4
    for (int j = 0; j < GEMM_NV; j++) __builtin_prefetch(call->to + i * call->to_ld + j * VF_LANES, 1, 3);
  const float *a = call->a, *b = call->b;
  gemm_ahead nothing = {.at = (uintptr_t)b, .row = 1, .lines = 1, .left = call->units, .a_tile = call->units};
  int64_t left = call->units;
  for (int s = 0; s <= GEMM_STREAMS; s++) {
    gemm_ahead *stream = s < GEMM_STREAMS ? call->ahead + s : &nothing, now = *stream;
    int64_t units = now.a_tile < now.left ? now.a_tile : now.left;
    if (left < units) units = left;
    left -= units;
    stream->left -= units;
    for (int64_t u = units; u > 0; u--) {
      fetch(&now);
      vf right[GEMM_NV];
#pragma GCC unroll 4
      for (int j = 0; j < GEMM_NV; j++) right[j] = vf_load(b + j * VF_LANES);
#pragma GCC unroll 16
      for (int i = 0; i < rows; i++) {
        vf value = vf_set1(panel == GEMM_BY_ROWS ? a[i * GEMM_AROW] : a[i]);
#pragma GCC unroll 4
        for (int j = 0; j < GEMM_NV; j++) sum[i][j] = gemm_step(pairs, value, right[j], sum[i][j]);
      }
      a += panel == GEMM_BY_ROWS ? 1 : GEMM_MR;
      b += GEMM_NR;
    }
    stream->at = now.at;
    stream->row = now.row;
  }
#pragma GCC unroll 16
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
    for (int j = 0; j < GEMM_NV; j++) {
      float *to = call->to + i * call->to_ld + j * VF_LANES;
      vf_store(to, call->add ? vf_add(vf_load(to), sum[i][j]) : sum[i][j]);
    }
}

/* The row counts that have a micro-kernel of their own. */
#if defined(GD_SIMD_AVX512)
#define FOR_ROWS(X) X(1) X(2) X(4) X(6) X(8) X(10) X(12)
#elif defined(GD_SIMD_AVX2)
#define FOR_ROWS(X) X(1) X(2) X(4) X(6)
#else
#define FOR_ROWS(X) X(1) X(4)
#endif

typedef void kernel(gemm_micro *);

#define DEFINE(rows)                                    \
  static void by_rows_##rows(gemm_micro *call) {        \
    tile(call, rows, GEMM_BY_ROWS, false);              \
  }                                                     \
  static void by_units_##rows(gemm_micro *call) {       \
    tile(call, rows, GEMM_BY_UNITS, false);             \
  }                                                     \
  static void pairs_by_rows_##rows(gemm_micro *call) {  \
    tile(call, rows, GEMM_BY_ROWS, true);               \
  }                                                     \
  static void pairs_by_units_##rows(gemm_micro *call) { \
    tile(call, rows, GEMM_BY_UNITS, true);              \
  }
FOR_ROWS(DEFINE)

int GD_CPU(gemm_micro_rows)(int rows) {
#define FITS(count) \
  if (rows <= count) return count;
  FOR_ROWS(FITS)
  return GEMM_MR;
}

void GD_CPU(gemm_micro)(gemm_micro *call, int rows) {
  kernel *chosen = NULL;
#define PICK(count)                                                                                \
  if (!chosen && rows <= count)                                                                    \
    chosen = call->panel == GEMM_BY_ROWS ? (call->pairs ? pairs_by_rows_##count : by_rows_##count) \
                                         : (call->pairs ? pairs_by_units_##count : by_units_##count);
  FOR_ROWS(PICK)
  if (chosen) chosen(call);
}
