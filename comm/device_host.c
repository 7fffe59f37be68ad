/* device_host.c - what the devices in host memory share: memory, description, queued operations. */
#include "comm/device_host.h"
#include "comm/machine.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

gd_status gd_operation_push(gd_operation_queue *queue, gd_operation_kind kind, gd_operation **out) {
  gd_operation *operation = queue->spare;
  if (operation)
    queue->spare = operation->next;
  else
    operation = malloc(sizeof *operation);
  if (!operation) return gd_fail(GD_NO_MEMORY, "out of memory for a queued operation");
  operation->next = NULL;
  operation->kind = kind;
  operation->name = NULL;
  operation->task = NULL;
  operation->output = NULL;
  operation->output_bytes = 0;
  operation->event = NULL;
  operation->generation = 0;
  operation->source = NULL;
  if (queue->last)
    queue->last->next = operation;
  else
    queue->first = operation;
  queue->last = operation;
  *out = operation;
  return GD_OK;
}

gd_operation *gd_operation_pop(gd_operation_queue *queue) {
  gd_operation *operation = queue->first;
  if (!operation) return NULL;
  queue->first = operation->next;
  if (!queue->first) queue->last = NULL;
  return operation;
}

void gd_operation_release(gd_operation_queue *queue, gd_operation *operation) {
  operation->next = queue->spare;
  queue->spare = operation;
}

static void free_list(gd_operation *operation) {
  while (operation) {
    gd_operation *next = operation->next;
    free(operation);
    operation = next;
  }
}

void gd_operation_free_all(gd_operation_queue *queue) {
  free_list(queue->first);
  free_list(queue->spare);
  memset(queue, 0, sizeof *queue);
}

gd_status gd_operation_check_arguments(size_t arguments_bytes) {
  if (arguments_bytes <= GD_TASK_BYTES) return GD_OK;
  return gd_fail(GD_BUG, "an enqueued task has %zu bytes of arguments, more than %d", arguments_bytes, GD_TASK_BYTES);
}

gd_status gd_copy_task(void *arguments) {
  const gd_copy_arguments *copy = arguments;
  memmove(copy->to, copy->from, copy->bytes);
  return GD_OK;
}

gd_status gd_fill_task(void *arguments) {
  const gd_fill_arguments *fill = arguments;
  memset(fill->to, fill->byte, fill->bytes);
  return GD_OK;
}

gd_status gd_host_copy(gd_stream *stream, void *to, const void *from, size_t bytes, gd_copy_kind kind) {
  (void)kind;
  if (bytes == 0 || to == from) return GD_OK;
  gd_copy_arguments arguments = {to, from, bytes};
  /* Overlapping copies must not be poisoned: the poison would reach the source. */
  const char *target = to, *source = from;
  bool apart = target + bytes <= source || source + bytes <= target;
  return stream->device->ops->enqueue(stream, "copy", gd_copy_task, &arguments, sizeof arguments, apart ? to : NULL,
                                      apart ? bytes : 0);
}

gd_status gd_host_fill(gd_stream *stream, void *to, int byte, size_t bytes) {
  if (bytes == 0) return GD_OK;
  gd_fill_arguments arguments = {to, bytes, byte};
  return stream->device->ops->enqueue(stream, "fill", gd_fill_task, &arguments, sizeof arguments, to, bytes);
}

typedef struct flag_arguments {
  const uint32_t *flag;
  uint32_t value;
} flag_arguments;

static gd_status flag_task(void *arguments) {
  const flag_arguments *wait = arguments;
  const struct timespec pause = {.tv_nsec = 20000};
  while ((int32_t)(__atomic_load_n(wait->flag, __ATOMIC_ACQUIRE) - wait->value) < 0) nanosleep(&pause, NULL);
  return GD_OK;
}

gd_status gd_host_stream_wait_flag(gd_stream *stream, const uint32_t *flag, uint32_t value) {
  flag_arguments arguments = {flag, value};
  return stream->device->ops->enqueue(stream, "wait for a flag", flag_task, &arguments, sizeof arguments, NULL, 0);
}

gd_status gd_host_alloc(gd_device *device, size_t bytes, void **out) {
  *out = NULL;
  /* More than the machine has would be granted by Linux and kill the process when it is touched. */
  int error = device->memory_bytes && bytes > device->memory_bytes ? ENOMEM : posix_memalign(out, 4096, bytes ? bytes : 1);
  if (error)
    return gd_fail(GD_NO_MEMORY, "cannot allocate %.3f GiB of memory (the machine has %.1f GiB): %s", (double)bytes / 0x1p30,
                   (double)device->memory_bytes / 0x1p30, strerror(error));
  return GD_OK;
}

void gd_host_free(gd_device *device, void *pointer) {
  (void)device;
  free(pointer);
}

int64_t gd_host_memory_used(gd_device *device) {
  (void)device;
  struct rusage usage;
  return getrusage(RUSAGE_SELF, &usage) ? 0 : (int64_t)usage.ru_maxrss * 1024;
}

static const char *instructions(void) {
  const char *name = gd_machine_instructions();
  return !strcmp(name, "avx512bf16") ? ", AVX-512 bf16"
         : !strcmp(name, "avx512")   ? ", AVX-512"
         : !strcmp(name, "avx2")     ? ", AVX2"
                                     : "";
}

void gd_host_describe(gd_device *device, const char *name) {
  int cores = gd_machine_cores();
  snprintf(device->description, sizeof device->description, "%s, %d core%s%s", name, cores, cores == 1 ? "" : "s",
           instructions());
  long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
  device->memory_bytes = pages > 0 && page > 0 ? (size_t)pages * (size_t)page : 0;
}
