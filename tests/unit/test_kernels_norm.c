/* Normalisation: forward against double, gradients against finite differences of the double forward, bits of every cut. */
#include "kernels_common.h"

typedef struct problem {
  gd_norm kind;
  gd_dtype dtype;
  int64_t rows, width, leaf_rows;
  tensor x, weight, bias, dy, dresidual;
} problem;

typedef struct result {
  tensor y, dx;
  float *mean, *rstd, *dweight, *dbias;
} result;

/* The gradients of weight and bias are not wanted. */
static bool frozen;

static problem new_problem(gd_norm kind, gd_dtype dtype, int64_t rows, int64_t width, int64_t leaf_rows) {
  problem p = {kind,
               dtype,
               rows,
               width,
               leaf_rows,
               tensor_random(dtype, rows * width, 2.0f),
               tensor_random(dtype, width, 1.0f),
               tensor_random(dtype, width, 1.0f),
               tensor_random(dtype, rows * width, 1.0f),
               tensor_random(dtype, rows * width, 1.0f)};
  return p;
}

static void free_problem(problem *p) {
  tensor_free(&p->x);
  tensor_free(&p->weight);
  tensor_free(&p->bias);
  tensor_free(&p->dy);
  tensor_free(&p->dresidual);
}

/* Rows first .. first + rows of the problem. */
static result run(gd_kernels *kernels, const problem *p, int64_t first, int64_t rows) {
  size_t leaves = (size_t)GD_LEAVES(rows, p->leaf_rows), width = (size_t)p->width;
  result r = {tensor_new(p->dtype, rows * p->width),
              tensor_new(p->dtype, rows * p->width),
              calloc((size_t)rows, 4),
              calloc((size_t)rows, 4),
              calloc(leaves * width, 4),
              calloc(leaves * width, 4)};
  size_t offset = (size_t)(first * p->width) * gd_dtype_bytes(p->dtype);
  bool layer = p->kind == GD_NORM_LAYERNORM;
  memcpy(r.dx.data, (char *)p->dresidual.data + offset, (size_t)(rows * p->width) * gd_dtype_bytes(p->dtype));
  gd_norm_args args = {.kind = p->kind, .dtype = p->dtype, .rows = rows, .width = p->width, .epsilon = 1e-5f};
  args.x = (char *)p->x.data + offset;
  args.weight = p->weight.data;
  args.bias = layer ? p->bias.data : NULL;
  args.y = r.y.data;
  args.mean = layer ? r.mean : NULL;
  args.rstd = r.rstd;
  args.dy = (char *)p->dy.data + offset;
  args.dresidual = args.dx = r.dx.data; /* in place, as the trainer does */
  args.leaf_rows = p->leaf_rows;
  args.dweight_leaves = frozen ? NULL : r.dweight;
  args.dbias_leaves = layer && !frozen ? r.dbias : NULL;
  assert_int_equal(kernels->ops->norm_forward(kernels, &args), GD_OK);
  assert_int_equal(kernels->ops->norm_backward(kernels, &args), GD_OK);
  tensor_read(&r.y);
  tensor_read(&r.dx);
  return r;
}

static void free_result(result *r) {
  tensor_free(&r->y);
  tensor_free(&r->dx);
  free(r->mean);
  free(r->rstd);
  free(r->dweight);
  free(r->dbias);
}

/* y of one row in double, straight from the definition. */
static void reference_row(const problem *p, const double *x, const double *weight, const double *bias, double *y) {
  double mean = 0.0, square = 0.0, width = (double)p->width;
  if (p->kind == GD_NORM_LAYERNORM)
    for (int64_t c = 0; c < p->width; c++) mean += x[c] / width;
  for (int64_t c = 0; c < p->width; c++) square += (x[c] - mean) * (x[c] - mean) / width;
  for (int64_t c = 0; c < p->width; c++) {
    y[c] = (x[c] - mean) / sqrt(square + 1e-5f) * weight[c];
    if (p->kind == GD_NORM_LAYERNORM) y[c] += bias[c];
  }
}

/* sum(dy * y) of one row. */
static double objective(const problem *p, const double *x, const double *weight, const double *bias, const float *dy) {
  double y[512], sum = 0.0;
  reference_row(p, x, weight, bias, y);
  for (int64_t c = 0; c < p->width; c++) sum += y[c] * (double)dy[c];
  return sum;
}

/* (f(v + h) - f(v - h)) / 2h by element c of one of the three arrays. */
static double difference(const problem *p, double *v, int64_t c, const double *x, const double *weight, const double *bias,
                         const float *dy) {
  double h = 1e-5, old = v[c];
  v[c] = old + h;
  double up = objective(p, x, weight, bias, dy);
  v[c] = old - h;
  double down = objective(p, x, weight, bias, dy);
  v[c] = old;
  return (up - down) / (2.0 * h);
}

static void check(const problem *p, const result *r) {
  double x[512], weight[512], bias[512], y[512], dweight[512] = {0}, dbias[512] = {0};
  for (int64_t c = 0; c < p->width; c++) {
    weight[c] = (double)p->weight.values[c];
    bias[c] = (double)p->bias.values[c];
  }
  for (int64_t row = 0; row < p->rows; row++) {
    const float *dy = p->dy.values + row * p->width;
    for (int64_t c = 0; c < p->width; c++) x[c] = (double)p->x.values[row * p->width + c];
    reference_row(p, x, weight, bias, y);
    for (int64_t c = 0; c < p->width; c++) {
      int64_t i = row * p->width + c;
      assert_near(p->dtype, (double)r->y.values[i], y[c], 1e-6, 2e-6, "y", i);
      double dx = difference(p, x, c, x, weight, bias, dy);
      assert_near(p->dtype, (double)r->dx.values[i], dx + (double)p->dresidual.values[i], 1e-5, 2e-5, "dx", i);
      dweight[c] += difference(p, weight, c, x, weight, bias, dy);
      dbias[c] += p->kind == GD_NORM_LAYERNORM ? difference(p, bias, c, x, weight, bias, dy) : 0.0;
    }
    if ((row + 1) % p->leaf_rows && row + 1 < p->rows) continue; /* the last leaf may be short */
    for (int64_t c = 0; c < p->width; c++) {
      int64_t i = row / p->leaf_rows * p->width + c;
      assert_near(GD_FLOAT32, (double)r->dweight[i], dweight[c], 1e-5, 2e-5, "dweight", i);
      assert_near(GD_FLOAT32, (double)r->dbias[i], dbias[c], 1e-5, 2e-5, "dbias", i);
      dweight[c] = dbias[c] = 0.0;
    }
  }
}

static void values_and_gradients_match_finite_differences(void **state) {
  (void)state;
  static const int64_t widths[] = {1, 15, 16, 17, 48, 100};
  random_state = 3;
  gd_kernels kernels = open_best(2);
  for (int kind = 0; kind < 2; kind++)
    for (int d = 0; d < 2; d++)
      for (size_t w = 0; w < sizeof widths / sizeof widths[0]; w++) {
        if (kind == 0 && widths[w] == 1) continue; /* the gradient of a constant */
        problem p = new_problem(kind ? GD_NORM_RMSNORM : GD_NORM_LAYERNORM, d ? GD_BFLOAT16 : GD_FLOAT32, 7, widths[w], 3);
        result r = run(&kernels, &p, 0, p.rows);
        check(&p, &r);
        free_result(&r);
        free_problem(&p);
      }
  gd_kernels_close(&kernels);
}

static void rows_threads_and_isa_change_no_bit(void **state) {
  (void)state;
  random_state = 5;
  for (int d = 0; d < 2; d++)
    for (int kind = 0; kind < 2; kind++) {
      gd_dtype dtype = d ? GD_BFLOAT16 : GD_FLOAT32;
      problem p = new_problem(kind ? GD_NORM_RMSNORM : GD_NORM_LAYERNORM, dtype, 60, 333, 4);
      gd_kernels kernels;
      assert_true(open_isa("generic", 1, &kernels));
      result whole = run(&kernels, &p, 0, p.rows);
      gd_kernels_close(&kernels);
      for (int isa = 0; isa < ISAS; isa++) {
        if (!open_isa(isa_names[isa], 3, &kernels)) continue;
        int64_t first = 4 * random_below(5), rows = 4 * (1 + random_below(10));
        result part = run(&kernels, &p, first, rows);
        size_t bytes = gd_dtype_bytes(dtype), row = (size_t)p.width, from = (size_t)first * row, count = (size_t)rows * row;
        assert_same_bits(part.y.data, (char *)whole.y.data + from * bytes, count * bytes, "y");
        assert_same_bits(part.dx.data, (char *)whole.dx.data + from * bytes, count * bytes, "dx");
        assert_same_bits(part.rstd, whole.rstd + first, (size_t)rows * 4, "rstd");
        assert_same_bits(part.mean, whole.mean + first, (size_t)rows * 4, "mean");
        assert_same_bits(part.dweight, whole.dweight + from / 4, count, "dweight");
        assert_same_bits(part.dbias, whole.dbias + from / 4, count, "dbias");
        free_result(&part);
        gd_kernels_close(&kernels);
      }
      free_result(&whole);
      free_problem(&p);
    }
}

static void a_frozen_norm_gives_the_same_gradient_to_what_is_before_it(void **state) {
  (void)state;
  random_state = 11;
  for (int i = 0; i < 4; i++) {
    gd_dtype dtype = i & 1 ? GD_BFLOAT16 : GD_FLOAT32;
    problem p = new_problem(i & 2 ? GD_NORM_RMSNORM : GD_NORM_LAYERNORM, dtype, 40, 333, 8);
    for (int isa = 0; isa < ISAS; isa++) {
      gd_kernels kernels;
      if (!open_isa(isa_names[isa], 2, &kernels)) continue;
      result learns = run(&kernels, &p, 0, p.rows);
      frozen = true;
      result without = run(&kernels, &p, 0, p.rows);
      frozen = false;
      assert_same_bits(without.dx.data, learns.dx.data, (size_t)(p.rows * p.width) * gd_dtype_bytes(dtype), "dx");
      for (int64_t c = 0; c < 5 * p.width; c++) assert_true(without.dweight[c] == 0.0f && without.dbias[c] == 0.0f);
      free_result(&without);
      free_result(&learns);
      gd_kernels_close(&kernels);
    }
    free_problem(&p);
  }
}

/* mean, rstd, y and dx of one row in scalar C, with the definition's order of sums. */
static void scalar_row(const problem *p, int64_t row, float *mean, float *rstd, float *y, float *dx) {
  bool layer = p->kind == GD_NORM_LAYERNORM;
  int64_t width = p->width;
  float normal[1600], g[1600], divisor = (float)width;
  const float *x = p->x.values + row * width, *dy = p->dy.values + row * width;
  *mean = layer ? row_sum_of(x, NULL, width) / divisor : 0.0f;
  for (int64_t c = 0; c < width; c++) normal[c] = x[c] - *mean;
  *rstd = 1.0f / sqrtf(row_sum_of(normal, normal, width) / divisor + 1e-5f);
  for (int64_t c = 0; c < width; c++) {
    float weight = p->weight.values[c];
    normal[c] *= *rstd;
    y[c] = layer ? fmaf(normal[c], weight, p->bias.values[c]) : normal[c] * weight;
    g[c] = dy[c] * weight;
  }
  float g_mean = layer ? row_sum_of(g, NULL, width) / divisor : 0.0f, gx_mean = row_sum_of(g, normal, width) / divisor;
  for (int64_t c = 0; c < width; c++)
    dx[c] = *rstd * fmaf(-normal[c], gx_mean, g[c] - g_mean) + p->dresidual.values[row * width + c];
}

static void sums_along_a_row_have_128_lanes(void **state) {
  (void)state;
  random_state = 7;
  for (int w = 0; w < ROW_WIDTHS; w++)
    for (int i = 0; i < 4; i++) {
      int64_t width = row_widths[w];
      gd_dtype dtype = i & 1 ? GD_BFLOAT16 : GD_FLOAT32;
      problem p = new_problem(i & 2 ? GD_NORM_RMSNORM : GD_NORM_LAYERNORM, dtype, 4, width, 2);
      for (int isa = 0; isa < ISAS; isa++) {
        gd_kernels kernels;
        if (!open_isa(isa_names[isa], 1, &kernels)) continue;
        result r = run(&kernels, &p, 0, p.rows);
        for (int64_t row = 0; row < p.rows; row++) {
          float mean, rstd, y[1600], dx[1600];
          scalar_row(&p, row, &mean, &rstd, y, dx);
          assert_true(r.rstd[row] == rstd && (i & 2 || r.mean[row] == mean));
          for (int64_t c = 0; c < width; c++) {
            assert_true(r.y.values[row * width + c] == stored(dtype, y[c]));
            assert_true(r.dx.values[row * width + c] == stored(dtype, dx[c]));
          }
        }
        free_result(&r);
        gd_kernels_close(&kernels);
      }
      free_problem(&p);
    }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(values_and_gradients_match_finite_differences, open_test_device, close_test_device),
      cmocka_unit_test_setup_teardown(rows_threads_and_isa_change_no_bit, open_test_device, close_test_device),
      cmocka_unit_test_setup_teardown(a_frozen_norm_gives_the_same_gradient_to_what_is_before_it, open_test_device,
                                      close_test_device),
      cmocka_unit_test_setup_teardown(sums_along_a_row_have_128_lanes, open_test_device, close_test_device),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
