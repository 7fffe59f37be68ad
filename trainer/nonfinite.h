/* nonfinite.h - where a step's NaN or infinity comes from: the step is done once more, and every rank looks at its own
 * gradients before they are summed with those of others, for in the sum nobody can tell whose it was. */
#ifndef GD_TRAINER_NONFINITE_H
#define GD_TRAINER_NONFINITE_H

#include "trainer/step.h"

enum { GD_NONFINITE_BYTES = 512 };

/* Of step `number`, whose update was skipped, on the batch that it had (gd_step_run's): one clause that names the tensor, the
 * first in the order of the backward pass, and the lowest rank of those that have it there. Every rank gets the same. Takes
 * host memory of the largest bucket's size. Collective over the job. */
GD_CHECKED gd_status gd_nonfinite_find(gd_step *step, int64_t number, const gd_batch *share, char text[GD_NONFINITE_BYTES]);

#endif
