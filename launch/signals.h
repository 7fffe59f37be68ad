/* signals.h - stopping on request. The first INT, TERM or USR1 only sets a flag that every loop polls (training, validation,
 * warm-up, saving); the run then finishes its step, saves and leaves with 75. A second one leaves at once: with 75 when the
 * work so far was saved (gd_signals_set_saved), else with 128 + its number, as a shell would say. */
#ifndef GD_LAUNCH_SIGNALS_H
#define GD_LAUNCH_SIGNALS_H

#include <stdbool.h>

#include "shard/base/status.h"

/* Installs the handlers; system calls under way are restarted. GD_IO. Local. */
GD_CHECKED gd_status gd_signals_install(void);

/* The number of the first signal that came, or 0. Safe from any thread. */
int gd_signals_pending(void);

/* Says whether all finished steps are durable in a checkpoint right now. Safe from any thread. */
void gd_signals_set_saved(bool saved);

#endif
