/* reduce.c - sums inside a micro-batch, over the tensor axis. The data axis is in reduce_gradients.c. */
#include "trainer/reduce.h"

static bool cut(const gd_model *model) {
  return model->tensor->size > 1;
}

gd_status gd_reduce_rows(gd_model *model, const gd_micro *micro, float **sum) {
  float *partial = gd_model_workspace_float(model, GD_W_PARTIAL);
  *sum = partial;
  if (!cut(model)) return GD_OK;
  float *received = gd_model_workspace_float(model, GD_W_RECEIVED);
  int64_t elements = micro->rows_here * model->layout.shape.width;
  size_t bytes = (size_t)elements * sizeof(float);
  if (model->inference)
    GD_TRY(model->tensor->ops->all_gather(model->tensor, model->device->compute, partial, received, bytes));
  else
    GD_TRY(model->tensor->ops->all_to_all(model->tensor, model->device->compute, partial, received, bytes));
  gd_tree_sum tree = {
      .leaves = model->tensor->size, .elements = elements, .dtype = GD_FLOAT32, .in = received, .leaf_stride = elements};
  tree.out = *sum = received;
  return model->kernels.ops->tree_sum(&model->kernels, &tree);
}

gd_status gd_reduce_rows_rounded(gd_model *model, const gd_micro *micro, void *out) {
  const gd_shape *shape = &model->layout.shape;
  float *sum;
  GD_TRY(gd_reduce_rows(model, micro, &sum));
  return model->kernels.ops->convert(&model->kernels, shape->dtype, out, GD_FLOAT32, sum, micro->rows_here * shape->width);
}

gd_status gd_reduce_gather(gd_model *model, const gd_micro *micro, const void *local, gd_activation_id buffer,
                           const void **gathered) {
  *gathered = local;
  if (!cut(model) || model->inference) return GD_OK;
  void *all = gd_model_workspace(model, buffer);
  const gd_shape *shape = &model->layout.shape;
  size_t bytes = (size_t)(micro->rows_here * shape->width) * shape->bytes;
  *gathered = all;
  return model->tensor->ops->all_gather(model->tensor, model->device->compute, local, all, bytes);
}

/* Leaves of the rows here, of one tensor rank. */
static int64_t leaves_here(const gd_model *model, const gd_micro *micro) {
  return gd_layout_leaves(&model->layout, micro->rows_here);
}

float *gd_reduce_my_leaves(gd_model *model, const gd_micro *micro, gd_activation_id buffer, int64_t width) {
  return gd_model_workspace_float(model, buffer) + model->tensor->rank * leaves_here(model, micro) * width;
}

/* Leaves [leaf][width] of the whole micro-batch into its slots, `per_block` leaves a time block (0: all leaves are one node's).
 */
static gd_status into_slots(gd_model *model, const gd_micro *micro, const float *leaves, int64_t count, int64_t per_block,
                            int32_t parameter, int32_t block, int64_t width) {
  for (int32_t i = 0; i < micro->node_count; i++) {
    gd_tree_sum tree = {
        .leaves = per_block ? micro->nodes[i].count * per_block : count, .elements = width, .dtype = GD_FLOAT32};
    tree.in = leaves + (per_block ? micro->nodes[i].first * per_block * width : 0);
    tree.leaf_stride = width;
    tree.out = gd_model_gradient(model, micro->slots[i], parameter, block);
    tree.accumulate = micro->accumulate;
    GD_TRY(model->kernels.ops->tree_sum(&model->kernels, &tree));
  }
  return GD_OK;
}

static int64_t leaves_of_a_time_block(const gd_model *model) {
  const gd_spec *spec = &model->layout.spec;
  return spec->numerics == GD_NUMERICS_INVARIANT ? spec->parallel.blocks : 0;
}

gd_status gd_reduce_vector(gd_model *model, const gd_micro *micro, gd_activation_id buffer, int32_t parameter, int64_t width) {
  int64_t here = leaves_here(model, micro);
  float *all = gd_model_workspace_float(model, buffer);
  if (cut(model)) {
    size_t bytes = (size_t)(here * width) * sizeof(float);
    const float *mine = gd_reduce_my_leaves(model, micro, buffer, width);
    GD_TRY(model->tensor->ops->all_gather(model->tensor, model->device->compute, mine, all, bytes));
  }
  return into_slots(model, micro, all, here * model->tensor->size, leaves_of_a_time_block(model), parameter, 0, width);
}

gd_status gd_reduce_local_vector(gd_model *model, const gd_micro *micro, const float *leaves, int32_t parameter, int32_t block,
                                 int64_t width) {
  return into_slots(model, micro, leaves, gd_layout_leaves(&model->layout, micro->rows), leaves_of_a_time_block(model),
                    parameter, block, width);
}

gd_status gd_reduce_time_blocks(gd_model *model, const gd_micro *micro, const float *leaves, int32_t parameter, int64_t width) {
  return into_slots(model, micro, leaves, micro->sequences * model->layout.shape.time_blocks, 1, parameter, 0, width);
}
