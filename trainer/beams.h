/* beams.h - beam search over one prompt, in slots 0 on of an inference model's cache, as transformers does it (its
 * _beam_search): each step keeps the best `beams` of all continuations that go on; one that ends is finished if it is among the
 * best `beams`, and then scored by its log-probability divided by (new tokens, the end included)^length_penalty. Host. */
#ifndef GD_TRAINER_BEAMS_H
#define GD_TRAINER_BEAMS_H

#include "trainer/generate.h"

enum { GD_MOST_BEAMS = 64 };

/* When a search is over before its last token: `no`: no beam, at its present length, would be among the finished ones; `yes`:
 * as soon as `beams` are finished; `never`: as `no`, but with the best length that a beam could still get. */
typedef enum gd_early_stop { GD_EARLY_NO, GD_EARLY_YES, GD_EARLY_NEVER } gd_early_stop;

typedef struct gd_beam_options {
  int32_t beams; /* at most GD_MOST_BEAMS */
  double length_penalty;
  gd_early_stop early;
  gd_sampling sampling;   /* its penalties, `never` and `ends`; nothing is drawn */
  int64_t max_new_tokens; /* >= 1, the end included */
} gd_beam_options;

/* A beam, or a finished one: its new tokens, an end that it has included. */
typedef struct gd_beam {
  int32_t *tokens; /* [room]; room of the search */
  int64_t count;
  float score;  /* sum of log-probabilities; of a finished one divided by the penalty of its length */
  int32_t slot; /* of a running one */
} gd_beam;

typedef struct gd_continuation {
  float score;
  int32_t beam, token;
} gd_continuation;

typedef struct gd_beam_search {
  gd_model *model;
  gd_beam_options options;
  int32_t keep; /* continuations that a step looks at: beams, and as many again for each id that ends, at least twice beams */
  int32_t running, finished;
  gd_beam *beams, *next, *done; /* [beams] each; done: the best first */
  int64_t room;                 /* tokens of a beam */
  const int32_t *prompt;        /* the caller's, until the search is over */
  int64_t prompt_count;
  float *logits, *raw;            /* [beams][V] */
  gd_candidate *best;             /* [beams][keep] */
  gd_continuation *continuations; /* [beams * keep] */
  int32_t *history;               /* [beams][capacity + 1]: prompt and new tokens, for penalties */
  bool over;
} gd_beam_search;

/* model: opened for inference with at least options->beams slots. GD_USAGE where the vocabulary is too small for so many beams,
 * GD_NO_MEMORY. Local. */
GD_CHECKED gd_status gd_beam_search_open(gd_model *model, const gd_beam_options *options, gd_beam_search *out);
void gd_beam_search_close(gd_beam_search *search);

/* Reads a prompt that was checked (gd_generator_check), and makes the first step. max_new_tokens: of this prompt. Collective
 * over tensor, as gd_beam_search_step, which makes another step; search->over: there is none. */
GD_CHECKED gd_status gd_beam_search_begin(gd_beam_search *search, const int32_t *prompt, int64_t count, int64_t max_new_tokens);
GD_CHECKED gd_status gd_beam_search_step(gd_beam_search *search);

/* The best text so far: a finished one, else the best running one. */
const gd_beam *gd_beam_search_best(const gd_beam_search *search);

#endif
