/* mlp.c - up (and gate) of the norm that came with attention's residual, activation, down, residual, the norm behind it. */
#include "trainer/layers/layers.h"
#include "trainer/reduce.h"

/* All blocks here lie behind each other with the same row width, so they are one call of rows * blocks rows. */
static gd_activation_args activation(const gd_model *model, const gd_micro *micro, int32_t layer) {
  const gd_shape *shape = &model->layout.shape;
  gd_activation_args args = {.kind = model->layout.spec.model.activation, .dtype = shape->dtype};
  args.rows = micro->rows * shape->blocks;
  args.width = shape->ffn;
  args.x = gd_model_kept(model, micro, GD_A_UP, layer);
  args.y = gd_model_kept(model, micro, GD_A_ACTIVATED, layer);
  return args;
}

/* Whether products take the activation in: where that saves a pass, and gives what rounding.md says. */
static bool in_products(const gd_model *model, const gd_activation_args *args) {
  return model->kernels.fast && model->kernels.ops->epilogues && args->kind == GD_ACTIVATION_GELU_TANH &&
         args->dtype == GD_BFLOAT16;
}

gd_status gd_mlp_layer_forward(gd_model *model, const gd_micro *micro, int32_t layer, const gd_norm_place *next) {
  const gd_layer_parameters *p = &model->layout.layers[layer];
  const void *all;
  void *norm = gd_model_kept(model, micro, GD_A_NORM2, layer), *middle = gd_model_kept(model, micro, GD_A_MIDDLE, layer);
  GD_TRY(gd_reduce_gather(model, micro, norm, GD_W_GATHERED, &all));
  gd_activation_args args = activation(model, micro, layer);
  /* What backward computes again, from what was stored, is what forward took. */
  bool taken_in = in_products(model, &args) && !model->layout.spec.recompute.activation;
  GD_TRY(gd_linear_column_forward(model, p->up_weight, p->up_bias, all, micro->rows,
                                  gd_model_kept(model, micro, GD_A_UP, layer), args.dtype, taken_in ? args.y : NULL));
  if (!taken_in) GD_TRY(model->kernels.ops->activation_forward(&model->kernels, &args));
  return gd_branch_forward(model, micro, p->down_weight, p->down_bias, GD_DROPOUT_DOWN, layer, args.y, middle,
                           gd_model_kept(model, micro, GD_A_RESIDUAL, layer + 1), next);
}

gd_status gd_mlp_layer_backward(gd_model *model, const gd_micro *micro, int32_t layer) {
  const gd_layer_parameters *p = &model->layout.layers[layer];
  gd_activation_args args = activation(model, micro, layer);
  void *dactivated = gd_model_workspace(model, GD_W_DACTIVATED);
  bool wanted = gd_layout_trains(&model->layout, p->down_weight);
  if (wanted && model->layout.spec.recompute.activation) GD_TRY(model->kernels.ops->activation_forward(&model->kernels, &args));
  args.dy = dactivated;
  args.dx = gd_model_workspace(model, GD_W_DUP);
  bool taken_in = in_products(model, &args);
  void *up = taken_in ? gd_model_kept(model, micro, GD_A_UP, layer) : NULL;
  GD_TRY(gd_branch_backward(model, micro, p->down_weight, p->down_bias, GD_DROPOUT_DOWN, layer, args.y, up,
                            taken_in ? args.dx : dactivated));
  if (!taken_in) GD_TRY(model->kernels.ops->activation_backward(&model->kernels, &args));
  GD_TRY(gd_entry_backward(model, micro, p->up_weight, p->up_bias, gd_model_kept(model, micro, GD_A_NORM2, layer), args.dx));
  gd_norm_place norm2 = gd_norm2(model, layer);
  return gd_norm_layer_backward(model, micro, &norm2, gd_model_workspace(model, GD_W_DRESIDUAL));
}
