/* cost.h - what a training run takes besides the memory of a rank (memory.h): bytes on disk, operations and traffic of a step.
 */
#ifndef GD_SHARD_COST_H
#define GD_SHARD_COST_H

#include "shard/layout.h"

typedef struct gd_cost {
  int64_t checkpoint_bytes; /* on disk, whole job, one checkpoint */
  int64_t step_tokens;      /* whole job */
  double step_flops;        /* whole job, forward and backward */
  /* sent by this rank a step, as comm/collectives.h counts what a call means */
  int64_t data_traffic_bytes;   /* over the data axis: gradients, parameters, losses, nodes of the gradient norm */
  int64_t tensor_traffic_bytes; /* over the tensor axis: rows of activations and partial sums, leaves of vectors, such nodes */
} gd_cost;

/* Local; rank's layout of a training run. */
void gd_cost_of(const gd_layout *layout, gd_cost *out);

#endif
