/* snapshot.h - between the device and a checkpoint: copies what this rank saves into host memory (the only stall of a save),
 * and puts a checkpoint's state back. */
#ifndef GD_TRAINER_SNAPSHOT_H
#define GD_TRAINER_SNAPSHOT_H

#include "io/checkpoint/checkpoint.h"
#include "trainer/optimizer.h"

typedef struct gd_snapshot {
  gd_optimizer *optimizer;
  int32_t kinds;            /* weights, first and, for AdamW, second */
  int64_t elements;         /* of the weights: my pieces */
  int64_t trained_elements; /* of a moment: those of my pieces that are trained */
  float *memory;            /* host [elements], [kinds - 1][trained_elements] */
  gd_checkpoint_box *boxes; /* of all kinds, data pointing into memory */
  int32_t count;
} gd_snapshot;

/* Takes the host memory. Local. */
GD_CHECKED gd_status gd_snapshot_open(gd_optimizer *optimizer, gd_snapshot *out);
void gd_snapshot_close(gd_snapshot *snapshot);
/* Weights and moments as they are when the compute stream has passed. Local; waits for the stream. */
GD_CHECKED gd_status gd_snapshot_take(gd_snapshot *snapshot);
/* Moments and masters from a checkpoint of any layout (the parameters themselves: gd_model_read_weights). Local. */
GD_CHECKED gd_status gd_snapshot_restore(gd_optimizer *optimizer, const gd_checkpoint *checkpoint);

#endif
