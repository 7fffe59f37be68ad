/* session_beat.c - what this rank is doing, as its heartbeat tells it: phase, step, the call under way in each group, and the
 * task that each stream of the device runs. */
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "comm/machine.h"
#include "comm/session_state.h"
#include "shard/base/inject.h"
#include "shard/base/log.h"
#include "shard/base/progress.h"

static gd_session *current; /* the trace hook has no context */

static void changed_now(gd_session *session) {
  session->changed_ms = gd_machine_now_ms();
}

static void trace(const gd_group *group, const char *call, uint64_t sequence, bool end) {
  if (current) gd_calls_trace(&current->calls, group, call, sequence, end);
}

static void set_phase(gd_session *session, const char *phase, int64_t step, int32_t patience) {
  pthread_mutex_lock(&session->beat_lock);
  snprintf(session->beat.phase, sizeof session->beat.phase, "%s", phase);
  session->beat.step = step;
  session->beat.patience = patience;
  changed_now(session);
  pthread_mutex_unlock(&session->beat_lock);
}

/* --inject: this rank dies, stops or waits as it enters a phase. */
static void suffer(const char *phase) {
  const gd_injection *kill = gd_inject_strike(GD_INJECT_KILL, phase, NULL);
  const gd_injection *stop = gd_inject_strike(GD_INJECT_STOP, phase, NULL);
  const gd_injection *stall = gd_inject_strike(GD_INJECT_STALL, phase, NULL);
  gd_inject_tell();
  if (kill) raise(SIGKILL);
  if (stop) raise(SIGSTOP);
  if (stall) nanosleep(&(struct timespec){.tv_sec = stall->seconds}, NULL);
}

void gd_session_tell_stood(gd_session *session) {
  int64_t ms = atomic_exchange(&session->stood_ms, 0);
  if (ms)
    gd_log(GD_LOG_WARNING,
           "this process stood still for %.1f s (stopped, suspended, or no processor was free): deadlines begin anew",
           (double)ms * 1e-3);
}

void gd_session_progress(gd_session *session, const char *phase, int64_t step) {
  set_phase(session, phase, step, 1);
  gd_session_tell_stood(session);
  if (gd_inject_armed) suffer(phase);
}

void gd_session_storage(gd_session *session, const char *phase, int64_t step) {
  set_phase(session, phase, step, GD_WATCH_PATIENCE);
  if (gd_inject_armed) suffer(phase);
}

void gd_session_watch_device(gd_session *session, bool open) {
  pthread_mutex_lock(&session->beat_lock);
  session->device_open = open;
  pthread_mutex_unlock(&session->beat_lock);
}

static bool is_call_under_way(const gd_beat *beat, const char *name) {
  for (int g = 0; g < GD_WATCH_GROUPS; g++)
    if (beat->group[g].place != GD_WATCH_OUTSIDE && !strcmp(beat->group[g].call, name)) return true;
  return false;
}

/* What the streams run; a collective in host memory is a task too, and is named by its group already. */
static void take_tasks(const gd_session *session, gd_beat *out) {
  if (!session->device_open) return;
  const gd_stream *streams[GD_WATCH_STREAMS] = {session->device.compute, session->device.communication};
  for (int s = 0; s < GD_WATCH_STREAMS; s++) {
    const char *name = gd_stream_running(streams[s]);
    if (name && !is_call_under_way(out, name)) snprintf(out->task[s], sizeof out->task[s], "%s", name);
  }
}

void gd_session_take_beat(gd_session *session, gd_beat *out) {
  pthread_mutex_lock(&session->beat_lock);
  uint64_t work = gd_progress_count();
  if (work != session->work) changed_now(session);
  session->work = work;
  *out = session->beat;
  int64_t called_ms = gd_calls_beat(&session->calls, out);
  take_tasks(session, out);
  out->idle_ms = gd_machine_now_ms() - (called_ms > session->changed_ms ? called_ms : session->changed_ms);
  pthread_mutex_unlock(&session->beat_lock);
}

void gd_session_forgive(gd_session *session) {
  pthread_mutex_lock(&session->beat_lock);
  changed_now(session);
  pthread_mutex_unlock(&session->beat_lock);
}

void gd_session_trace(gd_session *session) {
  current = session;
  gd_collectives_trace_hook = session ? trace : NULL;
}
