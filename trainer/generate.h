/* generate.h - text generation: prefill, then a token at a time from an inference model's key/value cache.
 *
 * The token at a position depends on (seed, position) and the logits only, so the same command gives the same tokens, and every
 * tensor rank draws the same one without talking. */
#ifndef GD_TRAINER_GENERATE_H
#define GD_TRAINER_GENERATE_H

#include "trainer/model.h"

typedef struct gd_sampling {
  double temperature; /* 0: the most likely token, the lowest id among equals */
  int32_t top_k;      /* only the k most likely; 0 = all */
  double top_p; /* only the smallest set of most likely tokens whose probability reaches p (Holtzman et al. 2020); 1 = all */
  uint64_t seed;
  const bool *never; /* [vocabulary], the caller's: ids that are not drawn, as a padded vocabulary has; NULL: none */
} gd_sampling;

/* A token and its logit, for sorting. */
typedef struct gd_candidate {
  float logit;
  int32_t token;
} gd_candidate;

/* The token drawn at `position` (of the token itself) from logits [vocabulary] (host). candidates: room for vocabulary. Local.
 */
int32_t gd_sample(const gd_sampling *sampling, const float *logits, int32_t vocabulary, int64_t position,
                  gd_candidate *candidates);

typedef struct gd_generator {
  gd_model *model;
  gd_sampling sampling;
  float *logits; /* [vocabulary], host: of the newest token in the cache */
  gd_candidate *candidates;
  int32_t pending; /* drawn but not in the cache yet; -1: none */
} gd_generator;

/* model: opened for inference. GD_NO_MEMORY. Local. */
GD_CHECKED gd_status gd_generator_open(gd_model *model, const gd_sampling *sampling, gd_generator *out);
void gd_generator_close(gd_generator *generator);

/* Forgets what came before and reads the prompt (count >= 1). GD_USAGE when it does not leave room for a token in the model's
 * context, GD_BAD_DATA for an id beyond the vocabulary. Collective over tensor. */
GD_CHECKED gd_status gd_generator_prompt(gd_generator *generator, const int32_t *tokens, int64_t count);

/* The next token; *token = -1 when the context is full. Collective over tensor. */
GD_CHECKED gd_status gd_generator_next(gd_generator *generator, int32_t *token);

#endif
