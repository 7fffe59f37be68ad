/* validate.c - the loss over the validation split, summed in window order. */
#include "trainer/validate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "shard/deal.h"
#include "trainer/layers/layers.h"

gd_status gd_validator_open(gd_model *model, gd_dataset *dataset, gd_validator *out) {
  const gd_spec *spec = &model->layout.spec;
  int32_t share = gd_deal_share(spec, model->data->size, model->data->rank).sequences;
  memset(out, 0, sizeof *out);
  out->model = model;
  out->dataset = dataset;
  GD_TRY(gd_plan_create_validation(&model->layout, &out->plan));
  GD_TRY(gd_model_take(model, GD_M_HOST_VALIDATION_BATCH, false, &out->batch_memory));
  gd_batch_shape shape = gd_dataset_batch_shape(dataset, share);
  if (!model->layout.shape.classes) shape.documents = shape.columns = 0;
  gd_batch_place(out->batch_memory, &shape, &out->batch);
  if (model->layout.shape.classes) {
    const gd_data_task *task = gd_dataset_task(dataset);
    GD_TRY(gd_class_counts_open(task->label_count, task->multiple, &out->counts));
    out->has = calloc(2 * (size_t)task->label_count, 1);
    if (!out->has) return gd_fail(GD_NO_MEMORY, "no memory for %d labels", task->label_count);
    out->given = out->has + task->label_count;
    GD_TRY(gd_model_take(model, GD_M_HOST_VALIDATION_LABELS, false, &out->label_memory));
    GD_TRY(gd_model_take(model, GD_M_HOST_VALIDATION_LOGITS, false, &out->logits));
  }
  GD_TRY(gd_model_take(model, GD_M_VALIDATION_SUMS, false, &out->sums));
  GD_TRY(gd_model_take(model, GD_M_ALL_VALIDATION_SUMS, false, &out->all_sums));
  return gd_model_take(model, GD_M_HOST_VALIDATION, false, &out->host_sums);
}

void gd_validator_close(gd_validator *validator) {
  if (!validator->model) return;
  gd_plan_free(&validator->plan);
  gd_batch_close(&validator->batch);
  gd_model_give(validator->model, GD_M_HOST_VALIDATION_BATCH, validator->batch_memory);
  gd_model_give(validator->model, GD_M_VALIDATION_SUMS, validator->sums);
  gd_model_give(validator->model, GD_M_ALL_VALIDATION_SUMS, validator->all_sums);
  gd_model_give(validator->model, GD_M_HOST_VALIDATION, validator->host_sums);
  gd_model_give(validator->model, GD_M_HOST_VALIDATION_LABELS, validator->label_memory);
  gd_model_give(validator->model, GD_M_HOST_VALIDATION_LOGITS, validator->logits);
  gd_class_counts_close(&validator->counts);
  free(validator->has);
  memset(validator, 0, sizeof *validator);
}

static bool is_sigmoid(const gd_validator *v) {
  return v->model->layout.spec.finetune.loss == GD_LABEL_LOSS_SIGMOID;
}

/* Where the logits of a sequence of the share begin. */
static float *logits_of(const gd_validator *v, int64_t sequence) {
  const gd_shape *s = &v->model->layout.shape;
  return v->logits + sequence * s->chunks * v->labels.depth * s->class_stride;
}

/* The logits of the batch are there. */
static void count_answers(gd_validator *v) {
  const gd_shape *s = &v->model->layout.shape;
  int64_t places = v->batch.sequences * s->chunks * v->labels.depth, columns = s->label_columns;
  for (int64_t i = 0; i < places; i++) {
    const float *logits = v->logits + i * s->class_stride;
    if (v->labels.rows[i] < 0) continue;
    if (!is_sigmoid(v)) {
      gd_class_counts_add(&v->counts, ((const int32_t *)v->labels.labels)[i], gd_class_answer(logits, (int32_t)s->classes));
      continue;
    }
    const float *labels = (const float *)v->labels.labels + i * columns;
    for (int64_t c = 0; c < columns; c++) {
      v->has[c] = labels[c] >= 0.5f;
      v->given[c] = logits[c] > 0;
    }
    if (v->counts.multiple)
      gd_class_counts_add_multiple(&v->counts, v->has, v->given);
    else
      gd_class_counts_add(&v->counts, v->has[0], v->given[0]);
  }
}

/* The counts of all ranks that have documents of their own, added, in runs that keep the memory for them small. */
static gd_status sum_counts(gd_validator *v) {
  enum { RUN = 8192 };
  gd_session *session = v->model->session;
  int32_t ranks = gd_session_ranks(session);
  int64_t *values = v->counts.all, size = v->counts.elements, most = size < RUN ? size : RUN;
  int64_t *all = malloc((size_t)(ranks * most) * sizeof *all);
  gd_status status = gd_session_agree(session, all ? GD_OK : gd_fail(GD_NO_MEMORY, "no memory to add up answers"));
  if (v->model->tensor->rank != 0) memset(values, 0, (size_t)size * sizeof *values);
  for (int64_t first = 0; status == GD_OK && first < size; first += most) {
    int64_t count = size - first < most ? size - first : most;
    status = gd_session_all_gather(session, values + first, all, (size_t)count * sizeof *values);
    memset(values + first, 0, (size_t)count * sizeof *values);
    for (int64_t i = 0; i < ranks * count; i++) values[first + i % count] += all[i];
  }
  free(all);
  return status;
}

static gd_status score(gd_validator *v, double values[GD_METRICS]) {
  gd_class_scores scores;
  GD_TRY(sum_counts(v));
  GD_TRY(gd_class_scores_open(&v->counts, &scores));
  for (int m = 0; m < GD_METRICS; m++)
    if (m != GD_METRIC_LOSS) values[m] = gd_class_scores_value(&scores, (gd_metric)m);
  gd_class_scores_close(&scores);
  return GD_OK;
}

/* One global batch of windows; adds its sums in window order, so the total does not depend on who computed what. */
static gd_status run_batch(gd_validator *v, int64_t first_draw, int64_t step, double *loss, double *targets) {
  gd_model *model = v->model;
  gd_device *device = model->device;
  const gd_spec *spec = &model->layout.spec;
  int32_t data = model->data->size, rank = model->data->rank;
  gd_deal share = gd_deal_share(spec, data, rank);
  size_t bytes = 2 * (size_t)share.sequences * sizeof(float);
  gd_session_storage(model->session, "validation data", step);
  GD_TRY(gd_dataset_read(v->dataset, first_draw + share.first_sequence, share.sequences, &v->batch, 0));
  if (v->label_memory) GD_TRY(gd_labels_fill(&model->layout.shape, is_sigmoid(v), &v->batch, v->label_memory, &v->labels));
  gd_session_progress(model->session, "validation", step);
  for (int32_t i = 0; i < v->plan.count; i++) {
    const gd_action *action = &v->plan.actions[i];
    gd_deal round = gd_deal_round(spec, data, rank, action->micro);
    int64_t first = round.first_sequence - share.first_sequence;
    gd_micro micro = gd_model_micro(model, round.sequences, round.first_sequence, step);
    const gd_labels *labels = v->label_memory ? &v->labels : NULL;
    if (labels) gd_classifier_place(model, &micro, labels, first);
    if (!labels) micro.target_weights = v->batch.weights + first * v->batch.length;
    if (action->kind == GD_DO_HEAD) {
      GD_TRY(labels ? gd_model_classify(model, &micro, v->sums + 2 * first, logits_of(v, first))
                    : gd_model_loss(model, &micro, v->sums + 2 * first, false));
      continue;
    }
    if (action->first_layer == 0) GD_TRY(gd_model_load_batch(model, &micro, &v->batch, labels, first));
    GD_TRY(gd_model_forward(model, &micro, action->first_layer, action->layers));
  }
  GD_TRY(model->data->ops->all_gather(model->data, device->compute, v->sums, v->all_sums, bytes));
  GD_TRY(
      device->ops->copy(device->compute, v->host_sums, v->all_sums, bytes * (size_t)model->data->size, GD_COPY_DEVICE_TO_HOST));
  GD_TRY(device->ops->stream_sync(device->compute));
  if (v->label_memory) count_answers(v);
  for (int32_t i = 0; i < spec->batch.global; i++) {
    *loss += (double)v->host_sums[2 * i];
    *targets += (double)v->host_sums[2 * i + 1];
  }
  return GD_OK;
}

gd_status gd_validator_run(gd_validator *validator, int64_t batches, int64_t step, gd_validator_poll *poll, void *context,
                           double values[GD_METRICS], bool *stopped) {
  int64_t global = validator->model->layout.spec.batch.global;
  int64_t all = (gd_dataset_windows(validator->dataset) + global - 1) / global;
  double sum = 0, targets = 0;
  if (batches == 0 || batches > all) batches = all;
  *stopped = false;
  if (validator->label_memory) memset(validator->counts.all, 0, (size_t)validator->counts.elements * sizeof(int64_t));
  for (int64_t i = 0; i < batches && !*stopped; i++) {
    GD_TRY(run_batch(validator, i * global, step, &sum, &targets));
    GD_TRY(poll(context, stopped));
  }
  for (int i = 0; i < GD_METRICS; i++) values[i] = NAN;
  values[GD_METRIC_LOSS] = targets > 0 ? sum / targets : 0;
  return validator->label_memory && !*stopped ? score(validator, values) : GD_OK;
}
