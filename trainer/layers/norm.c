/* norm.c - LayerNorm or RMSNorm of the rows here, and the ends of rows that a norm follows. */
#include "trainer/layers/layers.h"
#include "trainer/reduce.h"

gd_norm_place gd_norm1(const gd_model *model, int32_t layer) {
  const gd_layer_parameters *p = &model->layout.layers[layer];
  return (gd_norm_place){p->norm1_weight, p->norm1_bias, GD_A_RESIDUAL, GD_A_NORM1, GD_A_NORM1_MEAN, GD_A_NORM1_RSTD, layer};
}

gd_norm_place gd_norm2(const gd_model *model, int32_t layer) {
  const gd_layer_parameters *p = &model->layout.layers[layer];
  return (gd_norm_place){p->norm2_weight, p->norm2_bias, GD_A_MIDDLE, GD_A_NORM2, GD_A_NORM2_MEAN, GD_A_NORM2_RSTD, layer};
}

gd_norm_place gd_final_norm(const gd_model *model) {
  int32_t weight = model->layout.final_norm_weight, bias = model->layout.final_norm_bias, last = model->layout.shape.layers;
  return (gd_norm_place){weight, bias, GD_A_RESIDUAL, GD_A_FINAL, GD_A_FINAL_MEAN, GD_A_FINAL_RSTD, last};
}

static gd_norm_args common(const gd_model *model, const gd_micro *micro, const gd_norm_place *norm) {
  const gd_model_spec *spec = &model->layout.spec.model;
  const gd_shape *shape = &model->layout.shape;
  gd_norm_args args = {.kind = spec->norm, .dtype = shape->dtype, .rows = micro->rows_here, .width = shape->width};
  args.epsilon = spec->norm_epsilon;
  args.weight = gd_model_parameter(model, norm->weight, 0);
  args.bias = gd_model_parameter(model, norm->bias, 0);
  args.x = gd_model_kept(model, micro, norm->x, norm->copy);
  if (args.kind == GD_NORM_LAYERNORM) args.mean = gd_model_kept_float(model, micro, norm->mean, norm->copy);
  args.rstd = gd_model_kept_float(model, micro, norm->rstd, norm->copy);
  return args;
}

static gd_status forward_arguments(gd_model *model, const gd_micro *micro, const gd_norm_place *norm, gd_norm_args *out) {
  *out = common(model, micro, norm);
  out->y = gd_model_kept(model, micro, norm->y, norm->copy);
  return gd_model_await(model, (int32_t[]){norm->weight, norm->bias}, 2);
}

gd_status gd_norm_layer_forward(gd_model *model, const gd_micro *micro, const gd_norm_place *norm) {
  gd_norm_args args;
  GD_TRY(forward_arguments(model, micro, norm, &args));
  return model->kernels.ops->norm_forward(&model->kernels, &args);
}

gd_status gd_finish_rows(gd_model *model, const gd_micro *micro, gd_rows_finish *finish, const gd_norm_place *norm) {
  const gd_shape *shape = &model->layout.shape;
  finish->dtype = shape->dtype;
  finish->rows = micro->rows_here;
  finish->width = shape->width;
  finish->first_row = gd_model_first_row(model, micro);
  finish->dropout = micro->dropout;
  if (norm) GD_TRY(forward_arguments(model, micro, norm, &finish->norm));
  return model->kernels.ops->rows_finish(&model->kernels, finish);
}

gd_status gd_norm_layer_backward(gd_model *model, const gd_micro *micro, const gd_norm_place *norm, const void *dresidual) {
  gd_norm_args args = common(model, micro, norm);
  args.dy = gd_model_workspace(model, GD_W_DNORM);
  args.dresidual = dresidual;
  args.dx = gd_model_workspace(model, GD_W_DRESIDUAL);
  bool scale = gd_layout_trains(&model->layout, norm->weight), shift = gd_layout_trains(&model->layout, norm->bias);
  args.leaf_rows = gd_layout_leaf_rows(&model->layout, micro->rows_here);
  /* The kernel makes both leaves or those of the weight. */
  if (scale || shift) args.dweight_leaves = gd_reduce_my_leaves(model, micro, GD_W_LEAVES1, args.width);
  if (shift) args.dbias_leaves = gd_reduce_my_leaves(model, micro, GD_W_LEAVES2, args.width);
  GD_TRY(model->kernels.ops->norm_backward(&model->kernels, &args));
  if (scale) GD_TRY(gd_reduce_vector(model, micro, GD_W_LEAVES1, norm->weight, args.width));
  return shift ? gd_reduce_vector(model, micro, GD_W_LEAVES2, norm->bias, args.width) : GD_OK;
}
