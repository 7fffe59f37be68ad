/* cost.h - what a layout takes: bytes a rank by arena, bytes on disk, operations and traffic of a step. From layout.c's own
 * tables. */
#ifndef GD_SHARD_COST_H
#define GD_SHARD_COST_H

#include "shard/layout.h"

typedef struct gd_cost {
  /* device bytes of this rank */
  int64_t parameter_bytes, gradient_bytes, optimizer_bytes, activation_bytes, workspace_bytes, exchange_bytes;
  int64_t total_bytes;
  int32_t gradient_slots;
  int64_t snapshot_bytes;      /* host memory of a save */
  int64_t checkpoint_bytes;    /* on disk, whole job, one checkpoint */
  int64_t step_tokens;         /* whole job */
  double step_flops;           /* whole job, forward and backward */
  double data_traffic_bytes;   /* sent by this rank a step over the data axis (gradients, parameters) */
  double tensor_traffic_bytes; /* over the tensor axis (rows of activations and partial sums) */
} gd_cost;

/* Local; rank's layout of a training run. */
void gd_cost_of(const gd_layout *layout, gd_cost *out);

#endif
