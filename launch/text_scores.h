/* text_scores.h - scores of texts beside their references, as gptdist-eval takes their options and tells them. Local. */
#ifndef GD_LAUNCH_TEXT_SCORES_H
#define GD_LAUNCH_TEXT_SCORES_H

#include "trainer/scores/bleu.h"
#include "trainer/scores/rouge.h"

typedef struct gd_text_scores_options {
  const char *tokenize; /* NULL: bleu 13a, rouge its own words */
  const char *smooth;   /* NULL: exp */
  double smooth_value;  /* NaN: the method's */
  bool effective_order;
} gd_text_scores_options;

enum { GD_SCORE_BLEU = 1, GD_SCORE_ROUGE = 2, GD_SCORE_EXACT = 4 };

typedef struct gd_text_scores {
  int which; /* a sum of GD_SCORE_... */
  gd_bleu_options bleu;
  bool rouge_tokenizes; /* as bleu does */
  gd_bleu_counts counts;
  gd_rouge sums[GD_ROUGES];
  int64_t same_words, same_number, texts;
} gd_text_scores;

/* GD_USAGE with what there is. */
GD_CHECKED gd_status gd_text_scores_open(const gd_text_scores_options *options, int which, gd_text_scores *out);

/* Adds a text and its references[count], count >= 1. GD_NO_MEMORY. */
GD_CHECKED gd_status gd_text_scores_add(gd_text_scores *scores, const char *text, const char *const *references, int32_t count);

/* Appends lines, or members of a JSON object with a comma before each; at least one text was added. GD_NO_MEMORY. */
GD_CHECKED gd_status gd_text_scores_text(const gd_text_scores *scores, gd_bytes *out);
GD_CHECKED gd_status gd_text_scores_json(const gd_text_scores *scores, gd_bytes *out);

#endif
