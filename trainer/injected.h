/* injected.h - the faults of shard/base/inject.h that strike numbers: a NaN in a gradient, a bit of a weight. */
#ifndef GD_TRAINER_INJECTED_H
#define GD_TRAINER_INJECTED_H

#include "shard/base/inject.h"
#include "trainer/reduce.h"

/* Are there tensors of the names that faults are asked for in? GD_USAGE. Local. */
GD_CHECKED gd_status gd_injected_check(const gd_layout *layout);
/* Before this rank's sums of a bucket's gradient go to the others: enqueues NaNs in the first of its slots, on the reducer's
 * stream. `first`: no bucket was summed before in this step. Local. */
GD_CHECKED gd_status gd_injected_nan(const gd_gradient_reducer *reducer, int32_t bucket, const gd_tree_counter *counter,
                                     bool first);
/* Is there a bit to turn on any rank? */
bool gd_injected_flips(void);
/* Nothing is under way: turns a bit of the weights that this rank computes with. Local. */
GD_CHECKED gd_status gd_injected_flip(gd_model *model);

#endif
