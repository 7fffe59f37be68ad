/* signals.h - stopping on request. The first INT, TERM or USR1 only sets a flag that every loop polls (training, validation,
 * warm-up, saving); the run then finishes its step, saves and leaves with 75. The same one again, 5 s after it first came or
 * later, leaves at once: with 75 when the work so far was saved (gd_signals_set_saved), else with 128 + its number, as a shell
 * would say. Other signals, and the same one earlier, are the same request: a batch system sends TERM to the ranks while the
 * launcher, which gets TERM too, passes USR1 on to them. */
#ifndef GD_LAUNCH_SIGNALS_H
#define GD_LAUNCH_SIGNALS_H

#include <stdbool.h>

#include "shard/base/status.h"

/* Installs the handlers; system calls under way are restarted. GD_IO. Local. */
GD_CHECKED gd_status gd_signals_install(void);

/* Also for those who have work to save: a terminal that is closed (HUP), or a reader of the output that has gone (PIPE), is the
 * same request, however often. Not where it is ignored, as by nohup. GD_IO. Local. */
GD_CHECKED gd_status gd_signals_install_losses(void);

/* Notes that INT, TERM or USR1 came. True: it came before, 5 s ago or earlier. Async-signal-safe. */
bool gd_signals_again(int number);

/* The number of the first signal that came, or 0. Where none did and gptdist-run is gone: USR1, which it would have sent. Safe
 * from any thread. */
int gd_signals_pending(void);

/* As if none had come: the request was met, and the program goes on (a talk goes on behind an answer). */
void gd_signals_forget(void);

/* Says whether all finished steps are durable in a checkpoint right now. Safe from any thread. */
void gd_signals_set_saved(bool saved);

#endif
