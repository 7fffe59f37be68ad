/* session_takeover.c - rank 0 is lost: the ranks that are left find the lowest one alive, and it speaks for all.
 *
 * Each calls the ranks below it, at the ports that all exchanged at the start, and says what it was doing; who is called by a
 * higher rank answers with its number. A rank that no lower one answers leads: it has everybody's beats, tells what became of
 * rank 0 and who waits for it, writes exit.json and sends the text to those that called. Nobody listens at these ports before.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "comm/machine.h"
#include "comm/session_state.h"

/* A lower rank has so long to notice that rank 0 is lost. A connection breaks for all at once, and mpirun ends the survivors of
 * a dead rank within a second; silence is seen by the last beat, which some may have got and some not. */
enum { ENDED_MS = 500, SILENT_MS = 1500, RETRY_MS = 30, FOLLOW_MS = 10000, CALLS = 16 };

/* What a rank says when it calls a lower one. */
typedef struct introduction {
  uint8_t key[GD_CONTROL_KEY_BYTES];
  int32_t rank;
  gd_beat beat;
} introduction;

typedef struct guest {
  int socket;
  size_t have;
  introduction said;
} guest;

typedef struct call {
  int32_t rank;
  int socket; /* -1: to be tried again */
  bool said, lives;
  int64_t next_ms; /* when to try again */
  gd_message_reader reader;
} call;

typedef struct takeover {
  gd_session *session;
  introduction mine;
  int64_t start_ms, grace_ms;
  call calls[CALLS]; /* lower ranks, the lowest first */
  int32_t call_count;
  guest *guests; /* room for all; those that proved the key have left it for by_rank */
  int32_t guest_count, guest_room;
  int *by_rank; /* connections of the higher ranks that called; the others -1 */
  int32_t came;
  struct pollfd *entries;
} takeover;

/* ---- lower ranks ---- */

static void hang_up(call *c, int64_t now) {
  close(c->socket);
  *c = (call){.rank = c->rank, .socket = -1, .next_ms = now + RETRY_MS};
}

/* Tries again where it has to; introduces itself as soon as the connection stands. */
static void go_on(takeover *t, call *c, int64_t now) {
  if (c->socket < 0 && now >= c->next_ms) {
    c->socket = gd_control_call(&t->session->contacts[c->rank]);
    c->next_ms = now + RETRY_MS;
  }
  struct pollfd entry = {.fd = c->socket, .events = POLLOUT};
  if (c->socket < 0 || c->said || poll(&entry, 1, 0) <= 0) return;
  int error = 0;
  socklen_t bytes = sizeof error;
  if (getsockopt(c->socket, SOL_SOCKET, SO_ERROR, &error, &bytes) != 0 || error != 0 ||
      send(c->socket, &t->mine, sizeof t->mine, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)sizeof t->mine)
    hang_up(c, now);
  else
    c->said = true;
}

/* "I live" comes as a beat; a fatal text from the one that leads. */
static void listen_to(gd_session *session, call *c, int64_t now) {
  for (;;) {
    gd_message_header header;
    const void *body;
    int got = gd_message_read(c->socket, &c->reader, &header, &body);
    if (got == 0) return;
    if (got < 0) {
      hang_up(c, now);
      return;
    }
    if (header.type == GD_MESSAGE_BEAT) c->lives = true;
    if (header.type != GD_MESSAGE_FATAL) continue;
    gd_error fatal;
    gd_session_error_from_wire(body, header.bytes, &fatal);
    gd_session_follow_out(session, c->socket, &fatal);
  }
}

static bool anyone_lower(const takeover *t) {
  for (int32_t i = 0; i < t->call_count; i++)
    if (t->calls[i].lives) return true;
  return false;
}

/* ---- higher ranks ---- */

static void welcome(takeover *t) {
  int s;
  while ((s = accept4(t->session->reserved, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
    if (t->guest_count == t->guest_room) { /* strangers took the room: the oldest goes */
      close(t->guests[0].socket);
      memmove(t->guests, t->guests + 1, (size_t)--t->guest_count * sizeof *t->guests);
    }
    t->guests[t->guest_count++] = (guest){.socket = s};
  }
}

/* False: the connection is of no more use here, it has found its place or was closed. */
static bool hear(takeover *t, guest *g) {
  ssize_t got = recv(g->socket, (char *)&g->said + g->have, sizeof g->said - g->have, MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return true;
  if (got > 0) g->have += (size_t)got;
  if (got > 0 && g->have < sizeof g->said) return true;
  int32_t rank = g->said.rank;
  if (got <= 0 || !gd_control_same_key(g->said.key, t->mine.key) || rank <= t->session->rank || rank >= t->session->ranks ||
      !gd_message_send(g->socket, GD_MESSAGE_BEAT, NULL, 0, false)) {
    close(g->socket);
    return false;
  }
  if (t->by_rank[rank] >= 0)
    close(t->by_rank[rank]); /* it hung up and called again */
  else
    t->came++;
  t->by_rank[rank] = g->socket;
  t->session->watch.rank[rank].beat = g->said.beat;
  t->session->watch.rank[rank].arrived_ms = gd_machine_now_ms();
  return false;
}

/* ---- leading ---- */

static void describe(const takeover *t, bool ended, int64_t now, gd_error *fatal) {
  gd_session *session = t->session;
  const gd_watched_rank *zero = &session->watch.rank[0];
  char where[900], here[512], others[160] = "";
  for (int32_t r = 1; r < session->ranks; r++) {
    size_t used = strlen(others);
    if (r != session->rank && t->by_rank[r] < 0 && used + 32 < sizeof others)
      snprintf(others + used, sizeof others - used, "%s %d", used ? "" : "; no answer either from ranks", r);
  }
  if (ended) {
    gd_watch_where(&session->watch, 0, where, sizeof where);
    gd_watch_where(&session->watch, session->rank, here, sizeof here);
    snprintf(
        fatal->text, sizeof fatal->text,
        "rank 0 on %s: connection lost, its process has ended; its last sign was %.1f s ago in %s; rank %d is in %s%s (told "
        "by rank %d on %s)",
        zero->host, (double)(t->start_ms - zero->arrived_ms) * 1e-3, where, session->rank, here, others, session->rank,
        session->host);
    return;
  }
  gd_watch_report(&session->watch, now, session->watchdog_ms, where, sizeof where);
  snprintf(fatal->text, sizeof fatal->text, "watchdog: %s%s (told by rank %d on %s)", where, others, session->rank,
           session->host);
}

static _Noreturn void lead(takeover *t, bool ended) {
  gd_session *session = t->session;
  int64_t now = gd_machine_now_ms();
  gd_error fatal = {.code = GD_RANK_FAILED};
  pthread_mutex_lock(&session->lock);
  /* Who did not call may be late: only rank 0 is judged. */
  for (int32_t r = 1; r < session->ranks; r++)
    if (t->by_rank[r] < 0) session->watch.rank[r].arrived_ms = now;
  session->watch.rank[session->rank].beat = t->mine.beat;
  session->watch.silent_ms = now - session->watch.rank[0].arrived_ms;
  describe(t, ended, now, &fatal);
  /* Should rank 0 come back to life it must know that this is said, and leave too. */
  gd_message_send(session->sockets[0], GD_MESSAGE_LEFT, &fatal, gd_session_error_bytes(&fatal), true);
  t->by_rank[0] = session->sockets[0];
  session->sockets = t->by_rank;
  pthread_mutex_unlock(&session->lock);
  gd_session_lead_out(session, GD_LOG_ERROR, &fatal);
}

/* ---- all of it ---- */

static void prepare(takeover *t, gd_session *session, bool ended) {
  size_t n = (size_t)session->ranks;
  *t = (takeover){.session = session, .start_ms = gd_machine_now_ms(), .grace_ms = ended ? ENDED_MS : SILENT_MS};
  gd_session_take_beat(session, &t->mine.beat);
  memcpy(t->mine.key, session->key, sizeof t->mine.key);
  t->mine.rank = session->rank;
  t->guest_room = session->ranks + CALLS;
  t->guests = calloc((size_t)t->guest_room, sizeof *t->guests);
  t->by_rank = calloc(n, sizeof *t->by_rank);
  t->entries = calloc((size_t)t->guest_room + CALLS + 1, sizeof *t->entries);
  if (!t->guests || !t->by_rank || !t->entries) {
    gd_error fatal = {.code = GD_RANK_FAILED, .text = "rank 0 is lost, and there is no memory to ask the others"};
    session->ranks = 1; /* nobody to tell */
    gd_session_lead_out(session, GD_LOG_ERROR, &fatal);
  }
  for (size_t r = 0; r < n; r++) t->by_rank[r] = -1;
  if (session->contacts) gd_control_answer(session->reserved);
}

/* The next ranks below this one, from the lowest; after those that did not answer in their time. False: there are none. */
static bool choose_calls(takeover *t) {
  int32_t next = t->call_count ? t->calls[t->call_count - 1].rank + 1 : 1;
  for (int32_t i = 0; i < t->call_count; i++)
    if (t->calls[i].socket >= 0) close(t->calls[i].socket);
  for (t->call_count = 0; t->session->contacts && t->call_count < CALLS && next < t->session->rank; next++)
    t->calls[t->call_count++] = (call){.rank = next, .socket = -1};
  return t->call_count > 0;
}

/* Waits a moment for anything to come, and takes it. */
static void take_in(takeover *t) {
  int32_t n = 0, guests = t->guest_count;
  for (int32_t i = 0; i < guests; i++) t->entries[n++] = (struct pollfd){.fd = t->guests[i].socket, .events = POLLIN};
  for (int32_t i = 0; i < t->call_count; i++) t->entries[n++] = (struct pollfd){.fd = t->calls[i].socket, .events = POLLIN};
  t->entries[n++] = (struct pollfd){.fd = t->session->contacts ? t->session->reserved : -1, .events = POLLIN};
  if (poll(t->entries, (nfds_t)n, RETRY_MS) <= 0) return;
  int64_t now = gd_machine_now_ms();
  t->guest_count = 0;
  for (int32_t i = 0; i < guests; i++)
    if (!t->entries[i].revents || hear(t, &t->guests[i])) t->guests[t->guest_count++] = t->guests[i];
  for (int32_t i = 0; i < t->call_count; i++)
    if (t->entries[guests + i].revents && t->calls[i].said) listen_to(t->session, &t->calls[i], now);
  if (t->entries[n - 1].revents) welcome(t);
}

_Noreturn void gd_session_take_over(gd_session *session, bool ended) {
  if (!gd_session_begin_to_leave()) gd_session_wait_for_end();
  static takeover t; /* large, and once in a process */
  prepare(&t, session, ended);
  bool lower = choose_calls(&t);
  int64_t asked_ms = t.start_ms;
  for (;;) {
    int64_t now = gd_machine_now_ms();
    for (int32_t i = 0; i < t.call_count; i++) go_on(&t, &t.calls[i], now);
    if (lower && !anyone_lower(&t) && now - asked_ms >= t.grace_ms) {
      lower = choose_calls(&t);
      asked_ms = now;
    }
    /* Once all are here, or had their time: who calls later finds nobody, and says so. */
    bool all = t.came == session->ranks - 1 - session->rank;
    if (!lower && (all || now - t.start_ms >= t.grace_ms / 2)) lead(&t, ended);
    if (now - t.start_ms >= FOLLOW_MS + 2 * t.grace_ms) lead(&t, ended); /* the one that answered says nothing */
    take_in(&t);
  }
}
