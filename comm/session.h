/* session.h - start-up and end of a job: finds its ranks (MPI, or none for a plain start), opens the device, makes the
 * groups of the mesh, and keeps the control channel and the watchdog. */
#ifndef GD_COMM_SESSION_H
#define GD_COMM_SESSION_H

#include "comm/calls_sum.h"
#include "comm/collectives.h"
#include "comm/device.h"
#include "shard/mesh.h"
#include "shard/spec.h"

typedef struct gd_session gd_session;

/* What the environment says before MPI is touched: ranks and rank from mpirun (OMPI_COMM_WORLD_*), srun (PMIX_RANK with
 * SLURM_NTASKS) or 1 and 0 for a plain start. Local. */
typedef struct gd_launch_environment {
  int32_t rank, ranks;
  int32_t local_rank, local_ranks; /* on this node */
  int32_t tasks;                   /* processes that were started together; more than `ranks` where nothing connects them */
} gd_launch_environment;
void gd_session_environment(gd_launch_environment *out);

/* Starts MPI (only where the environment shows more than one rank) and the control channel. GD_USAGE where this is one of
 * several tasks that nothing connects. Collective over the job. */
GD_CHECKED gd_status gd_session_open(gd_session **out);
int32_t gd_session_rank(const gd_session *session);
int32_t gd_session_ranks(const gd_session *session);
const char *gd_session_host(const gd_session *session);
const char *gd_session_host_of(const gd_session *session, int32_t rank);
/* Among the ranks of this host (found after the start, right also where the launcher does not say). */
int32_t gd_session_local_rank(const gd_session *session);
int32_t gd_session_local_ranks(const gd_session *session);
/* Threads for this rank's kernels where nobody said how many: the cores of its affinity mask, dealt over the ranks of this
 * host that have the same mask; at least 1. */
int32_t gd_session_threads(const gd_session *session);

/* Host memory, over the control channel or MPI before any device is open. Collective over the job. */
GD_CHECKED gd_status gd_session_broadcast(gd_session *session, void *host_buffer, size_t bytes, int32_t root);
/* everyone[r * bytes] = mine of rank r, on every rank. */
GD_CHECKED gd_status gd_session_all_gather(gd_session *session, const void *mine, void *everyone, size_t bytes);
GD_CHECKED gd_status gd_session_barrier(gd_session *session);

/* Zeroed memory, the session's, that all ranks of this host see; where the system gives none (containers that share no
 * /dev/shm) each has its own. Whoever uses it must come out right either way. Collective over the job. GD_NO_MEMORY. */
GD_CHECKED gd_status gd_session_share(gd_session *session, size_t bytes, void **out);

/* All ranks say how they fare; everyone gets the status and text of the lowest rank that is not well, GD_OK when all are.
 * A rank that returns early because of a local fault MUST call this where its peers do. Collective over the job. Runs on the
 * control channel. It never hangs: when a peer dies, or is stuck elsewhere past the watchdog's deadline, the control thread
 * ends the whole job with GD_RANK_FAILED and a report that names the peer. */
GD_CHECKED gd_status gd_session_agree(gd_session *session, gd_status mine);

/* Opens the device the spec asks for; `auto` takes CUDA where every rank loads a libgptdist-cuda.so that lacks no kernel and
 * finds a GPU of its own and the NCCL of the others, else the CPU; that is known before any GPU's memory is taken. Rank 0 logs
 * one line: which, and where CUDA was tried in vain what the first such rank lacks. Collective over the job. GD_USAGE when
 * `cuda` was asked for and cannot be had. */
GD_CHECKED gd_status gd_session_open_device(gd_session *session, const gd_spec *spec, gd_device **out);

/* The group of the ranks that differ from me only in the axes of `axes` (a mask of 1 << gd_axis), in mesh order. Collective
 * over the job; the session owns the groups and gives the same one for the same mesh and axes. All axes: the world. */
GD_CHECKED gd_status gd_session_group(gd_session *session, const gd_mesh *mesh, uint32_t axes, gd_group **out);

/* What this rank has asked of all groups so far, as a number: the sum over all ranks of the job is 0 in the bits of
 * GD_CALLS_SUM_MASK while all members of every group have made the same collectives and all messages have two ends of one size
 * (comm/calls.h). Every rank takes it at the same place of the program; an exchange lies before it on both sides or on none.
 * Local. */
int64_t gd_session_calls_digest(gd_session *session);
/* GD_BUG where that sum is not 0; the abort that follows names the first call that differs, and who made it. Local. */
GD_CHECKED gd_status gd_session_check_calls(gd_session *session, int64_t sum);

/* Who sees each call of every group that this rank makes from now on; NULL: nobody, as at first. Local. */
void gd_session_see_calls(gd_session *session, gd_call_seen *seen, void *context);

/* The CUDA kernel table (const gd_kernels_ops *, the trainer casts) when the device is CUDA, else NULL. Local. */
const void *gd_session_cuda_kernels(const gd_session *session);

/* Heartbeat. `phase` is a static text ("forward", "save"); progress resets the watchdog's clock, and so does gd_progress() of
 * any thread inside a phase. Local, cheap. */
void gd_session_progress(gd_session *session, const char *phase, int64_t step);
/* The same for a phase that may have to wait for storage (start, load, save, data, a report): ten deadlines may pass in it. */
void gd_session_storage(gd_session *session, const char *phase, int64_t step);
/* The deadline of the watchdog; 0 (the start value) turns it off. A rank that made no progress for so long, and does not wait
 * for one that does, is stuck: rank 0 reports, once and less than 2 s later, which rank has not entered which call, since when,
 * and who waits for it; then every rank leaves with GD_RANK_FAILED. Where rank 0 itself is silent, or gone, the lowest living
 * rank reports that; the others find it without rank 0. Local; give all ranks about the same. */
void gd_session_set_watchdog(gd_session *session, int32_t seconds);

/* A warning of this rank that its log has: rank 0 logs it for the job, "rank 3 on node7: TEXT", or once for all that say the
 * same within a few seconds, "ranks 1 2 3: TEXT", and not at all where rank 0 says it itself. Never waits; of many at once some
 * are dropped. A sink of the log may call it. Local. */
void gd_session_warn(gd_session *session, const char *text);

/* Where the logs of all ranks are, as reports name it ("runs/a/log"): each ends with that rank's last calls. Local. */
void gd_session_set_log_place(gd_session *session, const char *folder);

/* Called once, in the process that tells of a fatal end (abort, watchdog, lost rank): rank 0's, or where that is lost the
 * lowest living rank's; on any thread, right before all leave, after the text was logged: launch/ writes exit.json here. The
 * process leaves with _exit, so buffered files must be flushed here. */
void gd_session_set_exit_hook(gd_session *session, void (*hook)(void *context, gd_status code, const char *text),
                              void *context);

/* The one way out when peers may sit in a collective: rank 0 logs the text (GD_LOG_ERROR, once in the whole job: the first
 * fatal text wins, with the rank before it where that is not rank 0; gd_error_text() brings its place for the log), calls the
 * exit hook and tells every rank; all leave with `code` at once. Does not return. */
_Noreturn void gd_session_abort(gd_session *session, gd_status code, const char *text);

/* Ends MPI and the control channel. Collective over the job after success; on a fault use gd_session_abort. */
void gd_session_close(gd_session *session);

#endif
