/* eval.h - what the tasks of gptdist-eval share that ask a model: the options, the model, and how they tell. */
#ifndef GD_LAUNCH_EVAL_H
#define GD_LAUNCH_EVAL_H

#include "launch/eval_texts.h"
#include "launch/generate.h"
#include "trainer/evaluate.h"

typedef struct gd_eval {
  gd_inference_options options;
  gd_command_line line;
  gd_eval_texts_options texts;
  gd_generate generate; /* of --task generation, in place of model and evaluator */
  const char *task, *data, *token_ids, *prompt, *compare, *predictions;
  const char *format, *text_field, *cut_end; /* predict */
  int64_t limit, length, text_column;
  bool first; /* rank 0 */
  bool cut_head;
  bool cut; /* a signal ended it before its last item */
  gd_inference model;
  gd_evaluator evaluator;
} gd_eval;

/* What JSON has no number for is null. */
void gd_eval_print_number(const char *before, double value);
/* A gd_score_stop. */
bool gd_eval_stop_asked(void *context);
/* Sets `cut`, and says how far it came. */
void gd_eval_note_cut(gd_eval *e, int64_t done, int64_t items, const char *what);
GD_CHECKED gd_status gd_eval_need_tokenizer(const gd_eval *e);

/* ---- tasks: each in the file of its name; the model is open, rank 0 prints; collective over the job ---- */

GD_CHECKED gd_status gd_eval_perplexity(gd_eval *e);
GD_CHECKED gd_status gd_eval_items(gd_eval *e); /* lambada, piqa, hellaswag */
GD_CHECKED gd_status gd_eval_logits(gd_eval *e);
GD_CHECKED gd_status gd_eval_classification(gd_eval *e);
GD_CHECKED gd_status gd_eval_predict(gd_eval *e);

#endif
