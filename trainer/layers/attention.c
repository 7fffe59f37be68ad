/* attention.c - norm, query/key/value, rotary positions, attention, projection, residual. */
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
    args.x = (char *)qkv + (size_t)(block * micro->rows * s->qkv) * s->bytes;
    args.first_position = model->inference ? micro->position : 0;
    args.period = model->inference ? micro->rows : s->sequence;
    if (model->layout.spec.data.reset_positions && !model->inference)
      args.positions = gd_model_kept(model, micro, GD_A_POSITIONS, 0);
    args.inverse = inverse;
    GD_TRY(model->kernels.ops->rotary(&model->kernels, &args));
  }
  return GD_OK;
}

static gd_attention block_arguments(const gd_model *model, const gd_micro *micro, int32_t layer, int32_t block) {
  const gd_shape *s = &model->layout.shape;
  int64_t t = model->inference ? micro->rows : s->sequence;
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
  if (model->layout.spec.data.mask_documents && !model->inference)
    a.document_starts = gd_model_kept(model, micro, GD_A_DOCUMENTS, 0);
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

/* Appends this call's keys and values to the cache and lets the kernel look at all of it. */
static gd_status use_cache(gd_model *model, const gd_micro *micro, int32_t layer, int32_t block, gd_attention *a) {
  const gd_shape *s = &model->layout.shape;
  int64_t row = 2 * s->kv, place = (int64_t)layer * s->blocks + block;
  char *cache = (char *)model->cache.memory + (size_t)(place * model->cache.capacity * row) * s->bytes;
  gd_stream *stream = model->device->compute;
  for (int64_t r = 0; r < micro->rows; r++) {
    const char *from = (const char *)a->k + (size_t)(r * s->qkv) * s->bytes;
    GD_TRY(model->device->ops->copy(stream, cache + (size_t)((micro->position + r) * row) * s->bytes, from,
                                    (size_t)row * s->bytes, GD_COPY_DEVICE_TO_DEVICE));
  }
  a->k = cache;
  a->v = cache + (size_t)s->kv * s->bytes;
  a->kv_row = row;
  a->kv_batch = 0;
  a->key_length = micro->position + (int32_t)micro->rows;
  a->query_start = micro->position;
  a->key_total = model->cache.capacity;
  return GD_OK;
}

gd_status gd_attention_layer_forward(gd_model *model, const gd_micro *micro, int32_t layer) {
  const gd_layer_parameters *p = &model->layout.layers[layer];
  const gd_shape *s = &model->layout.shape;
  const void *all;
  void *x = gd_model_kept(model, micro, GD_A_RESIDUAL, layer), *norm = gd_model_kept(model, micro, GD_A_NORM1, layer);
  void *qkv = gd_model_kept(model, micro, GD_A_QKV, layer);
  GD_TRY(gd_norm_layer_forward(model, micro, p->norm1_weight, p->norm1_bias, x, norm,
                               gd_model_kept_float(model, micro, GD_A_NORM1_MEAN, layer),
                               gd_model_kept_float(model, micro, GD_A_NORM1_RSTD, layer)));
  GD_TRY(gd_reduce_gather(model, micro, norm, GD_W_GATHERED, &all));
  GD_TRY(gd_linear_column_forward(model, p->qkv_weight, p->qkv_bias, all, micro->rows, qkv, s->dtype));
  GD_TRY(rotate(model, micro, qkv, false));
  for (int32_t block = 0; block < s->blocks; block++) {
    gd_attention a = block_arguments(model, micro, layer, block);
    if (model->inference) GD_TRY(use_cache(model, micro, layer, block, &a));
    GD_TRY(model->kernels.ops->attention_forward(&model->kernels, &a));
  }
  return gd_branch_forward(model, micro, p->projection_weight, p->projection_bias, GD_DROPOUT_PROJECTION, layer,
                           gd_model_kept(model, micro, GD_A_ATTENTION, layer), x,
                           gd_model_kept(model, micro, GD_A_MIDDLE, layer));
}

gd_status gd_attention_layer_backward(gd_model *model, const gd_micro *micro, int32_t layer) {
  const gd_layer_parameters *p = &model->layout.layers[layer];
  const gd_shape *s = &model->layout.shape;
  char *dout = gd_model_workspace(model, GD_W_DATTENTION), *dqkv = gd_model_workspace(model, GD_W_DQKV);
  void *dresidual = gd_model_workspace(model, GD_W_DRESIDUAL);
  GD_TRY(gd_branch_backward(model, micro, p->projection_weight, p->projection_bias, GD_DROPOUT_PROJECTION, layer,
                            gd_model_kept(model, micro, GD_A_ATTENTION, layer), dout));
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
  return gd_norm_layer_backward(model, micro, p->norm1_weight, p->norm1_bias, gd_model_kept(model, micro, GD_A_RESIDUAL, layer),
                                gd_model_kept_float(model, micro, GD_A_NORM1_MEAN, layer),
                                gd_model_kept_float(model, micro, GD_A_NORM1_RSTD, layer),
                                gd_model_workspace(model, GD_W_DNORM), dresidual, dresidual);
}
