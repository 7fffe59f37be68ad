/* state.h - the progress of a run besides its tensors: what a manifest carries so that a resume continues bit for bit. */
#ifndef GD_SHARD_STATE_H
#define GD_SHARD_STATE_H

#include "shard/spec.h"

typedef struct gd_run_state {
  int64_t step;           /* optimizer steps attempted */
  int64_t tokens;         /* target tokens seen */
  int64_t draws;          /* data samples drawn: step * global batch; the data cursor */
  int64_t applied_steps;  /* steps that counted (Adam's t) */
  int64_t bad_steps;      /* consecutive skipped steps */
  int64_t metric;         /* gd_metric: of what the following is told */
  double best_validation; /* best value so far; before the first +infinity, or -infinity where higher is better */
  int64_t best_step;      /* -1 before the first */
  int64_t validated_step; /* the last one whose validation was counted, -1 before the first */
  int64_t wait;           /* validations in a row without a gain, for validation.patience */
  int64_t lr_wait;        /* the same for schedule.patience; since the last cut, where that came later */
  double lr_factor;       /* of the learning rate (schedule.kind plateau); 1 before the first cut */
} gd_run_state;

/* Whether the run ends before its last step: its patience is at an end. */
static inline bool gd_run_state_stopped(const gd_run_state *state, const gd_spec *spec) {
  return spec->validation.patience > 0 && state->wait >= spec->validation.patience && state->step < spec->run.steps;
}

/* Whether there is more to know than an ordinary run has: another metric than the loss, a wait, a cut. */
static inline bool gd_run_state_waits(const gd_run_state *state) {
  return state->metric != GD_METRIC_LOSS || state->wait > 0 || state->lr_wait > 0 || state->lr_factor < 1;
}

#endif
