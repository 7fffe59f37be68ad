/* step.c - read this top to bottom: it is what a training step does. */
#include "trainer/step.h"

#include <string.h>

#include "shard/deal.h"
#include "trainer/model.h"

gd_status gd_step_open(gd_model *model, gd_optimizer *optimizer, gd_step *out) {
  memset(out, 0, sizeof *out);
  out->model = model;
  out->optimizer = optimizer;
  GD_TRY(gd_gradient_reducer_open(model, &out->reducer));
  return gd_plan_create(&model->layout.spec, &model->layout.mesh, &out->plan);
}

void gd_step_close(gd_step *step) {
  gd_gradient_reducer_close(&step->reducer);
  gd_plan_free(&step->plan);
}

/* Decides where the gradients of this micro-batch go, before any kernel runs. fast: one running sum in slot 0. invariant: each
 * complete node of the tree over time blocks gets a free slot; slots whose nodes are siblings merge when a bucket is done. */
static void place_gradients(gd_step *step) {
  gd_micro *micro = &step->micro;
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

static gd_status forward(gd_step *step, const gd_action *action, int64_t number, const gd_batch *share) {
  gd_model *model = step->model;
  int64_t row = action->first_sequence * (int64_t)share->length;
  gd_deal mine = gd_deal_round(&model->layout.spec, model->data->size, model->data->rank, action->micro);
  step->micro = gd_model_micro(model, mine.sequences, mine.first_sequence, number);
  step->micro.dropout = model->layout.spec.model.dropout;
  step->micro.accumulate = model->layout.spec.numerics == GD_NUMERICS_FAST && action->micro > 0;
  step->micro.last = action->first_sequence + action->sequences == share->sequences;
  place_gradients(step);
  GD_TRY(gd_model_load_batch(model, &step->micro, share->tokens + row, share->targets + row, share->weights + row,
                             share->document_starts + row));
  GD_TRY(gd_model_forward(model, &step->micro));
  return gd_model_loss(model, &step->micro, step->optimizer->sequence_sums + 2 * action->first_sequence, true);
}

/* All gradients of a bucket are enqueued: merge sibling slots, and send it off after the last micro-batch. */
static gd_status bucket_done(void *context, int32_t bucket) {
  gd_step *step = context;
  gd_model *model = step->model;
  const gd_layout *layout = &model->layout;
  const gd_bucket *b = &layout->buckets[bucket];
  float *base = model->gradients + b->offset;
  for (int32_t i = 0; i < step->micro.merge_count; i++)
    GD_TRY(model->kernels.ops->add(&model->kernels, base + step->micro.merges[i].to * layout->gradient_elems,
                                   base + step->micro.merges[i].from * layout->gradient_elems, b->elements));
  return step->micro.last ? gd_gradient_reduce_start(&step->reducer, bucket, &step->counter) : GD_OK;
}

gd_status gd_step_run(gd_step *step, int64_t number, const gd_batch *share, float lr) {
  gd_session *session = step->model->session;
  gd_error_set_step(number);
  gd_tree_counter_reset(&step->counter);
  for (int32_t row = 0; row < step->plan.count; row++) {
    const gd_action *action = &step->plan.actions[row];
    gd_session_progress(session, gd_action_name(action->kind), number);
    switch (action->kind) {
      case GD_DO_FORWARD: GD_TRY(forward(step, action, number, share)); break;
      case GD_DO_BACKWARD: GD_TRY(gd_model_backward(step->model, &step->micro, bucket_done, step)); break;
      case GD_DO_REDUCE_FINISH: GD_TRY(gd_gradient_reduce_finish(&step->reducer)); break;
      case GD_DO_VOTE: GD_TRY(gd_optimizer_vote(step->optimizer)); break;
      case GD_DO_UPDATE: GD_TRY(gd_optimizer_update(step->optimizer, lr)); break;
      case GD_DO_GATHER: GD_TRY(gd_optimizer_gather(step->optimizer)); break;
    }
  }
  return GD_OK;
}
