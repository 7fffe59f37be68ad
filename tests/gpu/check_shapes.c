/* check_shapes - the products of a training step at the shapes of models: CUDA's against the CPU's on random data. `invariant`
 * in float32: equal bits; in bfloat16, and in `fast`: another order of sums. The CPU, which would take minutes for all, does
 * the first rows, the last ones and some between; all rows are compared between `invariant` and `fast`, and what no product
 * writes is NaNs. Each product runs twice for equal bits, then is timed (microseconds and TFLOP/s of `invariant` and of
 * `fast`). The head takes its rows in strips. check_shapes small: stand-ins of the same kinds that the emulation can do,
 * without timings. */
#include <omp.h>
#include <time.h>

#include "tests/gpu/side.h"

/* Widths of a model: of the residual, of what the entries of attention and mlp give, inner width, vocabulary; R blocks. */
typedef struct model {
  const char *name;
  int64_t width, qkv, up, inner, vocabulary, blocks;
} model;

static const model models[] = {{"124M", 768, 2304, 3072, 3072, 50304, 4},
                               {"1558M", 1600, 4800, 6400, 6400, 50304, 1},
                               {"Llama-like", 2048, 3072, 11264, 5632, 32000, 4}};
static const model small_models[] = {
    {"small", 48, 144, 192, 192, 208, 4}, {"small odd", 50, 150, 200, 200, 67, 1}, {"small Llama", 64, 96, 352, 176, 96, 4}};
enum { MODELS = 3 };

/* Tokens of the layers' products and of the head, rows of a strip, tokens of a time block and of an inner leaf; rows of C that
 * the CPU does at each place. */
typedef struct rows {
  int64_t layers, head, strip, time_block, leaf, sampled;
} rows;

static const rows real_rows = {8192, 8192, 4096, 512, 256, 24}, small_rows = {96, 128, 32, 16, 8, 5};

/* The same numbers on both devices. */
typedef struct pair {
  void *host, *cuda;
  int64_t elements;
  gd_dtype dtype;
} pair;

typedef struct check {
  side *cpu, *cuda;
  int64_t sampled;
  bool timed;
  gd_dtype dtype;
  const char *model;
  int failed;
} check;

/* So many elements on both devices, all NaNs. */
static pair blank(check *c, int64_t elements, gd_dtype dtype) {
  size_t bytes = (size_t)elements * gd_dtype_bytes(dtype);
  return (pair){fresh(c->cpu, bytes), fresh(c->cuda, bytes), elements, dtype};
}

/* Uniform in [-1, 1), from the high bits of the elements' mixed numbers (Steele, Lea and Flood, 2014). */
static float number_of(uint64_t i) {
  uint64_t x = i * 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return (float)(x >> 40) * 0x1p-23f - 1.0f;
}

static pair numbers(check *c, int64_t elements, gd_dtype dtype) {
  static uint64_t used;
  pair p = blank(c, elements, dtype);
  const uint64_t first = used += 1;
  used += (uint64_t)elements;
#pragma omp parallel for
  for (int64_t i = 0; i < elements; i++) {
    float x = number_of(first + (uint64_t)i);
    if (dtype == GD_FLOAT32)
      ((float *)p.host)[i] = x;
    else
      ((gd_bfloat16 *)p.host)[i] = gd_bfloat16_from_float(x);
  }
  size_t bytes = (size_t)elements * gd_dtype_bytes(dtype);
  gpu_must(c->cuda->device.ops->copy(c->cuda->kernels.stream, p.cuda, p.host, bytes, GD_COPY_HOST_TO_DEVICE));
  gpu_must(c->cuda->device.ops->stream_sync(c->cuda->kernels.stream));
  return p;
}

static float element(const void *p, gd_dtype dtype, int64_t i) {
  return dtype == GD_FLOAT32 ? ((const float *)p)[i] : gd_bfloat16_to_float(((const gd_bfloat16 *)p)[i]);
}

/* The largest difference, as a share of the larger of the value and the mean magnitude; of one NaN, infinite. */
static double difference(const void *wanted, const void *found, gd_dtype dtype, int64_t elements) {
  double sum = 0, worst = 0;
#pragma omp parallel for reduction(+ : sum)
  for (int64_t i = 0; i < elements; i++) sum += fabs((double)element(wanted, dtype, i));
  double mean = sum / (double)elements + 1e-30;
#pragma omp parallel for reduction(max : worst)
  for (int64_t i = 0; i < elements; i++) {
    double x = (double)element(wanted, dtype, i), d = fabs(x - (double)element(found, dtype, i)) / fmax(fabs(x), mean);
    worst = fmax(worst, isnan(d) ? INFINITY : d);
  }
  return worst;
}

static double seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static size_t bytes_of(const pair *p) {
  return (size_t)p->elements * gd_dtype_bytes(p->dtype);
}

/* false, told: the product is not to be had. Others are. */
static bool run_cuda(side *s, const gd_matmul *args, const pair *c, void *to) {
  gd_status status = s->kernels.ops->matmul(&s->kernels, args);
  if (status == GD_OK) {
    gpu_must(s->device.ops->copy(s->kernels.stream, to, c->cuda, bytes_of(c), GD_COPY_DEVICE_TO_HOST));
    gpu_must(s->device.ops->stream_sync(s->kernels.stream));
    return true;
  }
  printf("  %s FAILED: %s", s->kernels.fast ? "fast" : "invariant", gd_error_text());
  gd_error_clear();
  return false;
}

static double microseconds(side *s, const gd_matmul *args) {
  enum { TIMES = 10 };
  double start = seconds();
  for (int i = 0; i < TIMES; i++) gpu_must(s->kernels.ops->matmul(&s->kernels, args));
  gpu_must(s->device.ops->stream_sync(s->kernels.stream));
  return (seconds() - start) / TIMES * 1e6;
}

/* Rows of C, from `first` on. */
typedef struct range {
  int64_t first, count;
} range;

enum { PLACES = 6 };

/* Which ones the CPU does: at the first, the last and places between; all, where there are few. */
static int sample(const check *c, int64_t m, range out[PLACES]) {
  if (m <= PLACES * c->sampled) {
    out[0] = (range){0, m};
    return 1;
  }
  for (int i = 0; i < PLACES; i++) out[i] = (range){i * (m - c->sampled) / (PLACES - 1), c->sampled};
  return PLACES;
}

static void *rows_at(const void *base, int64_t row, int64_t ld, gd_dtype dtype) {
  return (char *)(uintptr_t)base + (size_t)(row * ld) * gd_dtype_bytes(dtype);
}

static void run_cpu(side *s, gd_matmul m, const pair *a, int64_t a_at, const pair *b, const pair *kept, const pair *result,
                    range part) {
  int64_t skipped = m.form == GD_MATMUL_TN ? part.first : part.first * m.lda;
  m.a = rows_at(a->host, a_at + skipped, 1, m.dtype);
  m.b = b->host;
  m.c = rows_at(result->host, part.first, m.ldc, result->dtype);
  m.kept = kept->host ? rows_at(kept->host, part.first, m.n, kept->dtype) : NULL;
  m.m = part.count;
  gpu_must(s->kernels.ops->matmul(&s->kernels, &m));
}

/* Host memory number `which`, of which the largest is kept: pages of it are touched once. */
static char *room(int which, size_t bytes) {
  static char *memory[4];
  static size_t had[4];
  if (bytes > had[which]) {
    free(memory[which]);
    memory[which] = malloc(bytes);
    had[which] = bytes;
    if (!memory[which]) abort();
  }
  return memory[which];
}

/* One product: `m` without pointers; A from element a_at of a on. C is a whole pair, of dense rows, and so is what an end
 * keeps. */
static void ended_product(check *c, const char *what, gd_matmul m, pair a, int64_t a_at, pair b, pair kept, pair result) {
  static const char *const forms[] = {"NT", "NN", "TN"};
  size_t bytes = bytes_of(&result);
  char *found[2] = {room(0, bytes), room(1, bytes)}, *again = room(2, bytes), *found_kept = room(3, bytes_of(&kept));
  range ranges[PLACES];
  bool had[2];
  m.dtype = c->dtype;
  m.c_dtype = result.dtype;
  int count = sample(c, m.m, ranges);
  for (int i = 0; i < count; i++) run_cpu(c->cpu, m, &a, a_at, &b, &kept, &result, ranges[i]);
  m.a = rows_at(a.cuda, a_at, 1, a.dtype);
  m.b = b.cuda;
  m.c = result.cuda;
  m.kept = kept.cuda;
  printf("%-11s %-5s %s %5lld x %5lld x %5lld x %2lld leaves %-8s", c->model, what, forms[m.form], (long long)m.m,
         (long long)m.n, (long long)m.k, (long long)m.leaves, gd_dtype_name(c->dtype));
  for (int fast = 0; fast < 2; fast++) {
    c->cuda->kernels.fast = fast;
    had[fast] = run_cuda(c->cuda, &m, &result, found[fast]) && run_cuda(c->cuda, &m, &result, again);
    c->failed += !had[fast];
    if (!had[fast]) continue;
    if (kept.elements) {
      gpu_must(
          c->cuda->device.ops->copy(c->cuda->kernels.stream, found_kept, kept.cuda, bytes_of(&kept), GD_COPY_DEVICE_TO_HOST));
      gpu_must(c->cuda->device.ops->stream_sync(c->cuda->kernels.stream));
    }
    bool exact = c->dtype == GD_FLOAT32 && !fast, twice = memcmp(found[fast], again, bytes) == 0;
    double worst = 0, allowed = exact ? 0 : c->dtype == GD_BFLOAT16 ? 0.02 : 1e-4;
    for (int i = 0; i < count; i++) {
      int64_t first = ranges[i].first, elements = ranges[i].count * m.n;
      worst = fmax(worst, difference(rows_at(result.host, first, m.n, result.dtype),
                                     rows_at(found[fast], first, m.n, result.dtype), result.dtype, elements));
      if (kept.elements)
        worst = fmax(worst, difference(rows_at(kept.host, first, m.n, kept.dtype), rows_at(found_kept, first, m.n, kept.dtype),
                                       kept.dtype, elements));
    }
    bool good = twice && worst <= allowed;
    printf("  %s %.1e%s%s", fast ? "fast" : "invariant", worst, twice ? "" : " TWO RUNS DIFFER", good ? "" : " FAILED");
    if (c->timed) {
      double us = microseconds(c->cuda, &m);
      printf(" %.0f us %.1f TFLOP/s", us, 2e-6 * (double)m.m * (double)m.n * (double)m.k * (double)m.leaves / us);
    }
    c->failed += !good;
  }
  double apart = had[0] && had[1] ? difference(found[0], found[1], result.dtype, result.elements) : 0;
  bool near = apart <= (c->dtype == GD_BFLOAT16 ? 0.02 : 1e-4);
  if (!near) printf("  apart %.1e FAILED", apart);
  c->failed += !near;
  printf("\n");
  c->cuda->kernels.fast = false;
}

static void product(check *c, const char *what, gd_matmul m, pair a, int64_t a_at, pair b, pair result) {
  ended_product(c, what, m, a, a_at, b, (pair){0}, result);
}

/* All three products of a weight [out][in] whose rows are cut into blocks. */
static void column_parallel(check *c, const char *what, const rows *r, int64_t out, int64_t in, int64_t blocks) {
  int64_t n = r->layers, block = out / blocks;
  pair x = numbers(c, n * in, c->dtype), w = numbers(c, out * in, c->dtype), dy = numbers(c, n * out, c->dtype);
  gd_matmul forward = {.form = GD_MATMUL_NT, .m = n, .n = block, .k = in, .leaves = 1, .lda = in, .ldb = in, .ldc = block};
  pair y = blank(c, n * block, c->dtype);
  product(c, what, forward, x, 0, w, y);
  if (strcmp(what, "up") == 0) { /* as GPT-2 has it: with GELU */
    forward.end = GD_MATMUL_GELU;
    ended_product(c, "gelu", forward, x, 0, w, blank(c, n * block, c->dtype), y);
  }
  gd_matmul input = {.form = GD_MATMUL_NN, .m = n, .n = in, .k = block, .leaves = blocks, .lda = block, .ldb = in, .ldc = in};
  input.a_leaf_stride = n * block;
  input.b_leaf_stride = block * in;
  product(c, what, input, dy, 0, w, blank(c, n * in, GD_FLOAT32));
  gd_matmul weight = {.form = GD_MATMUL_TN, .m = block, .n = in, .k = r->time_block, .leaves = n / r->time_block, .lda = block};
  weight.k_leaf = r->leaf;
  weight.ldb = weight.ldc = in;
  weight.a_leaf_stride = r->time_block * block;
  weight.b_leaf_stride = r->time_block * in;
  product(c, what, weight, dy, 0, x, blank(c, block * in, GD_FLOAT32));
}

/* ... whose columns are. */
static void row_parallel(check *c, const char *what, const rows *r, int64_t out, int64_t in, int64_t blocks) {
  int64_t n = r->layers, block = in / blocks;
  pair x = numbers(c, n * in, c->dtype), w = numbers(c, out * in, c->dtype), dy = numbers(c, n * out, c->dtype);
  gd_matmul forward = {
      .form = GD_MATMUL_NT, .m = n, .n = out, .k = block, .leaves = blocks, .lda = block, .ldb = block, .ldc = out};
  forward.a_leaf_stride = n * block;
  forward.b_leaf_stride = out * block;
  product(c, what, forward, x, 0, w, blank(c, n * out, GD_FLOAT32));
  gd_matmul input = {.form = GD_MATMUL_NN, .m = n, .n = block, .k = out, .leaves = 1, .lda = out, .ldb = block, .ldc = block};
  pair dx = blank(c, n * block, c->dtype);
  product(c, what, input, dy, 0, w, dx);
  if (strcmp(what, "down") == 0) { /* with GELU's derivative */
    input.end = GD_MATMUL_DGELU;
    ended_product(c, "dgelu", input, dy, 0, w, numbers(c, n * block, c->dtype), dx);
  }
}

/* The head's strips of rows: logits of a block, input gradient over all blocks, weight gradient of a block. The gradient of the
 * logits lies in the logits' memory: rows of bfloat16 are as far apart as rows of float32. */
static void head(check *c, const rows *r, const model *m) {
  int64_t n = r->strip, in = m->width, block = m->vocabulary / m->blocks, ld = c->dtype == GD_BFLOAT16 ? 2 * block : block;
  pair x = numbers(c, r->head * in, c->dtype), w = numbers(c, m->vocabulary * in, c->dtype);
  pair dy = numbers(c, m->blocks * n * ld, c->dtype), logits = blank(c, n * block, GD_FLOAT32);
  pair dx = blank(c, n * in, GD_FLOAT32), dw = blank(c, block * in, GD_FLOAT32);
  for (int64_t first = 0; first < r->head; first += n) {
    gd_matmul forward = {.form = GD_MATMUL_NT, .m = n, .n = block, .k = in, .leaves = 1, .lda = in, .ldb = in, .ldc = block};
    product(c, "head", forward, x, first * in, w, logits);
  }
  gd_matmul input = {.form = GD_MATMUL_NN, .m = n, .n = in, .k = block, .leaves = m->blocks, .lda = ld, .ldb = in, .ldc = in};
  input.a_leaf_stride = n * ld;
  input.b_leaf_stride = block * in;
  product(c, "head", input, dy, 0, w, dx);
  gd_matmul weight = {.form = GD_MATMUL_TN, .m = block, .n = in, .k = r->time_block, .leaves = n / r->time_block, .lda = ld};
  weight.k_leaf = r->leaf;
  weight.ldb = weight.ldc = in;
  weight.a_leaf_stride = r->time_block * ld;
  weight.b_leaf_stride = r->time_block * in;
  product(c, "head", weight, dy, 0, x, dw);
}

static void clear(check *c) {
  if (release(c->cpu) && release(c->cuda)) return;
  printf("a product wrote outside its buffers  FAILED\n");
  c->failed++;
}

int main(int argc, char **argv) {
  static side cpu, cuda;
  bool small = argc > 1 && strcmp(argv[1], "small") == 0;
  setvbuf(stdout, NULL, _IOLBF, 0); /* what is known before it ends early */
  const gd_cuda_backend_table *table = gpu_backend();
  gpu_must(gd_device_open_cpu(&cpu.device));
  gpu_open(table, 0, &cuda.device);
  gpu_must(gd_kernels_open(&cpu.device, NULL, small ? 1 : omp_get_max_threads(), &cpu.kernels));
  gpu_must(gd_kernels_open(&cuda.device, table->kernels, 1, &cuda.kernels));
  const rows *r = small ? &small_rows : &real_rows;
  check c = {.cpu = &cpu, .cuda = &cuda, .timed = !small, .sampled = r->sampled};
  for (int i = 0; i < MODELS; i++)
    for (int d = 0; d < 2; d++) {
      const model *m = small ? &small_models[i] : &models[i];
      c.model = m->name;
      c.dtype = d ? GD_BFLOAT16 : GD_FLOAT32;
      column_parallel(&c, "qkv", r, m->qkv, m->width, m->blocks);
      clear(&c);
      row_parallel(&c, "proj", r, m->width, m->width, m->blocks);
      clear(&c);
      column_parallel(&c, "up", r, m->up, m->width, m->blocks);
      clear(&c);
      row_parallel(&c, "down", r, m->width, m->inner, m->blocks);
      clear(&c);
      head(&c, r, m);
      clear(&c);
    }
  side_close(&cuda);
  side_close(&cpu);
  printf("%s\n", c.failed ? "FAILED" : "all agree");
  return c.failed ? 1 : 0;
}
