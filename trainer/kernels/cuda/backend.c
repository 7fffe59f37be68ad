/* backend.c - the table of CUDA kernels and the door into libgptdist-cuda.so. */
#include <stdlib.h>

#include "shard/memory.h"
#include "trainer/kernels/cuda/table.h"

static const size_t scratch_bytes = GD_GPU_SCRATCH_BYTES;

static void cuda_close(gd_kernels *kernels) {
  gd_cuda_state *state = gd_cuda_state_of(kernels);
  if (!state) return;
  gd_device *device = kernels->device;
  gd_cuda_blas_close(kernels, state->blas);
  if (state->scratch) device->ops->free(device, state->scratch);
  free(state);
  kernels->state = NULL;
}

static gd_status cuda_open(gd_kernels *kernels) {
  gd_cuda_state *state = calloc(1, sizeof *state);
  if (!state) return gd_fail(GD_NO_MEMORY, "out of memory for the CUDA kernels");
  kernels->state = state;
  gd_device *device = kernels->device;
  state->scratch_bytes = scratch_bytes;
  gd_status status = device->ops->alloc(device, scratch_bytes, &state->scratch);
  if (status == GD_OK) status = gd_cuda_blas_open(kernels, &state->blas);
  if (status != GD_OK) cuda_close(kernels);
  return status;
}

static const gd_kernels_ops cuda_kernels = {
    .name = "cuda",
    .bfloat16 = true,
    .epilogues = true,
    .matmul = gd_cuda_matmul_run,
    .norm_forward = gd_cuda_norm_forward,
    .norm_backward = gd_cuda_norm_backward,
    .tree_sum = gd_cuda_tree_sum,
    .column_sums = gd_cuda_column_sums,
    .activation_forward = gd_cuda_activation_forward,
    .activation_backward = gd_cuda_activation_backward,
    .rotary = gd_cuda_rotary,
    .embedding_forward = gd_cuda_embedding_forward,
    .embedding_backward = gd_cuda_embedding_backward,
    .rows_finish = gd_cuda_rows_finish,
    .dropout_backward = gd_cuda_dropout_backward,
    .attention_forward = gd_cuda_attention_forward,
    .attention_backward = gd_cuda_attention_backward,
    .cache_rows = gd_cuda_cache_rows,
    .loss_max = gd_cuda_loss_max,
    .loss_exponentials = gd_cuda_loss_exponentials,
    .loss_gradient = gd_cuda_loss_gradient,
    .loss_rows = gd_cuda_loss_rows,
    .loss_whole = gd_cuda_loss_whole,
    .loss_sums = gd_cuda_loss_sums,
    .label_loss = gd_cuda_label_loss,
    .rows_pick = gd_cuda_rows_pick,
    .rows_put = gd_cuda_rows_put,
    .unit_squares = gd_cuda_unit_squares,
    .unit_nodes = gd_cuda_unit_nodes,
    .node_sums = gd_cuda_node_sums,
    .finite = gd_cuda_finite,
    .vote = gd_cuda_vote,
    .update = gd_cuda_update,
    .convert = gd_cuda_convert,
    .add = gd_cuda_add,
    .open = cuda_open,
    .close = cuda_close,
};

static const gd_cuda_backend_table backend = {
    .abi = GD_CUDA_BACKEND_ABI,
    .identify = gd_cuda_identify,
    .open_device = gd_cuda_open_device,
    .nccl_version = gd_nccl_version,
    .unique_id = gd_nccl_unique_id,
    .world_group = gd_nccl_world_group,
    .split_group = gd_nccl_split_group,
    .device_ops = &gd_cuda_device_ops,
    .collectives_ops = &gd_nccl_ops,
    .kernels = &cuda_kernels,
    /* There is one for every slot; auto goes on taking the CPU until they were seen on a GPU. */
    .unproved = "the CUDA kernels were not seen on a GPU yet",
};

__attribute__((visibility("default"))) const gd_cuda_backend_table *gd_cuda_backend(void) {
  return &backend;
}
