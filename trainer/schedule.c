/* schedule.c - the learning rate of a step. */
#include "trainer/schedule.h"

#include <math.h>

float gd_schedule_lr(const gd_spec *spec, double lr_factor, int64_t step) {
  const gd_schedule_spec *s = &spec->schedule;
  double lr = (double)spec->optimizer.lr, min = (double)spec->optimizer.min_lr;
  if (s->kind == GD_SCHEDULE_PLATEAU) lr = lr * lr_factor > min ? lr * lr_factor : min;
  if (step < s->warmup_steps) return (float)(lr * (double)(step + 1) / (double)(s->warmup_steps + 1));
  int64_t start = s->kind == GD_SCHEDULE_WSD ? spec->run.steps - s->decay_steps : s->warmup_steps;
  double passed = s->decay_steps > 0 && step > start ? (double)(step - start) / (double)s->decay_steps : 0;
  if (passed > 1) passed = 1;
  switch (s->kind) {
    case GD_SCHEDULE_COSINE: return (float)(min + 0.5 * (lr - min) * (1 + cos(3.14159265358979323846 * passed)));
    case GD_SCHEDULE_LINEAR:
    case GD_SCHEDULE_WSD: return (float)(lr + (min - lr) * passed);
    case GD_SCHEDULE_CONSTANT:
    case GD_SCHEDULE_PLATEAU: break;
  }
  return (float)lr;
}
