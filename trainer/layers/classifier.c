/* classifier.c - the head of a classifier: the last row of each document, final norm of those rows alone, logits of the
 * classes, loss. Each tensor rank gives the rows that it has, and all of them compute with all; so nothing but rows is
 * exchanged. */
#include "trainer/layers/layers.h"
#include "trainer/reduce.h"

/* The rows of a micro-batch: `count` places (trainer/labels.h), this rank's `here` from `first` on. */
typedef struct places {
  int64_t count, here, first, a_time_block;
} places;

static places places_of(const gd_model *model, const gd_micro *micro) {
  const gd_shape *s = &model->layout.shape;
  places p = {.count = micro->sequences * s->chunks * micro->label_depth};
  p.here = p.count / model->tensor->size;
  p.first = model->tensor->rank * p.here;
  p.a_time_block = s->all_blocks * micro->label_depth;
  return p;
}

static bool is_sigmoid(const gd_model *model) {
  return model->layout.spec.finetune.loss == GD_LABEL_LOSS_SIGMOID;
}

/* Which of the residual's rows here belongs to each place. */
static gd_rows_pick rows_here(const gd_model *model, const gd_micro *micro) {
  const gd_shape *s = &model->layout.shape;
  gd_rows_pick a = {.dtype = s->dtype, .width = s->width, .size = micro->rows_here};
  a.first = micro->label_row + model->tensor->rank * micro->rows_here;
  return a;
}

static void *at_place(const gd_model *model, void *rows, int64_t place) {
  return (char *)rows + (size_t)(place * model->layout.shape.width) * model->layout.shape.bytes;
}

/* The last rows of all documents, on every tensor rank. Several give theirs chunk by chunk, which is not yet their order. */
static gd_status pick(gd_model *model, const gd_micro *micro, const places *p) {
  const gd_kernels_ops *ops = model->kernels.ops;
  bool alone = model->tensor->size == 1;
  void *picked = gd_model_workspace(model, GD_W_PICKED), *given = gd_model_workspace(model, GD_W_GATHERED);
  gd_rows_pick a = rows_here(model, micro);
  a.count = p->here;
  a.index = (const int32_t *)gd_model_kept(model, micro, alone ? GD_A_LABEL_ROWS : GD_A_LABEL_GIVEN, 0) + p->first;
  a.from = gd_model_kept(model, micro, GD_A_RESIDUAL, model->layout.shape.layers);
  a.to = alone ? picked : at_place(model, given, p->first);
  GD_TRY(ops->rows_pick(&model->kernels, &a));
  if (alone) return GD_OK;
  size_t bytes = (size_t)(p->here * model->layout.shape.width) * model->layout.shape.bytes;
  GD_TRY(model->tensor->ops->all_gather(model->tensor, model->device->compute, a.to, given, bytes));
  gd_rows_pick order = {.dtype = a.dtype, .count = p->count, .width = a.width, .size = p->count};
  order.first = micro->label_place;
  order.index = gd_model_kept(model, micro, GD_A_LABEL_ORDER, 0);
  order.from = given;
  order.to = picked;
  return ops->rows_pick(&model->kernels, &order);
}

static gd_norm_args norm_of(const gd_model *model, const gd_micro *micro, const void *x, int64_t rows) {
  const gd_layout *layout = &model->layout;
  gd_norm_args a = {.kind = layout->spec.model.norm, .dtype = layout->shape.dtype, .rows = rows, .width = layout->shape.width};
  a.epsilon = layout->spec.model.norm_epsilon;
  a.x = x;
  a.weight = gd_model_parameter(model, layout->final_norm_weight, 0);
  a.bias = gd_model_parameter(model, layout->final_norm_bias, 0);
  a.mean = a.kind == GD_NORM_LAYERNORM ? gd_model_kept_float(model, micro, GD_A_FINAL_MEAN, 0) : 0;
  a.rstd = gd_model_kept_float(model, micro, GD_A_FINAL_RSTD, 0);
  return a;
}

/* x[rows][C], the norm's inputs, to LOGITS[rows][class_stride]. */
static gd_status logits_of(gd_model *model, const gd_micro *micro, const void *x, int64_t rows) {
  const gd_layout *layout = &model->layout;
  const gd_shape *s = &layout->shape;
  gd_norm_args norm = norm_of(model, micro, x, rows);
  norm.y = gd_model_kept(model, micro, GD_A_FINAL, 0);
  GD_TRY(model->kernels.ops->norm_forward(&model->kernels, &norm));
  gd_matmul a = {.form = GD_MATMUL_NT, .m = rows, .n = s->classes, .k = s->width, .leaves = 1, .dtype = s->dtype};
  a.a = norm.y;
  a.lda = a.ldb = s->width;
  a.b = gd_model_parameter(model, layout->head, 0);
  a.c_dtype = GD_FLOAT32;
  a.c = gd_model_workspace(model, GD_W_LOGITS);
  a.ldc = s->class_stride;
  return model->kernels.ops->matmul(&model->kernels, &a);
}

/* Distance of two rows of the gradient, which lies in the memory of the logits; stored elements. */
static int64_t gradient_stride(const gd_shape *s) {
  return s->class_stride * 4 / (int64_t)s->bytes;
}

static gd_status softmax_loss(gd_model *model, const gd_micro *micro, const places *p, bool gradient) {
  const gd_kernels_ops *ops = model->kernels.ops;
  const gd_shape *s = &model->layout.shape;
  gd_loss a = {.dtype = s->dtype, .rows = p->count, .columns = s->classes, .valid_columns = s->classes, .ld = s->class_stride};
  a.logits = gd_model_workspace_float(model, GD_W_LOGITS);
  a.targets = gd_model_kept(model, micro, GD_A_LABELS, 0);
  a.weights = gd_model_kept_float(model, micro, GD_A_LABEL_WEIGHTS, 0);
  a.row_max = gd_model_workspace_float(model, GD_W_ROW_MAX);
  a.row_sum = a.block_sum = gd_model_workspace_float(model, GD_W_ROW_SUM);
  a.row_target = a.block_target = gd_model_workspace_float(model, GD_W_ROW_TARGET);
  a.row_loss = gd_model_workspace_float(model, GD_W_ROW_LOSS);
  a.dlogits = a.logits;
  a.dld = gradient_stride(s);
  if (gradient) a.smoothing = model->layout.spec.optimizer.label_smoothing;
  a.spread = a.smoothing / (float)s->classes;
  /* Bytes 0xFE make -1.7e38, below every finite logit. */
  GD_TRY(model->device->ops->fill(model->device->compute, a.row_max, 0xFE, (size_t)p->count * sizeof(float)));
  GD_TRY(ops->loss_max(&model->kernels, &a));
  GD_TRY(ops->loss_exponentials(&model->kernels, &a));
  GD_TRY(ops->loss_rows(&model->kernels, &a));
  return gradient ? ops->loss_gradient(&model->kernels, &a) : GD_OK;
}

static gd_status sigmoid_loss(gd_model *model, const gd_micro *micro, const places *p, bool gradient) {
  const gd_shape *s = &model->layout.shape;
  gd_label_loss_args a = {.dtype = s->dtype, .rows = p->count, .columns = s->classes, .ld = s->class_stride};
  a.logits = gd_model_workspace_float(model, GD_W_LOGITS);
  a.labels = gd_model_kept_float(model, micro, GD_A_LABELS, 0);
  a.weights = gd_model_kept_float(model, micro, GD_A_LABEL_WEIGHTS, 0);
  a.row_loss = gd_model_workspace_float(model, GD_W_ROW_LOSS);
  if (gradient) {
    a.smoothing = model->layout.spec.optimizer.label_smoothing;
    a.dlogits = gd_model_workspace(model, GD_W_LOGITS);
    a.dld = gradient_stride(s);
  }
  return model->kernels.ops->label_loss(&model->kernels, &a);
}

/* invariant: a leaf a time block, a chain over its places; fast: one chain over all, continued over micro-batches. */
static gd_status weight_gradient(gd_model *model, const gd_micro *micro, const places *p) {
  const gd_layout *layout = &model->layout;
  const gd_shape *s = &layout->shape;
  bool fast = layout->spec.numerics == GD_NUMERICS_FAST;
  gd_matmul a = {.form = GD_MATMUL_TN, .m = s->classes, .n = s->width, .dtype = s->dtype, .c_dtype = GD_FLOAT32};
  a.lda = gradient_stride(s);
  a.ldb = a.ldc = s->width;
  a.k = fast ? p->count : p->a_time_block;
  a.a_leaf_stride = a.k * a.lda;
  a.b_leaf_stride = a.k * a.ldb;
  a.accumulate = micro->accumulate;
  for (int32_t i = 0; gd_layout_trains(layout, layout->head) && i < micro->node_count; i++) {
    int64_t first = micro->nodes[i].first * p->a_time_block;
    a.leaves = fast ? 1 : micro->nodes[i].count;
    a.a = (const char *)gd_model_workspace(model, GD_W_LOGITS) + (size_t)(first * a.lda) * s->bytes;
    a.b = at_place(model, gd_model_kept(model, micro, GD_A_FINAL, 0), first);
    a.c = gd_model_gradient(model, micro->slots[i], layout->head, 0);
    GD_TRY(model->kernels.ops->matmul(&model->kernels, &a));
  }
  return GD_OK;
}

/* Through weight and norm to DRESIDUAL, which is zero in all other rows. */
static gd_status backward(gd_model *model, const gd_micro *micro, const places *p) {
  const gd_layout *layout = &model->layout;
  const gd_shape *s = &layout->shape;
  void *dnorm = gd_model_workspace(model, GD_W_PARTIAL), *dresidual = gd_model_workspace(model, GD_W_DRESIDUAL);
  gd_matmul product = {.form = GD_MATMUL_NN, .m = p->count, .n = s->width, .k = s->classes, .leaves = 1, .dtype = s->dtype};
  product.a = gd_model_workspace(model, GD_W_LOGITS);
  product.lda = gradient_stride(s);
  product.b = gd_model_parameter(model, layout->head, 0);
  product.ldb = product.ldc = s->width;
  product.c_dtype = s->dtype;
  product.c = dnorm;
  GD_TRY(model->kernels.ops->matmul(&model->kernels, &product));
  gd_norm_args norm = norm_of(model, micro, gd_model_workspace(model, GD_W_PICKED), p->count);
  bool scale = gd_layout_trains(layout, layout->final_norm_weight), shift = gd_layout_trains(layout, layout->final_norm_bias);
  norm.dy = dnorm;
  norm.dx = gd_model_workspace(model, GD_W_DPICKED);
  norm.leaf_rows = p->a_time_block;
  if (scale || shift) norm.dweight_leaves = gd_model_workspace_float(model, GD_W_LEAVES1);
  if (shift) norm.dbias_leaves = gd_model_workspace_float(model, GD_W_LEAVES2);
  GD_TRY(model->kernels.ops->norm_backward(&model->kernels, &norm));
  if (scale) GD_TRY(gd_reduce_time_blocks(model, micro, norm.dweight_leaves, layout->final_norm_weight, s->width));
  if (shift) GD_TRY(gd_reduce_time_blocks(model, micro, norm.dbias_leaves, layout->final_norm_bias, s->width));
  GD_TRY(model->device->ops->fill(model->device->compute, dresidual, 0, (size_t)(micro->rows_here * s->width) * s->bytes));
  gd_rows_pick put = rows_here(model, micro);
  put.count = p->count;
  put.index = gd_model_kept(model, micro, GD_A_LABEL_ROWS, 0);
  put.from = norm.dx;
  put.to = dresidual;
  return model->kernels.ops->rows_put(&model->kernels, &put);
}

void gd_classifier_place(const gd_model *model, gd_micro *micro, const gd_labels *labels, int64_t first) {
  micro->label_depth = labels->depth;
  micro->label_row = first * model->layout.shape.sequence;
  micro->label_place = first * model->layout.shape.chunks * labels->depth;
}

gd_status gd_classifier_load(gd_model *model, gd_micro *micro, const gd_labels *labels, int64_t first) {
  const gd_device_ops *ops = model->device->ops;
  const gd_shape *s = &model->layout.shape;
  gd_stream *stream = model->device->compute;
  gd_classifier_place(model, micro, labels, first);
  int64_t count = places_of(model, micro).count, at = micro->label_place;
  size_t bytes = (size_t)count * 4, columns = (size_t)s->label_columns;
  const char *from = (const char *)labels->labels + (size_t)at * columns * 4;
  GD_TRY(ops->copy(stream, gd_model_kept(model, micro, GD_A_LABEL_ROWS, 0), labels->rows + at, bytes, GD_COPY_HOST_TO_DEVICE));
  if (model->tensor->size > 1) {
    void *given = gd_model_kept(model, micro, GD_A_LABEL_GIVEN, 0), *order = gd_model_kept(model, micro, GD_A_LABEL_ORDER, 0);
    GD_TRY(ops->copy(stream, given, labels->given + at, bytes, GD_COPY_HOST_TO_DEVICE));
    GD_TRY(ops->copy(stream, order, labels->order + at, bytes, GD_COPY_HOST_TO_DEVICE));
  }
  GD_TRY(ops->copy(stream, gd_model_kept(model, micro, GD_A_LABEL_WEIGHTS, 0), labels->weights + at, bytes,
                   GD_COPY_HOST_TO_DEVICE));
  return ops->copy(stream, gd_model_kept(model, micro, GD_A_LABELS, 0), from, bytes * columns, GD_COPY_HOST_TO_DEVICE);
}

gd_status gd_classifier_loss(gd_model *model, const gd_micro *micro, float *sums, float *host_logits, bool gradient) {
  const gd_shape *s = &model->layout.shape;
  places p = places_of(model, micro);
  GD_TRY(pick(model, micro, &p));
  GD_TRY(logits_of(model, micro, gd_model_workspace(model, GD_W_PICKED), p.count));
  if (host_logits)
    GD_TRY(model->device->ops->copy(model->device->compute, host_logits, gd_model_workspace(model, GD_W_LOGITS),
                                    (size_t)(p.count * s->class_stride) * sizeof(float), GD_COPY_DEVICE_TO_HOST));
  GD_TRY(is_sigmoid(model) ? sigmoid_loss(model, micro, &p, gradient) : softmax_loss(model, micro, &p, gradient));
  gd_loss_sums total = {.sequences = micro->sequences, .length = s->chunks * micro->label_depth, .sums = sums};
  total.row_loss = gd_model_workspace_float(model, GD_W_ROW_LOSS);
  total.weights = gd_model_kept_float(model, micro, GD_A_LABEL_WEIGHTS, 0);
  GD_TRY(model->kernels.ops->loss_sums(&model->kernels, &total));
  if (!gradient) return GD_OK;
  GD_TRY(weight_gradient(model, micro, &p));
  return model->layout.head_goes_back ? backward(model, micro, &p) : GD_OK;
}

gd_status gd_classifier_logits(gd_model *model, const gd_micro *micro, float *logits) {
  const gd_shape *s = &model->layout.shape;
  gd_stream *stream = model->device->compute;
  int64_t rows;
  GD_TRY(gd_head_wanted(model, micro, &rows));
  if (rows == 0) return GD_OK;
  GD_TRY(logits_of(model, micro, gd_model_kept(model, micro, GD_A_RESIDUAL, s->layers), rows));
  const float *from = gd_model_workspace_float(model, GD_W_LOGITS);
  for (int64_t r = 0; r < rows; r++)
    GD_TRY(model->device->ops->copy(stream, logits + r * s->classes, from + r * s->class_stride,
                                    (size_t)s->classes * sizeof(float), GD_COPY_DEVICE_TO_HOST));
  return GD_OK;
}
