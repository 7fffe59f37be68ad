/* widths.h - widths of rows around the lanes of a row sum, for the cases of check_kernels. */
#ifndef GD_TESTS_GPU_WIDTHS_H
#define GD_TESTS_GPU_WIDTHS_H

#include "tests/gpu/side.h"

/* Around the lanes of a row sum: shorter, one more, one less, tails. */
static const int64_t widths[] = {1, 3, 17, 127, 128, 129, 300, 320, 768, 1600};
enum { WIDTHS = sizeof widths / sizeof widths[0] };

/* Number `i`, or, behind the last one, one that is drawn. */
static int64_t width_of(int i) {
  return i < WIDTHS ? widths[i] : drawn(i - WIDTHS, 0, 1, 2000);
}

/* `pointer` one element on: rows that no wide load is aligned to. */
static void *off_by_one(void *pointer, gd_dtype dtype, bool off) {
  return (char *)pointer + (off ? gd_dtype_bytes(dtype) : 0);
}

#endif
