/* generate.h - text generation in the slots of an inference model's key/value cache: a prompt is read into a slot, then each
 * call makes the next token of several slots at once. What a text comes to does not depend on the others (docs/rounding.md).
 */
#ifndef GD_TRAINER_GENERATE_H
#define GD_TRAINER_GENERATE_H

#include "trainer/model.h"
#include "trainer/sampling.h"

typedef struct gd_slot_text {
  gd_sampling sampling;
  int32_t *tokens; /* [capacity + 1]: those in the cache, then at most one that is not there yet */
  int64_t known, new_tokens;
  double log_likelihood; /* of the new tokens, natural, by the model's own odds; sampling.scored */
} gd_slot_text;

typedef struct gd_generator {
  gd_model *model;
  gd_slot_text *slots;      /* [cache.slots] */
  gd_infer_part *parts;     /* [cache.slots] */
  int32_t *tokens;          /* of the call at hand: as many as it may have rows */
  float *logits;            /* [cache.slots][V], host */
  float *raw;               /* [threads][V] */
  gd_candidate *candidates; /* [threads][V] */
} gd_generator;

/* model: opened for inference. GD_NO_MEMORY. Local. */
GD_CHECKED gd_status gd_generator_open(gd_model *model, gd_generator *out);
void gd_generator_close(gd_generator *generator);

/* Whether a prompt (count >= 1) leaves room for a token and has ids of this model: GD_USAGE, GD_BAD_DATA. Local. */
GD_CHECKED gd_status gd_generator_check(const gd_model *model, const int32_t *tokens, int64_t count);

/* Reads a prompt that was checked into `slot` of the cache, but for what stands there from before (`stands`: so many tokens are
 * the same), and gives the logits [V] (host) behind it. Collective over tensor. */
GD_CHECKED gd_status gd_generator_read(gd_model *model, int32_t slot, int64_t stands, const int32_t *tokens, int64_t count,
                                       float *logits);

/* A prompt that was checked, and the texts that begin with it. */
typedef struct gd_prompt {
  int32_t first_slot, texts;   /* at least 1, in slots first_slot on */
  const gd_sampling *sampling; /* [texts] */
  const int32_t *tokens;       /* [count] */
  int64_t count;
} gd_prompt;

/* Reads prompts[count], which have slots of their own, as many rows of them in one call as it takes, and draws the
 * first token of each text. Where a prompt's first slot holds its beginning from before, that is not read again. Collective
 * over tensor. */
GD_CHECKED gd_status gd_generator_prompts(gd_generator *generator, const gd_prompt *prompts, int32_t count);

/* next[i] = the next token of slots[i], of `count` different ones that have begun; -1: its context is full. Collective over
 * tensor. */
GD_CHECKED gd_status gd_generator_next(gd_generator *generator, const int32_t *slots, int32_t count, int32_t *next);

#endif
