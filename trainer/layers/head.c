/* head.c - final norm, logits by blocks of the vocabulary, cross entropy. The logits are held once: exponentials and their
 * gradients are written over them (bfloat16 gradients over the first half of each row). */
#include "trainer/layers/layers.h"
#include "trainer/reduce.h"

typedef struct head {
  const gd_parameter *weight;
  int64_t columns, ld; /* of a block; distance of two rows of dlogits, stored elements */
  float *logits, *block_sum, *block_target, *row_sum, *row_target;
} head;

static head head_of(const gd_model *model) {
  head h = {.weight = &model->layout.parameters[model->layout.head]};
  h.columns = h.weight->block_rows;
  h.ld = model->layout.shape.dtype == GD_FLOAT32 ? h.columns : 2 * h.columns;
  h.logits = gd_model_float(model, GD_W_LOGITS, 0);
  h.block_sum = gd_model_float(model, GD_W_BLOCK_SUM, 0);
  h.block_target = gd_model_float(model, GD_W_BLOCK_TARGET, 0);
  h.row_sum = gd_model_float(model, GD_W_ROW_SUM, 0);
  h.row_target = gd_model_float(model, GD_W_ROW_TARGET, 0);
  return h;
}

static gd_loss block_arguments(const gd_model *model, const gd_micro *micro, const head *h, int32_t block) {
  int64_t all_block = h->weight->first_block + block, first = all_block * h->columns;
  int64_t valid = model->layout.shape.vocabulary - first;
  gd_loss a = {.dtype = model->layout.shape.dtype, .rows = micro->rows, .columns = h->columns, .first_column = first};
  a.valid_columns = valid < 0 ? 0 : valid < h->columns ? valid : h->columns;
  a.logits = h->logits + block * micro->rows * h->columns;
  a.ld = h->columns;
  a.targets = gd_model_activation(model, GD_A_TARGETS, 0);
  a.weights = gd_model_float(model, GD_A_WEIGHTS, 0);
  a.row_max = gd_model_float(model, GD_W_ROW_MAX, 0);
  a.block_sum = h->block_sum + all_block * micro->rows;
  a.block_target = h->block_target + all_block * micro->rows;
  a.row_sum = h->row_sum;
  a.row_target = h->row_target;
  a.dlogits = a.logits;
  a.dld = h->ld;
  a.row_loss = gd_model_float(model, GD_W_ROW_LOSS, 0);
  return a;
}

static gd_status final_norm(gd_model *model, const gd_micro *micro) {
  const gd_layout *layout = &model->layout;
  return gd_norm_layer_forward(model, micro, layout->final_norm_weight, layout->final_norm_bias,
                               gd_model_activation(model, GD_A_RESIDUAL, layout->shape.layers),
                               gd_model_activation(model, GD_A_FINAL, 0), gd_model_float(model, GD_A_FINAL_MEAN, 0),
                               gd_model_float(model, GD_A_FINAL_RSTD, 0));
}

/* Every block's partial results reach every tensor rank, then the tree over all R blocks. */
static gd_status sum_blocks(gd_model *model, const gd_micro *micro, const head *h, float *blocks, float *sum) {
  if (model->tensor->size > 1) {
    size_t bytes = (size_t)(model->layout.shape.blocks * micro->rows) * sizeof(float);
    GD_TRY(model->tensor->ops->all_gather(model->tensor, model->device->compute, blocks + h->weight->first_block * micro->rows,
                                          blocks, bytes));
  }
  gd_tree_sum tree = {.leaves = h->weight->all_blocks, .elements = micro->rows, .dtype = GD_FLOAT32, .in = blocks};
  tree.leaf_stride = micro->rows;
  tree.out = sum;
  return model->kernels.ops->tree_sum(&model->kernels, &tree);
}

static gd_status softmax(gd_model *model, const gd_micro *micro, const head *h, float *sums) {
  const gd_kernels_ops *ops = model->kernels.ops;
  float *row_max = gd_model_float(model, GD_W_ROW_MAX, 0);
  /* Bytes 0xFE make -1.7e38, below every finite logit. */
  GD_TRY(model->device->ops->fill(model->device->compute, row_max, 0xFE, (size_t)micro->rows * sizeof(float)));
  for (int32_t block = 0; block < h->weight->blocks; block++) {
    gd_loss a = block_arguments(model, micro, h, block);
    GD_TRY(ops->loss_max(&model->kernels, &a));
  }
  if (model->tensor->size > 1)
    GD_TRY(model->tensor->ops->all_reduce(model->tensor, model->device->compute, row_max, (size_t)micro->rows, GD_FLOAT32,
                                          GD_MAX));
  for (int32_t block = 0; block < h->weight->blocks; block++) {
    gd_loss a = block_arguments(model, micro, h, block);
    GD_TRY(ops->loss_exponentials(&model->kernels, &a));
  }
  GD_TRY(sum_blocks(model, micro, h, h->block_sum, h->row_sum));
  GD_TRY(sum_blocks(model, micro, h, h->block_target, h->row_target));
  gd_loss a = block_arguments(model, micro, h, 0);
  GD_TRY(ops->loss_rows(&model->kernels, &a));
  gd_loss_sums total = {.sequences = micro->sequences, .length = model->layout.shape.sequence, .row_loss = a.row_loss};
  total.weights = a.weights;
  total.sums = sums;
  return ops->loss_sums(&model->kernels, &total);
}

static gd_status backward(gd_model *model, const gd_micro *micro, const head *h, const void *x) {
  const gd_layout *layout = &model->layout;
  for (int32_t block = 0; block < h->weight->blocks; block++) {
    gd_loss a = block_arguments(model, micro, h, block);
    GD_TRY(model->kernels.ops->loss_gradient(&model->kernels, &a));
  }
  /* A tied head adds to an accumulator of its own, as far behind the table's as the two buckets are apart. */
  int64_t apart =
      layout->tied_head_bucket < 0 ? 0 : layout->buckets[layout->tied_head_bucket].offset - layout->buckets[0].offset;
  GD_TRY(gd_linear_backward_weight(model, micro, layout->head, h->logits, h->ld, x, apart));
  GD_TRY(gd_linear_column_backward_input(model, layout->head, h->logits, micro->rows, h->ld,
                                         gd_model_float(model, GD_W_PARTIAL, 0)));
  void *dnorm = gd_model_activation(model, GD_W_DNORM, 0);
  GD_TRY(gd_reduce_rows_rounded(model, micro, dnorm));
  return gd_norm_layer_backward(model, micro, layout->final_norm_weight, layout->final_norm_bias,
                                gd_model_activation(model, GD_A_RESIDUAL, layout->shape.layers),
                                gd_model_float(model, GD_A_FINAL_MEAN, 0), gd_model_float(model, GD_A_FINAL_RSTD, 0), dnorm, 0,
                                gd_model_activation(model, GD_W_DRESIDUAL, 0));
}

gd_status gd_head_loss(gd_model *model, const gd_micro *micro, float *sums, bool gradient) {
  head h = head_of(model);
  const void *x;
  GD_TRY(final_norm(model, micro));
  GD_TRY(gd_reduce_gather(model, micro, gd_model_activation(model, GD_A_FINAL, 0), GD_W_GATHERED, &x));
  GD_TRY(gd_linear_column_forward(model, model->layout.head, -1, x, micro->rows, h.logits, GD_FLOAT32));
  GD_TRY(softmax(model, micro, &h, sums));
  return gradient ? backward(model, micro, &h, x) : GD_OK;
}

gd_status gd_head_logits(gd_model *model, const gd_micro *micro, int32_t logit_rows, float *logits) {
  const gd_layout *layout = &model->layout;
  const gd_device_ops *device = model->device->ops;
  gd_stream *stream = model->device->compute;
  head h = head_of(model);
  int64_t width = layout->shape.width, vocabulary = layout->shape.vocabulary;
  GD_TRY(final_norm(model, micro));
  const char *x = gd_model_activation(model, GD_A_FINAL, 0);
  x += (size_t)((micro->rows - logit_rows) * width) * layout->shape.bytes;
  GD_TRY(gd_linear_column_forward(model, layout->head, -1, x, logit_rows, h.logits, GD_FLOAT32));
  /* [block][rows][columns] of every tensor rank, in block order; LOGITS has room for this rank's blocks, so others come one by
   * one. */
  size_t block_bytes = (size_t)(logit_rows * h.columns) * sizeof(float);
  float *mine = h.logits, *other = mine + layout->shape.blocks * logit_rows * h.columns;
  for (int32_t all = 0; all < h.weight->all_blocks; all++) {
    int32_t owner = all / layout->shape.blocks;
    float *block = owner == model->tensor->rank ? mine + (all % layout->shape.blocks) * logit_rows * h.columns : other;
    if (model->tensor->size > 1) GD_TRY(model->tensor->ops->broadcast(model->tensor, stream, block, block_bytes, owner));
    int64_t first = all * h.columns, columns = vocabulary - first < h.columns ? vocabulary - first : h.columns;
    for (int32_t r = 0; columns > 0 && r < logit_rows; r++)
      GD_TRY(device->copy(stream, logits + r * vocabulary + first, block + r * h.columns, (size_t)columns * sizeof(float),
                          GD_COPY_DEVICE_TO_HOST));
  }
  return device->stream_sync(stream);
}
