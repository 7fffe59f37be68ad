/* hangs.c - gptdist-train in which one rank stops or dies where it is told to: linked with the program, whose calls to these
 * functions come here first (ld --wrap).
 *   HANG_AT     "RANK PHASE STEP SIGNAL": the first time that this rank enters that phase at that step or a later one, it sends
 *               itself the signal. Phase "start": as the run file goes to all ranks. "never": before MPI is started; it then
 * sleeps. HANG_TIMES  a file that gets "hung MS" from that rank and "told MS" from the one that tells of it, milliseconds of
 * the clock
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "comm/session_state.h"

gd_status __real_gd_session_open(gd_session **out);
gd_status __real_gd_session_broadcast(gd_session *session, void *host_buffer, size_t bytes, int32_t root);
void __real_gd_session_progress(gd_session *session, const char *phase, int64_t step);
void __real_gd_session_storage(gd_session *session, const char *phase, int64_t step);
_Noreturn void __real_gd_session_lead_out(gd_session *session, gd_log_level level, const gd_error *fatal);
gd_status __wrap_gd_session_open(gd_session **out);
gd_status __wrap_gd_session_broadcast(gd_session *session, void *host_buffer, size_t bytes, int32_t root);
void __wrap_gd_session_progress(gd_session *session, const char *phase, int64_t step);
void __wrap_gd_session_storage(gd_session *session, const char *phase, int64_t step);
_Noreturn void __wrap_gd_session_lead_out(gd_session *session, gd_log_level level, const gd_error *fatal);

static void note(const char *what) {
  const char *path = getenv("HANG_TIMES");
  int file = path ? open(path, O_WRONLY | O_APPEND | O_CREAT, 0644) : -1;
  struct timespec now;
  char line[64];
  clock_gettime(CLOCK_REALTIME, &now);
  int bytes = snprintf(line, sizeof line, "%s %lld\n", what, (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000);
  if (file < 0) return;
  if (write(file, line, (size_t)bytes) != bytes) perror(path);
  close(file);
}

static void hang_at(int32_t rank, const char *phase, int64_t step) {
  const char *at = getenv("HANG_AT");
  char where[32];
  int who, number;
  long long first;
  if (!at || sscanf(at, "%d %31s %lld %d", &who, where, &first, &number) != 4) return;
  if (rank != who || strcmp(phase, where) != 0 || step < first) return;
  note("hung");
  if (!strcmp(where, "never"))
    for (;;) pause();
  raise(number);
}

gd_status __wrap_gd_session_open(gd_session **out) {
  gd_launch_environment environment;
  gd_session_environment(&environment);
  hang_at(environment.rank, "never", INT64_MAX);
  return __real_gd_session_open(out);
}

gd_status __wrap_gd_session_broadcast(gd_session *session, void *host_buffer, size_t bytes, int32_t root) {
  hang_at(gd_session_rank(session), "start", INT64_MAX);
  return __real_gd_session_broadcast(session, host_buffer, bytes, root);
}

void __wrap_gd_session_progress(gd_session *session, const char *phase, int64_t step) {
  __real_gd_session_progress(session, phase, step);
  hang_at(gd_session_rank(session), phase, step);
}

void __wrap_gd_session_storage(gd_session *session, const char *phase, int64_t step) {
  __real_gd_session_storage(session, phase, step);
  hang_at(gd_session_rank(session), phase, step);
}

_Noreturn void __wrap_gd_session_lead_out(gd_session *session, gd_log_level level, const gd_error *fatal) {
  if (level == GD_LOG_ERROR) note("told");
  __real_gd_session_lead_out(session, level, fatal);
}
