/* collectives_self.c - a group of one rank: every call is a copy, or nothing where it is in place. */
#include <stdio.h>
#include <stdlib.h>

#include "comm/collectives.h"

static gd_status move(gd_group *group, gd_stream *stream, const void *from, void *to, size_t bytes) {
  group->sequence++;
  if (from == to || bytes == 0) return GD_OK;
  return stream->device->ops->copy(stream, to, from, bytes, GD_COPY_DEVICE_TO_DEVICE);
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

static gd_status self_rooted(gd_group *group, gd_stream *stream, const void *send, void *recv, size_t bytes, int root) {
  if (root != 0) return gd_fail(GD_BUG, "root %d in a group of one rank", root);
  return move(group, stream, send, recv, bytes);
}

static gd_status self_broadcast(gd_group *group, gd_stream *stream, void *buffer, size_t bytes, int root) {
  return self_rooted(group, stream, buffer, buffer, bytes, root);
}

static gd_status self_send(gd_group *group, gd_stream *stream, const void *buffer, size_t bytes, int to) {
  (void)stream;
  (void)buffer;
  return gd_fail(GD_BUG, "group %s has one rank: cannot send %zu bytes to rank %d", group->name, bytes, to);
}

static gd_status self_receive(gd_group *group, gd_stream *stream, void *buffer, size_t bytes, int from) {
  (void)stream;
  (void)buffer;
  return gd_fail(GD_BUG, "group %s has one rank: cannot receive %zu bytes from rank %d", group->name, bytes, from);
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
  free(group);
}

static const gd_collectives_ops self_ops = {
    .name = "self",
    .all_gather = self_all_gather,
    .all_gather_uneven = self_all_gather_uneven,
    .all_to_all = self_all_gather,
    .all_to_all_uneven = self_all_to_all_uneven,
    .scatter = self_rooted,
    .gather = self_rooted,
    .broadcast = self_broadcast,
    .send = self_send,
    .receive = self_receive,
    .all_reduce = self_all_reduce,
    .reduce_scatter = self_reduce_scatter,
    .destroy = self_destroy,
};

gd_status gd_collectives_self_group(const char *name, gd_group **out) {
  gd_group *group = calloc(1, sizeof *group);
  if (!group) return gd_fail(GD_NO_MEMORY, "out of memory for group %s", name);
  group->ops = &self_ops;
  group->size = 1;
  snprintf(group->name, sizeof group->name, "%s", name);
  *out = group;
  return GD_OK;
}
