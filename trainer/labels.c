/* labels.c - deals the documents of a batch to the chunks of its sequences. */
#include "trainer/labels.h"

#include <string.h>

int64_t gd_labels_bytes(const gd_shape *shape, int32_t sequences) {
  return shape->classes ? sequences * shape->chunks * shape->chunk_documents * (4 + shape->label_columns) * 4 : 0;
}

/* Documents of the fullest chunk, at least 1. */
static int32_t depth_of(const gd_shape *shape, const gd_batch *batch) {
  int32_t deepest = 1;
  for (int32_t s = 0; s < batch->sequences; s++) {
    int64_t chunk = -1;
    for (int32_t d = 0, here = 0; d < batch->documents; d++) {
      int32_t row = batch->label_rows[(int64_t)s * batch->documents + d];
      if (row < 0) break;
      here = row / shape->chunk == chunk ? here + 1 : 1;
      chunk = row / shape->chunk;
      if (here > deepest) deepest = here;
    }
  }
  return deepest;
}

gd_status gd_labels_fill(const gd_shape *shape, bool sigmoid, const gd_batch *batch, void *memory, gd_labels *out) {
  int32_t depth = depth_of(shape, batch);
  if (batch->columns != shape->label_columns || batch->length != shape->sequence || depth > shape->chunk_documents)
    return gd_fail(GD_BUG, "%d columns of labels for %d, %d documents in a chunk of %d", batch->columns,
                   (int)shape->label_columns, depth, (int)shape->chunk_documents);
  int64_t count = batch->sequences * shape->chunks * depth, places = shape->all_blocks * depth; /* in all, of a time block */
  *out = (gd_labels){.depth = depth, .rows = memory};
  out->given = out->rows + count;
  out->order = out->given + count;
  out->weights = (float *)memory + 3 * count;
  out->labels = out->weights + count;
  int32_t *classes = out->labels;
  float *columns = out->labels;
  memset(out->rows, 0xFF, 3 * (size_t)count * sizeof *out->rows);
  memset(out->weights, 0, (size_t)(count * (1 + shape->label_columns)) * 4);
  for (int32_t s = 0; s < batch->sequences; s++) {
    int64_t chunk = -1, block = -1, given = 0, at = 0;
    for (int32_t d = 0; d < batch->documents; d++) {
      int64_t from = (int64_t)s * batch->documents + d;
      int32_t row = batch->label_rows[from];
      if (row < 0) break;
      given = row / shape->chunk == chunk ? given + 1 : (s * shape->chunks + row / shape->chunk) * depth;
      chunk = row / shape->chunk;
      at = row / shape->time_block == block ? at + 1 : (s * shape->time_blocks + row / shape->time_block) * places;
      block = row / shape->time_block;
      out->rows[at] = out->given[given] = (int32_t)(s * shape->sequence + row);
      out->order[at] = (int32_t)given;
      out->weights[at] = batch->label_weights[from];
      if (sigmoid)
        memcpy(columns + at * batch->columns, batch->labels + from * batch->columns, (size_t)batch->columns * sizeof *columns);
      else
        classes[at] = (int32_t)batch->labels[from];
    }
  }
  return GD_OK;
}
