/* order.c - which source and which window a draw is. */
#include "io/data/order.h"

#include <math.h>

__extension__ typedef unsigned __int128 wide;

enum { ROUNDS = 6 };

int64_t gd_order_permute(const gd_rng *rng, int64_t count, int64_t index) {
  if (count < 2) return 0;
  int half = 1;
  while (half < 31 && ((int64_t)1 << 2 * half) < count) half++;
  uint32_t mask = (uint32_t)(((uint64_t)1 << half) - 1);
  uint64_t value = (uint64_t)index;
  do {
    uint32_t left = (uint32_t)(value >> half) & mask, right = (uint32_t)value & mask;
    for (uint64_t round = 0; round < ROUNDS; round++) {
      uint32_t words[4];
      gd_rng_words(rng, round << 32 | right, words);
      uint32_t mixed = left ^ (words[0] & mask);
      left = right;
      right = mixed;
    }
    value = (uint64_t)left << half | right;
  } while (value >= (uint64_t)count);
  return (int64_t)value;
}

int64_t gd_order_uniform(const gd_rng *rng, int64_t count, int64_t index) {
  uint32_t words[4];
  gd_rng_words(rng, (uint64_t)index, words);
  uint64_t bits = (uint64_t)words[0] << 32 | words[1];
  return (int64_t)(uint64_t)((wide)bits * (wide)(uint64_t)count >> 64);
}

void gd_mixture_make(gd_mixture *mixture, const float *weights, int32_t sources) {
  mixture->sources = sources;
  double left = 0;
  for (int32_t k = sources - 1; k >= 0; k--) {
    left += (double)weights[k];
    double share = left > 0 ? (double)weights[k] / left : 0;
    mixture->share[k] = k == sources - 1 ? (uint64_t)1 << 32 : (uint64_t)nearbyint(share * 0x1p32);
  }
}

void gd_mixture_place(const gd_mixture *mixture, int64_t draw, int32_t *source, int64_t *index) {
  uint64_t at = (uint64_t)draw;
  int32_t k = 0;
  for (; k < mixture->sources - 1; k++) {
    uint64_t before = (uint64_t)((wide)at * mixture->share[k] >> 32);
    uint64_t behind = (uint64_t)((wide)(at + 1) * mixture->share[k] >> 32);
    if (behind > before) {
      at = before;
      break;
    }
    at -= before;
  }
  *source = k;
  *index = (int64_t)at;
}
