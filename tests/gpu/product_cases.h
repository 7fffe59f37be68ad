/* product_cases.h - cases of check_kernels: the matrix product and attention. */
#ifndef GD_TESTS_GPU_PRODUCT_CASES_H
#define GD_TESTS_GPU_PRODUCT_CASES_H

#include "tests/gpu/side.h"

typedef struct setting {
  gd_dtype dtype;
  int variant;
} setting;

/* A product; `more`: elements between the end of a row of A, B and C and the next. */
typedef struct product {
  int64_t m, n, k, k_leaf, leaves;
  bool float32_c, accumulate, bias;
  bool tiny; /* terms that vanish: an element is a zero with the sign of its last term */
  int64_t more[3];
  size_t scratch; /* bytes a CUDA kernel may use; 0: all */
} product;

static const product products[] = {
    {.m = 64, .n = 48, .k = 96},
    {.m = 64, .n = 48, .k = 96, .bias = true},
    {.m = 64, .n = 48, .k = 96, .leaves = 5, .float32_c = true},
    {.m = 64, .n = 48, .k = 96, .leaves = 5, .k_leaf = 32, .bias = true},
    {.m = 64, .n = 48, .k = 96, .float32_c = true, .accumulate = true},
    {.m = 37, .n = 29, .k = 19},
    {.m = 64, .n = 48, .k = 96, .float32_c = true, .bias = true},
    /* rows apart, whole and odd */
    {.m = 136, .n = 144, .k = 72, .more = {16, 24, 8}},
    {.m = 131, .n = 67, .k = 33, .leaves = 3, .float32_c = true, .more = {3, 5, 1}},
    /* one row; a long chain that goes on from C; an edge each way in every tile */
    {.m = 1, .n = 130, .k = 77, .bias = true},
    {.m = 70, .n = 66, .k = 1000, .float32_c = true, .accumulate = true},
    {.m = 129, .n = 193, .k = 17, .float32_c = true, .accumulate = true, .more = {1, 2, 3}},
    {.m = 34, .n = 29, .k = 19, .float32_c = true, .tiny = true},
    /* enough leaves for large tiles; inner leaves that are odd; panels of rows, nodes of leaves */
    {.m = 264, .n = 144, .k = 24, .leaves = 31, .float32_c = true},
    {.m = 131, .n = 133, .k = 21, .k_leaf = 5, .leaves = 9, .bias = true, .more = {2, 3, 0}},
    {.m = 150, .n = 40, .k = 96, .k_leaf = 40, .leaves = 11, .bias = true, .scratch = 160000},
    {.m = 150, .n = 40, .k = 96, .leaves = 13, .float32_c = true, .more = {8, 8, 8}, .scratch = 300000},
};
enum { PRODUCTS = sizeof products / sizeof products[0] };

static product drawn_product(int shape) {
  product p = {.m = drawn(shape, 0, 1, 200), .n = drawn(shape, 1, 1, 200), .k = drawn(shape, 2, 1, 300)};
  p.leaves = drawn(shape, 3, 0, 1) ? drawn(shape, 4, 2, 9) : 1;
  if (p.leaves > 1 && drawn(shape, 5, 0, 1)) p.k_leaf = drawn(shape, 6, 1, p.k);
  p.float32_c = drawn(shape, 7, 0, 1);
  p.accumulate = p.leaves == 1 && p.float32_c && drawn(shape, 8, 0, 1);
  p.bias = !p.accumulate && drawn(shape, 9, 0, 1);
  for (int i = 0; i < 3; i++) p.more[i] = drawn(shape, 10, 0, 1) ? drawn(shape, 11 + i, 0, 9) : 0;
  return p;
}

/* A, B, C and bias of a product, C in a buffer that more than its elements are read from. */
static gd_matmul product_of(side *s, const product *p, gd_matmul_form form, gd_dtype dtype, int64_t *c_elements) {
  int64_t leaves = p->leaves ? p->leaves : 1, a_width = form == GD_MATMUL_TN ? p->m : p->k;
  int64_t b_width = form == GD_MATMUL_NT ? p->k : p->n;
  gd_matmul args = {.form = form, .m = p->m, .n = p->n, .k = p->k, .k_leaf = p->k_leaf, .leaves = leaves, .dtype = dtype};
  args.lda = a_width + p->more[0];
  args.ldb = b_width + p->more[1];
  args.ldc = p->n + p->more[2];
  args.a_leaf_stride = args.lda * (form == GD_MATMUL_TN ? p->k : p->m);
  args.b_leaf_stride = args.ldb * (form == GD_MATMUL_NT ? p->n : p->k);
  float scale = p->tiny ? 1e-30f : 1;
  args.a = input(s, 1, leaves * args.a_leaf_stride - p->more[0], dtype, scale, 0);
  args.b = input(s, 2, leaves * args.b_leaf_stride - p->more[1], dtype, scale, 0);
  args.accumulate = p->accumulate;
  args.c_dtype = p->float32_c ? GD_FLOAT32 : dtype;
  *c_elements = p->m * args.ldc - p->more[2];
  args.c = input(s, 3, *c_elements, args.c_dtype, 1, 0);
  if (p->bias) args.bias = input(s, 4, p->n, dtype, 1, 0);
  return args;
}

/* variant: form + 3 times the product's number, those behind the table being drawn. What lies between the rows of C is noted
 * too. */
static void run_product(side *s, const setting *set, bool fast) {
  int number = set->variant / 3;
  product p = number < PRODUCTS ? products[number] : drawn_product(number - PRODUCTS);
  int64_t c_elements;
  gd_matmul args = product_of(s, &p, (gd_matmul_form)(set->variant % 3), set->dtype, &c_elements);
  size_t scratch = limit_scratch(s, p.scratch);
  s->kernels.fast = fast;
  gpu_must(s->kernels.ops->matmul(&s->kernels, &args));
  s->kernels.fast = false;
  (void)limit_scratch(s, scratch);
  note(s, args.c, c_elements, args.c_dtype);
}

static void case_matmul(side *s, const setting *set) {
  run_product(s, set, false);
}

static void case_matmul_fast(side *s, const setting *set) {
  run_product(s, set, true);
}

/* more: elements between rows, so that none is aligned where it is odd. */
typedef struct attended {
  int32_t batch, heads, kv_heads, head_size, queries, keys, start, prefix, query_block, time_block;
  bool documents, positions, dropout;
  int64_t more;
  size_t scratch; /* bytes a CUDA kernel may use; 0: all */
} attended;

static const attended attentions[] = {
    {2, 2, 2, 64, 70, 70, .query_block = 32},
    {1, 4, 2, 16, 130, 130, .query_block = 16, .time_block = 64, .dropout = true},
    {1, 6, 2, 80, 100, 100, .query_block = 24, .more = 4},
    {2, 1, 1, 128, 65, 65, .documents = true},
    {1, 2, 1, 256, 66, 66, .query_block = 64, .dropout = true},
    {2, 3, 1, 5, 67, 67, .query_block = 20, .documents = true, .dropout = true, .more = 3},
    {1, 2, 2, 48, 40, 100, .start = 60, .prefix = 20, .query_block = 16},
    {1, 2, 1, 33, 30, 140, .positions = true, .query_block = 8, .time_block = 32, .more = 1},
    {2, 4, 4, 64, 1, 90, .start = 89},
    {1, 8, 2, 24, 200, 200, .query_block = 64, .time_block = 100, .scratch = 3 << 20},
    {1, 2, 1, 32, 193, 193, .query_block = 128, .documents = true},
    {1, 1, 1, 192, 77, 131, .start = 54, .prefix = 9, .query_block = 32, .dropout = true},
};
enum { ATTENTIONS = sizeof attentions / sizeof attentions[0] };

static attended drawn_attention(int shape) {
  attended a = {.batch = (int32_t)drawn(shape, 0, 1, 2), .kv_heads = (int32_t)drawn(shape, 1, 1, 3)};
  a.heads = a.kv_heads * (int32_t)drawn(shape, 2, 1, 3);
  a.head_size = (int32_t)drawn(shape, 3, 1, 130);
  a.queries = a.keys = (int32_t)drawn(shape, 4, 1, 200);
  a.query_block = (int32_t)drawn(shape, 5, 1, 80);
  a.documents = drawn(shape, 6, 0, 1);
  a.dropout = drawn(shape, 7, 0, 1);
  a.more = drawn(shape, 8, 0, 4);
  return a;
}

/* Forward and backward of an attention on numbers of a seed; notes: out, lse, delta, dq, dk, dv. */
static gd_attention attend(side *s, const attended *c, gd_dtype dtype, uint64_t seed) {
  int64_t q_row = c->heads * c->head_size + c->more, kv_row = c->kv_heads * c->head_size + c->more;
  int64_t q_elements = c->batch * c->queries * q_row, kv_elements = c->batch * c->keys * kv_row;
  int64_t rows = c->batch * c->heads * c->queries;
  gd_attention a = {.dtype = dtype, .batch = c->batch, .heads = c->heads, .kv_heads = c->kv_heads};
  a.head_size = c->head_size;
  a.query_length = c->queries;
  a.key_length = c->keys;
  a.q = input(s, seed + 1, q_elements, dtype, 2, 0);
  a.k = input(s, seed + 2, kv_elements, dtype, 2, 0);
  a.v = input(s, seed + 3, kv_elements, dtype, 1, 0);
  a.q_row = a.out_row = q_row;
  a.q_batch = a.out_batch = c->queries * q_row;
  a.kv_row = kv_row;
  a.kv_batch = c->keys * kv_row;
  a.out = output(s, q_elements, dtype);
  a.lse = output(s, rows, GD_FLOAT32);
  a.scale = 1.0f / sqrtf((float)c->head_size);
  a.query_start = c->start;
  a.prefix_length = c->prefix;
  int32_t positions[256], starts[512];
  for (int i = 0; i < c->queries; i++) positions[i] = 3 * i + i / 4;
  for (int i = 0; i < c->batch * c->queries; i++)
    starts[i] = i % c->queries / 23 * 23 + (i % 31 == 30 ? 40 : 0); /* some see none */
  if (c->positions) a.positions = upload(s, positions, (size_t)c->queries * sizeof *positions);
  if (c->documents) a.document_starts = upload(s, starts, (size_t)(c->batch * c->queries) * sizeof *starts);
  a.dropout = c->dropout ? 0.2f : 0;
  a.rng = gd_rng_make(9, GD_RNG_DROPOUT, 1, 2, 3);
  a.first_sequence = 3;
  a.first_head = 1;
  a.all_heads = c->heads + 2;
  a.query_total = a.key_total = 157;
  size_t scratch = limit_scratch(s, c->scratch);
  gpu_must(s->kernels.ops->attention_forward(&s->kernels, &a));
  note(s, a.out, q_elements, dtype);
  note(s, a.lse, rows, GD_FLOAT32);
  a.query_block = c->query_block;
  a.time_block = c->time_block;
  a.dout = input(s, seed + 4, q_elements, dtype, 1, 0);
  a.dq = output(s, q_elements, dtype);
  a.dk = output(s, kv_elements, dtype);
  a.dv = output(s, kv_elements, dtype);
  a.delta = output(s, rows, GD_FLOAT32);
  gpu_must(s->kernels.ops->attention_backward(&s->kernels, &a));
  (void)limit_scratch(s, scratch);
  note(s, a.delta, rows, GD_FLOAT32);
  note(s, a.dq, q_elements, dtype);
  note(s, a.dk, kv_elements, dtype);
  note(s, a.dv, kv_elements, dtype);
  return a;
}

/* variant: the attention's number, those behind the table being drawn. */
static void case_attention(side *s, const setting *set) {
  attended shape = set->variant < ATTENTIONS ? attentions[set->variant] : drawn_attention(set->variant - ATTENTIONS);
  (void)attend(s, &shape, set->dtype, 0);
}

#endif
