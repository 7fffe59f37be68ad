/* waits.h - from the calls of all ranks: for whom did the others wait? Private to comm/ and its tests. */
#ifndef GD_COMM_WAITS_H
#define GD_COMM_WAITS_H

#include "comm/desync.h"

/* A collective ends for all of its members at about the same time, so who was in it the shortest came last, and the others
 * waited for it as much longer as they were in it. waited_s[r], of watch->ranks: the sum of that over the collectives that r
 * entered last, in seconds of all who waited. Only collectives that ended count, of the members that answered, and only where
 * clocks of the back end say so (NCCL: as the host saw the end). */
void gd_waits_sum(const gd_rank_calls *rank, const gd_watch *watch, double *waited_s);

/* "rank 3 on node7 12.40 s, rank 0 on node1 0.21 s": the most first, at most four, none below 1 % of the first. "" where nobody
 * waited. */
void gd_waits_text(const gd_watch *watch, const double *waited_s, char *out, size_t out_bytes);

#endif
