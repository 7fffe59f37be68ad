/* bench_attention - speed of the attention kernels: bench_attention [THREADS [SHAPE]]. Operations are counted for the pairs
 * that a causal mask leaves: 4 D a pair forward, 10 D backward. Medians. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "trainer/kernels.h"

enum { REPEATS = 9 };

typedef struct shape {
  int32_t batch, heads, kv_heads, head_size, queries, keys;
  gd_dtype dtype;
  float dropout;
} shape;

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static void *random_stored(gd_dtype dtype, size_t elems, uint32_t site) {
  gd_rng rng = gd_rng_make(1, GD_RNG_WEIGHTS, site, 0, 0);
  char *memory = aligned_alloc(64, (elems * 4 + 63) / 64 * 64);
  for (size_t i = 0; memory && i < elems; i++) {
    float x = gd_rng_uniform(&rng, i) - 0.5f;
    gd_bfloat16 half = gd_bfloat16_from_float(x);
    memcpy(memory + i * gd_dtype_bytes(dtype), dtype == GD_FLOAT32 ? (void *)&x : (void *)&half, gd_dtype_bytes(dtype));
  }
  return memory;
}

/* The median time of forward (backward = false) or backward, in seconds. */
static double measure(gd_kernels *kernels, const gd_attention *a, bool backward) {
  double times[REPEATS];
  gd_status (*kernel)(gd_kernels *, const gd_attention *) =
      backward ? kernels->ops->attention_backward : kernels->ops->attention_forward;
  for (int i = -1; i < REPEATS; i++) {
    double start = seconds();
    int calls = 0;
    do {
      if (kernel(kernels, a) != GD_OK) {
        fprintf(stderr, "%s\n", gd_error_text());
        exit(70);
      }
      calls++;
    } while (seconds() - start < 0.01);
    if (i >= 0) times[i] = (seconds() - start) / calls;
  }
  qsort(times, REPEATS, sizeof times[0], ascending);
  return times[REPEATS / 2];
}

static void bench(gd_kernels *kernels, shape s) {
  size_t row = (size_t)(s.heads + 2 * s.kv_heads) * (size_t)s.head_size, out_row = (size_t)s.heads * (size_t)s.head_size;
  size_t q_rows = (size_t)s.batch * (size_t)s.queries, kv_rows = (size_t)s.batch * (size_t)s.keys;
  size_t kv_row = s.queries == s.keys ? row : 2 * (size_t)s.kv_heads * (size_t)s.head_size;
  char *qkv = random_stored(s.dtype, q_rows * row, 1), *cache = random_stored(s.dtype, kv_rows * kv_row, 2);
  char *dqkv = random_stored(s.dtype, q_rows * row, 3);
  char *out = random_stored(s.dtype, q_rows * out_row, 4), *dout = random_stored(s.dtype, q_rows * out_row, 5);
  float *lse = calloc(q_rows * (size_t)s.heads, 4), *delta = calloc(q_rows * (size_t)s.heads, 4);
  size_t bytes = gd_dtype_bytes(s.dtype), q_bytes = out_row * bytes,
         kv_bytes = (size_t)s.kv_heads * (size_t)s.head_size * bytes;
  gd_attention a = {.dtype = s.dtype, .batch = s.batch, .heads = s.heads, .kv_heads = s.kv_heads, .head_size = s.head_size};
  a.query_length = s.queries;
  a.key_length = s.keys;
  a.query_start = s.keys - s.queries;
  a.q = qkv;
  a.q_row = (int64_t)row;
  a.q_batch = (int64_t)row * s.queries;
  a.kv_row = (int64_t)kv_row;
  a.kv_batch = (int64_t)kv_row * s.keys;
  a.k = s.queries == s.keys ? qkv + q_bytes : cache;
  a.v = (const char *)a.k + kv_bytes;
  a.out = out;
  a.out_row = (int64_t)out_row;
  a.out_batch = (int64_t)out_row * s.queries;
  a.lse = lse;
  a.scale = 1.0f / sqrtf((float)s.head_size);
  a.dropout = s.dropout;
  a.rng = gd_rng_make(1, GD_RNG_DROPOUT, 1, 0, 0);
  a.all_heads = s.heads;
  a.query_total = a.key_total = s.keys;
  a.query_block = 128;
  a.dout = dout;
  a.dq = dqkv;
  a.dk = dqkv + q_bytes;
  a.dv = dqkv + q_bytes + kv_bytes;
  a.delta = delta;
  double pairs = 0.0;
  for (int32_t i = 0; i < s.queries; i++) pairs += a.query_start + i + 1;
  pairs *= (double)s.batch * s.heads * s.head_size;
  double forward = measure(kernels, &a, false);
  printf("%-8s B%-3d H%-3d/%-3d T%-5d keys %-5d D%-4d dropout %.1f  forward %8.3f ms %7.1f GFLOP/s", gd_dtype_name(s.dtype),
         s.batch, s.heads, s.kv_heads, s.queries, s.keys, s.head_size, (double)s.dropout, forward * 1e3,
         4 * pairs / forward * 1e-9);
  if (s.queries == s.keys) {
    double backward = measure(kernels, &a, true);
    printf("  backward %8.3f ms %7.1f GFLOP/s  both %7.1f GFLOP/s\n", backward * 1e3, 10 * pairs / backward * 1e-9,
           14 * pairs / (forward + backward) * 1e-9);
  } else {
    printf("  %.1f GB/s\n", (double)kv_rows * (double)kv_row * (double)bytes / forward * 1e-9);
  }
  void *all[] = {qkv, cache, dqkv, out, dout, lse, delta};
  for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) free(all[i]);
}

int main(int argc, char **argv) {
  static const shape shapes[] = {
      {4, 12, 12, 64, 256, 256, GD_FLOAT32, 0.0f},    {4, 12, 12, 64, 64, 64, GD_FLOAT32, 0.0f},
      {8, 6, 6, 64, 256, 256, GD_FLOAT32, 0.0f},      {1, 12, 12, 64, 1024, 1024, GD_FLOAT32, 0.0f},
      {12, 4, 4, 32, 64, 64, GD_FLOAT32, 0.0f},       {2, 32, 8, 128, 256, 256, GD_FLOAT32, 0.0f},
      {4, 12, 12, 64, 256, 256, GD_FLOAT32, 0.1f},    {4, 12, 12, 64, 256, 256, GD_BFLOAT16, 0.0f},
      {4, 12, 12, 64, 64, 64, GD_BFLOAT16, 0.0f},     {8, 6, 6, 64, 256, 256, GD_BFLOAT16, 0.0f},
      {1, 12, 12, 64, 1024, 1024, GD_BFLOAT16, 0.0f}, {1, 12, 12, 64, 1, 1024, GD_FLOAT32, 0.0f},
      {1, 12, 12, 64, 1, 1024, GD_BFLOAT16, 0.0f},    {1, 32, 8, 128, 1, 4096, GD_BFLOAT16, 0.0f},
  };
  gd_device device;
  gd_kernels kernels;
  int32_t threads = argc > 1 ? atoi(argv[1]) : 1;
  if (threads < 1 || gd_device_open_cpu(&device) != GD_OK || gd_kernels_open(&device, NULL, threads, &kernels) != GD_OK) {
    fprintf(stderr, "%s\n", gd_error_text());
    return 64;
  }
  printf("%s, %d threads\n", kernels.ops->name, (int)threads);
  for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
    if (argc < 3 || atoi(argv[2]) == (int)i) bench(&kernels, shapes[i]);
  gd_kernels_close(&kernels);
  device.ops->close(&device);
  return 0;
}
