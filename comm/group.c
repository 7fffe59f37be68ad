/* group.c - what the back ends of collectives.h share: counters, lists of messages. */
#include "comm/group.h"

#include <stdlib.h>
#include <string.h>

gd_status gd_group_open(gd_group *group, int32_t rank, int32_t size) {
  group->rank = rank;
  group->size = size;
  group->traffic.sent = calloc(2 * (size_t)size, sizeof(int64_t));
  if (!group->traffic.sent) return gd_fail(GD_NO_MEMORY, "out of memory for the counters of group %s", group->name);
  group->traffic.received = group->traffic.sent + size;
  return GD_OK;
}

void gd_group_close(gd_group *group) {
  free(group->traffic.sent);
}

void gd_group_take_traffic(gd_group *group, int64_t *calls, int64_t *sent, int64_t *received) {
  size_t bytes = (size_t)group->size * sizeof(int64_t);
  if (calls) *calls = group->traffic.calls;
  if (sent) memcpy(sent, group->traffic.sent, bytes);
  if (received) memcpy(received, group->traffic.received, bytes);
  group->traffic.calls = 0;
  memset(group->traffic.sent, 0, 2 * bytes);
}

/* The first message to or from myself at or behind `from`; NULL: none. */
static const gd_message *find_own(const gd_group *group, gd_direction direction, const gd_message *from,
                                  const gd_message *end) {
  for (; from < end; from++)
    if (from->peer == group->rank && from->direction == direction) return from;
  return NULL;
}

bool gd_messages_next_own(const gd_group *group, const gd_message *messages, int32_t count, gd_own_message *own) {
  const gd_message *end = messages + count;
  own->send = find_own(group, GD_SEND, own->send ? own->send + 1 : messages, end);
  own->receive = find_own(group, GD_RECEIVE, own->receive ? own->receive + 1 : messages, end);
  return own->send && own->receive;
}

gd_status gd_messages_check(const gd_group *group, const char *call, const gd_message *messages, int32_t count) {
  for (int32_t i = 0; i < count; i++)
    if (messages[i].peer < 0 || messages[i].peer >= group->size)
      return gd_fail(GD_BUG, "%s: message %d is with rank %d in group %s of %d ranks", call, i, messages[i].peer, group->name,
                     group->size);
  gd_own_message own = {NULL, NULL};
  while (gd_messages_next_own(group, messages, count, &own))
    if (own.send->bytes != own.receive->bytes)
      return gd_fail(GD_BUG, "%s: rank %d of group %s sends itself %zu bytes and receives %zu", call, group->rank, group->name,
                     own.send->bytes, own.receive->bytes);
  if (own.send || own.receive)
    return gd_fail(GD_BUG, "%s: rank %d of group %s %s", call, group->rank, group->name,
                   own.send ? "sends itself what it does not receive" : "receives from itself what it does not send");
  return GD_OK;
}

static size_t bytes_of(const gd_parts *parts, int32_t r) {
  return parts->sizes ? parts->sizes[r] : parts->bytes;
}

void gd_group_count_parts(gd_group *group, const gd_parts *sent, const gd_parts *received) {
  group->traffic.calls++;
  for (int32_t r = 0; r < group->size; r++) {
    if (r == group->rank) continue;
    group->traffic.sent[r] += (int64_t)bytes_of(sent, r);
    group->traffic.received[r] += (int64_t)bytes_of(received, r);
  }
}

void gd_group_count_even(gd_group *group, size_t bytes) {
  const gd_parts each = {.bytes = bytes};
  gd_group_count_parts(group, &each, &each);
}

void gd_group_count_messages(gd_group *group, const gd_message *messages, int32_t count) {
  group->traffic.calls++;
  for (const gd_message *m = messages; m < messages + count; m++) {
    if (m->peer == group->rank) continue;
    int64_t *bytes = m->direction == GD_SEND ? group->traffic.sent : group->traffic.received;
    bytes[m->peer] += (int64_t)m->bytes;
  }
}

void gd_group_count_broadcast(gd_group *group, size_t bytes, int32_t root) {
  const gd_parts all = {.bytes = bytes}, none = {.bytes = 0};
  const gd_message from_root = {.direction = GD_RECEIVE, .peer = root, .bytes = bytes};
  if (group->rank == root)
    gd_group_count_parts(group, &all, &none);
  else
    gd_group_count_messages(group, &from_root, 1);
}

static gd_message part_of(const gd_parts *parts, gd_direction direction, int32_t r) {
  size_t offset = parts->offsets ? parts->offsets[r] : (size_t)r * parts->stride;
  size_t bytes = bytes_of(parts, r);
  return (gd_message){direction, r, bytes ? (char *)(uintptr_t)parts->base + offset : NULL, bytes};
}

gd_status gd_messages_of_parts(const gd_group *group, const char *call, const gd_parts *send, const gd_parts *receive,
                               gd_message **out, int32_t *count) {
  int32_t n = group->size, used = 0;
  gd_message *list = malloc(2 * (size_t)n * sizeof *list);
  if (!list) return gd_fail(GD_NO_MEMORY, "out of memory for the messages of %s", call);
  for (int32_t step = 0; step < n; step++) {
    list[used] = part_of(receive, GD_RECEIVE, (group->rank - step + n) % n);
    if (list[used].bytes) used++;
    list[used] = part_of(send, GD_SEND, (group->rank + step) % n);
    if (list[used].bytes) used++;
  }
  gd_status status = gd_messages_check(group, call, list, used);
  if (status != GD_OK) {
    free(list);
    return status;
  }
  *out = list;
  *count = used;
  return GD_OK;
}
