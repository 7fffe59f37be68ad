/* rng.c - the normal distribution of the counter generator; the integer part is inline, for kernels too. */
#include "shard/base/rng.h"

#include <math.h>

/* Ratio of two polynomials of degree 7, highest coefficient first in a[] and b[]. */
static double ratio(const double a[8], const double b[8], double r) {
  double top = a[0], bottom = b[0];
  for (int i = 1; i < 8; i++) {
    top = top * r + a[i];
    bottom = bottom * r + b[i];
  }
  return top / bottom;
}

float gd_rng_normal(const gd_rng *rng, uint64_t index) {
  /* Coefficients: Wichura 1988, routine PPND16. */
  static const double a[8] = {2509.0809287301226727, 33430.575583588128105, 67265.770927008700853, 45921.953931549871457,
                              13731.693765509461125, 1971.5909503065514427, 133.14166789178437745, 3.387132872796366608};
  static const double b[8] = {5226.495278852545925,  28729.085735721942674, 39307.89580009271061,  21213.794301586595867,
                              5394.1960214247511077, 687.1870074920579083,  42.313330701600911252, 1.0};
  static const double c[8] = {7.7454501427834140764e-4, 0.0227238449892691845833, 0.24178072517745061177,
                              1.27045825245236838258,   3.64784832476320460504,   5.7694972214606914055,
                              4.6303378461565452959,    1.42343711074968357734};
  static const double d[8] = {
      1.05075007164441684324e-9, 5.475938084995344946e-4, 0.0151986665636164571966, 0.14810397642748007459,
      0.68976733498510000455,    1.6763848301838038494,   2.05319162663775882187,   1.0};
  double p = ((double)gd_rng_word(rng, index) + 0.5) * 0x1p-32;
  double q = p - 0.5;
  if (fabs(q) <= 0.425) return (float)(q * ratio(a, b, 0.180625 - q * q));
  double r = sqrt(-log(q < 0 ? p : 1.0 - p));
  double x = ratio(c, d, r - 1.6); /* r <= 5, since p >= 2^-33 */
  return (float)(q < 0 ? -x : x);
}
