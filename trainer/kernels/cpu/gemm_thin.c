/* gemm_thin.c - a product with few rows, as generation has it: C[m][n] = A[m][k] B[n][k]^T, one chain an element, m <= GEMM_MR.
 * All that counts is how fast B comes from memory, so it is not packed: 16 x 16 units of it are transposed on the way to the
 * sums, and what comes later is fetched. The chains are those of gemm.c. */
#include "trainer/kernels/cpu/gemm_load.h"
#include "trainer/kernels/cpu/transpose.h"

enum { AHEAD_UNITS = 128 }; /* fetched before they are used: 8 lines of each of 16 rows */

/* 16 columns of C, of which `columns` are there. units and rows are constants wherever this is inlined. */
static ALWAYS_INLINE void thin_columns(const gd_matmul *m, const gemm_units units, const int rows, const float *a, int64_t a_ld,
                                       int64_t column, int columns, bool more) {
  int64_t elems = gemm_unit_elems(units), bytes = gemm_element_bytes(units), row_bytes = m->ldb * bytes;
  int64_t count = (m->k + elems - 1) / elems, unit_bytes = elems * bytes;
  const char *p = (const char *)m->b + column * row_bytes, *next = p + 16 * row_bytes;
  _Alignas(64) float block[16 * 16];
  vf sum[GEMM_MR];
  for (int i = 0; i < rows; i++) sum[i] = vf_zero();
  for (int64_t u = 0; u < count; u += 16) {
    vf lines[16];
    int64_t ahead = u + AHEAD_UNITS;
    const char *from = ahead < count ? p + ahead * unit_bytes : more ? next + (ahead - count) * unit_bytes : p;
    for (int i = 0; i < 16; i++) {
      lines[i] = i < columns ? along_k(units, p + i * row_bytes + u * unit_bytes, m->k - u * elems) : vf_zero();
      __builtin_prefetch(from + i * row_bytes, 0, 2);
    }
    transpose16(lines, block, 16);
    int steps = count - u < 16 ? (int)(count - u) : 16;
    for (int c = 0; c < steps; c++) {
      vf right = vf_load(block + c * 16);
#pragma GCC unroll 16
      for (int i = 0; i < rows; i++) sum[i] = gemm_step(units == GEMM_PAIRS, vf_set1(a[i * a_ld + u + c]), right, sum[i]);
    }
  }
  for (int i = 0; i < rows && i < m->m; i++) {
    if (m->bias) sum[i] = vf_add(sum[i], vf_load_as(m->dtype, m->bias, column, columns));
    vf_store_as(m->c_dtype, m->c, i * m->ldc + column, sum[i], columns);
  }
}

#define THIN(units, rows)                                                                                           \
  static void thin_##units##_##rows(const gd_matmul *m, const float *a, int64_t a_ld, int64_t first, int64_t end) { \
    for (int64_t column = first; column < end; column += 16)                                                        \
      thin_columns(m, units, rows, a, a_ld, column, vf_left(column, end), column + 32 <= end);                      \
  }
#if defined(GD_SIMD_AVX512)
#define FOR_ROWS(X, units) X(units, 1) X(units, 2) X(units, 4) X(units, 6) X(units, 8) X(units, 10) X(units, 12)
#elif defined(GD_SIMD_AVX2)
#define FOR_ROWS(X, units) X(units, 1) X(units, 2) X(units, 4) X(units, 6)
#else
#define FOR_ROWS(X, units) X(units, 1) X(units, 4)
#endif
#if defined(__AVX512BF16__)
#define FOR_HALF(X) FOR_ROWS(X, GEMM_PAIRS)
#else
#define FOR_HALF(X) FOR_ROWS(X, GEMM_EXPANDED)
#endif
FOR_ROWS(THIN, GEMM_FLOAT32)
FOR_HALF(THIN)

bool GD_CPU(gemm_is_thin)(const gd_matmul *m, size_t scratch_floats) {
  int64_t units = (m->k + 15) / 16 * 16;
  return m->form == GD_MATMUL_NT && m->m <= GEMM_MR && m->leaves == 1 && (m->k_leaf == 0 || m->k_leaf >= m->k) &&
         !m->accumulate && (size_t)(units * GEMM_MR) <= scratch_floats;
}

void GD_CPU(gemm_thin)(const gd_matmul *m, int64_t first, int64_t end, float *scratch) {
  gemm_units units = gemm_units_of(m->dtype);
  int64_t elems = gemm_unit_elems(units), a_ld = (m->k + 15) / 16 * 16;
  const char *from = m->a;
  /* Rows up to the next count that has code of its own are zeros. */
  for (int64_t i = 0; i < GEMM_MR; i++)
    for (int64_t u = 0; u * elems < m->k; u += 16) {
      const char *p = from + (i * m->lda + u * elems) * gemm_element_bytes(units);
      vf_store(scratch + i * a_ld + u, i >= m->m               ? vf_zero()
                                       : units == GEMM_FLOAT32 ? along_k(GEMM_FLOAT32, p, m->k - u)
                                                               : along_k(units, p, m->k - u * elems));
    }
#define PICK(kind, rows)                                \
  if (units == kind && m->m <= rows) {                  \
    thin_##kind##_##rows(m, scratch, a_ld, first, end); \
    return;                                             \
  }
  FOR_ROWS(PICK, GEMM_FLOAT32)
  FOR_HALF(PICK)
}
