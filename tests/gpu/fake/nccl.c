/* nccl.c - an NCCL without peers, for the host's side of comm/collectives_nccl.c: a communicator says what it is told to.
 *
 *   FAKE_NCCL_MOVES=1     there are peers, on this host, and collectives move what they should (nccl_moves.c)
 *                         sums come in another order where NCCL_NVLS_ENABLE=0 is not set, as from NVLink's switches
 *   FAKE_NCCL_VERSION=22809
 *   FAKE_NCCL_LOADED=FILE is made when the library is opened
 *   FAKE_NCCL_POLLS=N     a call is taken after N questions whether it was
 *   FAKE_NCCL_HANGS=1     a collective never ends, until its communicator is aborted
 *   FAKE_NCCL_ERROR=CODE  what a communicator has met once its first collective is enqueued
 *   FAKE_NCCL_BREAKS=CODE and the GPU then has this fault of CUDA's
 *   FAKE_NCCL_BREAKS_LATE=CODE the same, only once the communicator's last text is asked for */
#include <cuda_runtime_api.h>
#include <nccl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/gpu/fake/nccl_moves.h"

/* cuda.c */
void fake_cuda_break(int code);
cudaError_t fake_cuda_kernel(cudaStream_t stream, void (*kernel)(void *), void *argument);

enum { MOST_MESSAGES = 256 };

struct ncclComm {
  int rank, ranks, polls;
  int collectives, aborted, splits;
  char name[128];
  fake_room *room; /* NULL: nobody is there */
};

/* One call, on its way to the stream. */
typedef struct work {
  ncclComm_t comm;
  enum { GATHER, REDUCE, SCATTER, MESSAGES } kind;
  const void *send;
  void *receive;
  size_t bytes, count;
  ncclDataType_t type;
  ncclRedOp_t op;
  int messages;
  fake_message message[MOST_MESSAGES];
  cudaStream_t stream;
} work;

static __thread work *group; /* the messages of an open ncclGroupStart */
static __thread int group_depth;

static int setting(const char *name, int fallback) {
  const char *text = getenv(name);
  return text ? atoi(text) : fallback;
}

__attribute__((constructor)) static void loaded(void) {
  const char *path = getenv("FAKE_NCCL_LOADED");
  FILE *file = path ? fopen(path, "w") : NULL;
  if (file) fclose(file);
}

static ncclResult_t call(ncclComm_t comm) {
  comm->polls = setting("FAKE_NCCL_POLLS", 0);
  return comm->polls ? ncclInProgress : ncclSuccess;
}

ncclResult_t ncclGetVersion(int *version) {
  *version = setting("FAKE_NCCL_VERSION", NCCL_VERSION_CODE);
  return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id) {
  memset(id, 1, sizeof *id);
  snprintf(id->internal, sizeof id->internal, "%ld-%ld", (long)getpid(), (long)time(NULL));
  return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t result) {
  return result == ncclRemoteError ? "remote process exited or there was a network error" : "another error";
}

const char *ncclGetLastError(ncclComm_t comm) {
  if (comm && getenv("FAKE_NCCL_BREAKS_LATE")) fake_cuda_break(setting("FAKE_NCCL_BREAKS_LATE", 0));
  return "";
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *comm, int ranks, ncclUniqueId id, int rank, ncclConfig_t *config) {
  (void)config;
  *comm = calloc(1, sizeof **comm);
  (*comm)->rank = rank;
  (*comm)->ranks = ranks;
  snprintf((*comm)->name, sizeof(*comm)->name, "%.100s", id.internal);
  if (setting("FAKE_NCCL_MOVES", 0)) (*comm)->room = fake_room_open((*comm)->name, rank, ranks);
  return call(*comm);
}

ncclResult_t ncclCommSplit(ncclComm_t comm, int color, int key, ncclComm_t *out, ncclConfig_t *config) {
  (void)config;
  *out = calloc(1, sizeof **out);
  (*out)->rank = comm->rank;
  (*out)->ranks = comm->ranks;
  if (comm->room) {
    int mine[2] = {color, key}, (*everyone)[2] = calloc((size_t)comm->ranks, sizeof mine);
    fake_room_gather(comm->room, mine, 0, everyone, sizeof mine, &comm->aborted);
    (*out)->rank = (*out)->ranks = 0;
    for (int r = 0; r < comm->ranks; r++) {
      if (everyone[r][0] != color) continue;
      (*out)->ranks++;
      if (everyone[r][1] < key || (everyone[r][1] == key && r < comm->rank)) (*out)->rank++;
    }
    free(everyone);
    snprintf((*out)->name, sizeof(*out)->name, "%.100s-%d-%d", comm->name, comm->splits++, color);
    (*out)->room = fake_room_open((*out)->name, (*out)->rank, (*out)->ranks);
  }
  return call(comm);
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *out) {
  *out = comm->polls > 0 ? ncclInProgress : ncclSuccess;
  if (comm->polls > 0) comm->polls--;
  if (comm->collectives) *out = (ncclResult_t)setting("FAKE_NCCL_ERROR", (int)*out);
  if (comm->collectives && getenv("FAKE_NCCL_BREAKS")) fake_cuda_break(setting("FAKE_NCCL_BREAKS", 0));
  return ncclSuccess;
}

ncclResult_t ncclCommCount(const ncclComm_t comm, int *out) {
  *out = comm->ranks;
  return ncclSuccess;
}

ncclResult_t ncclCommUserRank(const ncclComm_t comm, int *out) {
  *out = comm->rank;
  return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  return call(comm);
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  fake_room_close(comm->room);
  free(comm);
  return ncclSuccess;
}

/* Its collectives look at it: it is not freed. */
ncclResult_t ncclCommAbort(ncclComm_t comm) {
  __atomic_store_n(&comm->aborted, 1, __ATOMIC_RELEASE);
  return ncclSuccess;
}

static void hang(void *argument) {
  ncclComm_t comm = argument;
  const struct timespec pause = {0, 1000000};
  while (!__atomic_load_n(&comm->aborted, __ATOMIC_ACQUIRE)) nanosleep(&pause, NULL);
}

static size_t bytes_of(ncclDataType_t type) {
  return type == ncclInt64 ? 8 : type == ncclInt8 ? 1 : 4;
}

static void do_work(void *argument) {
  work *w = argument;
  ncclComm_t comm = w->comm;
  char *all;
  switch (w->kind) {
    case GATHER: fake_room_gather(comm->room, w->send, 0, w->receive, w->bytes, &comm->aborted); break;
    case REDUCE:
    case SCATTER:
      all = malloc((size_t)comm->ranks * w->bytes + 1);
      fake_room_gather(comm->room, w->send, w->kind == SCATTER ? w->bytes : 0, all, w->bytes, &comm->aborted);
      fake_room_add(all, comm->ranks, w->count, w->type, w->op, setting("NCCL_NVLS_ENABLE", 1) == 0);
      memcpy(w->receive, all, w->bytes);
      free(all);
      break;
    case MESSAGES: fake_room_run(comm->room, w->message, w->messages, &comm->aborted); break;
  }
  free(w);
}

static ncclResult_t collective(work what, cudaStream_t stream) {
  ncclComm_t comm = what.comm;
  if (setting("FAKE_NCCL_HANGS", 0) && cudaLaunchHostFunc(stream, hang, comm) != cudaSuccess) return ncclUnhandledCudaError;
  if (comm->room) {
    work *w = malloc(sizeof *w);
    *w = what;
    if (fake_cuda_kernel(stream, do_work, w) != cudaSuccess) return ncclUnhandledCudaError;
  }
  comm->collectives++;
  return call(comm);
}

ncclResult_t ncclAllGather(const void *send, void *receive, size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream) {
  return collective((work){.comm = comm, .kind = GATHER, .send = send, .receive = receive, .bytes = count * bytes_of(type)},
                    stream);
}

ncclResult_t ncclBroadcast(const void *send, void *receive, size_t count, ncclDataType_t type, int root, ncclComm_t comm,
                           cudaStream_t stream) {
  work w = {.comm = comm, .kind = MESSAGES};
  for (int r = 0; r < comm->ranks; r++) {
    if (comm->rank == root && r != root)
      w.message[w.messages++] = (fake_message){true, r, (char *)(uintptr_t)send, count * bytes_of(type), 0};
    if (comm->rank != root && r == root) w.message[w.messages++] = (fake_message){false, r, receive, count * bytes_of(type), 0};
  }
  return collective(w, stream);
}

ncclResult_t ncclAllReduce(const void *send, void *receive, size_t count, ncclDataType_t type, ncclRedOp_t op, ncclComm_t comm,
                           cudaStream_t stream) {
  work w = {.comm = comm, .kind = REDUCE, .send = send, .receive = receive, .count = count, .type = type, .op = op};
  w.bytes = count * bytes_of(type);
  return collective(w, stream);
}

ncclResult_t ncclReduceScatter(const void *send, void *receive, size_t count, ncclDataType_t type, ncclRedOp_t op,
                               ncclComm_t comm, cudaStream_t stream) {
  work w = {.comm = comm, .kind = SCATTER, .send = send, .receive = receive, .count = count, .type = type, .op = op};
  w.bytes = count * bytes_of(type);
  return collective(w, stream);
}

/* Each alone, or with the others of its group. */
static ncclResult_t message(bool send, char *buffer, size_t bytes, int peer, ncclComm_t comm, cudaStream_t stream) {
  work alone = {.comm = comm, .kind = MESSAGES, .messages = 1, .message = {{send, peer, buffer, bytes, 0}}};
  if (!group_depth) return collective(alone, stream);
  if (!group) group = calloc(1, sizeof *group);
  if (group->messages == MOST_MESSAGES) return ncclInvalidUsage;
  group->comm = comm;
  group->kind = MESSAGES;
  group->stream = stream;
  group->message[group->messages++] = alone.message[0];
  return ncclSuccess;
}

ncclResult_t ncclSend(const void *buffer, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream) {
  return message(true, (char *)(uintptr_t)buffer, count * bytes_of(type), peer, comm, stream);
}

ncclResult_t ncclRecv(void *buffer, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream) {
  return message(false, buffer, count * bytes_of(type), peer, comm, stream);
}

ncclResult_t ncclGroupStart(void) {
  group_depth++;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd(void) {
  work *whole = group;
  if (--group_depth || !whole) return ncclSuccess;
  group = NULL;
  ncclResult_t result = collective(*whole, whole->stream);
  free(whole);
  return result;
}
