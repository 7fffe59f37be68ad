/* collectives.h - moving bytes between the ranks of a group, on a stream.
 *
 * Back ends: collectives_self.c (one rank, no MPI), collectives_mpi.c, collectives_nccl.c. Every call but exchange is
 * collective over the group: all members make the same calls in the same order on that group. It returns once enqueued, and has
 * read its lists and tables by then; the data is there when the stream has passed it. Pointers are device pointers of the
 * stream's device; counts are bytes unless the name says elements. Send and receive buffers must not overlap except where IN
 * PLACE is allowed.
 *
 * Only all_reduce and reduce_scatter compute, and in an order of the back end's choice: the trainer asks them for maxima and
 * sums of integers, and in `numerics: fast` a group that `adds` for the sum of gradients; its other sums travel as they are and
 * are added by its reduce.c, reduce_gradients.c and gradient_norm.c.
 */
#ifndef GD_COMM_COLLECTIVES_H
#define GD_COMM_COLLECTIVES_H

#include <stddef.h>
#include <stdint.h>

#include "comm/device.h"
#include "shard/base/dtype.h"
#include "shard/base/status.h"

typedef enum gd_reduction { GD_SUM, GD_MAX } gd_reduction;

typedef struct gd_group gd_group;

typedef enum gd_direction { GD_SEND, GD_RECEIVE } gd_direction;

/* One message of an exchange: `bytes` of the buffer to a peer, or from it into the buffer. Zero bytes are allowed. */
typedef struct gd_message {
  gd_direction direction;
  int32_t peer; /* a rank of the group; may be my own */
  void *buffer; /* only read where it is sent */
  size_t bytes;
} gd_message;

typedef struct gd_collectives_ops {
  const char *name; /* "self", "mpi", "nccl" */
  /* recv[r * bytes ...] = send of rank r. IN PLACE: send == recv + rank * bytes. */
  gd_status (*all_gather)(gd_group *group, gd_stream *stream, const void *send, void *recv, size_t bytes);
  /* recv + offsets[r] = sizes[r] bytes of rank r; sizes and offsets have group->size entries, the same on every rank.
   * IN PLACE: send == recv + offsets[rank]. */
  gd_status (*all_gather_uneven)(gd_group *group, gd_stream *stream, const void *send, void *recv, const size_t *sizes,
                                 const size_t *offsets);
  /* recv[r * bytes] = rank r's send[my rank * bytes]. */
  gd_status (*all_to_all)(gd_group *group, gd_stream *stream, const void *send, void *recv, size_t bytes);
  gd_status (*all_to_all_uneven)(gd_group *group, gd_stream *stream, const void *send, const size_t *send_sizes,
                                 const size_t *send_offsets, void *recv, const size_t *recv_sizes, const size_t *recv_offsets);
  gd_status (*broadcast)(gd_group *group, gd_stream *stream, void *buffer, size_t bytes, int root);
  /* Point to point, not collective: only ranks that send or receive call it. All messages of a call progress together, so two
   * ranks may both send before they receive. For each pair of ranks and each direction the k-th message sent in a call is the
   * k-th received in the peer's call, and has its size; the calls of a pair match in order. */
  gd_status (*exchange)(gd_group *group, gd_stream *stream, const gd_message *messages, int32_t count);
  /* Everywhere: buffer[i] = reduction over ranks, in place. float32, int32 and int64. */
  gd_status (*all_reduce)(gd_group *group, gd_stream *stream, void *buffer, size_t elements, gd_dtype dtype, gd_reduction op);
  /* recv[0 .. elements_each) = reduction over ranks of send[my rank * elements_each ...]. float32. */
  gd_status (*reduce_scatter)(gd_group *group, gd_stream *stream, const void *send, void *recv, size_t elements_each,
                              gd_dtype dtype, gd_reduction op);
  void (*destroy)(gd_group *group);
} gd_collectives_ops;

/* What a group has moved: calls, and bytes by rank of the group; my own entry stays 0. It counts what a call means, when it is
 * made and whatever the back end makes of it:
 *   all_gather, all_gather_uneven   my part to each other rank, part r from rank r
 *   all_to_all, all_to_all_uneven   part r to rank r, and the part that it has for me from it
 *   broadcast                       the buffer from the root to each other rank
 *   exchange                        the messages
 *   all_reduce                      the buffer to and from each other rank, since it enters everybody's result
 *   reduce_scatter                  the elements_each of a rank's result to it, and as many of mine from it */
typedef struct gd_traffic {
  int64_t calls;
  int64_t *sent, *received; /* size entries each */
} gd_traffic;

struct gd_group {
  const gd_collectives_ops *ops;
  int32_t rank; /* mine in the group */
  int32_t size;
  bool adds;         /* reduce_scatter adds on its way and on the device, in one order for one layout on one set of machines */
  char name[32];     /* for hang reports: "world", "data", "tensor", "data+tensor" */
  uint64_t sequence; /* collective calls made so far */
  uint64_t messages; /* exchanges made so far: numbered apart, since not every member makes them */
  gd_traffic traffic;
  /* Of a group that is watched (calls.h): `ops` writes calls down and goes on to `inner`, the back end's own. Else NULL. */
  const gd_collectives_ops *inner;
  struct gd_calls_group *calls;
};

/* Copies what was counted into *calls and the `size` entries of sent and received (NULL: not wanted) and begins at 0 again. On
 * the thread that makes the calls. Local. */
void gd_group_take_traffic(gd_group *group, int64_t *calls, int64_t *sent, int64_t *received);

/* Every collective back end calls this as it starts and ends a call on a group, so that a hang report can name it. The
 * session sets the function; NULL (the start value) does nothing. `call` is a static text; `end` false then true. */
typedef void gd_collectives_trace(const gd_group *group, const char *call, uint64_t sequence, bool end);
extern gd_collectives_trace *gd_collectives_trace_hook;

/* Sees a call of a group on the thread that makes it: before it is enqueued on the stream, and behind it (`end`), where what it
 * moves has been counted. What it enqueues there lies around the call. */
typedef gd_status gd_call_seen(void *context, const gd_group *group, const char *call, gd_stream *stream, bool end);

/* A group of one. Local. */
GD_CHECKED gd_status gd_collectives_self_group(const char *name, gd_group **out);

#endif
