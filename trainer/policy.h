/* policy.h - how long a run lasts and what a validation decides: the best so far, the learning rate of a plateau, the early
 * end. Pure functions of the spec, the run's state and one number: no files, no ranks, no clock. Whoever gives them the same
 * gets the same, so a resumed run goes on as if it had not been stopped. All local. */
#ifndef GD_TRAINER_POLICY_H
#define GD_TRAINER_POLICY_H

#include "shard/state.h"

/* Steps of `epochs` passes over `windows` samples (gd_dataset_windows), `global` of them a step: rounded up. */
int64_t gd_policy_steps(double epochs, int64_t windows, int32_t global);
/* The same rounded to the nearest whole number, at least 1: steps from one validation to the next. */
int64_t gd_policy_interval(double epochs, int64_t windows, int32_t global);

/* Before the first step. */
gd_run_state gd_policy_begin(gd_metric metric);
/* Of a resumed run: what was known of another metric than the run's says nothing any more, and is forgotten. */
void gd_policy_resume(const gd_spec *spec, gd_run_state *state);

typedef struct gd_policy_verdict {
  bool best; /* better than all before */
  bool cut;  /* of the learning rate */
} gd_policy_verdict;

/* Takes the value of validation.metric after step state->step into the state. Once a step: a second time (a resumed run may
 * repeat its first validation) nothing is counted again. NaN is never better. A value that is better than the best before it,
 * by validation.min_gain or more, is a gain, and ends both waits. At the end of schedule.patience the learning rate is cut
 * (kind plateau; not below optimizer.min_lr) and that wait begins anew; at the end of validation.patience gd_run_state_stopped
 * holds.
 */
gd_policy_verdict gd_policy_judge(const gd_spec *spec, gd_run_state *state, double value);

#endif
