/* optimizer.c - the optimizer's memory, and the vote, the update and the gather of a step over the layout's buckets. */
#include "trainer/optimizer.h"

#include <stdlib.h>
#include <string.h>

#include "shard/deal.h"
#include "trainer/reduce.h"

_Static_assert(sizeof(gd_verdict) == GD_VERDICT_BYTES, "the plan counts the verdict");

/* One byte a unit: a unit belongs to one parameter block, since blocks start at multiples of a unit. */
static gd_status make_decay(gd_optimizer *optimizer) {
  const gd_layout *layout = &optimizer->model->layout;
  uint8_t *state = calloc((size_t)(layout->state_elems / GD_UNIT_ELEMS), 1);
  if (!state) return gd_fail(GD_NO_MEMORY, "no memory for %lld units", (long long)(layout->state_elems / GD_UNIT_ELEMS));
  for (int32_t i = 0; i < layout->parameter_count; i++) {
    const gd_parameter *p = &layout->parameters[i];
    gd_range mine = gd_layout_updated(layout, p->bucket);
    int64_t first = p->offset > mine.offset ? p->offset : mine.offset, end = p->offset + p->blocks * p->block_elems;
    if (end > mine.offset + mine.elements) end = mine.offset + mine.elements;
    if (layout->buckets[p->bucket].state_offset < 0 || first >= end) continue; /* frozen, or of another stage */
    memset(state + gd_layout_state(layout, p->bucket, first) / GD_UNIT_ELEMS, p->decay,
           (size_t)((end - first) / GD_UNIT_ELEMS));
  }
  gd_status status = gd_model_take_copy(optimizer->model, GD_M_DECAY, state, &optimizer->decay);
  free(state);
  return status;
}

/* Neighbours with one learning rate are updated together: a bucket is one span, unless optimizer.lr_scale tells its parameters
 * apart. What lies behind the last parameter goes with it. */
static gd_status make_spans(gd_optimizer *optimizer) {
  const gd_layout *layout = &optimizer->model->layout;
  optimizer->spans = calloc((size_t)layout->parameter_count, sizeof *optimizer->spans);
  if (!optimizer->spans) return gd_fail(GD_NO_MEMORY, "no memory for %d spans of parameters", layout->parameter_count);
  for (int32_t i = 0; i < layout->parameter_count; i++) {
    const gd_parameter *p = &layout->parameters[i];
    const gd_bucket *bucket = &layout->buckets[p->bucket];
    bool last = i + 1 == layout->parameter_count || p[1].bucket != p->bucket;
    gd_range mine = gd_layout_updated(layout, p->bucket);
    int64_t first = p->offset > mine.offset ? p->offset : mine.offset, end = last ? bucket->elements : p[1].offset;
    if (end > mine.offset + mine.elements) end = mine.offset + mine.elements;
    if (bucket->state_offset < 0 || first >= end) continue;
    gd_update_span *before = optimizer->span_count ? &optimizer->spans[optimizer->span_count - 1] : NULL;
    if (before && before->bucket == p->bucket && before->lr_scale == p->lr_scale)
      before->elements = end - before->offset;
    else
      optimizer->spans[optimizer->span_count++] = (gd_update_span){p->bucket, p->lr_scale, first, end - first};
  }
  return GD_OK;
}

static gd_status copy_masters(gd_optimizer *optimizer) {
  gd_model *model = optimizer->model;
  for (int32_t i = 0; i < model->layout.bucket_count; i++) {
    const gd_bucket *bucket = &model->layout.buckets[i];
    gd_range mine = gd_layout_updated(&model->layout, i);
    if (!bucket->trained) continue;
    GD_TRY(model->kernels.ops->convert(&model->kernels, GD_FLOAT32, optimizer->master + bucket->state_offset, GD_BFLOAT16,
                                       (gd_bfloat16 *)gd_model_bucket(model, i) + mine.offset, mine.elements));
  }
  return GD_OK;
}

gd_status gd_optimizer_open(gd_model *model, gd_optimizer *out) {
  memset(out, 0, sizeof *out);
  out->model = model;
  GD_TRY(gd_model_take(model, GD_M_FIRST, true, &out->first));
  GD_TRY(gd_model_take(model, GD_M_SECOND, true, &out->second));
  GD_TRY(gd_model_take(model, GD_M_VERDICT, true, &out->verdict));
  GD_TRY(gd_model_take(model, GD_M_SEQUENCE_SUMS, true, &out->sequence_sums));
  GD_TRY(gd_model_take(model, GD_M_ALL_SEQUENCE_SUMS, true, &out->all_sequence_sums));
  GD_TRY(make_decay(out));
  GD_TRY(make_spans(out));
  GD_TRY(gd_gradient_norm_open(model, &out->norm));
  GD_TRY(gd_model_take(model, GD_M_MASTER, true, &out->master));
  return out->master ? copy_masters(out) : GD_OK;
}

void gd_optimizer_close(gd_optimizer *optimizer) {
  if (!optimizer->model) return;
  gd_model *model = optimizer->model;
  free(optimizer->spans);
  gd_model_give(model, GD_M_MASTER, optimizer->master);
  gd_model_give(model, GD_M_FIRST, optimizer->first);
  gd_model_give(model, GD_M_SECOND, optimizer->second);
  gd_model_give(model, GD_M_DECAY, optimizer->decay);
  gd_model_give(model, GD_M_VERDICT, optimizer->verdict);
  gd_gradient_norm_close(&optimizer->norm);
  gd_model_give(model, GD_M_SEQUENCE_SUMS, optimizer->sequence_sums);
  gd_model_give(model, GD_M_ALL_SEQUENCE_SUMS, optimizer->all_sequence_sums);
  memset(optimizer, 0, sizeof *optimizer);
}

/* Of what this rank updates, what the norm does not see here: it counts what tensor ranks hold alike on the first of them, and
 * what ZeRO 0 brings from other data ranks at home. The squares of all my units are there already. */
static gd_status look_for_bad(gd_optimizer *optimizer, int64_t *bad) {
  gd_model *model = optimizer->model;
  const gd_layout *layout = &model->layout;
  const gd_gradient_norm *norm = &optimizer->norm;
  gd_finite look = {.elements = norm->table.units, .values = norm->unit_sums, .bad = bad};
  if (!bad) return GD_OK;
  if (model->tensor->size > 1) GD_TRY(model->kernels.ops->finite(&model->kernels, &look));
  for (int32_t i = 0; i < layout->bucket_count; i++) {
    gd_range mine = gd_layout_piece(layout, i, model->data->rank), all = gd_layout_updated(layout, i);
    const float *gradient = gd_model_bucket_gradient(model, 0, i);
    if (!layout->buckets[i].trained || all.elements == mine.elements) continue;
    look.values = gradient + all.offset;
    look.elements = mine.offset - all.offset;
    GD_TRY(model->kernels.ops->finite(&model->kernels, &look));
    look.values = gradient + mine.offset + mine.elements;
    look.elements = all.offset + all.elements - mine.offset - mine.elements;
    GD_TRY(model->kernels.ops->finite(&model->kernels, &look));
  }
  return GD_OK;
}

gd_status gd_optimizer_vote(gd_optimizer *optimizer, gd_flags *flags, int32_t place) {
  gd_model *model = optimizer->model;
  const gd_spec *spec = &model->layout.spec;
  gd_stream *stream = model->device->compute;
  gd_vote vote = {.tensors = (int32_t)optimizer->norm.table.size.parameters};
  GD_TRY(gd_gradient_norm_run(&optimizer->norm, &vote.squares));
  GD_TRY(model->data->ops->all_gather(model->data, stream, optimizer->sequence_sums, optimizer->all_sequence_sums,
                                      2 * (size_t)gd_deal_share(spec, model->data->size, 0).sequences * sizeof(float)));
  int64_t *bad;
  GD_TRY(gd_flags_put(flags, place, &bad)); /* behind all that the step sums */
  GD_TRY(look_for_bad(optimizer, bad));
  GD_TRY(gd_flags_agree(flags, place, &vote.calls));
  vote.bad = bad;
  vote.sequence_sums = optimizer->all_sequence_sums;
  vote.sequences = spec->batch.global;
  vote.clip = spec->optimizer.clip;
  vote.beta1 = spec->optimizer.beta1;
  vote.beta2 = spec->optimizer.beta2;
  vote.verdict = optimizer->verdict;
  return model->kernels.ops->vote(&model->kernels, &vote);
}

float *gd_optimizer_weights(const gd_optimizer *optimizer, int32_t bucket, int64_t offset) {
  const gd_model *model = optimizer->model;
  if (optimizer->master) return optimizer->master + gd_layout_state(&model->layout, bucket, offset);
  return (float *)gd_model_bucket(model, bucket) + offset;
}

gd_status gd_optimizer_update(gd_optimizer *optimizer, float lr) {
  gd_model *model = optimizer->model;
  const gd_optimizer_spec *spec = &model->layout.spec.optimizer;
  for (int32_t i = 0; i < optimizer->span_count; i++) {
    const gd_update_span *span = &optimizer->spans[i];
    int64_t state = gd_layout_state(&model->layout, span->bucket, span->offset);
    gd_update update = {.kind = spec->kind, .elements = span->elements, .dtype = model->layout.shape.dtype};
    update.master = gd_optimizer_weights(optimizer, span->bucket, span->offset);
    update.parameter = optimizer->master ? (gd_bfloat16 *)gd_model_bucket(model, span->bucket) + span->offset : 0;
    update.first = optimizer->first + state;
    update.second = optimizer->second ? optimizer->second + state : 0;
    update.gradient = gd_model_bucket_gradient(model, 0, span->bucket) + span->offset;
    update.decay = optimizer->decay + state / GD_UNIT_ELEMS;
    update.verdict = optimizer->verdict;
    update.lr = lr * span->lr_scale;
    update.beta1 = spec->beta1;
    update.beta2 = spec->beta2;
    update.epsilon = spec->epsilon;
    update.weight_decay = spec->weight_decay;
    update.momentum = spec->momentum;
    update.nesterov = spec->nesterov;
    GD_TRY(model->kernels.ops->update(&model->kernels, &update));
  }
  return GD_OK;
}

gd_status gd_optimizer_gather(gd_optimizer *optimizer, int32_t bucket) {
  gd_model *model = optimizer->model;
  return gd_reduce_gather_pieces(model, model->device->communication, bucket, gd_model_bucket(model, bucket),
                                 model->layout.shape.bytes);
}

gd_status gd_optimizer_set_progress(gd_optimizer *optimizer, int64_t applied_steps, int64_t bad_steps) {
  gd_device *device = optimizer->model->device;
  const gd_verdict verdict = {.applied_steps = applied_steps, .bad_steps = bad_steps};
  GD_TRY(device->ops->copy(device->compute, optimizer->verdict, &verdict, sizeof verdict, GD_COPY_HOST_TO_DEVICE));
  return device->ops->stream_sync(device->compute);
}
