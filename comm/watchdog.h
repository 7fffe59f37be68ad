/* watchdog.h - from heartbeats to one sentence: is the job stuck, who keeps whom waiting, in which call. Pure: no threads, no
 * sockets, no clock of its own. Runs on rank 0, and on the rank that speaks where rank 0 is lost. Private to comm/ and its
 * tests. */
#ifndef GD_COMM_WATCHDOG_H
#define GD_COMM_WATCHDOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
  GD_WATCH_STREAMS = 2,      /* compute, communication */
  GD_WATCH_GROUPS = 16,      /* groups that are told apart; the first two are below */
  GD_WATCH_AGREE = 0,        /* gd_session_agree: all ranks */
  GD_WATCH_SESSION = 1,      /* gd_session_broadcast, all_gather, barrier: all ranks */
  GD_WATCH_SILENT_MS = 2500, /* a rank sends a beat a second: no beat for this long is a stopped or starved process */
  GD_WATCH_PATIENCE = 10     /* so many deadlines may pass where a rank starts or waits for storage */
};

typedef enum gd_watch_place {
  GD_WATCH_OUTSIDE,
  GD_WATCH_IN_COLLECTIVE,
  GD_WATCH_IN_MESSAGE /* exchange: not every member makes it, so its numbers say nothing about others */
} gd_watch_place;

/* What one rank is doing in one group. */
typedef struct gd_beat_group {
  uint64_t entered;   /* number of the last collective entered */
  uint64_t sequence;  /* of the call under way */
  int32_t place;      /* gd_watch_place */
  uint32_t signature; /* of the collective of that number, as all members of the group have it; 0: of none */
  char call[20];
} gd_beat_group;

/* What a rank says about itself once a second. */
typedef struct gd_beat {
  int64_t step;     /* -1: none */
  int64_t idle_ms;  /* since its phase, step or calls last changed */
  int32_t patience; /* deadlines that its phase may take: 1 (0 counts as 1) or GD_WATCH_PATIENCE */
  int32_t last;     /* group of the last call; group[last].sequence is its number, 0: there was none */
  char phase[32];
  gd_beat_group group[GD_WATCH_GROUPS];
  char task[GD_WATCH_STREAMS][32]; /* the host task that a stream runs; "": none, or one of the calls above */
} gd_beat;

typedef struct gd_watched_rank {
  gd_beat beat;
  int64_t arrived_ms; /* of the beat, on the watching rank's clock */
  char host[64];
} gd_watched_rank;

typedef struct gd_watch {
  int32_t ranks;
  gd_watched_rank *rank; /* ranks entries */
  bool *seen;            /* ranks entries, gd_watch_stuck's own */
  int64_t silent_ms;     /* silence that counts as "does not answer"; 0: GD_WATCH_SILENT_MS */
  char group_name[GD_WATCH_GROUPS][32];
  /* group_leader[g][r]: the lowest rank of the group that r is in; ranks with the same leader wait for each other. NULL: all
   * ranks are one group. */
  const int32_t *group_leader[GD_WATCH_GROUPS];
} gd_watch;

/* Some rank has made no progress for deadline_ms (times its phase's patience), or sent no beat for deadline_ms, and no rank
 * that it waits for works: who waits in a collective for a rank that has not entered it, or for one that waits for such a rank
 * in turn, is as well as that one. Patience is for storage: a process that sends no beats is not waiting for a disk. */
bool gd_watch_stuck(const gd_watch *watch, int64_t now_ms, int64_t deadline_ms);

/* Who keeps whom waiting, one rank a line, at most eight. */
void gd_watch_report(const gd_watch *watch, int64_t now_ms, int64_t deadline_ms, char *out, size_t out_bytes);

/* Two members of a group say that its collective of the same number is another one. */
bool gd_watch_differ(const gd_watch *watch, int *group, int32_t *a, int32_t *b);

/* Every rank answers, and is inside a call of some group. */
bool gd_watch_all_wait(const gd_watch *watch, int64_t now_ms);
/* This rank is inside a collective that another member has not entered. */
bool gd_watch_waits(const gd_watch *watch, int32_t rank);

/* "step 12, phase backward, in all_to_all #482 of group tensor, running attention_backward on the compute stream"; in no call:
 * "step 12, phase backward, after all_to_all #482 of group tensor". */
void gd_watch_where(const gd_watch *watch, int32_t rank, char *out, size_t out_bytes);

#endif
