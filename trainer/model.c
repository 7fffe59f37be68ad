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
  return labels ? gd_classifier_load(model, micro, labels, first) : GD_OK;
}

/* The buckets of these parameters must have come from the ranks that updated them; what is frozen is there. */
static gd_status await_weights(gd_model *model, const int32_t *parameters, int count) {
  const gd_event *last = NULL;
  for (int i = 0; model->gathered && i < count; i++) {
    if (!gd_layout_trains(&model->layout, parameters[i])) continue;
    gd_event *gathered = model->gathered[model->layout.parameters[parameters[i]].bucket];
    if (gathered && gathered != last) GD_TRY(model->device->ops->stream_wait(model->device->compute, gathered));
    last = gathered;
  }
  return GD_OK;
}

static gd_status await_layer(gd_model *model, int32_t layer) {
  enum { COUNT = sizeof(gd_layer_parameters) / sizeof(int32_t) };
  int32_t parameters[COUNT];
  memcpy(parameters, &model->layout.layers[layer], sizeof parameters);
  return await_weights(model, parameters, COUNT);
}

gd_status gd_model_forward(gd_model *model, const gd_micro *micro, int32_t first_layer, int32_t layers) {
  if (first_layer == 0) {
    GD_TRY(await_weights(model, (int32_t[]){model->layout.token_table, model->layout.position_table}, 2));
    GD_TRY(gd_embedding_layer_forward(model, micro));
  }
  for (int32_t layer = first_layer; layer < first_layer + layers; layer++) {
    GD_TRY(await_layer(model, layer));
    GD_TRY(gd_attention_layer_forward(model, micro, layer));
    GD_TRY(gd_mlp_layer_forward(model, micro, layer));
  }
  return GD_OK;
}

static gd_status await_head(gd_model *model) {
  const gd_layout *layout = &model->layout;
  return await_weights(model, (int32_t[]){layout->final_norm_weight, layout->final_norm_bias, layout->head}, 3);
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

gd_status gd_model_infer(gd_model *model, const int32_t *tokens, int32_t rows, int32_t logit_rows, float *logits) {
  if (model->cache.length + rows > model->cache.capacity)
    return gd_fail_user(GD_USAGE, "%d tokens and %d more do not fit the context of %d tokens", model->cache.length, rows,
                        model->cache.capacity);
  gd_micro micro = {.sequences = 1, .rows = rows, .rows_here = rows, .position = model->cache.length};
  GD_TRY(load_rows(model, &micro, GD_A_TOKENS, tokens));
  GD_TRY(gd_model_forward(model, &micro, 0, model->layout.shape.layers));
  model->cache.length += rows;
  return model->layout.shape.classes ? gd_classifier_logits(model, &micro, logit_rows, logits)
                                     : gd_head_logits(model, &micro, logit_rows, logits);
}
