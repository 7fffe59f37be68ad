/* faults.h - calls on files that fail, kill or wait where a test says so: SQLite's way of testing what a disk may do.
 *
 * faults.c stands before the C library's open, read, write, fsync, rename and so on, in one of two ways: a test program
 * includes it and arms it itself, or it is preloaded as libgptdist-faults.so and armed by the environment:
 *
 *   GD_FAULT_PATH=TEXT    calls whose path holds TEXT count; GD_FAULT_CALLS="open read": only these; GD_FAULT_RANK=N: only on
 *                         this rank of mpirun; GD_FAULT_LOG=FILE: "CALL PATH [TO]" a line, "struck PATH" behind the struck one
 *   GD_FAULT_NTH=N        the N-th of them, from 1, is struck, with GD_FAULT_STICKY=1 all that follow, too, but
 *                         with GD_FAULT_PASS=N each N-th of these; it fails with GD_FAULT_ERRNO=N (EIO), or instead
 *   GD_FAULT_KILL=1       the process dies there
 *   GD_FAULT_STOP=1       the process stops there until SIGCONT
 *   GD_FAULT_DELAY_MS=N   the call waits and then succeeds
 *   GD_FAULT_FLIP=1       a write changes one bit
 *   GD_FAULT_NO_EXCHANGE=1   no renameat2 with flags
 *
 * Calls: open (a folder's too), read, write, fsync, close, rename, exchange, unlink, mkdir, stat (access too), list (readdir).
 */
#ifndef GD_TESTS_FAULTS_H
#define GD_TESTS_FAULTS_H

#include <stdbool.h>

typedef struct gd_faults {
  const char *path, *calls, *log;
  long nth, pass; /* 0: nothing is struck, all are */
  int error, delay_ms;
  bool sticky, kill, stop, flip, no_exchange;
} gd_faults;

/* Counts from 0 again. NULL: off. The struct and its texts must outlive their use. */
void gd_faults_arm(const gd_faults *faults);
/* Calls that counted so far. */
long gd_faults_seen(void);

#endif
