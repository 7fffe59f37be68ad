/* pairwise.h - a sum of doubles in NumPy's order (numpy/_core/src/umath/loops_utils.h, pairwise sum): scores that are compared
 * with its digits are rounded where it rounds. */
#ifndef GD_TRAINER_SCORES_PAIRWISE_H
#define GD_TRAINER_SCORES_PAIRWISE_H

#include <stdint.h>

/* Below 8 values one by one; up to 128 in eight chains; above, two halves, the first a multiple of 8. */
double gd_pairwise_sum(const double *values, int64_t count);

#endif
