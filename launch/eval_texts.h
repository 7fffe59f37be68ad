/* eval_texts.h - gptdist-eval's tasks that compare texts with references and need no model: bleu, rouge, exact. Local. */
#ifndef GD_LAUNCH_EVAL_TEXTS_H
#define GD_LAUNCH_EVAL_TEXTS_H

#include "launch/options.h"
#include "launch/text_scores.h"

typedef struct gd_eval_texts_options {
  const char *hypotheses;                         /* a file (launch/text_list.h) */
  gd_option_texts references;                     /* files alike, of as many texts */
  const char *hypothesis_field, *reference_field; /* of JSON Lines; NULL: "text" */
  gd_text_scores_options scores;
  bool json;
} gd_eval_texts_options;

/* Is it one of these tasks? */
bool gd_eval_texts_has(const char *task);

/* Reads, scores and prints. GD_USAGE, GD_BAD_DATA with file and line. */
GD_CHECKED gd_status gd_eval_texts(const char *task, const gd_eval_texts_options *options);

#endif
