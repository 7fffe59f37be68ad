/* deadline.c - how long a rank may stand still. */
#include "trainer/deadline.h"

#include <math.h>
#include <string.h>

static double median_ms(const gd_deadline *deadline) {
  double sorted[GD_DEADLINE_STEPS];
  int64_t count = deadline->steps < GD_DEADLINE_STEPS ? deadline->steps : GD_DEADLINE_STEPS;
  for (int64_t i = 0; i < count; i++) {
    int64_t at = i;
    for (; at > 0 && sorted[at - 1] > deadline->ms[i]; at--) sorted[at] = sorted[at - 1];
    sorted[at] = deadline->ms[i];
  }
  return count ? sorted[count / 2] : 0;
}

int32_t gd_deadline_seconds(const gd_deadline *deadline, int32_t watchdog_s) {
  if (watchdog_s >= 0) return watchdog_s;
  double seconds = ceil(5e-3 * median_ms(deadline));
  if (!(seconds > GD_DEADLINE_LEAST_S)) return GD_DEADLINE_LEAST_S;
  return seconds < 604800 ? (int32_t)seconds : 604800;
}

void gd_deadline_step(gd_deadline *deadline, double ms) {
  deadline->ms[deadline->steps++ % GD_DEADLINE_STEPS] = ms;
}
