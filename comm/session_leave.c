/* session_leave.c - the one way out of a job that cannot go on: who leads it tells everybody, prints once, writes exit.json and
 * leaves; the others follow. Rank 0 leads, or whoever took over from it. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "comm/launcher.h"
#include "comm/machine.h"
#include "comm/session_state.h"

enum { LEAVE_MS = 10000, START_S = 300, LOGGED_CALLS = 32 };

static atomic_flag leaving = ATOMIC_FLAG_INIT;

bool gd_session_begin_to_leave(void) {
  if (atomic_flag_test_and_set(&leaving)) return false;
  (void)gd_launcher_tell(&(gd_sign){.leaves = 1}); /* it is not to be missed */
  return true;
}

_Noreturn void gd_session_wait_for_end(void) {
  for (;;) pause();
}

size_t gd_session_error_bytes(const gd_error *error) {
  return error->code == GD_OK ? sizeof error->code : offsetof(gd_error, text) + strlen(error->text) + 1;
}

void gd_session_error_from_wire(const void *body, size_t bytes, gd_error *out) {
  memset(out, 0, sizeof *out);
  out->code = GD_BUG;
  if (bytes > sizeof *out) bytes = sizeof *out;
  memcpy(out, body, bytes);
  out->whose[sizeof out->whose - 1] = out->place[sizeof out->place - 1] = out->text[sizeof out->text - 1] = 0;
}

/* The calling thread's record where `text` is that record's, else a fault of this rank with that text alone. */
static void error_from_text(gd_status code, const char *text, gd_error *out) {
  *out = (gd_error){.code = code};
  if (text == gd_error_text())
    gd_error_take(code, out);
  else
    snprintf(out->text, sizeof out->text, "%s", text);
}

/* A disk that does not answer must not hold up the end of the job: this thread ends it all the same. */
static void *leave_anyway(void *argument) {
  nanosleep(&(struct timespec){.tv_sec = LEAVE_MS / 1000}, NULL);
  _exit(*(int *)argument);
}

/* Faults between ranks: what each did last says more. */
static void name_log_place(const gd_session *session, gd_error *fatal) {
  size_t used = strlen(fatal->text);
  bool between = fatal->code == GD_RANK_FAILED || fatal->code == GD_BUG;
  if (between && session->ranks > 1 && session->log_place[0])
    snprintf(fatal->text + used, sizeof fatal->text - used, "\n  the last calls of each rank: %s", session->log_place);
}

/* Waits until all have hung up, since a close with unread bytes would throw the message away. The others stay until the leader
 * has shut its side, or for LEAVE_MS: mpirun would end it in the middle of its last words. */
_Noreturn void gd_session_lead_out(gd_session *session, gd_log_level level, const gd_error *first) {
  gd_error told = *first;
  const gd_error *fatal = &told;
  char text[sizeof told.whose + sizeof told.text];
  name_log_place(session, &told);
  snprintf(text, sizeof text, "%s", told.whose);
  strncat(text, told.text, sizeof text - 1 - strlen(text));
  static int exit_code;
  exit_code = (int)fatal->code;
  pthread_t thread;
  if (gd_machine_thread(&thread, leave_anyway, &exit_code, "a thread to leave with") != GD_OK) gd_error_clear();
  for (int32_t r = 1; session->sockets && r < session->ranks; r++)
    gd_message_send(session->sockets[r], GD_MESSAGE_FATAL, fatal, gd_session_error_bytes(fatal), true);
  gd_session_tell_stood(session);
  gd_status code = gd_error_raise(fatal); /* the log looks for the place there */
  gd_log_fault(level, "%s", text);
  gd_calls_log(&session->calls, LOGGED_CALLS);
  if (session->exit_hook && level == GD_LOG_ERROR) session->exit_hook(session->exit_context, code, text);
  int64_t deadline = gd_machine_now_ms() + 2000;
  for (int32_t r = 1; session->sockets && r < session->ranks; r++)
    if (session->sockets[r] >= 0) shutdown(session->sockets[r], SHUT_WR);
  for (int32_t r = 1; session->sockets && r < session->ranks; r++) {
    char drop[4096];
    struct pollfd entry = {.fd = session->sockets[r], .events = POLLIN};
    for (int64_t left; entry.fd >= 0 && (left = deadline - gd_machine_now_ms()) > 0;)
      if (poll(&entry, 1, (int)left) > 0 && recv(entry.fd, drop, sizeof drop, MSG_DONTWAIT) <= 0 && errno != EAGAIN) break;
  }
  _exit((int)code);
}

_Noreturn void gd_session_follow_out(gd_session *session, int leader, const gd_error *fatal) {
  (void)gd_error_raise(fatal);
  gd_log_fault(GD_LOG_DEBUG, "leaving: %s%s", fatal->whose, fatal->text);
  gd_calls_log(&session->calls, LOGGED_CALLS);
  char drop[4096];
  int64_t left, deadline = gd_machine_now_ms() + LEAVE_MS;
  struct pollfd entry = {.fd = leader, .events = POLLIN};
  while ((left = deadline - gd_machine_now_ms()) > 0)
    if (poll(&entry, 1, (int)left) > 0 && recv(entry.fd, drop, sizeof drop, MSG_DONTWAIT) <= 0 && errno != EAGAIN) break;
  _exit((int)fatal->code);
}

/* ---- before there is a control channel ---- */

static atomic_bool has_started;

static void *wait_for_start(void *argument) {
  const gd_session *session = argument;
  /* The lower rank first: who leaves ends the job, which takes mpirun up to 3 s, and one line is enough. */
  int64_t stagger = 4000 * (int64_t)(session->rank < 15 ? session->rank : 15);
  int64_t deadline = gd_machine_now_ms() + session->start_deadline_ms + stagger;
  while (!atomic_load(&has_started)) {
    if (gd_machine_now_ms() >= deadline && gd_session_begin_to_leave()) {
      gd_log(
          GD_LOG_ERROR,
          "rank %d on %s: the job of %d ranks has not started for %lld s: some have not come as far as MPI_Init, or their host "
          "is lost (GPTDIST_START_DEADLINE=SECONDS, or gptdist-run --start-deadline, gives them longer; 0: for ever)",
          session->rank, session->host, session->ranks, (long long)(session->start_deadline_ms / 1000));
      _exit((int)GD_RANK_FAILED);
    }
    nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
  }
  return NULL;
}

gd_status gd_session_watch_start(gd_session *session) {
  pthread_t thread;
  const char *text = getenv("GPTDIST_START_DEADLINE");
  char *end = NULL;
  long long seconds = text && *text ? strtoll(text, &end, 10) : START_S;
  if (end && (*end || seconds < 0 || seconds > 604800))
    return gd_fail_user(GD_USAGE, "GPTDIST_START_DEADLINE: found \"%s\", expected seconds from 0 to 604800", text);
  if (seconds == 0) return GD_OK;
  session->start_deadline_ms = seconds * 1000;
  GD_TRY(gd_machine_thread(&thread, wait_for_start, session, "the thread that watches the start"));
  pthread_detach(thread);
  return GD_OK;
}

void gd_session_has_started(void) {
  atomic_store(&has_started, true);
}

_Noreturn void gd_session_abort(gd_session *session, gd_status code, const char *text) {
  if (code == GD_OK) code = GD_BUG;
  gd_error fatal;
  error_from_text(code, text, &fatal);
  if (session->ranks == 1) {
    if (!gd_session_begin_to_leave()) gd_session_wait_for_end();
    gd_session_lead_out(session, GD_LOG_ERROR, &fatal);
  }
  pthread_mutex_lock(&session->lock);
  if (session->rank > 0) {
    gd_message_send(session->sockets[0], GD_MESSAGE_FATAL, &fatal, gd_session_error_bytes(&fatal), false);
  } else if (!session->ends) {
    session->own_fatal = fatal;
    session->ends = true;
  }
  pthread_mutex_unlock(&session->lock);
  ssize_t put = write(session->wake[1], "", 1);
  (void)put;
  /* Rank 0's control thread prints the text and sends it back, and this process's one ends it; or finds that rank 0 is lost,
   * which is then what this fault comes from. Where rank 0 is silent and its deadline far, this rank tells it all. */
  nanosleep(&(struct timespec){.tv_sec = 2 + LEAVE_MS / 1000}, NULL);
  if (!gd_session_begin_to_leave()) gd_session_wait_for_end();
  pthread_mutex_lock(&session->lock); /* mpirun will wake it, and it must know that this is said */
  gd_message_send(session->sockets[0], GD_MESSAGE_LEFT, &fatal, gd_session_error_bytes(&fatal), true);
  pthread_mutex_unlock(&session->lock);
  if (session->rank > 0) session->ranks = 1; /* nobody else to tell */
  gd_session_lead_out(session, GD_LOG_ERROR, &fatal);
}
