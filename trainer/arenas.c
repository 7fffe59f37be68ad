/* arenas.c - takes and gives back a rank's memory, once, and finds parameters, gradients and activations in it by the layout's
 * tables. */
#include "trainer/arenas.h"

#include <string.h>

#include "shard/deal.h"

static gd_status take_memory(gd_model *model, int32_t sequences, int32_t cache_tokens) {
  const gd_layout *layout = &model->layout;
  const gd_shape *shape = &layout->shape;
  const gd_device_ops *ops = model->device->ops;
  gd_device *device = model->device;
  size_t parameter_bytes = (size_t)layout->arena_elems * shape->bytes;
  GD_TRY(ops->alloc(device, parameter_bytes, &model->parameters));
  GD_TRY(ops->fill(device->compute, model->parameters, 0, parameter_bytes));
  GD_TRY(ops->alloc(device, (size_t)model->activations.kept_bytes, (void **)&model->kept));
  GD_TRY(ops->alloc(device, (size_t)model->activations.workspace_bytes, (void **)&model->workspace));
  if (model->inference) {
    model->cache.capacity = cache_tokens;
    size_t bytes = (size_t)(shape->layers * shape->blocks * cache_tokens * 2 * shape->kv) * shape->bytes;
    return ops->alloc(device, bytes ? bytes : 1, &model->cache.memory);
  }
  /* Zeroed once: what no kernel writes (padding, unused positions) stays zero. */
  model->slots = gd_deal_slots(&layout->spec, model->data->size, model->data->rank, sequences);
  size_t gradient_bytes = (size_t)(model->slots * layout->gradient_elems) * sizeof(float);
  GD_TRY(ops->alloc(device, gradient_bytes, (void **)&model->gradients));
  return ops->fill(device->compute, model->gradients, 0, gradient_bytes);
}

gd_status gd_model_open(gd_session *session, gd_device *device, const gd_spec *spec, const gd_mesh *mesh, int32_t sequences,
                        bool inference, int32_t cache_tokens, gd_model *out) {
  memset(out, 0, sizeof *out);
  out->session = session;
  out->device = device;
  out->inference = inference;
  out->seed = spec->run.seed;
  GD_TRY(gd_layout_create(spec, mesh, gd_session_rank(session), &out->layout));
  gd_layout_activations(&out->layout, sequences, !inference, &out->activations);
  GD_TRY(gd_session_group(session, mesh, GD_MASK_TENSOR, &out->tensor));
  GD_TRY(gd_session_group(session, mesh, GD_MASK_DATA, &out->data));
  GD_TRY(gd_session_group(session, mesh, GD_MASK_WORLD, &out->world));
  GD_TRY(gd_model_open_kernels(session, device, spec->run.threads, &out->kernels));
  return take_memory(out, sequences, cache_tokens);
}

gd_status gd_model_open_kernels(gd_session *session, gd_device *device, int32_t threads, gd_kernels *out) {
  return gd_kernels_open(device, gd_session_cuda_kernels(session), threads, out);
}

void gd_model_close(gd_model *model) {
  if (!model->device) return;
  const gd_device_ops *ops = model->device->ops;
  void *memory[] = {model->parameters, model->gradients, model->kept, model->workspace, model->cache.memory};
  for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
    if (memory[i]) ops->free(model->device, memory[i]);
  if (model->kernels.ops) gd_kernels_close(&model->kernels);
  gd_layout_free(&model->layout);
  memset(model, 0, sizeof *model);
}

gd_micro gd_model_micro(const gd_model *model, int32_t sequences, int64_t first_sequence, int64_t step) {
  gd_micro micro = {.sequences = sequences, .first_sequence = first_sequence, .step = step};
  micro.rows = sequences * model->layout.shape.sequence;
  micro.rows_here = model->inference ? micro.rows : micro.rows / model->tensor->size;
  return micro;
}

void *gd_model_activation(const gd_model *model, gd_activation_id id, int32_t copy) {
  const gd_activation_entry *e = &model->activations.entries[id];
  char *arena = e->lifetime == GD_WORKSPACE ? model->workspace : model->kept;
  return arena + e->offset + copy * e->stride;
}

const void *gd_model_parameter(const gd_model *model, int32_t parameter, int32_t block) {
  if (parameter < 0) return 0;
  const gd_parameter *p = &model->layout.parameters[parameter];
  return (const char *)model->parameters + (size_t)(p->offset + block * p->block_elems) * model->layout.shape.bytes;
}

float *gd_model_gradient(const gd_model *model, int32_t slot, int32_t parameter, int32_t block) {
  const gd_parameter *p = &model->layout.parameters[parameter];
  return model->gradients + slot * model->layout.gradient_elems + p->offset + block * p->block_elems;
}

gd_rng gd_model_dropout_rng(const gd_model *model, const gd_micro *micro, gd_dropout_site site, int32_t layer) {
  return gd_rng_make(model->seed, GD_RNG_DROPOUT, site, (uint32_t)layer, (uint64_t)micro->step);
}

int64_t gd_model_first_row(const gd_model *model, const gd_micro *micro) {
  return micro->first_sequence * model->layout.shape.sequence + (model->inference ? 0 : model->tensor->rank * micro->rows_here);
}
