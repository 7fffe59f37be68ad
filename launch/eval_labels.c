/* eval_labels.c - asks a classifier for the label of each document of a split. */
#include "launch/eval_labels.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/base/files.h"

static gd_status open_split(const char *folder, int32_t length, gd_eval_labels *out) {
  char index[GD_PATH_BYTES];
  GD_TRY(gd_path_named(folder, GD_PATH_FOLDER, "a split of a dataset"));
  GD_TRY(gd_path_join(index, sizeof index, folder, "index.json"));
  if (!gd_file_exists(index))
    return gd_fail_user(GD_USAGE, "%s: found no index.json, expected a split, as DATASET/test", folder);
  GD_TRY(gd_dataset_open_split(folder, length, false, false, &out->dataset));
  const gd_data_task *task = gd_dataset_task(out->dataset);
  if (task->kind != GD_TASK_CLASSIFICATION)
    return gd_fail_user(GD_USAGE,
                        "%s: found data for %s, expected texts with labels (gptdist-data prepare --task classification)",
                        folder, gd_data_task_name(task->kind));
  return GD_OK;
}

static gd_status read_labels(const char *folder, int64_t limit, gd_eval_labels *out) {
  const gd_data_task *task = gd_dataset_task(out->dataset);
  int32_t columns = gd_data_task_columns(task);
  out->examples = gd_dataset_windows(out->dataset);
  if (limit > 0 && limit < out->examples) out->examples = limit;
  if (out->examples == 0) return gd_fail_user(GD_BAD_DATA, "%s: holds no documents", folder);
  out->labels = malloc((size_t)out->examples * (size_t)columns * sizeof *out->labels);
  out->probabilities = malloc((size_t)out->examples * (size_t)task->label_count * sizeof *out->probabilities);
  if (!out->labels || !out->probabilities)
    return gd_fail(GD_NO_MEMORY, "no memory for the labels of %lld documents", (long long)out->examples);
  for (int64_t i = 0; i < out->examples; i++) {
    gd_dataset_example example;
    int32_t count;
    GD_TRY(gd_dataset_examples(out->dataset, i, &example, &count));
    GD_TRY(gd_dataset_labels(out->dataset, &example, out->labels + i * columns));
  }
  return GD_OK;
}

gd_status gd_eval_labels_open(gd_session *session, const char *folder, int32_t length, int64_t limit, gd_eval_labels *out) {
  *out = (gd_eval_labels){0};
  GD_TRY(gd_session_agree(session, open_split(folder, length, out)));
  GD_TRY(gd_dataset_check(session, &out->dataset, 1, GD_DATASET_CHECK_SECONDS));
  return gd_session_agree(session, read_labels(folder, limit, out));
}

void gd_eval_labels_close(gd_eval_labels *labels) {
  if (labels->dataset) gd_dataset_close(labels->dataset);
  free(labels->labels);
  free(labels->probabilities);
  memset(labels, 0, sizeof *labels);
}

/* A model folder that was given no labels has these. */
static bool is_unnamed(const gd_data_task *task) {
  char preset[32];
  for (int32_t i = 0; i < task->label_count; i++) {
    snprintf(preset, sizeof preset, "LABEL_%d", i);
    if (strcmp(task->labels[i], preset) != 0) return false;
  }
  return true;
}

gd_status gd_eval_labels_check(const gd_eval_labels *labels, const char *checkpoint, const gd_inference *model) {
  const gd_data_task *task = gd_dataset_task(labels->dataset);
  int32_t classes = model->spec.model.classes;
  if (classes == 0) return gd_fail_user(GD_USAGE, "%s: is a language model, expected a classifier", checkpoint);
  const gd_data_task *own = &model->task;
  bool binary = classes == 1 && task->label_count == 2 && !task->multiple;
  bool named = gd_data_task_equal(own, task);
  if (binary && own->label_count == 1) named = strcmp(own->labels[0], task->labels[1]) == 0; /* as it is exported */
  bool same = (classes == task->label_count || binary) && (named || is_unnamed(own));
  if (!same) return gd_fail_user(GD_USAGE, "--data: has other labels than the classifier %s", checkpoint);
  return gd_inference_check_data(model, checkpoint, "--data:", labels->dataset);
}

/* ---- answers ---- */

/* Of one output: sigmoid cross entropy with a label of 0 to 1 (z the logit), written so that nothing overflows. */
static double sigmoid_loss(double z, double label) {
  return fmax(z, 0) - z * label + log1p(exp(-fabs(z)));
}

static float sigmoid(double z) {
  return (float)(1 / (1 + exp(-z)));
}

double gd_eval_labels_answer(const gd_data_task *task, const float *logits, int32_t outputs, const float *labels,
                             float *probabilities) {
  double loss = 0, largest = -INFINITY, sum = 0;
  if (task->multiple) {
    for (int32_t i = 0; i < outputs; i++) {
      probabilities[i] = sigmoid((double)logits[i]);
      if (labels) loss += sigmoid_loss((double)logits[i], (double)labels[i]) / outputs;
    }
    return loss;
  }
  if (outputs == 1) {
    probabilities[0] = sigmoid(-(double)logits[0]);
    probabilities[1] = sigmoid((double)logits[0]);
    return labels ? sigmoid_loss((double)logits[0], (double)labels[0]) : 0;
  }
  for (int32_t i = 0; i < outputs; i++) largest = fmax(largest, (double)logits[i]);
  for (int32_t i = 0; i < outputs; i++) sum += exp((double)logits[i] - largest);
  for (int32_t i = 0; i < outputs; i++) probabilities[i] = (float)(exp((double)logits[i] - largest) / sum);
  return labels ? log(sum) + largest - (double)logits[(int32_t)labels[0]] : 0;
}

/* What a rank has to say in a round: its answer to a document, probabilities[label_count] behind it. */
typedef struct said {
  double loss;
  int64_t document; /* -1: nothing */
  int32_t stop;
  float probabilities[];
} said;

static gd_status ask(gd_eval_labels *l, gd_evaluator *evaluator, gd_batch *batch, float *logits, int64_t document, said *out) {
  const gd_data_task *task = gd_dataset_task(l->dataset);
  int32_t outputs = gd_model_outputs(evaluator->model), count;
  gd_dataset_example example;
  GD_TRY(gd_dataset_read(l->dataset, document, 1, batch, 0));
  GD_TRY(gd_dataset_examples(l->dataset, document, &example, &count));
  gd_scored text = {.tokens = batch->tokens, .count = example.count, .logits = logits};
  GD_TRY(gd_evaluator_last(evaluator, &text, 1));
  const float *labels = l->labels + document * gd_data_task_columns(task);
  if (!task->multiple && !(labels[0] >= 0 && labels[0] < (float)task->label_count))
    return gd_fail_user(GD_BAD_DATA, "document %lld has the label number %g, but there are %d labels", (long long)document,
                        (double)labels[0], task->label_count);
  out->loss = gd_eval_labels_answer(task, logits, outputs, labels, out->probabilities);
  out->document = evaluator->model->tensor->rank == 0 ? document : -1;
  return GD_OK;
}

/* Takes what all ranks said; documents of a round come in order. */
static bool take(gd_eval_labels *l, const char *all, size_t bytes, int32_t ranks) {
  int32_t labels = gd_dataset_task(l->dataset)->label_count;
  bool stop = false;
  for (int32_t r = 0; r < ranks; r++) {
    const said *s = (const said *)(const void *)(all + (size_t)r * bytes);
    stop = stop || s->stop;
    if (s->document < 0) continue;
    memcpy(l->probabilities + s->document * labels, s->probabilities, (size_t)labels * sizeof(float));
    l->loss += s->loss;
    l->done++;
  }
  return stop;
}

static gd_status run(gd_eval_labels *l, gd_evaluator *evaluator, gd_score_stop *stop, gd_batch *batch, float *logits,
                     said *mine, char *all, size_t bytes) {
  gd_model *model = evaluator->model;
  gd_session *session = model->session;
  bool stopped = false;
  for (int64_t first = 0; first < l->examples && !stopped; first += model->data->size) {
    int64_t document = first + model->data->rank;
    mine->document = -1;
    gd_session_progress(session, "evaluation", first);
    gd_status status = document < l->examples ? ask(l, evaluator, batch, logits, document, mine) : GD_OK;
    mine->stop = stop(0);
    GD_TRY(gd_session_agree(session, status));
    GD_TRY(gd_session_all_gather(session, mine, all, bytes));
    stopped = take(l, all, bytes, gd_session_ranks(session));
  }
  l->loss /= l->done ? (double)l->done : 1;
  return GD_OK;
}

gd_status gd_eval_labels_run(gd_eval_labels *l, gd_evaluator *evaluator, gd_score_stop *stop) {
  gd_session *session = evaluator->model->session;
  size_t labels = (size_t)gd_dataset_task(l->dataset)->label_count;
  size_t bytes = (sizeof(said) + labels * sizeof(float) + 7) / 8 * 8;
  gd_batch batch = {0};
  float *logits = malloc((size_t)gd_model_outputs(evaluator->model) * sizeof *logits);
  said *mine = calloc(1, bytes);
  char *all = malloc(bytes * (size_t)gd_session_ranks(session));
  l->loss = 0;
  l->done = 0;
  gd_status status = logits && mine && all ? gd_batch_open(1, gd_dataset_length(l->dataset), &batch)
                                           : gd_fail(GD_NO_MEMORY, "no memory for the answers of all ranks");
  status = gd_session_agree(session, status);
  if (status == GD_OK) status = run(l, evaluator, stop, &batch, logits, mine, all, bytes);
  gd_batch_close(&batch);
  free(logits);
  free(mine);
  free(all);
  return status;
}
