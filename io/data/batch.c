/* batch.c - the arrays of a batch, one behind the other. */
#include "io/data/batch.h"

#include <stdlib.h>
#include <string.h>

/* The arrays of a token's numbers, then those of a document's. */
static size_t numbers_of(const gd_batch_shape *shape, size_t *documents) {
  size_t tokens = (size_t)shape->sequences * (size_t)shape->length;
  *documents = (size_t)shape->sequences * (size_t)shape->documents;
  return 5 * tokens + *documents * (2 + (size_t)shape->columns);
}

size_t gd_batch_bytes(const gd_batch_shape *shape) {
  size_t documents;
  return numbers_of(shape, &documents) * 4;
}

void gd_batch_place(void *memory, const gd_batch_shape *shape, gd_batch *out) {
  size_t count = (size_t)shape->sequences * (size_t)shape->length, documents;
  int32_t *arrays = memory;
  float *floats = memory;
  memset(memory, 0, numbers_of(shape, &documents) * 4);
  *out = (gd_batch){.sequences = shape->sequences, .length = shape->length, .borrowed = true};
  out->documents = shape->documents;
  out->columns = shape->columns;
  out->tokens = arrays;
  out->targets = arrays + count;
  out->weights = floats + 2 * count;
  out->document_starts = arrays + 3 * count;
  out->positions = arrays + 4 * count;
  out->label_rows = arrays + 5 * count;
  out->label_weights = floats + 5 * count + documents;
  out->labels = floats + 5 * count + 2 * documents;
  memset(out->label_rows, 0xFF, documents * sizeof *out->label_rows);
}

gd_status gd_batch_open_as(const gd_batch_shape *shape, gd_batch *out) {
  void *memory = malloc(gd_batch_bytes(shape) + 4);
  *out = (gd_batch){0};
  if (!memory) return gd_fail(GD_NO_MEMORY, "no memory for a batch of %d x %d tokens", shape->sequences, shape->length);
  gd_batch_place(memory, shape, out);
  out->borrowed = false;
  return GD_OK;
}

gd_status gd_batch_open(int32_t sequences, int32_t length, gd_batch *out) {
  return gd_batch_open_as(&(gd_batch_shape){.sequences = sequences, .length = length}, out);
}

void gd_batch_close(gd_batch *batch) {
  if (!batch->borrowed) free(batch->tokens); /* where its memory begins */
  *batch = (gd_batch){0};
}
