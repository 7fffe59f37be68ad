/* rows.h - which examples stand in which row of T tokens: a pure function of (seed, epoch, lengths), so that any rank reaches
 * any row and no layout plays a part. All local. */
#ifndef GD_IO_DATA_ROWS_H
#define GD_IO_DATA_ROWS_H

#include <stdbool.h>
#include <stdint.h>

#include "shard/base/rng.h"
#include "shard/base/status.h"

enum { GD_ROWS_WINDOW = 4096 };

/* The rows of an epoch. Each example stands in exactly one. */
typedef struct gd_rows {
  int64_t count;
  int64_t *first;   /* [count + 1] where a row's examples begin in `example` */
  int64_t *example; /* all examples, row by row in the order in which they stand there */
} gd_rows;

/* Example i has starts[i + 1] - starts[i] tokens, 1 to `length`. The examples are shuffled by a keyed permutation (order.h),
 * or taken in their order where rng is NULL. pack: the shuffled examples are parted into windows of GD_ROWS_WINDOW; inside a
 * window each goes, in turn, to the first of the window's rows that has room for it, or opens a new one (first fit: Johnson,
 * "Near-optimal bin packing algorithms", MIT 1973). Else one example a row. GD_NO_MEMORY. gd_rows_free in any case. */
GD_CHECKED gd_status gd_rows_make(const int64_t *starts, int64_t examples, int32_t length, bool pack, const gd_rng *rng,
                                  gd_rows *out);
void gd_rows_free(gd_rows *rows);

#endif
