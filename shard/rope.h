/* rope.h - how the frequencies of rotary positions are changed for a context longer than the first one. A pair of frequency f
 * (radians a token) turns n = original * f / (2 pi) times in the original context.
 *   plain   f
 *   linear  f / factor (Chen et al. 2023)
 *   llama3  f where n >= high, f / factor where n <= low, between these (1 - s) f / factor + s f, s = (n - low) / (high - low)
 *           (Llama 3.1) */
#ifndef GD_SHARD_ROPE_H
#define GD_SHARD_ROPE_H

#include <stdint.h>

typedef enum gd_rope_kind { GD_ROPE_PLAIN, GD_ROPE_LINEAR, GD_ROPE_LLAMA3 } gd_rope_kind;

typedef struct gd_rope {
  gd_rope_kind kind;
  float factor;     /* linear, llama3 */
  float low, high;  /* llama3: turns in the original context */
  int32_t original; /* llama3: tokens of it */
} gd_rope;

#endif
