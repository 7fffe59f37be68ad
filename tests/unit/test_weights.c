/* Random initial weights: which standard deviation each tensor has (GPT-2's smaller one where a branch ends in the residual),
 * that they are normal as far as the tails, and that no two places share their numbers. The seed is fixed, so nothing here is
 * chance: the limits are those that a right generator passes with the probability given. And that boxes which come in parts
 * come whole. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "io/config/config.h"
#include "trainer/weights.h"

static gd_session *session;
static gd_device *device;
static gd_model models[2]; /* gpt2, llama: both with 3 layers and 4 blocks, so that boxes begin inside a tensor */
static gd_model other;     /* gpt2 of another seed */

static void good(gd_status status) {
  if (status != GD_OK) fail_msg("%s", gd_error_text());
}

/* Phi, and the density. */
static double below(double z) {
  return 0.5 * erfc(-z / sqrt(2.0));
}
static double density(double z) {
  return exp(-0.5 * z * z) / sqrt(2.0 * acos(-1.0));
}

/* The inverse of the normal distribution at (word + 1/2) / 2^32, to float32's last place, in the middle and in both tails. */
static void a_normal_number_is_the_inverse_of_its_word(void **state) {
  (void)state;
  gd_rng rng = gd_rng_make(3, GD_RNG_WEIGHTS, 0, 0, 77);
  double lowest = 0, highest = 0;
  for (uint64_t i = 0; i < 3000000; i++) {
    double z = (double)gd_rng_normal(&rng, i), p = ((double)gd_rng_word(&rng, i) + 0.5) * 0x1p-32;
    double apart = z > 0 ? fabs(below(-z) - (1 - p)) : fabs(below(z) - p); /* of the smaller tail */
    if (!(apart <= density(z) * fabs(z) * 0x1p-24 * 1.01 + 1e-15))
      fail_msg("element %llu: %.9g has %.12g below it, its word says %.12g", (unsigned long long)i, z, below(z), p);
    if (z < lowest) lowest = z;
    if (z > highest) highest = z;
  }
  assert_true(lowest < -4.5 && highest > 4.5); /* the tails were met */
}

/* All elements of a tensor, float32; the caller frees. */
static float *values_of(const gd_model *model, int32_t tensor, int64_t *count) {
  const gd_tensor *t = &model->layout.tensors[tensor];
  float *out = malloc((size_t)(t->rows * t->cols) * sizeof *out);
  gd_owned_box *boxes;
  int32_t boxes_count;
  assert_non_null(out);
  *count = 0;
  good(gd_layout_owned(&model->layout, GD_OWN_ALL, &boxes, &boxes_count));
  for (int32_t i = 0; i < boxes_count; i++) {
    if (boxes[i].tensor != tensor) continue;
    const float *from = (const float *)gd_model_bucket(model, boxes[i].bucket) + boxes[i].offset;
    const gd_box *b = &boxes[i].box;
    for (int64_t r = 0; r < b->rows; r++)
      for (int64_t c = 0; c < b->cols; c++) out[(b->row + r) * t->cols + b->col + c] = from[r * b->cols + c];
    *count += b->rows * b->cols;
  }
  free(boxes);
  assert_int_equal(*count, t->rows * t->cols);
  return out;
}

static bool ends(const char *name, const char *end) {
  size_t n = strlen(name), m = strlen(end);
  return n >= m && strcmp(name + n - m, end) == 0;
}

/* init_std is 0.02 and there are 3 layers: 0.02 / sqrt(6) where a branch joins the residual; 0: a constant. */
static double expected_std(const char *name) {
  if (ends(name, ".bias") || ends(name, "norm1.weight") || ends(name, "norm2.weight") || ends(name, "final_norm.weight"))
    return 0;
  if (ends(name, "attention.projection.weight") || ends(name, "mlp.down.weight")) return 0.02 / sqrt(6.0);
  return 0.02;
}

static int ascending(const void *a, const void *b) {
  float x = *(const float *)a, y = *(const float *)b;
  return x < y ? -1 : x > y;
}

/* Mean, variance, fourth moment and the count beyond three sigma within 4 of their own deviations (6e-5 each),
 * Kolmogorov-Smirnov below 1.95 (one in a thousand). */
static void check_normal(const char *name, float *values, int64_t n, double std) {
  double sum = 0, squares = 0, fourth = 0, root = sqrt((double)n), distance = 0;
  int64_t beyond = 0;
  for (int64_t i = 0; i < n; i++) {
    double z = (double)values[i] / std;
    sum += z, squares += z * z, fourth += z * z * z * z;
    beyond += fabs(z) > 3;
  }
  double tail = 2 * below(-3), count = (double)n;
  const struct {
    const char *what;
    double deviations;
  } tests[] = {{"mean", sum / root},
               {"variance", (squares / count - 1) * root / sqrt(2)},
               {"fourth moment", (fourth / count - 3) * root / sqrt(96)},
               {"share beyond 3 sigma", ((double)beyond - count * tail) / sqrt(count * tail * (1 - tail))}};
  for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
    if (!(fabs(tests[i].deviations) < 4))
      fail_msg("%s: the %s is %.2f deviations off", name, tests[i].what, tests[i].deviations);
  qsort(values, (size_t)n, sizeof *values, ascending);
  int64_t equal = 0;
  for (int64_t i = 1; i < n; i++) equal += values[i] == values[i - 1];
  if (equal > n / 100) fail_msg("%s: %lld of %lld elements come twice", name, (long long)equal, (long long)n);
  for (int64_t i = 0; i < n; i++) {
    double p = below((double)values[i] / std);
    distance = fmax(distance, fmax(p - (double)i / count, (double)(i + 1) / count - p));
  }
  if (!(distance * root < 1.95)) fail_msg("%s: Kolmogorov-Smirnov %.3f", name, distance * root);
}

static void each_tensor_has_its_own_spread_and_is_normal(void **state) {
  (void)state;
  for (int m = 0; m < 2; m++) {
    int residuals = 0, constants = 0;
    for (int32_t t = 0; t < models[m].layout.tensor_count; t++) {
      const char *name = models[m].layout.tensors[t].name;
      double std = expected_std(name);
      int64_t count;
      float *values = values_of(&models[m], t, &count);
      if (std > 0) check_normal(name, values, count, std);
      for (int64_t i = 0; std == 0 && i < count; i++) assert_true(values[i] == (ends(name, ".bias") ? 0.0f : 1.0f));
      residuals += std > 0 && std < 0.02;
      constants += std == 0;
      free(values);
    }
    assert_int_equal(residuals, 6);
    assert_int_equal(constants, m == 0 ? 3 * 10 + 2 : 3 * 2 + 1);
  }
}

/* Correlation of two runs of numbers, in deviations of what independent ones have. */
static double correlation(const float *a, const float *b, int64_t n) {
  double ab = 0, aa = 0, bb = 0;
  for (int64_t i = 0; i < n; i++) {
    ab += (double)a[i] * (double)b[i];
    aa += (double)a[i] * (double)a[i];
    bb += (double)b[i] * (double)b[i];
  }
  return fabs(ab) / sqrt(aa * bb) * sqrt((double)n);
}

/* Every pair of random tensors of gpt2, its neighbours in a row and in a column, and the same tensor of another seed. */
static void no_two_places_share_their_numbers(void **state) {
  (void)state;
  const gd_layout *layout = &models[0].layout;
  for (int32_t a = 0; a < layout->tensor_count; a++) {
    const gd_tensor *t = &layout->tensors[a];
    if (expected_std(t->name) == 0) continue;
    int64_t n, m;
    float *x = values_of(&models[0], a, &n), *seeded = values_of(&other, a, &m);
    assert_true(correlation(x, seeded, n) < 4.5);
    assert_true(correlation(x, x + 1, n - 1) < 4.5);
    assert_true(correlation(x, x + t->cols, n - t->cols) < 4.5);
    for (int32_t b = a + 1; b < layout->tensor_count; b++) {
      if (expected_std(layout->tensors[b].name) == 0) continue;
      float *y = values_of(&models[0], b, &m);
      double found = correlation(x, y, n < m ? n : m);
      if (!(found < 4.5)) fail_msg("%s and %s: correlated by %.1f deviations", t->name, layout->tensors[b].name, found);
      free(y);
    }
    free(x), free(seeded);
  }
}

/* ---- boxes on their way to the device ---- */

enum { LARGE_ROWS = 9000, LARGE_COLS = 1001, SMALL = 700, BUCKET_ELEMS = LARGE_ROWS * LARGE_COLS };

/* An element tells its box's tensor and where it is in it. */
static float told(int32_t tensor, const gd_tensor *t, int64_t row, int64_t col) {
  return (float)((tensor + 1) * 3 + (row * t->cols + col) % 10007);
}

static gd_status tell_elements(void *context, const gd_tensor *tensors, const gd_owned_box *boxes, int32_t count,
                               float *const *data) {
  int64_t elements = 0, *calls = context;
  for (int32_t i = 0; i < count; i++) {
    const gd_box b = boxes[i].box;
    assert_int_equal(boxes[i].bucket, boxes[0].bucket);
    elements += gd_box_elements(b);
    for (int64_t r = 0; r < b.rows; r++)
      for (int64_t c = 0; c < b.cols; c++)
        data[i][r * b.cols + c] = told(boxes[i].tensor, &tensors[boxes[i].tensor], b.row + r, b.col + c);
  }
  assert_true(elements <= GD_PART_ELEMS);
  ++*calls;
  return GD_OK;
}

static float *wide_place;
static gd_bfloat16 *narrow_place;
static void *place_wide(void *target, const gd_owned_box *box) {
  (void)target;
  return wide_place + (int64_t)box->bucket * BUCKET_ELEMS + box->offset;
}
static void *place_narrow(void *target, const gd_owned_box *box) {
  (void)target;
  return narrow_place + (int64_t)box->bucket * BUCKET_ELEMS + box->offset;
}

/* A table of more than one part, its lower half in two columns of boxes; then a bucket of many small boxes with gaps. */
static void boxes_come_in_parts_and_each_element_to_its_place(void **state) {
  (void)state;
  const gd_tensor tensors[] = {{.name = "large", .dims = 2, .rows = LARGE_ROWS, .cols = LARGE_COLS},
                               {.name = "small", .dims = 2, .rows = SMALL, .cols = 3}};
  static gd_owned_box boxes[SMALL + 3];
  const int64_t half = LARGE_ROWS / 2, left = 400, rest = LARGE_ROWS - half;
  boxes[0] = (gd_owned_box){.tensor = 0, .bucket = 0, .box = {0, half, 0, LARGE_COLS}, .offset = 0};
  boxes[1] = (gd_owned_box){.tensor = 0, .bucket = 0, .box = {half, rest, 0, left}, .offset = half * LARGE_COLS};
  boxes[2] = (gd_owned_box){
      .tensor = 0, .bucket = 0, .box = {half, rest, left, LARGE_COLS - left}, .offset = half * LARGE_COLS + rest * left};
  for (int32_t i = 0; i < SMALL; i++)
    boxes[3 + i] = (gd_owned_box){.tensor = 1, .bucket = 1, .box = {i, 1, 0, 3}, .offset = (int64_t)i * 8};
  wide_place = calloc(2 * (size_t)BUCKET_ELEMS, sizeof *wide_place);
  narrow_place = calloc(2 * (size_t)BUCKET_ELEMS, sizeof *narrow_place);
  assert_non_null(wide_place);
  assert_non_null(narrow_place);
  int64_t calls = 0;
  const gd_parts wide = {device, GD_FLOAT32, tensors, tell_elements, &calls, place_wide, NULL};
  const gd_parts narrow = {device, GD_BFLOAT16, tensors, tell_elements, &calls, place_narrow, NULL};
  good(gd_parts_read(&wide, boxes, SMALL + 3));
  assert_int_equal(calls, 3 + 3); /* 4190 rows, 310 and the left columns, the right ones; 256, 256 and 188 boxes */
  good(gd_parts_read(&narrow, boxes, SMALL + 3));
  for (int32_t i = 0; i < SMALL + 3; i++) {
    const gd_box b = boxes[i].box;
    for (int64_t r = 0; r < b.rows; r++)
      for (int64_t c = 0; c < b.cols; c++) {
        int64_t at = (int64_t)boxes[i].bucket * BUCKET_ELEMS + boxes[i].offset + r * b.cols + c;
        float want = told(boxes[i].tensor, &tensors[boxes[i].tensor], b.row + r, b.col + c);
        if (wide_place[at] != want || narrow_place[at] != gd_bfloat16_from_float(want))
          fail_msg("box %d, row %lld, column %lld", i, (long long)r, (long long)c);
      }
  }
  for (int32_t i = 0; i < SMALL; i++) assert_true(wide_place[BUCKET_ELEMS + i * 8 + 3] == 0); /* padding */
  free(wide_place), free(narrow_place);
}

static void open_model(const char *shape, const char *seed, gd_model *out) {
  gd_spec spec;
  gd_mesh mesh;
  const gd_config_override overrides[] = {{"--set", "run.seed", seed}, {"--set", "run.threads", "2"}};
  good(gd_config_load_text("shape", shape, strlen(shape), overrides, 2, &spec, 0));
  good(gd_spec_resolve(&spec, 1));
  assert_int_equal(spec.parallel.blocks, 4);
  good(gd_mesh_init(&mesh, 1, 1, 1, 1));
  good(gd_model_open(session, device, &spec, &mesh, false, 0, out));
  good(gd_model_read_weights(out, gd_model_random_weights, out));
}

static int open_all(void **state) {
  (void)state;
  static const char gpt2[] =
      "model: {layers: 3, heads: 4, width: 128, context: 64, vocabulary: 500, init_std: 0.02}\n"
      "precision: {dtype: fp32}\n"
      "numerics: invariant\n"
      "batch: {global: 1}\n";
  static const char llama[] =
      "model: {layers: 3, heads: 8, kv_heads: 4, head_size: 16, width: 128, ffn: 256, context: 64, vocabulary: 500, init_std: "
      "0.02, norm: "
      "rmsnorm,\n"
      "        activation: swiglu, position: rotary, bias: false, tied_head: false}\n"
      "precision: {dtype: fp32}\n"
      "numerics: invariant\n"
      "batch: {global: 1}\n";
  gd_spec spec;
  gd_config_defaults(&spec);
  spec.run.device = GD_DEVICE_CPU;
  if (gd_session_open(&session) != GD_OK || gd_session_open_device(session, &spec, &device) != GD_OK) return -1;
  open_model(gpt2, "11", &models[0]);
  open_model(llama, "12", &models[1]);
  open_model(gpt2, "13", &other);
  return 0;
}

static int close_all(void **state) {
  (void)state;
  gd_model_close(&models[0]);
  gd_model_close(&models[1]);
  gd_model_close(&other);
  gd_session_close(session);
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_normal_number_is_the_inverse_of_its_word),
      cmocka_unit_test(each_tensor_has_its_own_spread_and_is_normal),
      cmocka_unit_test(no_two_places_share_their_numbers),
      cmocka_unit_test(boxes_come_in_parts_and_each_element_to_its_place),
  };
  return cmocka_run_group_tests(tests, open_all, close_all);
}
