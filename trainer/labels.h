/* labels.h - the rows of a classifier: the last rows of the documents of a batch. Each chunk (shard/shape.h) has as many places
 * as the fullest has documents, so every tensor rank gives as many, all of its own rows. Then the documents of a time block
 * move to its first places: what is empty comes behind them, and the chain over them does not depend on how many places there
 * are, also where its terms are taken in pairs or more at a time. Host memory. */
#ifndef GD_TRAINER_LABELS_H
#define GD_TRAINER_LABELS_H

#include "io/data/dataset.h"
#include "shard/shape.h"

typedef struct gd_labels {
  int32_t depth;  /* places of a chunk; of a sequence chunks * depth */
  int32_t *rows;  /* [sequences][time blocks][R * depth] sequence * T + t, of the batch; -1: empty */
  int32_t *given; /* [sequences][chunks][depth] the same chunk by chunk */
  int32_t *order; /* as rows: the place in given */
  float *weights; /* as rows; 0: empty */
  void *labels;   /* softmax: int32, a class each; sigmoid: float32 [..][columns] */
} gd_labels;

/* Bytes for a batch of `sequences`; 0: no classifier. */
int64_t gd_labels_bytes(const gd_shape *shape, int32_t sequences);
/* From a batch into memory of gd_labels_bytes. GD_BUG: the batch has none of this shape. Local. */
GD_CHECKED gd_status gd_labels_fill(const gd_shape *shape, bool sigmoid, const gd_batch *batch, void *memory, gd_labels *out);

#endif
