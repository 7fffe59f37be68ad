/* math.h - exp, log, tanh, erf and what is made of them, the same operations on every kind of device and so the same bits.
 *
 * All is written in vf, vi and vm: 16 lanes on the CPU (cpu/math.h includes this file), one number of a thread on a GPU
 * (cuda/math.cuh). Each operation is one that IEEE 754 rounds exactly, and none is fused that is not written so.
 *
 * Each function reduces its argument exactly or nearly so, then evaluates a polynomial by Horner's rule with fused
 * multiply-add. The coefficients are weighted minimax fits (iteratively reweighted least squares in a Chebyshev basis)
 * made for gptdist. tests/unit/test_kernels_math.c states and checks the error bounds in units in the last place.
 *
 * A NaN stays a NaN; which one, the device decides.
 */
#ifndef GD_TRAINER_KERNELS_MATH_H
#define GD_TRAINER_KERNELS_MATH_H

#include "shard/rope.h"

/* c[0] + x c[1] + ... + x^(n-1) c[n-1]; n >= 1 is a constant, so the loop unrolls. */
VF_INLINE vf vf_polynomial(vf x, const float *c, int n) {
  vf sum = vf_set1(c[n - 1]);
  for (int i = n - 2; i >= 0; i--) sum = vf_fma(sum, x, vf_set1(c[i]));
  return sum;
}

#ifndef VF_HAS_SCALE
/* 2^n, -126 <= n <= 127. */
VF_INLINE vf vf_power_of_two(vi n) {
  return vf_from_bits(vi_shl(vi_add(n, vi_set1(127)), 23));
}

/* x 2^n, rounded once, x in [1/2, 2], -252 <= n <= 254: two factors, as 2^n itself need not be a normal number. */
VF_INLINE vf vf_scale(vf x, vi n) {
  vi half = vi_sra(n, 1);
  return vf_mul(vf_mul(x, vf_power_of_two(half)), vf_power_of_two(vi_sub(n, half)));
}
#endif

/* e^x: 0 at -infinity, +infinity from 88.73 on, subnormal results rounded, NaN stays NaN. */
VF_INLINE vf vf_exp(vf x) {
  static const float c[] = {5.000000101e-01f, 1.666651289e-01f, 4.166618728e-02f, 8.369598410e-03f, 1.395171727e-03f};
  x = vf_max(vf_set1(-104.0f), vf_min(vf_set1(89.0f), x));
  vi n = vf_to_int(vf_mul(x, vf_set1(0x1.715476p+0f)));
  vf whole = vi_to_float(n);
  vf r = vf_fma(whole, vf_set1(-0x1.62e4p-1f), x); /* ln 2 = 0x1.62e4p-1 + 0x1.7f7d1cp-20 */
  r = vf_fma(whole, vf_set1(-0x1.7f7d1cp-20f), r);
  vf r2 = vf_mul(r, r);
  vf p = vf_add(vf_fma(vf_polynomial(r, c, 5), r2, r), vf_set1(1.0f));
  return vf_scale(p, n);
}

/* The natural logarithm: -infinity at 0, NaN below, +infinity stays. */
VF_INLINE vf vf_log(vf x) {
  static const float c[] = {6.666666556e-01f, 4.000035617e-01f, 2.853588976e-01f, 2.361052414e-01f};
  vm tiny = vf_lt(x, vf_set1(0x1p-126f));
  vf scaled = vf_select(tiny, vf_mul(x, vf_set1(0x1p24f)), x);
  /* x = 2^n * m with m in [sqrt(1/2), sqrt(2)) */
  vi bits = vi_sub(vf_bits(scaled), vi_set1(0x3f3504f3));
  vi n = vi_sra(bits, 23);
  vf m = vf_from_bits(vi_add(vi_and(bits, vi_set1(0x007fffff)), vi_set1(0x3f3504f3)));
  vf whole = vf_add(vi_to_float(n), vf_select(tiny, vf_set1(-24.0f), vf_zero()));
  /* log(1 + f) = f - f^2/2 + s (f^2/2 + R(s^2)), s = f / (2 + f): the series of atanh */
  vf f = vf_sub(m, vf_set1(1.0f));
  vf s = vf_div(f, vf_add(f, vf_set1(2.0f)));
  vf z = vf_mul(s, s);
  vf r = vf_mul(z, vf_polynomial(z, c, 4));
  vf square = vf_mul(vf_mul(f, f), vf_set1(0.5f));
  vf low = vf_fma(whole, vf_set1(0x1.7f7d1cp-20f), vf_mul(s, vf_add(square, r)));
  vf result = vf_fma(whole, vf_set1(0x1.62e4p-1f), vf_sub(f, vf_sub(square, low)));
  vf infinity = vf_set1(INFINITY);
  result = vf_select(vf_lt(x, infinity), result, x); /* +infinity and NaN stay */
  result = vf_select(vf_gt(x, vf_zero()), result, vf_select(vf_lt(x, vf_zero()), vf_set1(NAN), vf_neg(infinity)));
  return vf_select(vf_is_nan(x), x, result);
}

VF_INLINE vf vf_tanh(vf x) {
  static const float c[] = {-3.333333091e-01f, 1.333320976e-01f,  -5.394720432e-02f,
                            2.170296732e-02f,  -8.182674313e-03f, 2.147537231e-03f};
  vf a = vf_min(vf_set1(10.0f), vf_abs(x)); /* tanh(10) rounds to 1 */
  vf z = vf_mul(a, a);
  vf near = vf_fma(vf_mul(a, z), vf_polynomial(z, c, 6), a);
  vf e = vf_exp(vf_add(a, a));
  vf far = vf_sub(vf_set1(1.0f), vf_div(vf_set1(2.0f), vf_add(e, vf_set1(1.0f))));
  return vf_with_sign(vf_select(vf_lt(a, vf_set1(0.625f)), near, far), x);
}

VF_INLINE vf vf_erf(vf x) {
  static const float near_c[] = {1.283791671e-01f, -3.761263848e-01f, 1.128378275e-01f, -2.686544582e-02f,
                                 5.221074879e-03f, -8.484711461e-04f, 1.127054457e-04f, -9.680136591e-06f};
  /* the logarithm of 1 - erf on [1, 4] */
  static const float far_c[] = {2.074394160e-04f, -1.129671030e+00f, -6.330338741e-01f, -1.086222261e-01f,
                                2.533939064e-02f, -4.254196489e-03f, 4.515563697e-04f,  -2.256962422e-05f};
  vf a = vf_min(vf_set1(4.0f), vf_abs(x)); /* erf(4) rounds to 1 */
  vf near = vf_fma(a, vf_polynomial(vf_mul(a, a), near_c, 8), a);
  vf far = vf_sub(vf_set1(1.0f), vf_exp(vf_polynomial(a, far_c, 8)));
  return vf_with_sign(vf_select(vf_lt(a, vf_set1(1.0f)), near, far), x);
}

/* 1 / (1 + e^-x). */
VF_INLINE vf vf_sigmoid(vf x) {
  return vf_div(vf_set1(1.0f), vf_add(vf_set1(1.0f), vf_exp(vf_neg(x))));
}

/* Sine and cosine of turn / 2^32 of a whole turn (turn as a signed or unsigned 32-bit fraction: it wraps). */
VF_INLINE void vf_sincos_turn(vi turn, vf *sine, vf *cosine) {
  static const float sine_c[] = {-1.666665423e-01f, 8.332131488e-03f, -1.951083813e-04f};
  static const float cosine_c[] = {4.166664565e-02f, -1.388730602e-03f, 2.443120300e-05f};
  vi quadrant = vi_srl(vi_add(turn, vi_set1(1 << 29)), 30);
  vf a = vf_mul(vi_to_float(vi_sub(turn, vi_shl(quadrant, 30))), vf_set1(0x1.921fb6p-30f)); /* in [-pi/4, pi/4) */
  vf z = vf_mul(a, a);
  vf s = vf_fma(vf_mul(a, z), vf_polynomial(z, sine_c, 3), a);
  vf c = vf_fma(vf_mul(z, z), vf_polynomial(z, cosine_c, 3), vf_fma(z, vf_set1(-0.5f), vf_set1(1.0f)));
  vm swap = vi_eq(vi_and(quadrant, vi_set1(1)), vi_set1(1));
  vi sine_sign = vi_shl(vi_and(quadrant, vi_set1(2)), 30);
  vi cosine_sign = vi_shl(vi_and(vi_add(quadrant, vi_set1(1)), vi_set1(2)), 30);
  *sine = vf_from_bits(vi_xor(vf_bits(vf_select(swap, c, s)), sine_sign));
  *cosine = vf_from_bits(vi_xor(vf_bits(vf_select(swap, s, c)), cosine_sign));
}

/* ---- activations ---- */

/* 0.5 (1 + tanh(u)) = 1 / (1 + e^(-2u)), u = sqrt(2/pi) (x + 0.044715 x^3). Returns e^(-2u), kept finite. */
VF_INLINE vf gelu_tanh_exp(vf x) {
  vf inner = vf_mul(x, vf_fma(vf_mul(x, x), vf_set1(0.044715f), vf_set1(1.0f)));
  return vf_exp(vf_min(vf_set1(88.0f), vf_mul(inner, vf_set1(-1.5957691216057308f))));
}

VF_INLINE vf gelu_tanh(vf x) {
  return vf_div(x, vf_add(vf_set1(1.0f), gelu_tanh_exp(x)));
}

/* s + x s (1 - s) 2u', s = 0.5 (1 + tanh(u)). */
VF_INLINE vf gelu_tanh_slope(vf x) {
  vf e = gelu_tanh_exp(x);
  vf s = vf_div(vf_set1(1.0f), vf_add(vf_set1(1.0f), e));
  vf slope = vf_fma(vf_mul(x, x), vf_set1(0.21406444881780748f), vf_set1(1.5957691216057308f)); /* 2u' */
  return vf_fma(vf_mul(x, vf_mul(s, vf_mul(s, e))), slope, s);
}

/* (1 + erf(x / sqrt 2)) / 2 */
VF_INLINE vf normal_cdf(vf x) {
  return vf_fma(vf_erf(vf_mul(x, vf_set1(0.70710678118654752f))), vf_set1(0.5f), vf_set1(0.5f));
}

VF_INLINE vf gelu(vf x) {
  return vf_mul(x, normal_cdf(x));
}

VF_INLINE vf gelu_slope(vf x) {
  vf density = vf_mul(vf_exp(vf_mul(vf_mul(x, x), vf_set1(-0.5f))), vf_set1(0.39894228040143268f));
  return vf_fma(x, density, normal_cdf(x));
}

/* ---- float64, one number ---- */

/* x^n, n >= 0: the order of the multiplications is that of the bits of n. */
VF_INLINE double float64_power(double x, int64_t n) {
  double power = 1.0;
  for (; n > 0; n >>= 1) {
    if (n & 1) power *= x;
    x *= x;
  }
  return power;
}

/* c[0] + x c[1] + ... + x^(n-1) c[n-1]. */
VF_INLINE double float64_polynomial(double x, const double *c, int n) {
  double sum = c[n - 1];
  for (int i = n - 2; i >= 0; i--) sum = sum * x + c[i];
  return sum;
}

/* The natural logarithm of a normal number above 0, to some units in the last place. */
VF_INLINE double float64_log(double x) {
  static const double c[] = {1.0,      1.0 / 3,  1.0 / 5,  1.0 / 7,  1.0 / 9,  1.0 / 11, 1.0 / 13,
                             1.0 / 15, 1.0 / 17, 1.0 / 19, 1.0 / 21, 1.0 / 23, 1.0 / 25};
  uint64_t bits;
  double m;
  memcpy(&bits, &x, sizeof bits);
  int64_t n = (int64_t)(bits >> 52) - 1023;
  bits = (bits & 0xfffffffffffffu) | 0x3ff0000000000000u;
  memcpy(&m, &bits, sizeof m); /* x = 2^n m, m in [1, 2), then in [sqrt(1/2), sqrt(2)] */
  if (m > 1.4142135623730951) {
    m = m * 0.5;
    n++;
  }
  double s = (m - 1.0) / (m + 1.0); /* log m = 2 atanh(s) */
  double low = (double)n * 0x1.a39ef35793c76p-33 + 2.0 * s * float64_polynomial(s * s, c, 13);
  return (double)n * 0x1.62e42feep-1 + low; /* log 2 in two parts, the product with the first exact */
}

/* e^x, -700 <= x <= 700, to some units in the last place. */
VF_INLINE double float64_exp(double x) {
  static const double c[] = {
      1.0,         1.0,          1.0 / 2,       1.0 / 6,        1.0 / 24,        1.0 / 120,        1.0 / 720,        1.0 / 5040,
      1.0 / 40320, 1.0 / 362880, 1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800, 1.0 / 87178291200};
  int64_t n = (int64_t)(x * 1.4426950408889634 + (x < 0.0 ? -0.5 : 0.5));
  double r = x - (double)n * 0x1.62e42feep-1 - (double)n * 0x1.a39ef35793c76p-33, power;
  uint64_t bits = (uint64_t)(n + 1023) << 52;
  memcpy(&power, &bits, sizeof power);
  return float64_polynomial(r, c, 15) * power;
}

/* A rotary frequency, radians a token, as shard/rope.h changes it. */
VF_INLINE double rotary_stretched(double frequency, const gd_rope *rope) {
  if (rope->kind == GD_ROPE_PLAIN) return frequency;
  double slow = frequency / (double)rope->factor;
  if (rope->kind == GD_ROPE_LINEAR) return slow;
  double turns = (double)rope->original * frequency / 6.283185307179586;
  double share = (turns - (double)rope->low) / ((double)rope->high - (double)rope->low);
  if (share <= 0.0) return slow;
  return share >= 1.0 ? frequency : (1.0 - share) * slow + share * frequency;
}

/* How far pair i of a head turns from one position to the next: theta^(-2i/D) / (2 pi) where rope is plain, in 2^-64 of a whole
 * turn. Times a position, modulo 2^64, it is the angle: no position loses accuracy. */
VF_INLINE uint64_t rotary_turn(double log_theta, const gd_rope *rope, int64_t i, int64_t head_size) {
  double frequency = rotary_stretched(float64_exp(log_theta * (-2.0 * (double)i / (double)head_size)), rope);
  return (uint64_t)(frequency / 6.283185307179586 * 0x1p64);
}

#endif
