/* attention.c - query/key/value of the norm that came with the residual, rotary positions, attention, projection, residual, the
 * mlp's norm. */
#include <math.h>

#include "trainer/layers/layers.h"
#include "trainer/reduce.h"

/* Queries and keys of a row are neighbours: heads + kv_heads heads from the row's start. */
static gd_status rotate(gd_model *model, const gd_micro *micro, void *qkv, bool inverse) {
  const gd_model_spec *spec = &model->layout.spec.model;
  const gd_shape *s = &model->layout.shape;
  if (spec->position != GD_POSITION_ROTARY) return GD_OK;
  for (int32_t block = 0; block < s->blocks; block++) {
    gd_rotary args = {.dtype = s->dtype, .rows = micro->rows, .ld = s->qkv, .heads = s->heads + s->kv_heads};
    args.head_size = s->head_size;
    args.theta = spec->rope_theta;
    args.rope = spec->rope;
    args.x = (char *)qkv + (size_t)(block * micro->rows * s->qkv) * s->bytes;
    if (model->inference || model->layout.spec.data.reset_positions)
      args.positions = gd_model_kept(model, micro, GD_A_POSITIONS, 0);
    args.period = s->sequence;
    args.inverse = inverse;
    GD_TRY(model->kernels.ops->rotary(&model->kernels, &args));
  }
  return GD_OK;
}

static gd_attention block_arguments(const gd_model *model, const gd_micro *micro, int32_t layer, int32_t block) {
  const gd_shape *s = &model->layout.shape;
  int64_t t = s->sequence;
  gd_attention a = {.dtype = s->dtype, .batch = micro->sequences, .heads = s->heads, .kv_heads = s->kv_heads};
  char *qkv = (char *)gd_model_kept(model, micro, GD_A_QKV, layer) + (size_t)(block * micro->rows * s->qkv) * s->bytes;
  a.head_size = s->head_size;
  a.query_length = a.key_length = (int32_t)t;
  a.q = qkv;
  a.k = qkv + (size_t)s->q * s->bytes;
  a.v = qkv + (size_t)(s->q + s->kv) * s->bytes;
  a.q_row = a.kv_row = s->qkv;
  a.q_batch = a.kv_batch = t * s->qkv;
  a.out = (char *)gd_model_kept(model, micro, GD_A_ATTENTION, layer) + (size_t)(block * micro->rows * s->q) * s->bytes;
  a.out_row = s->q;
  a.out_batch = t * s->q;
  a.lse = gd_model_kept_float(model, micro, GD_A_LSE, layer) + block * micro->rows * s->heads;
  a.scale = 1.0f / sqrtf((float)s->head_size);
  if (model->layout.spec.data.mask_documents) a.document_starts = gd_model_kept(model, micro, GD_A_DOCUMENTS, 0);
  a.dropout = micro->dropout;
  a.rng = gd_model_dropout_rng(model, micro, GD_DROPOUT_ATTENTION, layer);
  a.first_sequence = micro->first_sequence;
  a.first_head = (int64_t)(s->first_block + block) * s->heads;
  a.all_heads = (int64_t)s->heads * s->all_blocks;
  a.query_total = a.key_total = t;
  a.query_block = 128;
  a.time_block = (int32_t)s->time_block;
  return a;
}

/* Appends this call's keys and values to the cache of a layer's block, which is returned. */
static gd_status append_to_cache(gd_model *model, const gd_micro *micro, int32_t layer, int32_t block, char **cache) {
  const gd_shape *s = &model->layout.shape;
  const char *qkv = (const char *)gd_model_kept(model, micro, GD_A_QKV, layer);
  gd_cache_rows rows = {.dtype = s->dtype, .rows = micro->rows, .width = 2 * s->kv, .ld = s->qkv};
  int64_t place = ((int64_t)layer * s->blocks + block) * model->cache.slots * model->cache.capacity;
  *cache = (char *)model->cache.memory + (size_t)(place * rows.width) * s->bytes;
  rows.x = qkv + (size_t)(block * micro->rows * s->qkv + s->q) * s->bytes;
  rows.slots = gd_model_kept(model, micro, GD_A_SLOTS, 0);
  rows.positions = gd_model_kept(model, micro, GD_A_POSITIONS, 0);
  rows.capacity = model->cache.capacity;
  rows.cache = *cache;
  return model->kernels.ops->cache_rows(&model->kernels, &rows);
}

/* `batch` neighbouring parts of `rows` rows each, from row `first` of the call on, look at their slots. */
static gd_status look_at_cache(gd_model *model, const gd_micro *micro, int32_t layer, int32_t block, char *cache, int64_t first,
                               int32_t batch, int32_t rows) {
  const gd_shape *s = &model->layout.shape;
  gd_attention a = block_arguments(model, micro, layer, block);
  a.batch = batch;
  a.query_length = rows;
  a.q = (const char *)a.q + (size_t)(first * s->qkv) * s->bytes;
  a.q_batch = rows * s->qkv;
  a.out = (char *)a.out + (size_t)(first * s->q) * s->bytes;
  a.out_batch = rows * s->q;
  a.lse += first * s->heads;
  a.k = cache;
  a.v = cache + (size_t)s->kv * s->bytes;
  a.kv_row = 2 * s->kv;
  a.kv_batch = model->cache.capacity * a.kv_row;
  a.slots = (const int32_t *)gd_model_kept(model, micro, GD_A_SLOTS, 0) + first;
  a.starts = (const int32_t *)gd_model_kept(model, micro, GD_A_POSITIONS, 0) + first;
  a.query_total = a.key_total = a.key_length = model->cache.capacity;
  return model->kernels.ops->attention_forward(&model->kernels, &a);
}

/* Parts of one row, as generation has them, go together: slots and positions of neighbours are then those of their rows. */
static gd_status attention_with_cache(gd_model *model, const gd_micro *micro, int32_t layer, int32_t block) {
  const gd_infer_part *parts = micro->parts;
  char *cache;
  GD_TRY(append_to_cache(model, micro, layer, block, &cache));
  int64_t first = 0;
  for (int32_t i = 0, batch; i < micro->part_count; i += batch) {
    batch = 1;
    while (parts[i].rows == 1 && i + batch < micro->part_count && parts[i + batch].rows == 1) batch++;
    GD_TRY(look_at_cache(model, micro, layer, block, cache, first, batch, parts[i].rows));
    first += batch * parts[i].rows;
  }
  return GD_OK;
}

gd_status gd_attention_layer_forward(gd_model *model, const gd_micro *micro, int32_t layer) {
  const gd_layer_parameters *p = &model->layout.layers[layer];
  const gd_shape *s = &model->layout.shape;
  const void *all;
  void *qkv = gd_model_kept(model, micro, GD_A_QKV, layer);
  GD_TRY(gd_reduce_gather(model, micro, gd_model_kept(model, micro, GD_A_NORM1, layer), GD_W_GATHERED, &all));
  GD_TRY(gd_linear_column_forward(model, p->qkv_weight, p->qkv_bias, all, micro->rows, qkv, s->dtype, NULL));
  GD_TRY(rotate(model, micro, qkv, false));
  for (int32_t block = 0; block < s->blocks; block++) {
    if (model->inference) {
      GD_TRY(attention_with_cache(model, micro, layer, block));
      continue;
    }
    gd_attention a = block_arguments(model, micro, layer, block);
    GD_TRY(model->kernels.ops->attention_forward(&model->kernels, &a));
  }
  gd_norm_place norm2 = gd_norm2(model, layer);
  return gd_branch_forward(model, micro, p->projection_weight, p->projection_bias, GD_DROPOUT_PROJECTION, layer,
                           gd_model_kept(model, micro, GD_A_ATTENTION, layer),
                           gd_model_kept(model, micro, GD_A_RESIDUAL, layer), gd_model_kept(model, micro, GD_A_MIDDLE, layer),
                           &norm2);
}

gd_status gd_attention_layer_backward(gd_model *model, const gd_micro *micro, int32_t layer) {
  const gd_layer_parameters *p = &model->layout.layers[layer];
  const gd_shape *s = &model->layout.shape;
  char *dout = gd_model_workspace(model, GD_W_DATTENTION), *dqkv = gd_model_workspace(model, GD_W_DQKV);
  GD_TRY(gd_branch_backward(model, micro, p->projection_weight, p->projection_bias, GD_DROPOUT_PROJECTION, layer,
                            gd_model_kept(model, micro, GD_A_ATTENTION, layer), NULL, dout));
  for (int32_t block = 0; block < s->blocks; block++) {
    gd_attention a = block_arguments(model, micro, layer, block);
    a.dout = dout + (size_t)(block * micro->rows * s->q) * s->bytes;
    a.dq = dqkv + (size_t)(block * micro->rows * s->qkv) * s->bytes;
    a.dk = (char *)a.dq + (size_t)s->q * s->bytes;
    a.dv = (char *)a.dq + (size_t)(s->q + s->kv) * s->bytes;
    a.delta = gd_model_workspace_float(model, GD_W_DELTA);
    GD_TRY(model->kernels.ops->attention_backward(&model->kernels, &a));
  }
  GD_TRY(rotate(model, micro, dqkv, true));
  GD_TRY(gd_entry_backward(model, micro, p->qkv_weight, p->qkv_bias, gd_model_kept(model, micro, GD_A_NORM1, layer), dqkv));
  gd_norm_place norm1 = gd_norm1(model, layer);
  return gd_norm_layer_backward(model, micro, &norm1, gd_model_workspace(model, GD_W_DRESIDUAL));
}
