/* parallel.h - how CPU kernels use threads: outputs are split statically, sums never are, so the thread count changes no bit.
 *
 *   #pragma omp parallel num_threads(gd_parallel_threads(threads, work))
 *   {
 *     int64_t first, end;
 *     gd_parallel_range(rows, 1, &first, &end);
 *     for (int64_t row = first; row < end; row++) ...
 *   }
 */
#ifndef GD_TRAINER_KERNELS_CPU_PARALLEL_H
#define GD_TRAINER_KERNELS_CPU_PARALLEL_H

#include <omp.h>
#include <stdint.h>

/* A region costs a few microseconds: work below this many elements runs on the calling thread. */
enum { GD_PARALLEL_MIN_ELEMS = 16384 };

/* A sum down columns takes so many columns at a time, and so many rows of them before it goes on to the next columns. */
enum { GD_COLUMNS_TOGETHER = 512, GD_ROWS_TOGETHER = 8 };

static inline int gd_parallel_threads(int32_t threads, int64_t elements) {
  return elements < GD_PARALLEL_MIN_ELEMS ? 1 : (int)threads;
}

/* Part `index` of `count` of [0, total), cut at multiples of `unit`. */
static inline void gd_parallel_part(int64_t total, int64_t unit, int index, int count, int64_t *first, int64_t *end) {
  int64_t units = (total + unit - 1) / unit;
  int64_t begin = units * index / count * unit, stop = units * (index + 1) / count * unit;
  *first = begin < total ? begin : total;
  *end = stop < total ? stop : total;
}

/* The calling thread's part of [0, total) inside a parallel region. */
static inline void gd_parallel_range(int64_t total, int64_t unit, int64_t *first, int64_t *end) {
  gd_parallel_part(total, unit, omp_get_thread_num(), omp_get_num_threads(), first, end);
}

#endif
