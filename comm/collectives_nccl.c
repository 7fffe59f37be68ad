/* collectives_nccl.c - collectives between GPUs. Groups are split from one communicator of all ranks; communicators do not
 * block, so that a peer that never comes shows as a fault with a deadline and not as a hang. Where NCCL has no collective of
 * its own (uneven parts, all-to-alls), a call is a list of messages, as an exchange is: grouped sends and receives.
 *
 * The trace hook hears `end` when the host next looks: before each call of the group and after each wait on the device. */
#include <cuda_runtime_api.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "comm/device_cuda.h"
#include "comm/group.h"
#include "comm/library_nccl.h"

/* A program without the session has no hook: the symbol is then absent. */
extern gd_collectives_trace *gd_collectives_trace_hook __attribute__((weak));

enum { CONNECT_SECONDS = 300, MARKS = 256, MAX_GROUPS = 64 };

/* A call that was enqueued and whose end was not yet seen. */
typedef struct mark {
  cudaEvent_t event;
  const char *call;
  uint64_t sequence;
} mark;

typedef struct nccl_group {
  gd_group base;
  gd_device *device;
  ncclComm_t comm;
  bool ready; /* comm may be asked from any thread */
  bool failed;
  mark marks[MARKS]; /* a ring: first is the oldest */
  int32_t first, pending;
} nccl_group;

/* The live groups of this process, for poll_all. Any thread may wait on the device and so poll: the lock covers the list and
 * the rings; calls on a group come from one thread. */
static nccl_group *groups[MAX_GROUPS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static nccl_group *group_of(gd_group *group) {
  return (nccl_group *)group;
}

static void trace(const nccl_group *g, const char *call, uint64_t sequence, bool end) {
  if (&gd_collectives_trace_hook && gd_collectives_trace_hook) gd_collectives_trace_hook(&g->base, call, sequence, end);
}

/* The lock is held. */
static void poll_group(nccl_group *g) {
  while (g->pending > 0) {
    mark *m = &g->marks[g->first];
    if (cudaEventQuery(m->event) != cudaSuccess) {
      (void)cudaGetLastError(); /* "not ready" is no fault; a fault shows where the stream is waited for */
      return;
    }
    trace(g, m->call, m->sequence, true);
    g->first = (g->first + 1) % MARKS;
    g->pending--;
  }
}

/* What a communicator met since it was last asked; the lock is held. */
static ncclResult_t met(nccl_group *g) {
  ncclResult_t state = ncclSuccess, asked = gd_nccl.CommGetAsyncError(g->comm, &state);
  if (asked != ncclSuccess) state = asked;
  if (state == ncclInProgress) state = ncclSuccess;
  if (state != ncclSuccess) g->failed = true;
  return state;
}

/* What NCCL met at a call on the group. A fault of the GPU, or of a kernel on it, may show first in NCCL, as one of NCCL's: the
 * GPU is asked. */
static gd_status fault(nccl_group *g, const char *call, ncclResult_t result) {
  cudaStream_t handle = gd_cuda_stream_enter(g->device->communication);
  cudaError_t error = cudaPeekAtLastError(); /* of this thread, as where NCCL found no memory */
  if (error == cudaSuccess || error == cudaErrorNotReady) error = cudaStreamQuery(handle);
  if (error != cudaSuccess && error != cudaErrorNotReady) {
    char what[96];
    snprintf(what, sizeof what, "%s on group %s", call, g->base.name);
    return gd_cuda_fault(error, what);
  }
  (void)cudaGetLastError(); /* "not ready" is no fault */
  const char *last = gd_nccl.GetLastError(g->comm);
  return gd_fail(GD_RANK_FAILED, "%s on group %s: NCCL: %s%s%s", call, g->base.name, gd_nccl.GetErrorString(result),
                 last && last[0] ? ": " : "", last ? last : "");
}

static gd_status poll_all(void) {
  gd_status status = GD_OK;
  pthread_mutex_lock(&lock);
  for (int i = 0; i < MAX_GROUPS; i++) {
    nccl_group *g = groups[i];
    if (!g) continue;
    poll_group(g);
    if (!g->ready || status != GD_OK) continue;
    /* What it has enqueued may never end: no later wait is for it. */
    if (g->failed) {
      status = gd_fail(GD_RANK_FAILED, "collectives on group %s, which failed before", g->base.name);
      continue;
    }
    ncclResult_t result = met(g);
    if (result != ncclSuccess) status = fault(g, "collectives", result);
  }
  pthread_mutex_unlock(&lock);
  return status;
}

static void mark_failed(nccl_group *g) {
  pthread_mutex_lock(&lock);
  g->failed = true;
  pthread_mutex_unlock(&lock);
}

/* Waits until a non-blocking call of `comm` has been taken, at most CONNECT_SECONDS. Connections are made at first use; later a
 * thread of NCCL's takes it within microseconds, so the host asks without a pause first. */
static ncclResult_t settle(ncclComm_t comm, ncclResult_t result) {
  int64_t start = gd_cuda_now_ns(), now = start;
  while (result == ncclInProgress && now - start < (int64_t)CONNECT_SECONDS * 1000000000) {
    ncclResult_t state = ncclInProgress;
    pthread_mutex_lock(&lock); /* other threads ask in poll_all */
    ncclResult_t asked = gd_nccl.CommGetAsyncError(comm, &state);
    pthread_mutex_unlock(&lock);
    result = asked == ncclSuccess ? state : asked;
    now = result == ncclInProgress ? gd_cuda_pause(start) : now;
  }
  return result;
}

static gd_status settled(nccl_group *g, const char *call, ncclResult_t result) {
  result = settle(g->comm, result);
  if (result == ncclSuccess) return GD_OK;
  mark_failed(g);
  if (result != ncclInProgress) return fault(g, call, result);
  return gd_fail(GD_RANK_FAILED, "%s on group %s: a peer did not come within %d seconds", call, g->base.name, CONNECT_SECONDS);
}

/* ---- begin and end of a call ---- */

typedef struct nccl_call {
  const char *name;
  uint64_t sequence;
  cudaStream_t stream;
} nccl_call;

static gd_status begin_numbered(nccl_group *g, gd_stream *stream, const char *name, uint64_t *counter, nccl_call *out) {
  cudaStream_t handle = gd_cuda_stream_enter(stream);
  pthread_mutex_lock(&lock);
  poll_group(g);
  bool failed = g->failed;
  pthread_mutex_unlock(&lock);
  if (failed) return gd_fail(GD_RANK_FAILED, "%s on group %s, which failed before", name, g->base.name);
  *out = (nccl_call){name, ++*counter, handle};
  trace(g, name, out->sequence, false);
  return GD_OK;
}

static gd_status begin(nccl_group *g, gd_stream *stream, const char *name, nccl_call *out) {
  return begin_numbered(g, stream, name, &g->base.sequence, out);
}

static gd_status end(nccl_group *g, const nccl_call *c, ncclResult_t result) {
  GD_TRY(settled(g, c->name, result));
  /* With the ring full the newest place is used again: the end of a later call says that the earlier ones have ended. */
  pthread_mutex_lock(&lock);
  if (g->pending < MARKS) g->pending++;
  mark *m = &g->marks[(g->first + g->pending - 1) % MARKS];
  m->call = c->name;
  m->sequence = c->sequence;
  cudaError_t error = cudaEventRecord(m->event, c->stream);
  if (error != cudaSuccess) g->pending--;
  pthread_mutex_unlock(&lock);
  return error == cudaSuccess ? GD_OK : gd_cuda_fault(error, c->name);
}

/* ---- NCCL's own ---- */

static gd_status nccl_all_gather(gd_group *group, gd_stream *stream, const void *send, void *recv, size_t bytes) {
  nccl_group *g = group_of(group);
  nccl_call c;
  GD_TRY(begin(g, stream, "all_gather", &c));
  gd_group_count_even(group, bytes);
  return end(g, &c, bytes ? gd_nccl.AllGather(send, recv, bytes, ncclInt8, g->comm, c.stream) : ncclSuccess);
}

static gd_status nccl_broadcast(gd_group *group, gd_stream *stream, void *buffer, size_t bytes, int root) {
  nccl_group *g = group_of(group);
  nccl_call c;
  GD_TRY(begin(g, stream, "broadcast", &c));
  gd_group_count_broadcast(group, bytes, root);
  return end(g, &c, bytes ? gd_nccl.Broadcast(buffer, buffer, bytes, ncclInt8, root, g->comm, c.stream) : ncclSuccess);
}

/* ---- messages ---- */

/* A rank's own messages do not go through NCCL; in place they are there already. */
static gd_status copy_own(const nccl_group *g, const nccl_call *c, const gd_message *messages, int32_t count) {
  gd_own_message own = {NULL, NULL};
  while (gd_messages_next_own(&g->base, messages, count, &own)) {
    if (own.send->bytes == 0 || own.send->buffer == own.receive->buffer) continue;
    cudaError_t error =
        cudaMemcpyAsync(own.receive->buffer, own.send->buffer, own.send->bytes, cudaMemcpyDeviceToDevice, c->stream);
    if (error != cudaSuccess) return gd_cuda_fault(error, c->name);
  }
  return GD_OK;
}

static ncclResult_t enqueue_messages(const nccl_group *g, const nccl_call *c, const gd_message *messages, int32_t count) {
  ncclResult_t result = ncclSuccess;
  for (const gd_message *m = messages; m < messages + count; m++) {
    if (m->peer == g->base.rank || m->bytes == 0) continue;
    result = m->direction == GD_SEND ? gd_nccl.Send(m->buffer, m->bytes, ncclInt8, m->peer, g->comm, c->stream)
                                     : gd_nccl.Recv(m->buffer, m->bytes, ncclInt8, m->peer, g->comm, c->stream);
    if (result != ncclSuccess && result != ncclInProgress) return result;
  }
  return ncclSuccess;
}

/* The rest of a call that has begun. */
static gd_status run_messages(nccl_group *g, const nccl_call *c, const gd_message *messages, int32_t count) {
  gd_group_count_messages(&g->base, messages, count);
  GD_TRY(copy_own(g, c, messages, count));
  ncclResult_t result = gd_nccl.GroupStart();
  if (result == ncclSuccess) {
    ncclResult_t parts = enqueue_messages(g, c, messages, count);
    result = gd_nccl.GroupEnd();
    if (parts != ncclSuccess) result = parts;
  }
  return end(g, c, result);
}

static gd_status nccl_exchange(gd_group *group, gd_stream *stream, const gd_message *messages, int32_t count) {
  nccl_call c;
  GD_TRY(gd_messages_check(group, "exchange", messages, count));
  GD_TRY(begin_numbered(group_of(group), stream, "exchange", &group->messages, &c));
  return run_messages(group_of(group), &c, messages, count);
}

static gd_status run_parts(gd_group *group, gd_stream *stream, const char *name, const gd_parts *send,
                           const gd_parts *receive) {
  nccl_call c;
  gd_message *messages;
  int32_t count;
  GD_TRY(gd_messages_of_parts(group, name, send, receive, &messages, &count));
  gd_status status = begin(group_of(group), stream, name, &c);
  if (status == GD_OK) status = run_messages(group_of(group), &c, messages, count);
  free(messages);
  return status;
}

static gd_status nccl_all_gather_uneven(gd_group *group, gd_stream *stream, const void *send, void *recv, const size_t *sizes,
                                        const size_t *offsets) {
  const gd_parts out = {.base = send, .bytes = sizes[group->rank]}; /* the same for everybody */
  const gd_parts in = {.base = recv, .sizes = sizes, .offsets = offsets};
  return run_parts(group, stream, "all_gather_uneven", &out, &in);
}

static gd_status nccl_all_to_all(gd_group *group, gd_stream *stream, const void *send, void *recv, size_t bytes) {
  const gd_parts out = {.base = send, .bytes = bytes, .stride = bytes};
  const gd_parts in = {.base = recv, .bytes = bytes, .stride = bytes};
  return run_parts(group, stream, "all_to_all", &out, &in);
}

static gd_status nccl_all_to_all_uneven(gd_group *group, gd_stream *stream, const void *send, const size_t *send_sizes,
                                        const size_t *send_offsets, void *recv, const size_t *recv_sizes,
                                        const size_t *recv_offsets) {
  const gd_parts out = {.base = send, .sizes = send_sizes, .offsets = send_offsets};
  const gd_parts in = {.base = recv, .sizes = recv_sizes, .offsets = recv_offsets};
  return run_parts(group, stream, "all_to_all_uneven", &out, &in);
}

/* ---- reductions ---- */

static gd_status reduction_type(gd_dtype dtype, const char *call, ncclDataType_t *out) {
  switch (dtype) {
    case GD_FLOAT32: *out = ncclFloat32; return GD_OK;
    case GD_INT32: *out = ncclInt32; return GD_OK;
    case GD_INT64: *out = ncclInt64; return GD_OK;
    default: return gd_fail(GD_BUG, "%s of %s: expected float32, int32 or int64", call, gd_dtype_name(dtype));
  }
}

static gd_status nccl_all_reduce(gd_group *group, gd_stream *stream, void *buffer, size_t elements, gd_dtype dtype,
                                 gd_reduction op) {
  nccl_group *g = group_of(group);
  ncclDataType_t type = ncclFloat32;
  nccl_call c;
  GD_TRY(reduction_type(dtype, "all_reduce", &type));
  GD_TRY(begin(g, stream, "all_reduce", &c));
  gd_group_count_even(group, elements * gd_dtype_bytes(dtype));
  ncclRedOp_t how = op == GD_MAX ? ncclMax : ncclSum;
  return end(g, &c, elements ? gd_nccl.AllReduce(buffer, buffer, elements, type, how, g->comm, c.stream) : ncclSuccess);
}

static gd_status nccl_reduce_scatter(gd_group *group, gd_stream *stream, const void *send, void *recv, size_t elements_each,
                                     gd_dtype dtype, gd_reduction op) {
  nccl_group *g = group_of(group);
  ncclDataType_t type = ncclFloat32;
  nccl_call c;
  GD_TRY(reduction_type(dtype, "reduce_scatter", &type));
  GD_TRY(begin(g, stream, "reduce_scatter", &c));
  gd_group_count_even(group, elements_each * gd_dtype_bytes(dtype));
  ncclRedOp_t how = op == GD_MAX ? ncclMax : ncclSum;
  return end(g, &c,
             elements_each ? gd_nccl.ReduceScatter(send, recv, elements_each, type, how, g->comm, c.stream) : ncclSuccess);
}

/* ---- groups ---- */

static void nccl_destroy(gd_group *group) {
  if (!group) return;
  nccl_group *g = group_of(group);
  gd_cuda_device_enter(g->device);
  pthread_mutex_lock(&lock);
  for (int i = 0; i < MAX_GROUPS; i++)
    if (groups[i] == g) groups[i] = NULL;
  pthread_mutex_unlock(&lock);
  if (g->comm) {
    ncclResult_t state = ncclSuccess;
    if (gd_nccl.CommGetAsyncError(g->comm, &state) != ncclSuccess || state != ncclSuccess) g->failed = true;
    if (!g->failed) g->failed = settle(g->comm, gd_nccl.CommFinalize(g->comm)) != ncclSuccess;
    /* A communicator whose peer is gone can only be aborted. */
    (void)(g->failed ? gd_nccl.CommAbort(g->comm) : gd_nccl.CommDestroy(g->comm));
  }
  for (int i = 0; i < MARKS; i++)
    if (g->marks[i].event) (void)cudaEventDestroy(g->marks[i].event);
  gd_group_close(group);
  free(g);
}

const gd_collectives_ops gd_nccl_ops = {
    .name = "nccl",
    .all_gather = nccl_all_gather,
    .all_gather_uneven = nccl_all_gather_uneven,
    .all_to_all = nccl_all_to_all,
    .all_to_all_uneven = nccl_all_to_all_uneven,
    .broadcast = nccl_broadcast,
    .exchange = nccl_exchange,
    .all_reduce = nccl_all_reduce,
    .reduce_scatter = nccl_reduce_scatter,
    .destroy = nccl_destroy,
};

/* A group without its communicator yet, entered in the list. */
static gd_status group_create(gd_device *device, const char *name, nccl_group **out) {
  nccl_group *g = calloc(1, sizeof *g);
  if (!g) return gd_fail(GD_NO_MEMORY, "out of memory for a group");
  g->base.ops = &gd_nccl_ops;
  g->base.adds = true;
  g->device = device;
  snprintf(g->base.name, sizeof g->base.name, "%s", name);
  gd_cuda_device_enter(device);
  for (int i = 0; i < MARKS; i++) {
    cudaError_t error = cudaEventCreateWithFlags(&g->marks[i].event, cudaEventDisableTiming);
    if (error == cudaSuccess) continue;
    g->marks[i].event = NULL;
    nccl_destroy(&g->base);
    return gd_cuda_fault(error, "cannot make a CUDA event");
  }
  int place = 0;
  pthread_mutex_lock(&lock);
  while (place < MAX_GROUPS && groups[place]) place++;
  if (place < MAX_GROUPS) groups[place] = g;
  pthread_mutex_unlock(&lock);
  if (place == MAX_GROUPS) {
    nccl_destroy(&g->base);
    return gd_fail(GD_BUG, "more than %d groups of GPUs", MAX_GROUPS);
  }
  *out = g;
  return GD_OK;
}

/* Waits for the communicator and reads rank and size; on a fault the group is gone. */
static gd_status group_finish(nccl_group *g, const char *call, ncclResult_t result, gd_group **out) {
  gd_status status;
  if (!g->comm && result != ncclSuccess) {
    status = gd_fail(GD_RANK_FAILED, "%s of group %s: NCCL: %s: %s", call, g->base.name, gd_nccl.GetErrorString(result),
                     gd_nccl.GetLastError(NULL));
  } else {
    status = settled(g, call, result);
  }
  int rank = 0, size = 0;
  if (status == GD_OK) status = settled(g, call, gd_nccl.CommUserRank(g->comm, &rank));
  if (status == GD_OK) status = settled(g, call, gd_nccl.CommCount(g->comm, &size));
  if (status == GD_OK) status = gd_group_open(&g->base, rank, size);
  if (status == GD_OK) {
    pthread_mutex_lock(&lock);
    g->ready = true;
    pthread_mutex_unlock(&lock);
  }
  if (status != GD_OK) {
    nccl_destroy(&g->base);
    return status;
  }
  *out = &g->base;
  return GD_OK;
}

/* For tests on a machine with one GPU: NCCL refuses two ranks of one host on one GPU, and tells hosts apart by this variable.
 * The ranks then talk over the loopback device. Unsupported by NCCL and slow; only where GPTDIST_TEST_SHARE_GPU=nccl asks for
 * it. */
static void share_gpu(void) {
  const char *asked = getenv("GPTDIST_TEST_SHARE_GPU");
  if (!asked || strcmp(asked, "nccl") != 0) return;
  char host[32];
  snprintf(host, sizeof host, "process%ld", (long)getpid());
  (void)setenv("NCCL_HOSTID", host, 0);
  (void)setenv("NCCL_SOCKET_IFNAME", "lo", 0);
  (void)setenv("NCCL_IB_DISABLE", "1", 0);
  (void)setenv("NCCL_MAX_CTAS", "2", 0);
}

/* Before NCCL's first call. Groups of two communicators may be under way on the compute and on the communication stream at
 * once: NCCL then has to keep the order in which a rank started them, or two ranks could each wait for the other's second one.
 * NCCL before 2.26 does not know the variable; the session warns of that. Sums inside NVLink's switches come in no order that
 * anybody promises, and `fast` promises equal bits from run to run: they are off, unless a person wants them on.
 */
static gd_status prepare(void) {
  (void)setenv("NCCL_LAUNCH_ORDER_IMPLICIT", "1", 0);
  (void)setenv("NCCL_NVLS_ENABLE", "0", 0);
  share_gpu();
  return gd_nccl_load();
}

gd_status gd_nccl_version(int32_t *out) {
  int version = 0;
  *out = 0;
  GD_TRY(prepare());
  ncclResult_t result = gd_nccl.GetVersion(&version);
  if (result != ncclSuccess) return gd_fail(GD_NO_MEMORY, "NCCL does not say its version: %s", gd_nccl.GetErrorString(result));
  *out = version;
  return GD_OK;
}

gd_status gd_nccl_unique_id(gd_cuda_unique_id *out) {
  ncclUniqueId id;
  _Static_assert(sizeof id == sizeof out->bytes, "GD_CUDA_UNIQUE_ID_BYTES is NCCL's");
  GD_TRY(prepare());
  ncclResult_t result = gd_nccl.GetUniqueId(&id);
  if (result != ncclSuccess)
    return gd_fail(GD_RANK_FAILED, "NCCL cannot start: %s: %s", gd_nccl.GetErrorString(result), gd_nccl.GetLastError(NULL));
  memcpy(out->bytes, &id, sizeof id);
  return GD_OK;
}

gd_status gd_nccl_world_group(gd_device *device, int32_t rank, int32_t ranks, const gd_cuda_unique_id *id, gd_group **out) {
  nccl_group *g;
  ncclUniqueId native;
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  memcpy(&native, id->bytes, sizeof native);
  GD_TRY(prepare());
  GD_TRY(group_create(device, "world", &g));
  gd_cuda_device_on_sync(device, poll_all);
  return group_finish(g, "start", gd_nccl.CommInitRankConfig(&g->comm, ranks, native, rank, &config), out);
}

gd_status gd_nccl_split_group(gd_group *world, int32_t color, int32_t key, const char *name, gd_group **out) {
  nccl_group *parent = group_of(world), *g;
  if (color < 0) return gd_fail(GD_BUG, "a group of color %d", (int)color);
  if (parent->failed) return gd_fail(GD_RANK_FAILED, "split of group %s, which failed before", world->name);
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  GD_TRY(group_create(parent->device, name, &g));
  ncclResult_t result = gd_nccl.CommSplit(parent->comm, color, key, &g->comm, &config);
  /* The new handle is filled in once the parent has settled. */
  gd_status status = settled(parent, "split", result);
  if (status != GD_OK) {
    nccl_destroy(&g->base);
    return status;
  }
  return group_finish(g, "split", g->comm ? ncclInProgress : ncclInternalError, out);
}
