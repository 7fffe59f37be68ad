/* collectives_nccl.c - collectives between GPUs. Groups are split from one communicator of all ranks; communicators do not
 * block, so that a peer that never comes shows as a fault with a deadline and not as a hang. Even exchanges use NCCL's own
 * collectives, uneven ones and all-to-alls are grouped sends and receives.
 *
 * The trace hook hears `end` when the host next looks: before each call of the group and after each wait on the device. */
#include <cuda_runtime_api.h>
#include <nccl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "comm/device_cuda.h"

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

static void poll_all(void *context) {
  (void)context;
  pthread_mutex_lock(&lock);
  for (int i = 0; i < MAX_GROUPS; i++)
    if (groups[i]) poll_group(groups[i]);
  pthread_mutex_unlock(&lock);
}

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static gd_status fault(nccl_group *g, const char *call, ncclResult_t result) {
  g->failed = true;
  const char *last = ncclGetLastError(g->comm);
  return gd_fail(GD_RANK_FAILED, "%s on group %s: NCCL: %s%s%s", call, g->base.name, ncclGetErrorString(result),
                 last && last[0] ? ": " : "", last ? last : "");
}

/* Waits until a non-blocking call of `comm` has been taken, at most CONNECT_SECONDS. Connections are made at first use. */
static ncclResult_t settle(ncclComm_t comm, ncclResult_t result) {
  int64_t deadline = now_ns() + (int64_t)CONNECT_SECONDS * 1000000000;
  const struct timespec pause = {0, 50000};
  while (result == ncclInProgress && now_ns() < deadline) {
    ncclResult_t state = ncclInProgress;
    ncclResult_t asked = ncclCommGetAsyncError(comm, &state);
    result = asked == ncclSuccess ? state : asked;
    if (result == ncclInProgress) nanosleep(&pause, NULL);
  }
  return result;
}

static gd_status settled(nccl_group *g, const char *call, ncclResult_t result) {
  result = settle(g->comm, result);
  if (result == ncclSuccess) return GD_OK;
  if (result != ncclInProgress) return fault(g, call, result);
  g->failed = true;
  return gd_fail(GD_RANK_FAILED, "%s on group %s: a peer did not come within %d seconds", call, g->base.name, CONNECT_SECONDS);
}

/* ---- begin and end of a call ---- */

static gd_status begin(nccl_group *g, gd_stream *stream, const char *call, cudaStream_t *out) {
  if (g->failed) return gd_fail(GD_RANK_FAILED, "%s on group %s, which failed before", call, g->base.name);
  *out = gd_cuda_stream_enter(stream);
  pthread_mutex_lock(&lock);
  poll_group(g);
  pthread_mutex_unlock(&lock);
  g->base.sequence++;
  trace(g, call, g->base.sequence, false);
  return GD_OK;
}

static gd_status end(nccl_group *g, cudaStream_t stream, const char *call, ncclResult_t result) {
  GD_TRY(settled(g, call, result));
  /* With the ring full the newest place is used again: the end of a later call says that the earlier ones have ended. */
  pthread_mutex_lock(&lock);
  if (g->pending < MARKS) g->pending++;
  mark *m = &g->marks[(g->first + g->pending - 1) % MARKS];
  m->call = call;
  m->sequence = g->base.sequence;
  cudaError_t error = cudaEventRecord(m->event, stream);
  if (error != cudaSuccess) g->pending--;
  pthread_mutex_unlock(&lock);
  return error == cudaSuccess ? GD_OK : gd_cuda_fault(error, call);
}

/* ---- even ---- */

static gd_status nccl_all_gather(gd_group *group, gd_stream *stream, const void *send, void *recv, size_t bytes) {
  nccl_group *g = group_of(group);
  cudaStream_t s;
  GD_TRY(begin(g, stream, "all_gather", &s));
  return end(g, s, "all_gather", bytes ? ncclAllGather(send, recv, bytes, ncclInt8, g->comm, s) : ncclSuccess);
}

static gd_status nccl_broadcast(gd_group *group, gd_stream *stream, void *buffer, size_t bytes, int root) {
  nccl_group *g = group_of(group);
  cudaStream_t s;
  GD_TRY(begin(g, stream, "broadcast", &s));
  return end(g, s, "broadcast", bytes ? ncclBroadcast(buffer, buffer, bytes, ncclInt8, root, g->comm, s) : ncclSuccess);
}

/* ---- grouped sends and receives ---- */

/* One exchange with every rank: part r of the send and of the receive buffer. A NULL size table means `even` bytes each, at
 * r * even. A NULL buffer takes no part. */
typedef struct exchange {
  const char *call;
  const char *send;
  const size_t *send_sizes, *send_offsets;
  char *recv;
  const size_t *recv_sizes, *recv_offsets;
  size_t even;
  int send_only_to, recv_only_from; /* -1: all */
} exchange;

static size_t size_at(const size_t *sizes, size_t even, int r) {
  return sizes ? sizes[r] : even;
}

static size_t offset_at(const size_t *offsets, size_t even, int r) {
  return offsets ? offsets[r] : (size_t)r * even;
}

/* A rank's own part does not go through NCCL; in place it is there already. */
static gd_status copy_own(const exchange *x, int me, cudaStream_t stream) {
  if (!x->send || !x->recv || (x->send_only_to >= 0 && x->send_only_to != me) ||
      (x->recv_only_from >= 0 && x->recv_only_from != me))
    return GD_OK;
  const char *from = x->send + offset_at(x->send_offsets, x->even, me);
  char *to = x->recv + offset_at(x->recv_offsets, x->even, me);
  size_t bytes = size_at(x->recv_sizes, x->even, me);
  if (bytes == 0 || from == to) return GD_OK;
  cudaError_t error = cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream);
  return error == cudaSuccess ? GD_OK : gd_cuda_fault(error, x->call);
}

static ncclResult_t enqueue_parts(const exchange *x, nccl_group *g, cudaStream_t stream) {
  int me = g->base.rank;
  for (int i = 1; i < g->base.size; i++) {
    /* Each rank starts with another peer. */
    int to = (me + i) % g->base.size, from = (me + g->base.size - i) % g->base.size;
    size_t out = x->send ? size_at(x->send_sizes, x->even, to) : 0, in = x->recv ? size_at(x->recv_sizes, x->even, from) : 0;
    if (x->send_only_to >= 0 && x->send_only_to != to) out = 0;
    if (x->recv_only_from >= 0 && x->recv_only_from != from) in = 0;
    ncclResult_t result = ncclSuccess;
    if (out) result = ncclSend(x->send + offset_at(x->send_offsets, x->even, to), out, ncclInt8, to, g->comm, stream);
    if (result != ncclSuccess && result != ncclInProgress) return result;
    if (in) result = ncclRecv(x->recv + offset_at(x->recv_offsets, x->even, from), in, ncclInt8, from, g->comm, stream);
    if (result != ncclSuccess && result != ncclInProgress) return result;
  }
  return ncclSuccess;
}

static gd_status run_exchange(gd_group *group, gd_stream *stream, const exchange *x) {
  nccl_group *g = group_of(group);
  cudaStream_t s;
  GD_TRY(begin(g, stream, x->call, &s));
  GD_TRY(copy_own(x, g->base.rank, s));
  ncclResult_t result = ncclGroupStart();
  if (result == ncclSuccess) {
    ncclResult_t parts = enqueue_parts(x, g, s);
    result = ncclGroupEnd();
    if (parts != ncclSuccess) result = parts;
  }
  return end(g, s, x->call, result);
}

static gd_status nccl_all_gather_uneven(gd_group *group, gd_stream *stream, const void *send, void *recv, const size_t *sizes,
                                        const size_t *offsets) {
  /* Every peer gets the same part: mine. As tables of size and offset by peer that is one value repeated. */
  nccl_group *g = group_of(group);
  cudaStream_t s;
  int me = g->base.rank;
  GD_TRY(begin(g, stream, "all_gather_uneven", &s));
  exchange own = {.call = "all_gather_uneven",
                  .send = (const char *)send - offsets[me],
                  .send_offsets = offsets,
                  .recv = recv,
                  .recv_sizes = sizes,
                  .recv_offsets = offsets,
                  .send_only_to = -1,
                  .recv_only_from = -1};
  GD_TRY(copy_own(&own, me, s));
  ncclResult_t result = ncclGroupStart(), parts = ncclSuccess;
  if (result == ncclSuccess) {
    for (int i = 1; i < g->base.size && (parts == ncclSuccess || parts == ncclInProgress); i++) {
      int to = (me + i) % g->base.size, from = (me + g->base.size - i) % g->base.size;
      if (sizes[me]) parts = ncclSend(send, sizes[me], ncclInt8, to, g->comm, s);
      if (parts != ncclSuccess && parts != ncclInProgress) break;
      if (sizes[from]) parts = ncclRecv((char *)recv + offsets[from], sizes[from], ncclInt8, from, g->comm, s);
    }
    result = ncclGroupEnd();
    if (parts != ncclSuccess && parts != ncclInProgress) result = parts;
  }
  return end(g, s, "all_gather_uneven", result);
}

static gd_status nccl_all_to_all(gd_group *group, gd_stream *stream, const void *send, void *recv, size_t bytes) {
  const exchange x = {
      .call = "all_to_all", .send = send, .recv = recv, .even = bytes, .send_only_to = -1, .recv_only_from = -1};
  return run_exchange(group, stream, &x);
}

static gd_status nccl_all_to_all_uneven(gd_group *group, gd_stream *stream, const void *send, const size_t *send_sizes,
                                        const size_t *send_offsets, void *recv, const size_t *recv_sizes,
                                        const size_t *recv_offsets) {
  const exchange x = {.call = "all_to_all_uneven",
                      .send = send,
                      .send_sizes = send_sizes,
                      .send_offsets = send_offsets,
                      .recv = recv,
                      .recv_sizes = recv_sizes,
                      .recv_offsets = recv_offsets,
                      .send_only_to = -1,
                      .recv_only_from = -1};
  return run_exchange(group, stream, &x);
}

/* The root's send is [size][bytes], everyone's receive is one part. */
static gd_status nccl_scatter(gd_group *group, gd_stream *stream, const void *send, void *recv, size_t bytes, int root) {
  /* The receive buffer is addressed as the part of the root; that address is only formed, never read below its start. */
  const exchange x = {.call = "scatter",
                      .send = group->rank == root ? send : NULL,
                      .recv = (char *)recv - (size_t)root * bytes,
                      .even = bytes,
                      .send_only_to = -1,
                      .recv_only_from = root};
  return run_exchange(group, stream, &x);
}

static gd_status nccl_gather(gd_group *group, gd_stream *stream, const void *send, void *recv, size_t bytes, int root) {
  const exchange x = {.call = "gather",
                      .send = (const char *)send - (size_t)root * bytes,
                      .recv = group->rank == root ? recv : NULL,
                      .even = bytes,
                      .send_only_to = root,
                      .recv_only_from = -1};
  return run_exchange(group, stream, &x);
}

static gd_status nccl_send(gd_group *group, gd_stream *stream, const void *buffer, size_t bytes, int to) {
  nccl_group *g = group_of(group);
  cudaStream_t s;
  if (to == g->base.rank) return gd_fail(GD_BUG, "rank %d of group %s sends to itself", to, g->base.name);
  GD_TRY(begin(g, stream, "send", &s));
  return end(g, s, "send", bytes ? ncclSend(buffer, bytes, ncclInt8, to, g->comm, s) : ncclSuccess);
}

static gd_status nccl_receive(gd_group *group, gd_stream *stream, void *buffer, size_t bytes, int from) {
  nccl_group *g = group_of(group);
  cudaStream_t s;
  if (from == g->base.rank) return gd_fail(GD_BUG, "rank %d of group %s receives from itself", from, g->base.name);
  GD_TRY(begin(g, stream, "receive", &s));
  return end(g, s, "receive", bytes ? ncclRecv(buffer, bytes, ncclInt8, from, g->comm, s) : ncclSuccess);
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
  cudaStream_t s;
  GD_TRY(reduction_type(dtype, "all_reduce", &type));
  GD_TRY(begin(g, stream, "all_reduce", &s));
  ncclRedOp_t how = op == GD_MAX ? ncclMax : ncclSum;
  return end(g, s, "all_reduce", elements ? ncclAllReduce(buffer, buffer, elements, type, how, g->comm, s) : ncclSuccess);
}

static gd_status nccl_reduce_scatter(gd_group *group, gd_stream *stream, const void *send, void *recv, size_t elements_each,
                                     gd_dtype dtype, gd_reduction op) {
  nccl_group *g = group_of(group);
  ncclDataType_t type = ncclFloat32;
  cudaStream_t s;
  GD_TRY(reduction_type(dtype, "reduce_scatter", &type));
  GD_TRY(begin(g, stream, "reduce_scatter", &s));
  ncclRedOp_t how = op == GD_MAX ? ncclMax : ncclSum;
  return end(g, s, "reduce_scatter",
             elements_each ? ncclReduceScatter(send, recv, elements_each, type, how, g->comm, s) : ncclSuccess);
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
    if (ncclCommGetAsyncError(g->comm, &state) != ncclSuccess || state != ncclSuccess) g->failed = true;
    if (!g->failed) g->failed = settle(g->comm, ncclCommFinalize(g->comm)) != ncclSuccess;
    /* A communicator whose peer is gone can only be aborted. */
    (void)(g->failed ? ncclCommAbort(g->comm) : ncclCommDestroy(g->comm));
  }
  for (int i = 0; i < MARKS; i++)
    if (g->marks[i].event) (void)cudaEventDestroy(g->marks[i].event);
  free(g);
}

const gd_collectives_ops gd_nccl_ops = {
    .name = "nccl",
    .all_gather = nccl_all_gather,
    .all_gather_uneven = nccl_all_gather_uneven,
    .all_to_all = nccl_all_to_all,
    .all_to_all_uneven = nccl_all_to_all_uneven,
    .scatter = nccl_scatter,
    .gather = nccl_gather,
    .broadcast = nccl_broadcast,
    .send = nccl_send,
    .receive = nccl_receive,
    .all_reduce = nccl_all_reduce,
    .reduce_scatter = nccl_reduce_scatter,
    .destroy = nccl_destroy,
};

/* A group without its communicator yet, entered in the list. */
static gd_status group_create(gd_device *device, const char *name, nccl_group **out) {
  nccl_group *g = calloc(1, sizeof *g);
  if (!g) return gd_fail(GD_NO_MEMORY, "out of memory for a group");
  g->base.ops = &gd_nccl_ops;
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
    status = gd_fail(GD_RANK_FAILED, "%s of group %s: NCCL: %s: %s", call, g->base.name, ncclGetErrorString(result),
                     ncclGetLastError(NULL));
  } else {
    status = settled(g, call, result);
  }
  int rank = 0, size = 0;
  if (status == GD_OK) status = settled(g, call, ncclCommUserRank(g->comm, &rank));
  if (status == GD_OK) status = settled(g, call, ncclCommCount(g->comm, &size));
  if (status != GD_OK) {
    nccl_destroy(&g->base);
    return status;
  }
  g->base.rank = rank;
  g->base.size = size;
  *out = &g->base;
  return GD_OK;
}

/* For tests on a machine with one GPU: NCCL refuses two ranks of one host on one GPU, and tells hosts apart by this variable.
 * The ranks then talk over the loopback device. Unsupported by NCCL and slow; only where GPTDIST_TEST_SHARE_GPU=1 asks for it.
 */
static void share_gpu(void) {
  const char *asked = getenv("GPTDIST_TEST_SHARE_GPU");
  if (!asked || strcmp(asked, "1") != 0) return;
  char host[32];
  snprintf(host, sizeof host, "process%ld", (long)getpid());
  (void)setenv("NCCL_HOSTID", host, 0);
  (void)setenv("NCCL_SOCKET_IFNAME", "lo", 0);
  (void)setenv("NCCL_IB_DISABLE", "1", 0);
  (void)setenv("NCCL_MAX_CTAS", "2", 0);
}

gd_status gd_nccl_unique_id(gd_cuda_unique_id *out) {
  ncclUniqueId id;
  _Static_assert(sizeof id == sizeof out->bytes, "GD_CUDA_UNIQUE_ID_BYTES is NCCL's");
  share_gpu();
  ncclResult_t result = ncclGetUniqueId(&id);
  if (result != ncclSuccess)
    return gd_fail(GD_RANK_FAILED, "NCCL cannot start: %s: %s", ncclGetErrorString(result), ncclGetLastError(NULL));
  memcpy(out->bytes, &id, sizeof id);
  return GD_OK;
}

gd_status gd_nccl_world_group(gd_device *device, int32_t rank, int32_t ranks, const gd_cuda_unique_id *id, gd_group **out) {
  nccl_group *g;
  ncclUniqueId native;
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  memcpy(&native, id->bytes, sizeof native);
  share_gpu();
  GD_TRY(group_create(device, "world", &g));
  gd_cuda_device_on_sync(device, poll_all, NULL);
  return group_finish(g, "start", ncclCommInitRankConfig(&g->comm, ranks, native, rank, &config), out);
}

gd_status gd_nccl_split_group(gd_group *world, int32_t color, int32_t key, const char *name, gd_group **out) {
  nccl_group *parent = group_of(world), *g;
  if (color < 0) return gd_fail(GD_BUG, "a group of color %d", (int)color);
  if (parent->failed) return gd_fail(GD_RANK_FAILED, "split of group %s, which failed before", world->name);
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  GD_TRY(group_create(parent->device, name, &g));
  ncclResult_t result = ncclCommSplit(parent->comm, color, key, &g->comm, &config);
  /* The new handle is filled in once the parent has settled. */
  gd_status status = settled(parent, "split", result);
  if (status != GD_OK) {
    nccl_destroy(&g->base);
    return status;
  }
  return group_finish(g, "split", g->comm ? ncclInProgress : ncclInternalError, out);
}
