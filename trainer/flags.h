/* flags.h - what every rank must know of any other: its wishes, and whether all have made the same calls. They travel with the
 * vote of a step, so nobody waits for them. One sum of integers carries it all: a flag of value v adds 2^(20 (v - 1)), so the
 * largest is the highest digit that is not 0, for up to 2^20 - 1 ranks. */
#ifndef GD_TRAINER_FLAGS_H
#define GD_TRAINER_FLAGS_H

#include "trainer/arenas.h"

enum {
  GD_FLAG_STOP,   /* a gd_stop (trainer/run.h), 0: go on */
  GD_FLAG_SAVING, /* a save is in flight */
  GD_FLAGS,
  GD_FLAG_LARGEST = 3,
  GD_FLAG_WORDS = GD_FLAGS + 2, /* on the wire; behind the flags gd_session_calls_digest's, and how many ranks found a gradient
                                   that is not finite */
  GD_FLAGS_AHEAD = 2            /* votes whose flags the host has not read yet, at most */
};

/* A rank's own, 0 to GD_FLAG_LARGEST; asked when a vote is enqueued. */
typedef void gd_flags_ask(void *context, int32_t flags[GD_FLAGS]);

typedef struct gd_flags {
  gd_model *model;
  gd_flags_ask *ask; /* NULL: all are 0 */
  void *context;
  int64_t *device; /* [GD_FLAGS_AHEAD][GD_FLAG_WORDS] */
  int64_t *host;   /* [GD_FLAGS_AHEAD][GD_FLAG_WORDS]: mine, then the sums over all ranks */
} gd_flags;

/* Local. */
GD_CHECKED gd_status gd_flags_open(gd_model *model, gd_flags_ask *ask, void *context, gd_flags *out);
void gd_flags_close(gd_flags *flags);
/* Enqueues this rank's part on the compute stream: *bad, on the device, is 0 until the caller has something to say there
 * (gd_finite); NULL on one rank. place < GD_FLAGS_AHEAD. Local. */
GD_CHECKED gd_status gd_flags_put(gd_flags *flags, int32_t place, int64_t **bad);
/* Then the agreement; what the device is to know of all ranks' calls so far is *calls, as gd_vote has it: NULL on one rank.
 * Collective over the job. */
GD_CHECKED gd_status gd_flags_agree(gd_flags *flags, int32_t place, const int64_t **calls);
/* Once the stream has passed that: the largest of every rank's. GD_BUG where ranks have made different calls. Local. */
GD_CHECKED gd_status gd_flags_read(const gd_flags *flags, int32_t place, int32_t out[GD_FLAGS]);

#endif
