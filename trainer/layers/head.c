/* head.c - logits by blocks of the vocabulary of the final norm that came with the last residual, cross entropy, all of it for
 * one strip of rows after the other, so that the logits of a micro-batch are never held at once. Those of a strip are held
 * once: exponentials and their gradients are written over them (bfloat16 gradients over the first half of each row). Rows
 * without a target would have no loss and add +0 to every gradient: long stretches of them are in no strip. */
#include "trainer/layers/layers.h"
#include "trainer/reduce.h"

/* A strip between two others begins and ends with a tile in which there is a target. It reads and writes the weight's gradient,
 * 8 bytes a weight, where a row has 6 operations a weight: by peak rates of memory and products some 10 rows on a CPU, 200 on a
 * GPU. So shorter gaps are computed along. */
enum { TILE = 16, GAP = 64, GPU_GAP = 256 };

/* A strip: rows [first, first + rows) of a micro-batch; none: behind the last one. */
typedef struct strip {
  const gd_micro *micro;
  const gd_parameter *weight;
  int64_t first, rows;
  int64_t columns, ld; /* of a block; distance of two rows of dlogits, stored elements */
  const void *x;       /* [rows][C] stored: outputs of the final norm */
  float *logits, *block_sum, *block_target, *row_sum, *row_target;
  float smoothing; /* of training alone */
} strip;

static strip strip_of(const gd_model *model, const gd_micro *micro, const void *x, int64_t first, int64_t rows) {
  const gd_shape *shape = &model->layout.shape;
  strip s = {.micro = micro, .weight = &model->layout.parameters[model->layout.head], .first = first, .rows = rows};
  s.columns = s.weight->block_rows;
  s.ld = shape->dtype == GD_FLOAT32 ? s.columns : 2 * s.columns;
  s.x = (const char *)x + (size_t)(first * shape->width) * shape->bytes;
  s.logits = gd_model_workspace_float(model, GD_W_LOGITS);
  s.block_sum = gd_model_workspace_float(model, GD_W_BLOCK_SUM);
  s.block_target = gd_model_workspace_float(model, GD_W_BLOCK_TARGET);
  s.row_sum = gd_model_workspace_float(model, GD_W_ROW_SUM);
  s.row_target = gd_model_workspace_float(model, GD_W_ROW_TARGET);
  return s;
}

static gd_loss block_arguments(const gd_model *model, const strip *s, int32_t block) {
  int64_t all_block = s->weight->first_block + block, first = all_block * s->columns;
  int64_t valid = model->layout.shape.vocabulary - first;
  gd_loss a = {.dtype = model->layout.shape.dtype, .rows = s->rows, .columns = s->columns, .first_column = first};
  a.valid_columns = valid < 0 ? 0 : valid < s->columns ? valid : s->columns;
  a.logits = s->logits + block * s->rows * s->columns;
  a.ld = s->columns;
  a.targets = (const int32_t *)gd_model_kept(model, s->micro, GD_A_TARGETS, 0) + s->first;
  a.weights = gd_model_kept_float(model, s->micro, GD_A_WEIGHTS, 0) + s->first;
  a.row_max = gd_model_workspace_float(model, GD_W_ROW_MAX);
  a.block_sum = s->block_sum + all_block * s->rows;
  a.block_target = s->block_target + all_block * s->rows;
  a.row_sum = s->row_sum;
  a.row_target = s->row_target;
  a.dlogits = a.logits;
  a.dld = s->ld;
  a.smoothing = s->smoothing;
  a.spread = s->smoothing / (float)model->layout.shape.vocabulary;
  a.row_loss = gd_model_workspace_float(model, GD_W_ROW_LOSS) + s->first;
  return a;
}

bool gd_head_norms_all(const gd_model *model) {
  return !model->inference && model->layout.shape.classes == 0;
}

/* Every block's partial results reach every tensor rank, then the tree over all R blocks. */
static gd_status sum_blocks(gd_model *model, const strip *s, float *blocks, float *sum) {
  if (model->tensor->size > 1) {
    size_t bytes = (size_t)(model->layout.shape.blocks * s->rows) * sizeof(float);
    GD_TRY(model->tensor->ops->all_gather(model->tensor, model->device->compute, blocks + s->weight->first_block * s->rows,
                                          blocks, bytes));
  }
  gd_tree_sum tree = {.leaves = s->weight->all_blocks, .elements = s->rows, .dtype = GD_FLOAT32, .in = blocks};
  tree.leaf_stride = s->rows;
  tree.out = sum;
  return model->kernels.ops->tree_sum(&model->kernels, &tree);
}

/* Logits to gradients (or what the caller does not need), and the loss of each row, where all blocks are here. */
static gd_status whole(gd_model *model, const strip *s, bool gradient) {
  gd_loss a = block_arguments(model, s, 0);
  a.valid_columns = model->layout.shape.vocabulary;
  a.blocks = s->weight->blocks;
  a.block_stride = s->rows * s->columns;
  a.dblock_stride = s->rows * s->ld;
  if (!gradient) a.dlogits = 0;
  return model->kernels.ops->loss_whole(&model->kernels, &a);
}

/* Logits to exponentials, and the loss of each row. */
static gd_status softmax(gd_model *model, const strip *s) {
  const gd_kernels_ops *ops = model->kernels.ops;
  float *row_max = gd_model_workspace_float(model, GD_W_ROW_MAX);
  /* Bytes 0xFE make -1.7e38, below every finite logit. */
  GD_TRY(model->device->ops->fill(model->device->compute, row_max, 0xFE, (size_t)s->rows * sizeof(float)));
  for (int32_t block = 0; block < s->weight->blocks; block++) {
    gd_loss a = block_arguments(model, s, block);
    GD_TRY(ops->loss_max(&model->kernels, &a));
  }
  if (model->tensor->size > 1)
    GD_TRY(model->tensor->ops->all_reduce(model->tensor, model->device->compute, row_max, (size_t)s->rows, GD_FLOAT32, GD_MAX));
  for (int32_t block = 0; block < s->weight->blocks; block++) {
    gd_loss a = block_arguments(model, s, block);
    GD_TRY(ops->loss_exponentials(&model->kernels, &a));
  }
  GD_TRY(sum_blocks(model, s, s->block_sum, s->row_sum));
  GD_TRY(sum_blocks(model, s, s->block_target, s->row_target));
  gd_loss a = block_arguments(model, s, 0);
  return ops->loss_rows(&model->kernels, &a);
}

/* The loss of each row, and in place of the logits their gradient. */
static gd_status loss_of_rows(gd_model *model, const strip *s, bool gradient) {
  if (model->tensor->size == 1 && s->smoothing == 0.0f) return whole(model, s, gradient);
  GD_TRY(softmax(model, s));
  for (int32_t block = 0; block < s->weight->blocks && gradient; block++) {
    gd_loss a = block_arguments(model, s, block);
    GD_TRY(model->kernels.ops->loss_gradient(&model->kernels, &a));
  }
  return GD_OK;
}

/* The sum in a buffer of the counter. Buffer 0, in which the sum of a whole node ends, is its gradient slot, where a tied head
 * has a bucket of its own. */
static float *sum_in(const gd_model *model, int32_t slot, int32_t buffer) {
  const gd_layout *layout = &model->layout;
  const gd_parameter *weight = &layout->parameters[layout->head];
  if (buffer > 0) return gd_model_workspace_float(model, GD_W_HEAD_SUMS) + (buffer - 1) * weight->blocks * weight->block_elems;
  int32_t bucket = layout->tied_head_bucket >= 0 ? layout->tied_head_bucket : weight->bucket;
  return gd_model_bucket_gradient(model, slot, bucket) + weight->offset;
}

/* What a strip adds to the weight gradient of its node. fast: it goes on with the chain of those before it. invariant: it is a
 * complete node itself, and siblings merge; one without rows is +0. */
static gd_status backward_weight(gd_model *model, const gd_micro *micro, const strip *s, int32_t slot, int64_t number,
                                 gd_tree_counter *counter) {
  gd_tree_add adds[GD_TREE_LEVELS];
  bool fast = model->layout.spec.numerics == GD_NUMERICS_FAST;
  int32_t buffer = fast ? 0 : gd_tree_counter_take(counter);
  gd_weight_gradient g = {.weight = model->layout.head, .dy = s->logits, .dy_ld = s->ld, .x = s->x};
  g.rows = g.block_rows = s->rows;
  g.to = sum_in(model, slot, buffer);
  g.accumulate = micro->accumulate || (fast && number > 0);
  if (s->rows > 0)
    GD_TRY(gd_linear_backward_weight_rows(model, &g));
  else if (!g.accumulate)
    GD_TRY(model->device->ops->fill(model->device->compute, g.to, 0,
                                    (size_t)(s->weight->blocks * s->weight->block_elems) * sizeof(float)));
  if (fast) return GD_OK;
  int count = gd_tree_counter_push(counter, (gd_tree_node){number, 1}, buffer, adds);
  for (int i = 0; i < count; i++) {
    float *to = sum_in(model, slot, adds[i].to), *from = sum_in(model, slot, adds[i].from);
    for (int32_t block = 0; block < s->weight->blocks; block++)
      GD_TRY(model->kernels.ops->add(&model->kernels, to + block * s->weight->block_elems,
                                     from + block * s->weight->block_elems, s->columns * s->weight->block_cols));
  }
  return GD_OK;
}

/* Rows [first, first + rows) of a micro-batch. */
typedef struct stretch {
  int64_t first, rows;
} stretch;

static bool has_target(const gd_micro *micro, int64_t first, int64_t end) {
  if (!micro->target_weights) return true;
  while (first < end && micro->target_weights[first] == 0.0f) first++;
  return first < end;
}

/* The next rows of [at, end) that make a strip, at most `most`: from the first tile with a target on, to the last one before a
 * gap. */
static stretch next_rows(const gd_model *model, const gd_micro *micro, int64_t at, int64_t end, int64_t most) {
  stretch next = {end, 0};
  int64_t gap = model->device->model[0] ? GPU_GAP : GAP;
  for (; at < end && (next.rows == 0 || at < next.first + most); at += TILE) {
    int64_t stop = at + TILE < end ? at + TILE : end;
    if (has_target(micro, at, stop)) {
      if (next.rows == 0) next.first = at;
      next.rows = stop - next.first < most ? stop - next.first : most;
    } else if (next.rows > 0 && stop - next.first - next.rows >= gap) {
      break;
    }
  }
  return next;
}

/* The same where strips are nodes of the tree, which have their places: all rows of one, or none of it. */
static stretch next_node(const gd_micro *micro, int64_t at, int64_t end, int64_t most) {
  int64_t stop = end - at < most ? end : at + most;
  return has_target(micro, at, stop) ? (stretch){at, stop - at} : (stretch){stop, 0};
}

/* Row `first` of the gradient of the final norm's output: rounded where it is made if this rank has the whole sum, else a part
 * of it in float32. */
static void *dnorm_row(gd_model *model, int64_t first, gd_dtype *dtype) {
  bool whole = model->tensor->size == 1;
  *dtype = whole ? model->layout.shape.dtype : GD_FLOAT32;
  char *rows = gd_model_workspace(model, whole ? GD_W_DNORM : GD_W_PARTIAL);
  return rows + (size_t)(first * model->layout.shape.width) * gd_dtype_bytes(*dtype);
}

/* Rows that are in no strip. */
static gd_status leave_out(gd_model *model, int64_t first, int64_t rows, bool gradient) {
  const gd_device_ops *ops = model->device->ops;
  float *loss = gd_model_workspace_float(model, GD_W_ROW_LOSS) + first;
  gd_dtype dtype;
  if (rows == 0) return GD_OK;
  GD_TRY(ops->fill(model->device->compute, loss, 0, (size_t)rows * sizeof(float)));
  if (!gradient || !model->layout.head_goes_back) return GD_OK;
  void *dnorm = dnorm_row(model, first, &dtype);
  return ops->fill(model->device->compute, dnorm, 0, (size_t)(rows * model->layout.shape.width) * gd_dtype_bytes(dtype));
}

/* Logits, loss of each row, and the gradient of the final norm's output. */
static gd_status run_strip(gd_model *model, const strip *s, bool gradient) {
  const gd_layout *layout = &model->layout;
  gd_dtype dtype;
  GD_TRY(gd_linear_column_forward(model, layout->head, -1, s->x, s->rows, s->logits, GD_FLOAT32, NULL));
  GD_TRY(loss_of_rows(model, s, gradient));
  if (!gradient || !layout->head_goes_back) return GD_OK;
  void *dnorm = dnorm_row(model, s->first, &dtype);
  return gd_linear_column_backward_input(model, layout->head, s->logits, s->rows, s->ld, dnorm, dtype);
}

/* Rows [first, first + rows) in strips. slot: of the node that they are; -1: no gradients. */
static gd_status run_rows(gd_model *model, const gd_micro *micro, const void *x, int64_t first, int64_t rows, int32_t slot) {
  const gd_layout *layout = &model->layout;
  const bool gradient = slot >= 0, nodes = gradient && layout->spec.numerics == GD_NUMERICS_INVARIANT;
  int64_t most = model->activations.head_rows, end = first + rows, number = 0;
  gd_tree_counter counter;
  gd_tree_counter_reset(&counter);
  for (int64_t at = first; at < end; number++) {
    stretch next = nodes ? next_node(micro, at, end, most) : next_rows(model, micro, at, end, most);
    GD_TRY(leave_out(model, at, next.first - at, gradient));
    at = next.first + next.rows;
    strip s = strip_of(model, micro, x, next.first, next.rows);
    if (gradient) s.smoothing = layout->spec.optimizer.label_smoothing;
    if (s.rows > 0) GD_TRY(run_strip(model, &s, gradient));
    if (gradient && s.weight->trained) GD_TRY(backward_weight(model, micro, &s, slot, number, &counter));
  }
  return GD_OK;
}

static gd_status final_norm_backward(gd_model *model, const gd_micro *micro) {
  gd_norm_place norm = gd_final_norm(model);
  if (model->tensor->size > 1) GD_TRY(gd_reduce_rows_rounded(model, micro, gd_model_workspace(model, GD_W_DNORM)));
  return gd_norm_layer_backward(model, micro, &norm, NULL);
}

gd_status gd_head_loss(gd_model *model, const gd_micro *micro, float *sums, bool gradient) {
  int64_t t = model->layout.shape.time_block;
  const void *x;
  GD_TRY(gd_reduce_gather(model, micro, gd_model_kept(model, micro, GD_A_FINAL, 0), GD_W_GATHERED, &x));
  if (!gradient) GD_TRY(run_rows(model, micro, x, 0, micro->rows, -1));
  for (int32_t i = 0; gradient && i < micro->node_count; i++)
    GD_TRY(run_rows(model, micro, x, micro->nodes[i].first * t, micro->nodes[i].count * t, micro->slots[i]));
  gd_loss_sums total = {.sequences = micro->sequences, .length = model->layout.shape.sequence, .sums = sums};
  total.row_loss = gd_model_workspace_float(model, GD_W_ROW_LOSS);
  total.weights = gd_model_kept_float(model, micro, GD_A_WEIGHTS, 0);
  GD_TRY(model->kernels.ops->loss_sums(&model->kernels, &total));
  return gradient && model->layout.head_goes_back ? final_norm_backward(model, micro) : GD_OK;
}

/* The residual rows whose logits are wanted come first; how many there are. */
gd_status gd_head_wanted(gd_model *model, const gd_micro *micro, int64_t *wanted) {
  const gd_layout *layout = &model->layout;
  size_t row = (size_t)layout->shape.width * layout->shape.bytes;
  char *residual = gd_model_kept(model, micro, GD_A_RESIDUAL, layout->shape.layers);
  int64_t end = 0;
  *wanted = 0;
  for (int32_t i = 0; i < micro->part_count; i++) {
    end += micro->parts[i].rows;
    for (int64_t r = end - micro->parts[i].logit_rows; r < end; r++, ++*wanted)
      if (r != *wanted)
        GD_TRY(model->device->ops->copy(model->device->compute, residual + (size_t)*wanted * row, residual + (size_t)r * row,
                                        row, GD_COPY_DEVICE_TO_DEVICE));
  }
  return GD_OK;
}

gd_status gd_head_logits(gd_model *model, const gd_micro *micro, float *logits) {
  const gd_layout *layout = &model->layout;
  const gd_device_ops *device = model->device->ops;
  gd_stream *stream = model->device->compute;
  int64_t vocabulary = layout->shape.vocabulary, rows;
  GD_TRY(gd_head_wanted(model, micro, &rows));
  if (rows == 0) return GD_OK;
  gd_micro some = *micro;
  some.rows = some.rows_here = rows;
  gd_norm_place norm = gd_final_norm(model);
  GD_TRY(gd_norm_layer_forward(model, &some, &norm));
  strip s = strip_of(model, &some, gd_model_kept(model, &some, GD_A_FINAL, 0), 0, rows);
  GD_TRY(gd_linear_column_forward(model, layout->head, -1, s.x, rows, s.logits, GD_FLOAT32, NULL));
  /* [block][rows][columns] of every tensor rank, in block order; LOGITS has room for this rank's blocks, so others come one by
   * one. */
  size_t block_bytes = (size_t)(rows * s.columns) * sizeof(float);
  float *mine = s.logits, *other = mine + layout->shape.blocks * rows * s.columns;
  for (int32_t all = 0; all < s.weight->all_blocks; all++) {
    int32_t owner = all / layout->shape.blocks;
    float *block = owner == model->tensor->rank ? mine + (all % layout->shape.blocks) * rows * s.columns : other;
    if (model->tensor->size > 1) GD_TRY(model->tensor->ops->broadcast(model->tensor, stream, block, block_bytes, owner));
    int64_t first = all * s.columns, columns = vocabulary - first < s.columns ? vocabulary - first : s.columns;
    for (int64_t r = 0; columns > 0 && r < rows; r++)
      GD_TRY(device->copy(stream, logits + r * vocabulary + first, block + r * s.columns, (size_t)columns * sizeof(float),
                          GD_COPY_DEVICE_TO_HOST));
  }
  return GD_OK;
}
