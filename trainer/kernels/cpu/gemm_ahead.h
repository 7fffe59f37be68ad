/* gemm_ahead.h - which lines of memory a later packing reads. They are fetched one by one while register tiles multiply:
 * packing from the second-level cache is four times as fast as from memory.
 */
#ifndef GD_TRAINER_KERNELS_CPU_GEMM_AHEAD_H
#define GD_TRAINER_KERNELS_CPU_GEMM_AHEAD_H

#include "trainer/kernels/cpu/simd.h"

enum { GEMM_LINE = 64 }; /* bytes */

/* Rows of memory, walked line by line. */
typedef struct gemm_ahead {
  uintptr_t at;         /* the next line */
  int64_t row, lines;   /* lines left of this row, of a whole row */
  int64_t jump;         /* bytes from a row's last line to the next row's first */
  int64_t left, a_tile; /* lines left in all, at most so many of them during one register tile */
} gemm_ahead;

static inline gemm_ahead gemm_ahead_of(const void *first, int64_t rows, int64_t stride, int64_t width) {
  /* A row that begins inside a line may touch one more than its length says. */
  int64_t inside = (int64_t)(((uintptr_t)first | (uintptr_t)stride) % GEMM_LINE);
  int64_t lines = (width + inside + GEMM_LINE - 1) / GEMM_LINE;
  return (gemm_ahead){(uintptr_t)first, lines, lines, stride - (lines - 1) * GEMM_LINE, rows * lines, 0};
}

#endif
