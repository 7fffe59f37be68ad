/* generate.c - one token after the other: from logits to a choice, and the cache between. */
#include "trainer/generate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Larger logits first, lower ids among equals. */
static int by_logit(const void *a, const void *b) {
  const gd_candidate *x = a, *y = b;
  if (x->logit != y->logit) return x->logit > y->logit ? -1 : 1;
  return (x->token > y->token) - (x->token < y->token);
}

static int32_t most_likely(const float *logits, int32_t vocabulary, const bool *never) {
  int32_t best = -1;
  for (int32_t i = 0; i < vocabulary; i++) {
    if (never && never[i]) continue;
    if (best < 0 || logits[i] > logits[best]) best = i;
  }
  return best < 0 ? 0 : best;
}

int32_t gd_sample(const gd_sampling *sampling, const float *logits, int32_t vocabulary, int64_t position,
                  gd_candidate *candidates) {
  int32_t best = most_likely(logits, vocabulary, sampling->never), count = 0;
  if (sampling->temperature <= 0) return best;
  /* Beyond this a weight is 0 in double arithmetic; leaving such tokens out keeps the sort short. */
  double cut = (double)logits[best] - 700 * sampling->temperature, sum = 0, kept = 0;
  for (int32_t i = 0; i < vocabulary; i++)
    if ((double)logits[i] >= cut && !(sampling->never && sampling->never[i]))
      candidates[count++] = (gd_candidate){logits[i], i};
  if (count == 0) return best; /* no logit is a number */
  qsort(candidates, (size_t)count, sizeof *candidates, by_logit);
  if (sampling->top_k > 0 && sampling->top_k < count) count = sampling->top_k;
  double largest = (double)candidates[0].logit;
  for (int32_t i = 0; i < count; i++) sum += exp(((double)candidates[i].logit - largest) / sampling->temperature);
  int32_t last = 0;
  for (; last < count; last++) {
    kept += exp(((double)candidates[last].logit - largest) / sampling->temperature);
    if (sampling->top_p < 1 && kept >= sampling->top_p * sum) break;
  }
  if (last == count) last = count - 1;
  gd_rng rng = gd_rng_make(sampling->seed, GD_RNG_SAMPLING, 0, 0, (uint64_t)position);
  double left = (double)gd_rng_word(&rng, 0) * 0x1p-32 * kept;
  for (int32_t i = 0; i < last; i++) {
    left -= exp(((double)candidates[i].logit - largest) / sampling->temperature);
    if (left < 0) return candidates[i].token;
  }
  return candidates[last].token;
}

gd_status gd_generator_open(gd_model *model, const gd_sampling *sampling, gd_generator *out) {
  size_t vocabulary = (size_t)model->layout.spec.model.vocabulary;
  *out = (gd_generator){.model = model, .sampling = *sampling, .pending = -1};
  out->logits = malloc(vocabulary * sizeof *out->logits);
  out->candidates = malloc(vocabulary * sizeof *out->candidates);
  if (out->logits && out->candidates) return GD_OK;
  gd_generator_close(out);
  return gd_fail(GD_NO_MEMORY, "no memory for %zu logits", vocabulary);
}

void gd_generator_close(gd_generator *generator) {
  free(generator->logits);
  free(generator->candidates);
  memset(generator, 0, sizeof *generator);
}

gd_status gd_generator_prompt(gd_generator *generator, const int32_t *tokens, int64_t count) {
  gd_model *model = generator->model;
  int32_t vocabulary = model->layout.spec.model.vocabulary, chunk = model->layout.spec.batch.sequence;
  if (count >= model->cache.capacity)
    return gd_fail_user(GD_USAGE,
                        "the prompt has %lld tokens, but the context of this model is %d tokens (the new ones included)",
                        (long long)count, model->cache.capacity);
  for (int64_t i = 0; i < count; i++)
    if (tokens[i] < 0 || tokens[i] >= vocabulary)
      return gd_fail_user(GD_BAD_DATA, "token id %d at position %lld of the prompt: this model has ids 0 to %d", tokens[i],
                          (long long)i, vocabulary - 1);
  model->cache.length = 0;
  generator->pending = -1;
  for (int64_t first = 0; first < count; first += chunk) {
    int32_t rows = count - first < chunk ? (int32_t)(count - first) : chunk;
    GD_TRY(gd_model_infer(model, tokens + first, rows, 1, generator->logits));
  }
  return GD_OK;
}

gd_status gd_generator_next(gd_generator *generator, int32_t *token) {
  gd_model *model = generator->model;
  *token = -1;
  if (generator->pending >= 0) {
    if (model->cache.length >= model->cache.capacity) return GD_OK;
    GD_TRY(gd_model_infer(model, &generator->pending, 1, 1, generator->logits));
  }
  *token = gd_sample(&generator->sampling, generator->logits, model->layout.spec.model.vocabulary, model->cache.length,
                     generator->candidates);
  generator->pending = *token;
  return GD_OK;
}
