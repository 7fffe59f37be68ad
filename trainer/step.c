/* step.c - read this top to bottom: it is what a training step does. */
#include "trainer/step.h"

#include <stdlib.h>
#include <string.h>

#include "shard/deal.h"
#include "trainer/injected.h"
#include "trainer/model.h"

/* Where a row runs. On one data rank nothing communicates, and its sums stay on the compute stream. */
static gd_stream *stream_of(const gd_step *step, const gd_action *action) {
  gd_device *device = step->model->device;
  if (action->kind == GD_DO_REDUCE) return step->reducer.stream;
  return gd_action_communicates(action->kind) ? device->communication : device->compute;
}

static gd_status make_event(gd_step *step, int32_t row) {
  return step->done[row] ? GD_OK : step->model->device->ops->event_create(step->model->device, &step->done[row]);
}

/* Events for the rows that rows of the other stream wait for, and for gathers, which the next step's forward waits for. */
static gd_status make_events(gd_step *step) {
  for (int32_t row = 0; row < step->plan.count; row++) {
    const gd_action *action = &step->plan.actions[row];
    int32_t awaited = action->waits_for;
    if (awaited >= 0 && stream_of(step, action) != stream_of(step, &step->plan.actions[awaited]))
      GD_TRY(make_event(step, awaited));
    if (action->kind != GD_DO_GATHER) continue;
    GD_TRY(make_event(step, row));
    step->gathered[action->bucket] = step->done[row];
  }
  step->model->gathered = step->gathered;
  return GD_OK;
}

static gd_status open_batches(gd_step *step) {
  gd_model *model = step->model;
  int32_t length = model->layout.spec.batch.sequence;
  int32_t share = gd_deal_share(&model->layout.spec, model->data->size, model->data->rank).sequences;
  const gd_shape *shape = &model->layout.shape;
  gd_batch_shape batch = {.sequences = share, .length = length};
  if (shape->classes) batch.documents = model->layout.spec.finetune.pack ? length : 1;
  if (shape->classes) batch.columns = (int32_t)shape->label_columns;
  size_t bytes = gd_batch_bytes(&batch);
  step->label_bytes = gd_labels_bytes(shape, share);
  if (model->memory[GD_M_HOST_BATCHES].bytes != (int64_t)(GD_FLAGS_AHEAD * bytes))
    return gd_fail(GD_BUG, "%lld bytes are planned for %d batches of %zu", (long long)model->memory[GD_M_HOST_BATCHES].bytes,
                   (int)GD_FLAGS_AHEAD, bytes);
  GD_TRY(gd_model_take(model, GD_M_HOST_BATCHES, false, &step->batch_memory));
  GD_TRY(gd_model_take(model, GD_M_HOST_LABELS, false, &step->label_memory));
  for (int32_t i = 0; i < GD_FLAGS_AHEAD; i++)
    gd_batch_place((char *)step->batch_memory + (size_t)i * bytes, &batch, &step->batches[i]);
  return GD_OK;
}

gd_status gd_step_open(gd_model *model, gd_optimizer *optimizer, gd_flags_ask *ask, void *context, gd_step *out) {
  const gd_device_ops *ops = model->device->ops;
  memset(out, 0, sizeof *out);
  out->model = model;
  out->optimizer = optimizer;
  GD_TRY(gd_gradient_reducer_open(model, &out->reducer));
  GD_TRY(gd_flags_open(model, ask, context, &out->flags));
  GD_TRY(gd_model_take(model, GD_M_HOST_VERDICT, false, &out->verdicts));
  for (int32_t i = 0; i < GD_FLAGS_AHEAD; i++) {
    GD_TRY(ops->event_create(model->device, &out->voted[i]));
    GD_TRY(ops->event_create(model->device, &out->loaded[i]));
  }
  GD_TRY(open_batches(out));
  GD_TRY(gd_plan_create(&model->layout, &out->plan));
  out->done = calloc((size_t)out->plan.count, sizeof *out->done);
  out->gathered = calloc((size_t)model->layout.bucket_count, sizeof *out->gathered);
  out->micros = calloc((size_t)out->plan.slots, sizeof *out->micros);
  if (!out->done || !out->gathered || !out->micros)
    return gd_fail(GD_NO_MEMORY, "no memory for a step of %d rows", out->plan.count);
  return make_events(out);
}

gd_status gd_step_wait(gd_step *step) {
  gd_device *device = step->model->device;
  GD_TRY(device->ops->stream_sync(device->communication));
  return device->ops->stream_sync(device->compute);
}

void gd_step_close(gd_step *step) {
  if (!step->model) return;
  if (gd_step_wait(step) != GD_OK) gd_error_clear(); /* it was told when it happened */
  step->model->gathered = NULL;
  for (int32_t row = 0; step->done && row < step->plan.count; row++)
    if (step->done[row]) step->model->device->ops->event_destroy(step->done[row]);
  for (int32_t i = 0; i < GD_FLAGS_AHEAD; i++) {
    step->model->device->ops->event_destroy(step->voted[i]);
    step->model->device->ops->event_destroy(step->loaded[i]);
    gd_batch_close(&step->batches[i]);
  }
  gd_model_give(step->model, GD_M_HOST_BATCHES, step->batch_memory);
  gd_model_give(step->model, GD_M_HOST_LABELS, step->label_memory);
  gd_model_give(step->model, GD_M_HOST_VERDICT, step->verdicts);
  gd_flags_close(&step->flags);
  free(step->done), free(step->gathered), free(step->micros);
  gd_gradient_reducer_close(&step->reducer);
  gd_plan_free(&step->plan);
  memset(step, 0, sizeof *step);
}

/* Decides where the gradients of a micro-batch go, before any kernel runs. fast: one running sum in slot 0. invariant: each
 * complete node of the tree over time blocks gets a free slot; slots whose nodes are siblings merge when a bucket is done. */
static void place_gradients(gd_step *step, gd_micro *micro) {
  if (step->model->layout.spec.numerics == GD_NUMERICS_FAST) {
    micro->node_count = 1;
    micro->nodes[0] = (gd_tree_node){0, micro->sequences};
    micro->slots[0] = 0;
    step->counter.count = 1;
    step->counter.slots[0] = 0;
    return;
  }
  gd_tree_node global[GD_TREE_MAX_NODES];
  const gd_layout *layout = &step->model->layout;
  micro->node_count = gd_deal_nodes(&layout->spec, (gd_deal){micro->first_sequence, micro->sequences}, global);
  for (int32_t i = 0; i < micro->node_count; i++) {
    micro->slots[i] = gd_tree_counter_take(&step->counter);
    micro->nodes[i] = (gd_tree_node){global[i].first - micro->first_sequence * layout->shape.time_blocks, global[i].count};
  }
  for (int32_t i = 0; i < micro->node_count; i++)
    micro->merge_count += gd_tree_counter_push(&step->counter, global[i], micro->slots[i], micro->merges + micro->merge_count);
}

/* Where a micro-batch's sequences lie in this data rank's share. */
static int64_t first_of(const gd_model *model, const gd_micro *micro) {
  return micro->first_sequence - gd_deal_share(&model->layout.spec, model->data->size, model->data->rank).first_sequence;
}

static gd_status begin_micro(gd_step *step, const gd_action *action, int64_t number, const gd_batch *share) {
  gd_model *model = step->model;
  const gd_spec *spec = &model->layout.spec;
  gd_micro *micro = &step->micros[action->slot];
  gd_deal mine = gd_deal_round(spec, model->data->size, model->data->rank, action->micro);
  *micro = gd_model_micro(model, mine.sequences, mine.first_sequence, number);
  micro->slot = action->slot;
  micro->dropout = spec->model.dropout;
  micro->accumulate = spec->numerics == GD_NUMERICS_FAST && action->micro > 0;
  place_gradients(step, micro);
  GD_TRY(gd_model_load_batch(model, micro, share, step->label_memory ? &step->labels : NULL, first_of(model, micro)));
  return model->device->ops->event_record(step->loaded[number % GD_FLAGS_AHEAD], model->device->compute);
}

static gd_status forward(gd_step *step, const gd_action *action, int64_t number, const gd_batch *share) {
  if (action->first_layer == 0) GD_TRY(begin_micro(step, action, number, share));
  return gd_model_forward(step->model, &step->micros[action->slot], action->first_layer, action->layers);
}

/* The gradients of the row's buckets are there: sibling slots become one. */
static gd_status merge_slots(gd_step *step, const gd_action *action) {
  gd_model *model = step->model;
  const gd_layout *layout = &model->layout;
  const gd_micro *micro = &step->micros[action->slot];
  for (int32_t i = layout->gradient_bucket_count - 1; i >= 0; i--) {
    const gd_bucket *bucket = &layout->buckets[i];
    if (!bucket->trained || !gd_action_covers(action, layout, i)) continue;
    float *base = gd_model_bucket_gradient(model, 0, i);
    for (int32_t k = 0; k < micro->merge_count; k++)
      GD_TRY(model->kernels.ops->add(&model->kernels, base + micro->merges[k].to * layout->gradient_elems,
                                     base + micro->merges[k].from * layout->gradient_elems, bucket->elements));
  }
  return GD_OK;
}

static gd_status head(gd_step *step, const gd_action *action) {
  const gd_micro *micro = &step->micros[action->slot];
  GD_TRY(gd_model_loss(step->model, micro, step->optimizer->sequence_sums + 2 * first_of(step->model, micro), true));
  return merge_slots(step, action);
}

static gd_status backward(gd_step *step, const gd_action *action) {
  GD_TRY(gd_model_backward(step->model, &step->micros[action->slot], action->first_layer, action->layers));
  return merge_slots(step, action);
}

/* The verdict and everybody's flags go to the host, which reads them when it likes. */
static gd_status vote(gd_step *step, int64_t number) {
  gd_device *device = step->model->device;
  int32_t place = (int32_t)(number % GD_FLAGS_AHEAD);
  GD_TRY(gd_optimizer_vote(step->optimizer, &step->flags, place));
  GD_TRY(device->ops->copy(device->compute, &step->verdicts[place], step->optimizer->verdict, sizeof *step->verdicts,
                           GD_COPY_DEVICE_TO_HOST));
  return device->ops->event_record(step->voted[place], device->compute);
}

gd_status gd_step_read(gd_step *step, int64_t number, gd_step_result *out) {
  int32_t place = (int32_t)(number % GD_FLAGS_AHEAD);
  GD_TRY(step->model->device->ops->event_sync(step->voted[place]));
  out->verdict = step->verdicts[place];
  return gd_flags_read(&step->flags, place, out->flags);
}

gd_status gd_step_batch(gd_step *step, int64_t number, gd_batch **out) {
  int32_t place = (int32_t)(number % GD_FLAGS_AHEAD);
  *out = &step->batches[place];
  return step->model->device->ops->event_sync(step->loaded[place]);
}

/* This rank's sums of a bucket's gradient are there. */
static gd_status reduce(gd_step *step, int32_t bucket, bool first, gd_step_look *look, void *context) {
  if (gd_inject_armed) GD_TRY(gd_injected_nan(&step->reducer, bucket, &step->counter, first));
  return look ? look(context, step, bucket) : gd_gradient_reduce(&step->reducer, bucket, &step->counter);
}

/* Where those of the step before the last have been copied. */
static gd_status fill_labels(gd_step *step, int64_t number, const gd_batch *share) {
  const gd_layout *layout = &step->model->layout;
  int32_t place = (int32_t)(number % GD_FLAGS_AHEAD);
  GD_TRY(step->model->device->ops->event_sync(step->loaded[place]));
  return gd_labels_fill(&layout->shape, layout->spec.finetune.loss == GD_LABEL_LOSS_SIGMOID, share,
                        (char *)step->label_memory + place * step->label_bytes, &step->labels);
}

/* All rows, or with `look` those before the vote. */
static gd_status walk(gd_step *step, int64_t number, const gd_batch *share, float lr, gd_step_look *look, void *context) {
  const gd_device_ops *ops = step->model->device->ops;
  gd_timeline *timeline = look ? NULL : step->timeline;
  bool first = true;
  gd_error_set_step(number + 1);
  if (step->label_memory) GD_TRY(fill_labels(step, number, share));
  gd_tree_counter_reset(&step->counter);
  for (int32_t row = 0; row < step->plan.count; row++) {
    const gd_action *action = &step->plan.actions[row];
    gd_event *awaited = action->waits_for >= 0 ? step->done[action->waits_for] : NULL;
    if (look && action->kind == GD_DO_VOTE) return GD_OK;
    gd_session_progress(step->model->session, gd_action_name(action->kind), number + 1);
    if (awaited) GD_TRY(ops->stream_wait(stream_of(step, action), awaited));
    if (timeline) GD_TRY(gd_timeline_begin(timeline, stream_of(step, action), number, row, action));
    switch (action->kind) {
      case GD_DO_FORWARD: GD_TRY(forward(step, action, number, share)); break;
      case GD_DO_HEAD: GD_TRY(head(step, action)); break;
      case GD_DO_BACKWARD: GD_TRY(backward(step, action)); break;
      case GD_DO_REDUCE:
        GD_TRY(reduce(step, action->bucket, first, look, context));
        first = false;
        break;
      case GD_DO_VOTE: GD_TRY(vote(step, number)); break;
      case GD_DO_UPDATE: GD_TRY(gd_optimizer_update(step->optimizer, lr)); break;
      case GD_DO_GATHER: GD_TRY(gd_optimizer_gather(step->optimizer, action->bucket)); break;
      default: return gd_fail(GD_BUG, "row %d: %s is not built", row, gd_action_name(action->kind));
    }
    if (timeline) GD_TRY(gd_timeline_end(timeline));
    if (step->done[row]) GD_TRY(ops->event_record(step->done[row], stream_of(step, action)));
  }
  return GD_OK;
}

gd_status gd_step_run(gd_step *step, int64_t number, const gd_batch *share, float lr) {
  return walk(step, number, share, lr, NULL, NULL);
}

gd_status gd_step_repeat(gd_step *step, int64_t number, const gd_batch *share, gd_step_look *look, void *context) {
  return walk(step, number, share, 0, look, context);
}
