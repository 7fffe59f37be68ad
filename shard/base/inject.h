/* inject.h - faults that a person asks for, to see what a job does about them: `--inject kind@key=value,...`. This is the list
 * of what is asked for and whether it struck; the places where faults happen ask it. Without --inject nothing is armed, and a
 * place costs a look at one flag.
 *
 * A fault is of one kind and strikes on one rank (rank=N; else on every one), from a step on (step=N, 1: the first of the run,
 * as metrics count; else at any time), for so many steps (steps=N), from the n-th time on that its place is come by (nth=N),
 * and so many times (times=N). */
#ifndef GD_SHARD_BASE_INJECT_H
#define GD_SHARD_BASE_INJECT_H

#include <stdbool.h>
#include <stdint.h>

#include "shard/base/status.h"

typedef enum gd_inject_kind {
  GD_INJECT_KILL,          /* SIGKILL to this process, in a phase */
  GD_INJECT_STOP,          /* SIGSTOP */
  GD_INJECT_STALL,         /* its main thread sleeps */
  GD_INJECT_NAN,           /* in this rank's gradient, before ranks sum theirs */
  GD_INJECT_FLIP,          /* a bit of a weight in memory */
  GD_INJECT_CORRUPT_SHARD, /* a bit of what a read brings */
  GD_INJECT_DISK_FULL,     /* writes give ENOSPC */
  GD_INJECT_SLOW_DISK,     /* writes and fsyncs take longer */
  GD_INJECT_ERROR,         /* a call on files fails */
  GD_INJECT_KINDS
} gd_inject_kind;

enum { GD_INJECT_MOST = 32, GD_INJECT_TEXT_BYTES = 256 };

typedef struct gd_injection {
  gd_inject_kind kind;
  char text[GD_INJECT_TEXT_BYTES];       /* as it was given */
  int64_t rank, step, steps, nth, times; /* rank -1: every one; step 0: any time */
  char where[GD_INJECT_TEXT_BYTES];      /* phase, tensor, or a part of a path; "": the kind's own */
  char call[16];                         /* GD_INJECT_ERROR: write, fsync, rename, unlink, mkdir, read */
  int64_t seconds, ms, error;            /* error: an errno */
} gd_injection;

/* True where a fault is armed for this rank. */
extern bool gd_inject_armed;

/* Reads one text of the command line. GD_USAGE with what was found and the list of kinds. Local. */
GD_CHECKED gd_status gd_inject_add(const char *text);
/* Arms what was added for this rank. Unless path=TEXT says otherwise disks are faulty in `directory` (resolved; it must stay),
 * and shards are files *.h5 outside. Local. */
void gd_inject_arm(int32_t rank, const char *directory);
/* From now on this step is under way, 1: the first of the run. Local. */
void gd_inject_set_step(int64_t step);

/* The fault of a kind that strikes here, NULL: none. `where` is the phase or the path; `call` is for GD_INJECT_ERROR alone.
 * Counts. Any thread. */
const gd_injection *gd_inject_strike(gd_inject_kind kind, const char *where, const char *call);
/* The same of number `i`, whose place the caller has looked at. */
bool gd_inject_strikes(int32_t i);
/* Logs what has struck since the last time: not where it struck, which may be inside the log's own write. Local. */
void gd_inject_tell(void);

/* All that were added, and whether number `i` has struck on this rank. */
int32_t gd_inject_count(void);
const gd_injection *gd_inject_at(int32_t i);
bool gd_inject_struck(int32_t i);

/* What --help says of the kinds. Static text. */
const char *gd_inject_help(void);

#endif
