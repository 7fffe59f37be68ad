/* Cross entropy over a vocabulary in blocks: loss and gradient against double, finite differences, cuts, padding. */
#include "kernels_common.h"

enum { ROWS = 12, VALID = 363, COLUMNS = 240, BLOCKS = 2, LD = 242 }; /* a block is longer than the 128 lanes of a row */

typedef struct result {
  float loss[ROWS], sum[ROWS], largest[ROWS];
  tensor gradient; /* [BLOCKS][ROWS][LD] */
} result;

static float logit_values[ROWS][VALID];
static int32_t targets[ROWS];
static float weights[ROWS];
static float smooth; /* label smoothing of run() */

static void make_problem(void) {
  random_state = 31;
  for (int r = 0; r < ROWS; r++) {
    for (int c = 0; c < VALID; c++) logit_values[r][c] = 5.0f * random_float();
    targets[r] = (int32_t)random_below(VALID);
    weights[r] = r % 5 == 4 ? 0.0f : 0.5f + (float)(r % 3);
  }
  targets[3] = COLUMNS - 1;
  targets[5] = COLUMNS;
  targets[4] = -100; /* no target; its weight is 0 */
}

/* All in one call, from the arguments of the call for block 0. */
static void run_whole(gd_kernels *kernels, const gd_loss *first_block, gd_dtype dtype, bool in_place) {
  float sums[BLOCKS * ROWS], hits[BLOCKS * ROWS];
  gd_loss a = *first_block;
  a.valid_columns = VALID;
  a.blocks = BLOCKS;
  a.block_stride = ROWS * LD;
  a.dblock_stride = in_place && dtype == GD_BFLOAT16 ? 2 * ROWS * LD : ROWS * LD;
  a.block_sum = sums;
  a.block_target = hits;
  assert_int_equal(kernels->ops->loss_whole(kernels, &a), GD_OK);
}

static bool in_one_call; /* in place of one for each block and pass */

/* Rows first .. end. in_place: the gradient takes the memory of the logits, bfloat16 at twice the row distance. */
static result run(gd_kernels *kernels, gd_dtype dtype, int first, int end, bool in_place) {
  static float logits[BLOCKS][ROWS][LD];
  float sums[BLOCKS][ROWS], hits[BLOCKS][ROWS], row_sum[ROWS], row_target[ROWS];
  result r = {.gradient = tensor_new(dtype, BLOCKS * ROWS * LD)};
  gd_loss args[BLOCKS];
  for (int i = 0; i < ROWS; i++) r.largest[i] = -INFINITY;
  for (int b = 0; b < BLOCKS; b++) {
    for (int row = 0; row < ROWS; row++)
      for (int c = 0; c < LD; c++)
        logits[b][row][c] = c < COLUMNS && b * COLUMNS + c < VALID ? logit_values[row][b * COLUMNS + c] : 777.0f;
    args[b] = (gd_loss){.dtype = dtype, .rows = end - first, .columns = COLUMNS, .first_column = b * COLUMNS, .ld = LD};
    args[b].valid_columns = VALID - b * COLUMNS < COLUMNS ? VALID - b * COLUMNS : COLUMNS;
    args[b].logits = &logits[b][first][0];
    args[b].targets = targets + first;
    args[b].weights = weights + first;
    args[b].row_max = r.largest + first;
    args[b].block_sum = sums[b] + first;
    args[b].block_target = hits[b] + first;
    args[b].row_sum = row_sum + first;
    args[b].row_target = row_target + first;
    args[b].row_loss = r.loss + first;
    args[b].dlogits = (char *)r.gradient.data + (size_t)((b * ROWS + first) * LD) * gd_dtype_bytes(dtype);
    args[b].dld = LD;
    args[b].smoothing = smooth;
    args[b].spread = smooth / VALID;
    if (in_place) {
      args[b].dlogits = args[b].logits;
      args[b].dld = dtype == GD_BFLOAT16 ? 2 * LD : LD;
    }
  }
  if (in_one_call) {
    run_whole(kernels, &args[0], dtype, in_place);
  } else {
    for (int b = 0; b < BLOCKS; b++) assert_int_equal(kernels->ops->loss_max(kernels, &args[b]), GD_OK);
    for (int b = 0; b < BLOCKS; b++) assert_int_equal(kernels->ops->loss_exponentials(kernels, &args[b]), GD_OK);
    for (int i = first; i < end; i++) {
      row_sum[i] = sums[0][i] + sums[1][i];
      row_target[i] = hits[0][i] + hits[1][i];
    }
    assert_int_equal(kernels->ops->loss_rows(kernels, &args[0]), GD_OK);
    for (int b = 0; b < BLOCKS; b++) assert_int_equal(kernels->ops->loss_gradient(kernels, &args[b]), GD_OK);
  }
  memcpy(r.sum + first, row_sum + first, (size_t)(end - first) * sizeof *row_sum);
  for (int b = 0; b < BLOCKS && in_place; b++) {
    for (int row = first; row < end; row++)
      memcpy((char *)r.gradient.data + (size_t)((b * ROWS + row) * LD) * gd_dtype_bytes(dtype),
             (char *)args[b].dlogits + (size_t)((row - first) * args[b].dld) * gd_dtype_bytes(dtype),
             COLUMNS * gd_dtype_bytes(dtype));
  }
  tensor_read(&r.gradient);
  return r;
}

/* weight * (log sum exp - target) in double. */
static double loss_of(int row, const double *x) {
  double sum = 0.0, largest = -INFINITY;
  if (targets[row] < 0) return 0.0;
  for (int c = 0; c < VALID; c++) largest = fmax(largest, x[c]);
  for (int c = 0; c < VALID; c++) sum += exp(x[c] - largest);
  return (double)weights[row] * (log(sum) + largest - x[targets[row]]);
}

static void check_result(gd_dtype dtype, const result *r) {
  for (int row = 0; row < ROWS; row++) {
    double x[VALID], h = 1e-5;
    for (int c = 0; c < VALID; c++) x[c] = (double)logit_values[row][c];
    if (weights[row] > 0.0f) assert_near(GD_FLOAT32, (double)r->loss[row], loss_of(row, x), 1e-6, 1e-6, "loss", row);
    if (weights[row] == 0.0f) assert_true(r->loss[row] == 0.0f);
    for (int c = 0; c < BLOCKS * COLUMNS; c++) {
      int64_t at = (c / COLUMNS * ROWS + row) * LD + c % COLUMNS;
      if (c >= VALID) {
        assert_true(r->gradient.values[at] == 0.0f);
        continue;
      }
      double old = x[c];
      x[c] = old + h;
      double up = loss_of(row, x);
      x[c] = old - h;
      double down = loss_of(row, x);
      x[c] = old;
      assert_near(dtype, (double)r->gradient.values[at], (up - down) / (2.0 * h), 1e-5, 1e-7, "gradient of a logit", at);
    }
  }
}

static void loss_and_gradient_match_finite_differences_also_in_place(void **state) {
  (void)state;
  make_problem();
  gd_kernels kernels = open_best(2);
  for (int d = 0; d < 2; d++)
    for (int in_place = 0; in_place < 2; in_place++) {
      gd_dtype dtype = d ? GD_BFLOAT16 : GD_FLOAT32;
      result r = run(&kernels, dtype, 0, ROWS, in_place);
      check_result(dtype, &r);
      tensor_free(&r.gradient);
    }
  gd_kernels_close(&kernels);
}

static void one_call_for_all_blocks_changes_no_bit(void **state) {
  (void)state;
  make_problem();
  logit_values[2][7] = NAN;
  logit_values[6][50] = INFINITY;
  for (int isa = 0; isa < ISAS; isa++) {
    gd_kernels kernels;
    if (!open_isa(isa_names[isa], 1 + isa % 2, &kernels)) continue;
    for (int variant = 0; variant < 4; variant++) {
      gd_dtype dtype = variant % 2 ? GD_BFLOAT16 : GD_FLOAT32;
      result passes = run(&kernels, dtype, 1, ROWS, variant / 2);
      in_one_call = true;
      result whole = run(&kernels, dtype, 1, ROWS, variant / 2);
      in_one_call = false;
      assert_same_bits(whole.loss + 1, passes.loss + 1, (ROWS - 1) * sizeof(float), "loss");
      assert_same_bits(whole.sum + 1, passes.sum + 1, (ROWS - 1) * sizeof(float), "sum of exp");
      for (int b = 0; b < BLOCKS; b++)
        for (size_t row = 1; row < ROWS; row++) {
          size_t at = ((size_t)b * ROWS + row) * LD * gd_dtype_bytes(dtype);
          assert_same_bits((char *)whole.gradient.data + at, (char *)passes.gradient.data + at, COLUMNS * gd_dtype_bytes(dtype),
                           "gradient");
        }
      tensor_free(&whole.gradient);
      tensor_free(&passes.gradient);
    }
    gd_kernels_close(&kernels);
  }
}

static void rows_and_isa_change_no_bit(void **state) {
  (void)state;
  make_problem();
  gd_kernels kernels;
  assert_true(open_isa("generic", 1, &kernels));
  result whole = run(&kernels, GD_FLOAT32, 0, ROWS, false);
  gd_kernels_close(&kernels);
  for (int isa = 0; isa < ISAS; isa++) {
    if (!open_isa(isa_names[isa], 2, &kernels)) continue;
    int first = (int)random_below(4), end = ROWS - (int)random_below(4);
    size_t count = (size_t)(end - first);
    result part = run(&kernels, GD_FLOAT32, first, end, isa % 2);
    assert_same_bits(part.loss + first, whole.loss + first, count * 4, "loss");
    assert_same_bits(part.sum + first, whole.sum + first, count * 4, "sum of exp");
    for (int b = 0; b < BLOCKS; b++)
      for (int row = first; row < end; row++)
        assert_same_bits((float *)part.gradient.data + (b * ROWS + row) * LD,
                         (float *)whole.gradient.data + (b * ROWS + row) * LD, COLUMNS * 4, "gradient");
    tensor_free(&part.gradient);
    gd_kernels_close(&kernels);
  }
  tensor_free(&whole.gradient);
}

static void sums_of_exponentials_have_128_lanes(void **state) {
  (void)state;
  random_state = 41;
  for (int w = 0; w < ROW_WIDTHS; w++) {
    float x[1600], e[1600], largest = -INFINITY, sum, target_logit;
    int64_t width = row_widths[w];
    for (int64_t c = 0; c < width; c++) x[c] = 5.0f * random_float();
    for (int isa = 0; isa < ISAS; isa++) {
      gd_kernels kernels;
      if (!open_isa(isa_names[isa], 1, &kernels)) continue;
      memcpy(e, x, sizeof e);
      gd_loss args = {.rows = 1, .columns = width, .valid_columns = width, .logits = e, .ld = width, .row_max = &largest};
      args.targets = (const int32_t[]){0};
      args.block_sum = &sum;
      args.block_target = &target_logit;
      assert_int_equal(kernels.ops->loss_max(&kernels, &args), GD_OK);
      assert_int_equal(kernels.ops->loss_exponentials(&kernels, &args), GD_OK);
      assert_true(sum == row_sum_of(e, NULL, width) && target_logit == x[0] - largest);
      gd_kernels_close(&kernels);
    }
  }
}

/* Smoothed targets over both blocks against double. */
static void smoothed_targets_match_double(void **state) {
  (void)state;
  static const float smoothing = 0.125f;
  make_problem();
  for (int isa = 0; isa < ISAS; isa++)
    for (int d = 0; d < 2; d++) {
      gd_kernels kernels;
      if (!open_isa(isa_names[isa], 2, &kernels)) continue;
      smooth = smoothing;
      gd_dtype dtype = d ? GD_BFLOAT16 : GD_FLOAT32;
      result r = run(&kernels, dtype, 0, ROWS, d);
      smooth = 0;
      for (int row = 0; row < ROWS; row++) {
        double sum = 0, all = 0, e = (double)smoothing;
        if (targets[row] < 0) continue;
        for (int c = 0; c < VALID; c++) {
          sum += exp((double)logit_values[row][c]);
          all += (double)logit_values[row][c];
        }
        double target = (1 - e) * (double)logit_values[row][targets[row]] + e / VALID * all;
        assert_true(fabs((double)r.loss[row] - (double)weights[row] * (log(sum) - target)) < 2e-5);
        for (int c = 0; c < VALID; c++) {
          int at = (c / COLUMNS * ROWS + row) * LD + c % COLUMNS;
          double want = exp((double)logit_values[row][c]) / sum - e / VALID - (c == targets[row] ? 1 - e : 0);
          assert_near(dtype, (double)r.gradient.values[at], (double)weights[row] * want, 1e-5, 1e-6, "a smoothed gradient", at);
        }
      }
      tensor_free(&r.gradient);
      gd_kernels_close(&kernels);
    }
}

/* Each output by itself: values against double, the same bits on every instruction set, also over the logits. */
static void label_loss_matches_double_also_in_place(void **state) {
  (void)state;
  enum { MOST = 300, STRIDE = 304, DOCUMENTS = 5 };
  static const int widths[] = {1, 3, 130, MOST};
  random_state = 71;
  for (int w = 0; w < 4; w++)
    for (int d = 0; d < 2; d++) {
      static float logits[DOCUMENTS * STRIDE], first_loss[DOCUMENTS], labels[DOCUMENTS * MOST];
      static float gradient[DOCUMENTS * MOST], first_gradient[DOCUMENTS * MOST];
      const float document_weights[DOCUMENTS] = {1, 0.5f, 0, 2, 1}, smoothing = d ? 0.25f : 0;
      gd_dtype dtype = d ? GD_BFLOAT16 : GD_FLOAT32;
      int width = widths[w], seen = 0;
      for (int i = 0; i < DOCUMENTS * STRIDE; i++) logits[i] = 8.0f * random_float();
      for (int i = 0; i < DOCUMENTS * width; i++) labels[i] = (float)random_below(3) / 2;
      for (int isa = 0; isa < ISAS; isa++) {
        gd_kernels kernels;
        float work[DOCUMENTS * STRIDE], loss[DOCUMENTS];
        if (!open_isa(isa_names[isa], 2, &kernels)) continue;
        memcpy(work, logits, sizeof work);
        gd_label_loss_args a = {.dtype = dtype, .rows = DOCUMENTS, .columns = width, .logits = work, .ld = STRIDE};
        a.labels = labels;
        a.weights = document_weights;
        a.smoothing = smoothing;
        a.row_loss = loss;
        assert_int_equal(kernels.ops->label_loss(&kernels, &a), GD_OK); /* without a gradient */
        memcpy(seen ? gradient : first_loss, loss, sizeof loss);
        a.dlogits = work;
        a.dld = dtype == GD_BFLOAT16 ? 2 * STRIDE : STRIDE;
        assert_int_equal(kernels.ops->label_loss(&kernels, &a), GD_OK);
        assert_same_bits(loss, first_loss, sizeof loss, "loss of labels");
        for (int i = 0; i < DOCUMENTS * width; i++) {
          int64_t at = i / width * a.dld + i % width;
          gradient[i] = dtype == GD_BFLOAT16 ? gd_bfloat16_to_float(((gd_bfloat16 *)(void *)work)[at]) : work[at];
        }
        if (!seen++) memcpy(first_gradient, gradient, sizeof gradient);
        assert_same_bits(gradient, first_gradient, (size_t)(DOCUMENTS * width) * 4, "gradient of labels");
        gd_kernels_close(&kernels);
      }
      for (int row = 0; row < DOCUMENTS; row++) {
        double sum = 0, scale = (double)document_weights[row] / width;
        for (int c = 0; c < width; c++) {
          double z = (double)logits[row * STRIDE + c];
          double y = (double)labels[row * width + c] * (1 - (double)smoothing) + (double)smoothing / 2;
          sum += fmax(z, 0) - z * y + log1p(exp(-fabs(z)));
          assert_near(dtype, (double)first_gradient[row * width + c], (1 / (1 + exp(-z)) - y) * scale, 1e-5, 1e-6,
                      "gradient of a label", c);
        }
        assert_true(fabs((double)first_loss[row] - sum * scale) < 2e-5 * fmax(1, sum * scale));
      }
    }
}

static void a_not_a_number_reaches_the_loss(void **state) {
  (void)state;
  make_problem();
  logit_values[2][23] = 9.0f; /* the largest, in the lane in which the NaN comes later */
  logit_values[2][23 + 128] = NAN;
  float largest = -INFINITY;
  for (int c = 0; c < VALID; c++) largest = fmaxf(largest, logit_values[2][c]);
  for (int isa = 0; isa < ISAS; isa++) {
    gd_kernels kernels;
    if (!open_isa(isa_names[isa], 1, &kernels)) continue;
    result r = run(&kernels, GD_FLOAT32, 0, ROWS, false);
    assert_true(isnan(r.loss[2]));
    assert_true(r.largest[2] == largest); /* of the others, in whatever order they come */
    assert_true(isfinite(r.loss[1]));
    tensor_free(&r.gradient);
    gd_kernels_close(&kernels);
  }
}

static void loss_sums_are_chains_of_a_sequence(void **state) {
  (void)state;
  random_state = 37;
  float loss[3 * 50], weight[3 * 50], sums[6];
  for (int i = 0; i < 150; i++) {
    loss[i] = random_float();
    weight[i] = random_float();
  }
  gd_kernels kernels = open_best(2);
  gd_loss_sums args = {.sequences = 3, .length = 50, .row_loss = loss, .weights = weight, .sums = sums};
  assert_int_equal(kernels.ops->loss_sums(&kernels, &args), GD_OK);
  for (int s = 0; s < 3; s++) {
    float a = 0.0f, b = 0.0f;
    for (int t = 0; t < 50; t++) {
      a += loss[s * 50 + t];
      b += weight[s * 50 + t];
    }
    assert_true(sums[2 * s] == a && sums[2 * s + 1] == b);
  }
  gd_kernels_close(&kernels);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(loss_and_gradient_match_finite_differences_also_in_place, open_test_device,
                                      close_test_device),
      cmocka_unit_test_setup_teardown(rows_and_isa_change_no_bit, open_test_device, close_test_device),
      cmocka_unit_test_setup_teardown(sums_of_exponentials_have_128_lanes, open_test_device, close_test_device),
      cmocka_unit_test_setup_teardown(one_call_for_all_blocks_changes_no_bit, open_test_device, close_test_device),
      cmocka_unit_test_setup_teardown(a_not_a_number_reaches_the_loss, open_test_device, close_test_device),
      cmocka_unit_test_setup_teardown(smoothed_targets_match_double, open_test_device, close_test_device),
      cmocka_unit_test_setup_teardown(label_loss_matches_double_also_in_place, open_test_device, close_test_device),
      cmocka_unit_test_setup_teardown(loss_sums_are_chains_of_a_sequence, open_test_device, close_test_device),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
