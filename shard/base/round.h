/* round.h - sizes in whole units. */
#ifndef GD_SHARD_BASE_ROUND_H
#define GD_SHARD_BASE_ROUND_H

#include <stdint.h>

/* value, or the next larger multiple of unit; both positive. */
static inline int64_t gd_round_up(int64_t value, int64_t unit) {
  return (value + unit - 1) / unit * unit;
}

#endif
