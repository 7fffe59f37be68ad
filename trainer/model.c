/* model.c - the layers in order. */
#include "trainer/model.h"

#include <string.h>

#include "trainer/layers/layers.h"

/* A number a row, of 4 bytes. */
static gd_status load_rows(gd_model *model, const gd_micro *micro, gd_activation_id to, const void *from) {
  return model->device->ops->copy(model->device->compute, gd_model_kept(model, micro, to, 0), from, (size_t)micro->rows * 4,
                                  GD_COPY_HOST_TO_DEVICE);
}

gd_status gd_model_load_batch(gd_model *model, gd_micro *micro, const gd_batch *batch, const gd_labels *labels, int64_t first) {
  const gd_data_spec *data = &model->layout.spec.data;
  int64_t row = first * batch->length;
  GD_TRY(load_rows(model, micro, GD_A_TOKENS, batch->tokens + row));
  if (!labels) GD_TRY(load_rows(model, micro, GD_A_TARGETS, batch->targets + row));
  if (!labels) GD_TRY(load_rows(model, micro, GD_A_WEIGHTS, batch->weights + row));
  if (data->mask_documents) GD_TRY(load_rows(model, micro, GD_A_DOCUMENTS, batch->document_starts + row));
  if (data->reset_positions) GD_TRY(load_rows(model, micro, GD_A_POSITIONS, batch->positions + row));
  if (labels) return gd_classifier_load(model, micro, labels, first);
  micro->target_weights = batch->weights + row;
  return GD_OK;
}

static gd_status await_layer(gd_model *model, int32_t layer) {
  enum { COUNT = sizeof(gd_layer_parameters) / sizeof(int32_t) };
  int32_t parameters[COUNT];
  memcpy(parameters, &model->layout.layers[layer], sizeof parameters);
  return gd_model_await(model, parameters, COUNT);
}

gd_status gd_model_forward(gd_model *model, const gd_micro *micro, int32_t first_layer, int32_t layers) {
  const gd_shape *shape = &model->layout.shape;
  const int32_t end = first_layer + layers;
  gd_norm_place next = gd_norm1(model, first_layer);
  if (first_layer == 0) {
    GD_TRY(gd_model_await(model, (int32_t[]){model->layout.token_table, model->layout.position_table}, 2));
    GD_TRY(gd_embedding_layer_forward(model, micro, &next));
  } else {
    GD_TRY(gd_norm_layer_forward(model, micro, &next));
  }
  for (int32_t layer = first_layer; layer < end; layer++) {
    GD_TRY(await_layer(model, layer));
    GD_TRY(gd_attention_layer_forward(model, micro, layer));
    bool last = layer + 1 == shape->layers, made = last ? gd_head_norms_all(model) : layer + 1 < end;
    next = last ? gd_final_norm(model) : gd_norm1(model, layer + 1);
    GD_TRY(gd_mlp_layer_forward(model, micro, layer, made ? &next : NULL));
  }
  return GD_OK;
}

static gd_status await_head(gd_model *model) {
  const gd_layout *layout = &model->layout;
  return gd_model_await(model, (int32_t[]){layout->final_norm_weight, layout->final_norm_bias, layout->head}, 3);
}

gd_status gd_model_loss(gd_model *model, const gd_micro *micro, float *sums, bool gradient) {
  GD_TRY(await_head(model));
  return model->layout.shape.classes ? gd_classifier_loss(model, micro, sums, NULL, gradient)
                                     : gd_head_loss(model, micro, sums, gradient);
}

gd_status gd_model_classify(gd_model *model, const gd_micro *micro, float *sums, float *host_logits) {
  GD_TRY(await_head(model));
  return gd_classifier_loss(model, micro, sums, host_logits, false);
}

int32_t gd_model_outputs(const gd_model *model) {
  const gd_shape *s = &model->layout.shape;
  return (int32_t)(s->classes ? s->classes : s->vocabulary);
}

gd_status gd_model_backward(gd_model *model, const gd_micro *micro, int32_t first_layer, int32_t layers) {
  for (int32_t layer = first_layer; layer > first_layer - layers; layer--) {
    GD_TRY(gd_mlp_layer_backward(model, micro, layer));
    GD_TRY(gd_attention_layer_backward(model, micro, layer));
  }
  return layers > first_layer && model->layout.tables_trained ? gd_embedding_layer_backward(model, micro) : GD_OK;
}

/* Slots and positions of the rows, and whether they fit. */
static gd_status place_rows(gd_model *model, const gd_infer_part *parts, int32_t count, int64_t *rows) {
  gd_cache *cache = &model->cache;
  int64_t most = model->activations.rows;
  int32_t *slots = cache->places, *positions = cache->places + most;
  *rows = 0;
  for (int32_t i = 0; i < count; i++) {
    const gd_infer_part *p = &parts[i];
    if (p->slot < 0 || p->slot >= cache->slots || p->rows < 1 || p->logit_rows > p->rows || *rows + p->rows > most)
      return gd_fail(GD_BUG, "part %d of a call: slot %d of %d, %d rows behind %lld of %lld", i, p->slot, cache->slots, p->rows,
                     (long long)*rows, (long long)most);
    int32_t length = cache->lengths[p->slot];
    if (length + p->rows > cache->capacity)
      return gd_fail_user(GD_USAGE, "%d tokens and %d more do not fit the context of %d tokens", length, p->rows,
                          cache->capacity);
    for (int32_t r = 0; r < p->rows; r++, ++*rows) {
      slots[*rows] = p->slot;
      positions[*rows] = length + r;
    }
  }
  return GD_OK;
}

gd_status gd_model_infer(gd_model *model, const gd_infer_part *parts, int32_t count, const int32_t *tokens, float *logits) {
  const gd_device_ops *ops = model->device->ops;
  gd_stream *stream = model->device->compute;
  int64_t rows;
  GD_TRY(place_rows(model, parts, count, &rows));
  gd_micro micro = {.sequences = 1, .rows = rows, .rows_here = rows, .parts = parts, .part_count = count};
  size_t bytes = (size_t)rows * sizeof(int32_t);
  GD_TRY(load_rows(model, &micro, GD_A_TOKENS, tokens));
  GD_TRY(ops->copy(stream, gd_model_kept(model, &micro, GD_A_SLOTS, 0), model->cache.places, bytes, GD_COPY_HOST_TO_DEVICE));
  GD_TRY(ops->copy(stream, gd_model_kept(model, &micro, GD_A_POSITIONS, 0), model->cache.places + model->activations.rows,
                   bytes, GD_COPY_HOST_TO_DEVICE));
  GD_TRY(gd_model_forward(model, &micro, 0, model->layout.shape.layers));
  GD_TRY(model->layout.shape.classes ? gd_classifier_logits(model, &micro, logits) : gd_head_logits(model, &micro, logits));
  for (int32_t i = 0; i < count; i++) model->cache.lengths[parts[i].slot] += parts[i].rows;
  return ops->stream_sync(stream);
}

gd_status gd_model_copy_slot(gd_model *model, int32_t from, int32_t to) {
  const gd_shape *s = &model->layout.shape;
  gd_cache *cache = &model->cache;
  size_t row = (size_t)(2 * s->kv) * s->bytes, slot = (size_t)cache->capacity * row;
  size_t bytes = (size_t)cache->lengths[from] * row;
  for (int64_t i = 0; i < (int64_t)s->layers * s->blocks; i++) {
    char *first = (char *)cache->memory + (size_t)(i * cache->slots) * slot;
    GD_TRY(model->device->ops->copy(model->device->compute, first + (size_t)to * slot, first + (size_t)from * slot, bytes,
                                    GD_COPY_DEVICE_TO_DEVICE));
  }
  cache->lengths[to] = cache->lengths[from];
  return GD_OK;
}
