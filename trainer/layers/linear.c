/* linear.c - a product with a weight: not cut, column-parallel (blocks of output rows) or row-parallel (blocks of input
 * columns). */
#include "trainer/layers/layers.h"
#include "trainer/reduce.h"

static gd_dtype stored(const gd_model *model) {
  return model->layout.shape.dtype;
}

static const gd_parameter *parameter_of(const gd_model *model, int32_t index) {
  return &model->layout.parameters[index];
}

gd_status gd_linear_column_forward(gd_model *model, int32_t weight, int32_t bias, const void *x, int64_t rows, void *y,
                                   gd_dtype y_dtype, void *activated) {
  const gd_parameter *w = parameter_of(model, weight);
  for (int32_t block = 0; block < w->blocks; block++) {
    gd_matmul product = {
        .form = GD_MATMUL_NT, .m = rows, .n = w->block_rows, .k = w->block_cols, .leaves = 1, .dtype = stored(model)};
    product.a = x;
    product.lda = w->block_cols;
    product.b = gd_model_parameter(model, weight, block);
    product.ldb = w->block_cols;
    product.c_dtype = y_dtype;
    product.c = (char *)y + (size_t)(block * rows * w->block_rows) * gd_dtype_bytes(y_dtype);
    product.ldc = w->block_rows;
    product.bias = gd_model_parameter(model, bias, block);
    if (activated) {
      product.end = GD_MATMUL_GELU;
      product.kept = product.c;
      product.c = (char *)activated + (size_t)(block * rows * w->block_rows) * gd_dtype_bytes(y_dtype);
    }
    GD_TRY(model->kernels.ops->matmul(&model->kernels, &product));
  }
  return GD_OK;
}

gd_status gd_linear_row_forward(gd_model *model, int32_t weight, const void *x, int64_t rows, float *partial) {
  const gd_parameter *w = parameter_of(model, weight);
  gd_matmul product = {
      .form = GD_MATMUL_NT, .m = rows, .n = w->block_rows, .k = w->block_cols, .leaves = w->blocks, .dtype = stored(model)};
  product.a = x;
  product.lda = w->block_cols;
  product.a_leaf_stride = rows * w->block_cols;
  product.b = gd_model_parameter(model, weight, 0);
  product.ldb = w->block_cols;
  product.b_leaf_stride = w->block_elems;
  product.c_dtype = GD_FLOAT32;
  product.c = partial;
  product.ldc = w->block_rows;
  return model->kernels.ops->matmul(&model->kernels, &product);
}

gd_status gd_linear_column_backward_input(gd_model *model, int32_t weight, const void *dy, int64_t rows, int64_t dy_ld,
                                          void *dx, gd_dtype dx_dtype) {
  const gd_parameter *w = parameter_of(model, weight);
  gd_matmul product = {
      .form = GD_MATMUL_NN, .m = rows, .n = w->block_cols, .k = w->block_rows, .leaves = w->blocks, .dtype = stored(model)};
  product.a = dy;
  product.lda = dy_ld ? dy_ld : w->block_rows;
  product.a_leaf_stride = rows * product.lda;
  product.b = gd_model_parameter(model, weight, 0);
  product.ldb = w->block_cols;
  product.b_leaf_stride = w->block_elems;
  product.c_dtype = dx_dtype;
  product.c = dx;
  product.ldc = w->block_cols;
  return model->kernels.ops->matmul(&model->kernels, &product);
}

gd_status gd_linear_row_backward_input(gd_model *model, int32_t weight, const void *dy, int64_t rows, void *up, void *dx) {
  const gd_parameter *w = parameter_of(model, weight);
  size_t bytes = model->layout.shape.bytes;
  for (int32_t block = 0; block < w->blocks; block++) {
    gd_matmul product = {
        .form = GD_MATMUL_NN, .m = rows, .n = w->block_cols, .k = w->block_rows, .leaves = 1, .dtype = stored(model)};
    product.a = dy;
    product.lda = w->block_rows;
    product.b = gd_model_parameter(model, weight, block);
    product.ldb = w->block_cols;
    product.c_dtype = stored(model);
    product.c = (char *)dx + (size_t)(block * rows * w->block_cols) * bytes;
    product.ldc = w->block_cols;
    if (up) {
      product.end = GD_MATMUL_DGELU;
      product.kept = (char *)up + (size_t)(block * rows * w->block_cols) * bytes;
    }
    GD_TRY(model->kernels.ops->matmul(&model->kernels, &product));
  }
  return GD_OK;
}

gd_status gd_linear_backward_weight_rows(gd_model *model, const gd_weight_gradient *g) {
  const gd_parameter *w = parameter_of(model, g->weight);
  int64_t t = model->layout.shape.time_block, time_leaf = gd_layout_time_leaf(&model->layout);
  size_t bytes = model->layout.shape.bytes;
  bool column = w->cut == GD_CUT_COLUMN;
  gd_matmul product = {.form = GD_MATMUL_TN, .m = w->block_rows, .n = w->block_cols, .dtype = stored(model)};
  /* invariant: a leaf a time block, its chain cut; fast: one chain over all rows */
  product.k = time_leaf ? t : g->rows;
  product.leaves = time_leaf ? g->rows / t : 1;
  product.k_leaf = time_leaf;
  product.lda = g->dy_ld ? g->dy_ld : w->block_rows;
  product.a_leaf_stride = t * product.lda;
  product.ldb = w->block_cols;
  product.b_leaf_stride = t * product.ldb;
  product.c_dtype = GD_FLOAT32;
  product.ldc = w->block_cols;
  product.accumulate = g->accumulate;
  for (int32_t block = 0; block < w->blocks; block++) {
    product.a = (const char *)g->dy + (size_t)(column ? block * g->block_rows * product.lda : 0) * bytes;
    product.b = (const char *)g->x + (size_t)(column ? 0 : block * g->block_rows * product.ldb) * bytes;
    product.c = g->to + block * w->block_elems;
    GD_TRY(model->kernels.ops->matmul(&model->kernels, &product));
  }
  return GD_OK;
}

gd_status gd_linear_backward_weight(gd_model *model, const gd_micro *micro, int32_t weight, const void *dy, const void *x) {
  const gd_parameter *w = parameter_of(model, weight);
  int64_t t = model->layout.shape.time_block;
  size_t bytes = model->layout.shape.bytes;
  for (int32_t i = 0; w->trained && i < micro->node_count; i++) {
    int64_t first = micro->nodes[i].first * t;
    gd_weight_gradient g = {.weight = weight, .rows = micro->nodes[i].count * t, .block_rows = micro->rows};
    g.dy = (const char *)dy + (size_t)(first * w->block_rows) * bytes;
    g.x = (const char *)x + (size_t)(first * w->block_cols) * bytes;
    g.to = gd_model_gradient(model, micro->slots[i], weight, 0);
    g.accumulate = micro->accumulate;
    GD_TRY(gd_linear_backward_weight_rows(model, &g));
  }
  return GD_OK;
}

gd_status gd_linear_column_backward_bias(gd_model *model, const gd_micro *micro, int32_t bias, const void *dy) {
  if (!gd_layout_trains(&model->layout, bias)) return GD_OK;
  const gd_parameter *b = parameter_of(model, bias);
  float *leaves = gd_model_workspace_float(model, GD_W_LEAVES1);
  for (int32_t block = 0; block < b->blocks; block++) {
    gd_column_sums sums = {
        .rows = micro->rows, .width = b->block_rows, .ld = b->block_rows, .dtype = stored(model), .leaves = leaves};
    sums.leaf_rows = gd_layout_leaf_rows(&model->layout, micro->rows);
    sums.x = (const char *)dy + (size_t)(block * micro->rows * b->block_rows) * model->layout.shape.bytes;
    GD_TRY(model->kernels.ops->column_sums(&model->kernels, &sums));
    GD_TRY(gd_reduce_local_vector(model, micro, leaves, bias, block, b->block_rows));
  }
  return GD_OK;
}

gd_status gd_branch_forward(gd_model *model, const gd_micro *micro, int32_t weight, int32_t bias, gd_dropout_site site,
                            int32_t layer, const void *x, const void *residual, void *out, const gd_norm_place *norm) {
  float *sum;
  GD_TRY(gd_linear_row_forward(model, weight, x, micro->rows, gd_model_workspace_float(model, GD_W_PARTIAL)));
  GD_TRY(gd_reduce_rows(model, micro, &sum));
  gd_rows_finish finish = {.sum = sum, .bias = gd_model_parameter(model, bias, 0), .residual = residual, .out = out};
  finish.rng = gd_model_dropout_rng(model, micro, site, layer);
  return gd_finish_rows(model, micro, &finish, norm);
}

gd_status gd_branch_backward(gd_model *model, const gd_micro *micro, int32_t weight, int32_t bias, gd_dropout_site site,
                             int32_t layer, const void *x, void *up, void *dx) {
  const void *dy = gd_model_workspace(model, GD_W_DRESIDUAL), *all;
  int64_t width = model->layout.shape.width;
  if (micro->dropout > 0) {
    gd_dropout_backward mask = {.dtype = stored(model), .rows = micro->rows_here, .width = width, .dy = dy};
    mask.first_row = gd_model_first_row(model, micro);
    mask.dropout = micro->dropout;
    mask.rng = gd_model_dropout_rng(model, micro, site, layer);
    mask.dx = gd_model_workspace(model, GD_W_DNORM); /* free until the branch's norm */
    GD_TRY(model->kernels.ops->dropout_backward(&model->kernels, &mask));
    dy = mask.dx;
  }
  if (gd_layout_trains(&model->layout, bias)) {
    gd_column_sums sums = {.rows = micro->rows_here, .width = width, .ld = width, .dtype = stored(model), .x = dy};
    sums.leaf_rows = gd_layout_leaf_rows(&model->layout, micro->rows_here);
    sums.leaves = gd_reduce_my_leaves(model, micro, GD_W_LEAVES1, width);
    GD_TRY(model->kernels.ops->column_sums(&model->kernels, &sums));
    GD_TRY(gd_reduce_vector(model, micro, GD_W_LEAVES1, bias, width));
  }
  GD_TRY(gd_reduce_gather(model, micro, dy, GD_W_GATHERED_GRADIENT, &all));
  GD_TRY(gd_linear_backward_weight(model, micro, weight, all, x));
  return gd_linear_row_backward_input(model, weight, all, micro->rows, up, dx);
}

gd_status gd_entry_backward(gd_model *model, const gd_micro *micro, int32_t weight, int32_t bias, const void *norm_y,
                            const void *dy) {
  const void *all;
  GD_TRY(gd_linear_column_backward_bias(model, micro, bias, dy));
  if (gd_layout_trains(&model->layout, weight)) {
    GD_TRY(gd_reduce_gather(model, micro, norm_y, GD_W_GATHERED, &all));
    GD_TRY(gd_linear_backward_weight(model, micro, weight, dy, all));
  }
  void *dnorm = gd_model_workspace(model, GD_W_DNORM), *partial = gd_model_workspace(model, GD_W_PARTIAL);
  if (model->tensor->size == 1) /* the sum is whole: rounded where it is made */
    return gd_linear_column_backward_input(model, weight, dy, micro->rows, 0, dnorm, stored(model));
  GD_TRY(gd_linear_column_backward_input(model, weight, dy, micro->rows, 0, partial, GD_FLOAT32));
  return gd_reduce_rows_rounded(model, micro, dnorm);
}
