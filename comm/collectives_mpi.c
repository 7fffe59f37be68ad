/* collectives_mpi.c - collectives over MPI. A call in host memory becomes one task of its stream, so that it runs in stream
 * order: on the communication thread, inline, or on the lazy device when it is waited for; a call in a GPU's memory goes
 * through pinned memory (staging.h). Each group has its own communicator. MPI counts are int: a block above the limit travels
 * as one element of a derived type. */
#include "comm/collectives_mpi.h"

#include <mpi.h>

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/group.h"

size_t gd_collectives_mpi_count_limit = INT_MAX;

typedef struct mpi_group {
  gd_group base;
  MPI_Comm comm;
  gd_staging *staging; /* NULL: buffers are host memory */
} mpi_group;

typedef enum call_kind {
  ALL_GATHER,
  ALL_GATHER_UNEVEN,
  ALL_TO_ALL,
  ALL_TO_ALL_UNEVEN,
  BROADCAST,
  EXCHANGE,
  ALL_REDUCE,
  REDUCE_SCATTER
} call_kind;

static const char *const names[] = {"all_gather", "all_gather_uneven", "all_to_all", "all_to_all_uneven",
                                    "broadcast",  "exchange",          "all_reduce", "reduce_scatter"};

/* The arguments of every task. A task frees its list (a stream that has failed runs no task, and the process ends soon after).
 */
typedef struct call {
  mpi_group *group;
  call_kind kind;
  uint64_t sequence;
  const void *send;
  void *recv;
  size_t bytes; /* or elements */
  void *list;   /* gd_message[count]; ALL_GATHER_UNEVEN: size_t[2 * size], sizes and offsets */
  int32_t count;
  gd_dtype dtype;
  gd_reduction op;
  int root;
} call;

/* `bytes` bytes as *count elements of *type. */
typedef struct block {
  MPI_Datatype type;
  int count;
} block;

static int block_open(size_t bytes, block *out) {
  size_t limit = gd_collectives_mpi_count_limit;
  out->type = MPI_BYTE;
  out->count = (int)bytes;
  if (bytes <= limit) return MPI_SUCCESS;
  /* `parts` chunks of `limit` bytes and a tail, as one element. */
  MPI_Datatype chunk = MPI_DATATYPE_NULL, body = MPI_DATATYPE_NULL;
  size_t parts = bytes / limit, tail = bytes % limit;
  int code = MPI_Type_contiguous((int)limit, MPI_BYTE, &chunk);
  if (code == MPI_SUCCESS) code = MPI_Type_contiguous((int)parts, chunk, &body);
  if (code == MPI_SUCCESS) {
    int lengths[2] = {1, (int)tail};
    MPI_Aint places[2] = {0, (MPI_Aint)(parts * limit)};
    MPI_Datatype types[2] = {body, MPI_BYTE};
    code = MPI_Type_create_struct(tail ? 2 : 1, lengths, places, types, &out->type);
  }
  if (code == MPI_SUCCESS) code = MPI_Type_commit(&out->type);
  if (chunk != MPI_DATATYPE_NULL) MPI_Type_free(&chunk);
  if (body != MPI_DATATYPE_NULL) MPI_Type_free(&body);
  out->count = 1;
  return code;
}

static void block_close(block *b) {
  if (b->type != MPI_BYTE && b->type != MPI_DATATYPE_NULL) MPI_Type_free(&b->type);
}

static void trace(const call *c, bool end) {
  gd_collectives_trace *hook = gd_collectives_trace_hook;
  if (hook) hook(&c->group->base, names[c->kind], c->sequence, end);
}

static gd_status finish(const call *c, int code) {
  trace(c, true);
  free(c->list);
  return gd_mpi_fault(code, names[c->kind], c->group->base.name);
}

static const char *offset(const void *base, size_t bytes) {
  return (const char *)base + bytes;
}

/* The tasks. */

static gd_status run_even(void *arguments) {
  const call *c = arguments;
  trace(c, false);
  block b;
  int code = block_open(c->bytes, &b);
  if (code == MPI_SUCCESS) {
    void *recv = c->recv;
    const void *send = c->send;
    if (c->kind == ALL_GATHER && send == offset(recv, (size_t)c->group->base.rank * c->bytes)) send = MPI_IN_PLACE;
    MPI_Request request;
    MPI_Comm comm = c->group->comm;
    switch (c->kind) {
      case ALL_GATHER: code = MPI_Iallgather(send, b.count, b.type, recv, b.count, b.type, comm, &request); break;
      case ALL_TO_ALL: code = MPI_Ialltoall(send, b.count, b.type, recv, b.count, b.type, comm, &request); break;
      default: code = MPI_Ibcast(recv, b.count, b.type, c->root, comm, &request); break;
    }
    code = gd_mpi_finish(code, &request);
    block_close(&b);
  }
  return finish(c, code);
}

/* Every (size, offset) pair as int counts, or false where one does not fit. */
static bool as_ints(const size_t *sizes, const size_t *offsets, int n, int *counts, int *places) {
  for (int r = 0; r < n; r++) {
    if (sizes[r] > gd_collectives_mpi_count_limit || offsets[r] > gd_collectives_mpi_count_limit) return false;
    counts[r] = (int)sizes[r];
    places[r] = (int)offsets[r];
  }
  return true;
}

/* Starts those messages of the list that leave this rank, or reach it; *open counts the requests. */
static int start_messages(const call *c, gd_direction direction, MPI_Request *requests, int32_t *open) {
  const gd_message *end = (const gd_message *)c->list + c->count;
  int tag = c->kind == EXCHANGE ? 0 : 1, code = MPI_SUCCESS;
  for (const gd_message *m = c->list; m < end && code == MPI_SUCCESS; m++) {
    if (m->direction != direction || m->peer == c->group->base.rank) continue;
    block b;
    MPI_Request *request = &requests[*open];
    code = block_open(m->bytes, &b);
    if (code == MPI_SUCCESS)
      code = direction == GD_SEND ? MPI_Isend(m->buffer, b.count, b.type, m->peer, tag, c->group->comm, request)
                                  : MPI_Irecv(m->buffer, b.count, b.type, m->peer, tag, c->group->comm, request);
    if (code == MPI_SUCCESS) ++*open;
    block_close(&b);
  }
  return code;
}

/* All are under way before the first is waited for, so that no order of sends and receives can lock up. */
static int move_messages(const call *c) {
  MPI_Request *requests = malloc(((size_t)c->count + 1) * sizeof *requests);
  if (!requests) return MPI_ERR_NO_MEM;
  int32_t open = 0;
  int code = start_messages(c, GD_RECEIVE, requests, &open);
  if (code == MPI_SUCCESS) code = start_messages(c, GD_SEND, requests, &open);
  for (int32_t i = 0; i < open; i++) {
    int ended = gd_mpi_finish(MPI_SUCCESS, &requests[i]);
    if (code == MPI_SUCCESS) code = ended;
  }
  free(requests);
  return code;
}

static gd_status run_messages(void *arguments) {
  const call *c = arguments;
  trace(c, false);
  gd_own_message own = {NULL, NULL};
  while (gd_messages_next_own(&c->group->base, c->list, c->count, &own))
    if (own.send->bytes && own.send->buffer != own.receive->buffer)
      memcpy(own.receive->buffer, own.send->buffer, own.send->bytes);
  return finish(c, move_messages(c));
}

/* All-gather of blocks of any size: one broadcast a rank. */
static int broadcasts(const call *c, const size_t *sizes, const size_t *offsets) {
  int code = MPI_SUCCESS, me = c->group->base.rank;
  void *mine = (char *)c->recv + offsets[me];
  if (c->send != mine && sizes[me]) memcpy(mine, c->send, sizes[me]);
  for (int r = 0; r < c->group->base.size && code == MPI_SUCCESS; r++) {
    if (sizes[r] == 0) continue;
    block b;
    code = block_open(sizes[r], &b);
    MPI_Request request;
    if (code == MPI_SUCCESS) code = MPI_Ibcast((char *)c->recv + offsets[r], b.count, b.type, r, c->group->comm, &request);
    code = gd_mpi_finish(code, &request);
    block_close(&b);
  }
  return code;
}

static gd_status run_all_gather_uneven(void *arguments) {
  const call *c = arguments;
  int n = c->group->base.size, me = c->group->base.rank, code;
  const size_t *sizes = c->list, *offsets = sizes + n;
  trace(c, false);
  int *counts = malloc(2 * (size_t)n * sizeof *counts), *places = counts + n;
  if (!counts) {
    code = MPI_ERR_NO_MEM;
  } else if (as_ints(sizes, offsets, n, counts, places)) {
    /* Whether the blocks fit is the same on every rank: all have the same sizes and offsets. */
    const void *send = c->send == offset(c->recv, offsets[me]) ? MPI_IN_PLACE : c->send;
    MPI_Request request;
    code = MPI_Iallgatherv(send, counts[me], MPI_BYTE, c->recv, counts, places, MPI_BYTE, c->group->comm, &request);
    code = gd_mpi_finish(code, &request);
  } else {
    code = broadcasts(c, sizes, offsets);
  }
  free(counts);
  return finish(c, code);
}

static MPI_Datatype element_type(gd_dtype dtype) {
  switch (dtype) {
    case GD_FLOAT32: return MPI_FLOAT;
    case GD_INT32: return MPI_INT32_T;
    case GD_INT64: return MPI_INT64_T;
    default: return MPI_DATATYPE_NULL;
  }
}

static gd_status run_reduce(void *arguments) {
  const call *c = arguments;
  MPI_Datatype type = element_type(c->dtype);
  MPI_Op op = c->op == GD_MAX ? MPI_MAX : MPI_SUM;
  MPI_Comm comm = c->group->comm;
  MPI_Request request;
  size_t width = gd_dtype_bytes(c->dtype), limit = gd_collectives_mpi_count_limit;
  int code = MPI_SUCCESS;
  trace(c, false);
  if (c->kind == REDUCE_SCATTER && c->bytes <= limit) {
    code = MPI_Ireduce_scatter_block(c->send, c->recv, (int)c->bytes, type, op, comm, &request);
    code = gd_mpi_finish(code, &request);
  } else if (c->kind == REDUCE_SCATTER) {
    for (int root = 0; root < c->group->base.size; root++)
      for (size_t at = 0; at < c->bytes && code == MPI_SUCCESS; at += limit) {
        size_t part = c->bytes - at < limit ? c->bytes - at : limit;
        const char *send = offset(c->send, ((size_t)root * c->bytes + at) * width);
        code = MPI_Ireduce(send, (char *)c->recv + at * width, (int)part, type, op, root, comm, &request);
        code = gd_mpi_finish(code, &request);
      }
  } else {
    for (size_t at = 0; at < c->bytes && code == MPI_SUCCESS; at += limit) {
      size_t part = c->bytes - at < limit ? c->bytes - at : limit;
      code = MPI_Iallreduce(MPI_IN_PLACE, (char *)c->recv + at * width, (int)part, type, op, comm, &request);
      code = gd_mpi_finish(code, &request);
    }
  }
  return finish(c, code);
}

/* The slots: fill a call and enqueue it. */

/* Every piece of device memory of a call, and, once they have their places, its pointers to these instead. */
static int32_t count_pieces(const call *c) {
  return c->count > 0 ? c->count : c->group->base.size + 1;
}

static int32_t list_pieces(const call *c, gd_piece *pieces) {
  size_t size = (size_t)c->group->base.size, me = (size_t)c->group->base.rank, bytes = c->bytes, *sizes = c->list;
  void *send = (void *)(uintptr_t)c->send; /* only read */
  int32_t n = 0;
  switch (c->kind) {
    case ALL_GATHER:
      pieces[n++] = (gd_piece){.device = send, .bytes = bytes, .in = true};
      pieces[n++] = (gd_piece){.device = c->recv, .bytes = bytes * size, .out = true};
      break;
    case ALL_GATHER_UNEVEN:
      pieces[n++] = (gd_piece){.device = send, .bytes = sizes[me], .in = true};
      for (size_t r = 0; r < size; r++)
        pieces[n++] = (gd_piece){.device = (char *)c->recv + sizes[size + r], .bytes = sizes[r], .out = true};
      break;
    case ALL_TO_ALL:
      pieces[n++] = (gd_piece){.device = send, .bytes = bytes * size, .in = true};
      pieces[n++] = (gd_piece){.device = c->recv, .bytes = bytes * size, .out = true};
      break;
    case BROADCAST: {
      bool root = c->root == c->group->base.rank;
      pieces[n++] = (gd_piece){.device = c->recv, .bytes = bytes, .in = root, .out = !root};
      break;
    }
    case ALL_REDUCE:
      pieces[n++] = (gd_piece){.device = c->recv, .bytes = bytes * gd_dtype_bytes(c->dtype), .in = true, .out = true};
      break;
    case REDUCE_SCATTER:
      pieces[n++] = (gd_piece){.device = send, .bytes = bytes * size * gd_dtype_bytes(c->dtype), .in = true};
      pieces[n++] = (gd_piece){.device = c->recv, .bytes = bytes * gd_dtype_bytes(c->dtype), .out = true};
      break;
    case ALL_TO_ALL_UNEVEN:
    case EXCHANGE:
      for (const gd_message *m = c->list; n < c->count; m++, n++)
        pieces[n] = (gd_piece){
            .device = m->buffer, .bytes = m->bytes, .in = m->direction == GD_SEND, .out = m->direction == GD_RECEIVE};
      break;
  }
  return n;
}

static void point_to_pieces(call *c, const gd_piece *pieces, int32_t n) {
  size_t size = (size_t)c->group->base.size, *offsets = (size_t *)c->list + size;
  switch (c->kind) {
    case ALL_TO_ALL_UNEVEN:
    case EXCHANGE:
      for (int32_t i = 0; i < n; i++) ((gd_message *)c->list)[i].buffer = pieces[i].host;
      break;
    case ALL_GATHER_UNEVEN:
      for (size_t r = 0; r < size; r++) offsets[r] = (size_t)((char *)pieces[1 + r].host - (char *)pieces[1].host);
      c->send = pieces[0].host;
      c->recv = pieces[1].host;
      break;
    default:
      c->send = pieces[0].host;
      c->recv = pieces[n - 1].host;
      break;
  }
}

static gd_status enqueue_staged(gd_stream *stream, gd_stream_task *task, call *c) {
  gd_staging *staging = c->group->staging;
  gd_piece *pieces = malloc((size_t)count_pieces(c) * sizeof *pieces);
  if (!pieces) return gd_fail(GD_NO_MEMORY, "out of memory for the parts of %s", names[c->kind]);
  int32_t n = list_pieces(c, pieces);
  gd_status status = gd_staging_place(staging, stream, pieces, n);
  if (status == GD_OK) {
    point_to_pieces(c, pieces, n);
    status = gd_staging_call(staging, stream, names[c->kind], task, c, sizeof *c, pieces, n);
  }
  free(pieces);
  return status;
}

static gd_status enqueue(gd_stream *stream, gd_stream_task *task, call *c, void *output, size_t output_bytes) {
  gd_group *group = &c->group->base;
  c->sequence = c->kind == EXCHANGE ? ++group->messages : ++group->sequence;
  if (c->group->staging) return enqueue_staged(stream, task, c);
  return stream->device->ops->enqueue(stream, names[c->kind], task, c, sizeof *c, output_bytes ? output : NULL, output_bytes);
}

static gd_status mpi_all_gather(gd_group *group, gd_stream *stream, const void *send, void *recv, size_t bytes) {
  call c = {.group = (mpi_group *)group, .kind = ALL_GATHER, .send = send, .recv = recv, .bytes = bytes};
  /* In place, the output holds the input: nothing to poison. */
  size_t all = bytes * (size_t)group->size;
  bool in_place = send == offset(recv, (size_t)group->rank * bytes);
  gd_group_count_even(group, bytes);
  return enqueue(stream, run_even, &c, recv, in_place ? 0 : all);
}

static gd_status mpi_all_gather_uneven(gd_group *group, gd_stream *stream, const void *send, void *recv, const size_t *sizes,
                                       const size_t *offsets) {
  call c = {.group = (mpi_group *)group, .kind = ALL_GATHER_UNEVEN, .send = send, .recv = recv};
  size_t n = (size_t)group->size, *tables = malloc(2 * n * sizeof *tables);
  if (!tables) return gd_fail(GD_NO_MEMORY, "out of memory for the blocks of %s", names[c.kind]);
  memcpy(tables, sizes, n * sizeof *tables);
  memcpy(tables + n, offsets, n * sizeof *tables);
  c.list = tables;
  const gd_parts out = {.bytes = sizes[group->rank]}, in = {.sizes = sizes};
  gd_group_count_parts(group, &out, &in);
  /* The blocks may leave gaps that stay as they are, so the output is not named. */
  return enqueue(stream, run_all_gather_uneven, &c, NULL, 0);
}

static gd_status mpi_all_to_all(gd_group *group, gd_stream *stream, const void *send, void *recv, size_t bytes) {
  call c = {.group = (mpi_group *)group, .kind = ALL_TO_ALL, .send = send, .recv = recv, .bytes = bytes};
  gd_group_count_even(group, bytes);
  return enqueue(stream, run_even, &c, recv, bytes * (size_t)group->size);
}

/* Sizes differ between ranks here, so one rank cannot know whether the others' fit MPI_Alltoallv: always messages. */
static gd_status mpi_all_to_all_uneven(gd_group *group, gd_stream *stream, const void *send, const size_t *send_sizes,
                                       const size_t *send_offsets, void *recv, const size_t *recv_sizes,
                                       const size_t *recv_offsets) {
  call c = {.group = (mpi_group *)group, .kind = ALL_TO_ALL_UNEVEN};
  const gd_parts out = {.base = send, .sizes = send_sizes, .offsets = send_offsets};
  const gd_parts in = {.base = recv, .sizes = recv_sizes, .offsets = recv_offsets};
  gd_message *list;
  GD_TRY(gd_messages_of_parts(group, names[c.kind], &out, &in, &list, &c.count));
  c.list = list;
  gd_group_count_messages(group, list, c.count);
  return enqueue(stream, run_messages, &c, NULL, 0);
}

static gd_status mpi_broadcast(gd_group *group, gd_stream *stream, void *buffer, size_t bytes, int root) {
  call c = {.group = (mpi_group *)group, .kind = BROADCAST, .recv = buffer, .bytes = bytes, .root = root};
  if (root < 0 || root >= group->size)
    return gd_fail(GD_BUG, "%s: rank %d in group %s of %d ranks", names[c.kind], root, group->name, group->size);
  gd_group_count_broadcast(group, bytes, root);
  return enqueue(stream, run_even, &c, buffer, group->rank == root ? 0 : bytes);
}

static gd_status mpi_exchange(gd_group *group, gd_stream *stream, const gd_message *messages, int32_t count) {
  call c = {.group = (mpi_group *)group, .kind = EXCHANGE, .count = count};
  GD_TRY(gd_messages_check(group, names[c.kind], messages, count));
  size_t bytes = (size_t)count * sizeof *messages;
  c.list = malloc(bytes + 1);
  if (!c.list) return gd_fail(GD_NO_MEMORY, "out of memory for the messages of %s", names[c.kind]);
  if (count) memcpy(c.list, messages, bytes);
  gd_group_count_messages(group, messages, count);
  /* One output can be named: the first that is received. */
  const gd_message *in = messages, *end = messages + count;
  while (in < end && in->direction != GD_RECEIVE) in++;
  return enqueue(stream, run_messages, &c, in < end ? in->buffer : NULL, in < end ? in->bytes : 0);
}

static gd_status mpi_all_reduce(gd_group *group, gd_stream *stream, void *buffer, size_t elements, gd_dtype dtype,
                                gd_reduction op) {
  call c = {.group = (mpi_group *)group, .kind = ALL_REDUCE, .recv = buffer, .bytes = elements, .dtype = dtype, .op = op};
  if (element_type(dtype) == MPI_DATATYPE_NULL) return gd_fail(GD_BUG, "all_reduce of %s", gd_dtype_name(dtype));
  gd_group_count_even(group, elements * gd_dtype_bytes(dtype));
  return enqueue(stream, run_reduce, &c, NULL, 0);
}

static gd_status mpi_reduce_scatter(gd_group *group, gd_stream *stream, const void *send, void *recv, size_t elements_each,
                                    gd_dtype dtype, gd_reduction op) {
  call c = {.group = (mpi_group *)group, .kind = REDUCE_SCATTER, .send = send, .recv = recv, .bytes = elements_each};
  c.dtype = dtype;
  c.op = op;
  if (element_type(dtype) == MPI_DATATYPE_NULL) return gd_fail(GD_BUG, "reduce_scatter of %s", gd_dtype_name(dtype));
  size_t bytes = elements_each * gd_dtype_bytes(dtype);
  gd_group_count_even(group, bytes);
  return enqueue(stream, run_reduce, &c, recv, bytes);
}

static void mpi_destroy(gd_group *group) {
  mpi_group *own = (mpi_group *)group;
  if (own->comm != MPI_COMM_NULL) MPI_Comm_free(&own->comm);
  gd_group_close(group);
  free(own);
}

static const gd_collectives_ops mpi_ops = {
    .name = "mpi",
    .all_gather = mpi_all_gather,
    .all_gather_uneven = mpi_all_gather_uneven,
    .all_to_all = mpi_all_to_all,
    .all_to_all_uneven = mpi_all_to_all_uneven,
    .broadcast = mpi_broadcast,
    .exchange = mpi_exchange,
    .all_reduce = mpi_all_reduce,
    .reduce_scatter = mpi_reduce_scatter,
    .destroy = mpi_destroy,
};

gd_status gd_collectives_mpi_group(const char *name, int32_t color, int32_t key, gd_staging *staging, gd_group **out) {
  mpi_group *group = calloc(1, sizeof *group);
  if (!group) return gd_fail(GD_NO_MEMORY, "out of memory for group %s", name);
  group->base.ops = &mpi_ops;
  snprintf(group->base.name, sizeof group->base.name, "%s", name);
  group->comm = MPI_COMM_NULL;
  group->staging = staging;
  int rank = 0, size = 0;
  int code = MPI_Comm_split(MPI_COMM_WORLD, color, key, &group->comm);
  if (code == MPI_SUCCESS) code = MPI_Comm_set_errhandler(group->comm, MPI_ERRORS_RETURN);
  if (code == MPI_SUCCESS) code = MPI_Comm_rank(group->comm, &rank);
  if (code == MPI_SUCCESS) code = MPI_Comm_size(group->comm, &size);
  gd_status status = gd_mpi_fault(code, "MPI_Comm_split", name);
  if (status == GD_OK) status = gd_group_open(&group->base, rank, size);
  if (status != GD_OK) {
    mpi_destroy(&group->base);
    return status;
  }
  *out = &group->base;
  return GD_OK;
}
