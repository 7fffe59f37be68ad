/* calls.h - what this process has asked of its groups. A table of collectives over that of any back end writes each call down
 * in a ring before it makes it, and the back end's trace (collectives.h) adds when it began and ended. All that hang reports,
 * heartbeats and the comparison of ranks (desync.h) know of calls comes from here.
 *
 * Ranks that disagree about a call of a group (another operation, count, dtype, root, peer) may go on with wrong sums. So each
 * rank also keeps a digest of its calls: over all ranks of the job the digests sum to 0 modulo 2^40 as long as the members of
 * every group have made the same collectives and each message has two ends of one size. A member's share of a group is its hash
 * of the group's collectives times its weight, and the weights of a group sum to 0; a message counts once with its sender and
 * once, negative, with its receiver. Another sum than 0 proves a difference, and one difference escapes with probability 2^-40.
 * Private to comm/. */
#ifndef GD_COMM_CALLS_H
#define GD_COMM_CALLS_H

#include <pthread.h>

#include "comm/collectives.h"
#include "comm/watchdog.h"

enum { GD_CALLS = 4096, GD_CALLS_ENTRIES = 256 };

typedef enum gd_call_kind {
  GD_CALL_ALL_GATHER,
  GD_CALL_ALL_GATHER_UNEVEN,
  GD_CALL_ALL_TO_ALL,
  GD_CALL_ALL_TO_ALL_UNEVEN,
  GD_CALL_BROADCAST,
  GD_CALL_ALL_REDUCE,
  GD_CALL_REDUCE_SCATTER,
  GD_CALL_AGREE, /* of the session alone, as the next */
  GD_CALL_BARRIER,
  GD_CALL_SEND, /* each message of an exchange, and of an all_to_all_uneven, is a call of its own behind it */
  GD_CALL_RECEIVE,
  GD_CALL_KINDS
} gd_call_kind;

/* One call. `duration_us` aside it is what all members of a group say alike of a collective; of a message, sender and receiver
 * with each other as the peer. It travels between ranks as it is. */
typedef struct gd_call {
  uint64_t number; /* of a group's collectives; of the messages from one rank of it to another; from 1 */
  uint64_t size;   /* elements of dtype where it reduces, else bytes: as the argument says it; uneven parts: of all together */
  int32_t peer;    /* root, or the message's other end: a rank of the group; else -1 */
  uint32_t parts;  /* hash of the sizes of uneven parts; else 0 */
  uint32_t duration_us; /* UINT32_MAX: it has not ended, or nobody measured */
  uint8_t kind, dtype, reduction;
  uint8_t entry; /* which group of the session */
} gd_call;

typedef struct gd_call_record {
  gd_call call;
  uint64_t traced;           /* its number in hang reports: exchanges are numbered apart */
  double made, begun, ended; /* gd_machine_seconds(); 0: not yet */
} gd_call_record;

/* One group. */
typedef struct gd_calls_group {
  struct gd_calls *calls;
  gd_group *group; /* NULL: the session's own calls */
  char name[32];
  int32_t entry, leader, rank, size;
  uint64_t collectives;      /* made so far */
  uint64_t hash, weight;     /* of its collectives; mine */
  uint64_t *sent, *received; /* [size]: messages so far */
  gd_beat_group beat;        /* the newest call that has begun */
} gd_calls_group;

typedef struct gd_calls {
  pthread_mutex_t lock; /* of all below */
  gd_call_record ring[GD_CALLS];
  uint64_t made;     /* record i of all lies at i % GD_CALLS */
  uint64_t messages; /* the messages' share of the digest */
  gd_calls_group *group[GD_CALLS_ENTRIES];
  int32_t last;       /* group of the newest call that has begun; -1: none */
  int64_t changed_ms; /* when a call began or ended last */
  gd_call_seen *seen; /* NULL: nobody looks; of the thread that makes the calls */
  void *seen_context;
} gd_calls;

void gd_calls_open(gd_calls *calls);
void gd_calls_close(gd_calls *calls);

/* Puts the table over that of a new group (NULL: calls of the session itself, of `size` ranks). `leader`: the job's rank of its
 * member 0; `entry` names the group in every rank alike. The group must not have made a call yet. GD_NO_MEMORY. Local. */
GD_CHECKED gd_status gd_calls_watch(gd_calls *calls, int32_t entry, const char *name, gd_group *group, int32_t leader,
                                    int32_t rank, int32_t size);

/* A call of the session itself. */
void gd_calls_begin(gd_calls *calls, int32_t entry, gd_call_kind kind, size_t bytes, int32_t root);
void gd_calls_end(gd_calls *calls, int32_t entry);

/* A gd_collectives_trace. */
void gd_calls_trace(gd_calls *calls, const gd_group *group, const char *call, uint64_t sequence, bool end);

/* This rank's share of the sum that is 0 modulo 2^40: from 0 to 2^40 - 1. */
int64_t gd_calls_digest(gd_calls *calls);

/* Fills the groups and `last` of a heartbeat; returns when a call began or ended last. */
int64_t gd_calls_beat(gd_calls *calls, gd_beat *out);

/* The newest calls, oldest first, at most `room`; *first = how many were made before. Returns their number. */
int32_t gd_calls_copy(gd_calls *calls, gd_call *out, int32_t room, uint64_t *first);

const char *gd_call_name(uint8_t kind);
bool gd_call_is_message(const gd_call *call);
/* "all_reduce of 3 int64, max", "send of 4096 bytes to rank 1 of the group". */
void gd_call_text(const gd_call *call, char *out, size_t bytes);
/* Whether a member of a group that says `a` and one that says `b` say the same. */
bool gd_call_same(const gd_call *a, const gd_call *b);

/* The newest `count` calls as debug lines of the log, with times relative to now: for who looks at a fault. */
void gd_calls_log(gd_calls *calls, int32_t count);

#endif
