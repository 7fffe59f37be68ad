/* calls.c - the ring of calls, the table that fills it, the digest. */
#include "comm/calls.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/calls_sum.h"
#include "comm/machine.h"
#include "shard/base/log.h"

static const char *const names[GD_CALL_KINDS] = {
    "all_gather", "all_gather_uneven", "all_to_all", "all_to_all_uneven", "broadcast",
    "all_reduce", "reduce_scatter",    "agree",      "barrier",           "send",
    "receive"};

const char *gd_call_name(uint8_t kind) {
  return kind < GD_CALL_KINDS ? names[kind] : "unknown";
}

bool gd_call_is_message(const gd_call *call) {
  return call->kind == GD_CALL_SEND || call->kind == GD_CALL_RECEIVE;
}

/* ---- the digest ---- */

/* Sebastiano Vigna's splitmix64: every bit of the sum moves every bit of the result. */
static uint64_t mix(uint64_t a, uint64_t b) {
  uint64_t x = a + UINT64_C(0x9e3779b97f4a7c15) + b * UINT64_C(0xd1342543de82ef95);
  x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
  return x ^ (x >> 31);
}

/* What all members of a group say alike of a collective. */
static uint64_t signature(const gd_call *call) {
  uint64_t small = (uint64_t)call->kind | (uint64_t)call->dtype << 8 | (uint64_t)call->reduction << 16;
  return mix(mix(mix(call->number, call->size), (uint64_t)(uint32_t)call->peer << 32 | call->parts), small);
}

bool gd_call_same(const gd_call *a, const gd_call *b) {
  return a->kind == b->kind && a->dtype == b->dtype && a->reduction == b->reduction && a->size == b->size &&
         a->peer == b->peer && a->parts == b->parts;
}

/* Of member `rank`; odd, so that no difference of hashes is lost, but for member 0, whose weight makes the sum 0. */
static uint64_t weight_of(int32_t entry, int32_t leader, int32_t rank, int32_t size) {
  uint64_t seed = mix((uint64_t)entry, (uint64_t)leader), sum = 0;
  if (rank > 0) return mix(seed, (uint64_t)rank) | 1;
  for (int32_t r = 1; r < size; r++) sum += mix(seed, (uint64_t)r) | 1;
  return 0 - sum;
}

static uint64_t message_share(const gd_calls_group *g, const gd_call *call) {
  bool sends = call->kind == GD_CALL_SEND;
  uint64_t from = (uint64_t)(sends ? g->rank : call->peer), to = (uint64_t)(sends ? call->peer : g->rank);
  uint64_t group = mix((uint64_t)g->entry, (uint64_t)g->leader), ends = from << 32 | to;
  uint64_t share = mix(mix(mix(group, ends), call->number), call->size);
  return sends ? share : 0 - share;
}

int64_t gd_calls_digest(gd_calls *calls) {
  pthread_mutex_lock(&calls->lock);
  uint64_t sum = calls->messages;
  for (int32_t i = 0; i < GD_CALLS_ENTRIES && calls->group[i]; i++) sum += calls->group[i]->hash * calls->group[i]->weight;
  pthread_mutex_unlock(&calls->lock);
  return (int64_t)(sum & (uint64_t)GD_CALLS_SUM_MASK);
}

/* ---- the ring; the lock is held ---- */

static gd_call_record *write_down(gd_calls_group *g, gd_call call, uint64_t traced) {
  gd_calls *calls = g->calls;
  gd_call_record *record = &calls->ring[calls->made++ % GD_CALLS];
  call.entry = (uint8_t)g->entry;
  call.duration_us = UINT32_MAX;
  *record = (gd_call_record){.call = call, .traced = traced, .made = gd_machine_seconds()};
  if (gd_call_is_message(&call))
    calls->messages += message_share(g, &call);
  else
    g->hash = mix(g->hash, signature(&call));
  return record;
}

static void write_message(gd_calls_group *g, gd_direction direction, int32_t peer, size_t bytes, uint64_t traced) {
  if (peer < 0 || peer >= g->size) return; /* the back end refuses it */
  uint64_t *count = direction == GD_SEND ? &g->sent[peer] : &g->received[peer];
  gd_call call = {.kind = direction == GD_SEND ? GD_CALL_SEND : GD_CALL_RECEIVE, .number = ++*count};
  call.size = bytes;
  call.peer = peer;
  (void)write_down(g, call, traced);
}

/* `call`: of a collective, where the ring still has it. */
static void begin(gd_calls_group *g, const char *name, bool message, const gd_call *call, uint64_t sequence) {
  g->beat.sequence = sequence;
  g->beat.place = message ? GD_WATCH_IN_MESSAGE : GD_WATCH_IN_COLLECTIVE;
  if (!message) g->beat.entered = sequence;
  if (!message) g->beat.signature = call ? (uint32_t)signature(call) | 1 : 0;
  snprintf(g->beat.call, sizeof g->beat.call, "%s", name);
  g->calls->last = g->entry;
  g->calls->changed_ms = gd_machine_now_ms();
}

static void finish(gd_calls_group *g) {
  g->beat.place = GD_WATCH_OUTSIDE;
  g->calls->changed_ms = gd_machine_now_ms();
}

static void set_ended(gd_call_record *record, double now) {
  double us = (now - record->begun) * 1e6;
  record->ended = now;
  record->call.duration_us = us < (double)UINT32_MAX - 1 ? (uint32_t)us : UINT32_MAX - 1;
}

void gd_calls_trace(gd_calls *calls, const gd_group *group, const char *name, uint64_t sequence, bool end) {
  gd_calls_group *g = group->calls;
  if (!g || g->calls != calls) return;
  bool exchange = strcmp(name, "exchange") == 0;
  double now = gd_machine_seconds();
  gd_call_record *found = NULL;
  pthread_mutex_lock(&calls->lock);
  uint64_t oldest = calls->made > GD_CALLS ? calls->made - GD_CALLS : 0;
  for (uint64_t i = calls->made; i > oldest; i--) {
    gd_call_record *record = &calls->ring[(i - 1) % GD_CALLS];
    if (record->call.entry != g->entry || record->traced != sequence || gd_call_is_message(&record->call) != exchange) {
      if (found) break; /* all messages of an exchange lie together */
      continue;
    }
    found = record;
    if (end)
      set_ended(record, now);
    else
      record->begun = now;
    if (!exchange) break;
  }
  if (end)
    finish(g);
  else
    begin(g, name, exchange, found ? &found->call : NULL, sequence);
  pthread_mutex_unlock(&calls->lock);
}

void gd_calls_begin(gd_calls *calls, int32_t entry, gd_call_kind kind, size_t bytes, int32_t root) {
  gd_calls_group *g = calls->group[entry];
  pthread_mutex_lock(&calls->lock);
  gd_call call = {.kind = (uint8_t)kind, .number = ++g->collectives, .size = bytes, .peer = root};
  gd_call_record *record = write_down(g, call, call.number);
  record->begun = record->made;
  begin(g, names[kind], false, &call, call.number);
  pthread_mutex_unlock(&calls->lock);
}

void gd_calls_end(gd_calls *calls, int32_t entry) {
  gd_calls_group *g = calls->group[entry];
  pthread_mutex_lock(&calls->lock);
  for (uint64_t i = calls->made; i > 0 && i + GD_CALLS > calls->made; i--) {
    gd_call_record *record = &calls->ring[(i - 1) % GD_CALLS];
    if (record->call.entry != entry) continue;
    set_ended(record, gd_machine_seconds());
    break;
  }
  finish(g);
  pthread_mutex_unlock(&calls->lock);
}

/* ---- the table ---- */

static void note(gd_group *group, gd_call call) {
  gd_calls_group *g = group->calls;
  pthread_mutex_lock(&g->calls->lock);
  call.number = ++g->collectives;
  (void)write_down(g, call, call.number);
  pthread_mutex_unlock(&g->calls->lock);
}

/* Whoever wants to sees a call as it is enqueued. */
static gd_status show(gd_group *group, const char *call, gd_stream *stream, bool end) {
  const gd_calls *calls = group->calls->calls;
  return calls->seen ? calls->seen(calls->seen_context, group, call, stream, end) : GD_OK;
}

/* The last words of a wrapper: the back end's own call. */
#define MAKE(name, ...)                                     \
  do {                                                      \
    GD_TRY(show(group, #name, stream, false));              \
    GD_TRY(group->inner->name(group, stream, __VA_ARGS__)); \
    return show(group, #name, stream, true);                \
  } while (0)

static gd_call bytes_of(gd_call_kind kind, size_t bytes, int32_t root) {
  return (gd_call){.kind = (uint8_t)kind, .size = bytes, .peer = root};
}

static gd_status watched_all_gather(gd_group *group, gd_stream *stream, const void *send, void *recv, size_t bytes) {
  note(group, bytes_of(GD_CALL_ALL_GATHER, bytes, -1));
  MAKE(all_gather, send, recv, bytes);
}

static gd_status watched_all_gather_uneven(gd_group *group, gd_stream *stream, const void *send, void *recv,
                                           const size_t *sizes, const size_t *offsets) {
  gd_call call = bytes_of(GD_CALL_ALL_GATHER_UNEVEN, 0, -1);
  uint64_t parts = 0;
  for (int32_t r = 0; r < group->size; r++) {
    call.size += sizes[r];
    parts = mix(parts, sizes[r]);
  }
  call.parts = (uint32_t)parts;
  note(group, call);
  MAKE(all_gather_uneven, send, recv, sizes, offsets);
}

static gd_status watched_all_to_all(gd_group *group, gd_stream *stream, const void *send, void *recv, size_t bytes) {
  note(group, bytes_of(GD_CALL_ALL_TO_ALL, bytes, -1));
  MAKE(all_to_all, send, recv, bytes);
}

/* Its sizes differ between ranks: each part is a message. */
static gd_status watched_all_to_all_uneven(gd_group *group, gd_stream *stream, const void *send, const size_t *send_sizes,
                                           const size_t *send_offsets, void *recv, const size_t *recv_sizes,
                                           const size_t *recv_offsets) {
  gd_calls_group *g = group->calls;
  note(group, bytes_of(GD_CALL_ALL_TO_ALL_UNEVEN, 0, -1));
  pthread_mutex_lock(&g->calls->lock);
  for (int32_t r = 0; r < group->size; r++) {
    write_message(g, GD_SEND, r, send_sizes[r], 0);
    write_message(g, GD_RECEIVE, r, recv_sizes[r], 0);
  }
  pthread_mutex_unlock(&g->calls->lock);
  MAKE(all_to_all_uneven, send, send_sizes, send_offsets, recv, recv_sizes, recv_offsets);
}

static gd_status watched_broadcast(gd_group *group, gd_stream *stream, void *buffer, size_t bytes, int root) {
  note(group, bytes_of(GD_CALL_BROADCAST, bytes, root));
  MAKE(broadcast, buffer, bytes, root);
}

static gd_status watched_exchange(gd_group *group, gd_stream *stream, const gd_message *messages, int32_t count) {
  gd_calls_group *g = group->calls;
  pthread_mutex_lock(&g->calls->lock);
  for (int32_t i = 0; i < count; i++)
    write_message(g, messages[i].direction, messages[i].peer, messages[i].bytes, group->messages + 1);
  pthread_mutex_unlock(&g->calls->lock);
  MAKE(exchange, messages, count);
}

static gd_call reduces(gd_call_kind kind, size_t elements, gd_dtype dtype, gd_reduction op) {
  return (gd_call){.kind = (uint8_t)kind, .size = elements, .peer = -1, .dtype = (uint8_t)dtype, .reduction = (uint8_t)op};
}

static gd_status watched_all_reduce(gd_group *group, gd_stream *stream, void *buffer, size_t elements, gd_dtype dtype,
                                    gd_reduction op) {
  note(group, reduces(GD_CALL_ALL_REDUCE, elements, dtype, op));
  MAKE(all_reduce, buffer, elements, dtype, op);
}

static gd_status watched_reduce_scatter(gd_group *group, gd_stream *stream, const void *send, void *recv, size_t elements_each,
                                        gd_dtype dtype, gd_reduction op) {
  note(group, reduces(GD_CALL_REDUCE_SCATTER, elements_each, dtype, op));
  MAKE(reduce_scatter, send, recv, elements_each, dtype, op);
}

static void forget(gd_calls_group *g) {
  if (g->group) {
    g->group->ops = g->group->inner;
    g->group->calls = NULL;
  }
  g->group = NULL;
}

static void watched_destroy(gd_group *group) {
  gd_calls *calls = group->calls->calls;
  pthread_mutex_lock(&calls->lock);
  forget(group->calls);
  pthread_mutex_unlock(&calls->lock);
  group->ops->destroy(group);
}

static const gd_collectives_ops watched_ops = {
    .name = "watched",
    .all_gather = watched_all_gather,
    .all_gather_uneven = watched_all_gather_uneven,
    .all_to_all = watched_all_to_all,
    .all_to_all_uneven = watched_all_to_all_uneven,
    .broadcast = watched_broadcast,
    .exchange = watched_exchange,
    .all_reduce = watched_all_reduce,
    .reduce_scatter = watched_reduce_scatter,
    .destroy = watched_destroy,
};

/* ---- open, watch, close ---- */

void gd_calls_open(gd_calls *calls) {
  memset(calls, 0, sizeof *calls);
  pthread_mutex_init(&calls->lock, NULL);
  calls->last = -1;
  calls->changed_ms = gd_machine_now_ms();
}

void gd_calls_close(gd_calls *calls) {
  for (int32_t i = 0; i < GD_CALLS_ENTRIES; i++) {
    if (!calls->group[i]) continue;
    forget(calls->group[i]);
    free(calls->group[i]->sent);
    free(calls->group[i]);
    calls->group[i] = NULL;
  }
  pthread_mutex_destroy(&calls->lock);
}

gd_status gd_calls_watch(gd_calls *calls, int32_t entry, const char *name, gd_group *group, int32_t leader, int32_t rank,
                         int32_t size) {
  gd_calls_group *g = calloc(1, sizeof *g);
  uint64_t *counts = calloc(2 * (size_t)size, sizeof *counts);
  if (!g || !counts) {
    free(g);
    free(counts);
    return gd_fail(GD_NO_MEMORY, "out of memory for the calls of a group of %d ranks", size);
  }
  *g = (gd_calls_group){.calls = calls, .group = group, .entry = entry, .leader = leader, .rank = rank, .size = size};
  g->weight = weight_of(entry, leader, rank, size);
  snprintf(g->name, sizeof g->name, "%s", name);
  g->sent = counts;
  g->received = counts + size;
  if (group) {
    group->inner = group->ops;
    group->ops = &watched_ops;
    group->calls = g;
  }
  pthread_mutex_lock(&calls->lock);
  calls->group[entry] = g;
  pthread_mutex_unlock(&calls->lock);
  return GD_OK;
}

/* ---- who asks ---- */

int64_t gd_calls_beat(gd_calls *calls, gd_beat *out) {
  pthread_mutex_lock(&calls->lock);
  for (int g = 0; g < GD_WATCH_GROUPS; g++)
    if (calls->group[g]) out->group[g] = calls->group[g]->beat;
  out->last = calls->last;
  int64_t changed_ms = calls->changed_ms;
  pthread_mutex_unlock(&calls->lock);
  return changed_ms;
}

int32_t gd_calls_copy(gd_calls *calls, gd_call *out, int32_t room, uint64_t *first) {
  pthread_mutex_lock(&calls->lock);
  uint64_t kept = calls->made < GD_CALLS ? calls->made : GD_CALLS;
  if (kept > (uint64_t)room) kept = (uint64_t)room;
  *first = calls->made - kept;
  for (uint64_t i = 0; i < kept; i++) out[i] = calls->ring[(*first + i) % GD_CALLS].call;
  pthread_mutex_unlock(&calls->lock);
  return (int32_t)kept;
}

void gd_call_text(const gd_call *call, char *out, size_t bytes) {
  unsigned long long size = call->size;
  const char *name = gd_call_name(call->kind);
  switch ((gd_call_kind)call->kind) {
    case GD_CALL_AGREE:
    case GD_CALL_BARRIER:
    case GD_CALL_ALL_TO_ALL_UNEVEN: snprintf(out, bytes, "%s", name); return;
    case GD_CALL_ALL_REDUCE:
    case GD_CALL_REDUCE_SCATTER:
      snprintf(out, bytes, "%s of %llu %s, %s", name, size, gd_dtype_name((gd_dtype)call->dtype),
               call->reduction == GD_MAX ? "max" : "sum");
      return;
    case GD_CALL_BROADCAST: snprintf(out, bytes, "%s of %llu bytes from rank %d of the group", name, size, call->peer); return;
    case GD_CALL_SEND: snprintf(out, bytes, "%s of %llu bytes to rank %d of the group", name, size, call->peer); return;
    case GD_CALL_RECEIVE: snprintf(out, bytes, "%s of %llu bytes from rank %d of the group", name, size, call->peer); return;
    case GD_CALL_ALL_GATHER_UNEVEN: snprintf(out, bytes, "%s of %llu bytes, sizes %08x", name, size, call->parts); return;
    default: snprintf(out, bytes, "%s of %llu bytes a rank", name, size);
  }
}

/* ---- for people ---- */

void gd_calls_log(gd_calls *calls, int32_t count) {
  gd_call_record record;
  double now = gd_machine_seconds();
  for (;; count--) {
    char what[128], group[32] = "", times[96];
    pthread_mutex_lock(&calls->lock);
    uint64_t kept = calls->made < GD_CALLS ? calls->made : GD_CALLS;
    if ((uint64_t)count > kept) count = (int32_t)kept;
    record = calls->ring[(calls->made - (uint64_t)count) % GD_CALLS];
    const gd_calls_group *g = count ? calls->group[record.call.entry] : NULL;
    if (g) snprintf(group, sizeof group, "%s", g->name);
    pthread_mutex_unlock(&calls->lock);
    if (!g) return;
    gd_call_text(&record.call, what, sizeof what);
    if (record.ended > 0)
      snprintf(times, sizeof times, "took %.3f ms", (record.ended - record.begun) * 1e3);
    else
      snprintf(times, sizeof times, "%s", record.begun > 0 ? "has not ended" : "has not begun");
    gd_log(GD_LOG_DEBUG, "call: %.3f s ago, group %s, #%llu, %s, %s", now - record.made, group,
           (unsigned long long)record.call.number, what, times);
  }
}
