/* tensor.h - what a tensor is: a logical shape that knows no layout, and boxes of it. Parameters have one or two dims; a vector
 * of n elements is n rows of one column, so every part of a tensor is a box of rows and columns. */
#ifndef GD_SHARD_TENSOR_H
#define GD_SHARD_TENSOR_H

#include <stdbool.h>
#include <stdint.h>

#include "shard/base/dtype.h"

enum { GD_NAME_BYTES = 64 };

typedef struct gd_tensor {
  char name[GD_NAME_BYTES]; /* "layers.3.attention.query.weight" */
  int32_t dims;             /* 1 or 2 */
  int64_t rows, cols;       /* cols = 1 for a vector */
  bool frozen;              /* it does not learn: it has no gradient and no moments */
} gd_tensor;

typedef struct gd_box {
  int64_t row, rows, col, cols;
} gd_box;

static inline int64_t gd_box_elements(gd_box box) {
  return box.rows * box.cols;
}

/* The common part; false when there is none. */
static inline int gd_box_intersect(gd_box a, gd_box b, gd_box *out) {
  int64_t r0 = a.row > b.row ? a.row : b.row, r1 = a.row + a.rows < b.row + b.rows ? a.row + a.rows : b.row + b.rows;
  int64_t c0 = a.col > b.col ? a.col : b.col, c1 = a.col + a.cols < b.col + b.cols ? a.col + a.cols : b.col + b.cols;
  *out = (gd_box){r0, r1 - r0, c0, c1 - c0};
  return r1 > r0 && c1 > c0;
}

#endif
