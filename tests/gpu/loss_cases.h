/* loss_cases.h - cases of check_kernels: the loss of tokens and of labels. */
#ifndef GD_TESTS_GPU_LOSS_CASES_H
#define GD_TESTS_GPU_LOSS_CASES_H

#include "tests/gpu/product_cases.h"
#include "tests/gpu/widths.h"

/* variant: 0 separate dlogits, 1 over the logits; + 2: rows of odd length; + 4 times the width's number, the number after the
 * last has NaN and infinity among the logits, and those behind it are drawn. One block of a larger vocabulary, with padding. */
static void case_loss_as(side *s, const setting *set, float smoothing) {
  int number = set->variant / 4;
  int64_t rows = 6, valid = number == WIDTHS ? 300 : width_of(number < WIDTHS ? number : number - 1);
  int64_t columns = valid + 87, ld = columns + 4;
  ld += ((set->variant & 2) == 0) == (ld % 2 == 1);
  if (ld % 2 == 0) ld = (ld + 3) / 4 * 4;
  gd_loss a = {.dtype = set->dtype, .rows = rows, .columns = columns, .valid_columns = valid, .first_column = 100, .ld = ld};
  a.logits = input(s, 1, rows * ld, GD_FLOAT32, 8, 0);
  static const float odd[] = {NAN, INFINITY, -INFINITY, NAN, NAN, INFINITY};
  for (int64_t r = 0; number == WIDTHS && r < rows; r++) {
    gpu_must(s->device.ops->copy(s->kernels.stream, a.logits + r * ld + r * 7 % valid, &odd[r], 4, GD_COPY_HOST_TO_DEVICE));
    gpu_must(s->device.ops->stream_sync(s->kernels.stream));
  }
  a.targets = integers(s, 2, rows, (uint32_t)(2 * valid + 100));
  a.weights = input(s, 3, rows, GD_FLOAT32, 0.5f, 0.5f);
  a.row_max = input(s, 4, rows, GD_FLOAT32, 0, -INFINITY);
  a.block_sum = output(s, rows, GD_FLOAT32);
  a.block_target = output(s, rows, GD_FLOAT32);
  a.row_loss = output(s, rows, GD_FLOAT32);
  a.smoothing = smoothing;
  a.spread = smoothing / (float)valid;
  gpu_must(s->kernels.ops->loss_max(&s->kernels, &a));
  note(s, a.row_max, rows, GD_FLOAT32);
  gpu_must(s->kernels.ops->loss_exponentials(&s->kernels, &a));
  note(s, a.block_sum, rows, GD_FLOAT32);
  note(s, a.block_target, rows, GD_FLOAT32);
  a.row_sum = a.block_sum;
  a.row_target = a.block_target;
  gpu_must(s->kernels.ops->loss_rows(&s->kernels, &a));
  note(s, a.row_loss, rows, GD_FLOAT32);
  note(s, a.logits, rows * ld, GD_FLOAT32);
  bool in_place = set->variant & 1;
  a.dlogits = in_place ? (void *)a.logits : output(s, rows * columns, set->dtype);
  a.dld = in_place ? ld * 4 / (int64_t)gd_dtype_bytes(set->dtype) : columns;
  gpu_must(s->kernels.ops->loss_gradient(&s->kernels, &a));
  for (int64_t r = 0; r < rows; r++)
    note(s, (char *)a.dlogits + (size_t)(r * a.dld) * gd_dtype_bytes(set->dtype), columns, set->dtype);
  gd_loss_sums sums = {.sequences = 2, .length = 3, .row_loss = a.row_loss, .weights = a.weights};
  sums.sums = output(s, 4, GD_FLOAT32);
  gpu_must(s->kernels.ops->loss_sums(&s->kernels, &sums));
  note(s, sums.sums, 4, GD_FLOAT32);
}

/* All of it in one call; the last shape does not fit shared memory. variant: 2 times the shape, + 1: in place. */
static void case_loss_whole(side *s, const setting *set) {
  static const struct {
    int64_t rows, blocks, columns, valid;
  } shapes[] = {{5, 1, 300, 300}, {3, 1, 1100, 1030}, {3, 4, 129, 500},
                {4, 3, 50, 101},  {2, 40, 17, 650},   {1, 1, 26000, 25950}};
  int64_t rows = shapes[set->variant / 2].rows, columns = shapes[set->variant / 2].columns;
  bool in_place = set->variant & 1;
  gd_loss a = {.dtype = set->dtype, .rows = rows, .columns = columns, .first_column = 100, .ld = columns + 3};
  a.blocks = (int32_t)shapes[set->variant / 2].blocks;
  a.valid_columns = shapes[set->variant / 2].valid;
  a.block_stride = rows * a.ld + 4;
  a.logits = input(s, 1, a.blocks * a.block_stride, GD_FLOAT32, 8, 0);
  static const float odd[] = {NAN, INFINITY, -INFINITY};
  for (int64_t r = 0; r < rows && r < 3 && set->variant / 2 == 2; r++)
    gpu_must(s->device.ops->copy(s->kernels.stream, a.logits + r * a.block_stride + r * a.ld + 7, &odd[r], sizeof *odd,
                                 GD_COPY_HOST_TO_DEVICE));
  gpu_must(s->device.ops->stream_sync(s->kernels.stream));
  a.targets = integers(s, 2, rows, (uint32_t)(a.valid_columns + 150));
  a.weights = input(s, 3, rows, GD_FLOAT32, 0.5f, 0.5f);
  a.row_max = output(s, rows, GD_FLOAT32);
  a.block_sum = output(s, a.blocks * rows, GD_FLOAT32);
  a.block_target = output(s, a.blocks * rows, GD_FLOAT32);
  a.row_sum = output(s, rows, GD_FLOAT32);
  a.row_target = output(s, rows, GD_FLOAT32);
  a.row_loss = output(s, rows, GD_FLOAT32);
  a.dld = in_place ? a.ld * 4 / (int64_t)gd_dtype_bytes(set->dtype) : columns;
  a.dblock_stride = in_place ? a.block_stride * 4 / (int64_t)gd_dtype_bytes(set->dtype) : rows * columns;
  void *apart = output(s, a.blocks * rows * columns, set->dtype);
  float *logits = a.logits;
  if (!in_place) { /* without a gradient first, from logits of its own */
    a.logits = input(s, 1, a.blocks * a.block_stride, GD_FLOAT32, 8, 0);
    gpu_must(s->kernels.ops->loss_whole(&s->kernels, &a));
    note(s, a.row_loss, rows, GD_FLOAT32);
  }
  a.logits = logits;
  a.dlogits = in_place ? (void *)logits : apart;
  gpu_must(s->kernels.ops->loss_whole(&s->kernels, &a));
  note(s, a.row_max, rows, GD_FLOAT32);
  note(s, a.block_sum, a.blocks * rows, GD_FLOAT32);
  note(s, a.row_sum, rows, GD_FLOAT32);
  note(s, a.row_target, rows, GD_FLOAT32);
  note(s, a.row_loss, rows, GD_FLOAT32);
  for (int64_t r = 0; r < a.blocks * rows; r++) {
    int64_t at = r / rows * a.dblock_stride + r % rows * a.dld;
    note(s, (char *)a.dlogits + (size_t)at * gd_dtype_bytes(set->dtype), columns, set->dtype);
  }
}

static void case_loss(side *s, const setting *set) {
  case_loss_as(s, set, 0);
}

static void case_loss_smoothed(side *s, const setting *set) {
  case_loss_as(s, set, 0.1f);
}

/* variant: columns; odd ones with the gradient over the logits. */
static void case_label_loss(side *s, const setting *set) {
  static const int64_t columns_of[] = {1, 1, 6, 20, 128, 131, 300, 517};
  int64_t rows = 11, columns = columns_of[set->variant], ld = (columns + 15) / 16 * 16;
  gd_label_loss_args a = {.dtype = set->dtype, .rows = rows, .columns = columns, .ld = ld, .smoothing = 0.1f};
  float *logits = input(s, 1, rows * ld, GD_FLOAT32, 8, 0);
  a.logits = logits;
  a.labels = input(s, 2, rows * columns, GD_FLOAT32, 0.5f, 0.5f);
  a.weights = input(s, 3, rows, GD_FLOAT32, 0.5f, 0.5f);
  a.row_loss = output(s, rows, GD_FLOAT32);
  gpu_must(s->kernels.ops->label_loss(&s->kernels, &a));
  note(s, a.row_loss, rows, GD_FLOAT32);
  bool in_place = set->variant & 1;
  a.dlogits = in_place ? (void *)logits : output(s, rows * columns, set->dtype);
  a.dld = in_place ? ld * 4 / (int64_t)gd_dtype_bytes(set->dtype) : columns;
  gpu_must(s->kernels.ops->label_loss(&s->kernels, &a));
  note(s, a.row_loss, rows, GD_FLOAT32);
  for (int64_t r = 0; r < rows; r++)
    note(s, (char *)a.dlogits + (size_t)(r * a.dld) * gd_dtype_bytes(set->dtype), columns, set->dtype);
}

#endif
