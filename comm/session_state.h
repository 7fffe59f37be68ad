/* session_state.h - the inside of gd_session, shared by session.c (start and end), session_control.c (the control thread,
 * agreement), session_calls.c (calls that differ), session_leave.c and session_takeover.c (the way out), session_gpu.c (whether
 * GPUs are used) and session_device.c (device and groups). */
#ifndef GD_COMM_SESSION_STATE_H
#define GD_COMM_SESSION_STATE_H

#include <pthread.h>
#include <stdbool.h>

#include "comm/calls.h"
#include "comm/control.h"
#include "comm/cuda_backend.h"
#include "comm/session.h"
#include "comm/staging.h"
#include "comm/watchdog.h"
#include "shard/base/log.h"

/* A group the session made. The first two entries stand for its own calls and have no gd_group. */
enum { GD_SESSION_GROUPS = 256 }; /* hang reports tell the first GD_WATCH_GROUPS of them apart */

typedef struct gd_session_entry {
  gd_group *group;
  gd_mesh mesh;
  uint32_t axes;
  int32_t *leader; /* rank -> lowest rank of its group; NULL: all ranks */
} gd_session_entry;

/* One gd_session_share. */
typedef struct gd_session_memory {
  void *at;
  size_t bytes;
  bool mapped; /* else from calloc */
  struct gd_session_memory *next;
} gd_session_memory;

/* A warning and who said it, oldest first. */
enum { GD_SESSION_WARNINGS = 64, GD_SESSION_WARNING_BYTES = 1024 };
typedef struct gd_warning {
  char text[GD_SESSION_WARNING_BYTES];
  int64_t since_ms;
  bool said_here; /* rank 0: by itself */
  int32_t ranks;  /* 0: the place is free */
  int32_t *rank;
} gd_warning;

struct gd_session {
  int32_t rank, ranks, local_rank, local_ranks;
  int32_t local_leader; /* the lowest rank of this host */
  int32_t threads;      /* cores for this rank */
  char host[64];
  bool mpi;

  gd_session_memory *shared; /* the last one first */

  /* Groups and device. */
  gd_session_entry entry[GD_SESSION_GROUPS];
  int32_t entries;
  gd_device device;
  bool device_open;                  /* also under beat_lock: the control thread looks at the device's streams */
  const gd_cuda_backend_table *cuda; /* NULL on a CPU device */
  void *cuda_library;
  gd_group *cuda_world;
  gd_staging *staging; /* of the device, where groups of GPUs go over MPI; else NULL */

  gd_calls calls; /* of all groups; has a lock of its own */

  /* My heartbeat, but for its calls; written by the main and the communication thread, read by the control thread. */
  pthread_mutex_t beat_lock;
  gd_beat beat;
  int64_t changed_ms;
  uint64_t work;            /* gd_progress_count() when it was last looked at */
  _Atomic int64_t stood_ms; /* it stood still for so long, which nobody was told yet */

  /* Rank 0: what all have said; the others: what is not sent yet. */
  pthread_mutex_t warn_lock;
  gd_warning warnings[GD_SESSION_WARNINGS];

  /* The control channel; everything below is under `lock`. */
  pthread_mutex_t lock;
  pthread_cond_t changed;
  pthread_t thread;
  bool thread_running, stop;
  int wake[2];                /* a pipe: a byte wakes the thread */
  int *sockets;               /* rank 0: one a rank, own -1; others: sockets[0] */
  gd_message_reader *readers; /* one a socket */
  bool *finished;             /* one a socket: said goodbye */
  int32_t watchdog_ms;
  int64_t start_deadline_ms;

  uint64_t rounds;    /* verdicts so far */
  int32_t votes;      /* rank 0: of the round under way */
  int32_t worst_rank; /* rank 0: -1 none */
  gd_error worst, verdict;

  gd_watch watch;    /* rank 0: what all last said; others: what rank 0 last said, and everybody's host */
  int32_t trips;     /* consecutive checks that found the job stuck */
  bool calls_differ; /* as a vote says */
  bool ends;         /* rank 0: with own_fatal, which the thread is to lead out with */
  gd_error own_fatal;
  bool ranks_waits; /* rank 0: the thread is to log who was waited for */

  /* Ranks other than 0: should rank 0 be lost. */
  uint8_t key[GD_CONTROL_KEY_BYTES];
  int reserved;         /* the port where I can be called then; nobody listens there before */
  gd_contact *contacts; /* everybody's, one a rank; NULL: not exchanged yet */

  char log_place[256]; /* "": not known */
  void (*exit_hook)(void *context, gd_status code, const char *text);
  void *exit_context;
};

/* session_leave.c */

/* Marks that this process leaves; false where it does so already: another thread ends it, wait with gd_session_wait_for_end. */
bool gd_session_begin_to_leave(void);
_Noreturn void gd_session_wait_for_end(void);
/* Tells everybody whom session->sockets reach, logs the text, runs the exit hook, waits until all have hung up, leaves. Level
 * GD_LOG_DEBUG: another rank has told it already, and the hook is its business. After gd_session_begin_to_leave. */
_Noreturn void gd_session_lead_out(gd_session *session, gd_log_level level, const gd_error *fatal);
/* Another rank leads out and has told why: logs that for debugging, leaves when `leader` is shut. */
_Noreturn void gd_session_follow_out(gd_session *session, int leader, const gd_error *fatal);

/* From before MPI is started until the control channel stands: GPTDIST_START_DEADLINE, 300 s where it is not set, then this
 * rank says so and leaves with GD_RANK_FAILED, which ends the job. GD_USAGE, GD_NO_MEMORY. */
GD_CHECKED gd_status gd_session_watch_start(gd_session *session);
void gd_session_has_started(void);

/* A status and its text on the wire. */
size_t gd_session_error_bytes(const gd_error *error);
void gd_session_error_from_wire(const void *body, size_t bytes, gd_error *out);

/* session_takeover.c, which stands on session_leave.c */

/* Rank 0 is lost: its process has `ended`, or is silent past the deadline. The lowest living rank tells it and leads all out.
 */
_Noreturn void gd_session_take_over(gd_session *session, bool ended);

/* session_control.c, which stands on both */

/* Connects the channel (more than one rank) and starts the thread. Collective over the job. */
GD_CHECKED gd_status gd_session_control_open(gd_session *session, bool one_host);
/* Says goodbye and stops the thread. Collective over the job. */
void gd_session_control_close(gd_session *session);
/* Starts the thread of a one-rank session when it gets a deadline. */
void gd_session_control_need_thread(gd_session *session);

/* session_calls.c */

/* This rank's calls to rank 0, which asked with this body; the lock is held. */
void gd_session_send_calls(gd_session *session, const void *body, size_t bytes);
/* Rank 0's control thread, which leads out: where a fault comes from calls that differ, *fatal is that, with GD_BUG, and what
 * it was before follows, with for whom the others waited. Half a second at most; other messages
 * of the channel are lost. */
void gd_session_explain(gd_session *session, gd_error *fatal);
/* Rank 0's control thread, at the end of a job: logs for whom the others waited. */
void gd_session_rank_waits(gd_session *session);

/* session_warnings.c */

/* What waits goes to rank 0; the lock is held. */
void gd_session_send_warnings(gd_session *session);
/* Rank 0 */
void gd_session_hear_warning(gd_session *session, int32_t rank, const void *body, size_t bytes);
/* Logs what is due, or all. */
void gd_session_tell_warnings(gd_session *session, bool all);
void gd_session_close_warnings(gd_session *session);

/* session_beat.c */

/* That this process stood still, once, by a thread that may wait for who reads the log. */
void gd_session_tell_stood(gd_session *session);
/* Has collectives traced for this session (NULL: no more). */
void gd_session_trace(gd_session *session);
/* The device is open, and its streams say in heartbeats what they run; or it is about to close. */
void gd_session_watch_device(gd_session *session, bool open);
/* This rank's heartbeat as of now. */
void gd_session_take_beat(gd_session *session, gd_beat *out);
/* Counts now as progress: the time before says nothing. */
void gd_session_forgive(gd_session *session);

/* session_share.c, which stands on session_host.c and session_control.c */

void gd_session_share_close(gd_session *session);

/* session_gpu.c */

/* Opens CUDA's library and this rank's GPU where every rank can have one (asked: by name, not as one of two); else `why` is the
 * reason of the first rank that cannot and nothing stays open. `without_nccl`: why groups cannot be NCCL's, the same on all
 * ranks; "": they can. Both are empty before. Collective over the job. */
GD_CHECKED gd_status gd_session_try_gpu(gd_session *session, bool asked, char why[512], char without_nccl[512]);
void gd_session_close_gpu_library(gd_session *session);

/* session_device.c, which stands on session_gpu.c, session_host.c and session_control.c; session.c stands on all of them */

/* Frees groups and device; waits for what is queued. Collective over the job. */
void gd_session_device_close(gd_session *session);

#endif
