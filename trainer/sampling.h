/* sampling.h - from the logits of a row to a token. The token at a position depends on (seed, stream, position) and the logits
 * only, so the same command gives the same tokens, and every tensor rank draws the same one without talking. All local, host.
 */
#ifndef GD_TRAINER_SAMPLING_H
#define GD_TRAINER_SAMPLING_H

#include <stdbool.h>
#include <stdint.h>

typedef struct gd_sampling {
  double temperature; /* 0: the most likely token, the lowest id among equals */
  int32_t top_k;      /* only the k most likely; 0 = all */
  double top_p; /* only the smallest set of most likely tokens whose probability reaches p (Holtzman et al. 2020); 1 = all */
  uint64_t seed;
  uint32_t stream;           /* several texts of one seed: 0, 1, ... 65535 */
  double repetition_penalty; /* of tokens that the text has, the prompt's too (Keskar et al. 2019); 0, 1: none */
  int64_t min_new_tokens;    /* none of the first so many is one that ends a text */
  const bool *never;         /* [V], the caller's: ids that are not drawn, as a padded vocabulary has; NULL: none */
  const bool *ends;          /* [V], the caller's: ids that end a text; NULL: none */
  bool scored;               /* add up log-likelihoods */
} gd_sampling;

/* A token and its logit, for selection. */
typedef struct gd_candidate {
  float logit;
  int32_t token;
} gd_candidate;

/* The k best of values[count] in order: larger ones first, lower ids among equals; NaN and what lies below `least` are none.
 * Returns how many there are. out: room for k. */
int32_t gd_best(const float *values, int32_t count, float least, const bool *never, int32_t k, gd_candidate *out);

/* Logits [V] as repetition_penalty and min_new_tokens want them, of a text of tokens[count], new_tokens of them new. raw: the
 * logits before that, other memory. Repetition: a logit above 0 is divided by the penalty, one below multiplied. */
void gd_sampling_process(const gd_sampling *sampling, const int32_t *tokens, int64_t count, int64_t new_tokens,
                         int32_t vocabulary, const float *raw, float *logits);

/* The token drawn at `position` (of the token itself) from logits [V]. candidates: room for V. */
int32_t gd_sample(const gd_sampling *sampling, const float *logits, int32_t vocabulary, int64_t position,
                  gd_candidate *candidates);

/* log of the sum of exp(logits [V]), natural, in double. */
double gd_log_sum_exp(const float *logits, int32_t vocabulary);

#endif
