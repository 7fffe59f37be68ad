/* bootstrap_mpi.c - MPI's start and end, and the few host calls the session needs before there is a device. */
#include <mpi.h>

#include <limits.h>
#include <stdlib.h>
#include <time.h>

#include "comm/collectives_mpi.h"
#include "shard/base/progress.h"

static MPI_Comm session_comm = MPI_COMM_NULL;

gd_status gd_mpi_fault(int code, const char *call, const char *group) {
  if (code == MPI_SUCCESS) return GD_OK;
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  if (MPI_Error_string(code, text, &length) != MPI_SUCCESS) text[0] = 0;
  return gd_fail(GD_RANK_FAILED, "%s of group %s failed: %s (MPI error %d)", call, group, text[0] ? text : "no text", code);
}

int gd_mpi_finish(int code, void *request) {
  enum { POLLS = 100, SHORT_SLEEPS = 200, SHORT_NS = 20000, LONG_NS = 200000 };
  for (int round = 0; code == MPI_SUCCESS; round++) {
    int done = 0;
    code = MPI_Test(request, &done, MPI_STATUS_IGNORE);
    if (done) {
      gd_progress(); /* a part of a long exchange */
      break;
    }
    if (round < POLLS) continue;
    struct timespec pause = {.tv_nsec = round < POLLS + SHORT_SLEEPS ? SHORT_NS : LONG_NS};
    nanosleep(&pause, NULL);
  }
  return code;
}

gd_status gd_mpi_start(bool one_host, int32_t *rank, int32_t *ranks) {
  int provided = 0;
  /* Open MPI listens for TCP on every address, also where all its ranks share a host, and one connection of anybody that says
   * too little stops it. There shared memory will do; who names the transports keeps them. */
  if (one_host) (void)setenv("OMPI_MCA_btl", "self,vader", 0);
  /* In a container without /sys, hwloc inside MPI says so once a rank and goes on; nothing here asks where cores lie. */
  (void)setenv("HWLOC_HIDE_ERRORS", "2", 0);
  GD_TRY(gd_mpi_fault(MPI_Init_thread(NULL, NULL, MPI_THREAD_MULTIPLE, &provided), "MPI_Init_thread", "world"));
  if (provided < MPI_THREAD_MULTIPLE)
    return gd_fail(GD_RANK_FAILED, "this MPI library grants thread level %d, gptdist needs MPI_THREAD_MULTIPLE (%d)", provided,
                   MPI_THREAD_MULTIPLE);
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  int mine = 0, all = 0;
  GD_TRY(gd_mpi_fault(MPI_Comm_rank(MPI_COMM_WORLD, &mine), "MPI_Comm_rank", "world"));
  GD_TRY(gd_mpi_fault(MPI_Comm_size(MPI_COMM_WORLD, &all), "MPI_Comm_size", "world"));
  GD_TRY(gd_mpi_fault(MPI_Comm_dup(MPI_COMM_WORLD, &session_comm), "MPI_Comm_dup", "world"));
  *rank = mine;
  *ranks = all;
  return GD_OK;
}

void gd_mpi_end(void) {
  int started = 0, ended = 0;
  MPI_Initialized(&started);
  MPI_Finalized(&ended);
  if (!started || ended) return;
  if (session_comm != MPI_COMM_NULL) MPI_Comm_free(&session_comm);
  MPI_Finalize();
}

gd_status gd_mpi_broadcast(void *host_buffer, size_t bytes, int32_t root) {
  char *at = host_buffer;
  while (bytes) {
    int part = bytes < (size_t)INT_MAX ? (int)bytes : INT_MAX;
    MPI_Request request;
    int code = MPI_Ibcast(at, part, MPI_BYTE, root, session_comm, &request);
    GD_TRY(gd_mpi_fault(gd_mpi_finish(code, &request), "broadcast", "session"));
    at += part;
    bytes -= (size_t)part;
  }
  return GD_OK;
}

gd_status gd_mpi_all_gather(const void *mine, void *everyone, size_t bytes) {
  if (bytes > INT_MAX) return gd_fail(GD_BUG, "a host all-gather of %zu bytes a rank", bytes);
  MPI_Request request;
  int code = MPI_Iallgather(mine, (int)bytes, MPI_BYTE, everyone, (int)bytes, MPI_BYTE, session_comm, &request);
  return gd_mpi_fault(gd_mpi_finish(code, &request), "all_gather", "session");
}

gd_status gd_mpi_barrier(void) {
  MPI_Request request;
  int code = MPI_Ibarrier(session_comm, &request);
  return gd_mpi_fault(gd_mpi_finish(code, &request), "barrier", "session");
}
