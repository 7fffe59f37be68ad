/* replicas.h - do the ranks that hold copies of the same weights hold the same bits? A bit that turned in one rank's memory, or
 * a sum that one processor got wrong, shows there, before it is saved. With ZeRO 0 moments and masters are copies too. */
#ifndef GD_TRAINER_REPLICAS_H
#define GD_TRAINER_REPLICAS_H

#include "trainer/optimizer.h"

typedef struct gd_replicas {
  gd_optimizer *optimizer;
  uint64_t *mine; /* [kinds][tensors], host */
  char *piece;    /* host, of a copy */
} gd_replicas;

/* Takes host memory, some for each tensor. Local. GD_NO_MEMORY. */
GD_CHECKED gd_status gd_replicas_open(gd_optimizer *optimizer, gd_replicas *out);
void gd_replicas_close(gd_replicas *replicas);
/* Hashes what this rank holds and compares two numbers a rank; nothing may be under way on the device. GD_RANK_FAILED, the same
 * on all ranks, names the first tensor in name order that has copies that differ, and the ranks. Collective over the job. */
GD_CHECKED gd_status gd_replicas_check(gd_replicas *replicas, int64_t step);

#endif
