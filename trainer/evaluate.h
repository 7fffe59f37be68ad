/* evaluate.h - scores of a model: log-likelihoods from an inference model's logits, and sums of them over many items.
 *
 * Items (windows of a split, passages, questions) are dealt to the data ranks round by round and added in item order, so a
 * score does not depend on how many data ranks there are. Arithmetic on logits is in double. */
#ifndef GD_TRAINER_EVALUATE_H
#define GD_TRAINER_EVALUATE_H

#include "io/data/dataset.h"
#include "io/tokenizer/tokenizer.h"
#include "trainer/model.h"

typedef struct gd_evaluator {
  gd_model *model; /* opened for inference */
  float *logits;   /* host [rows of a call][outputs of the model] */
  int32_t *tokens; /* [rows of a call] */
  void *rows;
  gd_infer_part *parts; /* [slots] */
} gd_evaluator;

GD_CHECKED gd_status gd_evaluator_open(gd_model *model, gd_evaluator *out);
void gd_evaluator_close(gd_evaluator *evaluator);

/* Logits [outputs] (host: the vocabulary's, or a classifier's classes) after tokens[0 .. position]. */
typedef gd_status gd_logits_row(void *context, int64_t position, const float *logits);

/* Runs tokens[count] from an empty cache and visits the logits of every position in order. GD_USAGE when they do not fit the
 * context, GD_BAD_DATA for an id beyond the vocabulary. Collective over tensor. */
GD_CHECKED gd_status gd_evaluator_logits(gd_evaluator *evaluator, const int32_t *tokens, int64_t count, gd_logits_row *visit,
                                         void *context);

/* A text and what is asked of it: log_likelihood[i] (natural) of targets[i] after tokens[0 .. i], i in [first, count);
 * greedy[i] (may be NULL): targets[i] was the most likely token. Entries below first are left alone. */
typedef struct gd_scored {
  const int32_t *tokens, *targets;
  int64_t count, first;
  double *log_likelihood;
  bool *greedy;
  float *logits; /* gd_evaluator_last */
} gd_scored;

/* Scores texts[count], at most as many as the cache has slots, in common passes. What they begin with like
 * the first of them is run once. Logits are made of the rows that are asked for. Each score is what it is of the text alone.
 * GD_USAGE, GD_BAD_DATA as gd_evaluator_logits. Collective over tensor. */
GD_CHECKED gd_status gd_evaluator_score(gd_evaluator *evaluator, const gd_scored *texts, int32_t count);
/* The same passes without scores: of each text, tokens and count, the logits [outputs] (host) behind its last token. */
GD_CHECKED gd_status gd_evaluator_last(gd_evaluator *evaluator, gd_scored *texts, int32_t count);

/* ---- many items ---- */

enum { GD_SCORE_SUMS = 6 };

/* Adds what item `item` contributes. Collective over tensor. */
typedef gd_status gd_score_item(void *context, gd_evaluator *evaluator, int64_t item, double sums[GD_SCORE_SUMS]);

/* Asked on every rank after each round; any rank's yes stops all. */
typedef bool gd_score_stop(void *context);

/* totals = sum over items [0, items) in order. *done = items counted (fewer after a stop). Collective over the job. */
GD_CHECKED gd_status gd_score_all(gd_evaluator *evaluator, int64_t items, gd_score_item *score, gd_score_stop *stop,
                                  void *context, double totals[GD_SCORE_SUMS], int64_t *done);

/* ---- perplexity: windows of a split (of a task not packed: an example each), or of one text's ids; sums 0 = -log-likelihood,
 * 1 = targets ---- */

typedef struct gd_window_source {
  gd_dataset *dataset; /* one of the two */
  const int32_t *ids;
  int64_t count;
  int32_t length; /* T */
  gd_batch batch; /* one sequence; opened by the caller for a dataset */
} gd_window_source;

int64_t gd_window_count(const gd_window_source *source);
/* A gd_score_item; context: any struct whose first member is a gd_window_source. */
GD_CHECKED gd_status gd_score_window(void *context, gd_evaluator *evaluator, int64_t item, double sums[GD_SCORE_SUMS]);

/* ---- tasks of many small items, read from a JSON Lines file ---- */

typedef enum gd_task_kind { GD_TASK_LAMBADA, GD_TASK_PIQA, GD_TASK_HELLASWAG } gd_task_kind;

enum { GD_TASK_ANSWERS = 4 }; /* most of an item; the cache has as many slots */

typedef struct gd_task gd_task;

/* lambada (Paperno et al. 2016; lines {"text"}): the last word after the rest. sums: 0 = passages whose last word is all
 * greedy, 1 = -log-likelihood of the last words, 2 = their tokens. piqa (Bisk et al. 2020; {"goal", "sol1", "sol2", "label"})
 * and hellaswag (Zellers et al. 2019; {"ctx", "endings", "label"}): the answer of the highest log-likelihood. sums: 0 = right,
 * 3 = right when it is divided by the answer's bytes. GD_BAD_DATA with file and line. Local. */
GD_CHECKED gd_status gd_task_open(gd_task_kind kind, const char *path, gd_tokenizer *tokenizer, gd_task **out);
int64_t gd_task_items(const gd_task *task);
/* A gd_score_item; context: any struct whose first member is a gd_task *. */
GD_CHECKED gd_status gd_task_score(void *context, gd_evaluator *evaluator, int64_t item, double sums[GD_SCORE_SUMS]);
void gd_task_close(gd_task *task);

#endif
