/* desync.h - the calls of all ranks, compared: where did the members of a group first disagree? Private to comm/ and its tests.
 */
#ifndef GD_COMM_DESYNC_H
#define GD_COMM_DESYNC_H

#include "comm/calls.h"
#include "comm/watchdog.h"

/* The newest calls of one rank, oldest first. */
typedef struct gd_rank_calls {
  gd_call *call;
  int32_t count;  /* 0: it did not answer */
  uint64_t first; /* calls made before call[0] */
} gd_rank_calls;

/* Finds the call of a group (of the first GD_WATCH_GROUPS) that two of its members make differently, or the message whose two
 * ends differ in size; of several the one that came first. A call or message that one rank made and the other has not is a
 * difference where the digest is known to be wrong (`differ`), or where every rank waits for one that waits too, by the beats
 * of `watch`; else that rank may only be late. Names both ranks and what each says. rank: watch->ranks entries. False: there is
 * none, or no memory to look for it. */
bool gd_desync_find(const gd_rank_calls *rank, const gd_watch *watch, bool differ, int64_t now_ms, char *out, size_t out_bytes);

#endif
