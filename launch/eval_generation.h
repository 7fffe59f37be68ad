/* eval_generation.h - gptdist-eval --task generation: a model writes the responses of a split prepared for sft, and they are
 * scored beside those that stand there. */
#ifndef GD_LAUNCH_EVAL_GENERATION_H
#define GD_LAUNCH_EVAL_GENERATION_H

#include "launch/generate.h"
#include "launch/text_scores.h"

typedef struct gd_eval_generation_options {
  const char *data;        /* a split folder */
  const char *predictions; /* a file for what was written, or NULL */
  int64_t limit;           /* prompts; 0: all */
  gd_text_scores_options scores;
  bool json;
} gd_eval_generation_options;

/* g is open. The last response of each document is asked for with what stands before it; documents with the same prompt are one
 * prompt with several references. Rank 0 prints. *done of *prompts were scored (fewer after a signal). GD_USAGE: no split, data
 * of another task or tokenizer, a document that is longer than the context. GD_BAD_DATA. GD_IO. Collective over the job. */
GD_CHECKED gd_status gd_eval_generation(gd_generate *g, const gd_eval_generation_options *options, int64_t *done,
                                        int64_t *prompts);

#endif
