/* schedule.h - the learning rate of a step. */
#ifndef GD_TRAINER_SCHEDULE_H
#define GD_TRAINER_SCHEDULE_H

#include "shard/spec.h"

/* Steps count from 0. lr_factor: of the run's state, for kind plateau. Warm-up: lr * (step + 1) / (warmup_steps + 1). Then,
 * with p = share of decay_steps passed, at most 1: cosine min + (lr - min) (1 + cos(pi p)) / 2 (Loshchilov and Hutter 2017);
 * linear lr + (min - lr) p; constant lr; wsd lr until the last decay_steps steps, then linear (Hu et al. 2024, warm-up stable
 * decay); plateau lr * lr_factor, at least min (trainer/policy.h cuts it), and warm-up rises to that. */
float gd_schedule_lr(const gd_spec *spec, double lr_factor, int64_t step);

#endif
