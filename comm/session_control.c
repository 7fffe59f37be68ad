/* session_control.c - the thread behind the control channel: heartbeats, agreement, the watchdog.
 *
 * Rank 0's thread talks to everybody, every other rank's to rank 0 alone. It sleeps in poll() and wakes for a message or four
 * times a second. A rank whose connection breaks, or who stops, cannot be left behind in a collective: the whole job leaves,
 * with one report, printed by rank 0, or by the lowest living rank where rank 0 is the one. */
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
#include "comm/launcher.h"
#include "comm/machine.h"
#include "comm/session_state.h"
#include "shard/base/log.h"

enum { BEAT_MS = 1000, TICK_MS = 250, JOIN_MS = 60000, TRIPS = 4 };

/* A status and its text on the wire. */
typedef struct gd_error wire_error;

static int32_t peers(const gd_session *session) {
  return session->rank == 0 ? session->ranks : 1;
}

static _Noreturn void lead_out(gd_session *session, gd_log_level level, const wire_error *fatal) {
  if (!gd_session_begin_to_leave()) gd_session_wait_for_end();
  wire_error told = *fatal;
  if (session->rank == 0) gd_session_tell_warnings(session, true);
  if (level == GD_LOG_ERROR) gd_session_explain(session, &told);
  gd_session_lead_out(session, level, &told);
}

/* Rank 0, what its main thread asked for: only this thread may hear what the others have called. */
static void serve_main_thread(gd_session *session) {
  pthread_mutex_lock(&session->lock);
  bool ends = session->ends, ranks_waits = session->ranks_waits;
  pthread_mutex_unlock(&session->lock);
  if (ends) lead_out(session, GD_LOG_ERROR, &session->own_fatal);
  if (!ranks_waits) return;
  gd_session_rank_waits(session);
  pthread_mutex_lock(&session->lock);
  session->ranks_waits = false;
  pthread_cond_broadcast(&session->changed);
  pthread_mutex_unlock(&session->lock);
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
    gd_message_send(session->sockets[r], GD_MESSAGE_VERDICT, &session->verdict, gd_session_error_bytes(&session->verdict),
                    false);
  pthread_cond_broadcast(&session->changed);
}

gd_status gd_session_agree(gd_session *session, gd_status mine) {
  if (session->ranks == 1) return mine;
  wire_error vote = {.code = mine};
  if (mine != GD_OK) gd_error_take(mine, &vote);
  gd_calls_begin(&session->calls, GD_WATCH_AGREE, GD_CALL_AGREE, 0, -1);
  pthread_mutex_lock(&session->lock);
  uint64_t round = session->rounds + 1;
  if (session->rank == 0)
    count_vote(session, 0, &vote);
  else
    gd_message_send(session->sockets[0], GD_MESSAGE_AGREE, &vote, gd_session_error_bytes(&vote), false);
  /* If a peer is lost the control thread ends the process, so this wait always ends. */
  while (session->rounds < round) pthread_cond_wait(&session->changed, &session->lock);
  wire_error verdict = session->verdict;
  pthread_mutex_unlock(&session->lock);
  gd_calls_end(&session->calls, GD_WATCH_AGREE);
  return verdict.code == GD_OK ? GD_OK : gd_error_raise(&verdict);
}

/* The thread. */

static void lost(gd_session *session, int32_t peer) {
  if (session->rank != 0) gd_session_take_over(session, true);
  const gd_watched_rank *rank = &session->watch.rank[peer];
  wire_error fatal = {.code = GD_RANK_FAILED};
  char where[512], here[512];
  gd_session_take_beat(session, &session->watch.rank[0].beat);
  gd_watch_where(&session->watch, peer, where, sizeof where);
  gd_watch_where(&session->watch, 0, here, sizeof here);
  snprintf(fatal.text, sizeof fatal.text,
           "rank %d on %s: connection lost, its process has ended; its last sign was %.1f s ago in %s; rank 0 is in %s", peer,
           rank->host, (double)(gd_machine_now_ms() - rank->arrived_ms) * 1e-3, where, here);
  lead_out(session, GD_LOG_ERROR, &fatal);
}

/* One message from a peer; the lock is held. Fills *fatal and returns true when the job must end. */
static bool handle(gd_session *session, int32_t peer, const gd_message_header *header, const void *body, wire_error *fatal) {
  gd_watched_rank *seen = &session->watch.rank[peer]; /* rank 0 is the one peer of the others */
  switch ((gd_message_type)header->type) {
    case GD_MESSAGE_BEAT:
      if (header->bytes == sizeof seen->beat) memcpy(&seen->beat, body, sizeof seen->beat);
      seen->arrived_ms = gd_machine_now_ms(); /* other messages do not say where it is */
      return false;
    case GD_MESSAGE_AGREE:
      gd_session_error_from_wire(body, header->bytes, fatal);
      if (session->rank == 0) count_vote(session, peer, fatal);
      return false;
    case GD_MESSAGE_VERDICT:
      gd_session_error_from_wire(body, header->bytes, &session->verdict);
      session->rounds++;
      pthread_cond_broadcast(&session->changed);
      return false;
    case GD_MESSAGE_ASK: {
      gd_beat beat;
      gd_session_take_beat(session, &beat);
      gd_message_send(session->sockets[peer], GD_MESSAGE_BEAT, &beat, sizeof beat, true);
      return false;
    }
    case GD_MESSAGE_WARNING:
      if (session->rank == 0) gd_session_hear_warning(session, peer, body, header->bytes);
      return false;
    case GD_MESSAGE_ASK_CALLS: gd_session_send_calls(session, body, header->bytes); return false;
    case GD_MESSAGE_CALLS: return false; /* too late */
    case GD_MESSAGE_BYE:
      session->finished[peer] = true;
      pthread_cond_broadcast(&session->changed);
      return false;
    case GD_MESSAGE_LEFT:
    case GD_MESSAGE_FATAL: gd_session_error_from_wire(body, header->bytes, fatal); return true;
  }
  return false;
}

/* Rank 0, which leaves: whether another one has led the others out meanwhile and said why, since this process was silent. */
static bool is_told(gd_session *session) {
  gd_message_header header;
  const void *body;
  for (int32_t r = 1; r < session->ranks; r++)
    while (session->sockets[r] >= 0 && gd_message_read(session->sockets[r], &session->readers[r], &header, &body) > 0)
      if (header.type == GD_MESSAGE_LEFT) return true;
  return false;
}

/* All that a peer has sent so far. False: its connection is lost. */
static bool hear_peer(gd_session *session, int32_t peer) {
  for (;;) {
    gd_message_header header;
    const void *body;
    wire_error fatal;
    int got = gd_message_read(session->sockets[peer], &session->readers[peer], &header, &body);
    if (got == 0) return true;
    pthread_mutex_lock(&session->lock);
    if (got < 0) {
      bool expected = session->finished[peer];
      close(session->sockets[peer]);
      session->sockets[peer] = -1;
      pthread_cond_broadcast(&session->changed);
      pthread_mutex_unlock(&session->lock);
      return expected;
    }
    bool end = handle(session, peer, &header, body, &fatal);
    pthread_mutex_unlock(&session->lock);
    if (!end) continue;
    if (session->rank == 0)
      lead_out(session, header.type == GD_MESSAGE_LEFT || is_told(session) ? GD_LOG_DEBUG : GD_LOG_ERROR, &fatal);
    if (!gd_session_begin_to_leave()) gd_session_wait_for_end();
    gd_session_follow_out(session, session->sockets[0], &fatal);
  }
}

/* Hears those with something to say. A lost connection is the last thing to be believed: who led the others out, because this
 * process had been silent, told it so before they left. */
static void hear(gd_session *session, const struct pollfd *entries, int32_t n) {
  int32_t gone = -1;
  for (int32_t i = 0; i < n; i++)
    if (entries[i].fd >= 0 && entries[i].revents && !hear_peer(session, i) && gone < 0) gone = i;
  if (gone < 0) return;
  for (int32_t i = 0; i < n; i++)
    if (session->sockets[i] >= 0) (void)hear_peer(session, i);
  lost(session, gone);
}

static void tell_launcher(const gd_session *session, const gd_beat *beat, int32_t watchdog_ms) {
  gd_sign sign = {.rank = session->rank, .watchdog_ms = watchdog_ms, .step = beat->step};
  snprintf(sign.phase, sizeof sign.phase, "%.*s", (int)sizeof sign.phase - 1, beat->phase);
  if (gd_launcher_tell(&sign))
    gd_log(GD_LOG_WARNING, "gptdist-run, which started this job, is gone: this is taken for its request to stop");
}

static void send_beats(gd_session *session) {
  gd_beat beat;
  gd_session_take_beat(session, &beat);
  pthread_mutex_lock(&session->lock);
  int32_t watchdog_ms = session->watchdog_ms;
  if (session->rank == 0) {
    session->watch.rank[0].beat = beat;
    session->watch.rank[0].arrived_ms = gd_machine_now_ms();
    for (int32_t r = 1; r < session->ranks; r++)
      if (session->sockets[r] >= 0 && !session->stop)
        gd_message_send(session->sockets[r], GD_MESSAGE_BEAT, &beat, sizeof beat, true);
  } else if (session->sockets[0] >= 0 && !session->finished[0]) {
    gd_message_send(session->sockets[0], GD_MESSAGE_BEAT, &beat, sizeof beat, true);
    gd_session_send_warnings(session);
  }
  pthread_mutex_unlock(&session->lock);
  tell_launcher(session, &beat, watchdog_ms);
}

/* Rank 0: is somebody stuck, for some checks in a row? Beats are up to a second old when a deadline passes: fresh ones are
 * asked for in between, so that the report is true. */
static void check_everybody(gd_session *session) {
  gd_session_tell_warnings(session, false);
  wire_error fatal = {.code = GD_RANK_FAILED};
  char where[1900];
  int64_t now = gd_machine_now_ms();
  pthread_mutex_lock(&session->lock);
  int64_t deadline = session->watchdog_ms;
  int group;
  int32_t a, b;
  if (gd_watch_differ(&session->watch, &group, &a, &b)) {
    fatal.code = GD_BUG;
    snprintf(fatal.text, sizeof fatal.text, "ranks %d and %d make different calls of group %s", a, b,
             session->watch.group_name[group]);
  }
  bool stuck = deadline > 0 && !session->stop && gd_watch_stuck(&session->watch, now, deadline);
  session->trips = stuck ? session->trips + 1 : 0;
  bool report = session->trips >= TRIPS;
  if (report) gd_watch_report(&session->watch, now, deadline, where, sizeof where);
  for (int32_t r = 1; stuck && session->sockets && r < session->ranks; r++)
    if (session->sockets[r] >= 0) gd_message_send(session->sockets[r], GD_MESSAGE_ASK, NULL, 0, true);
  pthread_mutex_unlock(&session->lock);
  if (fatal.code == GD_BUG) lead_out(session, GD_LOG_ERROR, &fatal);
  if (!report) return;
  snprintf(fatal.text, sizeof fatal.text, "watchdog: %s", where);
  lead_out(session, GD_LOG_ERROR, &fatal);
}

/* The others: is rank 0 silent? If it hangs and its process lives, it reports itself. */
static void check_rank_0(gd_session *session) {
  pthread_mutex_lock(&session->lock);
  int64_t silence = gd_machine_now_ms() - session->watch.rank[0].arrived_ms;
  bool silent =
      session->watchdog_ms > 0 && !session->stop && !session->finished[0] && silence >= session->watchdog_ms + TRIPS * TICK_MS;
  pthread_mutex_unlock(&session->lock);
  if (silent) gd_session_take_over(session, false);
}

/* A gap between two rounds of the control thread that is no matter of scheduling. */
static bool was_away(gd_session *session, int64_t gap_ms) {
  pthread_mutex_lock(&session->lock);
  int64_t half = session->watchdog_ms / 2;
  pthread_mutex_unlock(&session->lock);
  return gap_ms > 5 * BEAT_MS || (half > 0 && gap_ms > BEAT_MS && gap_ms > half);
}

/* This process was stopped or starved for a while: what it knows of the others is as old as that, and says nothing. A report
 * that is due comes later by as much, which is told; not by this thread, which must not wait for a reader that is slow. Without
 * a watchdog there are no reports. */
static void forgive_gap(gd_session *session, int64_t gap_ms) {
  int64_t now = gd_machine_now_ms();
  pthread_mutex_lock(&session->lock);
  const bool watched = session->watchdog_ms > 0;
  for (int32_t r = 0; r < session->watch.ranks; r++) {
    session->watch.rank[r].arrived_ms = now;
    session->watch.rank[r].beat.idle_ms = 0;
  }
  session->trips = 0;
  pthread_mutex_unlock(&session->lock);
  gd_session_forgive(session);
  if (watched) atomic_store(&session->stood_ms, gap_ms);
}

static void *control_thread(void *argument) {
  gd_session *session = argument;
  int32_t n = peers(session);
  struct pollfd *entries = calloc((size_t)n + 1, sizeof *entries);
  if (!entries)
    lead_out(session, GD_LOG_ERROR, &(wire_error){.code = GD_NO_MEMORY, .text = "out of memory for the control thread"});
  int64_t next = gd_machine_now_ms(), next_beat = next, last = next;
  for (;;) {
    int64_t now = gd_machine_now_ms();
    serve_main_thread(session);
    if (was_away(session, now - last)) forgive_gap(session, now - last);
    last = now;
    if (now >= next_beat) {
      send_beats(session);
      next_beat = now + BEAT_MS;
    }
    if (now >= next) {
      if (session->rank == 0)
        check_everybody(session);
      else
        check_rank_0(session);
      next = now + TICK_MS;
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
    hear(session, entries, n);
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

/* Where everybody can be called once rank 0 is lost. */
static gd_status exchange_contacts(gd_session *session) {
  gd_contact mine = {0}, *all = calloc((size_t)session->ranks, sizeof *all);
  if (session->rank > 0) session->reserved = gd_control_reserve(session->sockets[0], &mine);
  GD_TRY(gd_session_agree(session, all ? GD_OK : gd_fail(GD_NO_MEMORY, "out of memory for %d ranks", session->ranks)));
  gd_calls_begin(&session->calls, GD_WATCH_SESSION, GD_CALL_ALL_GATHER, sizeof mine, -1);
  gd_status status = gd_mpi_all_gather(&mine, all, sizeof mine);
  gd_calls_end(&session->calls, GD_WATCH_SESSION);
  pthread_mutex_lock(&session->lock);
  session->contacts = all;
  pthread_mutex_unlock(&session->lock);
  return status;
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
  memcpy(session->key, invitation.key, sizeof session->key);
  GD_TRY(start_thread(session));
  return exchange_contacts(session);
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
    session->ranks_waits = session->ranks > 1 && session->entries > GD_WATCH_SESSION + 1;
    wake_thread(session);
    while (session->ranks_waits) pthread_cond_wait(&session->changed, &session->lock);
    session->stop = true;
    for (int32_t r = 1; r < session->ranks; r++) {
      session->finished[r] = true;
      gd_message_send(session->sockets[r], GD_MESSAGE_BYE, NULL, 0, false);
    }
  } else {
    gd_session_send_warnings(session);
    while (!session->finished[0]) pthread_cond_wait(&session->changed, &session->lock);
    session->stop = true;
  }
  pthread_mutex_unlock(&session->lock);
  wake_thread(session);
  pthread_join(session->thread, NULL);
  if (session->rank == 0) gd_session_tell_warnings(session, true);
  (void)gd_launcher_tell(&(gd_sign){.rank = session->rank}); /* goodbye */
  if (session->rank != 0) close(session->sockets[0]);
  if (session->reserved >= 0) close(session->reserved);
  gd_session_trace(NULL);
  close(session->wake[0]);
  close(session->wake[1]);
  session->thread_running = false;
}

void gd_session_set_watchdog(gd_session *session, int32_t seconds) {
  if (seconds > 0) gd_session_control_need_thread(session);
  pthread_mutex_lock(&session->lock);
  int32_t watchdog_ms = session->watchdog_ms = seconds > 0 ? seconds * 1000 : 0;
  session->trips = 0;
  pthread_mutex_unlock(&session->lock);
  gd_beat beat;
  gd_session_take_beat(session, &beat);
  tell_launcher(session, &beat, watchdog_ms);
}

void gd_session_set_exit_hook(gd_session *session, void (*hook)(void *context, gd_status code, const char *text),
                              void *context) {
  pthread_mutex_lock(&session->lock);
  session->exit_hook = hook;
  session->exit_context = context;
  pthread_mutex_unlock(&session->lock);
}

void gd_session_set_log_place(gd_session *session, const char *folder) {
  pthread_mutex_lock(&session->lock);
  snprintf(session->log_place, sizeof session->log_place, "%s", folder);
  pthread_mutex_unlock(&session->lock);
}
