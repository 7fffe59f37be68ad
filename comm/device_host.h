/* device_host.h - what the two devices in host memory (cpu, lazy) share: memory, the description, queued operations.
 * Private to comm/device_*.c. */
#ifndef GD_COMM_DEVICE_HOST_H
#define GD_COMM_DEVICE_HOST_H

#include <stdalign.h>
#include <stdbool.h>

#include "comm/device.h"

enum { GD_TASK_BYTES = 512 };

typedef enum gd_operation_kind { GD_OPERATION_TASK, GD_OPERATION_RECORD, GD_OPERATION_WAIT } gd_operation_kind;

typedef struct gd_operation {
  struct gd_operation *next;
  gd_operation_kind kind;
  const char *name;     /* TASK */
  gd_stream_task *task; /* TASK */
  void *output;         /* TASK: memory the lazy device poisons */
  size_t output_bytes;
  gd_event *event;     /* RECORD, WAIT */
  uint64_t generation; /* RECORD, WAIT: which record of the event */
  gd_stream *source;   /* WAIT on the lazy device: the stream of that record */
  alignas(16) unsigned char arguments[GD_TASK_BYTES];
} gd_operation;

/* First in, first out; `spare` keeps used nodes, so a steady step allocates nothing. The owner locks. */
typedef struct gd_operation_queue {
  gd_operation *first, *last, *spare;
} gd_operation_queue;

/* Appends an empty operation of that kind. GD_NO_MEMORY. */
GD_CHECKED gd_status gd_operation_push(gd_operation_queue *queue, gd_operation_kind kind, gd_operation **out);
/* Takes the first one off the queue (NULL when empty); give it back with gd_operation_release. */
gd_operation *gd_operation_pop(gd_operation_queue *queue);
void gd_operation_release(gd_operation_queue *queue, gd_operation *operation);
void gd_operation_free_all(gd_operation_queue *queue);

/* Checks the size and copies. GD_BUG above GD_TASK_BYTES. */
GD_CHECKED gd_status gd_operation_check_arguments(size_t arguments_bytes);

/* Copy and fill as tasks. */
typedef struct gd_copy_arguments {
  void *to;
  const void *from;
  size_t bytes;
} gd_copy_arguments;
typedef struct gd_fill_arguments {
  void *to;
  size_t bytes;
  int byte;
} gd_fill_arguments;
GD_CHECKED gd_status gd_copy_task(void *arguments);
GD_CHECKED gd_status gd_fill_task(void *arguments);

/* Slots of gd_device_ops. */
GD_CHECKED gd_status gd_host_alloc(gd_device *device, size_t bytes, void **out);
void gd_host_free(gd_device *device, void *pointer);
int64_t gd_host_memory_used(gd_device *device);
GD_CHECKED gd_status gd_host_stream_wait_flag(gd_stream *stream, const uint32_t *flag, uint32_t value);
GD_CHECKED gd_status gd_host_copy(gd_stream *stream, void *to, const void *from, size_t bytes, gd_copy_kind kind);
GD_CHECKED gd_status gd_host_fill(gd_stream *stream, void *to, int byte, size_t bytes);

/* Fills description ("CPU, 2 cores, AVX-512 bf16" after `name`) and memory_bytes. */
void gd_host_describe(gd_device *device, const char *name);

#endif
