/* session.h - start-up and end of a job: finds its ranks (MPI, or none for a plain start), opens the device, makes the
 * groups of the mesh, and keeps the control channel and the watchdog. */
#ifndef GD_COMM_SESSION_H
#define GD_COMM_SESSION_H

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
} gd_launch_environment;
void gd_session_environment(gd_launch_environment *out);

/* Starts MPI (only where the environment shows more than one rank) and the control channel. Collective over the job. */
GD_CHECKED gd_status gd_session_open(gd_session **out);
int32_t gd_session_rank(const gd_session *session);
int32_t gd_session_ranks(const gd_session *session);
const char *gd_session_host(const gd_session *session);

/* Host memory, over the control channel or MPI before any device is open. Collective over the job. */
GD_CHECKED gd_status gd_session_broadcast(gd_session *session, void *host_buffer, size_t bytes, int32_t root);
/* everyone[r * bytes] = mine of rank r, on every rank. */
GD_CHECKED gd_status gd_session_all_gather(gd_session *session, const void *mine, void *everyone, size_t bytes);
GD_CHECKED gd_status gd_session_barrier(gd_session *session);

/* All ranks say how they fare; everyone gets the worst status and its text (lowest rank wins a tie). A rank that returns
 * early because of a local fault MUST call this where its peers do. Collective over the job. Runs on the control channel, so
 * it also ends when a peer died or is stuck elsewhere (GD_RANK_FAILED naming it). */
GD_CHECKED gd_status gd_session_agree(gd_session *session, gd_status mine);

/* Opens the device the spec asks for; `auto` takes CUDA where libgptdist-cuda.so loads and a GPU is there, else the CPU; says
 * in one line which and why. `fallback_reason` of the first rank is logged once. Collective over the job. */
GD_CHECKED gd_status gd_session_open_device(gd_session *session, const gd_spec *spec, gd_device **out);

/* The group of the ranks that differ from me only in the axes of `axes` (a mask of 1 << gd_axis), in mesh order. Collective
 * over the job; the session owns the groups. All axes: the world. */
GD_CHECKED gd_status gd_session_group(gd_session *session, const gd_mesh *mesh, uint32_t axes, gd_group **out);

/* Heartbeat. `phase` is a static text ("forward", "save"); progress resets the watchdog's clock. Local, cheap. */
void gd_session_progress(gd_session *session, const char *phase, int64_t step);
/* The deadline of the watchdog; 0 turns it off. */
void gd_session_set_watchdog(gd_session *session, int32_t seconds);

/* Tells every rank a fatal text over the control channel; each prints it once and leaves with `code`. Does not return. The one
 * way out when peers may sit in a collective. `print` is called once in the whole job (rank 0's process). */
_Noreturn void gd_session_abort(gd_session *session, gd_status code, const char *text);

/* Ends MPI and the control channel. Collective over the job after success; on a fault use gd_session_abort. */
void gd_session_close(gd_session *session);

#endif
