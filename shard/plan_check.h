/* plan_check.h - do the step tables of all ranks fit together? A proof in one process, before anything runs: for tests, and for
 * whoever writes a schedule.
 *
 * Of each table alone: every micro-batch goes forward, through the head and backward once, layer after layer down to the lowest
 * that learns, and what is frozen is neither summed nor gathered after the update; nobody writes an
 * activation slot in which another micro-batch is alive, or the gradient of one that is on its way back; micro-batches come
 * ascending into every gradient; a bucket is summed once, behind the last of them; weights are there when a row uses them; the
 * rows that others wait for come before, and late enough. Of all together: no endless wait; the members of a group meet in the
 * same rows in one order; a pair's messages come in one order. What a message carries, and who waits for it, is not looked at.
 */
#ifndef GD_SHARD_PLAN_CHECK_H
#define GD_SHARD_PLAN_CHECK_H

#include "shard/plan.h"

/* Training steps of ranks 0 .. ranks - 1, which are all of the mesh. Local. GD_BUG with a text that names rank and row;
 * GD_NO_MEMORY. */
GD_CHECKED gd_status gd_plan_check(const gd_layout *layouts, const gd_plan *plans, int32_t ranks);

#endif
