/* generate.h - what the files of gptdist-generate share: its options, a prompt and how it is to go on, and a text as it is
 * written. */
#ifndef GD_LAUNCH_GENERATE_H
#define GD_LAUNCH_GENERATE_H

#include "io/data/template.h"
#include "launch/inference.h"
#include "launch/options.h"
#include "trainer/beams.h"

enum { GD_MOST_SAMPLES = 256 };

typedef struct gd_generate {
  gd_inference_options options;
  gd_command_line line;
  const char *prompt, *prompt_file, *token_ids, *jsonl, *template_name, *system, *rank_by, *early_stopping, *end_ids;
  gd_option_texts stops;
  int64_t max_new_tokens, max_length, min_new_tokens; /* the first two: -1 where not given */
  int64_t top_k, seed, batch, samples, beams;
  double temperature, top_p, repetition_penalty, length_penalty;
  bool ids, no_echo, ignore_end, chat, dry_run;
  bool first; /* rank 0 */
  gd_inference model;
  gd_generator generator;
  gd_beam_search search; /* where beams > 1 */
  bool *never, *ends;    /* [the model's vocabulary]: ids that the tokenizer has no text for; that end a text */
  gd_template layout;    /* of turns, where there are some */
  int32_t turn_end;
  struct gd_written **in_slots; /* [slots]: what is being written there, or NULL */
  int32_t *stepping, *next;     /* [slots], scratch of gd_generate_step */
} gd_generate;

/* A prompt, and what of the options is its own. */
typedef struct gd_request {
  gd_ids prompt;
  uint64_t seed;
  int64_t max_new_tokens;
} gd_request;

/* A text as it is written. */
typedef struct gd_written {
  gd_ids tokens;    /* new ones */
  int32_t previous; /* the id before the next one */
  int64_t most;     /* new tokens */
  gd_bytes text;    /* of the new ones, up to where it stopped */
  size_t settled;   /* bytes of it that no stop text can take back */
  const char *stopped_by;
  double score; /* log-likelihood; of a beam its score */
} gd_written;

/* A request and the texts that are to become of it. */
typedef struct gd_start {
  gd_request request; /* its prompt is lent */
  int32_t first_slot;
  gd_written *texts;
} gd_start;

/* ---- generate_open.c ---- */

/* The defaults of gptdist-generate. Local. */
void gd_generate_defaults(gd_generate *g);
/* g->model is open, for as many slots as the options ask for. GD_USAGE where ranks do not all share the model.
 * gd_generate_close in any case. Local. */
GD_CHECKED gd_status gd_generate_open(gd_generate *g);
void gd_generate_close(gd_generate *g);

/* ---- generate_prompt.c: all local ---- */

/* Appends the ids of a text as a prompt, or those of `turns`, ready for a response. GD_USAGE, GD_BAD_DATA. */
GD_CHECKED gd_status gd_prompt_of_text(gd_generate *g, const char *text, size_t count, gd_ids *out);
GD_CHECKED gd_status gd_prompt_of_turns(gd_generate *g, const gd_turn *turns, int32_t count, gd_ids *out);
/* Opens the template, once. GD_USAGE, GD_BAD_DATA. */
GD_CHECKED gd_status gd_prompt_need_template(gd_generate *g);

/* ---- generate_text.c ---- */

/* New tokens that a prompt of `count` ids may get, by --max-new-tokens (or `own`, where it is not -1) and --max-length. */
int64_t gd_generate_most(const gd_generate *g, int64_t own, size_t count);

/* Begins the texts of requests, each in slots first_slot on, --samples of them, or the best of --beams; the prompts were
 * checked and are read together. gd_generate_step makes the next token of every text in a slot that has not stopped (a beam
 * search makes a step). Collective over tensor. */
GD_CHECKED gd_status gd_generate_begin(gd_generate *g, const gd_start *starts, int32_t count);
GD_CHECKED gd_status gd_generate_step(gd_generate *g);
/* A beam search that is stopped gives what it has. Local. */
GD_CHECKED gd_status gd_generate_interrupt(gd_generate *g, gd_written *text);
int32_t gd_generate_texts(const gd_generate *g); /* of a request */
int32_t gd_generate_width(const gd_generate *g); /* slots of a request */
void gd_written_free(gd_written *text);

/* Bytes as UTF-8, to standard output: what is none becomes U+FFFD. */
void gd_print_text(const char *bytes, size_t count);
/* Appends "text", "token_ids", "stopped_by" of a text as members of a JSON object, with "loglikelihood" or "score" where it was
 * asked for. */
GD_CHECKED gd_status gd_written_json(const gd_generate *g, const gd_written *text, gd_bytes *out);
/* The order in which the samples of a request are told. */
void gd_generate_rank(const gd_generate *g, const gd_written *texts, int32_t order[]);

/* ---- modes: generate_lines.c, generate_chat.c; collective over the job ---- */

GD_CHECKED gd_status gd_generate_lines(gd_generate *g);
GD_CHECKED gd_status gd_generate_chat(gd_generate *g);

#endif
