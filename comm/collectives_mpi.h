/* collectives_mpi.h - start and end of MPI, host calls over all ranks before any device is open, and the MPI groups.
 * bootstrap_mpi.c and collectives_mpi.c are the two files that include mpi.h. */
#ifndef GD_COMM_COLLECTIVES_MPI_H
#define GD_COMM_COLLECTIVES_MPI_H

#include "comm/collectives.h"
#include "comm/staging.h"

/* Starts MPI with threads; *rank of *ranks. Collective over the job. GD_RANK_FAILED with MPI's text. */
GD_CHECKED gd_status gd_mpi_start(bool one_host, int32_t *rank, int32_t *ranks);
/* Ends MPI if it was started. Collective over the job. */
void gd_mpi_end(void);

/* Host memory, over a communicator of their own, on the calling thread. Collective over the job. */
GD_CHECKED gd_status gd_mpi_broadcast(void *host_buffer, size_t bytes, int32_t root);
GD_CHECKED gd_status gd_mpi_all_gather(const void *mine, void *everyone, size_t bytes);
GD_CHECKED gd_status gd_mpi_barrier(void);

/* The ranks that give the same color, in the order of key. Without `staging` the group's buffers are host memory: the cpu and
 * lazy devices; with it, memory of its device. It outlives the group. Collective over the job. */
GD_CHECKED gd_status gd_collectives_mpi_group(const char *name, int32_t color, int32_t key, gd_staging *staging,
                                              gd_group **out);

/* One MPI call moves at most this many bytes as plain counts (INT_MAX at most); more goes through a derived type or in parts.
 * Only tests lower it. */
extern size_t gd_collectives_mpi_count_limit;

/* Finishes a non-blocking call: `code` is what starting it returned, `request` its MPI_Request. Polls for some microseconds,
 * then sleeps between polls: a rank that waits inside a blocking MPI call spins, and where ranks share cores it would take the
 * time of the very rank it waits for. Returns an MPI error code. Local. */
int gd_mpi_finish(int code, void *request);

/* Turns an MPI error code into GD_RANK_FAILED with MPI's own text. */
GD_CHECKED gd_status gd_mpi_fault(int code, const char *call, const char *group);

#endif
