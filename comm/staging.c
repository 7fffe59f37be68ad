/* staging.c - see staging.h. All calls of a stream use the same memory: they, and the copies beside them, are in its order. */
#include "comm/staging.h"

#include <pthread.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 64, LEAST_BYTES = 1 << 20, ARGUMENTS_BYTES = 256 };

/* What belongs to one stream. */
typedef struct lane {
  struct lane *next;
  gd_staging *staging;
  gd_stream *stream;
  gd_stream *thread; /* of the staging's host device */
  char *memory;
  size_t bytes;
  uint32_t *done;   /* pinned: the calls that have ended; the stream waits for it */
  uint32_t calls;   /* enqueued so far, modulo 2^32, as the others */
  uint32_t arrived; /* calls whose pieces are in host memory; under the lock */
} lane;

struct gd_staging {
  gd_device *device;
  gd_device host; /* its streams are the threads */
  lane *lanes;
  pthread_mutex_t lock;
  pthread_cond_t changed;
  gd_error fault; /* the first one: no call is made after it */
  bool stop;      /* what has not arrived never will */
};

typedef struct staged_call {
  lane *lane;
  uint32_t number;
  gd_stream_task *task;
  alignas(16) unsigned char arguments[ARGUMENTS_BYTES];
} staged_call;

gd_status gd_staging_open(gd_device *device, gd_staging **out) {
  *out = NULL;
  gd_staging *staging = calloc(1, sizeof *staging);
  if (!staging) return gd_fail(GD_NO_MEMORY, "out of memory for collectives in host memory");
  gd_status status = gd_device_open_cpu(&staging->host);
  if (status != GD_OK) {
    free(staging);
    return status;
  }
  staging->device = device;
  pthread_mutex_init(&staging->lock, NULL);
  pthread_cond_init(&staging->changed, NULL);
  *out = staging;
  return GD_OK;
}

static void lane_close(lane *own) {
  gd_device *device = own->staging->device;
  if (own->thread) own->thread->device->ops->stream_destroy(own->thread);
  device->ops->free_host(device, own->memory);
  device->ops->free_host(device, own->done);
  free(own);
}

void gd_staging_close(gd_staging *staging) {
  if (!staging) return;
  pthread_mutex_lock(&staging->lock);
  staging->stop = true;
  pthread_cond_broadcast(&staging->changed);
  pthread_mutex_unlock(&staging->lock);
  while (staging->lanes) {
    lane *own = staging->lanes;
    staging->lanes = own->next;
    lane_close(own);
  }
  staging->host.ops->close(&staging->host);
  pthread_cond_destroy(&staging->changed);
  pthread_mutex_destroy(&staging->lock);
  free(staging);
}

static gd_status find_lane(gd_staging *staging, gd_stream *stream, lane **out) {
  gd_device *device = staging->device;
  void *done;
  for (*out = staging->lanes; *out; *out = (*out)->next)
    if ((*out)->stream == stream) return GD_OK;
  lane *own = calloc(1, sizeof *own);
  if (!own) return gd_fail(GD_NO_MEMORY, "out of memory for the collectives of a stream");
  own->staging = staging;
  own->stream = stream;
  gd_status status = device->ops->alloc_host(device, sizeof *own->done, &done);
  if (status == GD_OK) {
    own->done = done;
    *own->done = 0;
    status = staging->host.ops->stream_create(&staging->host, &own->thread);
  }
  if (status != GD_OK) {
    lane_close(own);
    return status;
  }
  own->next = staging->lanes;
  staging->lanes = *out = own;
  return GD_OK;
}

static gd_status grow(lane *own, size_t bytes) {
  gd_device *device = own->staging->device;
  void *memory;
  size_t wanted = LEAST_BYTES;
  while (wanted < bytes) wanted *= 2;
  GD_TRY(device->ops->stream_sync(own->stream)); /* earlier calls are in the old one */
  device->ops->free_host(device, own->memory);
  own->memory = NULL;
  own->bytes = 0;
  GD_TRY(device->ops->alloc_host(device, wanted, &memory));
  own->memory = memory;
  own->bytes = wanted;
  return GD_OK;
}

static size_t aligned(size_t bytes) {
  return (bytes + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
}

gd_status gd_staging_place(gd_staging *staging, gd_stream *stream, gd_piece *pieces, int32_t count) {
  lane *own;
  size_t bytes = 0;
  GD_TRY(find_lane(staging, stream, &own));
  for (int32_t i = 0; i < count; i++) bytes += aligned(pieces[i].bytes);
  if (bytes > own->bytes) GD_TRY(grow(own, bytes));
  char *at = own->memory;
  for (int32_t i = 0; i < count; i++) {
    pieces[i].host = at;
    if (pieces[i].bytes) at += aligned(pieces[i].bytes);
  }
  return GD_OK;
}

/* In stream order: what a call reads is there. */
static gd_status arrive(void *arguments) {
  const staged_call *c = arguments;
  gd_staging *staging = c->lane->staging;
  pthread_mutex_lock(&staging->lock);
  c->lane->arrived = c->number;
  pthread_cond_broadcast(&staging->changed);
  pthread_mutex_unlock(&staging->lock);
  return GD_OK;
}

/* On the lane's thread. The stream goes on whatever came of the call: `finish` has the fault. A device with a fault runs no
 * task, so after one nobody waits for what arrives. */
static gd_status work(void *arguments) {
  staged_call *c = arguments;
  gd_staging *staging = c->lane->staging;
  pthread_mutex_lock(&staging->lock);
  while (c->lane->arrived != c->number && staging->fault.code == GD_OK && !staging->stop)
    pthread_cond_wait(&staging->changed, &staging->lock);
  bool due = c->lane->arrived == c->number && staging->fault.code == GD_OK;
  pthread_mutex_unlock(&staging->lock);
  gd_status status = due ? c->task(c->arguments) : GD_OK;
  if (status != GD_OK) {
    pthread_mutex_lock(&staging->lock);
    if (staging->fault.code == GD_OK) gd_error_take(status, &staging->fault);
    pthread_cond_broadcast(&staging->changed);
    pthread_mutex_unlock(&staging->lock);
  }
  __atomic_store_n(c->lane->done, c->number, __ATOMIC_RELEASE);
  return GD_OK;
}

/* In stream order again. */
static gd_status finish(void *arguments) {
  const staged_call *c = arguments;
  gd_staging *staging = c->lane->staging;
  pthread_mutex_lock(&staging->lock);
  gd_status status = staging->fault.code == GD_OK ? GD_OK : gd_error_raise(&staging->fault);
  pthread_mutex_unlock(&staging->lock);
  return status;
}

static gd_status copy_in(const gd_device_ops *ops, gd_stream *stream, const gd_piece *pieces, int32_t count) {
  for (const gd_piece *p = pieces; p < pieces + count; p++)
    if (p->in) GD_TRY(ops->copy(stream, p->host, p->device, p->bytes, GD_COPY_DEVICE_TO_HOST));
  return GD_OK;
}

static gd_status copy_out(const gd_device_ops *ops, gd_stream *stream, const gd_piece *pieces, int32_t count) {
  for (const gd_piece *p = pieces; p < pieces + count; p++)
    if (p->out) GD_TRY(ops->copy(stream, p->device, p->host, p->bytes, GD_COPY_HOST_TO_DEVICE));
  return GD_OK;
}

gd_status gd_staging_call(gd_staging *staging, gd_stream *stream, const char *name, gd_stream_task *task, const void *arguments,
                          size_t arguments_bytes, const gd_piece *pieces, int32_t count) {
  const gd_device_ops *ops = staging->device->ops;
  lane *own;
  if (arguments_bytes > ARGUMENTS_BYTES)
    return gd_fail(GD_BUG, "%s has %zu bytes of arguments, more than %d", name, arguments_bytes, ARGUMENTS_BYTES);
  GD_TRY(find_lane(staging, stream, &own));
  staged_call c = {.lane = own, .number = own->calls + 1, .task = task};
  memcpy(c.arguments, arguments, arguments_bytes);
  size_t head = offsetof(staged_call, arguments);
  GD_TRY(copy_in(ops, stream, pieces, count));
  GD_TRY(ops->enqueue(stream, name, arrive, &c, head, NULL, 0));
  GD_TRY(staging->host.ops->enqueue(own->thread, name, work, &c, sizeof c, NULL, 0));
  own->calls = c.number;
  GD_TRY(ops->stream_wait_flag(stream, own->done, c.number));
  GD_TRY(ops->enqueue(stream, name, finish, &c, head, NULL, 0));
  return copy_out(ops, stream, pieces, count);
}
