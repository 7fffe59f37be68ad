/* device_cpu.c - host memory; the compute stream runs each operation inside the call that enqueues it, every other stream is
 * a first-in first-out thread that starts with its first operation and sleeps while it has none.
 *
 * One lock and one condition for a device: a handful of threads meet here a few hundred times a step. */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "comm/device_host.h"
#include "comm/machine.h"
#include "shard/base/progress.h"

typedef struct state {
  pthread_mutex_t lock;
  pthread_cond_t changed; /* an event passed, a queue changed */
} state;

typedef struct stream {
  gd_stream base;
  bool is_inline;
  bool running;  /* the thread was started */
  bool stopping; /* the thread ends once its queue is empty */
  bool busy;     /* the thread is inside an operation */
  pthread_t thread;
  gd_operation_queue queue;
  gd_error fault; /* the first one; later operations are skipped, markers pass */
} stream;

struct gd_event {
  state *device;
  uint64_t recorded, passed; /* generations */
  int32_t queued;            /* markers in queues; a destroyed event lives until the last has passed */
  bool destroyed;
  gd_error fault; /* of the stream at its last passed record: a stream that waits takes it over */
};

static state *state_of(const gd_device *device) {
  return device->state;
}

static void take_over(stream *s, const gd_event *event) {
  if (s->fault.code == GD_OK && event->fault.code != GD_OK) s->fault = event->fault;
}

static void pass(gd_event *event, uint64_t generation, const stream *s) {
  if (generation > event->passed) event->passed = generation;
  if (event->fault.code == GD_OK && s->fault.code != GD_OK) event->fault = s->fault;
}

static void drop_reference(gd_event *event) {
  event->queued--;
  if (event->destroyed && event->queued == 0) free(event);
}

/* One operation on the stream's thread; the lock is held on entry and on return. */
static void run_operation(state *device, stream *s, gd_operation *operation) {
  if (operation->kind == GD_OPERATION_WAIT) {
    while (operation->event->passed < operation->generation) pthread_cond_wait(&device->changed, &device->lock);
    take_over(s, operation->event);
    drop_reference(operation->event);
  } else if (operation->kind == GD_OPERATION_RECORD) {
    pass(operation->event, operation->generation, s);
    drop_reference(operation->event);
  } else if (s->fault.code == GD_OK) {
    pthread_mutex_unlock(&device->lock);
    gd_status status = gd_stream_run(&s->base, operation->name, operation->task, operation->arguments);
    gd_progress();
    pthread_mutex_lock(&device->lock);
    if (status != GD_OK) gd_error_take(status, &s->fault);
  }
}

static void *stream_thread(void *argument) {
  stream *s = argument;
  state *device = state_of(s->base.device);
  pthread_mutex_lock(&device->lock);
  for (;;) {
    gd_operation *operation = gd_operation_pop(&s->queue);
    if (!operation) {
      if (s->stopping) break;
      pthread_cond_wait(&device->changed, &device->lock);
      continue;
    }
    s->busy = true;
    run_operation(device, s, operation);
    s->busy = false;
    gd_operation_release(&s->queue, operation);
    pthread_cond_broadcast(&device->changed);
  }
  pthread_mutex_unlock(&device->lock);
  return NULL;
}

/* Appends to a stream that has a thread; the lock is held. */
static gd_status append(state *device, stream *s, gd_operation_kind kind, gd_operation **out) {
  if (!s->running) {
    GD_TRY(gd_machine_thread(&s->thread, stream_thread, s, "the thread of a stream"));
    s->running = true;
  }
  GD_TRY(gd_operation_push(&s->queue, kind, out));
  pthread_cond_broadcast(&device->changed);
  return GD_OK;
}

static gd_status cpu_enqueue(gd_stream *base, const char *name, gd_stream_task *task, const void *arguments,
                             size_t arguments_bytes, void *output, size_t output_bytes) {
  stream *s = (stream *)base;
  (void)output;
  (void)output_bytes;
  GD_TRY(gd_operation_check_arguments(arguments_bytes));
  if (s->is_inline) {
    if (s->fault.code != GD_OK) return gd_error_raise(&s->fault);
    alignas(16) unsigned char copy[GD_TASK_BYTES];
    if (arguments_bytes) memcpy(copy, arguments, arguments_bytes);
    gd_status status = gd_stream_run(base, name, task, copy);
    gd_progress();
    if (status != GD_OK) gd_error_take(status, &s->fault);
    return status;
  }
  state *device = state_of(base->device);
  pthread_mutex_lock(&device->lock);
  gd_operation *operation;
  gd_status status = s->fault.code != GD_OK ? gd_error_raise(&s->fault) : append(device, s, GD_OPERATION_TASK, &operation);
  if (status == GD_OK) {
    operation->name = name;
    operation->task = task;
    if (arguments_bytes) memcpy(operation->arguments, arguments, arguments_bytes);
  }
  pthread_mutex_unlock(&device->lock);
  return status;
}

static gd_status cpu_event_record(gd_event *event, gd_stream *base) {
  stream *s = (stream *)base;
  state *device = event->device;
  gd_status status = GD_OK;
  pthread_mutex_lock(&device->lock);
  uint64_t generation = event->recorded + 1;
  if (s->is_inline || !s->running) {
    pass(event, generation, s);
    pthread_cond_broadcast(&device->changed);
  } else {
    gd_operation *operation;
    status = append(device, s, GD_OPERATION_RECORD, &operation);
    if (status == GD_OK) {
      operation->event = event;
      operation->generation = generation;
      event->queued++;
    }
  }
  if (status == GD_OK) event->recorded = generation;
  pthread_mutex_unlock(&device->lock);
  return status;
}

static gd_status cpu_stream_wait(gd_stream *base, gd_event *event) {
  stream *s = (stream *)base;
  state *device = event->device;
  gd_status status = GD_OK;
  pthread_mutex_lock(&device->lock);
  uint64_t generation = event->recorded;
  if (event->passed >= generation && (s->is_inline || !s->running)) {
    take_over(s, event);
  } else if (s->is_inline) {
    /* The inline stream is its caller: it can only go on after the event by waiting here. */
    while (event->passed < generation) pthread_cond_wait(&device->changed, &device->lock);
    take_over(s, event);
  } else {
    gd_operation *operation;
    status = append(device, s, GD_OPERATION_WAIT, &operation);
    if (status == GD_OK) {
      operation->event = event;
      operation->generation = generation;
      event->queued++;
    }
  }
  if (status == GD_OK && s->is_inline && s->fault.code != GD_OK) status = gd_error_raise(&s->fault);
  pthread_mutex_unlock(&device->lock);
  return status;
}

static gd_status cpu_stream_sync(gd_stream *base) {
  stream *s = (stream *)base;
  state *device = state_of(base->device);
  pthread_mutex_lock(&device->lock);
  while (s->queue.first || s->busy) pthread_cond_wait(&device->changed, &device->lock);
  gd_status status = s->fault.code == GD_OK ? GD_OK : gd_error_raise(&s->fault);
  pthread_mutex_unlock(&device->lock);
  return status;
}

static gd_status cpu_event_sync(gd_event *event) {
  state *device = event->device;
  pthread_mutex_lock(&device->lock);
  uint64_t generation = event->recorded;
  while (event->passed < generation) pthread_cond_wait(&device->changed, &device->lock);
  gd_status status = event->fault.code == GD_OK ? GD_OK : gd_error_raise(&event->fault);
  pthread_mutex_unlock(&device->lock);
  return status;
}

static gd_status cpu_event_create(gd_device *device, gd_event **out) {
  *out = calloc(1, sizeof **out);
  if (!*out) return gd_fail(GD_NO_MEMORY, "out of memory for an event");
  (*out)->device = state_of(device);
  return GD_OK;
}

static void cpu_event_destroy(gd_event *event) {
  if (!event) return;
  state *device = event->device;
  pthread_mutex_lock(&device->lock);
  event->destroyed = true;
  event->queued++;
  drop_reference(event);
  pthread_mutex_unlock(&device->lock);
}

static gd_status cpu_stream_create(gd_device *device, gd_stream **out) {
  stream *s = calloc(1, sizeof *s);
  if (!s) return gd_fail(GD_NO_MEMORY, "out of memory for a stream");
  s->base.device = device;
  *out = &s->base;
  return GD_OK;
}

/* What is queued still runs. */
static void cpu_stream_destroy(gd_stream *base) {
  if (!base) return;
  stream *s = (stream *)base;
  state *device = state_of(base->device);
  if (s->running) {
    pthread_mutex_lock(&device->lock);
    s->stopping = true;
    pthread_cond_broadcast(&device->changed);
    pthread_mutex_unlock(&device->lock);
    pthread_join(s->thread, NULL);
  }
  gd_operation_free_all(&s->queue);
  free(s);
}

static void cpu_close(gd_device *device) {
  cpu_stream_destroy(device->communication);
  cpu_stream_destroy(device->compute);
  state *own = state_of(device);
  if (own) {
    pthread_cond_destroy(&own->changed);
    pthread_mutex_destroy(&own->lock);
    free(own);
  }
  memset(device, 0, sizeof *device);
}

static const gd_device_ops cpu_ops = {
    .name = "cpu",
    .alloc = gd_host_alloc,
    .free = gd_host_free,
    .alloc_host = gd_host_alloc,
    .free_host = gd_host_free,
    .stream_create = cpu_stream_create,
    .stream_destroy = cpu_stream_destroy,
    .copy = gd_host_copy,
    .fill = gd_host_fill,
    .enqueue = cpu_enqueue,
    .event_create = cpu_event_create,
    .event_destroy = cpu_event_destroy,
    .event_record = cpu_event_record,
    .stream_wait = cpu_stream_wait,
    .stream_wait_flag = gd_host_stream_wait_flag,
    .stream_sync = cpu_stream_sync,
    .event_sync = cpu_event_sync,
    .memory_used = gd_host_memory_used,
    .close = cpu_close,
};

gd_status gd_device_open_cpu(gd_device *out) {
  memset(out, 0, sizeof *out);
  out->ops = &cpu_ops;
  out->immediate = true;
  state *own = calloc(1, sizeof *own);
  if (!own) return gd_fail(GD_NO_MEMORY, "out of memory for the CPU device");
  pthread_mutex_init(&own->lock, NULL);
  pthread_cond_init(&own->changed, NULL);
  out->state = own;
  gd_host_describe(out, "CPU");
  gd_status status = cpu_stream_create(out, &out->compute);
  if (status == GD_OK) status = cpu_stream_create(out, &out->communication);
  if (status != GD_OK) {
    cpu_close(out);
    return status;
  }
  ((stream *)out->compute)->is_inline = true;
  return GD_OK;
}
