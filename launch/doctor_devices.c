/* doctor_devices.c - how fast the device of each rank is, while all work as they do in training. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/machine.h"
#include "launch/doctor.h"
#include "trainer/kernels.h"

/* No cache holds the copy; a product of this size is near the speed of large ones. */
enum { TRIES = 5, TRIES_MS = 100, CPU_COPY = 32 << 20, GPU_COPY = 256 << 20, CPU_SIDE = 512, GPU_SIDE = 4096 };

/* Bytes read and written a second; operations a second. */
typedef struct speed {
  double copy, product;
} speed;

typedef struct bench {
  gd_session *session;
  gd_device *device;
  gd_kernels kernels;
  void *from, *to; /* copy_bytes each */
  size_t copy_bytes;
  gd_matmul product;
} bench;

static gd_status copy(bench *b) {
  return b->device->ops->copy(b->device->compute, b->to, b->from, b->copy_bytes, GD_COPY_DEVICE_TO_DEVICE);
}

static gd_status multiply(bench *b) {
  return b->kernels.ops->matmul(&b->kernels, &b->product);
}

/* The best of five tries, and of what a tenth of a second allows, after one that wakes the device. */
static gd_status time_work(bench *b, gd_status (*work)(bench *), double *seconds) {
  double begin = gd_machine_seconds();
  *seconds = 1e30;
  for (int i = 0; i <= TRIES || gd_machine_seconds() - begin < 1e-3 * TRIES_MS; i++) {
    double start = gd_machine_seconds();
    GD_TRY(work(b));
    GD_TRY(b->device->ops->stream_sync(b->device->compute));
    double took = gd_machine_seconds() - start;
    if (i > 0 && took < *seconds) *seconds = took;
  }
  if (*seconds <= 0) *seconds = 1e-9;
  return GD_OK;
}

/* A square product in the memory of the copy. */
static void plan_product(bench *b, int64_t side) {
  gd_dtype dtype = b->kernels.ops->bfloat16 ? GD_BFLOAT16 : GD_FLOAT32;
  char *at = b->from;
  size_t matrix = (size_t)(side * side) * gd_dtype_bytes(dtype);
  b->product = (gd_matmul){.form = GD_MATMUL_NT, .m = side, .n = side, .k = side, .leaves = 1, .dtype = dtype, .a = at};
  b->product.b = at + matrix;
  b->product.c = b->to;
  b->product.c_dtype = dtype;
  b->product.lda = b->product.ldb = b->product.ldc = side;
  b->product.a_leaf_stride = b->product.b_leaf_stride = side * side;
}

static gd_status measure(bench *b, speed *out) {
  double seconds;
  gd_session_progress(b->session, "devices", 0);
  GD_TRY(gd_session_barrier(b->session));
  GD_TRY(time_work(b, copy, &seconds));
  out->copy = 2 * (double)b->copy_bytes / seconds;
  GD_TRY(gd_session_barrier(b->session));
  GD_TRY(time_work(b, multiply, &seconds));
  out->product = 2 * (double)b->product.m * (double)b->product.n * (double)b->product.k / seconds;
  return GD_OK;
}

typedef struct row {
  int32_t rank;
  speed speed;
} row;

static int by_product(const void *a, const void *b) {
  double x = ((const row *)a)->speed.product, y = ((const row *)b)->speed.product;
  return (x > y) - (x < y);
}

/* rows: by speed of products, the slowest first. */
static void print_rows(const bench *b, const row *rows, int32_t ranks, const speed *median, bool json) {
  const row *lame = rows;
  for (int32_t i = 1; i < ranks; i++)
    if (rows[i].speed.copy < lame->speed.copy) lame = &rows[i];
  gd_doctor_finding(
      true, "devices",
      "%d at once: median %.4g TFLOP/s (%s products), copies %.4g GB/s; slowest rank %d on %s: %.4g TFLOP/s, %.2f of the "
      "median; slowest copies rank %d on %s: %.4g GB/s, %.2f of it",
      ranks, 1e-12 * median->product, gd_dtype_name(b->product.dtype), 1e-9 * median->copy, rows->rank,
      gd_session_host_of(b->session, rows->rank), 1e-12 * rows->speed.product, rows->speed.product / median->product,
      lame->rank, gd_session_host_of(b->session, lame->rank), 1e-9 * lame->speed.copy, lame->speed.copy / median->copy);
  if (!json) printf("     %5s %9s %9s %9s %9s  host\n", "rank", "TFLOP/s", "of median", "GB/s", "of median");
  for (int32_t i = 0; i < ranks && i < GD_DOCTOR_ROWS; i++) {
    const row *at = &rows[i];
    const char *host = gd_session_host_of(b->session, at->rank);
    if (json)
      printf(
          "{\"check\": \"rank\", \"rank\": %d, \"host\": \"%s\", \"operations_per_s\": %.0f, \"copy_bytes_per_s\": %.0f, "
          "\"of_median\": [%.3f, %.3f]}\n",
          at->rank, host, at->speed.product, at->speed.copy, at->speed.product / median->product,
          at->speed.copy / median->copy);
    else
      printf("     %5d %9.4g %9.2f %9.4g %9.2f  %s\n", at->rank, 1e-12 * at->speed.product, at->speed.product / median->product,
             1e-9 * at->speed.copy, at->speed.copy / median->copy, host);
  }
  if (!json && ranks > GD_DOCTOR_ROWS) printf("     and %d faster ones\n", ranks - GD_DOCTOR_ROWS);
  fflush(stdout);
}

static gd_status report(const bench *b, const speed *all, bool json) {
  int32_t ranks = gd_session_ranks(b->session);
  row *rows = calloc((size_t)ranks, sizeof *rows);
  double *values = calloc((size_t)ranks, sizeof *values);
  gd_status status = rows && values ? GD_OK : gd_fail(GD_NO_MEMORY, "out of memory for %d ranks", ranks);
  if (status == GD_OK) {
    speed median;
    for (int32_t r = 0; r < ranks; r++) rows[r] = (row){r, all[r]};
    for (int32_t r = 0; r < ranks; r++) values[r] = all[r].product;
    median.product = gd_doctor_median(values, ranks);
    for (int32_t r = 0; r < ranks; r++) values[r] = all[r].copy;
    median.copy = gd_doctor_median(values, ranks);
    qsort(rows, (size_t)ranks, sizeof *rows, by_product);
    print_rows(b, rows, ranks, &median, json);
  }
  free(rows);
  free(values);
  return status;
}

/* Takes memory and kernels. */
static gd_status open_bench(bench *b) {
  bool gpu = b->device->model[0] != 0;
  gd_device *device = b->device;
  b->copy_bytes = gpu ? GPU_COPY : CPU_COPY;
  GD_TRY(gd_kernels_open(device, gd_session_cuda_kernels(b->session), gd_session_threads(b->session), &b->kernels));
  GD_TRY(device->ops->alloc(device, b->copy_bytes, &b->from));
  GD_TRY(device->ops->alloc(device, b->copy_bytes, &b->to));
  GD_TRY(device->ops->fill(device->compute, b->from, 0, b->copy_bytes));
  GD_TRY(device->ops->fill(device->compute, b->to, 0, b->copy_bytes));
  plan_product(b, gpu ? GPU_SIDE : CPU_SIDE);
  return device->ops->stream_sync(device->compute);
}

gd_status gd_doctor_devices(gd_session *session, gd_device *device, bool json) {
  bench b = {.session = session, .device = device};
  int32_t ranks = gd_session_ranks(session);
  speed mine = {0, 0}, *all = calloc((size_t)ranks, sizeof *all);
  gd_status status = all ? open_bench(&b) : gd_fail(GD_NO_MEMORY, "out of memory for %d ranks", ranks);
  status = gd_session_agree(session, status);
  if (status == GD_OK) status = gd_session_agree(session, measure(&b, &mine));
  if (status == GD_OK) status = gd_session_all_gather(session, &mine, all, sizeof mine);
  if (status == GD_OK && gd_session_rank(session) == 0) status = report(&b, all, json);
  if (b.from) device->ops->free(device, b.from);
  if (b.to) device->ops->free(device, b.to);
  if (b.kernels.ops) gd_kernels_close(&b.kernels);
  free(all);
  return status;
}
