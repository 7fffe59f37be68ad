/* Attention against double arithmetic, and the promise that cuts change no bit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "attention_reference.h"

static const char *const isas[] = {"generic", "avx2", "avx512", "avx512bf16"};
enum { ISAS = 4 };

typedef struct kernel_table {
  gd_device device;
  gd_kernels kernels;
} kernel_table;

/* False where this processor lacks the instruction set. */
static bool open_table(const char *isa, int32_t threads, kernel_table *out) {
  setenv("GPTDIST_ISA", isa, 1);
  assert_int_equal(gd_device_open_cpu(&out->device), GD_OK);
  gd_status status = gd_kernels_open(&out->device, NULL, threads, &out->kernels);
  unsetenv("GPTDIST_ISA");
  if (status == GD_OK) return true;
  gd_error_clear();
  out->device.ops->close(&out->device);
  return false;
}

static void close_table(kernel_table *table) {
  gd_kernels_close(&table->kernels);
  table->device.ops->close(&table->device);
}

/* ---- a problem: arguments and dense stored tensors ---- */

typedef struct problem {
  gd_attention a;
  size_t q_elems, kv_elems, rows;
  void *q, *k, *v, *out, *dout, *dq, *dk, *dv; /* stored */
  float *lse, *delta;
  int32_t *positions, *documents;
} problem;

typedef struct shape {
  int32_t batch, heads, kv_heads, head_size, queries, keys, start;
  gd_dtype dtype;
  float dropout;
  int32_t prefix, document; /* document > 0: a new document every so many keys */
  bool positions;           /* every other position */
  int32_t block;
} shape;

static void *stored_random(gd_dtype dtype, size_t elems, uint32_t site) {
  gd_rng rng = gd_rng_make(7, GD_RNG_WEIGHTS, site, 0, 0);
  char *memory = calloc(elems + 1, gd_dtype_bytes(dtype));
  for (size_t i = 0; i < elems; i++) {
    float x = 2.0f * gd_rng_normal(&rng, i);
    gd_bfloat16 half = gd_bfloat16_from_float(x);
    if (dtype == GD_FLOAT32) memcpy(memory + 4 * i, &x, 4);
    if (dtype == GD_BFLOAT16) memcpy(memory + 2 * i, &half, 2);
  }
  return memory;
}

static double *to_double(gd_dtype dtype, const void *stored, size_t elems) {
  double *out = calloc(elems + 1, sizeof *out);
  for (size_t i = 0; i < elems; i++)
    out[i] =
        (double)(dtype == GD_FLOAT32 ? ((const float *)stored)[i] : gd_bfloat16_to_float(((const gd_bfloat16 *)stored)[i]));
  return out;
}

static problem make_problem(shape s) {
  problem p = {.q_elems = (size_t)s.batch * (size_t)s.queries * (size_t)s.heads * (size_t)s.head_size,
               .kv_elems = (size_t)s.batch * (size_t)s.keys * (size_t)s.kv_heads * (size_t)s.head_size,
               .rows = (size_t)s.batch * (size_t)s.queries * (size_t)s.heads};
  p.q = stored_random(s.dtype, p.q_elems, 1);
  p.k = stored_random(s.dtype, p.kv_elems, 2);
  p.v = stored_random(s.dtype, p.kv_elems, 3);
  p.dout = stored_random(s.dtype, p.q_elems, 4);
  p.out = calloc(p.q_elems + 1, 4);
  p.dq = calloc(p.q_elems + 1, 4);
  p.dk = calloc(p.kv_elems + 1, 4);
  p.dv = calloc(p.kv_elems + 1, 4);
  p.lse = calloc(p.rows, sizeof(float));
  p.delta = calloc(p.rows, sizeof(float));
  gd_attention a = {.dtype = s.dtype, .batch = s.batch, .heads = s.heads, .kv_heads = s.kv_heads, .head_size = s.head_size};
  a.query_length = s.queries;
  a.key_length = s.keys;
  a.q_row = a.out_row = (int64_t)s.heads * s.head_size;
  a.kv_row = (int64_t)s.kv_heads * s.head_size;
  a.q_batch = a.out_batch = a.q_row * s.queries;
  a.kv_batch = a.kv_row * s.keys;
  a.scale = 0.5f / sqrtf((float)s.head_size);
  a.query_start = s.start;
  a.prefix_length = s.prefix;
  a.dropout = s.dropout;
  a.rng = gd_rng_make(11, GD_RNG_DROPOUT, 2, 5, 9);
  a.first_sequence = 3;
  a.first_head = 2;
  a.all_heads = s.heads + 5;
  a.query_total = s.start + 2 * s.queries;
  a.key_total = s.keys + 3;
  a.query_block = s.block;
  if (s.positions) {
    p.positions = calloc((size_t)s.queries, sizeof(int32_t));
    for (int32_t i = 0; i < s.queries; i++) p.positions[i] = s.start + 2 * i;
  }
  if (s.document > 0) {
    p.documents = calloc((size_t)s.batch * (size_t)s.queries, sizeof(int32_t));
    for (int32_t i = 0; i < s.batch * s.queries; i++)
      p.documents[i] = (s.start + i % s.queries) / (s.document + i / s.queries) * (s.document + i / s.queries);
  }
  a.positions = p.positions;
  a.document_starts = p.documents;
  a.q = p.q;
  a.k = p.k;
  a.v = p.v;
  a.out = p.out;
  a.lse = p.lse;
  a.dout = p.dout;
  a.dq = p.dq;
  a.dk = p.dk;
  a.dv = p.dv;
  a.delta = p.delta;
  p.a = a;
  return p;
}

static void free_problem(problem *p) {
  void *all[] = {p->q, p->k, p->v, p->out, p->dout, p->dq, p->dk, p->dv, p->lse, p->delta, p->positions, p->documents};
  for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) free(all[i]);
}

static void run(kernel_table *table, const gd_attention *a, bool backward) {
  assert_int_equal(table->kernels.ops->attention_forward(&table->kernels, a), GD_OK);
  if (backward) assert_int_equal(table->kernels.ops->attention_backward(&table->kernels, a), GD_OK);
  assert_int_equal(table->device.ops->stream_sync(table->device.compute), GD_OK);
}

/* ---- against double ---- */

static void expect_near(const char *isa, const char *what, gd_dtype dtype, const void *got, const double *want, size_t elems,
                        double tolerance) {
  double *x = to_double(dtype, got, elems), largest = 0.0, scale = 0.0;
  for (size_t i = 0; i < elems; i++) {
    if (fabs(want[i]) > scale) scale = fabs(want[i]);
    double error = fabs(x[i] - want[i]);
    if (!(error <= largest)) largest = error;
  }
  if (!(largest <= tolerance * (scale + 1.0)))
    fail_msg("%s %s: largest error %.3g, tolerance %.3g x (largest %.3g + 1)", isa, what, largest, tolerance, scale);
  free(x);
}

static void compare(const char *isa, const problem *p, double *want[8]) {
  gd_dtype dtype = p->a.dtype;
  double tolerance = dtype == GD_FLOAT32 ? 5e-6 : 2e-2;
  double *lse = to_double(GD_FLOAT32, p->lse, p->rows);
  for (size_t i = 0; i < p->rows; i++)
    if (!(isinf(lse[i]) && isinf(want[4][i])) && !(fabs(lse[i] - want[4][i]) < 2e-5 * (1.0 + fabs(want[4][i]))))
      fail_msg("%s lse[%zu] = %.9g, expected %.9g", isa, i, lse[i], want[4][i]);
  free(lse);
  expect_near(isa, "out", dtype, p->out, want[3], p->q_elems, tolerance);
  expect_near(isa, "dq", dtype, p->dq, want[5], p->q_elems, tolerance);
  expect_near(isa, "dk", dtype, p->dk, want[6], p->kv_elems, tolerance);
  expect_near(isa, "dv", dtype, p->dv, want[7], p->kv_elems, tolerance);
}

static void check_shape(shape s) {
  problem p = make_problem(s);
  double *want[8] = {to_double(s.dtype, p.q, p.q_elems), to_double(s.dtype, p.k, p.kv_elems),
                     to_double(s.dtype, p.v, p.kv_elems)};
  double *dout = to_double(s.dtype, p.dout, p.q_elems);
  size_t sizes[8] = {0, 0, 0, p.q_elems, p.rows, p.q_elems, p.kv_elems, p.kv_elems};
  for (int i = 3; i < 8; i++) want[i] = calloc(sizes[i] + 1, sizeof(double));
  reference m = {want[0], want[1], want[2], dout, want[3], want[4], want[5], want[6], want[7]};
  reference_run(&p.a, &m);
  for (int i = 0; i < ISAS; i++) {
    for (int32_t threads = 1; threads <= 3; threads += 2) {
      kernel_table table;
      if (!open_table(isas[i], threads, &table)) continue;
      run(&table, &p.a, true);
      compare(isas[i], &p, want);
      close_table(&table);
    }
  }
  for (int i = 0; i < 8; i++) free(want[i]);
  free(dout);
  free_problem(&p);
}

static const shape shapes[] = {
    {.batch = 2, .heads = 3, .kv_heads = 3, .head_size = 16, .queries = 5, .keys = 5, .block = 128},
    {.batch = 1, .heads = 1, .kv_heads = 1, .head_size = 2, .queries = 1, .keys = 1},
    {.batch = 2, .heads = 2, .kv_heads = 1, .head_size = 64, .queries = 150, .keys = 150, .block = 64},
    {.batch = 1, .heads = 6, .kv_heads = 2, .head_size = 33, .queries = 70, .keys = 131, .start = 61, .block = 32},
    {.batch = 2, .heads = 4, .kv_heads = 4, .head_size = 48, .queries = 137, .keys = 137, .block = 32, .dropout = 0.2f},
    {.batch = 2, .heads = 4, .kv_heads = 2, .head_size = 7, .queries = 90, .keys = 90, .block = 16, .document = 13},
    {.batch = 2,
     .heads = 2,
     .kv_heads = 2,
     .head_size = 20,
     .queries = 80,
     .keys = 80,
     .block = 16,
     .prefix = 37,
     .document = 50},
    {.batch = 1,
     .heads = 5,
     .kv_heads = 1,
     .head_size = 80,
     .queries = 66,
     .keys = 132,
     .block = 64,
     .positions = true,
     .dropout = 0.4f},
    {.batch = 1, .heads = 2, .kv_heads = 1, .head_size = 256, .queries = 65, .keys = 65, .block = 64},
    {.batch = 3, .heads = 12, .kv_heads = 4, .head_size = 32, .queries = 1, .keys = 200, .start = 199, .block = 128},
    {.batch = 1, .heads = 2, .kv_heads = 2, .head_size = 16, .queries = 40, .keys = 40, .block = 16, .start = -10}, /* empty
                                                                                                                       rows */
};

static void forward_and_backward_match_double_in_float32(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) check_shape(shapes[i]);
}

static void forward_and_backward_match_double_in_bfloat16(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
    shape s = shapes[i];
    s.dtype = GD_BFLOAT16;
    check_shape(s);
  }
}

static double reference_loss(const gd_attention *a, const reference *m, size_t elems) {
  double loss = 0.0;
  reference forward = *m;
  forward.dq = forward.dk = forward.dv = NULL;
  reference_run(a, &forward);
  for (size_t i = 0; i < elems; i++) loss += m->out[i] * m->dout[i];
  return loss;
}

static void reference_gradients_match_finite_differences(void **state) {
  (void)state;
  shape s = {.batch = 2,
             .heads = 4,
             .kv_heads = 2,
             .head_size = 5,
             .queries = 9,
             .keys = 12,
             .start = 3,
             .dropout = 0.25f,
             .prefix = 2,
             .document = 4};
  problem p = make_problem(s);
  double *x[3] = {to_double(s.dtype, p.q, p.q_elems), to_double(s.dtype, p.k, p.kv_elems), to_double(s.dtype, p.v, p.kv_elems)};
  double *g[3] = {calloc(p.q_elems, 8), calloc(p.kv_elems, 8), calloc(p.kv_elems, 8)};
  double *dout = to_double(s.dtype, p.dout, p.q_elems), *out = calloc(p.q_elems, 8), *lse = calloc(p.rows, 8);
  reference m = {x[0], x[1], x[2], dout, out, lse, g[0], g[1], g[2]};
  reference_run(&p.a, &m);
  for (int t = 0; t < 3; t++) {
    size_t elems = t == 0 ? p.q_elems : p.kv_elems;
    for (size_t i = 0; i < elems; i += 7) {
      double kept = x[t][i], step = 1e-5;
      x[t][i] = kept + step;
      double up = reference_loss(&p.a, &m, p.q_elems);
      x[t][i] = kept - step;
      double down = reference_loss(&p.a, &m, p.q_elems);
      x[t][i] = kept;
      double slope = (up - down) / (2 * step);
      if (fabs(slope - g[t][i]) > 1e-7 * (1.0 + fabs(slope)))
        fail_msg("tensor %d element %zu: slope %.12g, gradient %.12g", t, i, slope, g[t][i]);
    }
  }
  for (int t = 0; t < 3; t++) free(x[t]), free(g[t]);
  free(dout), free(out), free(lse);
  free_problem(&p);
}

/* ---- cuts change no bit ---- */

static void expect_same(const char *what, gd_dtype dtype, const void *a, const void *b, size_t elems) {
  if (memcmp(a, b, elems * gd_dtype_bytes(dtype)) == 0) return;
  size_t size = gd_dtype_bytes(dtype), i = 0;
  while (memcmp((const char *)a + i * size, (const char *)b + i * size, size) == 0) i++;
  fail_msg("%s: element %zu of %zu differs", what, i, elems);
}

static void expect_same_problem(const char *what, const problem *x, const problem *y) {
  gd_dtype dtype = x->a.dtype;
  expect_same(what, GD_FLOAT32, x->lse, y->lse, x->rows);
  expect_same(what, dtype, x->out, y->out, x->q_elems);
  expect_same(what, dtype, x->dq, y->dq, x->q_elems);
  expect_same(what, dtype, x->dk, y->dk, x->kv_elems);
  expect_same(what, dtype, x->dv, y->dv, x->kv_elems);
}

static void instruction_sets_agree_bit_for_bit_in_float32(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
    problem want = make_problem(shapes[i]);
    kernel_table table;
    assert_true(open_table("generic", 1, &table));
    run(&table, &want.a, true);
    close_table(&table);
    for (int isa = 1; isa < ISAS; isa++) {
      if (!open_table(isas[isa], 1, &table)) continue;
      problem got = make_problem(shapes[i]);
      run(&table, &got.a, true);
      expect_same_problem(isas[isa], &want, &got);
      free_problem(&got);
      close_table(&table);
    }
    free_problem(&want);
  }
}

/* The shapes that have enough work for threads and tiles; float32 and bfloat16, all instruction sets. */
static void for_each_cut_case(void (*check)(const char *isa, shape s)) {
  for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
    for (int isa = 0; isa < ISAS; isa++) {
      kernel_table table;
      if (!open_table(isas[isa], 1, &table)) continue;
      close_table(&table);
      shape s = shapes[i];
      check(isas[isa], s);
      s.dtype = GD_BFLOAT16;
      check(isas[isa], s);
    }
  }
}

static void threads_case(const char *isa, shape s) {
  problem want = make_problem(s), got = make_problem(s);
  kernel_table one, many;
  assert_true(open_table(isa, 1, &one));
  assert_true(open_table(isa, 7, &many)); /* more than key/value heads: dq and dk, dv in two passes */
  run(&one, &want.a, true);
  run(&many, &got.a, true);
  expect_same_problem("threads", &want, &got);
  close_table(&one);
  close_table(&many);
  free_problem(&want);
  free_problem(&got);
}

static void thread_count_and_passes_change_no_bit(void **state) {
  (void)state;
  for_each_cut_case(threads_case);
}

static const void *shifted(gd_dtype dtype, const void *base, int64_t elems) {
  return (const char *)base + elems * (int64_t)gd_dtype_bytes(dtype);
}

/* Queries [0, cut) and [cut, end) in two calls, as prefill and a cache do; keys stop at the last one needed. */
static void query_cut_case(const char *isa, shape s) {
  if (s.positions || s.document || s.batch > 1) return;
  problem want = make_problem(s), got = make_problem(s);
  kernel_table table;
  assert_true(open_table(isa, 1, &table));
  run(&table, &want.a, false);
  for (int32_t cut = 1; cut < s.queries; cut += 1 + s.queries / 9) {
    float *lse = calloc(got.rows, sizeof(float));
    memset(got.out, 0, got.q_elems * gd_dtype_bytes(s.dtype));
    gd_attention first = got.a, second = got.a;
    first.query_length = cut;
    first.key_length = s.start + cut > 0 ? (s.start + cut < s.keys ? s.start + cut : s.keys) : 0;
    if (first.key_length < s.prefix) first.key_length = s.prefix;
    first.lse = lse;
    second.query_length -= cut;
    second.query_start += cut;
    second.q = shifted(s.dtype, got.q, cut * got.a.q_row);
    second.out = (char *)got.out + (size_t)(cut * got.a.out_row) * gd_dtype_bytes(s.dtype);
    second.lse = lse;
    run(&table, &first, false);
    run(&table, &second, false);
    expect_same("query cut", s.dtype, want.out, got.out, got.q_elems);
    free(lse);
  }
  close_table(&table);
  free_problem(&want);
  free_problem(&got);
}

static void query_cuts_change_no_bit(void **state) {
  (void)state;
  for_each_cut_case(query_cut_case);
}

/* Each (sequence, key/value head) in a call of its own, as data and tensor parallel ranks do. */
static void head_cut_case(const char *isa, shape s) {
  if (s.document) return; /* document_starts are for the whole batch */
  problem want = make_problem(s), got = make_problem(s);
  int64_t group = s.heads / s.kv_heads, bytes = (int64_t)gd_dtype_bytes(s.dtype);
  kernel_table table;
  assert_true(open_table(isa, 1, &table));
  run(&table, &want.a, true);
  for (int32_t b = 0; b < s.batch; b++) {
    for (int32_t h = 0; h < s.kv_heads; h++) {
      gd_attention a = got.a;
      int64_t q = (b * a.q_batch + h * group * s.head_size) * bytes, kv = (b * a.kv_batch + (int64_t)h * s.head_size) * bytes;
      a.batch = 1;
      a.heads = (int32_t)group;
      a.kv_heads = 1;
      a.first_sequence += b;
      a.first_head += h * group;
      a.q = (char *)got.q + q;
      a.k = (char *)got.k + kv;
      a.v = (char *)got.v + kv;
      a.out = (char *)got.out + q;
      a.dout = (char *)got.dout + q;
      a.dq = (char *)got.dq + q;
      a.dk = (char *)got.dk + kv;
      a.dv = (char *)got.dv + kv;
      a.lse += (b * s.heads + h * group) * s.queries;
      run(&table, &a, true);
    }
  }
  expect_same_problem("head cut", &want, &got);
  close_table(&table);
  free_problem(&want);
  free_problem(&got);
}

static void batch_and_head_cuts_change_no_bit(void **state) {
  (void)state;
  for_each_cut_case(head_cut_case);
}

/* Query blocks in calls of their own, dk and dv added as the tree says: (0 + 1) + 2. */
static void query_blocks_are_leaves_of_the_tree(void **state) {
  (void)state;
  shape s = {.batch = 1, .heads = 2, .kv_heads = 2, .head_size = 32, .queries = 96, .keys = 96, .block = 32, .dropout = 0.1f};
  problem want = make_problem(s), part = make_problem(s);
  kernel_table table;
  assert_true(open_table("generic", 1, &table));
  run(&table, &want.a, true);
  float *sum[2] = {calloc(part.kv_elems, 4), calloc(part.kv_elems, 4)};
  for (int32_t block = 0; block < 3; block++) {
    gd_attention a = part.a;
    a.query_length = s.block;
    a.query_start = block * s.block;
    a.q = (float *)part.q + block * s.block * a.q_row;
    a.dq = (float *)part.dq + block * s.block * a.q_row;
    a.out = (float *)part.out + block * s.block * a.q_row;
    a.dout = (float *)part.dout + block * s.block * a.q_row;
    run(&table, &a, true);
    for (size_t i = 0; i < part.kv_elems; i++) {
      /* dk is scaled once, at the end; the scale is a power of two times no power of two, so dk is compared through dv alone */
      sum[1][i] = block ? sum[1][i] + ((float *)part.dv)[i] : ((float *)part.dv)[i];
    }
  }
  expect_same("dv", GD_FLOAT32, want.dv, sum[1], part.kv_elems);
  expect_same("dq", GD_FLOAT32, want.dq, part.dq, part.q_elems);
  free(sum[0]), free(sum[1]);
  close_table(&table);
  free_problem(&want);
  free_problem(&part);
}

/* Rows [first, first + rows) of head `head` in a call of their own: dv of the one key/value head. */
static void add_leaf(kernel_table *table, const problem *p, int32_t head, int32_t first, int32_t rows, float *dv) {
  gd_attention a = p->a;
  int64_t at = first * a.q_row + (int64_t)head * a.head_size;
  a.heads = a.kv_heads = 1;
  a.first_head += head;
  a.query_length = rows;
  a.query_block = 0;
  a.query_start = first;
  a.q = (float *)p->q + at;
  a.dq = (float *)p->dq + at;
  a.out = (float *)p->out + at;
  a.dout = (float *)p->dout + at;
  run(table, &a, true);
  for (size_t i = 0; i < p->kv_elems; i++) dv[i] += ((float *)p->dv)[i];
}

/* 2 time blocks of 70 rows, each of query blocks of 32, 32 and 6 rows, each of 2 heads that share their values. */
static void heads_lie_inside_query_blocks_inside_time_blocks(void **state) {
  (void)state;
  enum { TIME = 70, BLOCK = 32 };
  shape s = {
      .batch = 1, .heads = 2, .kv_heads = 1, .head_size = 32, .queries = 140, .keys = 140, .block = BLOCK, .dropout = 0.1f};
  problem want = make_problem(s), part = make_problem(s);
  kernel_table table;
  assert_true(open_table("generic", 1, &table));
  want.a.time_block = TIME;
  run(&table, &want.a, true);
  float *total = calloc(part.kv_elems, 4), *time = calloc(part.kv_elems, 4), *block = calloc(part.kv_elems, 4);
  for (int32_t t = 0; t < 2; t++) {
    memset(time, 0, part.kv_elems * 4);
    for (int32_t first = 0; first < TIME; first += BLOCK) { /* (0 + 1) + 2 */
      memset(block, 0, part.kv_elems * 4);
      for (int32_t head = 0; head < 2; head++)
        add_leaf(&table, &part, head, t * TIME + first, first + BLOCK < TIME ? BLOCK : TIME - first, block);
      for (size_t i = 0; i < part.kv_elems; i++) time[i] += block[i];
    }
    for (size_t i = 0; i < part.kv_elems; i++) total[i] += time[i];
  }
  expect_same("dv", GD_FLOAT32, want.dv, total, part.kv_elems);
  expect_same("dq", GD_FLOAT32, want.dq, part.dq, part.q_elems);
  free(total), free(time), free(block);
  close_table(&table);
  free_problem(&want);
  free_problem(&part);
}

/* The deltas of backward, each a row sum of 128 lanes. */
static void deltas_have_128_lanes(void **state) {
  (void)state;
  static const int32_t sizes[] = {1, 17, 64, 127, 128, 129, 256};
  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
    for (int isa = 0; isa < ISAS; isa++) {
      shape s = {.batch = 1, .heads = 1, .kv_heads = 1, .head_size = sizes[i], .queries = 3, .keys = 3};
      kernel_table table;
      if (!open_table(isas[isa], 1, &table)) continue;
      problem p = make_problem(s);
      run(&table, &p.a, true);
      for (int r = 0; r < s.queries; r++) {
        float lanes[128] = {0};
        for (int d = 0; d < sizes[i]; d++) {
          int at = r * sizes[i] + d;
          lanes[d % 128] = fmaf(((float *)p.dout)[at], ((float *)p.out)[at], lanes[d % 128]);
        }
        for (int half = 64; half > 0; half /= 2)
          for (int l = 0; l < half; l++) lanes[l] += lanes[l + half];
        assert_true(p.delta[r] == lanes[0]);
      }
      close_table(&table);
      free_problem(&p);
    }
}

/* With values of 1 an output is the sum of a row's weights after dropout: 1 in the mean, since what is left is scaled up by as
 * much as falls. Within four deviations; a row's variance is at most p / (1 - p). */
static void dropout_keeps_the_mean(void **state) {
  (void)state;
  shape s = {.batch = 8, .heads = 4, .kv_heads = 4, .head_size = 16, .queries = 96, .keys = 96, .dropout = 0.4f};
  problem p = make_problem(s);
  kernel_table table;
  assert_true(open_table("generic", 1, &table));
  for (size_t i = 0; i < p.kv_elems; i++) ((float *)p.v)[i] = 1;
  run(&table, &p.a, false);
  double sum = 0;
  for (size_t row = 0; row < p.rows; row++) sum += (double)((float *)p.out)[row * (size_t)s.head_size];
  assert_true(fabs(sum / (double)p.rows - 1) < 4 * sqrt(0.4 / 0.6 / (double)p.rows));
  close_table(&table);
  free_problem(&p);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(reference_gradients_match_finite_differences),
      cmocka_unit_test(forward_and_backward_match_double_in_float32),
      cmocka_unit_test(forward_and_backward_match_double_in_bfloat16),
      cmocka_unit_test(instruction_sets_agree_bit_for_bit_in_float32),
      cmocka_unit_test(thread_count_and_passes_change_no_bit),
      cmocka_unit_test(query_cuts_change_no_bit),
      cmocka_unit_test(batch_and_head_cuts_change_no_bit),
      cmocka_unit_test(query_blocks_are_leaves_of_the_tree),
      cmocka_unit_test(heads_lie_inside_query_blocks_inside_time_blocks),
      cmocka_unit_test(deltas_have_128_lanes),
      cmocka_unit_test(dropout_keeps_the_mean),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
