/* prefetch.c - the reader thread of gd_prefetch: a ring of batches, filled ahead, handed over in step order. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "comm/machine.h"
#include "io/data/dataset.h"

struct gd_prefetch {
  gd_dataset *dataset;
  gd_prefetch_plan plan;
  int64_t *offsets;      /* [plan.count] */
  gd_batch *ring;        /* [plan.depth] */
  int64_t filled, taken; /* batches since the start */
  bool stop, started;
  gd_error fault;
  pthread_mutex_t mutex;
  pthread_cond_t changed;
  pthread_t thread;
};

static gd_status fill(gd_prefetch *prefetch, int64_t step, gd_batch *batch) {
  int64_t first = step * prefetch->plan.draws_per_step;
  for (int32_t row = 0; row < prefetch->plan.count; row++)
    GD_TRY(gd_dataset_read(prefetch->dataset, first + prefetch->offsets[row], 1, batch, row));
  return GD_OK;
}

static void *reader(void *argument) {
  gd_prefetch *prefetch = argument;
  pthread_mutex_lock(&prefetch->mutex);
  while (!prefetch->stop) {
    if (prefetch->filled - prefetch->taken >= prefetch->plan.depth) {
      pthread_cond_wait(&prefetch->changed, &prefetch->mutex);
      continue;
    }
    int64_t next = prefetch->filled;
    pthread_mutex_unlock(&prefetch->mutex);
    gd_status status = fill(prefetch, prefetch->plan.start_step + next, &prefetch->ring[next % prefetch->plan.depth]);
    pthread_mutex_lock(&prefetch->mutex);
    if (status == GD_OK) {
      prefetch->filled++;
    } else {
      gd_error_take(status, &prefetch->fault);
      prefetch->stop = true;
    }
    pthread_cond_broadcast(&prefetch->changed);
  }
  pthread_mutex_unlock(&prefetch->mutex);
  return NULL;
}

gd_status gd_prefetch_open(gd_dataset *dataset, const gd_prefetch_plan *plan, gd_prefetch **out) {
  *out = NULL;
  if (plan->count < 1 || plan->depth < 1 || plan->start_step < 0)
    return gd_fail(GD_BUG, "count %d, depth %d, step %lld", plan->count, plan->depth, (long long)plan->start_step);
  gd_prefetch *prefetch = calloc(1, sizeof *prefetch);
  if (!prefetch) return gd_fail(GD_NO_MEMORY, "no memory for a reader");
  prefetch->dataset = dataset;
  prefetch->plan = *plan;
  pthread_mutex_init(&prefetch->mutex, NULL);
  pthread_cond_init(&prefetch->changed, NULL);
  prefetch->offsets = calloc((size_t)plan->count, sizeof *prefetch->offsets);
  prefetch->ring = calloc((size_t)plan->depth, sizeof *prefetch->ring);
  gd_status status = GD_OK;
  if (!prefetch->offsets || !prefetch->ring) status = gd_fail(GD_NO_MEMORY, "no memory for a reader");
  for (int32_t row = 0; status == GD_OK && row < plan->count; row++)
    prefetch->offsets[row] = plan->offsets ? plan->offsets[row] : plan->first_offset + row;
  gd_batch_shape shape = gd_dataset_batch_shape(dataset, plan->count);
  for (int32_t i = 0; status == GD_OK && i < plan->depth; i++) status = gd_batch_open_as(&shape, &prefetch->ring[i]);
  if (status == GD_OK) {
    status = gd_machine_thread(&prefetch->thread, reader, prefetch, "the reader's thread");
    prefetch->started = status == GD_OK;
  }
  if (status != GD_OK) {
    gd_prefetch_close(prefetch);
    return status;
  }
  *out = prefetch;
  return GD_OK;
}

gd_status gd_prefetch_next(gd_prefetch *prefetch, gd_batch *out) {
  pthread_mutex_lock(&prefetch->mutex);
  while (prefetch->filled == prefetch->taken && !prefetch->stop) pthread_cond_wait(&prefetch->changed, &prefetch->mutex);
  bool ready = prefetch->filled > prefetch->taken;
  const gd_batch *batch = &prefetch->ring[prefetch->taken % prefetch->plan.depth];
  gd_error fault = prefetch->fault;
  pthread_mutex_unlock(&prefetch->mutex);
  if (!ready) return gd_error_raise(&fault);
  if (out->sequences != batch->sequences || out->length != batch->length || out->documents != batch->documents ||
      out->columns != batch->columns)
    return gd_fail(GD_BUG, "batch of %d x %d with %d documents of %d labels, the reader's is %d x %d with %d of %d",
                   out->sequences, out->length, out->documents, out->columns, batch->sequences, batch->length, batch->documents,
                   batch->columns);
  size_t count = (size_t)batch->sequences * (size_t)batch->length;
  memcpy(out->tokens, batch->tokens, count * sizeof *out->tokens);
  memcpy(out->targets, batch->targets, count * sizeof *out->targets);
  memcpy(out->weights, batch->weights, count * sizeof *out->weights);
  memcpy(out->document_starts, batch->document_starts, count * sizeof *out->document_starts);
  memcpy(out->positions, batch->positions, count * sizeof *out->positions);
  count = (size_t)batch->sequences * (size_t)batch->documents;
  memcpy(out->label_rows, batch->label_rows, count * sizeof *out->label_rows);
  memcpy(out->labels, batch->labels, count * (size_t)batch->columns * sizeof *out->labels);
  memcpy(out->label_weights, batch->label_weights, count * sizeof *out->label_weights);
  pthread_mutex_lock(&prefetch->mutex);
  prefetch->taken++;
  pthread_cond_broadcast(&prefetch->changed);
  pthread_mutex_unlock(&prefetch->mutex);
  return GD_OK;
}

void gd_prefetch_close(gd_prefetch *prefetch) {
  if (!prefetch) return;
  if (prefetch->started) {
    pthread_mutex_lock(&prefetch->mutex);
    prefetch->stop = true;
    pthread_cond_broadcast(&prefetch->changed);
    pthread_mutex_unlock(&prefetch->mutex);
    pthread_join(prefetch->thread, NULL);
  }
  for (int32_t i = 0; prefetch->ring && i < prefetch->plan.depth; i++) gd_batch_close(&prefetch->ring[i]);
  pthread_mutex_destroy(&prefetch->mutex);
  pthread_cond_destroy(&prefetch->changed);
  free(prefetch->ring);
  free(prefetch->offsets);
  free(prefetch);
}
