/* gemm.h - the parts of the matrix product: packing, micro-kernel, driver.
 *
 * Operands are packed in 32-bit units along k: one float32, or on tables with bfloat16 products a pair of neighbouring bfloat16
 * (zero padded at an odd end). A micro-kernel keeps a tile of GEMM_MR x GEMM_NR sums in registers and adds k ascending, so each
 * element of a product is one chain, whatever the tile it lies in. Packing pads rows and columns with zeros, which touches only
 * padding.
 */
#ifndef GD_TRAINER_KERNELS_CPU_GEMM_H
#define GD_TRAINER_KERNELS_CPU_GEMM_H

#include "trainer/kernels/cpu/gemm_ahead.h"
#include "trainer/kernels/cpu/simd.h"
#include "trainer/kernels/cpu/table.h"

/* GEMM_B_UNITS: most units of B packed at a time, more columns where a round of k is short. They fill three quarters of the
 * second-level cache (1 MB where there is AVX-512, half of that elsewhere): A is packed once for each such block of columns. */
#if defined(GD_SIMD_AVX512)
enum { GEMM_MR = 12, GEMM_NV = 2, GEMM_B_UNITS = 196608 };
#elif defined(GD_SIMD_AVX2)
enum { GEMM_MR = 6, GEMM_NV = 1, GEMM_B_UNITS = 98304 };
#else
enum { GEMM_MR = 4, GEMM_NV = 1, GEMM_B_UNITS = 98304 };
#endif

enum {
  GEMM_NR = GEMM_NV * VF_LANES,
  GEMM_KU = 384,            /* most units of k packed at a time */
  GEMM_AROW = GEMM_KU + 16, /* units between rows of an A panel packed by rows: not a power of two */
  GEMM_GROUP = 4,           /* A panels packed at a time */
  GEMM_NC = 512,            /* most columns of B packed at a time */
  GEMM_STREAMS = 3,         /* memory that is fetched while a register tile multiplies: sums, A, B */
};

typedef enum gemm_units { GEMM_FLOAT32, GEMM_EXPANDED, GEMM_PAIRS } gemm_units; /* EXPANDED: bfloat16 widened to float32 */

/* How the A panel lies: [GEMM_MR][GEMM_AROW] by rows (A is [m][k]), or [units][GEMM_MR] (A is [k][m]). */
typedef enum gemm_panel { GEMM_BY_ROWS, GEMM_BY_UNITS } gemm_panel;

static inline gemm_units gemm_units_of(gd_dtype dtype) {
  if (dtype == GD_FLOAT32) return GEMM_FLOAT32;
#if defined(__AVX512BF16__)
  return GEMM_PAIRS;
#else
  return GEMM_EXPANDED;
#endif
}

static inline int64_t gemm_unit_elems(gemm_units units) {
  return units == GEMM_PAIRS ? 2 : 1;
}

/* A matrix operand: element (k, x) is base[k * k_stride + x * x_stride]. */
typedef struct gemm_operand {
  gemm_units units;
  bool along_k; /* k_stride is 1, else x_stride is */
  const void *base;
  int64_t k_stride, x_stride;
} gemm_operand;

static inline int64_t gemm_element_bytes(gemm_units units) {
  return units == GEMM_FLOAT32 ? 4 : 2;
}

/* The operand from element `elements` of its memory on. */
static inline gemm_operand gemm_from(const gemm_operand *operand, int64_t elements) {
  gemm_operand from = *operand;
  from.base = (const char *)from.base + elements * gemm_element_bytes(from.units);
  return from;
}

/* Floats from one packed panel of B to the next: `length` elements of k, in whole blocks of 16 units. */
static inline int64_t gemm_b_panel(gemm_units units, int64_t length) {
  return (length + 16 * gemm_unit_elems(units) - 1) / (16 * gemm_unit_elems(units)) * 16 * GEMM_NR;
}

/* Packs columns x .. x + count of B, k .. k + length, into panels [units][GEMM_NR], gemm_b_panel() floats apart. */
void GD_CPU(gemm_pack_b)(const gemm_operand *b, int64_t x, int64_t count, int64_t k, int64_t length, float *out);
/* Packs rows x .. x + count of A, at most GEMM_GROUP panels, GEMM_MR * GEMM_AROW floats apart. */
void GD_CPU(gemm_pack_a)(const gemm_operand *a, int64_t x, int64_t count, int64_t k, int64_t length, float *out);

/* Whether gemm_thin takes a product, with so much scratch; then columns [first, end) of it, first a multiple of 16. */
bool GD_CPU(gemm_is_thin)(const gd_matmul *m, size_t scratch_floats);
void GD_CPU(gemm_thin)(const gd_matmul *m, int64_t first, int64_t end, float *scratch);

/* to (+)= chain over `units` from `from` (NULL: +0), for the first `rows` rows of the panel, all GEMM_NR columns. Writes
 * gemm_micro_rows(rows) rows. */
typedef struct gemm_micro {
  gemm_ahead ahead[GEMM_STREAMS]; /* to fetch into the second-level cache meanwhile, one after the other, a line a unit */
  gemm_panel panel;
  bool pairs;
  int64_t units;
  const float *a, *b;
  const float *from;
  float *to;
  int64_t to_ld;
  int64_t from_ld;
  bool add; /* to + chain, in place of chain */
} gemm_micro;

/* How many rows a micro-kernel for `rows` rows works on (at least rows, at most GEMM_MR). */
int GD_CPU(gemm_micro_rows)(int rows);
void GD_CPU(gemm_micro)(gemm_micro *call, int rows);

#endif
