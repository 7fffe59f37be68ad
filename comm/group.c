/* group.c - what the back ends of collectives.h share: lists of messages. */
#include "comm/group.h"

#include <stdlib.h>

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

static gd_message part_of(const gd_parts *parts, gd_direction direction, int32_t r) {
  size_t offset = parts->offsets ? parts->offsets[r] : (size_t)r * parts->stride;
  size_t bytes = parts->sizes ? parts->sizes[r] : parts->bytes;
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
