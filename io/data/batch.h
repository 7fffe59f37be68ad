/* batch.h - what a step trains on: tokens, targets and labels of some sequences. */
#ifndef GD_IO_DATA_BATCH_H
#define GD_IO_DATA_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shard/base/status.h"

/* Host memory, row-major [sequences][length], owned by whoever made it. */
typedef struct gd_batch {
  int32_t sequences, length;
  int32_t *tokens;
  int32_t *targets;         /* the next token; 0 where weights is 0 */
  float *weights;           /* 1, or 0 where there is no target; of a task, where the next token is none */
  int32_t *document_starts; /* index in the window where the token's document begins; all 0 when documents are not masked; of a
                               task always there, and what lies behind the last document begins at its end */
  int32_t *positions;       /* of the token in its document */
  /* Of a classification, the documents of each sequence from left to right: */
  int32_t documents, columns; /* most that a sequence has, and numbers of each; else 0 */
  int32_t *label_rows;        /* [sequences][documents] index of the last token in the sequence; -1 behind the last document */
  float *labels;              /* [sequences][documents][columns] as in a shard */
  float *label_weights;       /* [sequences][documents] in the loss */
  bool borrowed;              /* the arrays lie in memory of somebody else */
} gd_batch;

typedef struct gd_batch_shape {
  int32_t sequences, length, documents, columns;
} gd_batch_shape;

/* Allocates the arrays, zeroed, label_rows -1. GD_NO_MEMORY. */
GD_CHECKED gd_status gd_batch_open(int32_t sequences, int32_t length, gd_batch *out);
GD_CHECKED gd_status gd_batch_open_as(const gd_batch_shape *shape, gd_batch *out);
/* The same in the caller's memory of gd_batch_bytes, which may be such as a device copies from without waiting; 4-aligned. */
size_t gd_batch_bytes(const gd_batch_shape *shape);
void gd_batch_place(void *memory, const gd_batch_shape *shape, gd_batch *out);
void gd_batch_close(gd_batch *batch);

#endif
