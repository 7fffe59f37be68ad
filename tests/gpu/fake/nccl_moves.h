/* nccl_moves.h - how communicators of the fake NCCL reach each other. */
#ifndef GD_TESTS_GPU_FAKE_NCCL_MOVES_H
#define GD_TESTS_GPU_FAKE_NCCL_MOVES_H

#include <nccl.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct fake_room fake_room;

typedef struct fake_message {
  bool send;
  int peer;
  char *buffer;
  size_t bytes, done;
} fake_message;

/* Waits for all ranks of that name. */
fake_room *fake_room_open(const char *name, int rank, int ranks);
void fake_room_close(fake_room *room);
/* Until all messages are through, or *aborted. */
void fake_room_run(const fake_room *room, fake_message *messages, int count, const int *aborted);
/* everyone[r * bytes] = rank r's mine[my rank * stride]; stride 0: the same for everybody. */
void fake_room_gather(const fake_room *room, const void *mine, size_t stride, void *everyone, size_t bytes, const int *aborted);
/* all[0 .. count) = the reduction over all[r * count ...]: a tree over the ranks, neighbours first, which is one order of many
 * that NCCL may have and that of `numerics: fast` elsewhere; or one rank after the other. */
void fake_room_add(void *all, int ranks, size_t count, ncclDataType_t type, ncclRedOp_t op, bool tree);

#endif
