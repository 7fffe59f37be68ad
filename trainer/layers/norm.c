/* norm.c - LayerNorm or RMSNorm of the rows here. */
#include "trainer/layers/layers.h"
#include "trainer/reduce.h"

static gd_norm_args common(const gd_model *model, const gd_micro *micro, int32_t weight, int32_t bias) {
  const gd_model_spec *spec = &model->layout.spec.model;
  const gd_shape *shape = &model->layout.shape;
  gd_norm_args args = {.kind = spec->norm, .dtype = shape->dtype, .rows = micro->rows_here, .width = shape->width};
  args.epsilon = spec->norm_epsilon;
  args.weight = gd_model_parameter(model, weight, 0);
  args.bias = gd_model_parameter(model, bias, 0);
  return args;
}

gd_norm_args gd_norm_arguments(const gd_model *model, const gd_micro *micro, int32_t weight, int32_t bias, void *y, float *mean,
                               float *rstd) {
  gd_norm_args args = common(model, micro, weight, bias);
  args.y = y;
  args.mean = args.kind == GD_NORM_LAYERNORM ? mean : 0;
  args.rstd = rstd;
  return args;
}

gd_status gd_norm_layer_forward(gd_model *model, const gd_micro *micro, int32_t weight, int32_t bias, const void *x, void *y,
                                float *mean, float *rstd) {
  gd_norm_args args = gd_norm_arguments(model, micro, weight, bias, y, mean, rstd);
  args.x = x;
  return model->kernels.ops->norm_forward(&model->kernels, &args);
}

gd_status gd_norm_layer_backward(gd_model *model, const gd_micro *micro, int32_t weight, int32_t bias, const void *x,
                                 const float *mean, const float *rstd, const void *dy, const void *dresidual, void *dx) {
  gd_norm_args args = common(model, micro, weight, bias);
  args.x = x;
  args.mean = args.kind == GD_NORM_LAYERNORM ? (float *)(uintptr_t)mean : 0;
  args.rstd = (float *)(uintptr_t)rstd;
  args.dy = dy;
  args.dresidual = dresidual;
  args.dx = dx;
  bool scale = gd_layout_trains(&model->layout, weight), shift = gd_layout_trains(&model->layout, bias);
  args.leaf_rows = gd_layout_leaf_rows(&model->layout, micro->rows_here);
  /* The kernel makes both leaves or those of the weight. */
  if (scale || shift) args.dweight_leaves = gd_reduce_my_leaves(model, micro, GD_W_LEAVES1, args.width);
  if (shift) args.dbias_leaves = gd_reduce_my_leaves(model, micro, GD_W_LEAVES2, args.width);
  GD_TRY(model->kernels.ops->norm_backward(&model->kernels, &args));
  if (scale) GD_TRY(gd_reduce_vector(model, micro, GD_W_LEAVES1, weight, args.width));
  return shift ? gd_reduce_vector(model, micro, GD_W_LEAVES2, bias, args.width) : GD_OK;
}
