/* streams.cu - memory, streams and events of the emulation. Streams are lazy: nothing runs until somebody waits for it, or
 * gives memory back; a stream that waits for an event runs the other one that far, and no further. So whoever does not wait
 * finds what was there before. What is copied to or from memory that is not pinned is copied inside the call, as CUDA does it.
 * GPTDIST_EMULATION_STREAMS=eager: everything inside its call. */
#include <cuda.h>
#include <cuda_runtime.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include <deque>
#include <map>

struct CUstream_st {
  std::deque<std::function<void()>> queue;
  uint64_t enqueued, ended;
  bool running;
  CUstream_st *next;
};
struct CUevent_st {
  cudaStream_t stream;
  uint64_t after; /* so many operations of it */
};

/* Recursive: a task may call this. */
static pthread_mutex_t lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static CUstream_st *streams;
static std::map<const char *, size_t> pinned;
static size_t used; /* bytes of device memory */

namespace {
struct held {
  held() { pthread_mutex_lock(&lock); }
  ~held() { pthread_mutex_unlock(&lock); }
};
}  // namespace

/* Up to so many operations. A task that waits for its own stream would never end. */
static void run(cudaStream_t s, uint64_t until) {
  while (s->ended < until) {
    emulate_must(!s->running, "a task that waits for its own stream");
    std::function<void()> task = std::move(s->queue.front());
    s->queue.pop_front();
    s->running = true;
    task();
    s->running = false;
    s->ended++;
  }
}

static void run_all() {
  for (CUstream_st *s = streams; s; s = s->next)
    if (!s->running) run(s, s->enqueued);
}

/* All that was enqueued. The default stream, NULL, comes after all others, and what it does is done inside its calls. */
static void finish(cudaStream_t s) {
  if (s)
    run(s, s->enqueued);
  else
    run_all();
}

void emulate_enqueue(cudaStream_t s, std::function<void()> task) {
  static const char *how = getenv("GPTDIST_EMULATION_STREAMS");
  static const bool eager = how && strcmp(how, "eager") == 0;
  held all;
  if (!s) {
    run_all();
    task();
    return;
  }
  s->queue.push_back(std::move(task));
  s->enqueued++;
  if (eager && !s->running) run(s, s->enqueued);
}

static bool is_pinned(const void *p) {
  auto after = pinned.upper_bound((const char *)p);
  if (after == pinned.begin()) return false;
  --after;
  return (const char *)p < after->first + after->second;
}

extern "C" {

/* ---- memory ---- */

static cudaError_t take(void **out, size_t bytes) {
  *out = malloc(bytes);
  if (*out) memset(*out, 0xff, bytes); /* not a number, where a kernel reads what nobody wrote */
  return *out ? cudaSuccess : cudaErrorMemoryAllocation;
}
cudaError_t cudaMallocHost(void **out, size_t bytes) {
  held all;
  cudaError_t error = take(out, bytes);
  if (*out) pinned[(const char *)*out] = bytes;
  return error;
}
cudaError_t cudaFreeHost(void *pointer) {
  held all;
  run_all();
  pinned.erase((const char *)pointer);
  return free(pointer), cudaSuccess;
}
cudaError_t cudaMalloc(void **out, size_t bytes) {
  held all;
  cudaError_t error = take(out, bytes);
  if (*out) used += malloc_usable_size(*out);
  return error;
}
cudaError_t cudaFree(void *pointer) {
  held all;
  run_all();
  if (pointer) used -= malloc_usable_size(pointer);
  return free(pointer), cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t *available, size_t *total) {
  held all;
  *total = (size_t)1 << 30;
  *available = used < *total ? *total - used : 0;
  return cudaSuccess;
}

/* ---- streams ---- */

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *out, unsigned, int) {
  held all;
  *out = new CUstream_st();
  (*out)->next = streams;
  streams = *out;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t s) {
  held all;
  return finish(s), cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t s) {
  return cudaStreamSynchronize(s);
}
cudaError_t cudaStreamDestroy(cudaStream_t s) {
  held all;
  run(s, s->enqueued);
  CUstream_st **link = &streams;
  while (*link != s) link = &(*link)->next;
  *link = s->next;
  return delete s, cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t s) {
  held all;
  emulate_enqueue(s, [=] { memmove(to, from, bytes); });
  if (kind != cudaMemcpyDeviceToDevice && !is_pinned(kind == cudaMemcpyHostToDevice ? from : to)) finish(s);
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void *to, int byte, size_t bytes, cudaStream_t s) {
  return emulate_enqueue(s, [=] { memset(to, byte, bytes); }), cudaSuccess;
}
cudaError_t cudaLaunchHostFunc(cudaStream_t s, void (*task)(void *), void *argument) {
  return emulate_enqueue(s, [=] { task(argument); }), cudaSuccess;
}

/* ---- events ---- */

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned) {
  return *out = new CUevent_st(), cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  return delete event, cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t s) {
  held all;
  return *event = {s, s ? s->enqueued : 0}, cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t event, unsigned) {
  held all;
  const CUevent_st now = *event;
  if (now.stream && now.stream != s) emulate_enqueue(s, [=] { run(now.stream, now.after); });
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  held all;
  if (event->stream) run(event->stream, event->after);
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  return cudaEventSynchronize(event);
}

/* A thread of the host's sets the flag meanwhile. */
static CUresult wait_value(CUstream s, CUdeviceptr address, uint32_t value, unsigned) {
  const uint32_t *flag = (const uint32_t *)address;
  emulate_enqueue(s, [=] {
    const struct timespec pause = {0, 20000};
    while ((int32_t)(__atomic_load_n(flag, __ATOMIC_ACQUIRE) - value) < 0) nanosleep(&pause, NULL);
  });
  return CUDA_SUCCESS;
}
cudaError_t cudaGetDriverEntryPointByVersion(const char *, void **out, unsigned, unsigned long long,
                                             enum cudaDriverEntryPointQueryResult *how) {
  return *out = (void *)wait_value, *how = cudaDriverEntryPointSuccess, cudaSuccess;
}
}
