/* group.h - what the back ends of collectives.h share: counters, lists of messages. Compiled into the programs and, as a copy
 * of its own, into libgptdist-cuda.so. Private to comm/. */
#ifndef GD_COMM_GROUP_H
#define GD_COMM_GROUP_H

#include <stdbool.h>

#include "comm/collectives.h"

/* Fills rank, size and the counters. GD_NO_MEMORY. */
GD_CHECKED gd_status gd_group_open(gd_group *group, int32_t rank, int32_t size);
void gd_group_close(gd_group *group);

/* Checks that every peer is in the group, and that my messages to myself pair up: the k-th sent is the k-th received, of the
 * same size. GD_BUG. */
GD_CHECKED gd_status gd_messages_check(const gd_group *group, const char *call, const gd_message *messages, int32_t count);

/* A message to myself and where it goes: these do not travel, the back end copies them. */
typedef struct gd_own_message {
  const gd_message *send, *receive;
} gd_own_message;
/* The next one of a list that was checked; both members are NULL at first. False: there is no more. */
bool gd_messages_next_own(const gd_group *group, const gd_message *messages, int32_t count, gd_own_message *own);

/* A buffer in one part a rank: part r is sizes[r] bytes at offsets[r]; without these tables, `bytes` at r * stride. */
typedef struct gd_parts {
  const void *base; /* written where it is received */
  const size_t *sizes, *offsets;
  size_t bytes, stride;
} gd_parts;

/* Each of these counts one call, and what it moves to and from the others (gd_traffic). */
void gd_group_count_parts(gd_group *group, const gd_parts *sent, const gd_parts *received);
void gd_group_count_even(gd_group *group, size_t bytes); /* as many to and from each */
void gd_group_count_broadcast(gd_group *group, size_t bytes, int32_t root);
void gd_group_count_messages(gd_group *group, const gd_message *messages, int32_t count);

/* Sends every rank its part and receives a part from each, as a new list of *count messages; the caller frees it. Empty parts
 * are left out. Each rank begins with itself and goes on with another peer, so that not all start with the same one.
 * GD_NO_MEMORY; GD_BUG where my part for myself has two sizes. */
GD_CHECKED gd_status gd_messages_of_parts(const gd_group *group, const char *call, const gd_parts *send,
                                          const gd_parts *receive, gd_message **out, int32_t *count);

#endif
