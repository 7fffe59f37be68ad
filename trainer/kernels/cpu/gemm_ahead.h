/* gemm_ahead.h - which lines of memory a later packing reads, handed out a few at a time to be fetched while register tiles
 * multiply: packing from the second-level cache is four times as fast as from memory.
 */
#ifndef GD_TRAINER_KERNELS_CPU_GEMM_AHEAD_H
#define GD_TRAINER_KERNELS_CPU_GEMM_AHEAD_H

#include "trainer/kernels/cpu/gemm.h"

enum { GEMM_LINE = 64 }; /* bytes */

typedef struct gemm_ahead {
  const char *row;
  int64_t rows, stride, width, line; /* rows left, bytes between them, bytes of one, where in it the next line is */
} gemm_ahead;

static inline gemm_ahead gemm_ahead_of(const gemm_operand *m, int64_t x, int64_t count, int64_t k, int64_t length) {
  int64_t bytes = gemm_element_bytes(m->units);
  const char *row = (const char *)m->base + (x * m->x_stride + k * m->k_stride) * bytes;
  if (length <= 0) return (gemm_ahead){.rows = 0};
  if (m->along_k) return (gemm_ahead){row, count, m->x_stride * bytes, length * bytes, 0};
  return (gemm_ahead){row, length, m->k_stride * bytes, count * bytes, 0};
}

/* A row that begins inside a line touches one more than its length says. */
static inline int64_t gemm_ahead_lines(const gemm_ahead *a) {
  return a->rows * ((a->width + GEMM_LINE - 1) / GEMM_LINE + 1);
}

/* Appends addresses of the next `count` lines to a list, fewer at the end; returns the list's end. */
static inline const char **gemm_ahead_take(gemm_ahead *a, int64_t count, const char **end) {
  for (; count > 0 && a->rows > 0; count--) {
    *end++ = a->row + (a->line < a->width ? a->line : a->width - 1);
    a->line += GEMM_LINE;
    if (a->line < a->width + GEMM_LINE) continue;
    a->line = 0;
    a->row += a->stride;
    a->rows--;
  }
  return end;
}

#endif
