/* The profile of kernels: bytes and operations of every kernel against numbers counted by hand, and the wrappers: what they
 * count, that they change nothing, and when they are in place. */
#include "tests/unit/kernels_common.h"
#include "tests/tables.h"
#include "trainer/kernels/profile.h"

static void expect(gd_work got, double bytes, double operations, const char *what) {
  if (got.bytes != bytes || got.operations != operations)
    fail_msg("%s: found %.0f bytes and %.0f operations, expected %.0f and %.0f", what, got.bytes, got.operations, bytes,
             operations);
}

static const float some[1] = {0};
static float room[1];
static const int32_t indices[1] = {0};

static void products_are_counted(void **state) {
  (void)state;
  gd_matmul m = {.form = GD_MATMUL_NT, .m = 2, .n = 3, .k = 5, .leaves = 1, .dtype = GD_FLOAT32, .c_dtype = GD_FLOAT32};
  expect(gd_work_matmul(&m), 4 * (10 + 15 + 6), 60, "2 x 3 x 5");
  m.bias = some;
  expect(gd_work_matmul(&m), 4 * (10 + 15 + 6 + 3), 60, "with a bias");
  m = (gd_matmul){.form = GD_MATMUL_TN, .m = 2, .n = 3, .k = 5, .leaves = 4, .dtype = GD_BFLOAT16, .c_dtype = GD_FLOAT32};
  expect(gd_work_matmul(&m), 2 * (40 + 60) + 4 * 6, 240, "4 leaves of bfloat16");
  m.leaves = 1;
  m.accumulate = true;
  expect(gd_work_matmul(&m), 2 * (10 + 15) + 4 * 12, 60, "added to what is there");
}

static void norms_are_counted(void **state) {
  (void)state;
  gd_norm_args a = {.kind = GD_NORM_LAYERNORM, .dtype = GD_BFLOAT16, .rows = 4, .width = 10, .leaf_rows = 2};
  a.bias = some;
  a.mean = room;
  expect(gd_work_norm_forward(&a), 2 * (80 + 20) + 4 * 8, 40 * 8, "layer norm");
  a.dweight_leaves = a.dbias_leaves = room;
  expect(gd_work_norm_backward(&a), 2 * (120 + 10) + 4 * (8 + 40), 40 * 13, "layer norm, backward");
  a.dresidual = some;
  expect(gd_work_norm_backward(&a), 2 * (160 + 10) + 4 * (8 + 40), 40 * 14, "with the residual's gradient");
  a.dweight_leaves = a.dbias_leaves = NULL;
  expect(gd_work_norm_backward(&a), 2 * (160 + 10) + 4 * 8, 40 * 11, "of a frozen one");
  gd_norm_args r = {.kind = GD_NORM_RMSNORM, .dtype = GD_FLOAT32, .rows = 4, .width = 10, .leaf_rows = 4};
  expect(gd_work_norm_forward(&r), 4 * (80 + 10 + 4), 40 * 4, "rms norm");
  r.dweight_leaves = room;
  expect(gd_work_norm_backward(&r), 4 * (120 + 10 + 4 + 10), 40 * 9, "rms norm, backward");
}

static void sums_are_counted(void **state) {
  (void)state;
  gd_tree_sum t = {.leaves = 3, .elements = 100, .dtype = GD_BFLOAT16};
  expect(gd_work_tree_sum(&t), 100 * (6 + 4), 200, "three leaves");
  t.accumulate = true;
  expect(gd_work_tree_sum(&t), 100 * (6 + 8), 300, "three leaves and the old value");
  gd_column_sums c = {.rows = 6, .width = 10, .leaf_rows = 2, .dtype = GD_FLOAT32};
  expect(gd_work_column_sums(&c), 4 * (60 + 30), 60, "three leaves of columns");
  c.leaf_rows = 4;
  expect(gd_work_column_sums(&c), 4 * (60 + 20), 60, "the last leaf is short");
  expect(gd_work_add(7), 84, 7, "add");
  expect(gd_work_convert(GD_BFLOAT16, GD_FLOAT32, 7), 42, 0, "convert");
}

static void elementwise_kernels_are_counted(void **state) {
  (void)state;
  gd_activation_args a = {.kind = GD_ACTIVATION_GELU_TANH, .dtype = GD_FLOAT32, .rows = 3, .width = 5};
  expect(gd_work_activation_forward(&a), 4 * 30, 15 * 8, "gelu_tanh");
  expect(gd_work_activation_backward(&a), 4 * 45, 15 * 16, "gelu_tanh, backward");
  a.kind = GD_ACTIVATION_GELU;
  expect(gd_work_activation_forward(&a), 4 * 30, 15 * 5, "gelu");
  expect(gd_work_activation_backward(&a), 4 * 45, 15 * 11, "gelu, backward");
  a.kind = GD_ACTIVATION_SWIGLU;
  expect(gd_work_activation_forward(&a), 4 * 45, 15 * 4, "swiglu");
  expect(gd_work_activation_backward(&a), 4 * 75, 15 * 10, "swiglu, backward");
  gd_rotary r = {.dtype = GD_BFLOAT16, .rows = 3, .heads = 2, .head_size = 4};
  expect(gd_work_rotary(&r), 2 * 48, 12 * 6, "rotary");
  r.positions = indices;
  expect(gd_work_rotary(&r), 2 * 48 + 12, 12 * 6, "rotary with positions");
  gd_rows_finish f = {.dtype = GD_BFLOAT16, .rows = 6, .width = 10};
  expect(gd_work_rows_finish(&f), 4 * 60 + 2 * 60, 0, "rows, only rounded");
  f.bias = some;
  f.residual = some;
  f.dropout = 0.1f;
  expect(gd_work_rows_finish(&f), 4 * 60 + 2 * (120 + 10), 180, "rows: bias, dropout, residual");
  gd_rows_finish g = {
      .dtype = GD_FLOAT32, .rows = 6, .width = 10, .table = some, .positions = (const int32_t[6]){0}, .period = 2};
  expect(gd_work_rows_finish(&g), 4 * (60 + 60 + 60 + 6), 60, "rows of positions of their own");
  gd_cache_rows k = {.dtype = GD_BFLOAT16, .rows = 3, .width = 16};
  expect(gd_work_cache_rows(&k), 2 * 2 * 48 + 8 * 3, 0, "rows to a cache");
  f.norm = (gd_norm_args){.kind = GD_NORM_RMSNORM, .y = &f};
  expect(gd_work_rows_finish(&f), 4 * 66 + 2 * (180 + 20), 180 + 240, "rows and their norm");
  gd_rows_finish e = {.dtype = GD_FLOAT32, .rows = 6, .width = 10, .table = some, .period = 2};
  expect(gd_work_rows_finish(&e), 4 * (60 + 60 + 20), 60, "rows of two positions");
  gd_dropout_backward d = {.dtype = GD_BFLOAT16, .rows = 6, .width = 10};
  expect(gd_work_dropout_backward(&d), 2 * 120, 60, "dropout, backward");
}

static void embedding_is_counted(void **state) {
  (void)state;
  gd_embedding a = {.dtype = GD_BFLOAT16, .rows = 6, .width = 10, .blocks = 2, .block_rows = 50};
  expect(gd_work_embedding_forward(&a), 6 * 10 * (2 + 4) + 24, 0, "embedding");
  expect(gd_work_embedding_backward(&a), 2 * 60 + 4 * 1000 + 24, 60, "embedding, backward: the whole table is written");
  a.accumulate = true;
  expect(gd_work_embedding_backward(&a), 2 * 60 + 4 * 120 + 24, 60, "embedding, backward: added");
}

static void attention_is_counted(void **state) {
  (void)state;
  /* 2 sequences, 4 heads of 8 that share 2 of keys and values, 3 queries that see 1, 2 and 3 keys */
  gd_attention a = {
      .dtype = GD_BFLOAT16, .batch = 2, .heads = 4, .kv_heads = 2, .head_size = 8, .query_length = 3, .key_length = 3};
  double query = 2 * 4 * 3, key = 2 * 2 * 3;
  expect(gd_work_attention_forward(&a), 2 * 8 * (2 * query + 2 * key) + 4 * query, 4 * 8 * 8 * 6, "attention");
  expect(gd_work_attention_backward(&a), 2 * 8 * (4 * query + 4 * key) + 8 * query, 10 * 8 * 8 * 6, "attention, backward");
  a.prefix_length = 2;
  expect(gd_work_attention_forward(&a), 2 * 8 * (2 * query + 2 * key) + 4 * query, 4 * 8 * 8 * 7, "two keys seen by all");
  a.document_starts = indices;
  expect(gd_work_attention_forward(&a), 2 * 8 * (2 * query + 2 * key) + 4 * query + 4 * 6, 4 * 8 * 8 * 7, "documents");
  gd_attention one = {
      .dtype = GD_FLOAT32, .batch = 1, .heads = 1, .kv_heads = 1, .head_size = 8, .query_length = 1, .key_length = 10};
  one.query_start = 9;
  expect(gd_work_attention_forward(&one), 4 * 8 * (2 + 20) + 4, 4 * 8 * 10, "one query behind a cache");
}

static void loss_is_counted(void **state) {
  (void)state;
  gd_loss a = {.dtype = GD_BFLOAT16, .rows = 3, .columns = 16, .valid_columns = 10};
  expect(gd_work_loss_max(&a), 4 * (30 + 6), 30, "loss_max");
  expect(gd_work_loss_exponentials(&a), 4 * (60 + 12), 90, "loss_exponentials");
  expect(gd_work_loss_gradient(&a), 4 * (30 + 9) + 2 * 48, 60, "loss_gradient");
  expect(gd_work_loss_rows(&a), 4 * 12, 9, "loss_rows");
  gd_loss whole = a;
  whole.blocks = 2;
  whole.valid_columns = 26;
  expect(gd_work_loss_whole(&whole), 4 * (78 + 30), 4 * 78, "loss_whole without a gradient");
  whole.dlogits = &whole;
  expect(gd_work_loss_whole(&whole), 4 * (78 + 30) + 2 * 96, 6 * 78, "loss_whole");
  gd_loss_sums s = {.sequences = 2, .length = 5};
  expect(gd_work_loss_sums(&s), 4 * (20 + 4), 20, "loss_sums");
}

static void optimizer_is_counted(void **state) {
  (void)state;
  gd_unit_squares u = {.units = 3};
  expect(gd_work_unit_squares(&u), 4 * (3072 + 3), 6144, "unit_squares");
  gd_unit_nodes n = {.nodes = 2, .units = 12};
  expect(gd_work_unit_nodes(&n), 4 * 12 + 2 * 16, 12, "unit_nodes");
  gd_node_sums d = {.sums = 2, .parts = 7};
  expect(gd_work_node_sums(&d), 7 * 16 + 4 * 3 + 8 * 2, 7, "node_sums");
  gd_finite f = {.elements = 7};
  expect(gd_work_finite(&f), 28, 7, "finite");
  gd_vote v = {.tensors = 3, .sequences = 5};
  expect(gd_work_vote(&v), 40 + 24, 13, "vote");
  static uint8_t decay[2];
  gd_update a = {
      .kind = GD_OPTIMIZER_ADAMW, .elements = 2048, .dtype = GD_BFLOAT16, .first = room, .second = room, .decay = decay};
  expect(gd_work_update(&a), 2048 * 4 * 7 + 2, 2048 * 17, "AdamW");
  a.parameter = room;
  expect(gd_work_update(&a), 2048 * (4 * 7 + 2) + 2, 2048 * 17, "AdamW with a bfloat16 copy");
  gd_update s = {.kind = GD_OPTIMIZER_SGD, .elements = 2048, .dtype = GD_FLOAT32, .first = room};
  expect(gd_work_update(&s), 2048 * 4 * 5, 2048 * 7, "SGD with momentum");
  s.nesterov = true;
  expect(gd_work_update(&s), 2048 * 4 * 5, 2048 * 9, "SGD, Nesterov");
}

/* ---- the wrappers ---- */

static void one_product(gd_kernels *kernels, int64_t m, float *c) {
  static const float a[64] = {1, 2, 3, 4, 5, 6}, b[6] = {1, -1, 2, 0.5f, 3, 1};
  gd_matmul product = {.form = GD_MATMUL_NT, .m = m, .n = 3, .k = 2, .leaves = 1, .dtype = GD_FLOAT32, .c_dtype = GD_FLOAT32};
  product.a = a;
  product.lda = 2;
  product.b = b;
  product.ldb = 2;
  product.c = c;
  product.ldc = 3;
  assert_int_equal(kernels->ops->matmul(kernels, &product), GD_OK);
}

static const gd_profile_row *find(const gd_profile_row *rows, int32_t count, const char *name) {
  for (int32_t i = 0; i < count; i++)
    if (strcmp(rows[i].name, name) == 0) return &rows[i];
  fail_msg("no row %s", name);
  return NULL;
}

static gd_profile_table table;

static void steps_are_counted_and_what_is_between_them_is_not(void **state) {
  (void)state;
  gd_kernels kernels;
  gd_profile *profile;
  float plain[9], counted[9], sum[2] = {1, 2};
  assert_int_equal(gd_kernels_open(&test_device, NULL, 1, &kernels), GD_OK);
  const gd_kernels_ops *real = kernels.ops;
  one_product(&kernels, 3, plain);
  assert_int_equal(gd_profile_open(&kernels, &profile), GD_OK);
  assert_ptr_equal(kernels.ops, real);
  gd_profile_begin(profile); /* the first step is forgotten */
  one_product(&kernels, 3, counted);
  gd_profile_end(profile);
  gd_profile_read(profile, &table);
  assert_int_equal(table.steps, 1);
  assert_int_equal(find(table.kernels, table.kernel_count, "matmul")->calls, 1);
  for (int step = 0; step < 2; step++) {
    one_product(&kernels, 3, plain);
    gd_profile_begin(profile);
    assert_int_equal(table_empty_kernel(kernels.ops), -1);
    assert_string_equal(kernels.ops->name, real->name);
    assert_int_equal(kernels.ops->bfloat16, real->bfloat16);
    one_product(&kernels, 3, counted);
    one_product(&kernels, 2, counted);
    assert_int_equal(kernels.ops->add(&kernels, sum, plain, 2), GD_OK);
    gd_profile_end(profile);
    assert_ptr_equal(kernels.ops, real);
  }
  assert_memory_equal(plain, counted, sizeof plain);
  gd_profile_read(profile, &table);
  assert_int_equal(table.steps, 2);
  assert_int_equal(table.kernel_count, 2);
  assert_int_equal(table.product_count, 2);
  const gd_profile_row *all = find(table.kernels, 2, "matmul"), *three = find(table.products, 2, "NT 3 x 3 x 2");
  const gd_profile_row *two = find(table.products, 2, "NT 2 x 3 x 2"), *add = find(table.kernels, 2, "add");
  assert_int_equal(all->calls, 4);
  assert_int_equal(three->calls, 2);
  assert_int_equal(add->calls, 2);
  expect(all->work, 4 * 2 * (6 + 6 + 9 + 4 + 6 + 6), 2 * (36 + 24), "all products");
  expect(two->work, 4 * 2 * (4 + 6 + 6), 2 * 24, "the smaller one");
  expect(add->work, 48, 4, "add");
  assert_true(all->seconds > 0 && all->seconds + add->seconds <= table.seconds);
  assert_true(table.kernels[0].seconds >= table.kernels[1].seconds && table.products[0].seconds >= table.products[1].seconds);
  gd_profile_close(profile);
  assert_null(kernels.profile);
  gd_kernels_close(&kernels);
}

static void shapes_beyond_the_table_share_a_row(void **state) {
  (void)state;
  gd_kernels kernels;
  gd_profile *profile;
  float c[32 * 3];
  assert_int_equal(gd_kernels_open(&test_device, NULL, 1, &kernels), GD_OK);
  assert_int_equal(gd_profile_open(&kernels, &profile), GD_OK);
  gd_profile_begin(profile);
  for (int64_t i = 0; i < GD_PROFILE_PRODUCTS + 2; i++) {
    static const float a[1], b[3];
    gd_matmul small = {.form = GD_MATMUL_NN, .m = 1 + i % 32, .n = 3, .k = 1, .leaves = 1 + i / 32, .a = a, .b = b, .c = c};
    small.dtype = small.c_dtype = GD_FLOAT32;
    small.ldb = small.ldc = 3; /* every row and leaf is the same one */
    assert_int_equal(kernels.ops->matmul(&kernels, &small), GD_OK);
  }
  gd_profile_end(profile);
  gd_profile_read(profile, &table);
  assert_int_equal(table.product_count, GD_PROFILE_PRODUCTS + 1);
  assert_int_equal(find(table.products, table.product_count, "other shapes")->calls, 2);
  assert_int_equal(find(table.products, table.product_count, "NN 1 x 3 x 1, 2 leaves")->calls, 1);
  gd_profile_close(profile);
  gd_kernels_close(&kernels);
}

static void other_devices_are_refused(void **state) {
  (void)state;
  gd_device lazy;
  gd_kernels kernels;
  gd_profile *profile = NULL;
  assert_int_equal(gd_device_open_lazy(&lazy), GD_OK);
  assert_int_equal(gd_kernels_open(&lazy, NULL, 1, &kernels), GD_OK);
  assert_int_equal(gd_profile_open(&kernels, &profile), GD_USAGE);
  assert_null(profile);
  assert_non_null(strstr(gd_error_text(), "log.profile"));
  assert_non_null(strstr(gd_error_text(), lazy.description));
  gd_kernels_close(&kernels);
  lazy.ops->close(&lazy);
}

static void memory_is_copied_at_a_rate(void **state) {
  (void)state;
  assert_true(gd_profile_copy_rate(&test_device, 2) > 1e7);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(products_are_counted),
      cmocka_unit_test(norms_are_counted),
      cmocka_unit_test(sums_are_counted),
      cmocka_unit_test(elementwise_kernels_are_counted),
      cmocka_unit_test(embedding_is_counted),
      cmocka_unit_test(attention_is_counted),
      cmocka_unit_test(loss_is_counted),
      cmocka_unit_test(optimizer_is_counted),
      cmocka_unit_test(steps_are_counted_and_what_is_between_them_is_not),
      cmocka_unit_test(shapes_beyond_the_table_share_a_row),
      cmocka_unit_test(other_devices_are_refused),
      cmocka_unit_test(memory_is_copied_at_a_rate),
  };
  return cmocka_run_group_tests(tests, open_test_device, close_test_device);
}
