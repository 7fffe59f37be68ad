/* pairwise.c - a sum of doubles in NumPy's order. */
#include "trainer/scores/pairwise.h"

enum { CHAINS = 8, BLOCK = 128 };

double gd_pairwise_sum(const double *values, int64_t count) {
  if (count < CHAINS) {
    double sum = 0;
    for (int64_t i = 0; i < count; i++) sum += values[i];
    return sum;
  }
  if (count <= BLOCK) {
    double chain[CHAINS];
    int64_t i = CHAINS;
    for (int c = 0; c < CHAINS; c++) chain[c] = values[c];
    for (; i < count - count % CHAINS; i += CHAINS)
      for (int c = 0; c < CHAINS; c++) chain[c] += values[i + c];
    double sum = ((chain[0] + chain[1]) + (chain[2] + chain[3])) + ((chain[4] + chain[5]) + (chain[6] + chain[7]));
    for (; i < count; i++) sum += values[i];
    return sum;
  }
  int64_t half = count / 2 - count / 2 % CHAINS;
  return gd_pairwise_sum(values, half) + gd_pairwise_sum(values + half, count - half);
}
