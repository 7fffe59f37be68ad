/* door.c - libgptdist-cuda.so of the fake GPU: the real device and groups on the fake runtime; its kernels are the program's
 * own for the CPU, which are queued as host tasks. FAKE_CUDA_LACKS: what the table says it lacks. */
#include <stdlib.h>

#include "comm/device_cuda.h"
#include "shard/memory.h"
#include "trainer/kernels/cpu/table.h"

/* A check of the device alone has no kernels. */
extern const gd_cpu_table gd_cpu_table_generic __attribute__((weak));

static gd_kernels_ops kernels;
static void *scratch;

/* As the CUDA kernels do, though nobody uses it. */
static gd_status open_kernels(gd_kernels *out) {
  GD_TRY(out->device->ops->alloc(out->device, GD_GPU_SCRATCH_BYTES, &scratch));
  return gd_cpu_table_generic.ops.open(out);
}

static void close_kernels(gd_kernels *out) {
  gd_cpu_table_generic.ops.close(out);
  out->device->ops->free(out->device, scratch);
  scratch = NULL;
}

static gd_cuda_backend_table backend = {
    .abi = GD_CUDA_BACKEND_ABI,
    .identify = gd_cuda_identify,
    .open_device = gd_cuda_open_device,
    .nccl_version = gd_nccl_version,
    .unique_id = gd_nccl_unique_id,
    .world_group = gd_nccl_world_group,
    .split_group = gd_nccl_split_group,
    .device_ops = &gd_cuda_device_ops,
    .collectives_ops = &gd_nccl_ops,
    .kernels = &kernels,
};

__attribute__((visibility("default"))) const gd_cuda_backend_table *gd_cuda_backend(void) {
  if (&gd_cpu_table_generic) kernels = gd_cpu_table_generic.ops;
  kernels.name = "cuda";
  kernels.open = open_kernels;
  kernels.close = close_kernels;
  backend.lacks = getenv("FAKE_CUDA_LACKS");
  return &backend;
}
