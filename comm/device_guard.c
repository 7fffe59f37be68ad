/* device_guard.c - guard bytes around device memory, for those who look for a write outside it. */
#include "comm/device_guard.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { GUARD_BYTES = 4096, GUARD = 0xA5, POISON = 0xFF }; /* 4096: a request stays as aligned as its memory */

typedef struct request {
  struct request *next;
  char *memory; /* the guard before it */
  size_t bytes; /* as asked for, without guards */
  int64_t number;
} request;

/* Behind device->ops: the table that callers see, and what it stands on. */
typedef struct guard {
  gd_device_ops ops; /* first */
  const gd_device_ops *base;
  gd_stream *stream; /* fills and looks, so that the device's own streams are left alone */
  pthread_mutex_t lock;
  request *requests;
  int64_t count;
} guard;

static guard *guard_of(const gd_device *device) {
  return (guard *)(uintptr_t)device->ops;
}

static gd_status fill(guard *g, char *memory, size_t bytes) {
  GD_TRY(g->base->fill(g->stream, memory, GUARD, GUARD_BYTES));
  GD_TRY(g->base->fill(g->stream, memory + GUARD_BYTES, POISON, bytes));
  GD_TRY(g->base->fill(g->stream, memory + GUARD_BYTES + bytes, GUARD, GUARD_BYTES));
  return g->base->stream_sync(g->stream);
}

static gd_status guard_alloc(gd_device *device, size_t bytes, void **out) {
  guard *g = guard_of(device);
  void *memory = NULL;
  *out = NULL;
  if (bytes > SIZE_MAX / 2) return g->base->alloc(device, bytes, out);
  request *r = malloc(sizeof *r);
  if (!r) return gd_fail(GD_NO_MEMORY, "out of memory for a record of device memory");
  gd_status status = g->base->alloc(device, bytes + 2 * (size_t)GUARD_BYTES, &memory);
  if (status == GD_OK) status = fill(g, memory, bytes);
  if (status != GD_OK) {
    g->base->free(device, memory);
    free(r);
    return status;
  }
  pthread_mutex_lock(&g->lock);
  *r = (request){g->requests, memory, bytes, ++g->count};
  g->requests = r;
  pthread_mutex_unlock(&g->lock);
  *out = r->memory + GUARD_BYTES;
  return GD_OK;
}

/* The bytes of one guard that are not as they were, and the first of them, from the guard's start. */
static int overwritten(const unsigned char *bytes, int *first) {
  int count = 0;
  for (int i = GUARD_BYTES - 1; i >= 0; i--)
    if (bytes[i] != GUARD) count++, *first = i;
  return count;
}

static void look(guard *g, const request *r) {
  unsigned char found[2][GUARD_BYTES];
  const char *after = r->memory + GUARD_BYTES + r->bytes;
  if (g->base->copy(g->stream, found[0], r->memory, GUARD_BYTES, GD_COPY_DEVICE_TO_HOST) != GD_OK ||
      g->base->copy(g->stream, found[1], after, GUARD_BYTES, GD_COPY_DEVICE_TO_HOST) != GD_OK ||
      g->base->stream_sync(g->stream) != GD_OK) {
    gd_error_clear(); /* a device with a fault, which is told where it is waited for */
    return;
  }
  for (int side = 0; side < 2; side++) {
    int first = 0, count = overwritten(found[side], &first);
    if (!count) continue;
    (void)gd_fail(
        GD_BUG,
        "GPTDIST_DEVICE_GUARD: %d bytes %s a request for %zu bytes of memory (number %lld) were overwritten, the first "
        "of them %d bytes %s, with 0x%02x: a kernel or a copy wrote outside its memory",
        count, side ? "after" : "before", r->bytes, (long long)r->number, side ? first : GUARD_BYTES - first,
        side ? "after its end" : "before its start", found[side][first]);
    fprintf(stderr, "gptdist: error: %s%s\n", gd_error_whose(), gd_error_text()); /* leaves: as a sanitizer does, */
    _exit(GD_BUG); /* leaves: since giving memory back reports no fault */
  }
}

/* What was enqueued may still write: it ends first. */
static void wait_for_all(const guard *g, const gd_device *device) {
  if (g->base->stream_sync(device->communication) != GD_OK) gd_error_clear();
  if (g->base->stream_sync(device->compute) != GD_OK) gd_error_clear();
}

static void guard_free(gd_device *device, void *pointer) {
  if (!pointer) return;
  guard *g = guard_of(device);
  wait_for_all(g, device);
  pthread_mutex_lock(&g->lock);
  request **link = &g->requests, *r = NULL;
  while (*link && (*link)->memory + GUARD_BYTES != pointer) link = &(*link)->next;
  if (*link) {
    r = *link;
    *link = r->next;
  }
  pthread_mutex_unlock(&g->lock);
  if (!r) {
    g->base->free(device, pointer); /* from before the guards */
    return;
  }
  look(g, r);
  g->base->free(device, r->memory);
  free(r);
}

static void guard_close(gd_device *device) {
  guard *g = guard_of(device);
  wait_for_all(g, device);
  while (g->requests) {
    request *r = g->requests;
    g->requests = r->next;
    look(g, r);
    g->base->free(device, r->memory);
    free(r);
  }
  g->base->stream_destroy(g->stream);
  device->ops = g->base;
  pthread_mutex_destroy(&g->lock);
  free(g);
  device->ops->close(device);
}

gd_status gd_device_guard(gd_device *device) {
  if (!gd_device_guarded()) return GD_OK;
  guard *g = calloc(1, sizeof *g);
  if (!g) return gd_fail(GD_NO_MEMORY, "out of memory for the guards of the device");
  g->base = device->ops;
  gd_status status = g->base->stream_create(device, &g->stream);
  if (status != GD_OK) {
    free(g);
    return status;
  }
  pthread_mutex_init(&g->lock, NULL);
  g->ops = *g->base;
  g->ops.alloc = guard_alloc;
  g->ops.free = guard_free;
  g->ops.close = guard_close;
  device->ops = &g->ops;
  return GD_OK;
}
