/* embedding.c - token and position tables. Every block gives its own tokens' rows and zeros; their sum over the tensor axis is
 * exact. */
#include "trainer/layers/layers.h"
#include "trainer/reduce.h"

static gd_embedding common(const gd_model *model, const gd_micro *micro, int32_t parameter) {
  const gd_layout *layout = &model->layout;
  const gd_parameter *table = &layout->parameters[parameter];
  gd_embedding args = {.dtype = layout->shape.dtype, .rows = micro->rows, .width = layout->shape.width};
  args.first_block = table->first_block;
  args.blocks = table->blocks;
  args.block_rows = table->block_rows;
  args.block_stride = table->block_elems;
  args.leaf_rows = gd_layout_token_leaf(layout);
  return args;
}

gd_status gd_embedding_layer_forward(gd_model *model, const gd_micro *micro, const gd_norm_place *next) {
  const gd_shape *shape = &model->layout.shape;
  gd_embedding args = common(model, micro, model->layout.token_table);
  float *sum;
  args.tokens = gd_model_kept(model, micro, GD_A_TOKENS, 0);
  args.weight = gd_model_parameter(model, model->layout.token_table, 0);
  args.out = gd_model_workspace_float(model, GD_W_PARTIAL);
  GD_TRY(model->kernels.ops->embedding_forward(&model->kernels, &args));
  GD_TRY(gd_reduce_rows(model, micro, &sum));
  gd_rows_finish finish = {.sum = sum, .out = gd_model_kept(model, micro, GD_A_RESIDUAL, 0)};
  finish.table = gd_model_parameter(model, model->layout.position_table, 0);
  if (model->inference)
    finish.positions = gd_model_kept(model, micro, GD_A_POSITIONS, 0);
  else if (model->layout.spec.data.reset_positions)
    finish.positions = (const int32_t *)gd_model_kept(model, micro, GD_A_POSITIONS, 0) + model->tensor->rank * micro->rows_here;
  finish.period = shape->sequence;
  finish.rng = gd_model_dropout_rng(model, micro, GD_DROPOUT_EMBEDDING, 0);
  return gd_finish_rows(model, micro, &finish, next);
}

/* The table rows of `ids` from the rows of dx that had them, node by node. */
static gd_status table_gradient(gd_model *model, const gd_micro *micro, gd_embedding args, int32_t table, const int32_t *ids,
                                const void *dx) {
  const gd_shape *shape = &model->layout.shape;
  args.accumulate = micro->accumulate;
  for (int32_t i = 0; i < micro->node_count; i++) {
    int64_t row = micro->nodes[i].first * shape->time_block;
    args.rows = micro->nodes[i].count * shape->time_block;
    args.tokens = ids + row;
    args.dx = (const char *)dx + (size_t)(row * args.width) * shape->bytes;
    args.gradient = gd_model_gradient(model, micro->slots[i], table, 0);
    GD_TRY(model->kernels.ops->embedding_backward(&model->kernels, &args));
  }
  return GD_OK;
}

/* Where positions begin anew in each document, the table is one of tokens like the other. Else row t is that of all sequences
 * of a node: one leaf a sequence, for the other time blocks of it hold no row t. */
static gd_status position_gradient(gd_model *model, const gd_micro *micro, const void *dx) {
  const gd_shape *shape = &model->layout.shape;
  int32_t table = model->layout.position_table;
  if (!gd_layout_trains(&model->layout, table)) return GD_OK;
  if (model->layout.spec.data.reset_positions)
    return table_gradient(model, micro, common(model, micro, table), table, gd_model_kept(model, micro, GD_A_POSITIONS, 0), dx);
  for (int32_t i = 0; i < micro->node_count; i++) {
    gd_tree_sum sum = {.leaves = micro->nodes[i].count / shape->time_blocks, .elements = shape->sequence * shape->width};
    sum.dtype = shape->dtype;
    sum.leaf_stride = sum.elements;
    sum.in = (const char *)dx + (size_t)(micro->nodes[i].first * shape->time_block * shape->width) * shape->bytes;
    sum.out = gd_model_gradient(model, micro->slots[i], table, 0);
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
  int32_t table = model->layout.token_table;
  if (!gd_layout_trains(&model->layout, table)) return GD_OK;
  return table_gradient(model, micro, common(model, micro, table), table, gd_model_kept(model, micro, GD_A_TOKENS, 0), all);
}
