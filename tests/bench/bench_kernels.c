/* bench_kernels.c - how fast the CPU kernels are: matrix products as a share of the measured multiply-add peak, and the other
 * kernels in bytes a second. Usage: bench_kernels [threads [name part]]; not run by ctest. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "comm/device.h"
#include "trainer/kernels.h"

typedef struct shape {
  const char *name;
  gd_matmul_form form;
  int64_t m, n, k, leaves, k_leaf;
} shape;

static const shape shapes[] = {
    {"NT 1024 1024 1024", GD_MATMUL_NT, 1024, 1024, 1024, 1, 0},
    {"NT 2048 768 768", GD_MATMUL_NT, 2048, 768, 768, 1, 0},
    {"NT 2048 3072 768", GD_MATMUL_NT, 2048, 3072, 768, 1, 0},
    {"NT 2048 768 3072", GD_MATMUL_NT, 2048, 768, 3072, 1, 0},
    {"NT 2048 768 3072 in 4 leaves", GD_MATMUL_NT, 2048, 768, 768, 4, 0},
    {"NT 256 50304 768", GD_MATMUL_NT, 256, 50304, 768, 1, 0},
    {"NN 256 768 50304", GD_MATMUL_NN, 256, 768, 50304, 1, 0},
    {"NN 2048 768 3072", GD_MATMUL_NN, 2048, 768, 3072, 1, 0},
    {"TN 768 3072 2048", GD_MATMUL_TN, 768, 3072, 2048, 1, 0},
    {"TN 768 3072, 8 leaves of 256", GD_MATMUL_TN, 768, 3072, 256, 8, 0},
    {"TN 768 3072, 32 leaves of 64", GD_MATMUL_TN, 768, 3072, 64, 32, 0},
    {"TN 50304 768 256", GD_MATMUL_TN, 50304, 768, 256, 1, 0},
    {"TN 50304 384 1024 (strip)", GD_MATMUL_TN, 50304, 384, 1024, 1, 0},
    {"NN 1024 384 50304 (strip)", GD_MATMUL_NN, 1024, 384, 50304, 1, 0},
    {"TN 25152 384, 4 leaves of 256", GD_MATMUL_TN, 25152, 384, 256, 4, 0},
    {"NT 2048 1152 384", GD_MATMUL_NT, 2048, 1152, 384, 1, 0},
    {"NT 2048 96 384 (a block)", GD_MATMUL_NT, 2048, 96, 384, 1, 0},
    {"TN 1152 384, 8 leaves of 256", GD_MATMUL_TN, 1152, 384, 256, 8, 0},
    {"NT 768 128 128 (tiny model)", GD_MATMUL_NT, 768, 128, 128, 1, 0},
    {"NT 1 768 768 (one token)", GD_MATMUL_NT, 1, 768, 768, 1, 0},
    {"NT 1 50304 768 (one token)", GD_MATMUL_NT, 1, 50304, 768, 1, 0},
    {"NT 8 3072 768 (few rows)", GD_MATMUL_NT, 8, 3072, 768, 1, 0},
};

/* With one thread, the time it had the processor: other programs on the machine do not count. */
static clockid_t bench_clock = CLOCK_MONOTONIC;

static double now(void) {
  struct timespec t;
  clock_gettime(bench_clock, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *filled(gd_device *device, gd_dtype dtype, int64_t elems) {
  void *data = NULL;
  if (device->ops->alloc(device, (size_t)elems * gd_dtype_bytes(dtype), &data) != GD_OK) exit(71);
  for (int64_t i = 0; i < elems; i++) {
    float x = (float)(i * 7919 % 1000) * 0.001f - 0.5f;
    if (dtype == GD_BFLOAT16) {
      ((gd_bfloat16 *)data)[i] = gd_bfloat16_from_float(x);
    } else {
      ((float *)data)[i] = x;
    }
  }
  return data;
}

static void bench_product(gd_device *device, gd_kernels *kernels, const shape *s, gd_dtype dtype, double peak) {
  int64_t k = s->k * s->leaves;
  gd_matmul m = {.form = s->form, .m = s->m, .n = s->n, .k = s->k, .leaves = s->leaves, .k_leaf = s->k_leaf, .dtype = dtype};
  m.c_dtype = s->form == GD_MATMUL_TN ? GD_FLOAT32 : dtype;
  m.lda = s->form == GD_MATMUL_TN ? s->m : s->k;
  m.ldb = s->form == GD_MATMUL_NT ? s->k : s->n;
  m.ldc = s->n;
  m.a_leaf_stride = s->m * s->k;
  m.b_leaf_stride = s->n * s->k;
  void *a = filled(device, dtype, s->m * k), *b = filled(device, dtype, s->n * k), *c = filled(device, GD_FLOAT32, s->m * s->n);
  m.a = a;
  m.b = b;
  m.c = c;
  double best = 1e30, spent = 0.0;
  for (int run = 0; run < 40 && (run < 3 || spent < 0.4); run++) {
    double start = now();
    if (kernels->ops->matmul(kernels, &m) != GD_OK) exit(70);
    double took = now() - start;
    spent += took;
    if (took < best) best = took;
  }
  double flops = 2.0 * (double)s->m * (double)s->n * (double)k;
  double bytes = ((double)s->n + (double)s->m) * (double)k * (double)gd_dtype_bytes(dtype);
  printf("%-32s %-9s %9.3f ms %8.1f GFLOP/s", s->name, gd_dtype_name(dtype), best * 1e3, flops / best * 1e-9);
  if (peak > 0.0) printf(" %5.1f %% of peak", flops / best / peak * 100.0);
  printf(" %7.1f GB/s\n", bytes / best * 1e-9);
  device->ops->free(device, a);
  device->ops->free(device, b);
  device->ops->free(device, c);
}

int main(int argc, char **argv) {
  int32_t threads = argc > 1 ? atoi(argv[1]) : 1;
  if (threads == 1) bench_clock = CLOCK_PROCESS_CPUTIME_ID;
  const char *part = argc > 2 ? argv[2] : "";
  gd_device device;
  gd_kernels kernels;
  if (gd_device_open_cpu(&device) != GD_OK || gd_kernels_open(&device, NULL, threads, &kernels) != GD_OK) {
    fprintf(stderr, "%s\n", gd_error_text());
    return 64;
  }
  for (int d = 0; d < 2; d++) {
    gd_dtype dtype = d ? GD_BFLOAT16 : GD_FLOAT32;
    double peak = gd_kernels_peak_flops(dtype, threads);
    printf("%s, %d threads, %s: peak %.1f GFLOP/s\n", kernels.ops->name, (int)threads, gd_dtype_name(dtype), peak * 1e-9);
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
      if (strstr(shapes[i].name, part)) bench_product(&device, &kernels, &shapes[i], dtype, peak);
  }
  gd_kernels_close(&kernels);
  device.ops->close(&device);
  return 0;
}
