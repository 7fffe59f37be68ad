/* device_cuda.h - what the files of libgptdist-cuda.so share: the handle behind a stream, CUDA's errors as ours. No CUDA header
 * is needed to include it. Private to the shared object. */
#ifndef GD_COMM_DEVICE_CUDA_H
#define GD_COMM_DEVICE_CUDA_H

#include "comm/cuda_backend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Makes the stream's GPU the calling thread's current one and returns its cudaStream_t. */
struct CUstream_st *gd_cuda_stream_enter(const gd_stream *stream);

/* Makes the GPU the calling thread's current one. */
void gd_cuda_device_enter(const gd_device *device);

/* A cudaError_t as a fault: out of memory, a lost device and one that the kernels were not built for are GD_NO_MEMORY, a wrong
 * argument or a kernel that went wrong is GD_BUG. `what` says what was tried. Never returns GD_OK. */
GD_CHECKED gd_status gd_cuda_fault(unsigned error, const char *what);

/* Whether the current GPU runs the kernels of this build: a cudaError_t. Takes no memory but CUDA's own for the GPU. */
unsigned gd_cuda_probe(void);

/* What the host asks while it waits for this device, and after: the collectives note what has ended, and a fault of theirs ends
 * the wait, which might else never end. Any thread. NULL: none. */
typedef gd_status gd_cuda_poll(void);
void gd_cuda_device_on_sync(gd_device *device, gd_cuda_poll *poll);

/* The monotonic clock, and what the host does between two questions of a wait that began at start_ns: nothing at first, later
 * it sleeps a little. Returns the time before that. */
int64_t gd_cuda_now_ns(void);
int64_t gd_cuda_pause(int64_t start_ns);

/* Slots of gd_cuda_backend_table. */
extern const gd_device_ops gd_cuda_device_ops;
extern const gd_collectives_ops gd_nccl_ops;
GD_CHECKED gd_status gd_cuda_identify(int32_t local_rank, gd_cuda_gpu *out);
GD_CHECKED gd_status gd_cuda_open_device(int32_t local_rank, gd_device *out);
GD_CHECKED gd_status gd_nccl_version(int32_t *out);
GD_CHECKED gd_status gd_nccl_unique_id(gd_cuda_unique_id *out);
GD_CHECKED gd_status gd_nccl_world_group(gd_device *device, int32_t rank, int32_t ranks, const gd_cuda_unique_id *id,
                                         gd_group **out);
GD_CHECKED gd_status gd_nccl_split_group(gd_group *world, int32_t color, int32_t key, const char *name, gd_group **out);

#ifdef __cplusplus
}
#endif

#endif
