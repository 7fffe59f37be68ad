/* gelu_cases.h - products that end in the tanh GELU or its derivative: with the bits of the two calls that they stand for, and
 * where the library's epilogue does them (CUDA, bfloat16, `fast`) within the bounds of docs/rounding.md against float64. */
#ifndef GD_TESTS_GPU_GELU_CASES_H
#define GD_TESTS_GPU_GELU_CASES_H

#include "tests/gpu/attention_bounds.h"

/* off: elements from a multiple of 16 bytes on to where `kept` begins. */
typedef struct ended {
  int64_t m, n, k;
  bool bias;
  int64_t off;
} ended;

static const ended gelu_ends[] = {
    {.m = 64, .n = 48, .k = 96, .bias = true},
    {.m = 37, .n = 40, .k = 24},
    {.m = 130, .n = 72, .k = 200, .bias = true},
    {.m = 1, .n = 264, .k = 64, .bias = true},
    /* not aligned: kept, rows of A */
    {.m = 64, .n = 48, .k = 96, .off = 4},
    {.m = 64, .n = 48, .k = 100, .bias = true},
    /* what is kept has rows that no epilogue takes */
    {.m = 33, .n = 29, .k = 19, .bias = true},
};
enum { ENDS = sizeof gelu_ends / sizeof gelu_ends[0] };

/* Whether the emulation's library has an epilogue for it. */
static bool offered(const ended *e) {
  return e->n % 8 == 0 && e->k % 8 == 0 && e->off % 8 == 0;
}

/* GELU: of x W^T, to C and kept. DGELU: of dy W, to C, by what was kept. */
static gd_matmul ended_product(side *s, const ended *e, gd_matmul_end end, gd_dtype dtype) {
  bool forward = end == GD_MATMUL_GELU;
  int64_t bytes = (int64_t)gd_dtype_bytes(dtype);
  gd_matmul args = {.form = forward ? GD_MATMUL_NT : GD_MATMUL_NN, .m = e->m, .n = e->n, .k = e->k, .leaves = 1};
  args.dtype = args.c_dtype = dtype;
  args.a = input(s, 1, e->m * e->k, dtype, 1, 0);
  args.b = input(s, 2, e->n * e->k, dtype, 0.7f, 0);
  if (e->bias && forward) args.bias = input(s, 3, e->n, dtype, 1, 0);
  args.lda = e->k;
  args.ldb = forward ? e->k : e->n;
  args.c = output(s, e->m * e->n, dtype);
  args.ldc = e->n;
  args.end = end;
  char *kept = forward ? output(s, e->m * e->n + e->off, dtype) : input(s, 4, e->m * e->n + e->off, dtype, 4, 0);
  args.kept = kept + e->off * bytes;
  return args;
}

static void note_ended(side *s, const gd_matmul *args) {
  note(s, args->c, args->m * args->n, args->dtype);
  note(s, args->kept, args->m * args->n, args->dtype);
}

/* variant: 1: DGELU; + 2 times the number of the end. */
static void case_matmul_gelu(side *s, const setting *set) {
  gd_matmul args =
      ended_product(s, &gelu_ends[set->variant / 2], set->variant % 2 ? GD_MATMUL_DGELU : GD_MATMUL_GELU, set->dtype);
  gpu_must(s->kernels.ops->matmul(&s->kernels, &args));
  note_ended(s, &args);
}

/* ---- the library's epilogue ---- */

static double gelu_steepness(double x) { /* the derivative of the argument of tanh */
  return sqrt(2 / acos(-1.0)) * (1 + 3 * 0.044715 * x * x);
}
static double gelu_tanh_of(double x) {
  return tanh(sqrt(2 / acos(-1.0)) * (x + 0.044715 * x * x * x));
}

/* host: the same product with pointers that the host can read; tanh_error: relative. Notes of C, then of kept. */
static void check_end(const gd_matmul *host, const float *notes, double tanh_error, given *g) {
  const float *c = notes, *kept = notes + host->m * host->n;
  bool forward = host->end == GD_MATMUL_GELU;
  for (int64_t i = 0; i < host->m; i++)
    for (int64_t j = 0; j < host->n; j++) {
      int64_t at = i * host->n + j;
      double sum = host->bias ? stored(host->bias, j) : 0, size = fabs(sum);
      for (int64_t k = 0; k < host->k; k++) {
        double term = stored(host->a, i * host->lda + k) * stored(host->b, forward ? j * host->ldb + k : k * host->ldb + j);
        sum += term;
        size += fabs(term);
      }
      double error = chain_error(host->k + 1) * size;
      if (forward) {
        double y = 0.5 * sum * (1 + gelu_tanh_of(sum));
        within(g, "kept", sum, kept[at], stored_roundoff * fabs(sum) + error);
        within(g, "gelu", y, c[at], stored_roundoff * fabs(y) + 1.13 * error + 0.5 * tanh_error * fabs(sum));
      } else {
        double x = (double)kept[at], t = gelu_tanh_of(x);
        double slope = 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * gelu_steepness(x);
        double slope_error = tanh_error * (0.5 + fabs(x) * gelu_steepness(x));
        within(g, "dgelu", sum * slope, c[at],
               stored_roundoff * fabs(sum * slope) + error * fabs(slope) + slope_error * fabs(sum));
      }
    }
}

/* Runs it with its end, and as the two calls: the notes of both, the first ones behind each other. Same bits? */
static bool runs_apart(side *s, const ended *e, gd_matmul_end end, gd_dtype dtype, bool fast, gd_matmul *out) {
  gd_matmul args = *out = ended_product(s, e, end, dtype), two = ended_product(s, e, end, dtype);
  const gd_matmul alone = gd_matmul_alone(&two);
  const gd_activation_args activation = gd_matmul_activation(&two);
  const gd_kernels_ops *ops = s->kernels.ops;
  s->note_count = 0;
  s->kernels.fast = fast;
  gpu_must(ops->matmul(&s->kernels, &args));
  gpu_must(ops->matmul(&s->kernels, &alone));
  s->kernels.fast = false;
  gpu_must(end == GD_MATMUL_GELU ? ops->activation_forward(&s->kernels, &activation)
                                 : ops->activation_backward(&s->kernels, &activation));
  note_ended(s, &args);
  int64_t count = s->note_count;
  note_ended(s, &two);
  return memcmp(s->notes, s->notes + count, (size_t)count * sizeof(float)) == 0;
}

/* Twice for equal bits. stop: at the first fault. */
static int check_gelu(side *cpu, side *gpu, bool stop) {
  bool emulated = strstr(gpu->device.description, "emulated") != NULL;
  int failed = 0, taken_in = 0;
  given g = {.where = "nowhere"};
  float *first = malloc(MAX_NOTES * sizeof *first);
  if (!first) abort();
  for (int i = 0; i < 8 * ENDS; i++) {
    const ended *e = &gelu_ends[i / 8];
    gd_matmul_end end = i & 1 ? GD_MATMUL_DGELU : GD_MATMUL_GELU;
    gd_dtype dtype = i & 2 ? GD_BFLOAT16 : GD_FLOAT32;
    bool fast = i & 4, may = fast && dtype == GD_BFLOAT16 && gpu->kernels.ops->epilogues;
    gd_matmul host, device;
    bool good = runs_apart(cpu, e, end, dtype, fast, &host), apart = runs_apart(gpu, e, end, dtype, fast, &device);
    memcpy(first, gpu->notes, (size_t)gpu->note_count * sizeof *first);
    good = release(gpu) && runs_apart(gpu, e, end, dtype, fast, &device) == apart && good;
    good = memcmp(first, gpu->notes, (size_t)gpu->note_count * sizeof *first) == 0 && good;
    if (may && !apart) check_end(&host, gpu->notes, emulated ? 4 * float_roundoff : 0x1p-11, &g);
    if (may && emulated) good = good && apart != offered(e);
    good = good && (apart || may) && g.worst <= 1;
    taken_in += !apart;
    good = release(cpu) && release(gpu) && good;
    if (good) continue;
    printf("gelu in a product, case %d: %s, %.2f of the bound (%s)  FAILED\n", i, apart ? "two calls" : "an epilogue", g.worst,
           g.where);
    failed = 1;
    if (stop) exit(1);
  }
  free(first);
  printf("%-16s %-9s %9d  %.2f of the bound, %d of %d in an epilogue%s\n", "gelu in products", "bfloat16", 8 * ENDS, g.worst,
         taken_in, 2 * ENDS, failed ? "  FAILED" : "");
  return failed;
}

#endif
