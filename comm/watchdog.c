/* watchdog.c - heartbeats to one sentence: is the job stuck, who keeps whom waiting. */
#include "comm/watchdog.h"

#include <stdio.h>
#include <string.h>

#include "shard/base/text.h"

enum { MOST_LINES = 8 };

static int64_t silence_ms(const gd_watched_rank *rank, int64_t now_ms) {
  return now_ms - rank->arrived_ms;
}

static int64_t idle_ms(const gd_watched_rank *rank, int64_t now_ms) {
  return rank->beat.idle_ms + silence_ms(rank, now_ms);
}

static bool silent(const gd_watch *watch, int32_t r, int64_t now_ms) {
  return silence_ms(&watch->rank[r], now_ms) >= (watch->silent_ms ? watch->silent_ms : GD_WATCH_SILENT_MS);
}

/* Without progress, or without a sign, for longer than it may be. */
static bool overdue(const gd_watched_rank *rank, int64_t now_ms, int64_t deadline_ms) {
  int64_t patience = rank->beat.patience > 1 ? rank->beat.patience : 1;
  return silence_ms(rank, now_ms) >= deadline_ms || idle_ms(rank, now_ms) >= deadline_ms * patience;
}

static bool together(const gd_watch *watch, int g, int32_t a, int32_t b) {
  const int32_t *leader = watch->group_leader[g];
  return !leader || leader[a] == leader[b];
}

/* Rank w is inside a collective of group g that rank r, a member too, has not entered. */
static bool waits_for(const gd_watch *watch, int g, int32_t w, int32_t r) {
  const gd_beat_group *mine = &watch->rank[w].beat.group[g], *other = &watch->rank[r].beat.group[g];
  return w != r && mine->place == GD_WATCH_IN_COLLECTIVE && together(watch, g, w, r) && other->entered < mine->sequence;
}

/* Some rank waits for r; *group = in which group. */
static bool is_behind(const gd_watch *watch, int32_t r, int *group, int32_t *waiting) {
  for (int g = 0; g < GD_WATCH_GROUPS; g++)
    for (int32_t w = 0; w < watch->ranks; w++)
      if (waits_for(watch, g, w, r)) {
        *group = g;
        *waiting = w;
        return true;
      }
  return false;
}

/* Rank r may be waiting for `other`: in a collective that the other has not entered, or in messages, whose peers a beat does
 * not tell, with anyone of the group. */
static bool may_wait_for(const gd_watch *watch, int g, int32_t r, int32_t other) {
  bool message = watch->rank[r].beat.group[g].place == GD_WATCH_IN_MESSAGE;
  return message ? other != r && together(watch, g, r, other) : waits_for(watch, g, r, other);
}

static bool in_a_call(const gd_watch *watch, int32_t r) {
  for (int g = 0; g < GD_WATCH_GROUPS; g++)
    if (watch->rank[r].beat.group[g].place != GD_WATCH_OUTSIDE) return true;
  return false;
}

/* Whether rank r works, or waits in a chain of calls for one that does. seen[] keeps circles from going round. */
static bool is_well(const gd_watch *watch, int32_t r, int64_t now_ms, int64_t deadline_ms, bool *seen) {
  if (!overdue(&watch->rank[r], now_ms, deadline_ms)) return true;
  seen[r] = true;
  if (silent(watch, r, now_ms)) return false;
  for (int g = 0; g < GD_WATCH_GROUPS; g++)
    for (int32_t other = 0; other < watch->ranks && watch->rank[r].beat.group[g].place != GD_WATCH_OUTSIDE; other++)
      if (!seen[other] && may_wait_for(watch, g, r, other) && is_well(watch, other, now_ms, deadline_ms, seen)) return true;
  return false;
}

bool gd_watch_stuck(const gd_watch *watch, int64_t now_ms, int64_t deadline_ms) {
  for (int32_t r = 0; r < watch->ranks; r++) {
    if (!overdue(&watch->rank[r], now_ms, deadline_ms)) continue;
    memset(watch->seen, 0, (size_t)watch->ranks * sizeof *watch->seen);
    if (!is_well(watch, r, now_ms, deadline_ms, watch->seen)) return true;
  }
  return false;
}

/* With the lowest member, which is enough: two that differ do not both agree with it. */
bool gd_watch_differ(const gd_watch *watch, int *group, int32_t *a, int32_t *b) {
  for (int g = 0; g < GD_WATCH_GROUPS; g++)
    for (int32_t r = 1; r < watch->ranks; r++) {
      int32_t lowest = watch->group_leader[g] ? watch->group_leader[g][r] : 0;
      const gd_beat_group *mine = &watch->rank[r].beat.group[g], *other = &watch->rank[lowest].beat.group[g];
      if (!mine->signature || !other->signature || mine->entered != other->entered || mine->signature == other->signature)
        continue;
      *group = g;
      *a = lowest;
      *b = r;
      return true;
    }
  return false;
}

bool gd_watch_all_wait(const gd_watch *watch, int64_t now_ms) {
  for (int32_t r = 0; r < watch->ranks; r++)
    if (silent(watch, r, now_ms) || !in_a_call(watch, r)) return false;
  return true;
}

bool gd_watch_waits(const gd_watch *watch, int32_t w) {
  for (int g = 0; g < GD_WATCH_GROUPS; g++)
    for (int32_t r = 0; r < watch->ranks; r++)
      if (waits_for(watch, g, w, r)) return true;
  return false;
}

static void add_position(const gd_watch *watch, int32_t r, gd_text *t) {
  const gd_beat *beat = &watch->rank[r].beat;
  if (beat->step >= 0) gd_text_add(t, "step %lld, ", (long long)beat->step);
  gd_text_add(t, "phase %s", beat->phase[0] ? beat->phase : "start");
}

/* The calls under way, and what else its streams run. */
static void add_calls(const gd_watch *watch, int32_t r, gd_text *t) {
  static const char *const streams[GD_WATCH_STREAMS] = {"compute", "communication"};
  for (int g = 0; g < GD_WATCH_GROUPS; g++) {
    const gd_beat_group *at = &watch->rank[r].beat.group[g];
    if (at->place != GD_WATCH_OUTSIDE)
      gd_text_add(t, ", in %s #%llu of group %s", at->call, (unsigned long long)at->sequence, watch->group_name[g]);
  }
  for (int s = 0; s < GD_WATCH_STREAMS; s++) {
    const char *task = watch->rank[r].beat.task[s];
    if (task[0]) gd_text_add(t, ", running %s on the %s stream", task, streams[s]);
  }
}

/* The call that it was in last, where it is in none. */
static void add_last_call(const gd_watch *watch, int32_t r, gd_text *t) {
  const gd_beat *beat = &watch->rank[r].beat;
  if (in_a_call(watch, r) || beat->last < 0 || beat->last >= GD_WATCH_GROUPS) return;
  const gd_beat_group *at = &beat->group[beat->last];
  if (at->sequence > 0)
    gd_text_add(t, ", after %s #%llu of group %s", at->call, (unsigned long long)at->sequence, watch->group_name[beat->last]);
}

void gd_watch_where(const gd_watch *watch, int32_t rank, char *out, size_t out_bytes) {
  gd_text t = {out, out_bytes, 0};
  if (out_bytes) out[0] = 0;
  add_position(watch, rank, &t);
  add_last_call(watch, rank, &t);
  add_calls(watch, rank, &t);
}

static void add_waiting(const gd_watch *watch, int g, int32_t r, bool inside_too, gd_text *t) {
  int32_t count = 0;
  uint64_t sequence = watch->rank[r].beat.group[g].sequence;
  for (int32_t w = 0; w < watch->ranks; w++) {
    const gd_beat_group *at = &watch->rank[w].beat.group[g];
    bool same_call =
        inside_too && w != r && together(watch, g, w, r) && at->place == GD_WATCH_IN_COLLECTIVE && at->sequence == sequence;
    if (!same_call && !waits_for(watch, g, w, r)) continue;
    if (count == 0) gd_text_add(t, "; waiting for it: ranks");
    if (++count <= 16) gd_text_add(t, " %d", w);
  }
  if (count > 16) gd_text_add(t, " and %d more", count - 16);
}

static void add_seconds(int64_t ms, gd_text *t) {
  gd_text_add(t, "%lld s ago", (long long)((ms + 500) / 1000));
}

/* One culprit. */
static void add_culprit(const gd_watch *watch, int32_t r, int64_t now_ms, gd_text *t) {
  const gd_watched_rank *rank = &watch->rank[r];
  int g = 0;
  int32_t waiting = 0;
  bool behind = is_behind(watch, r, &g, &waiting);
  if (behind) {
    const gd_beat_group *call = &watch->rank[waiting].beat.group[g];
    gd_text_add(t, "rank %d on %s has not entered %s #%llu of group %s (", r, rank->host, call->call,
                (unsigned long long)call->sequence, watch->group_name[g]);
    add_position(watch, waiting, t);
    gd_text_add(t, "); ");
    gd_text_add(t, silent(watch, r, now_ms) ? "it does not answer, its last sign was " : "its last progress was ");
    add_seconds(silent(watch, r, now_ms) ? silence_ms(rank, now_ms) : idle_ms(rank, now_ms), t);
    gd_text_add(t, " in ");
    add_position(watch, r, t);
    add_calls(watch, r, t);
    add_waiting(watch, g, r, false, t);
    return;
  }
  gd_text_add(t, "rank %d on %s does not answer; its last sign was ", r, rank->host);
  add_seconds(silence_ms(rank, now_ms), t);
  gd_text_add(t, " in ");
  add_position(watch, r, t);
  add_last_call(watch, r, t);
  add_calls(watch, r, t);
  for (g = 0; g < GD_WATCH_GROUPS; g++)
    if (rank->beat.group[g].place == GD_WATCH_IN_COLLECTIVE) add_waiting(watch, g, r, true, t);
}

void gd_watch_report(const gd_watch *watch, int64_t now_ms, int64_t deadline_ms, char *out, size_t out_bytes) {
  gd_text t = {out, out_bytes, 0};
  int32_t lines = 0, more = 0;
  bool any_behind = false;
  if (out_bytes) out[0] = 0;
  for (int32_t r = 0; r < watch->ranks; r++) {
    int g;
    int32_t waiting;
    bool behind = is_behind(watch, r, &g, &waiting);
    any_behind = any_behind || behind;
    /* A rank that itself waits for a third one is a victim, unless its process has stopped; one that works is only slow. */
    bool idle = overdue(&watch->rank[r], now_ms, deadline_ms);
    if (!silent(watch, r, now_ms) && !(behind && idle && !gd_watch_waits(watch, r))) continue;
    if (++lines > MOST_LINES) {
      more++;
      continue;
    }
    if (lines > 1) gd_text_add(&t, "\n");
    add_culprit(watch, r, now_ms, &t);
  }
  if (lines) {
    if (more) gd_text_add(&t, "\nand %d more ranks", more);
    return;
  }
  gd_text_add(&t,
              any_behind ? "ranks wait for each other in different calls (no progress for %lld s):"
                         : "no progress for %lld s, and no rank is behind in a collective:",
              (long long)(deadline_ms / 1000));
  for (int32_t i = 0; i < 2 * watch->ranks; i++) { /* first those that are in no call: others may wait for them */
    int32_t r = i % watch->ranks;
    if (!overdue(&watch->rank[r], now_ms, deadline_ms) || in_a_call(watch, r) != (i >= watch->ranks)) continue;
    if (++lines > MOST_LINES) continue;
    gd_text_add(&t, "\nrank %d on %s: ", r, watch->rank[r].host);
    add_position(watch, r, &t);
    add_calls(watch, r, &t);
    gd_text_add(&t, ", since %lld s", (long long)((idle_ms(&watch->rank[r], now_ms) + 500) / 1000));
  }
  if (lines > MOST_LINES) gd_text_add(&t, "\nand %d more ranks", lines - MOST_LINES);
}
