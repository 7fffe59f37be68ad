/* run_progress.h - whether starts of a run get anywhere: steps that are on the disk, and requeues that brought none. Local. */
#ifndef GD_LAUNCH_RUN_PROGRESS_H
#define GD_LAUNCH_RUN_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

enum { GD_RUN_IDLE_REQUEUES = 3 };

/* The step of the newest checkpoint of a run directory; -1: none, or it cannot be read, or directory is "". */
int64_t gd_run_newest_step(const char *directory);

/* Notes in RUN/requeues.json that `job` is about to ask for a requeue at that step. False where GD_RUN_IDLE_REQUEUES of this
 * job brought no new step: one more would not either. Where the note cannot be kept the answer is true. */
bool gd_run_may_requeue(const char *directory, const char *job, int64_t step);

#endif
