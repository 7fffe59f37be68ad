/* device_cuda.c - one GPU: memory from few large allocations, two streams that do not wait for the default one, events, tasks
 * on CUDA's host thread.
 *
 * A fault inside a kernel shows at a later call. CUDA keeps such an error for the rest of the process, so the calls that wait
 * return it with CUDA's text; a task's own fault is kept with the device and returned by the next wait. */
#include <cuda.h>
#include <cuda_runtime_api.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "comm/device_cuda.h"
#include "comm/device_guard.h"

#ifndef GPTDIST_CUDA_ARCHITECTURES /* set by cmake/cuda.cmake */
#define GPTDIST_CUDA_ARCHITECTURES "others"
#endif

enum { TASK_BYTES = 512, ALIGNMENT = 4096 };
static const size_t chunk_bytes = (size_t)64 << 20; /* requests up to a quarter of it share one */

/* One cudaMalloc. Small requests are cut from it in turn; it is given back when the last of them is freed. */
typedef struct chunk {
  struct chunk *next;
  char *memory;
  size_t bytes, used;
  int64_t live;
} chunk;

/* One enqueued task. Nodes are kept for reuse, so that a steady step allocates nothing. */
typedef struct task_node {
  struct task_node *next_spare, *next_all;
  struct state *device;
  gd_stream *stream;
  const char *name;
  gd_stream_task *task;
  _Alignas(16) unsigned char arguments[TASK_BYTES];
} task_node;

typedef struct state {
  int ordinal;
  pthread_mutex_t lock; /* chunks, nodes, fault */
  chunk *chunks;
  bool apart; /* GPTDIST_DEVICE_GUARD: a request is a chunk of its own, not a byte larger: memcheck sees where it ends */
  task_node *spare, *all;
  gd_error fault; /* the first fault of a task */
  gd_cuda_poll *poll;
} state;

typedef struct stream {
  gd_stream base;
  cudaStream_t handle;
} stream;

struct gd_event {
  gd_device *device;
  cudaEvent_t handle;
};

static state *state_of(const gd_device *device) {
  return device->state;
}

void gd_cuda_device_enter(const gd_device *device) {
  /* Cheap where it is current already; each thread has its own current GPU. A failure shows in the call that follows. */
  (void)cudaSetDevice(state_of(device)->ordinal);
}

struct CUstream_st *gd_cuda_stream_enter(const gd_stream *base) {
  gd_cuda_device_enter(base->device);
  return ((const stream *)base)->handle;
}

void gd_cuda_device_on_sync(gd_device *device, gd_cuda_poll *poll) {
  state_of(device)->poll = poll;
}

/* The current GPU's compute capability; 0.0 where it does not answer any more. */
static void capability(int *major, int *minor) {
  int ordinal = 0;
  *major = *minor = 0;
  if (cudaGetDevice(&ordinal) != cudaSuccess || cudaDeviceGetAttribute(major, cudaDevAttrComputeCapabilityMajor, ordinal) ||
      cudaDeviceGetAttribute(minor, cudaDevAttrComputeCapabilityMinor, ordinal))
    *major = *minor = 0;
}

/* "80.0 GiB", "1.5 MiB", "900 bytes". */
static const char *sized(size_t bytes, char text[32]) {
  if (bytes < (size_t)1 << 20)
    snprintf(text, 32, "%zu bytes", bytes);
  else
    snprintf(text, 32, "%.2f %s", (double)bytes / (bytes < (size_t)1 << 30 ? 0x1p20 : 0x1p30),
             bytes < (size_t)1 << 30 ? "MiB" : "GiB");
  return text;
}

gd_status gd_cuda_fault(unsigned code, const char *what) {
  cudaError_t error = (cudaError_t)code;
  const char *text = cudaGetErrorString(error), *name = cudaGetErrorName(error);
  (void)cudaGetLastError(); /* an error that is not sticky must not show again */
  switch (error) {
    case cudaErrorMemoryAllocation: {
      size_t available = 0, total = 0;
      if (cudaMemGetInfo(&available, &total) != cudaSuccess) available = total = 0;
      char left[32], all[32];
      return gd_fail(GD_NO_MEMORY, "%s: %s (%s); %s of %s of GPU memory are free", what, text, name, sized(available, left),
                     sized(total, all));
    }
    case cudaErrorInvalidValue:
    case cudaErrorInvalidConfiguration:
    case cudaErrorInvalidResourceHandle:
    case cudaErrorInvalidMemcpyDirection:
    case cudaErrorInvalidDeviceFunction:
    case cudaErrorLaunchOutOfResources:
    case cudaErrorNotPermitted: return gd_fail(GD_BUG, "%s: %s (%s)", what, text, name);
    /* The GPU is well; a kernel that ran before this call is not. */
    case cudaErrorIllegalAddress:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorIllegalInstruction:
    case cudaErrorHardwareStackError:
    case cudaErrorAssert:
    case cudaErrorLaunchFailure:
      return gd_fail(
          GD_BUG,
          "%s: a CUDA kernel went wrong before this call: %s (%s); this is a bug of gptdist: compute-sanitizer, with "
          "GPTDIST_DEVICE_GUARD=1, names the kernel",
          what, text, name);
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorUnsupportedPtxVersion: {
      int major, minor;
      capability(&major, &minor);
      /* Not GD_USAGE, on which all ranks have agreed where it is raised: this may be one rank's alone. */
      return gd_fail(GD_NO_MEMORY,
                     "%s: %s (%s): the GPU has compute capability %d.%d, this build of gptdist has kernels for %s; build it "
                     "with %d%d among CMAKE_CUDA_ARCHITECTURES in cmake/cuda.cmake",
                     what, text, name, major, minor, GPTDIST_CUDA_ARCHITECTURES, major, minor);
    }
    default: return gd_fail(GD_NO_MEMORY, "%s: the GPU is lost or not usable: %s (%s)", what, text, name);
  }
}

static gd_status check(cudaError_t error, const char *what) {
  return error == cudaSuccess ? GD_OK : gd_cuda_fault(error, what);
}

/* ---- memory ---- */

static char *aligned(char *pointer) {
  return (char *)(((uintptr_t)pointer + ALIGNMENT - 1) & ~(uintptr_t)(ALIGNMENT - 1));
}

/* A new chunk of `bytes` from an aligned start, or, where it is `exact`, from where CUDA has it. CUDA may wait for queued tasks
 * here, which take the lock: it is not held. */
static gd_status chunk_create(size_t bytes, bool exact, chunk **out) {
  chunk *c = calloc(1, sizeof *c);
  if (!c) return gd_fail(GD_NO_MEMORY, "out of memory for a record of GPU memory");
  c->bytes = bytes + (exact ? 0 : ALIGNMENT); /* cudaMalloc promises 256 bytes of alignment */
  void *memory = NULL;
  cudaError_t error = cudaMalloc(&memory, c->bytes);
  if (error != cudaSuccess) {
    free(c);
    char what[96], size[32];
    snprintf(what, sizeof what, "cannot allocate %s of GPU memory", sized(bytes, size));
    return gd_cuda_fault(error, what);
  }
  c->memory = memory;
  c->used = exact ? 0 : (size_t)(aligned(c->memory) - c->memory);
  *out = c;
  return GD_OK;
}

/* The next `bytes` of a chunk, NULL where they are not left; the lock is held. */
static void *cut(chunk *c, size_t bytes) {
  if (c->bytes - c->used < bytes) return NULL;
  void *memory = c->memory + c->used;
  c->used += bytes;
  c->live++;
  return memory;
}

static gd_status cuda_alloc(gd_device *device, size_t bytes, void **out) {
  state *own = state_of(device);
  *out = NULL;
  gd_cuda_device_enter(device);
  if (bytes > SIZE_MAX / 2) return gd_fail(GD_BUG, "a request for %zu bytes of GPU memory", bytes);
  if (!own->apart) bytes = (bytes + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
  if (bytes == 0) bytes = ALIGNMENT;
  bool small = bytes <= chunk_bytes / 4 && !own->apart;
  pthread_mutex_lock(&own->lock);
  for (chunk *c = small ? own->chunks : NULL; c && !*out; c = c->next) *out = cut(c, bytes);
  pthread_mutex_unlock(&own->lock);
  if (*out) return GD_OK;
  chunk *c = NULL;
  GD_TRY(chunk_create(small ? chunk_bytes : bytes, own->apart, &c));
  pthread_mutex_lock(&own->lock);
  *out = cut(c, bytes);
  c->next = own->chunks;
  own->chunks = c;
  pthread_mutex_unlock(&own->lock);
  return GD_OK;
}

static void cuda_free(gd_device *device, void *pointer) {
  if (!pointer) return;
  state *own = state_of(device);
  const char *address = pointer;
  gd_cuda_device_enter(device);
  chunk *unused = NULL;
  pthread_mutex_lock(&own->lock);
  for (chunk **link = &own->chunks; *link; link = &(*link)->next) {
    chunk *c = *link;
    if (address < c->memory || address >= c->memory + c->bytes) continue;
    if (--c->live == 0) {
      *link = c->next;
      unused = c;
    }
    break;
  }
  pthread_mutex_unlock(&own->lock);
  if (!unused) return;
  (void)cudaFree(unused->memory); /* waits for the GPU, so work that reads the memory has ended, and for tasks: no lock */
  free(unused);
}

static gd_status cuda_alloc_host(gd_device *device, size_t bytes, void **out) {
  *out = NULL;
  gd_cuda_device_enter(device);
  cudaError_t error = cudaMallocHost(out, bytes ? bytes : 1);
  if (error == cudaSuccess) return GD_OK;
  char what[96], size[32];
  snprintf(what, sizeof what, "cannot allocate %s of pinned host memory", sized(bytes, size));
  return gd_cuda_fault(error, what);
}

static void cuda_free_host(gd_device *device, void *pointer) {
  if (!pointer) return;
  gd_cuda_device_enter(device);
  (void)cudaFreeHost(pointer);
}

static int64_t cuda_memory_used(gd_device *device) {
  size_t available = 0, total = 0;
  gd_cuda_device_enter(device);
  return cudaMemGetInfo(&available, &total) == cudaSuccess ? (int64_t)(total - available) : 0;
}

/* ---- streams ---- */

static gd_status stream_create_priority(gd_device *device, int priority, gd_stream **out) {
  *out = NULL;
  stream *s = calloc(1, sizeof *s);
  if (!s) return gd_fail(GD_NO_MEMORY, "out of memory for a stream");
  s->base.device = device;
  gd_cuda_device_enter(device);
  cudaError_t error = cudaStreamCreateWithPriority(&s->handle, cudaStreamNonBlocking, priority);
  if (error != cudaSuccess) {
    free(s);
    return gd_cuda_fault(error, "cannot make a CUDA stream");
  }
  *out = &s->base;
  return GD_OK;
}

static gd_status cuda_stream_create(gd_device *device, gd_stream **out) {
  return stream_create_priority(device, 0, out);
}

/* What is queued still runs. */
static void cuda_stream_destroy(gd_stream *base) {
  if (!base) return;
  stream *s = (stream *)base;
  gd_cuda_device_enter(base->device);
  (void)cudaStreamSynchronize(s->handle);
  (void)cudaStreamDestroy(s->handle);
  free(s);
}

static gd_status cuda_copy(gd_stream *base, void *to, const void *from, size_t bytes, gd_copy_kind kind) {
  static const enum cudaMemcpyKind kinds[] = {[GD_COPY_HOST_TO_DEVICE] = cudaMemcpyHostToDevice,
                                              [GD_COPY_DEVICE_TO_HOST] = cudaMemcpyDeviceToHost,
                                              [GD_COPY_DEVICE_TO_DEVICE] = cudaMemcpyDeviceToDevice};
  if (bytes == 0 || to == from) return GD_OK;
  return check(cudaMemcpyAsync(to, from, bytes, kinds[kind], gd_cuda_stream_enter(base)), "copy");
}

static gd_status cuda_fill(gd_stream *base, void *to, int byte, size_t bytes) {
  if (bytes == 0) return GD_OK;
  return check(cudaMemsetAsync(to, byte, bytes, gd_cuda_stream_enter(base)), "fill");
}

/* CUDA's host thread: the task may not call CUDA. After a fault the tasks that follow are skipped. */
static void CUDART_CB run_task(void *argument) {
  task_node *node = argument;
  state *own = node->device;
  pthread_mutex_lock(&own->lock);
  bool skip = own->fault.code != GD_OK;
  pthread_mutex_unlock(&own->lock);
  gd_status status = skip ? GD_OK : gd_stream_run(node->stream, node->name, node->task, node->arguments);
  pthread_mutex_lock(&own->lock);
  if (status != GD_OK && own->fault.code == GD_OK) gd_error_take(status, &own->fault);
  node->next_spare = own->spare;
  own->spare = node;
  pthread_mutex_unlock(&own->lock);
}

static gd_status take_node(state *own, task_node **out) {
  pthread_mutex_lock(&own->lock);
  task_node *node = own->spare;
  if (node) {
    own->spare = node->next_spare;
  } else if ((node = calloc(1, sizeof *node)) != NULL) {
    node->device = own;
    node->next_all = own->all;
    own->all = node;
  }
  pthread_mutex_unlock(&own->lock);
  *out = node;
  return node ? GD_OK : gd_fail(GD_NO_MEMORY, "out of memory for a queued task");
}

static gd_status cuda_enqueue(gd_stream *base, const char *name, gd_stream_task *task, const void *arguments,
                              size_t arguments_bytes, void *output, size_t output_bytes) {
  (void)output;
  (void)output_bytes;
  if (arguments_bytes > TASK_BYTES)
    return gd_fail(GD_BUG, "an enqueued task has %zu bytes of arguments, more than %d", arguments_bytes, TASK_BYTES);
  state *own = state_of(base->device);
  task_node *node;
  GD_TRY(take_node(own, &node));
  node->stream = base;
  node->name = name;
  node->task = task;
  if (arguments_bytes) memcpy(node->arguments, arguments, arguments_bytes);
  cudaError_t error = cudaLaunchHostFunc(gd_cuda_stream_enter(base), run_task, node);
  if (error == cudaSuccess) return GD_OK;
  pthread_mutex_lock(&own->lock);
  node->next_spare = own->spare;
  own->spare = node;
  pthread_mutex_unlock(&own->lock);
  return gd_cuda_fault(error, "enqueue a task");
}

/* ---- events and waiting ---- */

static gd_status cuda_event_create(gd_device *device, gd_event **out) {
  *out = NULL;
  gd_event *event = calloc(1, sizeof *event);
  if (!event) return gd_fail(GD_NO_MEMORY, "out of memory for an event");
  event->device = device;
  gd_cuda_device_enter(device);
  cudaError_t error = cudaEventCreateWithFlags(&event->handle, cudaEventDisableTiming);
  if (error != cudaSuccess) {
    free(event);
    return gd_cuda_fault(error, "cannot make a CUDA event");
  }
  *out = event;
  return GD_OK;
}

static void cuda_event_destroy(gd_event *event) {
  if (!event) return;
  gd_cuda_device_enter(event->device);
  (void)cudaEventDestroy(event->handle);
  free(event);
}

static gd_status cuda_event_record(gd_event *event, gd_stream *base) {
  return check(cudaEventRecord(event->handle, gd_cuda_stream_enter(base)), "record an event");
}

static gd_status cuda_stream_wait(gd_stream *base, gd_event *event) {
  return check(cudaStreamWaitEvent(gd_cuda_stream_enter(base), event->handle, 0), "wait for an event");
}

/* Of the driver, and not in the runtime's library: looked up once a process. */
typedef CUresult wait_value(CUstream stream, CUdeviceptr address, uint32_t value, unsigned flags);

static gd_status find_wait_value(wait_value **out) {
  static wait_value *found;
  *out = found;
  if (found) return GD_OK;
  static const unsigned since = 11070;
  enum cudaDriverEntryPointQueryResult how = cudaDriverEntryPointSuccess;
  void *symbol = NULL;
  cudaError_t error = cudaGetDriverEntryPointByVersion("cuStreamWaitValue32", &symbol, since, cudaEnableDefault, &how);
  if (error != cudaSuccess) return gd_cuda_fault(error, "look for cuStreamWaitValue32");
  if (how != cudaDriverEntryPointSuccess || !symbol)
    return gd_fail(GD_NO_MEMORY, "the CUDA driver has no cuStreamWaitValue32: a newer one is needed");
  memcpy(&found, &symbol, sizeof found); /* POSIX lets such a pointer be a function; C has no cast for it */
  *out = found;
  return GD_OK;
}

/* Pinned memory has one address for the host and the GPU. */
static gd_status cuda_stream_wait_flag(gd_stream *base, const uint32_t *flag, uint32_t value) {
  cudaStream_t handle = gd_cuda_stream_enter(base);
  wait_value *wait;
  GD_TRY(find_wait_value(&wait));
  /* The driver's numbers of errors are the runtime's. */
  return check((cudaError_t)wait(handle, (CUdeviceptr)(uintptr_t)flag, value, CU_STREAM_WAIT_VALUE_GEQ), "wait for the host");
}

/* After the host waited: lets the collectives note what ended, then reports CUDA's error or a task's. */
static gd_status waited(gd_device *device, cudaError_t error, const char *what) {
  state *own = state_of(device);
  gd_status polled = own->poll ? own->poll() : GD_OK;
  if (error != cudaSuccess) return gd_cuda_fault(error, what); /* CUDA's own is nearer to the cause */
  GD_TRY(polled);
  pthread_mutex_lock(&own->lock);
  gd_status status = own->fault.code == GD_OK ? GD_OK : gd_error_raise(&own->fault);
  pthread_mutex_unlock(&own->lock);
  return status;
}

int64_t gd_cuda_now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t gd_cuda_pause(int64_t start_ns) {
  static const int64_t spin_ns = 200000;
  const struct timespec pause = {0, 50000};
  int64_t now = gd_cuda_now_ns();
  if (now - start_ns >= spin_ns) nanosleep(&pause, NULL);
  return now;
}

/* Where there are groups the host asks again and again, first without a pause, and looks after the collectives meanwhile: one
 * whose peer is gone never ends. NULL event: the whole stream. */
static gd_status wait_polling(gd_device *device, cudaStream_t handle, cudaEvent_t event, const char *what) {
  static const int64_t poll_ns = 1000000;
  int64_t start = gd_cuda_now_ns(), polled = start;
  gd_status status = GD_OK;
  for (;;) {
    cudaError_t error = event ? cudaEventQuery(event) : cudaStreamQuery(handle);
    (void)cudaGetLastError(); /* "not ready" is no fault */
    if (status != GD_OK)      /* the GPU's own fault may have come meanwhile, and is nearer to the cause */
      return error == cudaSuccess || error == cudaErrorNotReady ? status : gd_cuda_fault(error, what);
    if (error != cudaErrorNotReady) return waited(device, error, what);
    int64_t now = gd_cuda_pause(start);
    if (now - polled < poll_ns) continue;
    polled = now;
    status = state_of(device)->poll();
  }
}

static gd_status cuda_stream_sync(gd_stream *base) {
  static const char what[] = "wait for a stream";
  cudaStream_t handle = gd_cuda_stream_enter(base);
  if (state_of(base->device)->poll) return wait_polling(base->device, handle, NULL, what);
  return waited(base->device, cudaStreamSynchronize(handle), what);
}

static gd_status cuda_event_sync(gd_event *event) {
  static const char what[] = "wait for an event";
  gd_cuda_device_enter(event->device);
  if (state_of(event->device)->poll) return wait_polling(event->device, NULL, event->handle, what);
  return waited(event->device, cudaEventSynchronize(event->handle), what);
}

/* ---- open and close ---- */

static void cuda_close(gd_device *device) {
  state *own = state_of(device);
  cuda_stream_destroy(device->communication);
  cuda_stream_destroy(device->compute);
  if (own) {
    while (own->chunks) {
      chunk *c = own->chunks;
      own->chunks = c->next;
      (void)cudaFree(c->memory);
      free(c);
    }
    while (own->all) {
      task_node *node = own->all;
      own->all = node->next_all;
      free(node);
    }
    pthread_mutex_destroy(&own->lock);
    free(own);
  }
  memset(device, 0, sizeof *device);
}

const gd_device_ops gd_cuda_device_ops = {
    .name = "cuda",
    .alloc = cuda_alloc,
    .free = cuda_free,
    .alloc_host = cuda_alloc_host,
    .free_host = cuda_free_host,
    .stream_create = cuda_stream_create,
    .stream_destroy = cuda_stream_destroy,
    .copy = cuda_copy,
    .fill = cuda_fill,
    .enqueue = cuda_enqueue,
    .event_create = cuda_event_create,
    .event_destroy = cuda_event_destroy,
    .event_record = cuda_event_record,
    .stream_wait = cuda_stream_wait,
    .stream_wait_flag = cuda_stream_wait_flag,
    .stream_sync = cuda_stream_sync,
    .event_sync = cuda_event_sync,
    .memory_used = cuda_memory_used,
    .close = cuda_close,
};

/* The number of GPUs, or why there is none. Asked before anything else: without a driver every other call fails less clearly.
 */
static gd_status count_devices(int *out) {
  int count = 0, driver = 0, runtime = 0;
  cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaSuccess && count > 0) {
    *out = count;
    return GD_OK;
  }
  const char *text = error == cudaSuccess ? "the driver shows no device" : cudaGetErrorString(error);
  const char *visible = getenv("CUDA_VISIBLE_DEVICES");
  (void)cudaGetLastError();
  if (cudaDriverGetVersion(&driver) != cudaSuccess) driver = 0;
  if (cudaRuntimeGetVersion(&runtime) != cudaSuccess) runtime = 0;
  if (driver == 0)
    return gd_fail(
        GD_NO_MEMORY,
        "no CUDA driver: libcuda.so.1 of NVIDIA's driver is not here; a container or a job must be given its GPUs (%s)", text);
  if (error == cudaErrorInsufficientDriver)
    return gd_fail(GD_NO_MEMORY,
                   "too old a CUDA driver: it serves CUDA %d.%d, this build of gptdist uses %d.%d; update NVIDIA's driver, or "
                   "build gptdist with a CUDA that the driver serves",
                   driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
  return gd_fail(GD_NO_MEMORY, "no GPU: %s (driver for CUDA %d.%d%s%s)", text, driver / 1000, driver % 1000 / 10,
                 visible ? ", CUDA_VISIBLE_DEVICES=" : "", visible ? visible : "");
}

static int32_t ordinal_of(int32_t local_rank, int count) {
  return local_rank < 0 ? 0 : local_rank % count;
}

gd_status gd_cuda_identify(int32_t local_rank, gd_cuda_gpu *out) {
  struct cudaDeviceProp properties;
  int count = 0;
  memset(out, 0, sizeof *out);
  GD_TRY(count_devices(&count));
  out->count = count;
  out->ordinal = ordinal_of(local_rank, count);
  GD_TRY(check(cudaGetDeviceProperties(&properties, out->ordinal), "ask for the properties of a GPU"));
  if (properties.major < 8)
    return gd_fail(GD_NO_MEMORY, "GPU %d (%s) has compute capability %d.%d; 8.0 or newer is needed", (int)out->ordinal,
                   properties.name, properties.major, properties.minor);
  memcpy(out->uuid, &properties.uuid, sizeof out->uuid);
  snprintf(out->name, sizeof out->name, "%.63s", properties.name);
  snprintf(out->bus, sizeof out->bus, "%04x:%02x:%02x.0", properties.pciDomainID, properties.pciBusID, properties.pciDeviceID);
  return GD_OK;
}

static gd_status describe(gd_device *device, const gd_cuda_gpu *gpu) {
  size_t available = 0;
  GD_TRY(check(cudaMemGetInfo(&available, &device->memory_bytes), "ask for the memory of a GPU"));
  snprintf(device->model, sizeof device->model, "%s", gpu->name);
  snprintf(device->description, sizeof device->description, "GPU %d of %d, %s, %.1f GiB", (int)gpu->ordinal, (int)gpu->count,
           gpu->name, (double)device->memory_bytes / 0x1p30);
  return GD_OK;
}

/* Before memory is taken, where all ranks agree on the device. */
static gd_status check_kernels(void) {
  cudaError_t error = (cudaError_t)gd_cuda_probe();
  if (error == cudaErrorInvalidDeviceFunction) error = cudaErrorNoKernelImageForDevice; /* how some versions say it */
  return check(error, "the GPU does not run the kernels");
}

gd_status gd_cuda_open_device(int32_t local_rank, gd_device *out) {
  int least = 0, greatest = 0;
  gd_cuda_gpu gpu;
  memset(out, 0, sizeof *out);
  GD_TRY(gd_cuda_identify(local_rank, &gpu));
  state *own = calloc(1, sizeof *own);
  if (!own) return gd_fail(GD_NO_MEMORY, "out of memory for the CUDA device");
  own->ordinal = gpu.ordinal;
  own->apart = gd_device_guarded();
  pthread_mutex_init(&own->lock, NULL);
  out->ops = &gd_cuda_device_ops;
  out->state = own;
  gd_status status = check(cudaSetDevice(own->ordinal), "choose a GPU");
  if (status == GD_OK) status = check_kernels();
  if (status == GD_OK) status = describe(out, &gpu);
  if (status == GD_OK) status = check(cudaDeviceGetStreamPriorityRange(&least, &greatest), "ask for stream priorities");
  if (status == GD_OK) status = stream_create_priority(out, least, &out->compute);
  /* Collectives are short and others wait for them. */
  if (status == GD_OK) status = stream_create_priority(out, greatest, &out->communication);
  if (status != GD_OK) cuda_close(out);
  return status;
}
