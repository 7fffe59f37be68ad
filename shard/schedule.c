/* schedule.c - orders of passes. */
#include "shard/schedule.h"

void gd_schedule_passes(gd_pass_order order, int32_t micros, gd_pass *passes) {
  int32_t apart = order == GD_PASSES_ALL_FORWARD ? micros : 1, at = 0;
  for (int32_t first = 0; first < micros; first += apart) {
    for (int32_t m = first; m < first + apart; m++) passes[at++] = (gd_pass){false, m, 0};
    for (int32_t m = first; m < first + apart; m++) passes[at++] = (gd_pass){true, m, 0};
  }
}

int32_t gd_schedule_slots(gd_pass_order order, int32_t micros) {
  return order == GD_PASSES_ALL_FORWARD ? micros : 1;
}
