/* check_kernels - every CUDA kernel against the CPU's on the same random input, then repeatability.
 *
 * A case builds its input from a seed, runs on one side and notes its results as floats; the two sides' notes are compared:
 * bit for bit, but for attention in bfloat16 (attention_bounds.h) and the matrix product in bfloat16 and in `fast`, whose order
 * of sums is the tensor cores' and cuBLASLt's (with GELU in it: gelu_cases.h). A NaN equals a NaN.
 * check_kernels [cpu] [KERNEL...]: all kernels of the table without a name; check_kernels list: their names, a line each, in
 * the order in which they run. GPTDIST_CHECK_NAMES=1: a line before each. Besides the shapes of the tables some are drawn:
 * GPTDIST_CHECK_RANDOM of a kernel (2), from the seed GPTDIST_CHECK_SEED (1).
 * `check_kernels cpu` compares the CPU with itself on the instruction set GPTDIST_CHECK_ISA (generic): it tests the cases. */
#include "tests/gpu/attention_bounds.h"
#include "tests/gpu/gelu_cases.h"
#include "tests/gpu/loss_cases.h"
#include "tests/gpu/optimizer_cases.h"

/* ---- the cases ---- */

/* variant: 0 layer, 1 rms; + 2: dx in place of dresidual and rows off by one element. */
static void norm(side *s, const setting *set, int64_t rows, int64_t leaf_rows, int64_t width) {
  bool rms = set->variant & 1, off = set->variant & 2;
  int64_t leaves = GD_LEAVES(rows, leaf_rows), elements = rows * width + 1;
  gd_norm_args a = {.kind = rms ? GD_NORM_RMSNORM : GD_NORM_LAYERNORM, .dtype = set->dtype, .rows = rows, .width = width};
  a.epsilon = 1e-5f;
  a.x = off_by_one(input(s, 1, elements, set->dtype, 2, 0.5f), set->dtype, off);
  a.weight = off_by_one(input(s, 2, width + 1, set->dtype, 1, 1), set->dtype, off);
  a.bias = rms ? NULL : off_by_one(input(s, 3, width + 1, set->dtype, 1, 0), set->dtype, off);
  a.y = off_by_one(output(s, elements, set->dtype), set->dtype, off);
  a.mean = rms ? NULL : output(s, rows, GD_FLOAT32);
  a.rstd = output(s, rows, GD_FLOAT32);
  gpu_must(s->kernels.ops->norm_forward(&s->kernels, &a));
  note(s, a.y, rows * width, set->dtype);
  note(s, a.rstd, rows, GD_FLOAT32);
  if (!rms) note(s, a.mean, rows, GD_FLOAT32);
  a.dy = off_by_one(input(s, 4, elements, set->dtype, 1, 0), set->dtype, off);
  void *dresidual = off_by_one(input(s, 5, elements, set->dtype, 1, 0), set->dtype, off);
  a.dresidual = dresidual;
  a.leaf_rows = leaf_rows;
  a.dx = output(s, rows * width, set->dtype); /* of a norm that is frozen */
  gpu_must(s->kernels.ops->norm_backward(&s->kernels, &a));
  note(s, a.dx, rows * width, set->dtype);
  a.dx = off ? dresidual : output(s, rows * width, set->dtype);
  a.dweight_leaves = output(s, leaves * width, GD_FLOAT32);
  a.dbias_leaves = rms ? NULL : output(s, leaves * width, GD_FLOAT32);
  gpu_must(s->kernels.ops->norm_backward(&s->kernels, &a));
  note(s, a.dx, rows * width, set->dtype);
  note(s, a.dweight_leaves, leaves * width, GD_FLOAT32);
  if (!rms) note(s, a.dbias_leaves, leaves * width, GD_FLOAT32);
  a.dx = (void *)(uintptr_t)a.dy; /* in place of dy, and the leaves of it */
  gpu_must(s->kernels.ops->norm_backward(&s->kernels, &a));
  note(s, a.dx, rows * width, set->dtype);
  note(s, a.dweight_leaves, leaves * width, GD_FLOAT32);
}

/* variant: + 4 times the width's number. Narrow rows are many in a leaf. */
static void case_norm(side *s, const setting *set) {
  int64_t width = width_of(set->variant / 4);
  norm(s, set, width < 200 ? 70 : 10, width < 200 ? 37 : 5, width);
}

/* Rows whose sums a block has no room for. */
static void case_norm_wide(side *s, const setting *set) {
  norm(s, set, 3, 2, 6100);
}

/* variant: leaves; odd ones accumulate. */
static void case_sums(side *s, const setting *set) {
  int64_t leaves = set->variant, elements = 700, width = 70;
  gd_tree_sum t = {.leaves = leaves, .elements = elements, .dtype = set->dtype, .leaf_stride = elements + 4};
  t.in = input(s, 1, leaves * t.leaf_stride, set->dtype, 1, 0);
  t.out = input(s, 2, elements, GD_FLOAT32, 1, 0);
  t.accumulate = leaves % 2;
  gpu_must(s->kernels.ops->tree_sum(&s->kernels, &t));
  note(s, t.out, elements, GD_FLOAT32);
  gd_column_sums c = {.rows = leaves * 6, .width = width, .ld = width + 2, .leaf_rows = 6, .dtype = set->dtype};
  c.x = input(s, 3, c.rows * c.ld, set->dtype, 1, 0);
  c.leaves = output(s, leaves * width, GD_FLOAT32);
  gpu_must(s->kernels.ops->column_sums(&s->kernels, &c));
  note(s, c.leaves, leaves * width, GD_FLOAT32);
  void *converted = output(s, elements, set->dtype);
  gpu_must(s->kernels.ops->convert(&s->kernels, set->dtype, converted, GD_FLOAT32, t.out, elements));
  note(s, converted, elements, set->dtype);
  gpu_must(s->kernels.ops->convert(&s->kernels, GD_FLOAT32, t.out, set->dtype, converted, elements));
  gpu_must(s->kernels.ops->add(&s->kernels, t.out, input(s, 4, elements, GD_FLOAT32, 1, 0), elements));
  note(s, t.out, elements, GD_FLOAT32);
}

/* variant: gd_activation; + 3 times the scale's number: small, usual, far out, beyond every clamp, infinite and NaN. */
static void case_activation(side *s, const setting *set) {
  static const float scales[] = {1e-4f, 5, 30, 1e4f, INFINITY};
  gd_activation kind = (gd_activation)(set->variant % 3);
  int64_t rows = 90, width = 50, in = kind == GD_ACTIVATION_SWIGLU ? 2 * width : width;
  gd_activation_args a = {.kind = kind, .dtype = set->dtype, .rows = rows, .width = width};
  void *x = input(s, 1, rows * in, set->dtype, scales[set->variant / 3], 0);
  a.x = x;
  a.y = output(s, rows * width, set->dtype);
  gpu_must(s->kernels.ops->activation_forward(&s->kernels, &a));
  note(s, a.y, rows * width, set->dtype);
  a.dy = input(s, 2, rows * width, set->dtype, 1, 0);
  a.dx = x;
  gpu_must(s->kernels.ops->activation_backward(&s->kernels, &a));
  note(s, a.dx, rows * in, set->dtype);
}

/* variant: 0 positions by row, 1 given, 2 far and inverse, 3 as llama3 stretches them, 4 linear. */
static void case_rotary(side *s, const setting *set) {
  gd_rotary a = {.dtype = set->dtype, .rows = 13, .ld = 200, .heads = 3, .head_size = 48, .theta = 10000.0f, .period = 5};
  a.x = input(s, 1, a.rows * a.ld, set->dtype, 1, 0);
  a.first_position = 3;
  if (set->variant == 1) a.positions = integers(s, 2, a.rows, 4096);
  if (set->variant == 2) {
    a.first_position = 1000000;
    a.inverse = true;
  }
  if (set->variant == 3) a.rope = (gd_rope){GD_ROPE_LLAMA3, 8, 1, 4, 64};
  if (set->variant == 4) a.rope = (gd_rope){GD_ROPE_LINEAR, 2.5f, 1, 4, 64};
  gpu_must(s->kernels.ops->rotary(&s->kernels, &a));
  note(s, a.x, a.rows * a.ld, set->dtype);
}

/* variant: 0 the whole table, 1 its second half, 2 accumulating. */
static void case_embedding(side *s, const setting *set) {
  bool many = set->variant > 2; /* rows: more than are sorted at once, by 4 */
  int64_t rows = many ? 4 * 1024 + 100 : 120, width = many ? 20 : 300, vocabulary = many ? 500 : 32, half = vocabulary / 2;
  gd_embedding a = {.dtype = set->dtype, .rows = rows, .width = width, .leaf_rows = many ? 256 : 12, .block_rows = half};
  a.first_block = set->variant == 1;
  a.blocks = set->variant == 1 ? 1 : 2;
  a.block_stride = half * width + 64;
  a.tokens = integers(s, 1, rows, (uint32_t)vocabulary);
  a.weight = input(s, 2, a.blocks * a.block_stride, set->dtype, 1, 0);
  a.out = output(s, rows * width, GD_FLOAT32);
  gpu_must(s->kernels.ops->embedding_forward(&s->kernels, &a));
  note(s, a.out, rows * width, GD_FLOAT32);
  a.dx = input(s, 3, rows * width, set->dtype, 1, 0);
  a.gradient = input(s, 4, a.blocks * a.block_stride, GD_FLOAT32, 1, 0);
  a.accumulate = set->variant == 2;
  gpu_must(s->kernels.ops->embedding_backward(&s->kernels, &a));
  note(s, a.gradient, a.blocks * a.block_stride, GD_FLOAT32);
}

/* variant: 1 bias (and, of the norm, a layer's), 2 table, 4 dropout, 8 residual, 16 positions given, 32 the norm behind it. */
static void case_rows(side *s, const setting *set) {
  int64_t rows = 22, width = 70, period = 8;
  gd_rows_finish a = {.dtype = set->dtype, .rows = rows, .width = width, .first_row = 1003, .period = period};
  a.rng = gd_rng_make(7, GD_RNG_DROPOUT, 1, 2, 3);
  a.sum = input(s, 1, rows * width, GD_FLOAT32, 1, 0);
  a.out = output(s, rows * width, set->dtype);
  if (set->variant & 1) a.bias = input(s, 2, width, set->dtype, 1, 0);
  if (set->variant & 2) a.table = input(s, 3, period * width, set->dtype, 1, 0);
  if (set->variant & 4) a.dropout = 0.3f;
  if (set->variant & 8) a.residual = input(s, 4, rows * width, set->dtype, 1, 0);
  if (set->variant & 16) a.positions = integers(s, 8, rows, (uint32_t)period);
  if (set->variant & 32) {
    a.norm = (gd_norm_args){.kind = set->variant & 1 ? GD_NORM_LAYERNORM : GD_NORM_RMSNORM, .epsilon = 1e-5f};
    a.norm.weight = input(s, 6, width, set->dtype, 1, 1);
    a.norm.y = output(s, rows * width, set->dtype);
    a.norm.rstd = output(s, rows, GD_FLOAT32);
    if (set->variant & 1) a.norm.bias = input(s, 7, width, set->dtype, 1, 0);
    if (set->variant & 1) a.norm.mean = output(s, rows, GD_FLOAT32);
  }
  gpu_must(s->kernels.ops->rows_finish(&s->kernels, &a));
  note(s, a.out, rows * width, set->dtype);
  if (a.norm.y) note(s, a.norm.y, rows * width, set->dtype);
  if (a.norm.y) note(s, a.norm.rstd, rows, GD_FLOAT32);
  if (a.norm.mean) note(s, a.norm.mean, rows, GD_FLOAT32);
  gd_dropout_backward b = {.dtype = set->dtype, .rows = rows, .width = width, .first_row = 1000, .dropout = 0.3f, .rng = a.rng};
  b.dy = input(s, 5, rows * width, set->dtype, 1, 0);
  b.dx = output(s, rows * width, set->dtype);
  gpu_must(s->kernels.ops->dropout_backward(&s->kernels, &b));
  note(s, b.dx, rows * width, set->dtype);
}

/* New rows into a cache of slots, then attention over it: all sequences in one call, and each by itself, without slots. Where
 * attention is not the CPU's order (bfloat16), only whether these two are the same bits is told. variant: 0 one row each, 1
 * three. */
static void case_cache(side *s, const setting *set) {
  enum { SLOTS = 5, CAPACITY = 150, BATCH = 3, HEADS = 4, KV_HEADS = 2, HEAD = 40 };
  static const int32_t slots[BATCH] = {4, 0, 2}, starts[BATCH] = {147, 0, 63};
  int64_t rows = set->variant ? 3 : 1, width = 2 * KV_HEADS * HEAD, ld = width + 8, out_row = HEADS * HEAD;
  int64_t elements = BATCH * rows * out_row, element = (int64_t)gd_dtype_bytes(set->dtype);
  int32_t row_slots[3 * BATCH], row_positions[3 * BATCH];
  for (int r = 0; r < BATCH * rows; r++) {
    row_slots[r] = slots[r / rows];
    row_positions[r] = starts[r / rows] + (int32_t)(r % rows);
  }
  gd_cache_rows c = {.dtype = set->dtype, .rows = BATCH * rows, .width = width, .ld = ld, .capacity = CAPACITY};
  c.x = input(s, 1, c.rows * ld, set->dtype, 1, 0);
  c.slots = upload(s, row_slots, (size_t)c.rows * sizeof *row_slots);
  c.positions = upload(s, row_positions, (size_t)c.rows * sizeof *row_positions);
  c.cache = input(s, 2, SLOTS * CAPACITY * width, set->dtype, 1, 0);
  gpu_must(s->kernels.ops->cache_rows(&s->kernels, &c));
  note(s, c.cache, SLOTS * CAPACITY * width, set->dtype);
  gd_attention a = {.dtype = set->dtype, .batch = BATCH, .heads = HEADS, .kv_heads = KV_HEADS, .head_size = HEAD};
  a.query_length = (int32_t)rows;
  a.key_length = CAPACITY;
  a.q = input(s, 3, elements, set->dtype, 1, 0);
  a.k = c.cache;
  a.v = (const char *)c.cache + KV_HEADS * HEAD * element;
  a.q_row = a.out_row = out_row;
  a.q_batch = a.out_batch = rows * out_row;
  a.kv_row = width;
  a.kv_batch = CAPACITY * width;
  a.out = output(s, elements, set->dtype);
  a.lse = output(s, BATCH * HEADS * rows, GD_FLOAT32);
  a.scale = 0.3f;
  a.slots = upload(s, slots, sizeof slots);
  a.starts = upload(s, starts, sizeof starts);
  gpu_must(s->kernels.ops->attention_forward(&s->kernels, &a));
  int64_t before = s->note_count;
  note(s, a.out, elements, set->dtype);
  char *alone = output(s, elements, set->dtype);
  for (int b = 0; b < BATCH; b++) {
    gd_attention one = a;
    one.batch = 1;
    one.slots = one.starts = NULL;
    one.query_start = starts[b];
    one.key_length = starts[b] + (int32_t)rows;
    one.q = (const char *)a.q + b * a.q_batch * element;
    one.k = (const char *)a.k + slots[b] * a.kv_batch * element;
    one.v = (const char *)a.v + slots[b] * a.kv_batch * element;
    one.out = alone + b * a.out_batch * element;
    gpu_must(s->kernels.ops->attention_forward(&s->kernels, &one));
  }
  note(s, alone, elements, set->dtype);
  int64_t differ = 0;
  for (int64_t i = 0; i < elements; i++) differ += s->notes[before + i] != s->notes[before + elements + i];
  if (set->dtype == GD_BFLOAT16) s->note_count = before;
  note_double(s, (double)differ);
  if (differ) gpu_must(gd_fail(GD_BUG, "cache: %lld elements differ between slots together and alone", (long long)differ));
}

/* variant: of how many rows. */
static void case_rows_pick(side *s, const setting *set) {
  static const int32_t index[] = {5, -1, 3, 4, 40, 2, 12, 13};
  int64_t width = 70, size = 10;
  gd_rows_pick a = {.dtype = set->dtype, .count = set->variant, .width = width, .first = 3, .size = size};
  a.index = upload(s, index, sizeof index);
  a.from = input(s, 1, size * width, set->dtype, 1, 0);
  a.to = output(s, 8 * width, set->dtype);
  gpu_must(s->kernels.ops->rows_pick(&s->kernels, &a));
  note(s, a.to, set->variant * width, set->dtype);
  a.from = a.to;
  a.to = input(s, 2, size * width, set->dtype, 1, 0);
  gpu_must(s->kernels.ops->rows_put(&s->kernels, &a));
  note(s, a.to, size * width, set->dtype);
}

static const struct {
  const char *name;
  void (*run)(side *, const setting *);
  int first, end; /* variants */
  int inexact;    /* 1: not the same order on both kinds of device in bfloat16, 2: nor in float32; -1: float32 alone */
  int shape;      /* variants of a shape that is drawn, behind the end; 0: none are */
} cases[] = {{"matmul", case_matmul, 0, 3 * PRODUCTS, 1, 3},
             {"matmul fast", case_matmul_fast, 0, 3 * PRODUCTS, 2, 3},
             {"matmul gelu", case_matmul_gelu, 0, 2 * ENDS, 1, 0},
             {"attention", case_attention, 0, ATTENTIONS, -1, 1},
             {"norm", case_norm, 0, 4 * WIDTHS, 0, 4},
             {"norm wide", case_norm_wide, 0, 4, 0, 0},
             {"sums", case_sums, 1, 12, 0, 0},
             {"activation", case_activation, 0, 15, 0, 0},
             {"rotary", case_rotary, 0, 5, 0, 0},
             {"embedding", case_embedding, 0, 4, 0, 0},
             {"rows, dropout", case_rows, 0, 64, 0, 0},
             {"cache", case_cache, 0, 2, 0, 0},
             {"loss", case_loss, 0, 4 * WIDTHS + 4, 0, 4},
             {"loss, smoothed", case_loss_smoothed, 0, 4 * WIDTHS, 0, 0},
             {"loss whole", case_loss_whole, 0, 12, 0, 0},
             {"loss of labels", case_label_loss, 0, 8, 0, 0},
             {"rows by number", case_rows_pick, 0, 9, 0, 0},
             {"nodes", case_nodes, 0, 4, 0, 0},
             {"finite", case_finite, 0, 5, 0, 0},
             {"vote", case_vote, 0, 6, 0, 0},
             {"optimizer", case_optimizer, 0, 7, 0, 0}};

/* ---- comparing ---- */

static void run_case(side *s, void (*run)(side *, const setting *), const setting *set) {
  s->note_count = 0;
  run(s, set);
  if (!release(s)) s->overrun = true;
}

/* The largest difference, as a share of the larger of the value and the mean magnitude. */
static double difference(const side *a, const side *b) {
  double mean = 1e-30, worst = 0;
  if (a->note_count != b->note_count) return INFINITY;
  for (int64_t i = 0; i < a->note_count; i++)
    if (isfinite(a->notes[i])) mean += fabs((double)a->notes[i]) / (double)a->note_count;
  for (int64_t i = 0; i < a->note_count; i++) {
    double x = (double)a->notes[i], y = (double)b->notes[i];
    if (x == y || (isnan(x) && isnan(y))) continue;
    double d = fabs(x - y) / fmax(fabs(x), mean);
    if (isnan(d)) return INFINITY; /* of one side alone */
    if (d > worst) worst = d;
  }
  return worst;
}

static bool same_bits(float x, float y) {
  return memcmp(&x, &y, sizeof x) == 0 || (isnan(x) && isnan(y));
}

/* The first note that has other bits; -1: none. */
static int64_t first_different(const side *a, const side *b) {
  if (a->note_count != b->note_count) return 0;
  for (int64_t i = 0; i < a->note_count; i++)
    if (!same_bits(a->notes[i], b->notes[i])) return i;
  return -1;
}

/* Says so on a line where a case that must be exact is not. */
static bool exact_or_told(const char *name, const setting *set, const side *cpu, const side *gpu) {
  int64_t at = first_different(cpu, gpu);
  if (at < 0) return true;
  printf("%s %s variant %d: result %lld of %lld is %.9g (%a), the CPU's %.9g (%a)\n", name, gd_dtype_name(set->dtype),
         set->variant, (long long)at, (long long)gpu->note_count, (double)gpu->notes[at], (double)gpu->notes[at],
         (double)cpu->notes[at], (double)cpu->notes[at]);
  return false;
}

static bool wanted(const char *name, char **names) {
  bool found = !*names;
  for (; *names; names++) found = found || strcmp(name, *names) == 0;
  if (found && getenv("GPTDIST_CHECK_NAMES")) printf("now: %s\n", name);
  return found;
}

static int compare(side *cpu, side *gpu, char **names) {
  int failed = 0;
  bool stop = getenv("GPTDIST_CHECK_STOP"); /* at the first difference */
  const char *text = getenv("GPTDIST_CHECK_RANDOM");
  int shapes = text ? atoi(text) : 2;
  float *again = malloc(MAX_NOTES * sizeof *again);
  printf("%-16s %-9s %9s  %-10s %s\n", "kernel", "dtype", "cases", "difference", "allowed");
  for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
    for (int d = 0; d < (cases[c].inexact < 0 ? 1 : 2) && wanted(cases[c].name, names); d++) {
      setting set = {d ? GD_BFLOAT16 : GD_FLOAT32, 0};
      int end = cases[c].end + shapes * cases[c].shape;
      /* Another order of sums: bfloat16 two units in the last place. The emulation's tensor cores make the CPU's chains, but
       * for the sign of a zero. */
      bool exact = cases[c].inexact + d < 2, chains = cases[c].inexact == 1 && strstr(gpu->device.description, "emulated");
      double worst = 0, allowed = exact || chains ? 0 : d ? 0.02 : 1e-4;
      int worst_variant = -1;
      bool same = true, equal = true;
      cpu->overrun = gpu->overrun = false;
      for (set.variant = cases[c].first; set.variant < end; set.variant++) {
        run_case(cpu, cases[c].run, &set);
        run_case(gpu, cases[c].run, &set);
        double found = difference(cpu, gpu);
        if (exact && equal) equal = exact_or_told(cases[c].name, &set, cpu, gpu);
        if (!(found <= worst)) {
          worst = found;
          worst_variant = set.variant;
        }
        if (stop && (found > allowed || !equal || cpu->overrun || gpu->overrun)) exit(1);
        memcpy(again, gpu->notes, (size_t)gpu->note_count * sizeof *again);
        run_case(gpu, cases[c].run, &set);
        if (memcmp(again, gpu->notes, (size_t)gpu->note_count * sizeof *again) != 0) same = false;
      }
      bool good = worst <= allowed && same && equal && !cpu->overrun && !gpu->overrun;
      char told[16] = "equal bits";
      if (!exact) snprintf(told, sizeof told, "%.0e", allowed);
      printf("%-16s %-9s %9d  %-10.2e %s%s%s%s", cases[c].name, gd_dtype_name(set.dtype), end - cases[c].first, worst, told,
             good ? "" : "  FAILED", same ? "" : ": two runs differ", gpu->overrun ? ": wrote outside a buffer" : "");
      if (!good && worst_variant >= 0) printf(" (variant %d)", worst_variant);
      printf("\n");
      failed += !good;
    }
  free(again);
  return failed;
}

/* Rows `first` to `end` of the product of M rows by themselves; false where they have other bits than among the others, which
 * the first notes are. */
static bool rows_alone(side *s, gd_matmul args, int64_t first, int64_t end) {
  int64_t all = args.m * args.n, skipped = args.form == GD_MATMUL_TN ? first : first * args.lda;
  args.a = (const char *)args.a + skipped * (int64_t)gd_dtype_bytes(args.dtype);
  args.m = end - first;
  gpu_must(s->kernels.ops->matmul(&s->kernels, &args));
  s->note_count = all;
  note(s, args.c, args.m * args.n, GD_FLOAT32);
  return memcmp(s->notes + all, s->notes + first * args.n, (size_t)(args.m * args.n) * sizeof(float)) == 0;
}

/* The rows of a product do not depend on how many there are: every form, in one chain and in leaves of leaves. */
static int check_rows_alone(side *s) {
  enum { M = 200, N = 96, K = 160, LEAVES = 3, INNER = 72 };
  static const int64_t firsts[] = {0, 8, 64, 199}, ends[] = {1, 40, 200, 200};
  static const char *const forms[] = {"NT", "NN", "TN"};
  int failed = 0;
  for (int d = 0; d < 2; d++) {
    int before = failed, cases_run = 0;
    gd_dtype dtype = d ? GD_BFLOAT16 : GD_FLOAT32;
    const void *a = input(s, 1, LEAVES * M * K, dtype, 1, 0), *b = input(s, 2, LEAVES * N * K, dtype, 1, 0);
    float *c = output(s, M * N, GD_FLOAT32);
    for (int which = 0; which < 6; which++) {
      gd_matmul_form form = (gd_matmul_form)(which % 3);
      gd_matmul args = {.form = form, .m = M, .n = N, .k = K, .leaves = 1, .dtype = dtype, .c_dtype = GD_FLOAT32};
      if (which >= 3) args.leaves = LEAVES, args.k_leaf = INNER;
      args.a = a;
      args.lda = form == GD_MATMUL_TN ? M : K;
      args.a_leaf_stride = M * K;
      args.b = b;
      args.ldb = form == GD_MATMUL_NT ? K : N;
      args.b_leaf_stride = N * K;
      args.c = c;
      args.ldc = N;
      gpu_must(s->kernels.ops->matmul(&s->kernels, &args));
      s->note_count = 0;
      note(s, args.c, M * N, GD_FLOAT32);
      for (int i = 0; i < 4; i++, cases_run++) {
        if (rows_alone(s, args, firsts[i], ends[i])) continue;
        printf("matmul %s %s, %d leaves: rows %d to %d alone have other bits\n", gd_dtype_name(dtype), forms[form],
               (int)args.leaves, (int)firsts[i], (int)ends[i]);
        failed++;
      }
    }
    failed += !release(s);
    printf("%-16s %-9s %9d  %-10s %s%s\n", "rows alone", gd_dtype_name(dtype), cases_run, "", "equal bits",
           failed == before ? "" : "  FAILED");
  }
  return failed;
}

static const char *const behind_the_table[] = {"attention bf16", "gelu in products", "rows alone"};

static int list(void) {
  for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) printf("%s\n", cases[c].name);
  for (int i = 0; i < 3; i++) printf("%s\n", behind_the_table[i]);
  return 0;
}

int main(int argc, char **argv) {
  static side cpu, other;
  if (argc == 2 && strcmp(argv[1], "list") == 0) return list();
  const gd_kernels_ops *cuda = NULL;
  bool self = argc > 1 && strcmp(argv[1], "cpu") == 0;
  gpu_must(gd_device_open_cpu(&cpu.device));
  if (self) {
    gpu_must(gd_device_open_cpu(&other.device));
  } else {
    const gd_cuda_backend_table *table = gpu_backend();
    gpu_open(table, 0, &other.device);
    cuda = table->kernels;
  }
  gpu_must(gd_kernels_open(&cpu.device, NULL, 1, &cpu.kernels));
  if (strcmp(cpu.kernels.ops->name, "cpu-avx512bf16") == 0) { /* pairs of bfloat16 are this processor's alone */
    gd_kernels_close(&cpu.kernels);
    setenv("GPTDIST_ISA", "avx512", 1);
    gpu_must(gd_kernels_open(&cpu.device, NULL, 1, &cpu.kernels));
  }
  if (self) setenv("GPTDIST_ISA", getenv("GPTDIST_CHECK_ISA") ? getenv("GPTDIST_CHECK_ISA") : "generic", 1);
  gpu_must(gd_kernels_open(&other.device, cuda, 1, &other.kernels));
  cpu.notes = malloc(MAX_NOTES * sizeof *cpu.notes);
  other.notes = malloc(MAX_NOTES * sizeof *other.notes);
  printf("%s (%s) against %s (%s)\n", other.device.description, other.kernels.ops->name, cpu.device.description,
         cpu.kernels.ops->name);
  char **names = argv + (self ? 2 : argc > 0);
  setvbuf(stdout, NULL, _IOLBF, 0); /* what is known before a kernel ends the program */
  int failed = compare(&cpu, &other, names);
  if (wanted(behind_the_table[0], names)) failed += check_attention(&cpu, &other, getenv("GPTDIST_CHECK_STOP"));
  if (wanted(behind_the_table[1], names)) failed += check_gelu(&cpu, &other, getenv("GPTDIST_CHECK_STOP"));
  if (wanted(behind_the_table[2], names)) failed += check_rows_alone(&other);
  side_close(&other);
  side_close(&cpu);
  free(cpu.notes);
  free(other.notes);
  printf("%s\n", failed ? "FAILED" : "all agree");
  return failed ? 1 : 0;
}
