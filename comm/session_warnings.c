/* session_warnings.c - warnings of all ranks, said by rank 0: the same text of several ranks is one line. They wait in a short
 * queue for the control thread's next beat, and at rank 0 until the others had time to say the same. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/machine.h"
#include "comm/session_state.h"
#include "shard/base/log.h"

/* Beats are a second apart: who says the same at about the same time is heard by then. */
enum { COLLECT_MS = 2500, NAMED = 8, SENT_A_BEAT = 8 };

/* The lock of the queue is held. A text is written down with who said it; what has no room is in that rank's log alone. */
static void write_down(gd_session *session, int32_t rank, const char *text) {
  gd_warning *free_place = NULL;
  /* One rank that warns all the time must not take all the room. */
  for (int i = 0; i < (session->rank == 0 ? GD_SESSION_WARNINGS : SENT_A_BEAT); i++) {
    gd_warning *w = &session->warnings[i];
    if (!w->ranks && !free_place) free_place = w;
    if (!w->ranks || strcmp(w->text, text) != 0) continue;
    w->said_here = w->said_here || rank == session->rank;
    int32_t place = w->ranks; /* ascending */
    while (place > 0 && w->rank[place - 1] > rank) place--;
    if (place > 0 && w->rank[place - 1] == rank) return;
    memmove(w->rank + place + 1, w->rank + place, (size_t)(w->ranks++ - place) * sizeof *w->rank);
    w->rank[place] = rank;
    return;
  }
  if (!free_place) return;
  if (!free_place->rank) free_place->rank = calloc((size_t)session->ranks, sizeof *free_place->rank);
  if (!free_place->rank) return;
  snprintf(free_place->text, sizeof free_place->text, "%s", text);
  free_place->since_ms = gd_machine_now_ms();
  free_place->said_here = rank == session->rank;
  free_place->rank[0] = rank;
  free_place->ranks = 1;
}

void gd_session_warn(gd_session *session, const char *text) {
  char line[GD_SESSION_WARNING_BYTES];
  if (session->ranks == 1) return;
  snprintf(line, sizeof line, "%s", text);
  pthread_mutex_lock(&session->warn_lock);
  write_down(session, session->rank, line);
  pthread_mutex_unlock(&session->warn_lock);
}

void gd_session_send_warnings(gd_session *session) {
  pthread_mutex_lock(&session->warn_lock);
  for (int i = 0; i < GD_SESSION_WARNINGS; i++) {
    gd_warning *w = &session->warnings[i];
    if (w->ranks) gd_message_send(session->sockets[0], GD_MESSAGE_WARNING, w->text, strlen(w->text) + 1, true);
    w->ranks = 0;
  }
  pthread_mutex_unlock(&session->warn_lock);
}

void gd_session_hear_warning(gd_session *session, int32_t rank, const void *body, size_t bytes) {
  char text[GD_SESSION_WARNING_BYTES];
  snprintf(text, sizeof text, "%.*s", (int)bytes, (const char *)body);
  pthread_mutex_lock(&session->warn_lock);
  write_down(session, rank, text);
  pthread_mutex_unlock(&session->warn_lock);
}

/* "rank 3 on node7: ", "ranks 1 2 3: ", "ranks 1 2 3 4 5 6 7 8 and 24 more: ". */
static void put_ranks(const gd_session *session, const gd_warning *w, char *out, size_t bytes) {
  size_t used = (size_t)snprintf(out, bytes, w->ranks > 1 ? "ranks" : "rank");
  for (int32_t i = 0; i < w->ranks && i < NAMED; i++) used += (size_t)snprintf(out + used, bytes - used, " %d", w->rank[i]);
  if (w->ranks > NAMED) used += (size_t)snprintf(out + used, bytes - used, " and %d more", w->ranks - NAMED);
  if (w->ranks == 1) used += (size_t)snprintf(out + used, bytes - used, " on %s", session->watch.rank[w->rank[0]].host);
  snprintf(out + used, bytes - used, ": ");
}

void gd_session_tell_warnings(gd_session *session, bool all) {
  int64_t now = gd_machine_now_ms();
  for (int i = 0; i < GD_SESSION_WARNINGS; i++) {
    char line[256 + GD_SESSION_WARNING_BYTES];
    pthread_mutex_lock(&session->warn_lock);
    gd_warning *w = &session->warnings[i];
    bool due = w->ranks && (all || now - w->since_ms >= COLLECT_MS), tell = due && !w->said_here;
    if (tell) {
      put_ranks(session, w, line, 256);
      strncat(line, w->text, sizeof line - 1 - strlen(line));
    }
    if (due) w->ranks = 0;
    pthread_mutex_unlock(&session->warn_lock); /* the log brings the line back here, as one of this rank's */
    if (tell) gd_log(GD_LOG_WARNING, "%s", line);
  }
}

void gd_session_close_warnings(gd_session *session) {
  for (int i = 0; i < GD_SESSION_WARNINGS; i++) free(session->warnings[i].rank);
  pthread_mutex_destroy(&session->warn_lock);
}
