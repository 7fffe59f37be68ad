/* flags.h - what every rank must know of any other's wishes: they travel with the vote of a step, so nobody waits for them. */
#ifndef GD_TRAINER_FLAGS_H
#define GD_TRAINER_FLAGS_H

#include "trainer/arenas.h"

enum {
  GD_FLAG_STOP,   /* a gd_stop (trainer/run.h), 0: go on */
  GD_FLAG_SAVING, /* a save is in flight */
  GD_FLAGS,
  GD_FLAGS_AHEAD = 2 /* votes whose flags the host has not read yet, at most */
};

/* A rank's own; asked when a vote is enqueued. */
typedef void gd_flags_ask(void *context, int32_t flags[GD_FLAGS]);

typedef struct gd_flags {
  gd_model *model;
  gd_flags_ask *ask; /* NULL: all are 0 */
  void *context;
  int32_t *device; /* [GD_FLAGS_AHEAD][GD_FLAGS] */
  int32_t *host;   /* [GD_FLAGS_AHEAD][GD_FLAGS]: mine, then the largest of all ranks' */
} gd_flags;

/* Local. */
GD_CHECKED gd_status gd_flags_open(gd_model *model, gd_flags_ask *ask, void *context, gd_flags *out);
void gd_flags_close(gd_flags *flags);
/* Enqueues the agreement on the compute stream: once that has passed, gd_flags_of(flags, place) is the largest of every rank's.
 * place < GD_FLAGS_AHEAD. Collective over the job. */
GD_CHECKED gd_status gd_flags_agree(gd_flags *flags, int32_t place);
static inline const int32_t *gd_flags_of(const gd_flags *flags, int32_t place) {
  return flags->host + place * GD_FLAGS;
}

#endif
