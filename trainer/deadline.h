/* deadline.h - how long a rank may stand still: run.watchdog_s, or what the steps so far say. */
#ifndef GD_TRAINER_DEADLINE_H
#define GD_TRAINER_DEADLINE_H

#include <stdint.h>

enum { GD_DEADLINE_STEPS = 31, GD_DEADLINE_LEAST_S = 30 };

typedef struct gd_deadline {
  double ms[GD_DEADLINE_STEPS]; /* of the last steps */
  int64_t steps;
} gd_deadline;

/* watchdog_s: run.watchdog_s. Seconds without progress that are a hang: watchdog_s where it is not negative (0: never), else
 * the larger of 30 and 5 times the median of the last 31 steps. Local. */
int32_t gd_deadline_seconds(const gd_deadline *deadline, int32_t watchdog_s);
/* A step took so long. */
void gd_deadline_step(gd_deadline *deadline, double ms);

#endif
