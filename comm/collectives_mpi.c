/* collectives_mpi.c - collectives in host memory over MPI. A call becomes one task of its stream, so that it runs in stream
 * order: on the communication thread, inline, or on the lazy device when it is waited for. Each group has its own
 * communicator. MPI counts are int: a block above the limit travels as one element of a derived type. */
#include "comm/collectives_mpi.h"

#include <mpi.h>

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

size_t gd_collectives_mpi_count_limit = INT_MAX;

typedef struct mpi_group {
  gd_group base;
  MPI_Comm comm;
  uint64_t messages; /* sends and receives so far: they are counted apart, since not every member makes them */
} mpi_group;

typedef enum call_kind {
  ALL_GATHER,
  ALL_GATHER_UNEVEN,
  ALL_TO_ALL,
  ALL_TO_ALL_UNEVEN,
  SCATTER,
  GATHER,
  BROADCAST,
  SEND,
  RECEIVE,
  ALL_REDUCE,
  REDUCE_SCATTER
} call_kind;

static const char *const names[] = {"all_gather",    "all_gather_uneven", "all_to_all", "all_to_all_uneven", "scatter",
                                    "gather",        "broadcast",         "send",       "receive",           "all_reduce",
                                    "reduce_scatter"};

/* The arguments of every task. Uneven calls carry a heap array of 4 * size entries: the send sizes, send offsets, receive
 * sizes and receive offsets; the task frees it (a stream that has
 * failed runs no task, and the process ends soon after). */
typedef struct call {
  mpi_group *group;
  call_kind kind;
  uint64_t sequence;
  const void *send;
  void *recv;
  size_t bytes; /* or elements */
  size_t *blocks;
  gd_dtype dtype;
  gd_reduction op;
  int peer; /* root, to, from */
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
  return gd_mpi_fault(code, names[c->kind], c->group->base.name);
}

static const char *offset(const void *base, size_t bytes) {
  return (const char *)base + bytes;
}

/* The tasks. */

static gd_status run_even(void *arguments) {
  const call *c = arguments;
  const mpi_group *group = c->group;
  size_t rank = (size_t)group->base.rank;
  bool root = group->base.rank == c->peer;
  trace(c, false);
  block b;
  int code = block_open(c->bytes, &b);
  if (code == MPI_SUCCESS) {
    void *recv = c->recv;
    const void *send = c->send;
    bool gathers = c->kind == ALL_GATHER || (c->kind == GATHER && root);
    if (gathers && send == offset(recv, rank * c->bytes)) send = MPI_IN_PLACE;
    if (c->kind == SCATTER && root && recv == offset(send, rank * c->bytes)) recv = MPI_IN_PLACE;
    MPI_Request request;
    MPI_Comm comm = group->comm;
    switch (c->kind) {
      case ALL_GATHER: code = MPI_Iallgather(send, b.count, b.type, recv, b.count, b.type, comm, &request); break;
      case ALL_TO_ALL: code = MPI_Ialltoall(send, b.count, b.type, recv, b.count, b.type, comm, &request); break;
      case SCATTER: code = MPI_Iscatter(send, b.count, b.type, recv, b.count, b.type, c->peer, comm, &request); break;
      case GATHER: code = MPI_Igather(send, b.count, b.type, recv, b.count, b.type, c->peer, comm, &request); break;
      case BROADCAST: code = MPI_Ibcast(recv, b.count, b.type, c->peer, comm, &request); break;
      case SEND: code = MPI_Isend(send, b.count, b.type, c->peer, 0, comm, &request); break;
      default: code = MPI_Irecv(recv, b.count, b.type, c->peer, 0, comm, &request); break;
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

/* All-to-all of blocks of any size: every non-empty block is one message. */
static int exchange(const call *c, const size_t *send_sizes, const size_t *send_offsets, const size_t *recv_sizes,
                    const size_t *recv_offsets) {
  int n = c->group->base.size, me = c->group->base.rank, open = 0, code = MPI_SUCCESS;
  MPI_Request *requests = malloc(2 * (size_t)n * sizeof *requests);
  if (!requests) return MPI_ERR_NO_MEM;
  for (int step = 0; step < n && code == MPI_SUCCESS; step++) {
    int from = (me - step + n) % n, to = (me + step) % n;
    void *target = (char *)c->recv + recv_offsets[from];
    const char *source = offset(c->send, send_offsets[to]);
    if (step == 0) {
      if (send_sizes[me] && source != target) memcpy(target, source, send_sizes[me]);
      continue;
    }
    block b;
    if (recv_sizes[from]) {
      code = block_open(recv_sizes[from], &b);
      if (code == MPI_SUCCESS) code = MPI_Irecv(target, b.count, b.type, from, 1, c->group->comm, &requests[open]);
      if (code == MPI_SUCCESS) open++;
      block_close(&b);
    }
    if (send_sizes[to] && code == MPI_SUCCESS) {
      code = block_open(send_sizes[to], &b);
      if (code == MPI_SUCCESS) code = MPI_Isend(source, b.count, b.type, to, 1, c->group->comm, &requests[open]);
      if (code == MPI_SUCCESS) open++;
      block_close(&b);
    }
  }
  for (int i = 0; i < open; i++) {
    int ended = gd_mpi_finish(MPI_SUCCESS, &requests[i]);
    if (code == MPI_SUCCESS) code = ended;
  }
  free(requests);
  return code;
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

static gd_status run_uneven(void *arguments) {
  const call *c = arguments;
  int n = c->group->base.size, me = c->group->base.rank, code;
  const size_t *send_sizes = c->blocks, *send_offsets = send_sizes + n, *recv_sizes = send_offsets + n;
  const size_t *recv_offsets = recv_sizes + n;
  bool gathers = c->kind == ALL_GATHER_UNEVEN;
  trace(c, false);
  int *counts = malloc(4 * (size_t)n * sizeof *counts);
  int *recv_counts = counts + n, *send_places = recv_counts + n, *recv_places = send_places + n;
  if (!counts) {
    code = MPI_ERR_NO_MEM;
  } else if (gathers) {
    /* Whether the blocks fit is the same on every rank: all have the same sizes and offsets. */
    if (as_ints(recv_sizes, recv_offsets, n, recv_counts, recv_places)) {
      const void *send = c->send == offset(c->recv, recv_offsets[me]) ? MPI_IN_PLACE : c->send;
      MPI_Request request;
      code = MPI_Iallgatherv(send, recv_counts[me], MPI_BYTE, c->recv, recv_counts, recv_places, MPI_BYTE, c->group->comm,
                             &request);
      code = gd_mpi_finish(code, &request);
    } else {
      code = broadcasts(c, recv_sizes, recv_offsets);
    }
  } else {
    /* Sizes differ between ranks here, so one rank cannot know whether the others' fit MPI_Alltoallv: always messages. */
    code = exchange(c, send_sizes, send_offsets, recv_sizes, recv_offsets);
  }
  free(counts);
  free(c->blocks);
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

static gd_status enqueue(gd_stream *stream, gd_stream_task *task, call *c, void *output, size_t output_bytes) {
  bool alone = c->kind == SEND || c->kind == RECEIVE;
  c->sequence = alone ? ++c->group->messages : ++c->group->base.sequence;
  return stream->device->ops->enqueue(stream, task, c, sizeof *c, output_bytes ? output : NULL, output_bytes);
}

static gd_status check_rank(const gd_group *group, const char *name, int rank) {
  if (rank >= 0 && rank < group->size) return GD_OK;
  return gd_fail(GD_BUG, "%s: rank %d in group %s of %d ranks", name, rank, group->name, group->size);
}

static gd_status mpi_all_gather(gd_group *group, gd_stream *stream, const void *send, void *recv, size_t bytes) {
  call c = {.group = (mpi_group *)group, .kind = ALL_GATHER, .send = send, .recv = recv, .bytes = bytes};
  /* In place, the output holds the input: nothing to poison. */
  size_t all = bytes * (size_t)group->size;
  bool in_place = send == offset(recv, (size_t)group->rank * bytes);
  return enqueue(stream, run_even, &c, recv, in_place ? 0 : all);
}

static gd_status mpi_all_to_all(gd_group *group, gd_stream *stream, const void *send, void *recv, size_t bytes) {
  call c = {.group = (mpi_group *)group, .kind = ALL_TO_ALL, .send = send, .recv = recv, .bytes = bytes};
  return enqueue(stream, run_even, &c, recv, bytes * (size_t)group->size);
}

static gd_status mpi_scatter(gd_group *group, gd_stream *stream, const void *send, void *recv, size_t bytes, int root) {
  call c = {.group = (mpi_group *)group, .kind = SCATTER, .send = send, .recv = recv, .bytes = bytes, .peer = root};
  GD_TRY(check_rank(group, names[c.kind], root));
  bool in_place = group->rank == root && recv == offset(send, (size_t)root * bytes);
  return enqueue(stream, run_even, &c, recv, in_place ? 0 : bytes);
}

static gd_status mpi_gather(gd_group *group, gd_stream *stream, const void *send, void *recv, size_t bytes, int root) {
  call c = {.group = (mpi_group *)group, .kind = GATHER, .send = send, .recv = recv, .bytes = bytes, .peer = root};
  GD_TRY(check_rank(group, names[c.kind], root));
  bool writes = group->rank == root && send != offset(recv, (size_t)root * bytes);
  return enqueue(stream, run_even, &c, recv, writes ? bytes * (size_t)group->size : 0);
}

static gd_status mpi_broadcast(gd_group *group, gd_stream *stream, void *buffer, size_t bytes, int root) {
  call c = {.group = (mpi_group *)group, .kind = BROADCAST, .send = buffer, .recv = buffer, .bytes = bytes, .peer = root};
  GD_TRY(check_rank(group, names[c.kind], root));
  return enqueue(stream, run_even, &c, buffer, group->rank == root ? 0 : bytes);
}

static gd_status mpi_send(gd_group *group, gd_stream *stream, const void *buffer, size_t bytes, int to) {
  call c = {.group = (mpi_group *)group, .kind = SEND, .send = buffer, .bytes = bytes, .peer = to};
  GD_TRY(check_rank(group, names[c.kind], to));
  return enqueue(stream, run_even, &c, NULL, 0);
}

static gd_status mpi_receive(gd_group *group, gd_stream *stream, void *buffer, size_t bytes, int from) {
  call c = {.group = (mpi_group *)group, .kind = RECEIVE, .recv = buffer, .bytes = bytes, .peer = from};
  GD_TRY(check_rank(group, names[c.kind], from));
  return enqueue(stream, run_even, &c, buffer, bytes);
}

/* The caller's arrays are read now; the task reads this copy. NULL send sizes: the receive ones (all-gather). */
static gd_status copy_blocks(call *c, const size_t *send_sizes, const size_t *send_offsets, const size_t *recv_sizes,
                             const size_t *recv_offsets) {
  size_t n = (size_t)c->group->base.size, bytes = n * sizeof(size_t);
  c->blocks = calloc(4 * n, sizeof(size_t));
  if (!c->blocks) return gd_fail(GD_NO_MEMORY, "out of memory for the blocks of %s", names[c->kind]);
  if (send_sizes) memcpy(c->blocks, send_sizes, bytes);
  if (send_offsets) memcpy(c->blocks + n, send_offsets, bytes);
  memcpy(c->blocks + 2 * n, recv_sizes, bytes);
  memcpy(c->blocks + 3 * n, recv_offsets, bytes);
  return GD_OK;
}

static gd_status mpi_all_gather_uneven(gd_group *group, gd_stream *stream, const void *send, void *recv, const size_t *sizes,
                                       const size_t *offsets) {
  call c = {.group = (mpi_group *)group, .kind = ALL_GATHER_UNEVEN, .send = send, .recv = recv};
  GD_TRY(copy_blocks(&c, NULL, NULL, sizes, offsets));
  /* The blocks may leave gaps that stay as they are, so the output is not named. */
  return enqueue(stream, run_uneven, &c, NULL, 0);
}

static gd_status mpi_all_to_all_uneven(gd_group *group, gd_stream *stream, const void *send, const size_t *send_sizes,
                                       const size_t *send_offsets, void *recv, const size_t *recv_sizes,
                                       const size_t *recv_offsets) {
  call c = {.group = (mpi_group *)group, .kind = ALL_TO_ALL_UNEVEN, .send = send, .recv = recv};
  GD_TRY(copy_blocks(&c, send_sizes, send_offsets, recv_sizes, recv_offsets));
  return enqueue(stream, run_uneven, &c, NULL, 0);
}

static gd_status mpi_all_reduce(gd_group *group, gd_stream *stream, void *buffer, size_t elements, gd_dtype dtype,
                                gd_reduction op) {
  call c = {.group = (mpi_group *)group, .kind = ALL_REDUCE, .recv = buffer, .bytes = elements, .dtype = dtype, .op = op};
  if (element_type(dtype) == MPI_DATATYPE_NULL) return gd_fail(GD_BUG, "all_reduce of %s", gd_dtype_name(dtype));
  return enqueue(stream, run_reduce, &c, NULL, 0);
}

static gd_status mpi_reduce_scatter(gd_group *group, gd_stream *stream, const void *send, void *recv, size_t elements_each,
                                    gd_dtype dtype, gd_reduction op) {
  call c = {.group = (mpi_group *)group, .kind = REDUCE_SCATTER, .send = send, .recv = recv, .bytes = elements_each};
  c.dtype = dtype;
  c.op = op;
  if (element_type(dtype) == MPI_DATATYPE_NULL) return gd_fail(GD_BUG, "reduce_scatter of %s", gd_dtype_name(dtype));
  return enqueue(stream, run_reduce, &c, recv, elements_each * gd_dtype_bytes(dtype));
}

static void mpi_destroy(gd_group *group) {
  mpi_group *own = (mpi_group *)group;
  if (own->comm != MPI_COMM_NULL) MPI_Comm_free(&own->comm);
  free(own);
}

static const gd_collectives_ops mpi_ops = {
    .name = "mpi",
    .all_gather = mpi_all_gather,
    .all_gather_uneven = mpi_all_gather_uneven,
    .all_to_all = mpi_all_to_all,
    .all_to_all_uneven = mpi_all_to_all_uneven,
    .scatter = mpi_scatter,
    .gather = mpi_gather,
    .broadcast = mpi_broadcast,
    .send = mpi_send,
    .receive = mpi_receive,
    .all_reduce = mpi_all_reduce,
    .reduce_scatter = mpi_reduce_scatter,
    .destroy = mpi_destroy,
};

gd_status gd_collectives_mpi_group(const char *name, int32_t color, int32_t key, gd_group **out) {
  mpi_group *group = calloc(1, sizeof *group);
  if (!group) return gd_fail(GD_NO_MEMORY, "out of memory for group %s", name);
  group->base.ops = &mpi_ops;
  snprintf(group->base.name, sizeof group->base.name, "%s", name);
  group->comm = MPI_COMM_NULL;
  int rank = 0, size = 0;
  int code = MPI_Comm_split(MPI_COMM_WORLD, color, key, &group->comm);
  if (code == MPI_SUCCESS) code = MPI_Comm_set_errhandler(group->comm, MPI_ERRORS_RETURN);
  if (code == MPI_SUCCESS) code = MPI_Comm_rank(group->comm, &rank);
  if (code == MPI_SUCCESS) code = MPI_Comm_size(group->comm, &size);
  gd_status status = gd_mpi_fault(code, "MPI_Comm_split", name);
  if (status != GD_OK) {
    mpi_destroy(&group->base);
    return status;
  }
  group->base.rank = rank;
  group->base.size = size;
  *out = &group->base;
  return GD_OK;
}
