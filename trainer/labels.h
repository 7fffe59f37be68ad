/* labels.h - the rows of a classifier: the last rows of the documents of a batch, chunk by chunk (shard/shape.h), as many
 * places in each chunk as the fullest has, the others empty. So every tensor rank has as many places, all of its own rows, and
 * a time block is a run of them; what is empty adds zeros to a chain. Host memory. */
#ifndef GD_TRAINER_LABELS_H
#define GD_TRAINER_LABELS_H

#include "io/data/dataset.h"
#include "shard/shape.h"

typedef struct gd_labels {
  int32_t depth;  /* places of a chunk; of a sequence chunks * depth */
  int32_t *rows;  /* [sequences][chunks][depth] sequence * T + t, of the batch; -1: empty */
  float *weights; /* 0: empty */
  void *labels;   /* softmax: int32, a class each; sigmoid: float32 [..][columns] */
} gd_labels;

/* Bytes for a batch of `sequences`; 0: no classifier. */
int64_t gd_labels_bytes(const gd_shape *shape, int32_t sequences);
/* From a batch into memory of gd_labels_bytes. GD_BUG: the batch has none of this shape. Local. */
GD_CHECKED gd_status gd_labels_fill(const gd_shape *shape, bool sigmoid, const gd_batch *batch, void *memory, gd_labels *out);

#endif
