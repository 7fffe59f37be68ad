/* doctor_links.c - how fast each pair of ranks is, on the groups and the stream that training uses. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/machine.h"
#include "launch/doctor.h"

enum { LATENCY_TRIES = 20, RATE_TRIES = 5, RATE_BYTES = 4 << 20, TOURNAMENT_BYTES = 1 << 20 };

/* What the lower rank of a pair measured; 0: not measured. */
typedef struct link {
  float latency_us; /* 8 bytes each way, enqueued and waited for */
  float rate;       /* bytes a second each way, both ways at once */
} link;

typedef struct pair {
  int32_t low, high;
  link link;
} pair;

/* One kind of pairs: on one host, or between hosts. */
typedef struct pairs {
  pair *list; /* after sort: the slowest first */
  int64_t count;
  double latency_us, rate; /* medians */
} pairs;

typedef struct bench {
  gd_session *session;
  gd_device *device;
  gd_group *world;
  void *out, *in; /* `bytes` of device memory each */
  size_t bytes;
} bench;

int32_t gd_doctor_opponent(int32_t rank, int32_t ranks, int32_t round) {
  int32_t last = ranks - 1 + ranks % 2, other; /* the one that stays while the others go round; not there where odd */
  if (rank == last)
    other = round;
  else if (rank == round)
    other = last;
  else
    other = (2 * round - rank + last) % last;
  return other < ranks ? other : -1;
}

static gd_status meet(const bench *b, int32_t other, size_t bytes) {
  const gd_message messages[] = {{GD_SEND, other, b->out, bytes}, {GD_RECEIVE, other, b->in, bytes}};
  GD_TRY(b->world->ops->exchange(b->world, b->device->communication, messages, 2));
  return b->device->ops->stream_sync(b->device->communication);
}

/* The best of some tries, after one that opens the connection. */
static gd_status time_meetings(const bench *b, int32_t other, size_t bytes, int tries, double *seconds) {
  *seconds = 1e30;
  GD_TRY(meet(b, other, bytes));
  for (int i = 0; i < tries; i++) {
    double start = gd_machine_seconds();
    GD_TRY(meet(b, other, bytes));
    double took = gd_machine_seconds() - start;
    if (took < *seconds) *seconds = took;
  }
  if (*seconds <= 0) *seconds = 1e-9;
  return GD_OK;
}

static gd_status measure(const bench *b, int32_t other, link *out) {
  double small, large;
  GD_TRY(time_meetings(b, other, 8, LATENCY_TRIES, &small));
  GD_TRY(time_meetings(b, other, b->bytes, RATE_TRIES, &large));
  *out = (link){.latency_us = (float)(1e6 * small), .rate = (float)((double)b->bytes / large)};
  return GD_OK;
}

/* All pairs; mine[r] of those in which this rank is the lower one. */
static gd_status play(const bench *b, link *mine) {
  int32_t ranks = b->world->size, rank = b->world->rank, rounds = ranks - 1 + ranks % 2;
  for (int32_t round = 0; round < rounds; round++) {
    gd_session_progress(b->session, "links", round);
    int32_t other = gd_doctor_opponent(rank, ranks, round);
    int32_t turn = other < 0 || other > rank ? rank : other; /* the lower one's */
    for (int32_t low = 0; low < ranks; low++) {
      if (ranks > GD_DOCTOR_ALONE ? low > 0 : gd_doctor_opponent(low, ranks, round) < low) continue;
      GD_TRY(gd_session_barrier(b->session));
      if (other < 0 || (ranks <= GD_DOCTOR_ALONE && turn != low)) continue;
      link found;
      GD_TRY(measure(b, other, &found));
      if (other > rank) mine[other] = found;
    }
  }
  return GD_OK;
}

static int by_rate(const void *a, const void *b) {
  float x = ((const pair *)a)->link.rate, y = ((const pair *)b)->link.rate;
  return (x > y) - (x < y);
}

static gd_status collect(const bench *b, const link *all, bool one_host, pairs *out) {
  int32_t ranks = b->world->size;
  int64_t most = (int64_t)ranks * (ranks - 1) / 2;
  *out = (pairs){.list = calloc((size_t)most + 1, sizeof *out->list)};
  double *values = calloc((size_t)most + 1, sizeof *values);
  if (!out->list || !values) {
    free(values);
    return gd_fail(GD_NO_MEMORY, "out of memory for %d ranks", ranks);
  }
  for (int32_t low = 0; low < ranks; low++)
    for (int32_t high = low + 1; high < ranks; high++) {
      bool same = strcmp(gd_session_host_of(b->session, low), gd_session_host_of(b->session, high)) == 0;
      if (same == one_host) out->list[out->count++] = (pair){low, high, all[(int64_t)low * ranks + high]};
    }
  qsort(out->list, (size_t)out->count, sizeof *out->list, by_rate);
  for (int64_t i = 0; i < out->count; i++) values[i] = (double)out->list[i].link.rate;
  if (out->count) out->rate = gd_doctor_median(values, out->count);
  for (int64_t i = 0; i < out->count; i++) values[i] = (double)out->list[i].link.latency_us;
  if (out->count) out->latency_us = gd_doctor_median(values, out->count);
  free(values);
  return GD_OK;
}

static void print_pairs(const bench *b, const pairs *p, bool one_host, bool json) {
  const pair *slowest = p->list, *latest = p->list;
  for (int64_t i = 1; i < p->count; i++)
    if (p->list[i].link.latency_us > latest->link.latency_us) latest = &p->list[i];
  gd_doctor_finding(
      true, "links",
      "%lld pair%s %s%s: median %.3g GB/s each way, %.3g us; slowest ranks %d and %d: %.3g GB/s, %.2f of the median; longest "
      "latency ranks %d and %d: %.3g us, %.2f of it",
      (long long)p->count, p->count == 1 ? "" : "s", one_host ? "on one host" : "between hosts",
      b->world->size > GD_DOCTOR_ALONE ? ", side by side" : ", one at a time", 1e-9 * p->rate, p->latency_us, slowest->low,
      slowest->high, 1e-9 * (double)slowest->link.rate, (double)slowest->link.rate / p->rate, latest->low, latest->high,
      (double)latest->link.latency_us, (double)latest->link.latency_us / p->latency_us);
  if (!json) printf("     %-13s %9s %9s %9s  hosts\n", "ranks", "GB/s", "of median", "us");
  for (int64_t i = 0; i < p->count && i < GD_DOCTOR_ROWS; i++) {
    const pair *at = &p->list[i];
    const char *low = gd_session_host_of(b->session, at->low), *high = gd_session_host_of(b->session, at->high);
    double rate = (double)at->link.rate, latency = (double)at->link.latency_us;
    if (json)
      printf(
          "{\"check\": \"link\", \"ranks\": [%d, %d], \"hosts\": [\"%s\", \"%s\"], \"bytes_per_s\": %.0f, \"of_median\": %.3f, "
          "\"latency_us\": %.2f}\n",
          at->low, at->high, low, high, rate, rate / p->rate, latency);
    else
      printf("     %5d - %5d %9.3g %9.2f %9.3g  %s%s%s\n", at->low, at->high, 1e-9 * rate, rate / p->rate, latency, low,
             one_host ? "" : " - ", one_host ? "" : high);
  }
  if (!json && p->count > GD_DOCTOR_ROWS) printf("     and %lld faster ones\n", (long long)p->count - GD_DOCTOR_ROWS);
  fflush(stdout);
}

static gd_status report(const bench *b, const link *all, bool json) {
  for (int between = 0; between < 2; between++) {
    pairs kind;
    gd_status status = collect(b, all, !between, &kind);
    if (status == GD_OK && kind.count) print_pairs(b, &kind, !between, json);
    free(kind.list);
    GD_TRY(status);
  }
  return GD_OK;
}

static gd_status run(bench *b, bool json) {
  size_t ranks = (size_t)b->world->size;
  link *mine = calloc(ranks, sizeof *mine), *all = calloc(ranks * ranks, sizeof *all);
  gd_status status = mine && all ? GD_OK : gd_fail(GD_NO_MEMORY, "out of memory for %zu ranks", ranks);
  gd_stream *stream = b->device->communication;
  if (status == GD_OK) status = b->device->ops->alloc(b->device, b->bytes, &b->out);
  if (status == GD_OK) status = b->device->ops->alloc(b->device, b->bytes, &b->in);
  if (status == GD_OK) status = b->device->ops->fill(stream, b->out, 0, b->bytes);
  status = gd_session_agree(b->session, status);
  if (status == GD_OK) status = play(b, mine);
  if (status == GD_OK) status = gd_session_all_gather(b->session, mine, all, ranks * sizeof *mine);
  if (status == GD_OK && b->world->rank == 0) status = report(b, all, json);
  if (b->out) b->device->ops->free(b->device, b->out);
  if (b->in) b->device->ops->free(b->device, b->in);
  free(mine);
  free(all);
  return status;
}

gd_status gd_doctor_links(gd_session *session, gd_device *device, bool json) {
  int32_t ranks = gd_session_ranks(session);
  bench b = {.session = session, .device = device, .bytes = ranks > GD_DOCTOR_ALONE ? TOURNAMENT_BYTES : RATE_BYTES};
  gd_mesh mesh;
  if (ranks == 1) return GD_OK;
  GD_TRY(gd_mesh_init(&mesh, ranks, 1, 1, 1));
  GD_TRY(gd_session_group(session, &mesh, GD_MASK_WORLD, &b.world));
  return run(&b, json);
}
