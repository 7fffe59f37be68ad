/* eval_classes.h - what gptdist-eval --task classification says of predicted labels: report, JSON, a file of predictions, and
 * how they compare with those from before. Local. */
#ifndef GD_LAUNCH_EVAL_CLASSES_H
#define GD_LAUNCH_EVAL_CLASSES_H

#include "io/base/files.h"
#include "io/data/task.h"

/* Predictions of the documents of a split. */
typedef struct gd_predictions {
  const gd_data_task *task; /* classification */
  int64_t examples;         /* at least 1 */
  const float *labels;      /* [examples][gd_data_task_columns], as a shard has them; of several labels 0.5 and above is yes */
  const float *probabilities; /* [examples][label_count]: the largest one, or of several labels all above 0.5, are predicted */
  double loss;                /* NaN: not known */
} gd_predictions;

/* Appends the text of a report, the confusion matrix and the loss; before (NULL: none): predictions of the same examples, whose
 * scores are put beside, with McNemar's test of the examples that one of the two got right. GD_NO_MEMORY; GD_BAD_DATA: a label
 * that the task does not have. */
GD_CHECKED gd_status gd_eval_classes_text(const gd_predictions *predictions, const gd_predictions *before, gd_bytes *out);
/* The same as one JSON document with a line end. */
GD_CHECKED gd_status gd_eval_classes_json(const gd_predictions *predictions, const gd_predictions *before, gd_bytes *out);

/* Appends what is predicted by probabilities[label_count] as members of a JSON object: predicted (a name, with its probability;
 * of several labels a list of names), probabilities (in the order of the labels). GD_NO_MEMORY. */
GD_CHECKED gd_status gd_eval_classes_answer(const gd_data_task *task, const float *probabilities, gd_bytes *out);

/* Appends a JSON document a line and example: index, label (a name; of several labels a list), and these members. GD_NO_MEMORY;
 * GD_BAD_DATA. */
GD_CHECKED gd_status gd_eval_classes_lines(const gd_predictions *predictions, gd_bytes *out);

#endif
