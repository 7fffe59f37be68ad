/* nccl.c - an NCCL without peers, for the host's side of comm/collectives_nccl.c: a communicator says what it is told to.
 *
 *   FAKE_NCCL_VERSION=22809
 *   FAKE_NCCL_LOADED=FILE is made when the library is opened
 *   FAKE_NCCL_POLLS=N     a call is taken after N questions whether it was
 *   FAKE_NCCL_HANGS=1     a collective never ends, until its communicator is aborted
 *   FAKE_NCCL_ERROR=CODE  what a communicator has met once its first collective is enqueued
 *   FAKE_NCCL_BREAKS=CODE and the GPU then has this fault of CUDA's
 *   FAKE_NCCL_BREAKS_LATE=CODE the same, only once the communicator's last text is asked for */
#include <cuda_runtime_api.h>
#include <nccl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void fake_cuda_break(int code); /* cuda.c */

struct ncclComm {
  int rank, ranks, polls;
  int collectives, aborted;
};

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
  (void)id;
  (void)config;
  *comm = calloc(1, sizeof **comm);
  (*comm)->rank = rank;
  (*comm)->ranks = ranks;
  return call(*comm);
}

ncclResult_t ncclCommSplit(ncclComm_t comm, int color, int key, ncclComm_t *out, ncclConfig_t *config) {
  (void)color;
  (void)key;
  (void)config;
  *out = calloc(1, sizeof **out);
  (*out)->rank = comm->rank;
  (*out)->ranks = comm->ranks;
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

static ncclResult_t collective(ncclComm_t comm, cudaStream_t stream) {
  if (setting("FAKE_NCCL_HANGS", 0) && cudaLaunchHostFunc(stream, hang, comm) != cudaSuccess) return ncclUnhandledCudaError;
  comm->collectives++;
  return call(comm);
}

ncclResult_t ncclAllGather(const void *send, void *receive, size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream) {
  (void)send, (void)receive, (void)count, (void)type;
  return collective(comm, stream);
}

ncclResult_t ncclBroadcast(const void *send, void *receive, size_t count, ncclDataType_t type, int root, ncclComm_t comm,
                           cudaStream_t stream) {
  (void)send, (void)receive, (void)count, (void)type, (void)root;
  return collective(comm, stream);
}

ncclResult_t ncclAllReduce(const void *send, void *receive, size_t count, ncclDataType_t type, ncclRedOp_t op, ncclComm_t comm,
                           cudaStream_t stream) {
  (void)send, (void)receive, (void)count, (void)type, (void)op;
  return collective(comm, stream);
}

ncclResult_t ncclReduceScatter(const void *send, void *receive, size_t count, ncclDataType_t type, ncclRedOp_t op,
                               ncclComm_t comm, cudaStream_t stream) {
  (void)send, (void)receive, (void)count, (void)type, (void)op;
  return collective(comm, stream);
}

ncclResult_t ncclSend(const void *buffer, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream) {
  (void)buffer, (void)count, (void)type, (void)peer;
  return collective(comm, stream);
}

ncclResult_t ncclRecv(void *buffer, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream) {
  (void)buffer, (void)count, (void)type, (void)peer;
  return collective(comm, stream);
}

ncclResult_t ncclGroupStart(void) {
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd(void) {
  return ncclSuccess;
}
