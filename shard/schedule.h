/* schedule.h - the order in which a stage of the pipeline goes through its micro-batches: a pure function. shard/plan.h makes a
 * step table of it.
 */
#ifndef GD_SHARD_SCHEDULE_H
#define GD_SHARD_SCHEDULE_H

#include "shard/spec.h"

/* One micro-batch through the layers of one chunk, forward (and, where it is the last chunk, the head) or backward. */
typedef struct gd_pass {
  bool backward;
  int32_t micro, chunk;
} gd_pass;

/* The passes of one stage of one chunk over `micros` micro-batches. passes has room for 2 * micros. */
void gd_schedule_passes(gd_pass_order order, int32_t micros, gd_pass *passes);
/* Micro-batches that are alive at once, at most: forward and not yet backward. */
int32_t gd_schedule_slots(gd_pass_order order, int32_t micros);

#endif
