/* arenas.c - takes and gives back a rank's memory, once, and finds parameters, gradients and activations in it by the layout's
 * tables. */
#include "trainer/arenas.h"

#include <stdlib.h>
#include <string.h>

/* Which keys of the run file, or options of an inference program, make a buffer smaller. precision.dtype: bf16 is none for
 * parameters: their master weights are then a copy of their own. */
static const char *what_helps(gd_memory_group group, bool inference) {
  switch (group) {
    case GD_MEMORY_PARAMETERS:
      return inference ? "--dtype bfloat16, or more ranks with a larger --tensor" : "more ranks with a larger parallel.tensor";
    case GD_MEMORY_GRADIENTS: return "more ranks with a larger parallel.tensor, or numerics: fast, which keeps one sum";
    case GD_MEMORY_OPTIMIZER: return "more ranks with parallel.zero: 1 or a larger parallel.tensor";
    case GD_MEMORY_ACTIVATIONS:
    case GD_MEMORY_WORKSPACE:
      return inference
                 ? "--dtype bfloat16, more ranks with a larger --tensor, or a smaller --context or --batch of gptdist-generate"
                 : "a smaller batch.micro or batch.sequence, or more ranks with a larger parallel.tensor";
    default: return "more ranks with a larger parallel.tensor";
  }
}

/* Whether memory was short: a lost device has the same code, but does not answer any more. */
static bool is_short(gd_device *device, gd_status status) {
  return status == GD_NO_MEMORY && device->ops->memory_used(device) > 0;
}

static gd_status take_bytes(gd_model *model, const gd_memory *wanted, void **out) {
  const gd_device_ops *ops = model->device->ops;
  bool host = wanted->group == GD_MEMORY_HOST;
  size_t bytes = (size_t)wanted->bytes;
  gd_status status = host ? ops->alloc_host(model->device, bytes, out) : ops->alloc(model->device, bytes, out);
  if (!is_short(model->device, status)) return status;
  if (host) return gd_error_context(status, "this is host memory for %s (%zu bytes)", wanted->name, bytes);
  return gd_error_context(status, "this is for %s (%zu bytes); what helps: %s%s", wanted->name, bytes,
                          what_helps(wanted->group, model->inference),
                          model->inference ? "" : "; gptdist-train --dry-run lists all of them");
}

gd_status gd_model_take(gd_model *model, gd_memory_id id, bool zeroed, void *out) {
  const gd_device_ops *ops = model->device->ops;
  size_t bytes = (size_t)model->memory[id].bytes;
  void **memory = out;
  *memory = NULL;
  if (model->taken[id]) return gd_fail(GD_BUG, "%s: taken twice", model->memory[id].name);
  if (bytes == 0) return GD_OK;
  GD_TRY(take_bytes(model, &model->memory[id], memory));
  model->taken[id] = true;
  return zeroed ? ops->fill(model->device->compute, *memory, 0, bytes) : GD_OK;
}

gd_status gd_model_take_copy(gd_model *model, gd_memory_id id, const void *host, void *out) {
  const gd_device_ops *ops = model->device->ops;
  GD_TRY(gd_model_take(model, id, false, out));
  GD_TRY(ops->copy(model->device->compute, *(void **)out, host, (size_t)model->memory[id].bytes, GD_COPY_HOST_TO_DEVICE));
  return ops->stream_sync(model->device->compute);
}

void gd_model_give(gd_model *model, gd_memory_id id, void *memory) {
  if (!memory) return;
  const gd_device_ops *ops = model->device->ops;
  model->taken[id] = false;
  if (model->memory[id].group == GD_MEMORY_HOST)
    ops->free_host(model->device, memory);
  else
    ops->free(model->device, memory);
}

static gd_status take_memory(gd_model *model) {
  GD_TRY(gd_model_take(model, GD_M_PARAMETERS, true, &model->parameters));
  GD_TRY(gd_model_take(model, GD_M_ACTIVATIONS, false, &model->kept));
  GD_TRY(gd_model_take(model, GD_M_WORKSPACE, false, &model->workspace));
  GD_TRY(gd_model_take(model, GD_M_CACHE, false, &model->cache.memory));
  /* Zeroed once: what no kernel writes (padding, unused positions) stays zero. */
  return gd_model_take(model, GD_M_GRADIENTS, true, &model->gradients);
}

static gd_status take_places(gd_model *model, int32_t cache_slots, int32_t cache_tokens) {
  gd_cache *cache = &model->cache;
  size_t rows = (size_t)model->activations.rows;
  cache->slots = cache_slots;
  cache->capacity = cache_tokens;
  cache->lengths = calloc((size_t)cache_slots, sizeof *cache->lengths);
  cache->places = calloc(2 * rows, sizeof *cache->places);
  if (cache->lengths && cache->places) return GD_OK;
  return gd_fail(GD_NO_MEMORY, "no memory for the places of %zu rows", rows);
}

gd_status gd_model_open(gd_session *session, gd_device *device, const gd_spec *spec, const gd_mesh *mesh, int32_t cache_slots,
                        int32_t cache_tokens, gd_model *out) {
  bool inference = cache_slots > 0;
  memset(out, 0, sizeof *out);
  out->session = session;
  out->device = device;
  out->inference = inference;
  out->seed = spec->run.seed;
  GD_TRY(gd_layout_create(spec, mesh, gd_session_rank(session), &out->layout));
  gd_layout_activations(&out->layout, inference ? 1 : spec->batch.micro, !inference, 0, &out->activations);
  if (inference)
    gd_memory_of_inference(&out->layout, cache_slots, cache_tokens, out->memory);
  else
    gd_memory_of_training(&out->layout, out->memory);
  GD_TRY(gd_session_group(session, mesh, GD_MASK_TENSOR, &out->tensor));
  GD_TRY(gd_session_group(session, mesh, GD_MASK_DATA, &out->data));
  GD_TRY(gd_session_group(session, mesh, GD_MASK_WORLD, &out->world));
  GD_TRY(gd_model_open_kernels(session, device, spec->run.threads, &out->kernels));
  out->kernels.fast = spec->numerics == GD_NUMERICS_FAST;
  out->piece_sizes = calloc(2 * (size_t)out->data->size, sizeof *out->piece_sizes);
  if (!out->piece_sizes) return gd_fail(GD_NO_MEMORY, "no memory for the pieces of %d data ranks", out->data->size);
  out->piece_offsets = out->piece_sizes + out->data->size;
  if (inference) GD_TRY(take_places(out, cache_slots, cache_tokens));
  return take_memory(out);
}

gd_status gd_model_open_kernels(gd_session *session, gd_device *device, int32_t threads, gd_kernels *out) {
  gd_status status = gd_kernels_open(device, gd_session_cuda_kernels(session), threads, out);
  return is_short(device, status) ? gd_error_context(status, "this is for scratch of the kernels") : status;
}

void gd_model_close(gd_model *model) {
  if (!model->device) return;
  gd_model_give(model, GD_M_PARAMETERS, model->parameters);
  gd_model_give(model, GD_M_GRADIENTS, model->gradients);
  gd_model_give(model, GD_M_ACTIVATIONS, model->kept);
  gd_model_give(model, GD_M_WORKSPACE, model->workspace);
  gd_model_give(model, GD_M_CACHE, model->cache.memory);
  if (model->kernels.ops) gd_kernels_close(&model->kernels);
  gd_layout_free(&model->layout);
  free(model->piece_sizes);
  free(model->cache.lengths);
  free(model->cache.places);
  memset(model, 0, sizeof *model);
}

gd_micro gd_model_micro(const gd_model *model, int32_t sequences, int64_t first_sequence, int64_t step) {
  gd_micro micro = {.sequences = sequences, .first_sequence = first_sequence, .step = step};
  micro.rows = sequences * model->layout.shape.sequence;
  micro.rows_here = model->inference ? micro.rows : micro.rows / model->tensor->size;
  return micro;
}

void *gd_model_kept(const gd_model *model, const gd_micro *micro, gd_activation_id id, int32_t copy) {
  const gd_activation_entry *e = &model->activations.entries[id];
  if (!gd_lifetime_is_kept(e->lifetime)) return model->workspace + e->offset;
  int64_t place = copy > e->first_layer ? copy - e->first_layer : 0;
  return model->kept + micro->slot * model->activations.slot_bytes + e->offset + place * e->stride;
}

void *gd_model_workspace(const gd_model *model, gd_activation_id id) {
  return model->workspace + model->activations.entries[id].offset;
}

void *gd_model_bucket(const gd_model *model, int32_t bucket) {
  return (char *)model->parameters + (size_t)model->layout.buckets[bucket].offset * model->layout.shape.bytes;
}

float *gd_model_bucket_gradient(const gd_model *model, int32_t slot, int32_t bucket) {
  return model->gradients + slot * model->layout.gradient_elems + model->layout.buckets[bucket].gradient_offset;
}

const void *gd_model_parameter(const gd_model *model, int32_t parameter, int32_t block) {
  if (parameter < 0) return 0;
  const gd_parameter *p = &model->layout.parameters[parameter];
  const char *bucket = gd_model_bucket(model, p->bucket);
  return bucket + (size_t)(p->offset + block * p->block_elems) * model->layout.shape.bytes;
}

float *gd_model_gradient(const gd_model *model, int32_t slot, int32_t parameter, int32_t block) {
  const gd_parameter *p = &model->layout.parameters[parameter];
  return gd_model_bucket_gradient(model, slot, p->bucket) + p->offset + block * p->block_elems;
}

gd_status gd_model_await(gd_model *model, const int32_t *parameters, int count) {
  const gd_event *last = NULL;
  for (int i = 0; model->gathered && i < count; i++) {
    if (!gd_layout_trains(&model->layout, parameters[i])) continue;
    gd_event *gathered = model->gathered[model->layout.parameters[parameters[i]].bucket];
    if (gathered && gathered != last) GD_TRY(model->device->ops->stream_wait(model->device->compute, gathered));
    last = gathered;
  }
  return GD_OK;
}

gd_rng gd_model_dropout_rng(const gd_model *model, const gd_micro *micro, gd_dropout_site site, int32_t layer) {
  return gd_rng_make(model->seed, GD_RNG_DROPOUT, site, (uint32_t)layer, (uint64_t)micro->step);
}

int64_t gd_model_first_row(const gd_model *model, const gd_micro *micro) {
  return micro->first_sequence * model->layout.shape.sequence + (model->inference ? 0 : model->tensor->rank * micro->rows_here);
}
