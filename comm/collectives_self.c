/* collectives_self.c - a group of one rank: every call is a copy, or nothing where it is in place. */
#include <stdio.h>
#include <stdlib.h>

#include "comm/group.h"

static gd_status copy(gd_stream *stream, const void *from, void *to, size_t bytes) {
  if (from == to || bytes == 0) return GD_OK;
  return stream->device->ops->copy(stream, to, from, bytes, GD_COPY_DEVICE_TO_DEVICE);
}

/* A whole collective. */
static gd_status move(gd_group *group, gd_stream *stream, const void *from, void *to, size_t bytes) {
  group->sequence++;
  gd_group_count_even(group, bytes);
  return copy(stream, from, to, bytes);
}

static gd_status self_all_gather(gd_group *group, gd_stream *stream, const void *send, void *recv, size_t bytes) {
  return move(group, stream, send, recv, bytes);
}

static gd_status self_all_gather_uneven(gd_group *group, gd_stream *stream, const void *send, void *recv, const size_t *sizes,
                                        const size_t *offsets) {
  return move(group, stream, send, (char *)recv + offsets[0], sizes[0]);
}

static gd_status self_all_to_all_uneven(gd_group *group, gd_stream *stream, const void *send, const size_t *send_sizes,
                                        const size_t *send_offsets, void *recv, const size_t *recv_sizes,
                                        const size_t *recv_offsets) {
  if (send_sizes[0] != recv_sizes[0])
    return gd_fail(GD_BUG, "all_to_all_uneven of one rank sends %zu bytes and receives %zu", send_sizes[0], recv_sizes[0]);
  return move(group, stream, (const char *)send + send_offsets[0], (char *)recv + recv_offsets[0], send_sizes[0]);
}

static gd_status self_broadcast(gd_group *group, gd_stream *stream, void *buffer, size_t bytes, int root) {
  if (root != 0) return gd_fail(GD_BUG, "root %d in a group of one rank", root);
  return move(group, stream, buffer, buffer, bytes);
}

static gd_status self_exchange(gd_group *group, gd_stream *stream, const gd_message *messages, int32_t count) {
  GD_TRY(gd_messages_check(group, "exchange", messages, count));
  group->messages++;
  gd_group_count_messages(group, messages, count);
  gd_own_message own = {NULL, NULL};
  while (gd_messages_next_own(group, messages, count, &own))
    GD_TRY(copy(stream, own.send->buffer, own.receive->buffer, own.send->bytes));
  return GD_OK;
}

static gd_status self_all_reduce(gd_group *group, gd_stream *stream, void *buffer, size_t elements, gd_dtype dtype,
                                 gd_reduction op) {
  (void)op;
  return move(group, stream, buffer, buffer, elements * gd_dtype_bytes(dtype));
}

static gd_status self_reduce_scatter(gd_group *group, gd_stream *stream, const void *send, void *recv, size_t elements_each,
                                     gd_dtype dtype, gd_reduction op) {
  (void)op;
  return move(group, stream, send, recv, elements_each * gd_dtype_bytes(dtype));
}

static void self_destroy(gd_group *group) {
  gd_group_close(group);
  free(group);
}

static const gd_collectives_ops self_ops = {
    .name = "self",
    .all_gather = self_all_gather,
    .all_gather_uneven = self_all_gather_uneven,
    .all_to_all = self_all_gather,
    .all_to_all_uneven = self_all_to_all_uneven,
    .broadcast = self_broadcast,
    .exchange = self_exchange,
    .all_reduce = self_all_reduce,
    .reduce_scatter = self_reduce_scatter,
    .destroy = self_destroy,
};

gd_status gd_collectives_self_group(const char *name, gd_group **out) {
  gd_group *group = calloc(1, sizeof *group);
  if (!group) return gd_fail(GD_NO_MEMORY, "out of memory for group %s", name);
  group->ops = &self_ops;
  snprintf(group->name, sizeof group->name, "%s", name);
  gd_status status = gd_group_open(group, 0, 1);
  if (status != GD_OK) {
    self_destroy(group);
    return status;
  }
  *out = group;
  return GD_OK;
}
