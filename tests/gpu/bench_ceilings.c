/* bench_ceilings - what a GPU gives at best, on random data: bytes a second of a copy inside its memory (read and written),
 * operations a second of a product of N x N x N in float32 and in bfloat16, and the seconds of a kernel that does next to
 * nothing, timed as log.profile times one (launch and wait). bench_ceilings [N [BxHxTxD...]]: 8192. Exit 77: no GPU.
 * BxHxTxD: the seconds of causal attention in bfloat16 on B sequences of T, H heads of D, forward and backward; N 0: those
 * alone. */
#include <math.h>

#include "comm/machine.h"
#include "tests/gpu/gpu.h"
#include "trainer/kernels.h"

static gd_device device;
static gd_kernels kernels;

static void settle(void) {
  gpu_must(device.ops->stream_sync(kernels.stream));
}

static void *taken(size_t bytes) {
  void *pointer;
  gpu_must(device.ops->alloc(&device, bytes, &pointer));
  return pointer;
}

/* Uniform in [-1, 1): zeros would flatter, a GPU being limited by its power. */
static void *random_matrix(int64_t elements, gd_dtype dtype, uint64_t seed) {
  size_t bytes = (size_t)elements * gd_dtype_bytes(dtype);
  void *host = malloc(bytes), *pointer = taken(bytes);
  if (!host) exit(1);
  for (int64_t i = 0; i < elements; i++) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    float x = (float)(seed >> 40) * 0x1p-23f - 1.0f;
    if (dtype == GD_FLOAT32)
      ((float *)host)[i] = x;
    else
      ((gd_bfloat16 *)host)[i] = gd_bfloat16_from_float(x);
  }
  gpu_must(device.ops->copy(kernels.stream, pointer, host, bytes, GD_COPY_HOST_TO_DEVICE));
  settle();
  free(host);
  return pointer;
}

static double copy_rate(const void *from, void *to, size_t bytes) {
  enum { TIMES = 20, TRIES = 3 };
  double best = 0;
  for (int try = 0; try <= TRIES; try++) {
    settle();
    double start = gd_machine_seconds();
    for (int i = 0; i < TIMES; i++) gpu_must(device.ops->copy(kernels.stream, to, from, bytes, GD_COPY_DEVICE_TO_DEVICE));
    settle();
    double rate = 2.0 * TIMES * (double)bytes / (gd_machine_seconds() - start);
    if (try > 0 && rate > best) best = rate; /* the first one warms up */
  }
  return best;
}

static double product_rate(int64_t n, gd_dtype dtype, const void *a, const void *b, void *c) {
  int times = dtype == GD_FLOAT32 ? 3 : 20;
  double best = 0;
  gd_matmul product = {.form = GD_MATMUL_NT, .m = n, .n = n, .k = n, .leaves = 1, .dtype = dtype, .c_dtype = dtype};
  product.a = a;
  product.b = b;
  product.c = c;
  product.lda = product.ldb = product.ldc = n;
  for (int try = 0; try <= 2; try++) {
    settle();
    double start = gd_machine_seconds();
    for (int i = 0; i < times; i++) gpu_must(kernels.ops->matmul(&kernels, &product));
    settle();
    double rate = 2.0 * times * (double)n * (double)n * (double)n / (gd_machine_seconds() - start);
    if (try > 0 && rate > best) best = rate;
  }
  return best;
}

typedef gd_status attention_kernel(gd_kernels *, const gd_attention *);

/* The best of three tries of ten. */
static double attention_seconds(attention_kernel *run, const gd_attention *a) {
  enum { TIMES = 10 };
  double best = INFINITY;
  for (int try = 0; try <= 3; try++) {
    settle();
    double start = gd_machine_seconds();
    for (int i = 0; i < TIMES; i++) gpu_must(run(&kernels, a));
    settle();
    double each = (gd_machine_seconds() - start) / TIMES;
    if (try > 0) best = fmin(best, each);
  }
  return best;
}

/* As a layer has it: query, key and value of a token beside each other. false: `shape` is none. */
static bool time_attention(const char *shape) {
  int batch, heads, length, size, end = 0;
  if (sscanf(shape, "%dx%dx%dx%d%n", &batch, &heads, &length, &size, &end) != 4 || shape[end] || batch < 1 || heads < 1 ||
      length < 1 || size < 1)
    return false;
  int64_t width = (int64_t)heads * size, rows = (int64_t)batch * length;
  char *inputs = random_matrix(rows * 3 * width, GD_BFLOAT16, 5), *gradients = taken((size_t)(rows * 3 * width) * 2);
  gd_attention a = {.dtype = GD_BFLOAT16, .batch = batch, .heads = heads, .kv_heads = heads, .head_size = size};
  a.query_length = a.key_length = length;
  a.query_total = a.key_total = length;
  a.all_heads = heads;
  a.scale = 1.0f / sqrtf((float)size);
  a.q_row = a.kv_row = 3 * width;
  a.q_batch = a.kv_batch = length * a.q_row;
  a.out_row = width;
  a.out_batch = length * width;
  a.q = inputs;
  a.k = inputs + width * 2;
  a.v = inputs + width * 4;
  a.dq = gradients;
  a.dk = gradients + width * 2;
  a.dv = gradients + width * 4;
  void *out = a.out = taken((size_t)(rows * width) * 2), *dout = random_matrix(rows * width, GD_BFLOAT16, 6);
  a.dout = dout;
  a.lse = taken((size_t)(rows * heads) * sizeof(float));
  a.delta = taken((size_t)(rows * heads) * sizeof(float));
  a.query_block = 128; /* as trainer/layers/attention.c */
  double forward = attention_seconds(kernels.ops->attention_forward, &a);
  printf("attention %s %.9g %.9g\n", shape, forward, attention_seconds(kernels.ops->attention_backward, &a));
  void *all[] = {inputs, gradients, out, dout, a.lse, a.delta};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) device.ops->free(&device, all[i]);
  return true;
}

/* The least of many. */
static double launch_seconds(float *x) {
  double least = 1;
  for (int i = 0; i < 200; i++) {
    settle();
    double start = gd_machine_seconds();
    gpu_must(kernels.ops->add(&kernels, x, x + 1, 1));
    settle();
    double seconds = gd_machine_seconds() - start;
    if (seconds < least) least = seconds;
  }
  return least;
}

static void ceilings(int64_t n) {
  void *a = random_matrix(n * n, GD_FLOAT32, 1), *b = random_matrix(n * n, GD_FLOAT32, 2);
  size_t bytes = (size_t)(n * n) * sizeof(float);
  void *c = taken(bytes);
  printf("launch %.9g\n", launch_seconds(c));
  printf("copy %.9g\n", copy_rate(a, c, bytes));
  printf("float32 %.9g\n", product_rate(n, GD_FLOAT32, a, b, c));
  device.ops->free(&device, a);
  device.ops->free(&device, b);
  a = random_matrix(n * n, GD_BFLOAT16, 3);
  b = random_matrix(n * n, GD_BFLOAT16, 4);
  printf("bfloat16 %.9g\n", product_rate(n, GD_BFLOAT16, a, b, c));
  device.ops->free(&device, a);
  device.ops->free(&device, b);
  device.ops->free(&device, c);
}

int main(int argc, char **argv) {
  int64_t n = argc > 1 ? atoll(argv[1]) : 8192;
  if (n < 0 || n > 65536 || (n == 0 && argc < 3)) return 64;
  setvbuf(stdout, NULL, _IOLBF, 0); /* what is known before it ends early */
  const gd_cuda_backend_table *table = gpu_backend();
  gpu_open(table, 0, &device);
  gpu_must(gd_kernels_open(&device, table->kernels, 1, &kernels));
  kernels.fast = true;
  printf("device %s\n", device.description);
  if (n > 0) ceilings(n);
  bool good = true;
  for (int i = 2; i < argc; i++) good = time_attention(argv[i]) && good;
  gd_kernels_close(&kernels);
  device.ops->close(&device);
  return good ? 0 : 64;
}
