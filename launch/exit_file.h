/* exit_file.h - RUN/exit.json: what became of the newest start of a run. "state" is "running" from the first second, with pid
 * and host of rank 0 and the time of the start; "ended" adds code, reason and the time of the end. Faults are dropped: there is
 * nobody left to tell. Local. */
#ifndef GD_LAUNCH_EXIT_FILE_H
#define GD_LAUNCH_EXIT_FILE_H

/* By rank 0, which holds the lock of the run directory. */
void gd_exit_file_begin(const char *directory);
/* By the same process. A disk without a free block does not keep it from being written. */
void gd_exit_file_end(const char *directory, int code, const char *reason);

/* By who watched a start that has ended: where the file still says "running", it was killed before it could write more. */
void gd_exit_file_complete(const char *path, int code, const char *reason);

#endif
