/* eval_classification.c - gptdist-eval --task classification: the scores of a classifier, beside those of an earlier one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/eval.h"
#include "launch/eval_classes.h"
#include "launch/eval_labels.h"

static gd_predictions answers(const gd_eval_labels *labels) {
  return (gd_predictions){gd_dataset_task(labels->dataset), labels->done, labels->labels, labels->probabilities, labels->loss};
}

static gd_status tell_answers(const gd_eval *e, const gd_predictions *now, const gd_predictions *before) {
  gd_bytes text = {0}, lines = {0};
  gd_status status = e->line.json ? gd_eval_classes_json(now, before, &text) : gd_eval_classes_text(now, before, &text);
  if (status == GD_OK && e->predictions) status = gd_eval_classes_lines(now, &lines);
  if (status == GD_OK && e->predictions) status = gd_file_replace(e->predictions, lines.bytes, lines.count);
  if (status == GD_OK) fputs(text.bytes, stdout);
  gd_bytes_free(&text);
  gd_bytes_free(&lines);
  return status;
}

static gd_status ask_classifier(gd_eval *e, const char *checkpoint, gd_eval_labels *labels) {
  GD_TRY(gd_session_agree(e->model.session, gd_eval_labels_check(labels, checkpoint, &e->model)));
  GD_TRY(gd_eval_labels_run(labels, &e->evaluator, gd_eval_stop_asked));
  gd_eval_note_cut(e, labels->done, labels->examples, "documents");
  return GD_OK;
}

/* The model of --compare takes the place of the one that was asked. */
static gd_status ask_earlier(gd_eval *e, gd_eval_labels *labels) {
  gd_session *session = e->model.session;
  gd_evaluator_close(&e->evaluator);
  gd_inference_close(&e->model);
  e->options.checkpoint = e->compare;
  GD_TRY(gd_inference_open(session, &e->options, &e->model));
  GD_TRY(gd_session_agree(session, gd_evaluator_open(&e->model.model, &e->evaluator)));
  return ask_classifier(e, e->compare, labels);
}

gd_status gd_eval_classification(gd_eval *e) {
  gd_eval_labels labels = {0};
  gd_predictions now = {0}, before = {0};
  float *kept = 0;
  gd_session *session = e->model.session;
  gd_status status = gd_eval_labels_open(session, e->data, e->model.model.cache.capacity, e->limit, &labels);
  if (status == GD_OK) status = ask_classifier(e, e->options.checkpoint, &labels);
  if (status == GD_OK) now = answers(&labels);
  if (status == GD_OK && e->compare && !e->cut) {
    size_t bytes = (size_t)labels.examples * (size_t)now.task->label_count * sizeof *kept;
    kept = malloc(bytes);
    status = gd_session_agree(session, kept ? GD_OK : gd_fail(GD_NO_MEMORY, "no memory for two answers"));
    if (status == GD_OK) memcpy(kept, labels.probabilities, bytes);
    now.probabilities = kept;
    if (status == GD_OK) status = ask_earlier(e, &labels);
    before = answers(&labels);
  }
  bool both = before.examples > 0 && before.examples == now.examples;
  if (status == GD_OK && now.examples > 0)
    status = gd_session_agree(session, e->first ? tell_answers(e, &now, both ? &before : 0) : GD_OK);
  gd_eval_labels_close(&labels);
  free(kept);
  return status;
}
