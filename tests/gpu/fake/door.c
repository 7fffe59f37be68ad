/* door.c - libgptdist-cuda.so of the fake GPU: the real device and groups on the fake runtime; its kernels are the program's
 * own for the CPU, which are queued as host tasks. FAKE_CUDA_LACKS: what the table says it lacks. */
#include <stdlib.h>

#include "comm/device_cuda.h"
#include "trainer/kernels/cpu/table.h"

/* A check of the device alone has no kernels. */
extern const gd_cpu_table gd_cpu_table_generic __attribute__((weak));

static gd_kernels_ops kernels;
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
  backend.lacks = getenv("FAKE_CUDA_LACKS");
  return &backend;
}
