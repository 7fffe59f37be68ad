/* Embedding, the end of a branch (bias, position, dropout, residual), sums in canonical order, conversions. */
#include "kernels_common.h"

static float tree_of(const float *x, int64_t count) {
  if (count == 1) return x[0];
  int64_t left = 1;
  while (2 * left < count) left *= 2;
  float low = tree_of(x, left);
  return low + tree_of(x + left, count - left);
}

static void tree_sum_is_the_canonical_tree_on_every_isa(void **state) {
  (void)state;
  enum { ELEMENTS = 1100, STRIDE = 1103 };
  random_state = 41;
  for (int isa = 0; isa < ISAS; isa++) {
    gd_kernels kernels;
    if (!open_isa(isa_names[isa], 3, &kernels)) continue;
    for (int64_t leaves = 1; leaves <= 33; leaves += leaves < 9 ? 1 : 6)
      for (int d = 0; d < 2; d++) {
        tensor in = tensor_random(d ? GD_BFLOAT16 : GD_FLOAT32, leaves * STRIDE, 1.0f);
        bool in_place = !d && leaves % 2, accumulate = leaves % 3 == 0 && !in_place;
        tensor out = tensor_random(GD_FLOAT32, ELEMENTS, 1.0f);
        gd_tree_sum args = {.leaves = leaves, .elements = ELEMENTS, .dtype = in.dtype, .in = in.data, .leaf_stride = STRIDE};
        args.out = in_place ? in.data : out.data;
        args.accumulate = accumulate;
        assert_int_equal(kernels.ops->tree_sum(&kernels, &args), GD_OK);
        for (int64_t i = 0; i < ELEMENTS; i++) {
          float column[40];
          for (int64_t l = 0; l < leaves; l++) column[l] = in.values[l * STRIDE + i];
          float want = tree_of(column, leaves);
          if (accumulate) want = out.values[i] + want;
          if (args.out[i] != want) fail_msg("%lld leaves, element %lld", (long long)leaves, (long long)i);
        }
        tensor_free(&in);
        tensor_free(&out);
      }
    gd_kernels_close(&kernels);
  }
}

static void column_sums_are_chains_over_the_rows_of_a_leaf(void **state) {
  (void)state;
  enum { ROWS = 60, WIDTH = 331, LD = 335, LEAF = 16, LEAVES = 4 }; /* the last leaf is short */
  random_state = 43;
  for (int isa = 0; isa < ISAS; isa++)
    for (int d = 0; d < 2; d++) {
      gd_kernels kernels;
      if (!open_isa(isa_names[isa], 3, &kernels)) continue;
      tensor x = tensor_random(d ? GD_BFLOAT16 : GD_FLOAT32, ROWS * LD, 1.0f);
      float leaves[LEAVES * WIDTH];
      gd_column_sums args = {.rows = ROWS, .width = WIDTH, .ld = LD, .leaf_rows = LEAF, .dtype = x.dtype, .x = x.data};
      args.leaves = leaves;
      assert_int_equal(kernels.ops->column_sums(&kernels, &args), GD_OK);
      for (int l = 0; l < LEAVES; l++)
        for (int c = 0; c < WIDTH; c++) {
          float sum = 0.0f;
          for (int r = l * LEAF; r < (l + 1) * LEAF && r < ROWS; r++) sum += x.values[r * LD + c];
          assert_true(leaves[l * WIDTH + c] == sum);
        }
      tensor_free(&x);
      gd_kernels_close(&kernels);
    }
}

static void convert_and_add_work_at_any_offset_and_length(void **state) {
  (void)state;
  random_state = 47;
  for (int isa = 0; isa < ISAS; isa++) {
    gd_kernels kernels;
    if (!open_isa(isa_names[isa], 2, &kernels)) continue;
    for (int64_t length = 0; length < 70; length += 1 + random_below(4)) {
      int64_t offset = random_below(9);
      tensor x = tensor_random(GD_FLOAT32, 100, 3.0f), y = tensor_random(GD_FLOAT32, 100, 3.0f),
             half = tensor_new(GD_BFLOAT16, 100);
      float *from = (float *)x.data + offset, *to = (float *)y.data + offset;
      gd_bfloat16 *middle = (gd_bfloat16 *)half.data + offset;
      assert_int_equal(kernels.ops->convert(&kernels, GD_BFLOAT16, middle, GD_FLOAT32, from, length), GD_OK);
      assert_int_equal(kernels.ops->add(&kernels, to, from, length), GD_OK);
      for (int64_t i = 0; i < 100; i++) {
        bool inside = i >= offset && i < offset + length;
        assert_int_equal(((gd_bfloat16 *)half.data)[i], inside ? gd_bfloat16_from_float(x.values[i]) : 0);
        assert_true(((float *)y.data)[i] == (inside ? y.values[i] + x.values[i] : y.values[i]));
      }
      assert_int_equal(kernels.ops->convert(&kernels, GD_FLOAT32, to, GD_BFLOAT16, middle, length), GD_OK);
      for (int64_t i = 0; i < length; i++) assert_true(to[i] == gd_bfloat16_to_float(middle[i]));
      tensor_free(&x);
      tensor_free(&y);
      tensor_free(&half);
    }
    gd_kernels_close(&kernels);
  }
}

/* Every exponent, subnormal numbers, infinities and NaN among them, alone and beside others. */
static void bfloat16_is_rounded_alike_everywhere(void **state) {
  (void)state;
  enum { NUMBERS = 1 << 16 };
  float *from = malloc(NUMBERS * sizeof *from);
  gd_bfloat16 *to = malloc(NUMBERS * sizeof *to);
  assert_true(from && to);
  for (uint32_t i = 0; i < NUMBERS; i++) {
    uint32_t bits = (i / 16 % 2 ? i << 16 : 0x3f800000u) ^ i * 40503u; /* sixteen of ordinary size, sixteen of any */
    memcpy(from + i, &bits, sizeof bits);
  }
  for (int isa = 0; isa < ISAS; isa++) {
    gd_kernels kernels;
    if (!open_isa(isa_names[isa], 2, &kernels)) continue;
    assert_int_equal(kernels.ops->convert(&kernels, GD_BFLOAT16, to, GD_FLOAT32, from, NUMBERS), GD_OK);
    for (int i = 0; i < NUMBERS; i++) assert_int_equal(to[i], gd_bfloat16_from_float(from[i]));
    gd_kernels_close(&kernels);
  }
  free(from);
  free(to);
}

/* Two blocks of a table whose rows start at block 1. */
enum {
  TABLE_ROWS = 24,
  TABLE_STRIDE = TABLE_ROWS * 40 + 5,
  FIRST_BLOCK = 1,
  TABLE_BLOCKS = 2,
  WIDTH = 40,
  TOKENS = 90,
  LEAF_ROWS = 16 /* the last leaf is short */
};

static gd_embedding embedding_args(const tensor *weight, const int32_t *tokens) {
  gd_embedding args = {.dtype = weight->dtype, .rows = TOKENS, .width = WIDTH, .tokens = tokens, .first_block = FIRST_BLOCK};
  args.blocks = TABLE_BLOCKS;
  args.block_rows = TABLE_ROWS;
  args.block_stride = TABLE_STRIDE;
  args.weight = weight->data;
  args.leaf_rows = LEAF_ROWS;
  return args;
}

static void embedding_reads_the_rows_that_are_here(void **state) {
  (void)state;
  random_state = 53;
  for (int d = 0; d < 2; d++) {
    gd_kernels kernels = open_best(2);
    tensor weight = tensor_random(d ? GD_BFLOAT16 : GD_FLOAT32, TABLE_BLOCKS * TABLE_STRIDE, 1.0f);
    int32_t tokens[TOKENS];
    float out[TOKENS * WIDTH];
    for (int i = 0; i < TOKENS; i++) tokens[i] = (int32_t)random_below(4 * TABLE_ROWS);
    gd_embedding args = embedding_args(&weight, tokens);
    args.out = out;
    assert_int_equal(kernels.ops->embedding_forward(&kernels, &args), GD_OK);
    for (int i = 0; i < TOKENS * WIDTH; i++) {
      int block = tokens[i / WIDTH] / TABLE_ROWS - FIRST_BLOCK, row = tokens[i / WIDTH] % TABLE_ROWS;
      bool here = block >= 0 && block < TABLE_BLOCKS;
      assert_true(out[i] == (here ? weight.values[block * TABLE_STRIDE + row * WIDTH + i % WIDTH] : 0.0f));
    }
    tensor_free(&weight);
    gd_kernels_close(&kernels);
  }
}

typedef struct token_sum {
  bool held;
  float value;
} token_sum;

/* The definition: chains over the rows of a leaf, tree over the leaves that hold the token, which keep their places. */
static token_sum token_tree(const tensor *dx, const int32_t *tokens, int token, int column, int first, int leaves) {
  token_sum sum = {false, 0.0f};
  if (leaves == 1) {
    for (int t = first * LEAF_ROWS; t < TOKENS && t < (first + 1) * LEAF_ROWS; t++) {
      if (tokens[t] != token) continue;
      sum.held = true;
      sum.value += dx->values[t * WIDTH + column];
    }
    return sum;
  }
  int left = 1;
  while (2 * left < leaves) left *= 2;
  token_sum a = token_tree(dx, tokens, token, column, first, left);
  token_sum b = token_tree(dx, tokens, token, column, first + left, leaves - left);
  if (a.held && b.held) return (token_sum){true, a.value + b.value};
  return a.held ? a : b;
}

static void embedding_gradient_is_the_tree_over_the_leaves_that_hold_a_token(void **state) {
  (void)state;
  random_state = 59;
  for (int isa = 0; isa < ISAS; isa++)
    for (int variant = 0; variant < 4; variant++) {
      gd_kernels kernels;
      if (!open_isa(isa_names[isa], 1 + variant, &kernels)) continue;
      gd_dtype dtype = variant % 2 ? GD_BFLOAT16 : GD_FLOAT32;
      tensor weight = tensor_new(dtype, 1), dx = tensor_random(dtype, TOKENS * WIDTH, 1.0f);
      tensor gradient = tensor_random(GD_FLOAT32, TABLE_BLOCKS * TABLE_STRIDE, 1.0f);
      int32_t tokens[TOKENS];
      for (int i = 0; i < TOKENS; i++)
        tokens[i] = i % 3 ? 30 + (int32_t)random_below(3) : (int32_t)random_below(4 * TABLE_ROWS);
      gd_embedding args = embedding_args(&weight, tokens);
      args.dx = dx.data;
      args.gradient = gradient.data;
      args.accumulate = variant >= 2;
      assert_int_equal(kernels.ops->embedding_backward(&kernels, &args), GD_OK);
      for (int i = 0; i < TABLE_BLOCKS * TABLE_STRIDE; i++) {
        int block = i / TABLE_STRIDE, row = i % TABLE_STRIDE / WIDTH;
        float want = gradient.values[i]; /* between blocks: not ours */
        if (row < TABLE_ROWS) {
          token_sum sum = token_tree(&dx, tokens, (FIRST_BLOCK + block) * TABLE_ROWS + row, i % TABLE_STRIDE % WIDTH, 0,
                                     (TOKENS + LEAF_ROWS - 1) / LEAF_ROWS);
          want = !args.accumulate ? sum.value : sum.held ? want + sum.value : want;
        }
        if (((float *)gradient.data)[i] != want) fail_msg("variant %d: gradient[%d]", variant, i);
      }
      tensor_free(&weight);
      tensor_free(&dx);
      tensor_free(&gradient);
      gd_kernels_close(&kernels);
    }
}

static void rows_are_picked_and_put_by_number(void **state) {
  (void)state;
  enum { FROM = 7, COUNT = 6, C = 33, FIRST = 10 };
  static const int32_t index[COUNT] = {12, -1, 10, 9, 16, 17}; /* of rows 10 to 16 */
  random_state = 77;
  for (int d = 0; d < 2; d++) {
    gd_kernels kernels = open_best(2);
    gd_dtype dtype = d ? GD_BFLOAT16 : GD_FLOAT32;
    tensor from = tensor_random(dtype, FROM * C, 1.0f), to = tensor_random(dtype, COUNT * C, 1.0f);
    tensor back = tensor_random(dtype, FROM * C, 1.0f);
    gd_rows_pick a = {.dtype = dtype, .count = COUNT, .width = C, .index = index, .first = FIRST, .size = FROM};
    a.from = from.data;
    a.to = to.data;
    assert_int_equal(kernels.ops->rows_pick(&kernels, &a), GD_OK);
    tensor_read(&to);
    for (int i = 0; i < COUNT; i++)
      for (int c = 0; c < C; c++) {
        bool there = index[i] >= FIRST && index[i] < FIRST + FROM;
        assert_true(to.values[i * C + c] == (there ? from.values[(index[i] - FIRST) * C + c] : 0.0f));
      }
    a.from = to.data;
    a.to = back.data;
    float old[FROM * C];
    memcpy(old, back.values, sizeof old);
    assert_int_equal(kernels.ops->rows_put(&kernels, &a), GD_OK);
    tensor_read(&back);
    for (int r = 0; r < FROM; r++)
      for (int c = 0; c < C; c++) {
        bool put = r == 2 || r == 0 || r == 6;
        assert_true(back.values[r * C + c] == (put ? from.values[r * C + c] : old[r * C + c]));
      }
    tensor_free(&from);
    tensor_free(&to);
    tensor_free(&back);
    gd_kernels_close(&kernels);
  }
}

static void rows_finish_adds_in_order_and_drops_by_the_global_element(void **state) {
  (void)state;
  enum { R = 23, C = 101, PERIOD = 8 };
  random_state = 61;
  int32_t positions[R];
  for (int row = 0; row < R; row++) positions[row] = (row * 5 + 3) % PERIOD;
  for (int isa = 0; isa < ISAS; isa++)
    for (int variant = 0; variant < 16; variant++) {
      gd_kernels kernels;
      if (!open_isa(isa_names[isa], 1 + variant % 3, &kernels)) continue;
      gd_dtype dtype = variant % 2 ? GD_BFLOAT16 : GD_FLOAT32;
      tensor sum = tensor_random(GD_FLOAT32, R * C, 1.0f), bias = tensor_random(dtype, C, 1.0f);
      tensor table = tensor_random(dtype, PERIOD * C, 1.0f), residual = tensor_random(dtype, R * C, 1.0f);
      gd_rows_finish args = {.dtype = dtype, .rows = R, .width = C, .sum = sum.data, .period = PERIOD, .first_row = 13};
      args.bias = variant & 2 ? bias.data : NULL;
      args.table = variant & 4 ? table.data : NULL;
      args.residual = variant & 8 ? residual.data : NULL;
      args.positions = variant % 5 ? positions : NULL;
      args.dropout = variant % 3 ? 0.25f : 0.0f;
      args.rng = gd_rng_make(99, GD_RNG_DROPOUT, 3, 2, 17);
      args.out = residual.data;
      assert_int_equal(kernels.ops->rows_finish(&kernels, &args), GD_OK);
      for (int i = 0; i < R * C; i++) {
        int row = i / C, column = i % C;
        uint64_t element = (uint64_t)((13 + row) * C + column);
        float want = sum.values[i];
        if (args.bias) want += bias.values[column];
        int position = args.positions ? positions[row] : (13 + row) % PERIOD;
        if (args.table) want += table.values[position * C + column];
        bool dropped = args.dropout > 0.0f && gd_rng_word(&args.rng, element) < gd_rng_dropout_threshold(args.dropout);
        if (args.dropout > 0.0f) want *= dropped ? 0.0f : 1.0f / (1.0f - args.dropout);
        if (args.residual) want += residual.values[i];
        float got =
            dtype == GD_BFLOAT16 ? gd_bfloat16_to_float(((gd_bfloat16 *)residual.data)[i]) : ((float *)residual.data)[i];
        if (got != stored(dtype, want))
          fail_msg("variant %d element %d: %.9g, not %.9g", variant, i, (double)got, (double)want);
      }
      tensor_free(&sum);
      tensor_free(&bias);
      tensor_free(&table);
      tensor_free(&residual);
      gd_kernels_close(&kernels);
    }
}

static void a_norm_behind_rows_finish_is_that_of_what_was_stored(void **state) {
  (void)state;
  enum { R = 9 };
  random_state = 63;
  for (int isa = 0; isa < ISAS; isa++)
    for (int variant = 0; variant < 8; variant++) {
      gd_kernels kernels;
      if (!open_isa(isa_names[isa], 1 + variant % 2, &kernels)) continue;
      const int64_t C = variant & 4 ? 333 : 141; /* narrow rows go together */
      gd_dtype dtype = variant % 2 ? GD_BFLOAT16 : GD_FLOAT32;
      size_t bytes = (size_t)(R * C) * gd_dtype_bytes(dtype);
      tensor sum = tensor_random(GD_FLOAT32, R * C, 1.0f), weight = tensor_random(dtype, C, 1.0f);
      tensor bias = tensor_random(dtype, C, 1.0f), out = tensor_new(dtype, R * C);
      tensor rest = tensor_random(dtype, R * C, 1.0f), y = tensor_new(dtype, R * C), want = tensor_new(dtype, R * C);
      float mean[2][R], rstd[2][R];
      gd_rows_finish args = {.dtype = dtype, .rows = R, .width = C, .sum = sum.data, .bias = bias.data, .out = out.data};
      if (variant & 4) args.residual = rest.data;
      args.norm = (gd_norm_args){.kind = variant & 2 ? GD_NORM_RMSNORM : GD_NORM_LAYERNORM, .epsilon = 1e-5f};
      args.norm.weight = weight.data;
      args.norm.bias = variant & 2 ? NULL : bias.data;
      args.norm.y = y.data;
      args.norm.mean = variant & 2 ? NULL : mean[0];
      args.norm.rstd = rstd[0];
      assert_int_equal(kernels.ops->rows_finish(&kernels, &args), GD_OK);
      gd_norm_args norm = gd_norm_of_rows(&args);
      norm.y = want.data;
      norm.mean = variant & 2 ? NULL : mean[1];
      norm.rstd = rstd[1];
      assert_int_equal(kernels.ops->norm_forward(&kernels, &norm), GD_OK);
      assert_same_bits(y.data, want.data, bytes, "norm");
      assert_same_bits(rstd[0], rstd[1], sizeof rstd[0], "1 / std");
      if (norm.mean) assert_same_bits(mean[0], mean[1], sizeof mean[0], "mean");
      tensor_free(&sum);
      tensor_free(&weight);
      tensor_free(&bias);
      tensor_free(&out);
      tensor_free(&rest);
      tensor_free(&y);
      tensor_free(&want);
      gd_kernels_close(&kernels);
    }
}

static void dropout_backward_uses_the_mask_of_the_forward_pass(void **state) {
  (void)state;
  enum { R = 19, C = 77 };
  random_state = 67;
  for (int isa = 0; isa < ISAS; isa++)
    for (int first = 0; first < 3; first++) {
      gd_kernels kernels;
      if (!open_isa(isa_names[isa], 2, &kernels)) continue;
      tensor dy = tensor_random(GD_FLOAT32, R * C, 1.0f);
      gd_dropout_backward args = {.dtype = GD_FLOAT32, .rows = R, .width = C, .first_row = 5 * first, .dropout = 0.1f};
      args.rng = gd_rng_make(7, GD_RNG_DROPOUT, 1, 0, 3);
      args.dy = args.dx = dy.data;
      assert_int_equal(kernels.ops->dropout_backward(&kernels, &args), GD_OK);
      for (int i = 0; i < R * C; i++) {
        bool dropped = gd_rng_word(&args.rng, (uint64_t)(5 * first * C + i)) < gd_rng_dropout_threshold(0.1f);
        float want = dy.values[i] * (dropped ? 0.0f : 1.0f / (1.0f - 0.1f));
        assert_true(((float *)dy.data)[i] == want);
      }
      tensor_free(&dy);
      gd_kernels_close(&kernels);
    }
}

/* What is left is scaled up by as much as is dropped: the share that falls is p, the mean stays. Within four deviations. */
static void dropout_drops_its_share_and_keeps_the_mean(void **state) {
  (void)state;
  enum { R = 256, C = 512 };
  const float shares[] = {0.1f, 0.25f, 0.9f};
  gd_kernels kernels = open_best(2);
  tensor ones = tensor_new(GD_FLOAT32, R * C), out = tensor_new(GD_FLOAT32, R * C);
  for (int i = 0; i < R * C; i++) ((float *)ones.data)[i] = 1;
  for (size_t k = 0; k < sizeof shares / sizeof *shares; k++) {
    gd_rows_finish args = {.dtype = GD_FLOAT32, .rows = R, .width = C, .sum = ones.data, .out = out.data, .dropout = shares[k]};
    args.rng = gd_rng_make(99, GD_RNG_DROPOUT, 1, 0, k);
    assert_int_equal(kernels.ops->rows_finish(&kernels, &args), GD_OK);
    double p = (double)shares[k], dropped = 0, sum = 0, n = R * C;
    for (int i = 0; i < R * C; i++) {
      float x = ((float *)out.data)[i];
      assert_true(x == 0.0f || x == 1.0f / (1.0f - shares[k]));
      dropped += x == 0.0f;
      sum += (double)x;
    }
    assert_true(fabs(dropped / n - p) < 4 * sqrt(p * (1 - p) / n));
    assert_true(fabs(sum / n - 1) < 4 * sqrt(p / (1 - p) / n));
  }
  tensor_free(&ones);
  tensor_free(&out);
  gd_kernels_close(&kernels);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(tree_sum_is_the_canonical_tree_on_every_isa, open_test_device, close_test_device),
      cmocka_unit_test_setup_teardown(column_sums_are_chains_over_the_rows_of_a_leaf, open_test_device, close_test_device),
      cmocka_unit_test_setup_teardown(convert_and_add_work_at_any_offset_and_length, open_test_device, close_test_device),
      cmocka_unit_test_setup_teardown(bfloat16_is_rounded_alike_everywhere, open_test_device, close_test_device),
      cmocka_unit_test_setup_teardown(embedding_reads_the_rows_that_are_here, open_test_device, close_test_device),
      cmocka_unit_test_setup_teardown(embedding_gradient_is_the_tree_over_the_leaves_that_hold_a_token, open_test_device,
                                      close_test_device),
      cmocka_unit_test_setup_teardown(rows_are_picked_and_put_by_number, open_test_device, close_test_device),
      cmocka_unit_test_setup_teardown(rows_finish_adds_in_order_and_drops_by_the_global_element, open_test_device,
                                      close_test_device),
      cmocka_unit_test_setup_teardown(a_norm_behind_rows_finish_is_that_of_what_was_stored, open_test_device,
                                      close_test_device),
      cmocka_unit_test_setup_teardown(dropout_backward_uses_the_mask_of_the_forward_pass, open_test_device, close_test_device),
      cmocka_unit_test_setup_teardown(dropout_drops_its_share_and_keeps_the_mean, open_test_device, close_test_device),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
