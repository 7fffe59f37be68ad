/* eval_labels.h - gptdist-eval --task classification: a classifier's answers to the documents of a split. */
#ifndef GD_LAUNCH_EVAL_LABELS_H
#define GD_LAUNCH_EVAL_LABELS_H

#include "io/data/dataset.h"
#include "launch/inference.h"
#include "trainer/evaluate.h"

typedef struct gd_eval_labels {
  gd_dataset *dataset;
  int64_t examples;
  float *labels;        /* [examples][gd_data_task_columns], as a shard has them */
  float *probabilities; /* [examples][label_count], of the last run, on every rank */
  double loss;          /* its mean over the examples; of several labels also over these */
  int64_t done;         /* its examples: fewer after a stop, from the first on */
} gd_eval_labels;

/* Opens a split folder, of documents of at most `length` tokens, with `limit` of its documents (0: all), and reads their
 * labels. GD_USAGE: no split, data of another task, a longer document. GD_BAD_DATA. gd_eval_labels_close in any case.
 * Collective over the job. */
GD_CHECKED gd_status gd_eval_labels_open(gd_session *session, const char *folder, int32_t length, int64_t limit,
                                         gd_eval_labels *out);
void gd_eval_labels_close(gd_eval_labels *labels);

/* Whether the model of a checkpoint gives these labels and reads these tokens: GD_USAGE. Local. */
GD_CHECKED gd_status gd_eval_labels_check(const gd_eval_labels *labels, const char *checkpoint, const gd_inference *model);

/* From logits[outputs] to probabilities[label_count]; the loss where there are labels (NULL: 0). Local. */
double gd_eval_labels_answer(const gd_data_task *task, const float *logits, int32_t outputs, const float *labels,
                             float *probabilities);

/* Answers all documents, dealt to the data ranks. Collective over the job. */
GD_CHECKED gd_status gd_eval_labels_run(gd_eval_labels *labels, gd_evaluator *evaluator, gd_score_stop *stop);

#endif
