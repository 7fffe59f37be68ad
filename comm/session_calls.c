/* session_calls.c - where ranks disagree about a call: how it shows, and how rank 0 finds the call. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/desync.h"
#include "comm/machine.h"
#include "comm/session_state.h"
#include "comm/waits.h"

/* Who has answered nothing for so long says no more. */
enum { ANSWER_MS = 500, CHUNK_CALLS = 126, RANKING_CALLS = 1000 };

_Static_assert((int)GD_SESSION_GROUPS <= (int)GD_CALLS_ENTRIES, "each group has its calls");

/* A part of a rank's calls on the wire. */
typedef struct chunk {
  uint64_t first; /* calls made before those */
  int32_t count;
  bool more, differ; /* another chunk follows; this rank's vote says that calls differ */
  gd_call call[CHUNK_CALLS];
} chunk;
_Static_assert(sizeof(chunk) <= GD_CONTROL_BODY_BYTES, "a chunk is one message");

int64_t gd_session_calls_digest(gd_session *session) {
  return session->ranks == 1 ? 0 : gd_calls_digest(&session->calls);
}

void gd_session_see_calls(gd_session *session, gd_call_seen *seen, void *context) {
  session->calls.seen = seen;
  session->calls.seen_context = context;
}

gd_status gd_session_check_calls(gd_session *session, int64_t sum) {
  if ((sum & GD_CALLS_SUM_MASK) == 0) return GD_OK;
  pthread_mutex_lock(&session->lock);
  session->calls_differ = true;
  pthread_mutex_unlock(&session->lock);
  return gd_fail(GD_BUG,
                 "the ranks of a group have made different calls, as the vote of a step shows; that step updated nothing");
}

void gd_session_send_calls(gd_session *session, const void *body, size_t bytes) {
  int32_t wanted = GD_CALLS;
  if (bytes == sizeof wanted) memcpy(&wanted, body, sizeof wanted);
  if (wanted < 1 || wanted > GD_CALLS) wanted = GD_CALLS;
  gd_call *all = calloc(GD_CALLS, sizeof *all);
  chunk *part = calloc(1, sizeof *part);
  uint64_t first = 0;
  int32_t count = all && part ? gd_calls_copy(&session->calls, all, wanted, &first) : 0;
  for (int32_t at = 0; part && at < count; at += CHUNK_CALLS) {
    part->first = first + (uint64_t)at;
    part->count = count - at < CHUNK_CALLS ? count - at : CHUNK_CALLS;
    part->more = at + part->count < count;
    part->differ = session->calls_differ;
    memcpy(part->call, all + at, (size_t)part->count * sizeof *all);
    if (!gd_message_send(session->sockets[0], GD_MESSAGE_CALLS, part, sizeof *part, false)) break;
  }
  free(part);
  free(all);
}

/* Everybody's calls at rank 0. */
typedef struct gathering {
  gd_rank_calls *rank;
  bool *waits; /* its last chunk is not here yet */
  int32_t waiting;
  bool differ;
} gathering;

static void close_gathering(gathering *g, int32_t ranks) {
  for (int32_t r = 0; g->rank && r < ranks; r++) free(g->rank[r].call);
  free(g->rank);
  free(g->waits);
}

static bool open_gathering(gathering *g, gd_session *session) {
  size_t n = (size_t)session->ranks;
  *g = (gathering){.rank = calloc(n, sizeof *g->rank), .waits = calloc(n, sizeof *g->waits)};
  bool good = g->rank && g->waits;
  for (size_t r = 0; r < n && good; r++) good = (g->rank[r].call = calloc(GD_CALLS, sizeof(gd_call))) != NULL;
  if (!good) close_gathering(g, session->ranks);
  return good;
}

static void stop_waiting(gathering *g, int32_t r) {
  g->waiting -= g->waits[r];
  g->waits[r] = false;
}

static void take_chunk(gathering *g, int32_t r, const void *body, size_t bytes) {
  chunk part;
  if (bytes != sizeof part || !g->waits[r]) return;
  memcpy(&part, body, sizeof part);
  gd_rank_calls *of = &g->rank[r];
  if (part.count < 1 || part.count > CHUNK_CALLS || of->count + part.count > GD_CALLS) return;
  if (of->count == 0) of->first = part.first;
  memcpy(of->call + of->count, part.call, (size_t)part.count * sizeof *part.call);
  of->count += part.count;
  g->differ = g->differ || part.differ;
  if (!part.more) stop_waiting(g, r);
}

/* Beats and votes on the way no longer count: the job ends. */
static void hear(gathering *g, gd_session *session, int32_t r) {
  gd_message_header header;
  const void *body;
  int got;
  while (g->waits[r] && (got = gd_message_read(session->sockets[r], &session->readers[r], &header, &body)) != 0) {
    if (got < 0)
      stop_waiting(g, r);
    else if (header.type == GD_MESSAGE_CALLS)
      take_chunk(g, r, body, header.bytes);
    else if (header.type == GD_MESSAGE_WARNING)
      gd_session_hear_warning(session, r, body, header.bytes);
  }
}

/* The newest `wanted` calls of each. */
static void gather(gathering *g, gd_session *session, int32_t wanted, struct pollfd *entries) {
  int64_t now = gd_machine_now_ms(), deadline = now + ANSWER_MS;
  pthread_mutex_lock(&session->lock);
  g->differ = session->calls_differ;
  for (int32_t r = 1; r < session->ranks; r++) {
    bool silent = now - session->watch.rank[r].arrived_ms >= GD_WATCH_SILENT_MS;
    g->waits[r] = !silent && gd_message_send(session->sockets[r], GD_MESSAGE_ASK_CALLS, &wanted, sizeof wanted, true);
    g->waiting += g->waits[r];
  }
  pthread_mutex_unlock(&session->lock);
  g->rank[0].count = gd_calls_copy(&session->calls, g->rank[0].call, wanted, &g->rank[0].first);
  while (g->waiting > 0 && (now = gd_machine_now_ms()) < deadline) {
    for (int32_t r = 0; r < session->ranks; r++)
      entries[r] = (struct pollfd){.fd = g->waits[r] ? session->sockets[r] : -1, .events = POLLIN};
    if (poll(entries, (nfds_t)session->ranks, (int)(deadline - now)) <= 0) continue;
    for (int32_t r = 1; r < session->ranks; r++)
      if (entries[r].fd >= 0 && entries[r].revents) hear(g, session, r);
  }
}

static bool all_connected(const gd_session *session) {
  for (int32_t r = 1; r < session->ranks; r++)
    if (session->sockets[r] < 0) return false;
  return true;
}

/* The difference goes first, then what it was found by. */
static void put_first(gd_error *fatal, const char *where) {
  char found_by[600];
  snprintf(found_by, sizeof found_by, "%.150s%.440s", fatal->whose, fatal->text);
  *fatal = (gd_error){.code = GD_BUG};
  snprintf(fatal->text, sizeof fatal->text, "desynchronised: %s\n  found by: %s", where, found_by);
}

/* For whom the others waited, as a line; "" for nobody. */
static void rank_waits(const gathering *g, const gd_session *session, char *out, size_t bytes) {
  double *waited_s = calloc((size_t)session->ranks, sizeof *waited_s);
  out[0] = 0;
  if (!waited_s) return;
  gd_waits_sum(g->rank, &session->watch, waited_s);
  gd_waits_text(&session->watch, waited_s, out, bytes);
  free(waited_s);
}

void gd_session_explain(gd_session *session, gd_error *fatal) {
  bool may_be = fatal->code == GD_RANK_FAILED || fatal->code == GD_BUG;
  if (!may_be || session->rank != 0 || session->ranks == 1) return;
  gathering g;
  char where[1000], waits[400] = "";
  struct pollfd *entries = calloc((size_t)session->ranks, sizeof *entries);
  /* Who lost its process is no riddle, and mpirun ends the others within a second. */
  if (entries && all_connected(session) && open_gathering(&g, session)) {
    gather(&g, session, GD_CALLS, entries);
    pthread_mutex_lock(&session->lock);
    bool found = gd_desync_find(g.rank, &session->watch, g.differ, gd_machine_now_ms(), where, sizeof where);
    rank_waits(&g, session, waits, sizeof waits);
    pthread_mutex_unlock(&session->lock);
    if (found) put_first(fatal, where);
    close_gathering(&g, session->ranks);
  }
  free(entries);
  size_t used = strlen(fatal->text);
  if (waits[0]) snprintf(fatal->text + used, sizeof fatal->text - used, "\n  before that, the others waited for: %s", waits);
}

void gd_session_rank_waits(gd_session *session) {
  gathering g;
  char waits[400] = "";
  struct pollfd *entries = calloc((size_t)session->ranks, sizeof *entries);
  if (entries && all_connected(session) && open_gathering(&g, session)) {
    gather(&g, session, RANKING_CALLS, entries);
    rank_waits(&g, session, waits, sizeof waits);
    close_gathering(&g, session->ranks);
  }
  free(entries);
  if (waits[0]) gd_log(GD_LOG_DEBUG, "in the last %d calls the others waited for %s", RANKING_CALLS, waits);
}
