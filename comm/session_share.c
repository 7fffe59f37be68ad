/* session_share.c - memory that the ranks of a host share: a file of /dev/shm that loses its name as soon as all have it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "comm/session_state.h"

/* NULL: there is none. The lowest rank of the host makes it, the others find it. */
static void *map(const char *name, size_t bytes, bool make) {
  int file = shm_open(name, make ? O_RDWR | O_CREAT | O_EXCL : O_RDWR, 0600);
  if (file < 0) return NULL;
  /* With its pages: a file system that is full would be told by a signal otherwise. */
  bool good = !make || posix_fallocate(file, 0, (off_t)bytes) == 0;
  void *at = good ? mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0) : MAP_FAILED;
  close(file);
  return at == MAP_FAILED ? NULL : at;
}

static gd_status share(gd_session *session, size_t bytes, gd_session_memory *memory) {
  char name[64];
  uint64_t key = 0;
  bool leads = session->rank == session->local_leader;
  gd_status status = session->rank || getrandom(&key, sizeof key, 0) == (ssize_t)sizeof key
                         ? GD_OK
                         : gd_fail(GD_IO, "the system has no random numbers");
  GD_TRY(gd_session_agree(session, status));
  GD_TRY(gd_session_broadcast(session, &key, sizeof key, 0));
  snprintf(name, sizeof name, "/gptdist-%016llx-%d", (unsigned long long)key, session->local_leader);
  if (leads) memory->at = map(name, bytes, true);
  GD_TRY(gd_session_barrier(session));
  if (!leads) memory->at = map(name, bytes, false);
  status = gd_session_barrier(session);
  if (leads) shm_unlink(name);
  memory->mapped = memory->at != NULL;
  return status;
}

gd_status gd_session_share(gd_session *session, size_t bytes, void **out) {
  *out = NULL;
  gd_session_memory *memory = calloc(1, sizeof *memory);
  GD_TRY(gd_session_agree(session, memory && bytes ? GD_OK : gd_fail(GD_NO_MEMORY, "no memory for %zu bytes", bytes)));
  memory->bytes = bytes;
  memory->next = session->shared;
  session->shared = memory;
  if (session->ranks > 1) GD_TRY(share(session, bytes, memory));
  if (!memory->at) memory->at = calloc(1, bytes);
  *out = memory->at;
  return gd_session_agree(session, memory->at ? GD_OK : gd_fail(GD_NO_MEMORY, "no memory for %zu bytes", bytes));
}

void gd_session_share_close(gd_session *session) {
  for (gd_session_memory *memory = session->shared, *next; memory; memory = next) {
    next = memory->next;
    if (memory->mapped)
      munmap(memory->at, memory->bytes);
    else
      free(memory->at);
    free(memory);
  }
  session->shared = NULL;
}
