/* desync.c - two ranks of a group at a time, call by call. */
#include "comm/desync.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shard/base/text.h"

enum { MOST_RANKS = 8 };

/* Rank `a` made call `mine`; rank b made `other` instead, or has made none (other == NULL). */
typedef struct difference {
  uint64_t order; /* calls that rank a made before */
  int32_t a, b;
  const gd_call *mine, *other;
} difference;

typedef struct search {
  const gd_rank_calls *rank;
  const gd_watch *watch;
  difference first;                /* a < 0: none yet */
  difference lost_call;            /* a collective that another member has not made; a < 0: none */
  difference sent_late, lost_send; /* messages without another end: of a receiver, of a sender; a < 0: none */
  int32_t *member;                 /* of the group that is looked at: job ranks */
  bool *talks, *in_vain;           /* in_vain: of the job's ranks, those with a message that has no other end */
} search;

static void keep_earlier(difference *kept, difference found) {
  if (kept->a < 0 || found.order < kept->order) *kept = found;
}

static bool together(const gd_watch *watch, int g, int32_t a, int32_t b) {
  const int32_t *leader = watch->group_leader[g];
  return !leader || leader[a] == leader[b];
}

/* Walks the calls of one kind, of one rank in one group. */
typedef struct walk {
  const gd_rank_calls *of;
  int32_t rank, at;
  uint8_t entry;
  bool messages;
  uint8_t kind; /* messages: GD_CALL_SEND or GD_CALL_RECEIVE, with this peer */
  int32_t peer;
  const gd_call *call; /* NULL: the end */
} walk;

static void step_on(walk *w) {
  for (w->call = NULL; w->at < w->of->count && !w->call; w->at++) {
    const gd_call *c = &w->of->call[w->at];
    if (c->entry != w->entry || gd_call_is_message(c) != w->messages) continue;
    if (!w->messages || (c->kind == w->kind && c->peer == w->peer)) w->call = c;
  }
}

static difference here(const walk *w, int32_t other_rank, const gd_call *other) {
  uint64_t order = w->of->first + (uint64_t)(w->at - 1);
  return (difference){.order = order, .a = w->rank, .b = other_rank, .mine = w->call, .other = other};
}

static bool differ(const walk *a, const walk *b) {
  return a->messages ? a->call->size != b->call->size : !gd_call_same(a->call, b->call);
}

/* What is left of `w` has no other end with `other_rank`, whose own calls have come to an end. */
static void take_left_over(search *s, const walk *w, int32_t other_rank, bool other_has_any) {
  /* Of calls that long ago nothing is kept. */
  if (!w->call || (!other_has_any && s->rank[other_rank].first > 0)) return;
  difference found = here(w, other_rank, NULL);
  if (!w->messages)
    keep_earlier(&s->lost_call, found);
  else
    keep_earlier(w->kind == GD_CALL_SEND ? &s->lost_send : &s->sent_late, found);
  if (w->messages) s->in_vain[w->rank] = true;
}

static void compare(search *s, walk a, walk b) {
  step_on(&a);
  step_on(&b);
  bool any_a = a.call != NULL, any_b = b.call != NULL;
  while (a.call && b.call) {
    if (a.call->number < b.call->number) {
      step_on(&a);
    } else if (b.call->number < a.call->number) {
      step_on(&b);
    } else if (differ(&a, &b)) {
      keep_earlier(&s->first, here(&a, b.rank, b.call));
      return;
    } else {
      step_on(&a);
      step_on(&b);
    }
  }
  take_left_over(s, &a, b.rank, any_b);
  take_left_over(s, &b, a.rank, any_a);
}

static walk walk_of(const search *s, int g, int32_t r) {
  return (walk){.of = &s->rank[r], .rank = r, .entry = (uint8_t)g};
}

/* Everybody's collectives with those of the lowest member that answered. */
static void compare_collectives(search *s, int g, int32_t r) {
  for (int32_t lower = 0; lower < r; lower++) {
    if (!s->rank[lower].count || !together(s->watch, g, lower, r)) continue;
    compare(s, walk_of(s, g, lower), walk_of(s, g, r));
    return;
  }
}

/* What rank r sent, and what it received from whom it sent nothing, with the other ends. */
static void compare_messages(search *s, int g, int32_t r) {
  int32_t size = 0, mine = 0;
  for (int32_t i = 0; i < s->watch->ranks; i++) {
    if (!together(s->watch, g, r, i)) continue;
    if (i == r) mine = size;
    s->talks[size] = false;
    s->member[size++] = i;
  }
  const gd_rank_calls *of = &s->rank[r];
  for (int32_t i = 0; i < of->count; i++) {
    const gd_call *c = &of->call[i];
    if (c->entry == g && gd_call_is_message(c) && c->peer >= 0 && c->peer < size) s->talks[c->peer] = true;
  }
  for (int32_t peer = 0; peer < size; peer++) {
    int32_t other = s->member[peer];
    if (!s->talks[peer] || !s->rank[other].count) continue;
    walk sends = walk_of(s, g, r), receives = walk_of(s, g, other);
    sends.messages = receives.messages = true;
    sends.kind = GD_CALL_SEND, receives.kind = GD_CALL_RECEIVE;
    sends.peer = peer, receives.peer = mine;
    compare(s, sends, receives);
    /* The other way round is compared where that rank has its turn, if it knows of me. */
    sends = walk_of(s, g, other), receives = walk_of(s, g, r);
    sends.messages = receives.messages = true;
    sends.kind = GD_CALL_SEND, receives.kind = GD_CALL_RECEIVE;
    sends.peer = mine, receives.peer = peer;
    compare(s, sends, receives);
  }
}

/* ---- the text ---- */

static const gd_call *find_number(const gd_rank_calls *of, const gd_call *like) {
  for (int32_t i = of->count; i > 0; i--) {
    const gd_call *c = &of->call[i - 1];
    if (c->entry == like->entry && c->number == like->number && !gd_call_is_message(c)) return c;
  }
  return NULL;
}

/* "rank 2 on node7 (ranks 3 5 too): all_gather of 12 bytes a rank" */
static void add_side(const search *s, int32_t r, const gd_call *said, gd_text *t) {
  char what[128];
  int32_t same = 0;
  gd_text_add(t, "rank %d on %s", r, s->watch->rank[r].host);
  for (int32_t other = 0; other < s->watch->ranks && !gd_call_is_message(said); other++) {
    if (other == r || !together(s->watch, said->entry, r, other)) continue;
    const gd_call *c = find_number(&s->rank[other], said);
    if (!c || !gd_call_same(c, said)) continue;
    if (same == 0) gd_text_add(t, " (and");
    if (++same <= MOST_RANKS) gd_text_add(t, " %d", other);
  }
  if (same > MOST_RANKS) gd_text_add(t, " and %d more", same - MOST_RANKS);
  gd_call_text(said, what, sizeof what);
  gd_text_add(t, "%s: %s", same ? ")" : "", what);
}

/* A message without another end, and one that may be its: who sends to the wrong rank keeps another one waiting. */
static difference pair_messages(const search *s) {
  difference late = s->sent_late, lost = s->lost_send;
  if (late.a < 0) return lost;
  if (lost.a < 0) return late;
  bool related = late.mine->entry == lost.mine->entry && (late.b == lost.a || lost.b == late.a);
  if (!related) return late.order < lost.order ? late : lost;
  late.b = lost.a;
  late.other = lost.mine;
  return late;
}

static void tell(const search *s, const difference *d, gd_text *t) {
  const char *group = s->watch->group_name[d->mine->entry];
  const char *what = gd_call_is_message(d->mine) ? "message" : "call";
  gd_text_add(t, "ranks %d and %d disagree about %s #%llu of group %s: ", d->a, d->b, what, (unsigned long long)d->mine->number,
              group);
  add_side(s, d->a, d->mine, t);
  gd_text_add(t, "; ");
  if (d->other) {
    add_side(s, d->b, d->other, t);
    return;
  }
  const gd_rank_calls *of = &s->rank[d->b];
  const gd_call *newest = &of->call[of->count - 1];
  char said[128];
  gd_call_text(newest, said, sizeof said);
  gd_text_add(t, "rank %d on %s has not made it, its newest call is #%llu of group %s: %s", d->b, s->watch->rank[d->b].host,
              (unsigned long long)newest->number, s->watch->group_name[newest->entry], said);
}

/* Every rank waits in a call, each for one that has not made it. */
static bool nobody_will_come(const search *s, int64_t now_ms) {
  for (int32_t r = 0; r < s->watch->ranks; r++)
    if (!s->rank[r].count || (!gd_watch_waits(s->watch, r) && !s->in_vain[r])) return false;
  return gd_watch_all_wait(s->watch, now_ms);
}

bool gd_desync_find(const gd_rank_calls *rank, const gd_watch *watch, bool differ, int64_t now_ms, char *out,
                    size_t out_bytes) {
  const difference none = {.a = -1};
  search s = {.rank = rank, .watch = watch, .first = none, .lost_call = none, .sent_late = none, .lost_send = none};
  size_t n = (size_t)watch->ranks;
  s.member = calloc(n, sizeof *s.member);
  s.talks = calloc(n, sizeof *s.talks);
  s.in_vain = calloc(n, sizeof *s.in_vain);
  bool found = false;
  for (int g = 0; g < GD_WATCH_GROUPS && s.member && s.talks && s.in_vain; g++)
    for (int32_t r = 0; r < watch->ranks; r++) {
      if (!rank[r].count) continue;
      compare_collectives(&s, g, r);
      compare_messages(&s, g, r);
    }
  if (s.in_vain && (differ || nobody_will_come(&s, now_ms))) {
    difference messages = pair_messages(&s);
    if (messages.a >= 0) keep_earlier(&s.first, messages);
    if (s.lost_call.a >= 0) keep_earlier(&s.first, s.lost_call);
  }
  if (s.first.a >= 0) {
    gd_text t = {out, out_bytes, 0};
    tell(&s, &s.first, &t);
    found = true;
  }
  free(s.member);
  free(s.talks);
  free(s.in_vain);
  return found;
}
