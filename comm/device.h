/* device.h - memory, streams and events of one device behind one table.
 *
 * Back ends: device_cpu.c (compute stream inline, other streams a first-in first-out thread), the `lazy` and `eager` CPU test
 * devices of device_lazy.c (each stream as late as its order allows, or compute late and the others early, so a missing wait
 * shows), device_cuda.c. A pointer from alloc is a
 * device pointer: only kernels, collectives and copies of the same device may touch it. On the CPU it happens to be a host
 * pointer; code above comm/ must not rely on that.
 */
#ifndef GD_COMM_DEVICE_H
#define GD_COMM_DEVICE_H

#include <stddef.h>
#include <stdbool.h>
#include <stdint.h>

#include "shard/base/status.h"

typedef struct gd_stream gd_stream; /* an ordered queue of operations */
typedef struct gd_event gd_event;   /* a point in a queue */
typedef struct gd_device gd_device;

typedef enum gd_copy_kind { GD_COPY_HOST_TO_DEVICE, GD_COPY_DEVICE_TO_HOST, GD_COPY_DEVICE_TO_DEVICE } gd_copy_kind;

/* An operation for gd_stream_enqueue: reads its arguments from a private copy of what was enqueued. */
typedef gd_status gd_stream_task(void *arguments);

typedef struct gd_device_ops {
  const char *name; /* "cpu", "lazy", "cuda" */
  /* bytes of device memory, 4096-aligned (on a GPU with GPTDIST_DEVICE_GUARD 256-aligned), not zeroed. GD_NO_MEMORY. */
  gd_status (*alloc)(gd_device *device, size_t bytes, void **out);
  void (*free)(gd_device *device, void *pointer);
  /* Host memory that copies can reach asynchronously (pinned on CUDA). */
  gd_status (*alloc_host)(gd_device *device, size_t bytes, void **out);
  void (*free_host)(gd_device *device, void *pointer);
  gd_status (*stream_create)(gd_device *device, gd_stream **out);
  void (*stream_destroy)(gd_stream *stream);
  /* Both return once enqueued; the result is ready when the stream has passed it. */
  gd_status (*copy)(gd_stream *stream, void *to, const void *from, size_t bytes, gd_copy_kind kind);
  gd_status (*fill)(gd_stream *stream, void *to, int byte, size_t bytes);
  /* Runs task(copy of arguments) in stream order on a host thread. `name`, a static text, says in hang reports what it does.
   * arguments_bytes <= 512. `output` (may be NULL) and output_bytes name memory that the task writes: the lazy device poisons
   * it until the task has run. */
  gd_status (*enqueue)(gd_stream *stream, const char *name, gd_stream_task *task, const void *arguments, size_t arguments_bytes,
                       void *output, size_t output_bytes);
  gd_status (*event_create)(gd_device *device, gd_event **out);
  void (*event_destroy)(gd_event *event);
  gd_status (*event_record)(gd_event *event, gd_stream *stream);
  /* The stream goes on only after the event; returns at once. An event that was never recorded counts as passed. */
  gd_status (*stream_wait)(gd_stream *stream, gd_event *event);
  /* The stream goes on only once a host thread has made *flag, of alloc_host, `value` or more: (int32_t)(*flag - value) >= 0.
   * Returns at once; a compute stream that is inline waits in the call. */
  gd_status (*stream_wait_flag)(gd_stream *stream, const uint32_t *flag, uint32_t value);
  /* The calling thread waits. Returns the first fault of an operation of the stream, with its text. */
  gd_status (*stream_sync)(gd_stream *stream);
  gd_status (*event_sync)(gd_event *event);
  /* Bytes of memory in use: of the GPU, by this and other processes; on the CPU the most that this process has held. 0: not
   * known. */
  int64_t (*memory_used)(gd_device *device);
  void (*close)(gd_device *device);
} gd_device_ops;

struct gd_device {
  const gd_device_ops *ops;
  gd_stream *compute;       /* kernels run here */
  gd_stream *communication; /* collectives run here */
  char description[128];    /* for people: "CPU, 2 threads, AVX-512 bf16" */
  char model[64];           /* a GPU's name as its driver gives it; "": no GPU */
  size_t memory_bytes;      /* of the device (host: physical memory) */
  bool immediate;           /* the compute stream runs inside the call that enqueues: the host never runs ahead of it */
  void *state;              /* the back end's own */
};

/* The first member of every back end's stream, so that callers need no device to use one. */
struct gd_stream {
  gd_device *device;
  const char *running; /* behind gd_stream_running */
};

/* The name of the host task that the stream is running; NULL: none. Any thread. */
static inline const char *gd_stream_running(const gd_stream *stream) {
  return __atomic_load_n(&stream->running, __ATOMIC_RELAXED);
}

/* How back ends run a task, so that its name stands with the stream meanwhile. A task may enqueue on a stream that runs it
 * inside the call: the outer one goes on after that. */
GD_CHECKED static inline gd_status gd_stream_run(gd_stream *stream, const char *name, gd_stream_task *task, void *arguments) {
  const char *outer = gd_stream_running(stream);
  __atomic_store_n(&stream->running, name, __ATOMIC_RELAXED);
  gd_status status = task(arguments);
  __atomic_store_n(&stream->running, outer, __ATOMIC_RELAXED);
  return status;
}

/* Opens the CPU device, or one of the two for tests. Local. */
GD_CHECKED gd_status gd_device_open_cpu(gd_device *out);
GD_CHECKED gd_status gd_device_open_lazy(gd_device *out);
GD_CHECKED gd_status gd_device_open_eager(gd_device *out);

#endif
