/* session_host.c - who this rank is, and host memory between ranks: what the other parts of a session stand on. */
#include <string.h>

#include "comm/collectives_mpi.h"
#include "comm/session_state.h"

int32_t gd_session_rank(const gd_session *session) {
  return session->rank;
}

int32_t gd_session_ranks(const gd_session *session) {
  return session->ranks;
}

int32_t gd_session_local_rank(const gd_session *session) {
  return session->local_rank;
}

int32_t gd_session_local_ranks(const gd_session *session) {
  return session->local_ranks;
}

int32_t gd_session_threads(const gd_session *session) {
  return session->threads;
}

const char *gd_session_host(const gd_session *session) {
  return session->host;
}

const char *gd_session_host_of(const gd_session *session, int32_t rank) {
  return session->watch.rank[rank].host;
}

gd_status gd_session_broadcast(gd_session *session, void *host_buffer, size_t bytes, int32_t root) {
  if (session->ranks == 1) return GD_OK;
  gd_calls_begin(&session->calls, GD_WATCH_SESSION, GD_CALL_BROADCAST, bytes, root);
  gd_status status = gd_mpi_broadcast(host_buffer, bytes, root);
  gd_calls_end(&session->calls, GD_WATCH_SESSION);
  return status;
}

gd_status gd_session_all_gather(gd_session *session, const void *mine, void *everyone, size_t bytes) {
  if (session->ranks == 1) {
    if (bytes && mine != everyone) memmove(everyone, mine, bytes);
    return GD_OK;
  }
  gd_calls_begin(&session->calls, GD_WATCH_SESSION, GD_CALL_ALL_GATHER, bytes, -1);
  gd_status status = gd_mpi_all_gather(mine, everyone, bytes);
  gd_calls_end(&session->calls, GD_WATCH_SESSION);
  return status;
}

gd_status gd_session_barrier(gd_session *session) {
  if (session->ranks == 1) return GD_OK;
  gd_calls_begin(&session->calls, GD_WATCH_SESSION, GD_CALL_BARRIER, 0, -1);
  gd_status status = gd_mpi_barrier();
  gd_calls_end(&session->calls, GD_WATCH_SESSION);
  return status;
}
