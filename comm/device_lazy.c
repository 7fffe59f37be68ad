/* device_lazy.c - CPU devices for tests that show a missing wait without a GPU, by running each stream at an extreme of what
 * its order allows.
 *
 * lazy: nothing runs until somebody waits for it. Every stream only queues. stream_sync and event_sync run what they wait for,
 * in stream order, on the calling thread; a wait inside a stream runs the other stream as far as its event, no further. The
 * named output of a task is filled with 0xFF bytes (a NaN in every float type) as soon as the stream's order allows the task to
 * run, so a reader that forgot to wait finds NaNs, and one that reads too late finds what came after. This shows a compute
 * stream that does not wait for communication.
 *
 * eager: the compute stream is lazy still, and every other stream runs as soon as its order and its waits allow, inside the
 * call that enqueues or that lets an event pass. So what communication should have waited for is not there yet, or is
 * overwritten before compute has read it. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "comm/device_host.h"
#include "shard/base/progress.h"

typedef struct state {
  pthread_mutex_t lock; /* recursive: a task may enqueue */
  struct stream *streams;
  bool eager;
} state;

typedef struct stream {
  gd_stream base;
  gd_operation_queue queue;
  bool early;    /* runs as soon as it may */
  bool running;  /* inside a task */
  bool poisoned; /* the first task of the queue has had its output poisoned */
  gd_error fault;
  struct stream *next; /* of the device */
} stream;

struct gd_event {
  state *device;
  stream *recorded_on;
  uint64_t recorded, passed;
  int32_t queued; /* markers in queues; a destroyed event lives until the last has passed */
  bool destroyed;
  gd_error fault;
};

static state *state_of(const gd_device *device) {
  return device->state;
}

static bool waits(const gd_operation *operation) {
  return operation->kind == GD_OPERATION_WAIT && operation->event->passed < operation->generation;
}

static void drop_reference(gd_event *event) {
  event->queued--;
  if (event->destroyed && event->queued == 0) free(event);
}

static void run_task(stream *s) {
  gd_operation *operation = gd_operation_pop(&s->queue);
  s->poisoned = false;
  s->running = true;
  if (s->fault.code == GD_OK) {
    gd_status status = gd_stream_run(&s->base, operation->name, operation->task, operation->arguments);
    gd_progress();
    if (status != GD_OK) gd_error_take(status, &s->fault);
  }
  s->running = false;
  gd_operation_release(&s->queue, operation);
}

static void pass_marker(stream *s) {
  gd_operation *operation = gd_operation_pop(&s->queue);
  gd_event *event = operation->event;
  if (operation->kind == GD_OPERATION_RECORD) {
    if (operation->generation > event->passed) event->passed = operation->generation;
    if (event->fault.code == GD_OK) event->fault = s->fault;
  } else if (s->fault.code == GD_OK) {
    s->fault = event->fault;
  }
  gd_operation_release(&s->queue, operation);
  drop_reference(event);
}

/* Markers at the head cost nothing and hide nothing: they pass at once. A task at the head may run from now on: an early stream
 * runs it, others poison its output. Returns whether anything passed. */
static bool settle(stream *s) {
  gd_operation *first;
  bool moved = false;
  if (s->running) return false;
  for (; (first = s->queue.first) && !waits(first); moved = true) {
    if (first->kind != GD_OPERATION_TASK)
      pass_marker(s);
    else if (s->early)
      run_task(s);
    else
      break;
  }
  if (first && first->kind == GD_OPERATION_TASK && !s->poisoned) {
    if (first->output && s->fault.code == GD_OK) memset(first->output, 0xFF, first->output_bytes);
    s->poisoned = true;
  }
  return moved;
}

/* Until no stream goes on by itself: one that passes an event may let another pass. */
static void settle_all(state *device) {
  bool moved = true;
  while (moved) {
    moved = false;
    for (stream *s = device->streams; s; s = s->next) moved = settle(s) || moved;
  }
}

static void run_first(stream *s);

/* Runs the stream that holds that record of the event until the event has passed. */
static void run_until(gd_event *event, uint64_t generation, stream *source) {
  event->queued++; /* running may settle the last marker of a destroyed event */
  while (event->passed < generation) run_first(source);
  drop_reference(event);
}

static void run_first(stream *s) {
  gd_operation *first = s->queue.first;
  if (waits(first))
    run_until(first->event, first->generation, (stream *)first->source);
  else if (first->kind == GD_OPERATION_TASK)
    run_task(s);
  settle_all(state_of(s->base.device));
}

static gd_status lazy_enqueue(gd_stream *base, const char *name, gd_stream_task *task, const void *arguments,
                              size_t arguments_bytes, void *output, size_t output_bytes) {
  stream *s = (stream *)base;
  state *device = state_of(base->device);
  GD_TRY(gd_operation_check_arguments(arguments_bytes));
  pthread_mutex_lock(&device->lock);
  gd_operation *operation;
  gd_status status =
      s->fault.code != GD_OK ? gd_error_raise(&s->fault) : gd_operation_push(&s->queue, GD_OPERATION_TASK, &operation);
  if (status == GD_OK) {
    operation->name = name;
    operation->task = task;
    operation->output = output;
    operation->output_bytes = output_bytes;
    if (arguments_bytes) memcpy(operation->arguments, arguments, arguments_bytes);
    settle_all(device);
  }
  pthread_mutex_unlock(&device->lock);
  return status;
}

static gd_status push_marker(gd_stream *base, gd_event *event, gd_operation_kind kind) {
  stream *s = (stream *)base;
  pthread_mutex_lock(&event->device->lock);
  gd_operation *operation;
  gd_status status = gd_operation_push(&s->queue, kind, &operation);
  if (status == GD_OK) {
    if (kind == GD_OPERATION_RECORD) {
      event->recorded++;
      event->recorded_on = s;
    }
    operation->event = event;
    operation->generation = event->recorded;
    operation->source = (gd_stream *)event->recorded_on;
    event->queued++;
    settle_all(event->device);
  }
  pthread_mutex_unlock(&event->device->lock);
  return status;
}

static gd_status lazy_event_record(gd_event *event, gd_stream *on) {
  return push_marker(on, event, GD_OPERATION_RECORD);
}

static gd_status lazy_stream_wait(gd_stream *base, gd_event *event) {
  return push_marker(base, event, GD_OPERATION_WAIT);
}

static gd_status lazy_stream_sync(gd_stream *base) {
  stream *s = (stream *)base;
  state *device = state_of(base->device);
  pthread_mutex_lock(&device->lock);
  while (s->queue.first) run_first(s);
  gd_status status = s->fault.code == GD_OK ? GD_OK : gd_error_raise(&s->fault);
  pthread_mutex_unlock(&device->lock);
  return status;
}

static gd_status lazy_event_sync(gd_event *event) {
  pthread_mutex_lock(&event->device->lock);
  run_until(event, event->recorded, event->recorded_on);
  gd_status status = event->fault.code == GD_OK ? GD_OK : gd_error_raise(&event->fault);
  pthread_mutex_unlock(&event->device->lock);
  return status;
}

static gd_status lazy_event_create(gd_device *device, gd_event **out) {
  *out = calloc(1, sizeof **out);
  if (!*out) return gd_fail(GD_NO_MEMORY, "out of memory for an event");
  (*out)->device = state_of(device);
  return GD_OK;
}

static void lazy_event_destroy(gd_event *event) {
  if (!event) return;
  state *device = event->device;
  pthread_mutex_lock(&device->lock);
  event->destroyed = true;
  event->queued++;
  drop_reference(event);
  pthread_mutex_unlock(&device->lock);
}

static gd_status lazy_stream_create(gd_device *device, gd_stream **out) {
  stream *s = calloc(1, sizeof *s);
  if (!s) return gd_fail(GD_NO_MEMORY, "out of memory for a stream");
  s->base.device = device;
  state *own = state_of(device);
  s->early = own->eager && device->compute; /* compute is the first one */
  pthread_mutex_lock(&own->lock);
  s->next = own->streams;
  own->streams = s;
  pthread_mutex_unlock(&own->lock);
  *out = &s->base;
  return GD_OK;
}

/* What is queued still runs. */
static void lazy_stream_destroy(gd_stream *base) {
  if (!base) return;
  stream *s = (stream *)base;
  state *device = state_of(base->device);
  pthread_mutex_lock(&device->lock);
  while (s->queue.first) run_first(s);
  stream **link = &device->streams;
  while (*link != s) link = &(*link)->next;
  *link = s->next;
  pthread_mutex_unlock(&device->lock);
  gd_operation_free_all(&s->queue);
  free(s);
}

static void lazy_close(gd_device *device) {
  lazy_stream_destroy(device->communication);
  lazy_stream_destroy(device->compute);
  state *own = state_of(device);
  if (own) {
    pthread_mutex_destroy(&own->lock);
    free(own);
  }
  memset(device, 0, sizeof *device);
}

static const gd_device_ops lazy_ops = {
    .name = "lazy",
    .alloc = gd_host_alloc,
    .free = gd_host_free,
    .alloc_host = gd_host_alloc,
    .free_host = gd_host_free,
    .stream_create = lazy_stream_create,
    .stream_destroy = lazy_stream_destroy,
    .copy = gd_host_copy,
    .fill = gd_host_fill,
    .enqueue = lazy_enqueue,
    .event_create = lazy_event_create,
    .event_destroy = lazy_event_destroy,
    .event_record = lazy_event_record,
    .stream_wait = lazy_stream_wait,
    .stream_wait_flag = gd_host_stream_wait_flag,
    .stream_sync = lazy_stream_sync,
    .event_sync = lazy_event_sync,
    .memory_used = gd_host_memory_used,
    .close = lazy_close,
};

static gd_status open_device(gd_device *out, bool eager) {
  memset(out, 0, sizeof *out);
  out->ops = &lazy_ops;
  state *own = calloc(1, sizeof *own);
  if (!own) return gd_fail(GD_NO_MEMORY, "out of memory for the lazy device");
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
  pthread_mutex_init(&own->lock, &attributes);
  pthread_mutexattr_destroy(&attributes);
  own->eager = eager;
  out->state = own;
  gd_host_describe(out, eager ? "eager CPU" : "lazy CPU");
  gd_status status = lazy_stream_create(out, &out->compute);
  if (status == GD_OK) status = lazy_stream_create(out, &out->communication);
  if (status != GD_OK) {
    lazy_close(out);
    return status;
  }
  return GD_OK;
}

gd_status gd_device_open_lazy(gd_device *out) {
  return open_device(out, false);
}

gd_status gd_device_open_eager(gd_device *out) {
  return open_device(out, true);
}
