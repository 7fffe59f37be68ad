/* order.h - which source and which window a draw is: pure functions, nothing stored. All local, no faults. */
#ifndef GD_IO_DATA_ORDER_H
#define GD_IO_DATA_ORDER_H

#include <stdint.h>

#include "shard/base/rng.h"

/* A permutation of 0 .. count - 1 keyed by `rng`: a balanced Feistel network over the next even power of two, walked along its
 * cycle until it lands below count (Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002). */
int64_t gd_order_permute(const gd_rng *rng, int64_t count, int64_t index);

/* A uniform integer in 0 .. count - 1 for element `index` of the stream. */
int64_t gd_order_uniform(const gd_rng *rng, int64_t count, int64_t index);

/* A mixture: share[k] is the weight of source k among sources k .. sources - 1, in units of 2^-32. */
enum { GD_ORDER_SOURCES = 16 };
typedef struct gd_mixture {
  int32_t sources;
  uint64_t share[GD_ORDER_SOURCES];
} gd_mixture;
void gd_mixture_make(gd_mixture *mixture, const float *weights, int32_t sources);

/* Draw `draw` of the mixture is draw *index of source *source. Each source's draws are spread evenly: of the first n draws
 * source 0 gets its share of n rounded down, the rest goes to the others by the same rule. */
void gd_mixture_place(const gd_mixture *mixture, int64_t draw, int32_t *source, int64_t *index);

#endif
