/* policy.c - how long a run lasts and what a validation decides. */
#include "trainer/policy.h"

#include <math.h>

#include "io/data/metric.h"

/* A number of epochs is a float32: what it is off by, 2^-24 of it, makes no step. */
int64_t gd_policy_steps(double epochs, int64_t windows, int32_t global) {
  double steps = epochs * (double)windows / global;
  int64_t whole = (int64_t)ceil(steps * (1 - 0x1p-23));
  return whole > 1 ? whole : 1;
}

int64_t gd_policy_interval(double epochs, int64_t windows, int32_t global) {
  int64_t whole = (int64_t)floor(epochs * (double)windows / global + 0.5);
  return whole > 1 ? whole : 1;
}

gd_run_state gd_policy_begin(gd_metric metric) {
  return (gd_run_state){.metric = metric,
                        .best_validation = gd_metric_look(metric)->higher ? -INFINITY : INFINITY,
                        .best_step = -1,
                        .validated_step = -1,
                        .lr_factor = 1};
}

void gd_policy_resume(const gd_spec *spec, gd_run_state *state) {
  if (state->metric == (int64_t)spec->validation.metric) return;
  const gd_run_state begin = gd_policy_begin(spec->validation.metric);
  state->metric = begin.metric;
  state->best_validation = begin.best_validation;
  state->best_step = begin.best_step;
  state->validated_step = begin.validated_step;
  state->wait = state->lr_wait = 0;
}

static bool is_better(gd_metric metric, double value, double than) {
  return gd_metric_look(metric)->higher ? value > than : value < than;
}

/* The learning rate's part: true where it is cut. */
static bool follow_plateau(const gd_spec *spec, gd_run_state *state, bool gain) {
  state->lr_wait = gain ? 0 : state->lr_wait + 1;
  if (state->lr_wait < spec->schedule.patience) return false;
  state->lr_wait = 0;
  if ((double)spec->optimizer.lr * state->lr_factor <= (double)spec->optimizer.min_lr) return false;
  state->lr_factor *= (double)spec->schedule.factor;
  return true;
}

gd_policy_verdict gd_policy_judge(const gd_spec *spec, gd_run_state *state, double value) {
  if (state->validated_step == state->step) return (gd_policy_verdict){.best = state->best_step == state->step};
  gd_policy_verdict verdict = {.best = is_better(spec->validation.metric, value, state->best_validation)};
  bool gain = verdict.best && fabs(value - state->best_validation) >= (double)spec->validation.min_gain;
  state->validated_step = state->step;
  if (verdict.best) {
    state->best_validation = value;
    state->best_step = state->step;
  }
  state->wait = spec->validation.patience && !gain ? state->wait + 1 : 0;
  if (spec->schedule.kind == GD_SCHEDULE_PLATEAU)
    verdict.cut = follow_plateau(spec, state, gain);
  else
    state->lr_wait = 0;
  return verdict;
}
