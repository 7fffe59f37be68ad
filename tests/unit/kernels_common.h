/* kernels_common.h - what the tests of the CPU kernels share: a device, the tables that run here, random tensors, comparisons.
 */
#ifndef GD_TESTS_UNIT_KERNELS_COMMON_H
#define GD_TESTS_UNIT_KERNELS_COMMON_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/device.h"
#include "shard/base/dtype.h"
#include "shard/base/rng.h"
#include "trainer/kernels.h"

static const char *const isa_names[] = {"generic", "avx2", "avx512", "avx512bf16"};
enum { ISAS = 4 };

static gd_device test_device;

static inline int open_test_device(void **state) {
  (void)state;
  return gd_device_open_cpu(&test_device) == GD_OK ? 0 : -1;
}
static inline int close_test_device(void **state) {
  (void)state;
  test_device.ops->close(&test_device);
  return 0;
}

/* False where this processor lacks the instructions. */
static inline bool open_isa(const char *isa, int32_t threads, gd_kernels *out) {
  setenv("GPTDIST_ISA", isa, 1);
  gd_status status = gd_kernels_open(&test_device, NULL, threads, out);
  unsetenv("GPTDIST_ISA");
  if (status != GD_OK) gd_error_clear();
  return status == GD_OK;
}

/* The best table of this processor. */
static inline gd_kernels open_best(int32_t threads) {
  gd_kernels kernels;
  assert_int_equal(gd_kernels_open(&test_device, NULL, threads, &kernels), GD_OK);
  return kernels;
}

/* Numbers for tests: the same on every run. */
static uint64_t random_state = 1;
static inline uint32_t random_word(void) {
  random_state = random_state * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(random_state >> 33) ^ (uint32_t)(random_state >> 20);
}
static inline int64_t random_below(int64_t limit) {
  return (int64_t)(random_word() % (uint64_t)limit);
}
/* In [-1, 1). */
static inline float random_float(void) {
  return (float)(int32_t)(random_word() << 8) * 0x1p-31f;
}

/* A host tensor of a stored dtype, with its exact values as float beside it. */
typedef struct tensor {
  gd_dtype dtype;
  int64_t elems;
  void *data;
  float *values;
} tensor;

static inline void tensor_read(tensor *t) {
  for (int64_t i = 0; i < t->elems; i++)
    t->values[i] = t->dtype == GD_BFLOAT16 ? gd_bfloat16_to_float(((gd_bfloat16 *)t->data)[i]) : ((float *)t->data)[i];
}

static inline void tensor_write(tensor *t) {
  for (int64_t i = 0; i < t->elems; i++) {
    if (t->dtype == GD_BFLOAT16) {
      ((gd_bfloat16 *)t->data)[i] = gd_bfloat16_from_float(t->values[i]);
    } else {
      ((float *)t->data)[i] = t->values[i];
    }
  }
  tensor_read(t);
}

static inline tensor tensor_new(gd_dtype dtype, int64_t elems) {
  size_t count = elems > 0 ? (size_t)elems : 1;
  tensor t = {dtype, elems, calloc(count, gd_dtype_bytes(dtype)), calloc(count, sizeof(float))};
  assert_non_null(t.data);
  assert_non_null(t.values);
  return t;
}

static inline tensor tensor_random(gd_dtype dtype, int64_t elems, float scale) {
  tensor t = tensor_new(dtype, elems);
  for (int64_t i = 0; i < elems; i++) t.values[i] = scale * random_float();
  tensor_write(&t);
  return t;
}

static inline void tensor_free(tensor *t) {
  free(t->data);
  free(t->values);
}

static inline float stored(gd_dtype dtype, float value) {
  return dtype == GD_BFLOAT16 ? gd_bfloat16_to_float(gd_bfloat16_from_float(value)) : value;
}

/* got is within `relative` of want, plus half a unit of the dtype's last place, plus `absolute`. */
static inline void assert_near(gd_dtype dtype, double got, double want, double relative, double absolute, const char *what,
                               int64_t index) {
  double unit = dtype == GD_BFLOAT16 ? 0x1p-8 : 0x1p-24;
  double limit = (relative + unit) * fabs(want) + absolute;
  if (!(fabs(got - want) <= limit)) {
    fail_msg("%s[%lld]: got %.9g, want %.9g, limit of the difference %.3g", what, (long long)index, got, want, limit);
  }
}

/* A row sum by its definition (docs/rounding.md, "Lanes"): of a, or of the products a b where b is given. */
static inline float row_sum_of(const float *a, const float *b, int64_t count) {
  float lanes[128] = {0};
  for (int64_t i = 0; i < count; i++) lanes[i % 128] = b ? fmaf(a[i], b[i], lanes[i % 128]) : lanes[i % 128] + a[i];
  for (int half = 64; half > 0; half /= 2)
    for (int i = 0; i < half; i++) lanes[i] += lanes[i + half];
  return lanes[0];
}

/* Widths around the number of lanes. */
static const int64_t row_widths[] = {1, 3, 17, 127, 128, 129, 300, 768, 1600};
enum { ROW_WIDTHS = sizeof row_widths / sizeof row_widths[0] };

static inline void assert_same_bits(const void *a, const void *b, size_t bytes, const char *what) {
  if (memcmp(a, b, bytes) == 0) return;
  const unsigned char *x = a, *y = b;
  size_t at = 0;
  while (x[at] == y[at]) at++;
  fail_msg("%s: bits differ from byte %zu of %zu on", what, at, bytes);
}

#endif
