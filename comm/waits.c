/* waits.c - one group at a time, a place in the calls of each of its members. */
#include "comm/waits.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_RANKS = 4 };

/* A member and the next collective of the group in its calls; NULL: the end. */
typedef struct member {
  int32_t rank, at;
  const gd_call *call;
} member;

static void step_on(member *m, const gd_rank_calls *of, int g) {
  for (m->call = NULL; m->at < of->count && !m->call; m->at++) {
    const gd_call *c = &of->call[m->at];
    if (c->entry == g && !gd_call_is_message(c) && c->duration_us != UINT32_MAX) m->call = c;
  }
}

/* The lowest number that all may still have; 0: there is none. */
static uint64_t next_number(const member *members, int32_t count) {
  uint64_t number = 0;
  for (int32_t i = 0; i < count; i++) {
    if (!members[i].call) return 0;
    if (members[i].call->number > number) number = members[i].call->number;
  }
  return number;
}

static void add_group(const gd_rank_calls *rank, int g, member *members, int32_t count, double *waited_s) {
  uint64_t number;
  for (int32_t i = 0; i < count; i++) step_on(&members[i], &rank[members[i].rank], g);
  while (count > 1 && (number = next_number(members, count)) > 0) {
    bool all = true;
    double sum_us = 0;
    const member *last = members;
    for (int32_t i = 0; i < count; i++) {
      if (members[i].call->number < number) all = false;
      if (members[i].call->duration_us < last->call->duration_us) last = &members[i];
      sum_us += members[i].call->duration_us;
    }
    if (all) waited_s[last->rank] += 1e-6 * (sum_us - (double)count * last->call->duration_us);
    for (int32_t i = 0; i < count; i++)
      if (all || members[i].call->number < number) step_on(&members[i], &rank[members[i].rank], g);
  }
}

void gd_waits_sum(const gd_rank_calls *rank, const gd_watch *watch, double *waited_s) {
  member *members = calloc((size_t)watch->ranks, sizeof *members);
  memset(waited_s, 0, (size_t)watch->ranks * sizeof *waited_s);
  for (int g = 0; g < GD_WATCH_GROUPS && members; g++)
    for (int32_t leader = 0; leader < watch->ranks; leader++) {
      int32_t count = 0;
      for (int32_t r = leader; r < watch->ranks; r++) {
        int32_t of = watch->group_leader[g] ? watch->group_leader[g][r] : 0;
        if (of == leader && rank[r].count) members[count++] = (member){.rank = r};
      }
      add_group(rank, g, members, count, waited_s);
    }
  free(members);
}

void gd_waits_text(const gd_watch *watch, const double *waited_s, char *out, size_t out_bytes) {
  size_t used = 0;
  double most = 0, below = 0;
  int32_t before = -1;
  out[0] = 0;
  for (int n = 0; n < MOST_RANKS; n++) {
    int32_t next = -1; /* behind the one before: less, or as much and a higher rank */
    for (int32_t r = 0; r < watch->ranks; r++) {
      bool behind = before < 0 || waited_s[r] < below || (waited_s[r] == below && r > before);
      if (behind && (next < 0 || waited_s[r] > waited_s[next])) next = r;
    }
    if (next < 0 || waited_s[next] < 0.01 * most || waited_s[next] <= 0 || used >= out_bytes) return;
    if (n == 0) most = waited_s[next];
    below = waited_s[next];
    before = next;
    int put =
        snprintf(out + used, out_bytes - used, "%srank %d on %s %.2f s", n ? ", " : "", next, watch->rank[next].host, below);
    if (put > 0) used += (size_t)put;
  }
}
