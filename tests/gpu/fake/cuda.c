/* cuda.c - a CUDA runtime without a GPU, for the host's side: device memory is host memory, every stream a thread, and what can
 * go wrong on a machine is chosen by environment variables. comm/device_cuda.c and comm/collectives_nccl.c run on it as they
 * are.
 *
 *   FAKE_CUDA_DRIVER=12040      the driver's version; 0: no driver. Below the runtime's: too old a driver
 *   FAKE_CUDA_DEVICES=1         GPUs that this process sees
 *   FAKE_CUDA_NAME, FAKE_CUDA_CAPABILITY=90, FAKE_CUDA_MEMORY=BYTES
 *   FAKE_CUDA_FAULT=CODE@N      from the Nth enqueued operation on, every call returns CODE, as after a fault of a kernel
 *   FAKE_CUDA_NAP=MS@N          the Nth enqueued operation begins so many milliseconds late
 *   FAKE_CUDA_OVERRUN=N         every fill of zeros writes N bytes more than it is asked for
 *   FAKE_CUDA_REPORT=FILE       at the end: copies to the device from pinned and from pageable memory
 *
 * It is strict where CUDA is, or may be: a task may not call CUDA, one task runs at a time, whatever its stream, and allocating
 * or freeing waits for what is queued. */
#include <cuda.h>
#include <cuda_runtime_api.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct operation {
  struct operation *next;
  enum { COPY, FILL, TASK, KERNEL, RECORD, WAIT, WAIT_FLAG } kind;
  void *to;
  const void *from;
  size_t bytes;
  int byte;
  long nap_ms;
  void (*task)(void *);
  void *argument;
  struct CUevent_st *event;
  uint64_t generation;
  const uint32_t *flag;
  uint32_t value;
} operation;

struct CUstream_st {
  pthread_t thread;
  operation *first, *last;
  bool busy, stop;
  struct CUstream_st *next;
};

struct CUevent_st {
  uint64_t recorded, passed;
};

typedef struct block {
  struct block *next;
  char *memory;
  size_t bytes;
  bool pinned; /* host memory */
} block;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct CUstream_st *streams;
static block *blocks;
static size_t used;
static cudaError_t sticky;
static long enqueued, pinned_copies, pageable_copies;
static __thread bool inside_task;

static long setting(const char *name, long fallback) {
  const char *text = getenv(name);
  return text ? atol(text) : fallback;
}

static size_t total_bytes(void) {
  const char *text = getenv("FAKE_CUDA_MEMORY");
  return text ? strtoull(text, NULL, 10) : (size_t)80 << 30;
}

/* Before every call. */
static cudaError_t enter(void) {
  if (!inside_task) return sticky;
  fprintf(stderr, "fake CUDA: a host task calls CUDA, which may wait for it for ever\n");
  abort();
}

static void run(operation *o) {
  static pthread_mutex_t host_tasks = PTHREAD_MUTEX_INITIALIZER;
  const struct timespec nap = {o->nap_ms / 1000, o->nap_ms % 1000 * 1000000}, pause = {0, 20000};
  if (o->nap_ms) nanosleep(&nap, NULL);
  switch (o->kind) {
    case COPY: memmove(o->to, o->from, o->bytes); break;
    case FILL: memset(o->to, o->byte, o->bytes + (size_t)(o->byte ? 0 : setting("FAKE_CUDA_OVERRUN", 0))); break;
    case TASK:
      pthread_mutex_lock(&host_tasks);
      inside_task = true;
      o->task(o->argument);
      inside_task = false;
      pthread_mutex_unlock(&host_tasks);
      break;
    case KERNEL: o->task(o->argument); break;
    case WAIT_FLAG:
      while ((int32_t)(__atomic_load_n(o->flag, __ATOMIC_ACQUIRE) - o->value) < 0) nanosleep(&pause, NULL);
      break;
    default: break;
  }
}

static void *stream_main(void *argument) {
  cudaStream_t s = argument;
  pthread_mutex_lock(&lock);
  for (;;) {
    operation *o = s->first;
    bool waits = o && o->kind == WAIT && o->event->passed < o->generation;
    if (!o && s->stop) break;
    if (!o || waits) {
      pthread_cond_wait(&changed, &lock);
      continue;
    }
    s->busy = true;
    pthread_mutex_unlock(&lock);
    if (sticky == cudaSuccess || o->kind == TASK || o->kind == KERNEL) run(o);
    pthread_mutex_lock(&lock);
    if (o->kind == RECORD && o->generation > o->event->passed) o->event->passed = o->generation;
    s->busy = false;
    s->first = o->next;
    if (!s->first) s->last = NULL;
    free(o);
    pthread_cond_broadcast(&changed);
  }
  pthread_mutex_unlock(&lock);
  return NULL;
}

/* The lock is held. */
static void drain(cudaStream_t s) {
  while (s->first) pthread_cond_wait(&changed, &lock);
}

static void drain_all(void) {
  for (cudaStream_t s = streams; s; s = s->next) drain(s);
}

/* Whether VALUE@N of a variable means the operation that was enqueued last. */
static bool is_now(const char *name) {
  const char *text = getenv(name), *at = text ? strchr(text, '@') : NULL;
  return at && enqueued == atol(at + 1);
}

static cudaError_t push(cudaStream_t s, operation wanted) {
  cudaError_t error = enter();
  if (error != cudaSuccess) return error;
  operation *o = malloc(sizeof *o);
  *o = wanted;
  o->next = NULL;
  pthread_mutex_lock(&lock);
  enqueued++;
  if (is_now("FAKE_CUDA_FAULT")) sticky = (cudaError_t)setting("FAKE_CUDA_FAULT", 0);
  o->nap_ms = is_now("FAKE_CUDA_NAP") ? setting("FAKE_CUDA_NAP", 0) : 0;
  if (o->event) o->generation = o->kind == RECORD ? ++o->event->recorded : o->event->recorded;
  if (s->last)
    s->last->next = o;
  else
    s->first = o;
  s->last = o;
  pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&lock);
  return cudaSuccess;
}

static void report(void) {
  const char *path = getenv("FAKE_CUDA_REPORT");
  FILE *file = path ? fopen(path, "w") : NULL;
  if (!file) return;
  fprintf(file, "pinned %ld pageable %ld\n", pinned_copies, pageable_copies);
  fclose(file);
}

/* ---- errors ---- */

cudaError_t cudaGetLastError(void) {
  return sticky;
}

cudaError_t cudaPeekAtLastError(void) {
  return sticky;
}

/* For the fake NCCL: a kernel, which is no host task. */
cudaError_t fake_cuda_kernel(cudaStream_t s, void (*kernel)(void *), void *argument) {
  return push(s, (operation){.kind = KERNEL, .task = kernel, .argument = argument});
}

/* For the fake NCCL: the GPU has this fault from now on. */
void fake_cuda_break(int code) {
  sticky = (cudaError_t)code;
}

static const struct {
  cudaError_t error;
  const char *name, *text;
} errors[] = {
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress", "an illegal memory access was encountered"},
    {cudaErrorNoKernelImageForDevice, "cudaErrorNoKernelImageForDevice",
     "no kernel image is available for execution on the device"},
    {cudaErrorECCUncorrectable, "cudaErrorECCUncorrectable", "uncorrectable ECC error encountered"},
};

const char *cudaGetErrorString(cudaError_t error) {
  for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
    if (errors[i].error == error) return errors[i].text;
  return "another error";
}

const char *cudaGetErrorName(cudaError_t error) {
  for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
    if (errors[i].error == error) return errors[i].name;
  return "cudaErrorOther";
}

/* ---- devices ---- */

cudaError_t cudaDriverGetVersion(int *out) {
  *out = (int)setting("FAKE_CUDA_DRIVER", CUDART_VERSION);
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *out) {
  *out = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *out) {
  *out = 0;
  if (setting("FAKE_CUDA_DRIVER", CUDART_VERSION) < CUDART_VERSION / 1000 * 1000) return cudaErrorInsufficientDriver;
  *out = (int)setting("FAKE_CUDA_DEVICES", 1);
  return *out ? cudaSuccess : cudaErrorNoDevice;
}

cudaError_t cudaSetDevice(int ordinal) {
  (void)ordinal;
  return enter();
}

cudaError_t cudaGetDevice(int *out) {
  *out = 0;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *out, int ordinal) {
  memset(out, 0, sizeof *out);
  const char *name = getenv("FAKE_CUDA_NAME");
  snprintf(out->name, sizeof out->name, "%s", name ? name : "NVIDIA H100 80GB HBM3");
  out->totalGlobalMem = total_bytes();
  out->major = (int)setting("FAKE_CUDA_CAPABILITY", 90) / 10;
  out->minor = (int)setting("FAKE_CUDA_CAPABILITY", 90) % 10;
  out->uuid.bytes[15] = (char)(1 + ordinal);
  out->pciBusID = 0x3b + ordinal;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *out, enum cudaDeviceAttr attribute, int ordinal) {
  (void)ordinal;
  int capability = (int)setting("FAKE_CUDA_CAPABILITY", 90);
  *out = attribute == cudaDevAttrComputeCapabilityMajor ? capability / 10 : capability % 10;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
  *least = 0;
  *greatest = -5;
  return enter();
}

/* ---- memory ---- */

static cudaError_t take(void **out, size_t bytes, bool pinned) {
  cudaError_t error = enter();
  *out = NULL;
  if (error != cudaSuccess) return error;
  pthread_mutex_lock(&lock);
  drain_all();
  if (!pinned && used + bytes > total_bytes()) error = cudaErrorMemoryAllocation;
  block *b = error == cudaSuccess ? malloc(sizeof *b) : NULL;
  if (b) {
    b->memory = aligned_alloc(256, (bytes + 255) / 256 * 256);
    memset(b->memory, 0xff, bytes);
    b->bytes = bytes;
    b->pinned = pinned;
    b->next = blocks;
    blocks = b;
    if (!pinned) used += bytes;
    *out = b->memory;
  }
  pthread_mutex_unlock(&lock);
  return error;
}

static cudaError_t give(void *pointer) {
  cudaError_t error = enter();
  pthread_mutex_lock(&lock);
  drain_all();
  for (block **link = &blocks; *link; link = &(*link)->next) {
    block *b = *link;
    if (b->memory != pointer) continue;
    *link = b->next;
    if (!b->pinned) used -= b->bytes;
    free(b->memory);
    free(b);
    break;
  }
  pthread_mutex_unlock(&lock);
  return error;
}

cudaError_t cudaMalloc(void **out, size_t bytes) {
  return take(out, bytes, false);
}

cudaError_t cudaFree(void *pointer) {
  return give(pointer);
}

cudaError_t cudaMallocHost(void **out, size_t bytes) {
  return take(out, bytes, true);
}

cudaError_t cudaFreeHost(void *pointer) {
  return give(pointer);
}

cudaError_t cudaMemGetInfo(size_t *available, size_t *total) {
  *total = total_bytes();
  *available = *total > used + 65536 ? *total - used - 65536 : 0; /* the context */
  return enter();
}

static bool is_pinned(const void *pointer) {
  for (const block *b = blocks; b; b = b->next)
    if ((const char *)pointer >= b->memory && (const char *)pointer < b->memory + b->bytes) return b->pinned;
  return false;
}

/* From pageable memory the host waits until it has been read. */
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream) {
  pthread_mutex_lock(&lock);
  const void *host = kind == cudaMemcpyHostToDevice ? from : kind == cudaMemcpyDeviceToHost ? to : NULL;
  bool pageable = host && !is_pinned(host);
  if (kind == cudaMemcpyHostToDevice) pageable ? pageable_copies++ : pinned_copies++;
  pthread_mutex_unlock(&lock);
  cudaError_t error = push(stream, (operation){.kind = COPY, .to = to, .from = from, .bytes = bytes});
  return error == cudaSuccess && pageable ? cudaStreamSynchronize(stream) : error;
}

/* Outside what was allocated is an error, as compute-sanitizer has it. */
cudaError_t cudaMemsetAsync(void *to, int byte, size_t bytes, cudaStream_t stream) {
  bool inside = false;
  pthread_mutex_lock(&lock);
  for (const block *b = blocks; b && !inside; b = b->next)
    inside = (char *)to >= b->memory && (char *)to + bytes <= b->memory + b->bytes;
  pthread_mutex_unlock(&lock);
  if (!inside) return cudaErrorInvalidValue;
  return push(stream, (operation){.kind = FILL, .to = to, .byte = byte, .bytes = bytes});
}

/* ---- streams and events ---- */

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *out, unsigned flags, int priority) {
  (void)flags;
  (void)priority;
  cudaError_t error = enter();
  if (error != cudaSuccess) return error;
  static bool reports;
  cudaStream_t s = calloc(1, sizeof *s);
  pthread_mutex_lock(&lock);
  if (!reports) atexit(report);
  reports = true;
  s->next = streams;
  streams = s;
  pthread_create(&s->thread, NULL, stream_main, s);
  pthread_mutex_unlock(&lock);
  *out = s;
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t s) {
  cudaError_t error = enter();
  pthread_mutex_lock(&lock);
  s->stop = true;
  for (cudaStream_t *link = &streams; *link; link = &(*link)->next)
    if (*link == s) {
      *link = s->next;
      break;
    }
  pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&lock);
  pthread_join(s->thread, NULL);
  free(s);
  return error;
}

cudaError_t cudaStreamSynchronize(cudaStream_t s) {
  cudaError_t error = enter();
  if (error != cudaSuccess) return error;
  pthread_mutex_lock(&lock);
  drain(s);
  pthread_mutex_unlock(&lock);
  return sticky;
}

cudaError_t cudaStreamQuery(cudaStream_t s) {
  cudaError_t error = enter();
  if (error != cudaSuccess) return error;
  pthread_mutex_lock(&lock);
  bool empty = !s->first;
  pthread_mutex_unlock(&lock);
  return empty ? sticky : cudaErrorNotReady;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t task, void *argument) {
  return push(stream, (operation){.kind = TASK, .task = task, .argument = argument});
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags) {
  (void)flags;
  cudaError_t error = enter();
  if (error == cudaSuccess) *out = calloc(1, sizeof **out);
  return error;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  cudaError_t error = enter();
  pthread_mutex_lock(&lock);
  drain_all(); /* CUDA frees it later */
  pthread_mutex_unlock(&lock);
  free(event);
  return error;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return push(stream, (operation){.kind = RECORD, .event = event});
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) {
  (void)flags;
  return push(stream, (operation){.kind = WAIT, .event = event});
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  cudaError_t error = enter();
  if (error != cudaSuccess) return error;
  pthread_mutex_lock(&lock);
  bool passed = event->passed >= event->recorded;
  pthread_mutex_unlock(&lock);
  return passed ? sticky : cudaErrorNotReady;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  cudaError_t error = enter();
  if (error != cudaSuccess) return error;
  pthread_mutex_lock(&lock);
  while (event->passed < event->recorded) pthread_cond_wait(&changed, &lock);
  pthread_mutex_unlock(&lock);
  return sticky;
}

static CUresult wait_value(CUstream stream, CUdeviceptr address, cuuint32_t value, unsigned flags) {
  if (flags != CU_STREAM_WAIT_VALUE_GEQ) return CUDA_ERROR_INVALID_VALUE;
  return (CUresult)push(stream, (operation){.kind = WAIT_FLAG, .flag = (const uint32_t *)(uintptr_t)address, .value = value});
}

cudaError_t cudaGetDriverEntryPointByVersion(const char *symbol, void **out, unsigned version, unsigned long long flags,
                                             enum cudaDriverEntryPointQueryResult *how) {
  CUresult (*found)(CUstream, CUdeviceptr, cuuint32_t, unsigned) = wait_value;
  (void)flags;
  if (strcmp(symbol, "cuStreamWaitValue32") != 0 || version != 11070) return cudaErrorInvalidValue;
  memcpy(out, &found, sizeof found);
  *how = cudaDriverEntryPointSuccess;
  return cudaSuccess;
}
