/* embedding.c - token and position tables. Every block gives its own tokens' rows and zeros; their sum over the tensor axis is
 * exact. */
#include "trainer/layers/layers.h"
#include "trainer/reduce.h"

static gd_embedding common(const gd_model *model, const gd_micro *micro) {
  const gd_layout *layout = &model->layout;
  const gd_parameter *table = &layout->parameters[layout->token_table];
  gd_embedding args = {.dtype = layout->shape.dtype, .rows = micro->rows, .width = layout->shape.width};
  args.tokens = gd_model_kept(model, micro, GD_A_TOKENS, 0);
  args.first_block = table->first_block;
  args.blocks = table->blocks;
  args.block_rows = table->block_rows;
  args.block_stride = table->block_elems;
  args.leaf_rows = gd_layout_token_leaf(layout);
  return args;
}

gd_status gd_embedding_layer_forward(gd_model *model, const gd_micro *micro) {
  const gd_shape *shape = &model->layout.shape;
  gd_embedding args = common(model, micro);
  float *sum;
  args.weight = gd_model_parameter(model, model->layout.token_table, 0);
  args.out = gd_model_workspace_float(model, GD_W_PARTIAL);
  GD_TRY(model->kernels.ops->embedding_forward(&model->kernels, &args));
  GD_TRY(gd_reduce_rows(model, micro, &sum));
  gd_rows_finish finish = {.dtype = shape->dtype, .rows = micro->rows_here, .width = shape->width, .sum = sum};
  finish.table = gd_model_parameter(model, model->layout.position_table, 0);
  finish.positions = model->inference ? gd_model_kept(model, micro, GD_A_POSITIONS, 0) : 0;
  finish.period = shape->sequence;
  finish.first_row = gd_model_first_row(model, micro);
  finish.dropout = micro->dropout;
  finish.rng = gd_model_dropout_rng(model, micro, GD_DROPOUT_EMBEDDING, 0);
  finish.out = gd_model_kept(model, micro, GD_A_RESIDUAL, 0);
  return model->kernels.ops->rows_finish(&model->kernels, &finish);
}

/* Rows t of all sequences of a node: one leaf a sequence, for the other time blocks of it hold no row t. */
static gd_status position_gradient(gd_model *model, const gd_micro *micro, const void *dx) {
  const gd_shape *shape = &model->layout.shape;
  if (!gd_layout_trains(&model->layout, model->layout.position_table)) return GD_OK;
  for (int32_t i = 0; i < micro->node_count; i++) {
    gd_tree_sum sum = {.leaves = micro->nodes[i].count / shape->time_blocks, .elements = shape->sequence * shape->width};
    sum.dtype = shape->dtype;
    sum.leaf_stride = sum.elements;
    sum.in = (const char *)dx + (size_t)(micro->nodes[i].first * shape->time_block * shape->width) * shape->bytes;
    sum.out = gd_model_gradient(model, micro->slots[i], model->layout.position_table, 0);
    sum.accumulate = micro->accumulate;
    GD_TRY(model->kernels.ops->tree_sum(&model->kernels, &sum));
  }
  return GD_OK;
}

gd_status gd_embedding_layer_backward(gd_model *model, const gd_micro *micro) {
  const gd_shape *shape = &model->layout.shape;
  void *dresidual = gd_model_workspace(model, GD_W_DRESIDUAL);
  const void *all;
  if (micro->dropout > 0) {
    gd_dropout_backward mask = {.dtype = shape->dtype, .rows = micro->rows_here, .width = shape->width};
    mask.first_row = gd_model_first_row(model, micro);
    mask.dropout = micro->dropout;
    mask.rng = gd_model_dropout_rng(model, micro, GD_DROPOUT_EMBEDDING, 0);
    mask.dy = mask.dx = dresidual;
    GD_TRY(model->kernels.ops->dropout_backward(&model->kernels, &mask));
  }
  GD_TRY(gd_reduce_gather(model, micro, dresidual, GD_W_GATHERED_GRADIENT, &all));
  GD_TRY(position_gradient(model, micro, all));
  gd_embedding args = common(model, micro);
  const int32_t *tokens = args.tokens;
  bool wanted = gd_layout_trains(&model->layout, model->layout.token_table);
  for (int32_t i = 0; wanted && i < micro->node_count; i++) {
    int64_t row = micro->nodes[i].first * shape->time_block;
    args.rows = micro->nodes[i].count * shape->time_block;
    args.tokens = tokens + row;
    args.dx = (const char *)all + (size_t)(row * args.width) * shape->bytes;
    args.gradient = gd_model_gradient(model, micro->slots[i], model->layout.token_table, 0);
    args.accumulate = micro->accumulate;
    GD_TRY(model->kernels.ops->embedding_backward(&model->kernels, &args));
  }
  return GD_OK;
}
