/* run_watch.h - gptdist-run's own watch: ranks that are all stopped, or whose host stood still for them, can tell nobody. It
 * hears the signs of life of the ranks on its own host (comm/launcher.h) and is the last to judge: where other ranks live, they
 * have told it before. Local. */
#ifndef GD_LAUNCH_RUN_WATCH_H
#define GD_LAUNCH_RUN_WATCH_H

#include <stddef.h>
#include <sys/types.h>

#include "comm/launcher.h"

enum { GD_RUN_WATCH_TICK_MS = 1000 };

typedef struct gd_run_watch {
  int socket;       /* -1: nothing is watched */
  int64_t heard_ms; /* when the last sign came, or since when this process looks again */
  int64_t looked_ms;
  bool heard;       /* any sign at all: every rank is past MPI_Init, and hears a request to stop */
  int64_t empty_ms; /* since when there is no rank here; 0: there is one, or nobody looked */
  int64_t left_ms;  /* since when a rank leaves because the job cannot go on; 0: none does */
  gd_sign last;     /* watchdog_ms 0: none yet, or no more */
} gd_run_watch;

/* Before the job starts. A fault leaves it unwatched. */
void gd_run_watch_open(gd_run_watch *watch, const char *mark, int64_t now_ms);
void gd_run_watch_close(gd_run_watch *watch);
/* Asked every GD_RUN_WATCH_TICK_MS. True, with one line that says so, where no rank of this host has given a sign for their
 * deadline and 5 s. */
bool gd_run_watch_is_silent(gd_run_watch *watch, int64_t now_ms, char *text, size_t bytes);
/* Asked after that: ranks have left 20 s ago, and what started them has not ended: it waits for a host that it cannot reach. */
bool gd_run_watch_is_over(const gd_run_watch *watch, int64_t now_ms);
/* No sign ever came, and `starter`, which starts all ranks as its own children, has had none for 30 s and has not ended: mpirun
 * waits for ever for ranks that were killed while they connected to it. (Later on it may wait for who reads its output.) */
bool gd_run_watch_is_empty(gd_run_watch *watch, pid_t starter, int64_t now_ms);

#endif
