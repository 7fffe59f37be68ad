/* exp, log, tanh, erf, sine and cosine of the kernels: error bounds in units in the last place, special values. The
 * functions are header-only, so this program checks them as the generic table compiles them; that all tables agree bit for bit
 * is checked through the kernels that use them (test_kernels_rows.c, test_kernels_loss.c). */
#include "kernels_common.h"
#include "trainer/kernels/cpu/math.h"

/* Distance in units of the last place of `want`. */
static double ulps(float got, double want) {
  int exponent;
  frexp(want, &exponent);
  double unit = fmax(ldexp(1.0, exponent - 24), 0x1p-149);
  return fabs((double)got - want) / unit;
}

static void check_range(vf (*f)(vf), double (*reference)(double), double low, double high, double bound, const char *name) {
  enum { POINTS = 1 << 18 };
  for (int i = 0; i < POINTS; i += VF_LANES) {
    float x[VF_LANES], y[VF_LANES];
    for (int l = 0; l < VF_LANES; l++) x[l] = (float)(low + (high - low) * ((double)(i + l) / POINTS));
    vf_store(y, f(vf_load(x)));
    for (int l = 0; l < VF_LANES; l++) {
      double distance = ulps(y[l], reference((double)x[l]));
      if (!(distance <= bound)) fail_msg("%s(%.9g) is off by %.3f units, bound %.3f", name, (double)x[l], distance, bound);
    }
  }
}

static float at(vf (*f)(vf), float x) {
  float y[VF_LANES];
  vf_store(y, f(vf_set1(x)));
  for (int l = 1; l < VF_LANES; l++) assert_true(memcmp(&y[l], &y[0], sizeof y[0]) == 0);
  return y[0];
}

static double sigmoid(double x) {
  return 1.0 / (1.0 + exp(-x));
}

static void every_function_stays_within_its_error_bound(void **state) {
  (void)state;
  check_range(vf_exp, exp, -103.0, 88.7, 1.1, "exp");
  check_range(vf_exp, exp, -1.0, 1.0, 1.1, "exp");
  check_range(vf_log, log, 1e-30, 1e-28, 1.0, "log");
  check_range(vf_log, log, 0.01, 4.0, 1.0, "log");
  check_range(vf_log, log, 4.0, 1e9, 1.0, "log");
  check_range(vf_tanh, tanh, -11.0, 11.0, 1.5, "tanh");
  check_range(vf_tanh, tanh, -0.7, 0.7, 1.5, "tanh");
  check_range(vf_erf, erf, -5.0, 5.0, 1.5, "erf");
  check_range(vf_erf, erf, -1.1, 1.1, 1.5, "erf");
  check_range(vf_sigmoid, sigmoid, -80.0, 80.0, 3.0, "sigmoid");
}

static void special_values_are_those_of_the_functions(void **state) {
  (void)state;
  float inf = INFINITY;
  assert_true(at(vf_exp, -inf) == 0.0f && at(vf_exp, inf) == inf && at(vf_exp, 0.0f) == 1.0f && isnan(at(vf_exp, NAN)));
  assert_true(at(vf_exp, -103.9f) > 0.0f && at(vf_exp, -104.1f) == 0.0f && at(vf_exp, 88.8f) == inf);
  assert_true(at(vf_log, 0.0f) == -inf && isnan(at(vf_log, -1.0f)) && at(vf_log, inf) == inf && isnan(at(vf_log, NAN)));
  assert_true(at(vf_log, 1.0f) == 0.0f && fabsf(at(vf_log, 1e-42f) - logf(1e-42f)) < 1e-4f);
  assert_true(at(vf_tanh, inf) == 1.0f && at(vf_tanh, -inf) == -1.0f && isnan(at(vf_tanh, NAN)));
  assert_true(signbit(at(vf_tanh, -0.0f)) && at(vf_tanh, -0.0f) == 0.0f);
  assert_true(at(vf_erf, inf) == 1.0f && at(vf_erf, -inf) == -1.0f && isnan(at(vf_erf, NAN)) && at(vf_erf, 0.0f) == 0.0f);
  assert_true(at(vf_sigmoid, -inf) == 0.0f && at(vf_sigmoid, inf) == 1.0f);
}

static void sine_and_cosine_of_a_turn_are_exact_to_their_last_bit_or_so(void **state) {
  (void)state;
  for (uint32_t i = 0; i < 200000; i++) {
    uint32_t turn = i < 64 ? i << 26 : i * 2654435761u;
    vf sine, cosine;
    vf_sincos_turn(vi_set1((int32_t)turn), &sine, &cosine);
    double angle = 6.283185307179586 * (double)turn * 0x1p-32;
    float s[VF_LANES], c[VF_LANES];
    vf_store(s, sine);
    vf_store(c, cosine);
    if (fabs((double)s[0] - sin(angle)) > 1.5e-7 || fabs((double)c[0] - cos(angle)) > 1.5e-7)
      fail_msg("turn %u / 2^32: %.9g %.9g", turn, (double)s[0], (double)c[0]);
  }
}

/* What the bias corrections and the rotary frequencies are made of. */
static void float64_power_logarithm_and_exponential_are_near_the_librarys(void **state) {
  (void)state;
  static const double bases[] = {0.8999999761581421, 0.9990000128746033, 1.0, 0.0};
  static const int64_t powers[] = {0, 1, 2, 7, 1000, 123457};
  for (int b = 0; b < 4; b++)
    for (int p = 0; p < 6; p++) {
      double want = pow(bases[b], (double)powers[p]);
      assert_true(fabs(float64_power(bases[b], powers[p]) - want) <= 1e-10 * want);
    }
  for (int i = 0; i < 20000; i++) {
    double x = ldexp(1.0 + (double)i / 20000, i % 60 - 30), y = (double)i / 100 - 100;
    assert_true(fabs(float64_log(x) - log(x)) <= 4e-16 * fmax(fabs(log(x)), 1.0));
    assert_true(fabs(float64_exp(y) - exp(y)) <= 2e-15 * exp(y));
  }
  assert_true(float64_log(1.0) == 0.0 && float64_exp(0.0) == 1.0);
}

static void a_rotary_turn_is_theta_to_minus_2i_over_d(void **state) {
  (void)state;
  static const double thetas[] = {10000.0, 500000.0, 1.0, 1e6};
  const gd_rope plain = {.kind = GD_ROPE_PLAIN};
  for (int t = 0; t < 4; t++)
    for (int i = 0; i < 64; i++) {
      double got = (double)rotary_turn(float64_log(thetas[t]), &plain, i, 128) * 0x1p-64;
      double want = pow(thetas[t], -2.0 * i / 128) / 6.283185307179586;
      assert_true(fabs(got - want) <= 1e-14 * want + 0x1p-64);
    }
}

/* Llama 3.1 as transformers computes it, by wavelengths. */
static double stretched(double frequency, const gd_rope *rope) {
  double wavelength = 6.283185307179586 / frequency, longest = rope->original / (double)rope->low,
         shortest = rope->original / (double)rope->high;
  if (rope->kind == GD_ROPE_LINEAR) return frequency / (double)rope->factor;
  if (wavelength > longest) return frequency / (double)rope->factor;
  if (wavelength < shortest) return frequency;
  double smooth = (rope->original / wavelength - (double)rope->low) / ((double)rope->high - (double)rope->low);
  return (1 - smooth) * frequency / (double)rope->factor + smooth * frequency;
}

static void a_rotary_turn_is_stretched_as_linear_and_llama3_say(void **state) {
  (void)state;
  static const gd_rope ropes[] = {{GD_ROPE_LINEAR, 2.5f, 1, 4, 8192},
                                  {GD_ROPE_LLAMA3, 8, 1, 4, 8192},
                                  {GD_ROPE_LLAMA3, 32, 1, 4, 8192},
                                  {GD_ROPE_LLAMA3, 4, 0.5f, 3, 100}};
  int between = 0;
  for (int r = 0; r < 4; r++)
    for (int i = 0; i < 64; i++) {
      double frequency = pow(500000.0, -2.0 * i / 128), want = stretched(frequency, &ropes[r]) / 6.283185307179586;
      double got = (double)rotary_turn(float64_log(500000.0), &ropes[r], i, 128) * 0x1p-64;
      assert_true(fabs(got - want) <= 1e-14 * want + 0x1p-64);
      between += ropes[r].kind == GD_ROPE_LLAMA3 && want * 6.3 < frequency && want * 6.2 * (double)ropes[r].factor > frequency;
    }
  assert_true(between > 10);
}

static void bfloat16_rounding_is_to_nearest_even_and_keeps_nan_and_infinity(void **state) {
  (void)state;
  for (uint32_t i = 0; i < 1u << 20; i += VF_LANES) {
    float x[VF_LANES];
    gd_bfloat16 got[VF_LANES];
    for (uint32_t l = 0; l < VF_LANES; l++) {
      uint32_t bits = (i + l) * 4099u + (i >> 4); /* all exponents, both signs, NaN too */
      memcpy(&x[l], &bits, sizeof bits);
    }
    vf_store_bf16(got, vf_load(x));
    for (int l = 0; l < VF_LANES; l++) assert_int_equal(got[l], gd_bfloat16_from_float(x[l]));
  }
  assert_int_equal(gd_bfloat16_from_float(INFINITY), 0x7f80);
  assert_true(isnan(gd_bfloat16_to_float(gd_bfloat16_from_float(NAN))));
  assert_int_equal(gd_bfloat16_from_float(1.00390625f), 0x3f80); /* half way: to even */
  assert_int_equal(gd_bfloat16_from_float(1.01171875f), 0x3f82);
}

static void tails_touch_only_their_lanes(void **state) {
  (void)state;
  for (int n = 0; n <= VF_LANES; n++) {
    float from[VF_LANES], to[VF_LANES];
    gd_bfloat16 half[VF_LANES];
    for (int l = 0; l < VF_LANES; l++) {
      from[l] = (float)(l + 1);
      to[l] = -1.0f;
      half[l] = 0x1234;
    }
    vf x = vf_load_n(from, n);
    float lanes[VF_LANES];
    vf_store(lanes, x);
    vf_store_n(to, x, n);
    vf_store_bf16_n(half, x, n);
    for (int l = 0; l < VF_LANES; l++) {
      assert_true(lanes[l] == (l < n ? from[l] : 0.0f));
      assert_true(to[l] == (l < n ? from[l] : -1.0f));
      assert_int_equal(half[l], l < n ? gd_bfloat16_from_float(from[l]) : 0x1234);
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_function_stays_within_its_error_bound),
      cmocka_unit_test(special_values_are_those_of_the_functions),
      cmocka_unit_test(sine_and_cosine_of_a_turn_are_exact_to_their_last_bit_or_so),
      cmocka_unit_test(float64_power_logarithm_and_exponential_are_near_the_librarys),
      cmocka_unit_test(a_rotary_turn_is_theta_to_minus_2i_over_d),
      cmocka_unit_test(a_rotary_turn_is_stretched_as_linear_and_llama3_say),
      cmocka_unit_test(bfloat16_rounding_is_to_nearest_even_and_keeps_nan_and_infinity),
      cmocka_unit_test(tails_touch_only_their_lanes),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
