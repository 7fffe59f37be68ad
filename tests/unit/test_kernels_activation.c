/* GELU, SwiGLU and rotary positions: values in double, gradients by finite differences, the same bits in every cut. */
#include "kernels_common.h"

static double gelu_tanh(double x) {
  return 0.5 * x * (1.0 + tanh(sqrt(2.0 / 3.14159265358979324) * (x + 0.044715 * x * x * x)));
}
static double gelu(double x) {
  return 0.5 * x * (1.0 + erf(x / sqrt(2.0)));
}
static double silu(double x) {
  return x / (1.0 + exp(-x));
}

typedef struct result {
  tensor y, dx;
} result;

/* x and dy are whole tensors; rows first .. first + rows of them. */
static result run(gd_kernels *kernels, gd_activation kind, const tensor *x, const tensor *dy, int64_t width, int64_t first,
                  int64_t rows) {
  int64_t in = kind == GD_ACTIVATION_SWIGLU ? 2 * width : width;
  size_t bytes = gd_dtype_bytes(x->dtype);
  result r = {tensor_new(x->dtype, rows * width), tensor_new(x->dtype, rows * in)};
  memcpy(r.dx.data, (char *)x->data + (size_t)(first * in) * bytes, (size_t)(rows * in) * bytes);
  gd_activation_args args = {.kind = kind, .dtype = x->dtype, .rows = rows, .width = width, .x = r.dx.data, .y = r.y.data};
  args.dy = (char *)dy->data + (size_t)(first * width) * bytes;
  args.dx = r.dx.data; /* in place */
  assert_int_equal(kernels->ops->activation_forward(kernels, &args), GD_OK);
  assert_int_equal(kernels->ops->activation_backward(kernels, &args), GD_OK);
  tensor_read(&r.y);
  tensor_read(&r.dx);
  return r;
}

static void check(gd_activation kind, const tensor *x, const tensor *dy, int64_t width, const result *r) {
  double h = 1e-5;
  for (int64_t i = 0; i < r->y.elems; i++) {
    double g = (double)dy->values[i];
    if (kind == GD_ACTIVATION_SWIGLU) {
      int64_t gate_at = i / width * 2 * width + i % width, up_at = gate_at + width;
      double gate = (double)x->values[gate_at], up = (double)x->values[up_at];
      assert_near(x->dtype, (double)r->y.values[i], silu(gate) * up, 1e-6, 1e-12, "swiglu", i);
      double slope = (silu(gate + h) - silu(gate - h)) / (2.0 * h);
      assert_near(x->dtype, (double)r->dx.values[gate_at], g * up * slope, 1e-6, 1e-7, "swiglu gate gradient", i);
      assert_near(x->dtype, (double)r->dx.values[up_at], g * silu(gate), 1e-6, 1e-12, "swiglu up gradient", i);
      continue;
    }
    double (*f)(double) = kind == GD_ACTIVATION_GELU ? gelu : gelu_tanh;
    double v = (double)x->values[i];
    assert_near(x->dtype, (double)r->y.values[i], f(v), 1e-6, 3e-7 * fabs(v), "gelu", i);
    assert_near(x->dtype, (double)r->dx.values[i], g * (f(v + h) - f(v - h)) / (2.0 * h), 2e-6, 1e-6, "gelu gradient", i);
  }
}

static const gd_activation kinds[] = {GD_ACTIVATION_GELU_TANH, GD_ACTIVATION_GELU, GD_ACTIVATION_SWIGLU};

static void activations_and_gradients_match_finite_differences(void **state) {
  (void)state;
  random_state = 21;
  gd_kernels kernels = open_best(2);
  for (int k = 0; k < 3; k++)
    for (int d = 0; d < 2; d++) {
      int64_t rows = 37, width = 53, in = kinds[k] == GD_ACTIVATION_SWIGLU ? 2 * width : width;
      tensor x = tensor_random(d ? GD_BFLOAT16 : GD_FLOAT32, rows * in, 6.0f);
      tensor dy = tensor_random(d ? GD_BFLOAT16 : GD_FLOAT32, rows * width, 1.0f);
      result r = run(&kernels, kinds[k], &x, &dy, width, 0, rows);
      check(kinds[k], &x, &dy, width, &r);
      tensor_free(&r.y);
      tensor_free(&r.dx);
      tensor_free(&x);
      tensor_free(&dy);
    }
  gd_kernels_close(&kernels);
}

static void activations_have_the_same_bits_in_every_cut_and_isa(void **state) {
  (void)state;
  random_state = 23;
  for (int k = 0; k < 3; k++)
    for (int d = 0; d < 2; d++) {
      gd_dtype dtype = d ? GD_BFLOAT16 : GD_FLOAT32;
      int64_t rows = 200, width = 331, in = kinds[k] == GD_ACTIVATION_SWIGLU ? 2 * width : width;
      size_t bytes = gd_dtype_bytes(dtype);
      tensor x = tensor_random(dtype, rows * in, 6.0f), dy = tensor_random(dtype, rows * width, 1.0f);
      for (int64_t i = 0; i < x.elems; i += 997)
        x.values[i] = i % 2 ? 0x1p-130f : -0.0f; /* a subnormal number has its own way */
      tensor_write(&x);
      gd_kernels kernels;
      assert_true(open_isa("generic", 1, &kernels));
      result whole = run(&kernels, kinds[k], &x, &dy, width, 0, rows);
      gd_kernels_close(&kernels);
      for (int isa = 0; isa < ISAS; isa++) {
        if (!open_isa(isa_names[isa], 3, &kernels)) continue;
        int64_t first = random_below(20), count = 1 + random_below(rows - first);
        result part = run(&kernels, kinds[k], &x, &dy, width, first, count);
        assert_same_bits(part.y.data, (char *)whole.y.data + (size_t)(first * width) * bytes, (size_t)(count * width) * bytes,
                         "y");
        assert_same_bits(part.dx.data, (char *)whole.dx.data + (size_t)(first * in) * bytes, (size_t)(count * in) * bytes,
                         "dx");
        tensor_free(&part.y);
        tensor_free(&part.dx);
        gd_kernels_close(&kernels);
      }
      tensor_free(&whole.y);
      tensor_free(&whole.dx);
      tensor_free(&x);
      tensor_free(&dy);
    }
}

static void extreme_inputs_stay_finite(void **state) {
  (void)state;
  gd_kernels kernels = open_best(1);
  for (int k = 0; k < 3; k++) {
    tensor x = tensor_new(GD_FLOAT32, 64), dy = tensor_new(GD_FLOAT32, 32);
    for (int i = 0; i < 64; i++) x.values[i] = i % 2 ? 1e4f : -1e4f;
    for (int i = 0; i < 32; i++) dy.values[i] = 1.0f;
    tensor_write(&x);
    tensor_write(&dy);
    result r = run(&kernels, kinds[k], &x, &dy, 16, 0, 2);
    for (int64_t i = 0; i < r.y.elems; i++) assert_true(isfinite(r.y.values[i]));
    for (int64_t i = 0; i < r.dx.elems; i++) assert_true(isfinite(r.dx.values[i]));
    tensor_free(&r.y);
    tensor_free(&r.dx);
    tensor_free(&x);
    tensor_free(&dy);
  }
  gd_kernels_close(&kernels);
}

static gd_rotary rotary_args(tensor *x, int64_t rows, int32_t heads, int32_t head_size) {
  gd_rotary args = {.dtype = x->dtype, .rows = rows, .ld = heads * head_size + 3, .heads = heads, .head_size = head_size};
  args.theta = 10000.0f;
  args.x = x->data;
  return args;
}

static void rotary_positions_turn_pairs_by_their_angle_at_any_position(void **state) {
  (void)state;
  static const int32_t sizes[] = {2, 8, 30, 64, 96};
  random_state = 27;
  gd_kernels kernels = open_best(2);
  for (size_t s = 0; s < 5; s++)
    for (int d = 0; d < 2; d++) {
      int32_t heads = 3, half = sizes[s] / 2, positions[9];
      int64_t rows = 9, ld = heads * sizes[s] + 3;
      tensor x = tensor_random(d ? GD_BFLOAT16 : GD_FLOAT32, rows * ld, 1.0f), before = tensor_new(x.dtype, x.elems);
      memcpy(before.values, x.values, (size_t)x.elems * 4);
      for (int r = 0; r < 9; r++) positions[r] = (int32_t)random_below(r < 4 ? 100 : 1000000);
      gd_rotary args = rotary_args(&x, rows, heads, sizes[s]);
      args.positions = positions;
      assert_int_equal(kernels.ops->rotary(&kernels, &args), GD_OK);
      tensor_read(&x);
      for (int64_t row = 0; row < rows; row++)
        for (int64_t c = 0; c < ld; c++) {
          int64_t i = row * ld + c;
          if (c >= heads * sizes[s]) {
            assert_true(x.values[i] == before.values[i]);
            continue;
          }
          int64_t e = c % sizes[s], low = i - (e >= half ? half : 0);
          double angle = positions[row] * pow(10000.0, -2.0 * (double)(e % half) / sizes[s]);
          double a = (double)before.values[low], b = (double)before.values[low + half];
          double want = e < half ? a * cos(angle) - b * sin(angle) : b * cos(angle) + a * sin(angle);
          assert_near(x.dtype, (double)x.values[i], want, 1e-6, 4e-7, "rotary", i);
        }
      tensor_free(&x);
      tensor_free(&before);
    }
  gd_kernels_close(&kernels);
}

static void the_inverse_rotation_gives_the_old_values_and_periods_repeat(void **state) {
  (void)state;
  random_state = 29;
  for (int isa = 0; isa < ISAS; isa++) {
    gd_kernels kernels;
    if (!open_isa(isa_names[isa], 2, &kernels)) continue;
    random_state = 29;
    int64_t rows = 24, ld = 2 * 24 + 3;
    tensor x = tensor_random(GD_FLOAT32, rows * ld, 1.0f), old = tensor_new(GD_FLOAT32, rows * ld);
    memcpy(old.values, x.values, (size_t)x.elems * 4);
    for (int64_t c = 0; c < ld; c++) ((float *)x.data)[8 * ld + c] = ((float *)x.data)[c];
    gd_rotary args = rotary_args(&x, rows, 2, 24);
    args.first_position = 100;
    args.period = 8;
    assert_int_equal(kernels.ops->rotary(&kernels, &args), GD_OK);
    assert_same_bits(x.data, (float *)x.data + 8 * ld, (size_t)ld * 4, "row 0 and row 8 of period 8");
    static float first_bits[24 * 51];
    if (isa == 0) memcpy(first_bits, x.data, sizeof first_bits);
    assert_same_bits(first_bits, x.data, sizeof first_bits, "rotary on another instruction set");
    args.inverse = true;
    assert_int_equal(kernels.ops->rotary(&kernels, &args), GD_OK);
    tensor_read(&x);
    for (int64_t i = 9 * ld; i < x.elems; i++) assert_true(fabsf(x.values[i] - old.values[i]) < 1e-6f);
    tensor_free(&x);
    tensor_free(&old);
    gd_kernels_close(&kernels);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(activations_and_gradients_match_finite_differences, open_test_device, close_test_device),
      cmocka_unit_test_setup_teardown(activations_have_the_same_bits_in_every_cut_and_isa, open_test_device, close_test_device),
      cmocka_unit_test_setup_teardown(extreme_inputs_stay_finite, open_test_device, close_test_device),
      cmocka_unit_test_setup_teardown(rotary_positions_turn_pairs_by_their_angle_at_any_position, open_test_device,
                                      close_test_device),
      cmocka_unit_test_setup_teardown(the_inverse_rotation_gives_the_old_values_and_periods_repeat, open_test_device,
                                      close_test_device),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
