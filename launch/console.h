/* console.h - where a person reads: log lines and the progress line go to stderr, results to stdout. Rank 0 prints; other
 * ranks keep quiet, so that a line that all ranks would say comes once; their warnings come by way of rank 0, and the one that
 * tells why the job ends speaks itself. */
#ifndef GD_LAUNCH_CONSOLE_H
#define GD_LAUNCH_CONSOLE_H

#include <stdbool.h>

#include "comm/session.h"
#include "shard/base/log.h"
#include "shard/base/status.h"

/* Makes the console the sink of gd_log. program: static text that starts warnings and errors. rank 0 prints info and above;
 * GPTDIST_DEBUG=1 in the environment adds debug lines and the source lines of faults, and lets all ranks speak, each naming
 * itself. Before the rank is known pass the environment's. Local. */
void gd_console_open(const char *program, int rank);

/* Warnings of ranks other than 0 go to rank 0's console through the session (gd_session_warn); NULL, before it closes: no more.
 */
void gd_console_connect(gd_session *session);

/* Copies every line of this rank to a file too (RUN/log/rank-00003.log; a fault with its source line). GD_IO. Local. */
GD_CHECKED gd_status gd_console_log_file(const char *path);

/* The progress line: on a terminal it is drawn over the one before; else it is a line of its own. Only rank 0. */
void gd_console_progress(const char *line);

/* How long a progress line may stand: short on a terminal, where it is drawn over, else long enough to fill no log. */
double gd_console_progress_seconds(void);

/* Ends a progress line that stands on the terminal. */
void gd_console_finish_progress(void);

/* Prints the calling thread's error text on rank 0 (or where `alone`: the fault is this rank's only), returns the exit code:
 * GD_IO where all went well but standard output did not take all that was printed. */
int gd_console_leave(gd_status status, bool alone);

/* Ends the progress line and closes the log file. */
void gd_console_close(void);

#endif
