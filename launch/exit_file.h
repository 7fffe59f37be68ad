/* exit_file.h - RUN/exit.json: what became of the newest start of a run. "state" is "running" from the first second, with pid
 * and host of rank 0 and the time of the start; "ended" adds code, reason and the time of the end. Faults are dropped: there is
 * nobody left to tell. Local. */
#ifndef GD_LAUNCH_EXIT_FILE_H
#define GD_LAUNCH_EXIT_FILE_H

#include <stdbool.h>
#include <stddef.h>

#include "comm/launcher.h"
#include "io/base/files.h"

/* The file has the mark of the start (GD_LAUNCH_MARK) as "launch": another job on the same run directory, which the lock
 * refuses, must not take the file for its own. */

typedef enum gd_exit_file_state { GD_EXIT_FILE_NONE, GD_EXIT_FILE_RUNNING, GD_EXIT_FILE_ENDED } gd_exit_file_state;

/* By rank 0, which holds the lock of the run directory. */
void gd_exit_file_begin(const char *directory);
/* By the same process, or by one of the same job that speaks for it: pid, host and start stay rank 0's. A disk without a free
 * block does not keep it from being written. */
void gd_exit_file_end(const char *directory, int code, const char *reason);

/* What the start marked `launch` (NULL: not marked) has written. Fills *code and reason[bytes] where it has ended. */
gd_exit_file_state gd_exit_file_read(const char *path, const char *launch, int *code, char *reason, size_t bytes);
/* By who watched that start to its end: where the file still says "running", it was killed before it could write more. */
void gd_exit_file_complete(const char *path, const char *launch, int code, const char *reason);
/* By who knows better what that start came to, whatever the file says of it. False: it says nothing of it. */
bool gd_exit_file_overrule(const char *path, const char *launch, int code, const char *reason);
/* Of a start that ended before it held the run directory: over what an earlier one left there, which is `before` (NULL:
 * whatever it is), unless another process holds the directory. pid and host are the caller's. Nothing where there is no such
 * file. */
void gd_exit_file_replace(const char *directory, const gd_bytes *before, int code, const char *reason);

#endif
