/* session_control.c - the thread behind the control channel: heartbeats, agreement, the watchdog, and the one way out.
 *
 * Rank 0's thread talks to everybody, every other rank's to rank 0 alone. It sleeps in poll() and wakes for a message or once
 * a second. A rank whose connection breaks, or who stops, cannot be left behind in a collective: the whole job leaves, with
 * one report printed by rank 0. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "comm/collectives_mpi.h"
#include "comm/machine.h"
#include "comm/session_state.h"
#include "shard/base/log.h"

enum { BEAT_MS = 1000, JOIN_MS = 60000, TRIPS = 3, LEAVE_MS = 10000 };

/* A status and its text on the wire. */
typedef struct gd_error wire_error;

static atomic_flag leaving = ATOMIC_FLAG_INIT;

static size_t error_bytes(const wire_error *error) {
  return error->code == GD_OK ? sizeof error->code : offsetof(wire_error, text) + strlen(error->text) + 1;
}

static void error_from_wire(const void *body, size_t bytes, wire_error *out) {
  memset(out, 0, sizeof *out);
  out->code = GD_BUG;
  if (bytes > sizeof *out) bytes = sizeof *out;
  memcpy(out, body, bytes);
  out->whose[sizeof out->whose - 1] = out->place[sizeof out->place - 1] = out->text[sizeof out->text - 1] = 0;
}

/* The calling thread's record where `text` is that record's, else a fault of this rank with that text alone. */
static void error_from_text(gd_status code, const char *text, wire_error *out) {
  *out = (wire_error){.code = code};
  if (text == gd_error_text())
    gd_error_take(code, out);
  else
    snprintf(out->text, sizeof out->text, "%s", text);
}

static int32_t peers(const gd_session *session) {
  return session->rank == 0 ? session->ranks : 1;
}

/* The way out. */

/* A disk that does not answer must not hold up the end of the job: this thread ends it all the same. */
static void *leave_anyway(void *argument) {
  nanosleep(&(struct timespec){.tv_sec = LEAVE_MS / 1000}, NULL);
  _exit(*(int *)argument);
}

/* Rank 0: tells everybody, prints once, writes exit.json, waits until all have hung up (a close with unread bytes would throw
 * the message away), leaves. The others stay until it has shut its side, or for LEAVE_MS: mpirun would end rank 0 in the middle
 * of its last words. The first caller wins; others wait for the end here. */
static _Noreturn void lead_out_at(gd_session *session, gd_log_level level, const wire_error *fatal) {
  if (atomic_flag_test_and_set(&leaving))
    for (;;) pause();
  char text[sizeof fatal->whose + sizeof fatal->text];
  snprintf(text, sizeof text, "%s%s", fatal->whose, fatal->text);
  static int exit_code;
  exit_code = (int)fatal->code;
  pthread_t thread;
  if (gd_machine_thread(&thread, leave_anyway, &exit_code, "a thread to leave with") != GD_OK) gd_error_clear();
  for (int32_t r = 1; session->sockets && r < session->ranks; r++)
    gd_message_send(session->sockets[r], GD_MESSAGE_FATAL, fatal, error_bytes(fatal), true);
  gd_status code = gd_error_raise(fatal); /* the log looks for the place there */
  gd_log_fault(level, "%s", text);
  if (session->exit_hook) session->exit_hook(session->exit_context, code, text);
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

static _Noreturn void lead_out(gd_session *session, gd_status code, const char *text) {
  wire_error fatal;
  error_from_text(code, text, &fatal);
  lead_out_at(session, GD_LOG_ERROR, &fatal);
}

/* Another rank leaves on its own judgement: rank 0 is gone or silent. Only rank 1 speaks, so that it is said once; the others
 * give it time to, since its clock may be some beats behind theirs, and who leaves ends the job. */
static _Noreturn void leave_without_rank_0(gd_session *session, const char *text) {
  if (atomic_flag_test_and_set(&leaving))
    for (;;) pause();
  gd_log(session->rank == 1 ? GD_LOG_ERROR : GD_LOG_DEBUG, "%s", text);
  if (session->rank > 1) nanosleep(&(struct timespec){.tv_sec = TRIPS * BEAT_MS / 1000}, NULL);
  /* Should rank 0 come back to life it must know that this is said, and leave too. */
  wire_error left = {.code = GD_RANK_FAILED};
  snprintf(left.text, sizeof left.text, "%s", text);
  gd_message_send(session->sockets[0], GD_MESSAGE_LEFT, &left, error_bytes(&left), true);
  _exit((int)GD_RANK_FAILED);
}

_Noreturn void gd_session_abort(gd_session *session, gd_status code, const char *text) {
  if (code == GD_OK) code = GD_BUG;
  if (session->rank == 0) lead_out(session, code, text);
  wire_error fatal;
  error_from_text(code, text, &fatal);
  pthread_mutex_lock(&session->lock);
  bool sent = gd_message_send(session->sockets[0], GD_MESSAGE_FATAL, &fatal, error_bytes(&fatal), false);
  pthread_mutex_unlock(&session->lock);
  /* Rank 0 prints the text and sends it back; the control thread then ends this process. */
  if (sent) nanosleep(&(struct timespec){.tv_sec = 2 + LEAVE_MS / 1000}, NULL);
  if (atomic_flag_test_and_set(&leaving))
    for (;;) pause();
  gd_log(GD_LOG_ERROR, "%s%s", fatal.whose, fatal.text);
  _exit((int)code);
}

/* Agreement. */

/* Rank 0, lock held: one rank's vote; the last one closes the round. */
static void count_vote(gd_session *session, int32_t rank, const wire_error *vote) {
  if (vote->code != GD_OK && (session->worst_rank < 0 || rank < session->worst_rank)) {
    session->worst = *vote;
    session->worst_rank = rank;
  }
  if (++session->votes < session->ranks) return;
  session->verdict = session->worst_rank < 0 ? (wire_error){.code = GD_OK} : session->worst;
  session->votes = 0;
  session->worst_rank = -1;
  session->rounds++;
  for (int32_t r = 1; r < session->ranks; r++)
    gd_message_send(session->sockets[r], GD_MESSAGE_VERDICT, &session->verdict, error_bytes(&session->verdict), false);
  pthread_cond_broadcast(&session->changed);
}

gd_status gd_session_agree(gd_session *session, gd_status mine) {
  if (session->ranks == 1) return mine;
  wire_error vote = {.code = mine};
  if (mine != GD_OK) gd_error_take(mine, &vote);
  gd_session_call_begin(session, GD_WATCH_AGREE, "agree");
  pthread_mutex_lock(&session->lock);
  uint64_t round = session->rounds + 1;
  if (session->rank == 0)
    count_vote(session, 0, &vote);
  else
    gd_message_send(session->sockets[0], GD_MESSAGE_AGREE, &vote, error_bytes(&vote), false);
  /* If a peer is lost the control thread ends the process, so this wait always ends. */
  while (session->rounds < round) pthread_cond_wait(&session->changed, &session->lock);
  wire_error verdict = session->verdict;
  pthread_mutex_unlock(&session->lock);
  gd_session_call_end(session, GD_WATCH_AGREE);
  return verdict.code == GD_OK ? GD_OK : gd_error_raise(&verdict);
}

/* The thread. */

static void lost(gd_session *session, int32_t peer) {
  char text[1024], where[512];
  gd_watch_where(&session->watch, session->rank == 0 ? peer : 0, where, sizeof where);
  const char *host = session->watch.rank[session->rank == 0 ? peer : 0].host;
  if (session->rank != 0) {
    snprintf(text, sizeof text, "rank 0 on %s: connection lost, its process has ended", host);
    leave_without_rank_0(session, text);
  }
  double ago = (double)(gd_machine_now_ms() - session->watch.rank[peer].arrived_ms) * 1e-3;
  snprintf(text, sizeof text, "rank %d on %s: connection lost, its process has ended; its last sign was %.1f s ago in %s", peer,
           host, ago, where);
  lead_out(session, GD_RANK_FAILED, text);
}

/* One message from a peer; the lock is held. Fills *fatal and returns true when the job must end. */
static bool handle(gd_session *session, int32_t peer, const gd_message_header *header, const void *body, wire_error *fatal) {
  gd_watched_rank *seen = &session->watch.rank[session->rank == 0 ? peer : 0];
  seen->arrived_ms = gd_machine_now_ms();
  switch ((gd_message_type)header->type) {
    case GD_MESSAGE_BEAT:
      if (session->rank == 0 && header->bytes == sizeof seen->beat) memcpy(&seen->beat, body, sizeof seen->beat);
      return false;
    case GD_MESSAGE_AGREE:
      error_from_wire(body, header->bytes, fatal);
      if (session->rank == 0) count_vote(session, peer, fatal);
      return false;
    case GD_MESSAGE_VERDICT:
      error_from_wire(body, header->bytes, &session->verdict);
      session->rounds++;
      pthread_cond_broadcast(&session->changed);
      return false;
    case GD_MESSAGE_BYE:
      session->finished[peer] = true;
      pthread_cond_broadcast(&session->changed);
      return false;
    case GD_MESSAGE_LEFT:
    case GD_MESSAGE_FATAL: error_from_wire(body, header->bytes, fatal); return true;
  }
  return false;
}

/* Until rank 0 has said what happened and shut its side, or for LEAVE_MS. */
static void wait_for_rank_0(const gd_session *session) {
  char drop[4096];
  int64_t left, deadline = gd_machine_now_ms() + LEAVE_MS;
  struct pollfd entry = {.fd = session->sockets[0], .events = POLLIN};
  while ((left = deadline - gd_machine_now_ms()) > 0)
    if (poll(&entry, 1, (int)left) > 0 && recv(entry.fd, drop, sizeof drop, MSG_DONTWAIT) <= 0 && errno != EAGAIN) return;
}

static void read_peer(gd_session *session, int32_t peer) {
  for (;;) {
    gd_message_header header;
    const void *body;
    wire_error fatal;
    int got = gd_message_read(session->sockets[peer], &session->readers[peer], &header, &body);
    if (got == 0) return;
    pthread_mutex_lock(&session->lock);
    if (got < 0) {
      bool expected = session->finished[peer];
      close(session->sockets[peer]);
      session->sockets[peer] = -1;
      pthread_cond_broadcast(&session->changed);
      pthread_mutex_unlock(&session->lock);
      if (!expected) lost(session, peer);
      return;
    }
    bool end = handle(session, peer, &header, body, &fatal);
    pthread_mutex_unlock(&session->lock);
    if (!end) continue;
    bool told = header.type == GD_MESSAGE_LEFT && peer == 1; /* where another one left, rank 1 was not able to speak */
    if (session->rank == 0) lead_out_at(session, told ? GD_LOG_DEBUG : GD_LOG_ERROR, &fatal);
    if (atomic_flag_test_and_set(&leaving))
      for (;;) pause();
    (void)gd_error_raise(&fatal);
    gd_log_fault(GD_LOG_DEBUG, "leaving: %s%s", fatal.whose, fatal.text);
    wait_for_rank_0(session);
    _exit((int)fatal.code);
  }
}

static void send_beats(gd_session *session) {
  gd_beat beat;
  gd_session_take_beat(session, &beat);
  pthread_mutex_lock(&session->lock);
  if (session->rank == 0) {
    session->watch.rank[0].beat = beat;
    session->watch.rank[0].arrived_ms = gd_machine_now_ms();
    for (int32_t r = 1; r < session->ranks; r++)
      if (session->sockets[r] >= 0 && !session->stop) gd_message_send(session->sockets[r], GD_MESSAGE_BEAT, NULL, 0, true);
  } else if (session->sockets[0] >= 0 && !session->finished[0]) {
    gd_message_send(session->sockets[0], GD_MESSAGE_BEAT, &beat, sizeof beat, true);
  }
  pthread_mutex_unlock(&session->lock);
}

static void check_deadline(gd_session *session) {
  char text[4096], where[3900];
  int64_t now = gd_machine_now_ms();
  pthread_mutex_lock(&session->lock);
  int64_t deadline = session->watchdog_ms;
  bool stuck = deadline > 0 && !session->stop;
  if (session->rank == 0)
    stuck = stuck && gd_watch_stuck(&session->watch, now, deadline);
  else
    stuck = stuck && !session->finished[0] && now - session->watch.rank[0].arrived_ms >= deadline + TRIPS * BEAT_MS;
  /* Some beats are a second old when the first deadline passes: a few more make the report true. */
  session->trips = stuck ? session->trips + 1 : 0;
  bool report = session->trips >= TRIPS;
  if (report && session->rank == 0) gd_watch_report(&session->watch, now, deadline, where, sizeof where);
  pthread_mutex_unlock(&session->lock);
  if (!report) return;
  if (session->rank == 0) {
    snprintf(text, sizeof text, "watchdog: %s", where);
    lead_out(session, GD_RANK_FAILED, text);
  }
  snprintf(text, sizeof text, "watchdog: rank 0 on %s does not answer for %lld s", session->watch.rank[0].host,
           (long long)((now - session->watch.rank[0].arrived_ms) / 1000));
  leave_without_rank_0(session, text);
}

/* This process was stopped or starved for a while: what it knows of the others is as old as that, and says nothing. */
static void forgive_gap(gd_session *session) {
  int64_t now = gd_machine_now_ms();
  pthread_mutex_lock(&session->lock);
  for (int32_t r = 0; r < session->watch.ranks; r++) {
    session->watch.rank[r].arrived_ms = now;
    session->watch.rank[r].beat.idle_ms = 0;
  }
  session->trips = 0;
  pthread_mutex_unlock(&session->lock);
  gd_session_forgive(session);
}

static void *control_thread(void *argument) {
  gd_session *session = argument;
  int32_t n = peers(session);
  struct pollfd *entries = calloc((size_t)n + 1, sizeof *entries);
  if (!entries) lead_out(session, GD_NO_MEMORY, "out of memory for the control thread");
  int64_t next = gd_machine_now_ms(), last = next;
  for (;;) {
    int64_t now = gd_machine_now_ms();
    if (now - last > 5 * BEAT_MS) forgive_gap(session);
    last = now;
    if (now >= next) {
      send_beats(session);
      check_deadline(session);
      next = now + BEAT_MS;
    }
    pthread_mutex_lock(&session->lock);
    bool stop = session->stop;
    for (int32_t i = 0; i < n; i++) {
      int s = session->sockets ? session->sockets[i] : -1;
      entries[i] = (struct pollfd){.fd = s, .events = POLLIN};
      /* Rank 0 goes on until all have hung up, the others until rank 0 has said goodbye. */
      if (s >= 0 && (session->rank == 0 || !session->finished[i])) stop = false;
    }
    pthread_mutex_unlock(&session->lock);
    if (stop) break;
    entries[n] = (struct pollfd){.fd = session->wake[0], .events = POLLIN};
    int64_t wait = next - gd_machine_now_ms();
    if (poll(entries, (nfds_t)n + 1, wait > 0 ? (int)wait : 0) <= 0) continue;
    char drop[64];
    if (entries[n].revents)
      while (read(session->wake[0], drop, sizeof drop) > 0) continue;
    for (int32_t i = 0; i < n; i++)
      if (entries[i].fd >= 0 && entries[i].revents) read_peer(session, i);
  }
  free(entries);
  return NULL;
}

/* Start and end. */

static gd_status start_thread(gd_session *session) {
  if (session->thread_running) return GD_OK;
  if (pipe2(session->wake, O_CLOEXEC | O_NONBLOCK) != 0)
    return gd_fail(GD_IO, "no pipe for the control thread: %s", strerror(errno));
  int64_t now = gd_machine_now_ms();
  for (int32_t r = 0; r < session->watch.ranks; r++) {
    session->watch.rank[r].arrived_ms = now;
    session->watch.rank[r].beat.step = -1;
  }
  gd_session_trace(session);
  GD_TRY(gd_machine_thread(&session->thread, control_thread, session, "the control thread"));
  session->thread_running = true;
  return GD_OK;
}

gd_status gd_session_control_open(gd_session *session, bool one_host) {
  size_t n = (size_t)peers(session);
  if (session->ranks == 1) return GD_OK;
  session->sockets = calloc(n, sizeof *session->sockets);
  session->readers = calloc(n, sizeof *session->readers);
  session->finished = calloc(n, sizeof *session->finished);
  if (!session->sockets || !session->readers || !session->finished)
    return gd_fail(GD_NO_MEMORY, "out of memory for the control channel of %d ranks", session->ranks);
  gd_control_invitation invitation;
  gd_control_listener listener;
  memset(&invitation, 0, sizeof invitation);
  gd_status status = session->rank == 0 ? gd_control_listen(one_host, &listener, &invitation) : GD_OK;
  /* Sent even where rank 0 could not listen: its peers would wait for it. */
  gd_status sent = gd_mpi_broadcast(&invitation, sizeof invitation, 0);
  if (status == GD_OK) status = sent;
  if (status != GD_OK) return status;
  if (session->rank == 0)
    GD_TRY(gd_control_accept(&listener, &invitation, session->ranks, JOIN_MS, session->sockets));
  else
    GD_TRY(gd_control_connect(&invitation, session->rank, JOIN_MS, &session->sockets[0]));
  return start_thread(session);
}

void gd_session_control_need_thread(gd_session *session) {
  /* Without its thread a one-rank session only lacks the watchdog. */
  if (session->ranks == 1 && start_thread(session) != GD_OK) {
    gd_log_fault(GD_LOG_WARNING, "no watchdog: %s", gd_error_text());
    gd_error_clear();
  }
}

static void wake_thread(gd_session *session) {
  ssize_t put = write(session->wake[1], "", 1); /* a full pipe wakes it just as well */
  (void)put;
}

void gd_session_control_close(gd_session *session) {
  if (!session->thread_running) return;
  /* After this round every rank is here, so a connection that closes is no loss. */
  if (session->ranks > 1 && gd_session_agree(session, GD_OK) != GD_OK) gd_error_clear();
  pthread_mutex_lock(&session->lock);
  session->watchdog_ms = 0;
  if (session->rank == 0) {
    session->stop = true;
    for (int32_t r = 1; r < session->ranks; r++) {
      session->finished[r] = true;
      gd_message_send(session->sockets[r], GD_MESSAGE_BYE, NULL, 0, false);
    }
  } else {
    while (!session->finished[0]) pthread_cond_wait(&session->changed, &session->lock);
    session->stop = true;
  }
  pthread_mutex_unlock(&session->lock);
  wake_thread(session);
  pthread_join(session->thread, NULL);
  if (session->rank != 0) close(session->sockets[0]);
  gd_session_trace(NULL);
  close(session->wake[0]);
  close(session->wake[1]);
  session->thread_running = false;
}

void gd_session_set_watchdog(gd_session *session, int32_t seconds) {
  if (seconds > 0) gd_session_control_need_thread(session);
  pthread_mutex_lock(&session->lock);
  session->watchdog_ms = seconds > 0 ? seconds * 1000 : 0;
  session->trips = 0;
  pthread_mutex_unlock(&session->lock);
}

void gd_session_set_exit_hook(gd_session *session, void (*hook)(void *context, gd_status code, const char *text),
                              void *context) {
  pthread_mutex_lock(&session->lock);
  session->exit_hook = hook;
  session->exit_context = context;
  pthread_mutex_unlock(&session->lock);
}
