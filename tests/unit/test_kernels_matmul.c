/* The matrix product: every element of a float32 product has exactly the bits that its chains and trees define. */
#include "kernels_common.h"

static int64_t element_a(const gd_matmul *m, int64_t leaf, int64_t row, int64_t k) {
  return leaf * m->a_leaf_stride + (m->form == GD_MATMUL_TN ? k * m->lda + row : row * m->lda + k);
}
static int64_t element_b(const gd_matmul *m, int64_t leaf, int64_t column, int64_t k) {
  return leaf * m->b_leaf_stride + (m->form == GD_MATMUL_NT ? column * m->ldb + k : k * m->ldb + column);
}

static float tree_of(const float *x, int64_t count) {
  if (count == 1) return x[0];
  int64_t left = 1;
  while (2 * left < count) left *= 2;
  float low = tree_of(x, left);
  return low + tree_of(x + left, count - left);
}

/* The definition in trainer/kernels.h, word by word. `size` gets the sum of |terms|. */
static float defined_value(const gd_matmul *m, const tensor *a, const tensor *b, float old, int64_t row, int64_t column,
                           double *exact, double *size) {
  float outer[64], inner[512];
  int64_t k_leaf = m->k_leaf > 0 && m->k_leaf < m->k ? m->k_leaf : m->k;
  *exact = m->accumulate ? (double)old : 0.0;
  *size = fabs(*exact);
  for (int64_t leaf = 0; leaf < m->leaves; leaf++) {
    int64_t count = 0;
    for (int64_t k = 0; k < m->k; k += k_leaf) {
      float sum = m->accumulate ? old : 0.0f;
      for (int64_t i = k; i < k + k_leaf && i < m->k; i++) {
        float x = a->values[element_a(m, leaf, row, i)], y = b->values[element_b(m, leaf, column, i)];
        sum = fmaf(x, y, sum);
        *exact += (double)x * (double)y;
        *size += fabs((double)x * (double)y);
      }
      inner[count++] = sum;
    }
    outer[leaf] = tree_of(inner, count);
  }
  return tree_of(outer, m->leaves);
}

typedef struct problem {
  gd_matmul m;
  tensor a, b, bias, old, c;
} problem;

static problem random_problem(gd_dtype dtype, int64_t largest, int64_t longest) {
  problem p = {.m = {.form = (gd_matmul_form)random_below(3), .dtype = dtype}};
  gd_matmul *m = &p.m;
  m->m = 1 + random_below(largest);
  m->n = 1 + random_below(largest);
  m->k = 1 + random_below(longest);
  m->leaves = random_below(2) ? 1 : 1 + random_below(9);
  if (m->leaves > 1) m->k = 1 + m->k / m->leaves;
  m->k_leaf = random_below(2) ? 0 : 1 + m->k / (1 + random_below(9));
  m->accumulate = m->leaves == 1 && m->k_leaf == 0 && random_below(3) == 0;
  m->c_dtype = m->accumulate || random_below(2) ? GD_FLOAT32 : dtype;
  int64_t a_rows = m->form == GD_MATMUL_TN ? m->k : m->m, a_columns = m->form == GD_MATMUL_TN ? m->m : m->k;
  int64_t b_rows = m->form == GD_MATMUL_NT ? m->n : m->k, b_columns = m->form == GD_MATMUL_NT ? m->k : m->n;
  m->lda = a_columns + random_below(5);
  m->ldb = b_columns + random_below(5);
  m->ldc = m->n + random_below(5);
  m->a_leaf_stride = a_rows * m->lda + random_below(3);
  m->b_leaf_stride = b_rows * m->ldb + random_below(3);
  p.a = tensor_random(dtype, m->leaves * m->a_leaf_stride, 1.0f);
  p.b = tensor_random(dtype, m->leaves * m->b_leaf_stride, 1.0f);
  p.bias = tensor_random(dtype, m->n, 1.0f);
  p.old = tensor_random(m->c_dtype, m->m * m->ldc, 1.0f);
  p.c = tensor_new(m->c_dtype, m->m * m->ldc);
  m->a = p.a.data;
  m->b = p.b.data;
  m->c = p.c.data;
  m->bias = random_below(2) ? p.bias.data : NULL;
  return p;
}

static void free_problem(problem *p) {
  tensor_free(&p->a);
  tensor_free(&p->b);
  tensor_free(&p->bias);
  tensor_free(&p->old);
  tensor_free(&p->c);
}

static void run_problem(gd_kernels *kernels, problem *p) {
  memcpy(p->c.data, p->old.data, (size_t)p->c.elems * gd_dtype_bytes(p->c.dtype));
  assert_int_equal(kernels->ops->matmul(kernels, &p->m), GD_OK);
  tensor_read(&p->c);
}

/* exact: float32 sums are compared with ==, else within the bound of any order of summation. */
static void check_problem(const problem *p, bool exact) {
  const gd_matmul *m = &p->m;
  for (int64_t row = 0; row < m->m; row++)
    for (int64_t column = 0; column < m->ldc; column++) {
      int64_t at = row * m->ldc + column;
      if (column >= m->n) { /* not ours */
        assert_true(p->c.values[at] == p->old.values[at]);
        continue;
      }
      double sum, size;
      float want = defined_value(m, &p->a, &p->b, p->old.values[at], row, column, &sum, &size);
      if (m->bias) {
        want += p->bias.values[column];
        sum += (double)p->bias.values[column];
      }
      if (exact) {
        if (p->c.values[at] != stored(m->c_dtype, want))
          fail_msg("form %d, m %lld n %lld k %lld, leaves %lld of %lld: C[%lld][%lld] is %.9g, not %.9g", (int)m->form,
                   (long long)m->m, (long long)m->n, (long long)m->k, (long long)m->leaves, (long long)m->k_leaf,
                   (long long)row, (long long)column, (double)p->c.values[at], (double)stored(m->c_dtype, want));
      } else {
        assert_near(m->c_dtype, (double)p->c.values[at], sum, 0x1p-22, (double)(m->k + 16) * 0x1p-23 * size, "C", at);
      }
    }
}

static void float32_products_have_the_bits_of_their_definition_on_every_isa(void **state) {
  (void)state;
  for (int isa = 0; isa < ISAS; isa++) {
    gd_kernels kernels;
    if (!open_isa(isa_names[isa], 2, &kernels)) continue;
    random_state = 7;
    for (int trial = 0; trial < (isa == 0 ? 40 : 120); trial++) {
      problem p = random_problem(GD_FLOAT32, trial % 4 ? 40 : 90, trial % 3 ? 90 : 900);
      run_problem(&kernels, &p);
      check_problem(&p, true);
      free_problem(&p);
    }
    gd_kernels_close(&kernels);
  }
}

static void bfloat16_products_widen_exactly_or_stay_within_their_bound(void **state) {
  (void)state;
  for (int isa = 0; isa < ISAS; isa++) {
    gd_kernels kernels;
    if (!open_isa(isa_names[isa], 2, &kernels)) continue;
    random_state = 11;
    for (int trial = 0; trial < (isa == 0 ? 40 : 120); trial++) {
      problem p = random_problem(GD_BFLOAT16, trial % 4 ? 40 : 90, trial % 3 ? 90 : 1700);
      run_problem(&kernels, &p);
      check_problem(&p, !kernels.ops->bfloat16);
      free_problem(&p);
    }
    gd_kernels_close(&kernels);
  }
}

/* A part of the rows and columns of a product, computed alone and with other threads, has the bits it has in the whole. */
static void an_element_does_not_depend_on_rows_columns_or_threads(void **state) {
  (void)state;
  random_state = 13;
  gd_kernels whole_kernels = open_best(1), part_kernels = open_best(3);
  for (int trial = 0; trial < 120; trial++) {
    problem p = random_problem(trial % 2 ? GD_BFLOAT16 : GD_FLOAT32, 300, 700);
    run_problem(&whole_kernels, &p);
    gd_matmul part = p.m;
    int64_t row = random_below(p.m.m), column = random_below(p.m.n);
    part.m = 1 + random_below(p.m.m - row);
    part.n = 1 + random_below(p.m.n - column);
    int64_t bytes = (int64_t)gd_dtype_bytes(p.m.dtype), c_bytes = (int64_t)gd_dtype_bytes(p.m.c_dtype);
    part.a = (const char *)p.m.a + element_a(&p.m, 0, row, 0) * bytes;
    part.b = (const char *)p.m.b + element_b(&p.m, 0, column, 0) * bytes;
    if (part.bias) part.bias = (const char *)p.m.bias + column * bytes;
    part.ldc = part.n;
    char *out = malloc((size_t)(part.m * part.n * c_bytes));
    for (int64_t i = 0; i < part.m; i++)
      memcpy(out + i * part.n * c_bytes, (char *)p.old.data + ((row + i) * p.m.ldc + column) * c_bytes,
             (size_t)(part.n * c_bytes));
    part.c = out;
    assert_int_equal(part_kernels.ops->matmul(&part_kernels, &part), GD_OK);
    for (int64_t i = 0; i < part.m; i++)
      assert_same_bits(out + i * part.n * c_bytes, (char *)p.m.c + ((row + i) * p.m.ldc + column) * c_bytes,
                       (size_t)(part.n * c_bytes), "part of a product");
    free(out);
    free_problem(&p);
  }
  gd_kernels_close(&whole_kernels);
  gd_kernels_close(&part_kernels);
}

/* Few rows, as generation has them, go another way: each row has the bits that it has among many, on every instruction set. */
static void few_rows_have_the_bits_of_many(void **state) {
  (void)state;
  random_state = 17;
  for (int isa = 0; isa < ISAS; isa++) {
    gd_kernels kernels;
    if (!open_isa(isa_names[isa], 2, &kernels)) continue;
    for (int trial = 0; trial < 60; trial++) {
      gd_dtype dtype = trial % 2 ? GD_BFLOAT16 : GD_FLOAT32;
      gd_matmul m = {.form = GD_MATMUL_NT, .m = 40, .n = 1 + random_below(150), .k = 1 + random_below(900), .leaves = 1};
      m.dtype = dtype;
      m.c_dtype = trial % 3 ? GD_FLOAT32 : dtype;
      m.lda = m.k + random_below(5);
      m.ldb = m.k + random_below(5);
      m.ldc = m.n + random_below(5);
      tensor a = tensor_random(dtype, m.m * m.lda, 1.0f), b = tensor_random(dtype, m.n * m.ldb, 1.0f);
      tensor bias = tensor_random(dtype, m.n, 1.0f), many = tensor_new(m.c_dtype, m.m * m.ldc);
      tensor few = tensor_new(m.c_dtype, m.m * m.ldc);
      m.a = a.data;
      m.b = b.data;
      m.c = many.data;
      m.bias = random_below(2) ? bias.data : NULL;
      assert_int_equal(kernels.ops->matmul(&kernels, &m), GD_OK);
      int64_t row = random_below(28), bytes = (int64_t)gd_dtype_bytes(dtype), c_bytes = (int64_t)gd_dtype_bytes(m.c_dtype);
      m.m = 1 + random_below(12);
      m.a = (const char *)a.data + row * m.lda * bytes;
      m.c = few.data;
      assert_int_equal(kernels.ops->matmul(&kernels, &m), GD_OK);
      for (int64_t i = 0; i < m.m; i++)
        assert_same_bits((char *)few.data + i * m.ldc * c_bytes, (char *)many.data + (row + i) * m.ldc * c_bytes,
                         (size_t)(m.n * c_bytes), "a row among few");
      tensor_free(&a);
      tensor_free(&b);
      tensor_free(&bias);
      tensor_free(&many);
      tensor_free(&few);
    }
    gd_kernels_close(&kernels);
  }
}

/* Blocks and tiles have fixed sizes in scratch memory: shapes past all of them, few rows with many columns and the reverse. */
static void large_shapes_pass_every_block_size(void **state) {
  (void)state;
  static const int64_t shapes[][5] = {/* m n k k_leaf leaves */
                                      {1, 700, 1000, 0, 1},
                                      {700, 3, 1000, 0, 1},
                                      {1300, 270, 40, 8, 9},
                                      {270, 530, 800, 400, 2}};
  random_state = 17;
  gd_kernels kernels = open_best(2);
  for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++)
    for (int form = 0; form < 3; form++) {
      gd_matmul m = {.form = (gd_matmul_form)form, .m = shapes[s][0], .n = shapes[s][1], .k = shapes[s][2]};
      m.k_leaf = shapes[s][3];
      m.leaves = shapes[s][4];
      m.dtype = m.c_dtype = GD_FLOAT32;
      m.lda = form == GD_MATMUL_TN ? m.m : m.k;
      m.ldb = form == GD_MATMUL_NT ? m.k : m.n;
      m.ldc = m.n;
      m.a_leaf_stride = m.m * m.k;
      m.b_leaf_stride = m.n * m.k;
      problem p = {.m = m, .a = tensor_random(GD_FLOAT32, m.leaves * m.a_leaf_stride, 1.0f)};
      p.b = tensor_random(GD_FLOAT32, m.leaves * m.b_leaf_stride, 1.0f);
      p.old = tensor_new(GD_FLOAT32, m.m * m.n);
      p.c = tensor_new(GD_FLOAT32, m.m * m.n);
      p.m.a = p.a.data;
      p.m.b = p.b.data;
      p.m.c = p.c.data;
      run_problem(&kernels, &p);
      for (int64_t row = 0; row < m.m; row += 1 + random_below(1 + m.m / 40))
        for (int64_t column = 0; column < m.n; column += 1 + random_below(1 + m.n / 20)) {
          double sum, size;
          float want = defined_value(&p.m, &p.a, &p.b, 0.0f, row, column, &sum, &size);
          if (p.c.values[row * m.n + column] != want)
            fail_msg("shape %zu form %d: C[%lld][%lld] is %.9g, not %.9g", s, form, (long long)row, (long long)column,
                     (double)p.c.values[row * m.n + column], (double)want);
        }
      free_problem(&p);
    }
  gd_kernels_close(&kernels);
}

/* GELU or its derivative behind a product: the product, then the activation, to the bit. */
static void an_end_has_the_bits_of_two_calls(void **state) {
  (void)state;
  random_state = 19;
  for (int isa = 0; isa < ISAS; isa++) {
    gd_kernels kernels;
    if (!open_isa(isa_names[isa], 2, &kernels)) continue;
    for (int trial = 0; trial < 80; trial++) {
      gd_dtype dtype = trial % 2 ? GD_BFLOAT16 : GD_FLOAT32;
      problem p = random_problem(dtype, trial % 4 ? 40 : 90, trial % 3 ? 90 : 300);
      gd_matmul *m = &p.m;
      m->end = trial / 2 % 2 ? GD_MATMUL_DGELU : GD_MATMUL_GELU;
      m->c_dtype = dtype;
      m->ldc = m->n;
      m->accumulate = false;
      tensor kept = tensor_random(dtype, m->m * m->n, 3.0f), c = tensor_new(dtype, m->m * m->n);
      tensor alone_kept = tensor_new(dtype, m->m * m->n), two = tensor_new(dtype, m->m * m->n);
      size_t bytes = (size_t)kept.elems * gd_dtype_bytes(dtype);
      memcpy(alone_kept.data, kept.data, bytes);
      m->kept = kept.data;
      m->c = c.data;
      assert_int_equal(kernels.ops->matmul(&kernels, m), GD_OK);
      gd_matmul alone = *m;
      alone.end = GD_MATMUL_PLAIN;
      alone.c = m->end == GD_MATMUL_GELU ? alone_kept.data : two.data;
      assert_int_equal(kernels.ops->matmul(&kernels, &alone), GD_OK);
      gd_activation_args a = {.kind = GD_ACTIVATION_GELU_TANH, .dtype = dtype, .rows = m->m, .width = m->n};
      a.x = alone_kept.data;
      a.y = a.dx = two.data;
      a.dy = two.data;
      assert_int_equal(m->end == GD_MATMUL_GELU ? kernels.ops->activation_forward(&kernels, &a)
                                                : kernels.ops->activation_backward(&kernels, &a),
                       GD_OK);
      assert_same_bits(c.data, two.data, bytes, "a product with its end");
      assert_same_bits(kept.data, alone_kept.data, bytes, "what is kept");
      tensor_free(&kept);
      tensor_free(&c);
      tensor_free(&alone_kept);
      tensor_free(&two);
      free_problem(&p);
    }
    gd_kernels_close(&kernels);
  }
}

static void an_end_of_rows_apart_is_refused(void **state) {
  (void)state;
  gd_kernels kernels = open_best(1);
  float x[4] = {1, 2, 3, 4}, c[4] = {0}, kept[4];
  gd_matmul m = {.form = GD_MATMUL_NT, .m = 1, .n = 1, .k = 4, .leaves = 1, .a = x, .lda = 4, .b = x, .ldb = 4, .c = c};
  m.end = GD_MATMUL_GELU;
  m.ldc = 1;
  assert_int_equal(kernels.ops->matmul(&kernels, &m), GD_BUG); /* nothing to keep it in */
  m.kept = kept;
  m.ldc = 2;
  assert_int_equal(kernels.ops->matmul(&kernels, &m), GD_BUG);
  gd_error_clear();
  gd_kernels_close(&kernels);
}

static void an_accumulating_tree_is_refused(void **state) {
  (void)state;
  gd_kernels kernels = open_best(1);
  float x[4] = {1, 2, 3, 4}, c[1] = {0};
  gd_matmul m = {.form = GD_MATMUL_NT,
                 .m = 1,
                 .n = 1,
                 .k = 4,
                 .k_leaf = 2,
                 .leaves = 1,
                 .a = x,
                 .lda = 4,
                 .b = x,
                 .ldb = 4,
                 .c = c,
                 .ldc = 1,
                 .accumulate = true};
  assert_int_equal(kernels.ops->matmul(&kernels, &m), GD_BUG);
  gd_error_clear();
  /* That fault stays with the stream: the others run on a fresh device. */
  gd_kernels_close(&kernels);
}

static void an_empty_inner_dimension_gives_zero_plus_bias(void **state) {
  (void)state;
  gd_kernels kernels = open_best(1);
  float c[6] = {9, 9, 9, 9, 9, 9}, bias[3] = {1, 2, 3};
  gd_matmul m = {.form = GD_MATMUL_NN,
                 .m = 2,
                 .n = 3,
                 .k = 0,
                 .leaves = 1,
                 .a = bias,
                 .lda = 1,
                 .b = bias,
                 .ldb = 3,
                 .c = c,
                 .ldc = 3,
                 .bias = bias};
  assert_int_equal(kernels.ops->matmul(&kernels, &m), GD_OK);
  for (int i = 0; i < 6; i++) assert_true(c[i] == bias[i % 3]);
  gd_kernels_close(&kernels);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(float32_products_have_the_bits_of_their_definition_on_every_isa, open_test_device,
                                      close_test_device),
      cmocka_unit_test_setup_teardown(bfloat16_products_widen_exactly_or_stay_within_their_bound, open_test_device,
                                      close_test_device),
      cmocka_unit_test_setup_teardown(an_element_does_not_depend_on_rows_columns_or_threads, open_test_device,
                                      close_test_device),
      cmocka_unit_test_setup_teardown(few_rows_have_the_bits_of_many, open_test_device, close_test_device),
      cmocka_unit_test_setup_teardown(large_shapes_pass_every_block_size, open_test_device, close_test_device),
      cmocka_unit_test_setup_teardown(an_empty_inner_dimension_gives_zero_plus_bias, open_test_device, close_test_device),
      cmocka_unit_test_setup_teardown(an_end_has_the_bits_of_two_calls, open_test_device, close_test_device),
      cmocka_unit_test_setup_teardown(an_end_of_rows_apart_is_refused, open_test_device, close_test_device),
      cmocka_unit_test_setup_teardown(an_accumulating_tree_is_refused, open_test_device, close_test_device),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
