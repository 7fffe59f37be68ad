/* recorder.h - what a program does to the files of a folder, call by call, and the states in which a loss of power may leave
 * that folder: like CrashMonkey (Mohan et al. 2018) and ALICE (Pillai et al. 2014), for one folder.
 *
 * recorder.c stands before the C library's calls, as tests/fault/faults.c does; a test includes it. The model: bytes are on the
 * disk once their file was forced there, the entries of a folder once the folder was; a file's fsync says nothing of its name.
 * Of what was not forced, each write may be there, not there, or there in part, and each change of an entry made or not.
 */
#ifndef GD_TESTS_RECORDER_H
#define GD_TESTS_RECORDER_H

#include <stdbool.h>
#include <stdint.h>

/* Forgets what was recorded and takes what is in `root` (absolute, no links on the way) as being on the disk; records from now
 * on. `root` must stay. */
void gd_recorder_start(const char *root);
void gd_recorder_stop(void);
void gd_recorder_forget(void);
/* Calls so far, and how many came before the first that renamed. */
int gd_recorder_calls(void);
int gd_recorder_first_rename(void);
/* Builds under `to`, which is made, what a crash before call number `at` may leave; the same for the same seed. ordered:
 * changes of entries reach the disk in their order, as where a journal keeps them; else in any. */
void gd_recorder_crash(const char *to, int at, bool ordered, uint64_t seed);
/* One line for people on call `at`. Static. */
const char *gd_recorder_name(int at);

#endif
