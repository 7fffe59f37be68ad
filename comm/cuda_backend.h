/* cuda_backend.h - the one door into libgptdist-cuda.so: all CUDA and NCCL code lives in that shared object, which the session
 * opens with dlopen where a GPU may be, so that CPU runs and tools start without mapping those libraries.
 *
 * Errors, log and the trace hook are the program's own: the programs export their symbols (-rdynamic), so gd_fail inside the
 * shared object writes into the same thread record. The session checks `abi` before it calls anything.
 */
#ifndef GD_COMM_CUDA_BACKEND_H
#define GD_COMM_CUDA_BACKEND_H

#include "comm/collectives.h"
#include "comm/device.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Goes up with every change of this table, of gd_device_ops, gd_stream, gd_group, gd_collectives_ops, gd_kernels or their
 * table. */
enum { GD_CUDA_BACKEND_ABI = 12, GD_CUDA_UNIQUE_ID_BYTES = 128 };

typedef struct gd_cuda_unique_id {
  unsigned char bytes[GD_CUDA_UNIQUE_ID_BYTES]; /* ncclUniqueId */
} gd_cuda_unique_id;

/* A GPU as a rank sees it, before anything of it is taken. */
typedef struct gd_cuda_gpu {
  unsigned char uuid[16]; /* of the GPU or of its MIG part: no two have the same */
  char name[64], bus[32]; /* "NVIDIA H100 80GB HBM3", "0000:3b:00.0" */
  int32_t ordinal, count; /* its number among those that the process sees, and how many it sees */
} gd_cuda_gpu;

typedef struct gd_cuda_backend_table {
  int32_t abi; /* GD_CUDA_BACKEND_ABI */
  /* Which GPU open_device would take, without taking memory of it. Local. GD_NO_MEMORY with the native text: no driver, no GPU.
   * Must ask cudaGetDeviceCount before anything else. */
  gd_status (*identify)(int32_t local_rank, gd_cuda_gpu *out);
  /* Opens GPU local_rank modulo the number of visible GPUs. Fills *out (streams and description too). Local. GD_NO_MEMORY
   * with the native text. */
  gd_status (*open_device)(int32_t local_rank, gd_device *out);
  /* Opens NCCL, for a job of several ranks. Its version as NCCL writes it: 22809 is 2.28.9. Local. GD_NO_MEMORY: it is not
   * there. */
  gd_status (*nccl_version)(int32_t *out);
  /* A fresh id for world_group: one rank makes it, the session broadcasts it. Local. */
  gd_status (*unique_id)(gd_cuda_unique_id *out);
  /* The communicator of all ranks, named "world". Collective over the job. The group frees itself through ops->destroy. */
  gd_status (*world_group)(gd_device *device, int32_t rank, int32_t ranks, const gd_cuda_unique_id *id, gd_group **out);
  /* Ranks of the same color, in the order of key, split from world. Collective over world. */
  gd_status (*split_group)(gd_group *world, int32_t color, int32_t key, const char *name, gd_group **out);
  /* The tables of the device and of the groups, so that they can be looked at where there is no GPU. */
  const gd_device_ops *device_ops;
  const gd_collectives_ops *collectives_ops;
  /* The CUDA kernel table; the trainer knows its type (const gd_kernels_ops *) and calls its open with the device. */
  const void *kernels;
  /* What the kernels still lack for a training, as a text; NULL: nothing. run.device auto then takes the CPU and says so, cuda
   * is refused. */
  const char *lacks;
  /* Why run.device auto had better take the CPU all the same; NULL: no reason. cuda takes the GPU. */
  const char *unproved;
} gd_cuda_backend_table;

/* The only exported symbol that the session looks up. Never NULL. */
const gd_cuda_backend_table *gd_cuda_backend(void);
typedef const gd_cuda_backend_table *gd_cuda_backend_function(void);

#ifdef __cplusplus
}
#endif

#endif
