/* nccl_moves.c - what moves between the communicators of the fake NCCL, where FAKE_NCCL_MOVES=1 asks for it: processes of one
 * host, through a file that all map. A file has a box for each pair of ranks, of which one side writes and the other reads. */
#include "tests/gpu/fake/nccl_moves.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { BOX_BYTES = 1 << 16 };

typedef struct box {
  _Atomic unsigned written, read; /* parts so far; at most one is under way */
  char part[BOX_BYTES];
} box;

struct fake_room {
  int rank, ranks;
  box *boxes; /* [from][to] */
  char path[256];
};

static box *box_of(const fake_room *room, int from, int to) {
  return &room->boxes[from * room->ranks + to];
}

static size_t room_bytes(const fake_room *room) {
  return (size_t)(room->ranks * room->ranks) * sizeof(box);
}

/* A part of a message, where its box is ready. */
static bool advance(const fake_room *room, fake_message *m) {
  box *b = m->send ? box_of(room, room->rank, m->peer) : box_of(room, m->peer, room->rank);
  size_t left = m->bytes - m->done, part = left < BOX_BYTES ? left : BOX_BYTES;
  unsigned written = atomic_load(&b->written), read = atomic_load(&b->read);
  if (m->send ? written != read : written == read) return false;
  if (m->send)
    memcpy(b->part, m->buffer + m->done, part);
  else
    memcpy(m->buffer + m->done, b->part, part);
  m->done += part;
  if (m->send)
    atomic_store(&b->written, written + 1);
  else
    atomic_store(&b->read, read + 1);
  return true;
}

/* Messages of a pair in a direction go one after the other. */
static bool is_next(const fake_message *messages, int at) {
  for (int i = 0; i < at; i++)
    if (messages[i].peer == messages[at].peer && messages[i].send == messages[at].send && messages[i].done < messages[i].bytes)
      return false;
  return messages[at].done < messages[at].bytes;
}

void fake_room_run(const fake_room *room, fake_message *messages, int count, const int *aborted) {
  const struct timespec pause = {0, 20000};
  for (bool left = true; left && !__atomic_load_n(aborted, __ATOMIC_ACQUIRE);) {
    bool moved = false;
    left = false;
    for (int i = 0; i < count; i++) {
      if (is_next(messages, i)) moved |= advance(room, &messages[i]);
      left |= messages[i].done < messages[i].bytes;
    }
    if (left && !moved) nanosleep(&pause, NULL);
  }
}

void fake_room_gather(const fake_room *room, const void *mine, size_t stride, void *everyone, size_t bytes,
                      const int *aborted) {
  fake_message *messages = calloc(2 * (size_t)room->ranks, sizeof *messages);
  int count = 0;
  for (int r = 0; r < room->ranks; r++) {
    char *from = (char *)(uintptr_t)mine + (size_t)r * stride, *to = (char *)everyone + (size_t)r * bytes;
    if (r == room->rank && from != to) memmove(to, from, bytes);
    if (r == room->rank) continue;
    messages[count++] = (fake_message){true, r, from, bytes, 0};
    messages[count++] = (fake_message){false, r, to, bytes, 0};
  }
  fake_room_run(room, messages, count, aborted);
  free(messages);
}

#define ADD(type)                                                      \
  for (size_t i = 0; i < count; i++) {                                 \
    type a = ((const type *)from)[i], b = ((type *)to)[i];             \
    ((type *)to)[i] = op == ncclMax ? (a > b ? a : b) : (type)(b + a); \
  }

static void add(void *to, const void *from, size_t count, ncclDataType_t type, ncclRedOp_t op) {
  if (type == ncclFloat32) ADD(float)
  if (type == ncclInt32) ADD(int)
  if (type == ncclInt64) ADD(long long)
}

void fake_room_add(void *all, int ranks, size_t count, ncclDataType_t type, ncclRedOp_t op, bool tree) {
  size_t bytes = count * (type == ncclInt64 ? 8 : 4);
  int half = 1;
  for (int r = 1; !tree && r < ranks; r++) add(all, (char *)all + (size_t)r * bytes, count, type, op);
  if (ranks < 2 || !tree) return;
  while (2 * half < ranks) half *= 2;
  char *high = (char *)all + (size_t)half * bytes;
  fake_room_add(all, half, count, type, op, tree);
  fake_room_add(high, ranks - half, count, type, op, tree);
  add(all, high, count, type, op);
}

fake_room *fake_room_open(const char *name, int rank, int ranks) {
  static const int never;
  fake_room *room = calloc(1, sizeof *room);
  room->rank = rank;
  room->ranks = ranks;
  snprintf(room->path, sizeof room->path, "/dev/shm/fake-nccl-%s", name);
  int file = open(room->path, O_CREAT | O_RDWR, 0600);
  if (file < 0 || ftruncate(file, (off_t)room_bytes(room)) != 0) abort();
  room->boxes = mmap(NULL, room_bytes(room), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (room->boxes == MAP_FAILED) abort();
  close(file);
  char mine = 0, *everyone = calloc(1, (size_t)ranks);
  fake_room_gather(room, &mine, 0, everyone, 1, &never);
  free(everyone);
  (void)unlink(room->path); /* everybody has it */
  return room;
}

void fake_room_close(fake_room *room) {
  if (!room) return;
  munmap(room->boxes, room_bytes(room));
  free(room);
}
