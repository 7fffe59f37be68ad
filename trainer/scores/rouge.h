/* rouge.h - ROUGE-1, ROUGE-2 and ROUGE-L (Lin 2004) of one text, as rouge-score has them without its stemmer. Local, on the
 * host. */
#ifndef GD_TRAINER_SCORES_ROUGE_H
#define GD_TRAINER_SCORES_ROUGE_H

#include "trainer/scores/bleu.h"

enum { GD_ROUGE_1, GD_ROUGE_2, GD_ROUGE_L, GD_ROUGES };
extern const char *const gd_rouge_names[GD_ROUGES]; /* "rouge1", "rouge2", "rougeL" */

typedef struct gd_rouge {
  double precision, recall, f1;
} gd_rouge;

/* Of references[count], count >= 1, the one of the best F1 counts, each score for itself. Words are runs of a-z and 0-9 in
 * lower case, as in rouge-score, so that other scripts have none; or, where a tokenizer is given, its tokens. Time grows with
 * the product of both lengths. GD_NO_MEMORY. */
GD_CHECKED gd_status gd_rouge_score(const gd_bleu_tokenizer *tokenizer, const char *hypothesis, const char *const *references,
                                    int32_t count, gd_rouge out[GD_ROUGES]);

#endif
