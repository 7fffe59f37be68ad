/* split.h - cuts text into the pieces inside which byte pairs are merged, by a regular expression (PCRE2 with JIT).
 */
#ifndef GD_IO_TOKENIZER_SPLIT_H
#define GD_IO_TOKENIZER_SPLIT_H

#include <stdbool.h>
#include <stddef.h>

#include "io/base/files.h"
#include "shard/base/status.h"

typedef struct gd_splitter gd_splitter;             /* the compiled pattern, shared by all threads */
typedef struct gd_splitter_state gd_splitter_state; /* what one thread needs beside it */

/* The patterns of GPT-2 (Radford et al. 2019, encoder.py) and of cl100k_base (openai/tiktoken), with the Unicode property
 * White_Space written out for \s, since PCRE2's own \s also takes U+180E. */
extern const char gd_splitter_gpt2[];
extern const char gd_splitter_cl100k[]; /* Llama 3's, too */
extern const char gd_splitter_qwen2[];  /* the same but for digits, which are apart */

GD_CHECKED gd_status gd_splitter_open(const char *pattern, gd_splitter **out);
void gd_splitter_close(gd_splitter *splitter);
GD_CHECKED gd_status gd_splitter_state_open(const gd_splitter *splitter, gd_splitter_state **out);
void gd_splitter_state_close(gd_splitter_state *state);

/* *end = where the run that begins at text[start] ends, start < *end <= count: a match of the pattern, or what lies before the
 * next one. text[count] is valid UTF-8. */
GD_CHECKED gd_status gd_splitter_next(const gd_splitter *splitter, gd_splitter_state *state, const char *text, size_t count,
                                      size_t start, size_t *end, bool *matched);

/* A pattern of a tokenizer.json (Oniguruma's dialect) in PCRE2's: \\s is Unicode's White_Space there. GD_BAD_DATA naming what
 * means something else in the two: a class inside a class, "&&". */
GD_CHECKED gd_status gd_splitter_translate(const char *pattern, gd_bytes *out);

/* What becomes of matches and of what lies between them, as in Hugging Face's Split. */
typedef enum gd_split_behavior {
  GD_SPLIT_ISOLATED,             /* a piece each */
  GD_SPLIT_REMOVED,              /* matches are left out */
  GD_SPLIT_MERGED_WITH_PREVIOUS, /* a match belongs to what lies before it */
  GD_SPLIT_MERGED_WITH_NEXT,     /* or behind it */
  GD_SPLIT_CONTIGUOUS,           /* neighbouring matches are one piece */
} gd_split_behavior;

/* One step of several: each cuts the pieces of the one before as if they were texts. */
typedef struct gd_split_step {
  gd_splitter *splitter;
  gd_split_behavior behavior;
  bool invert; /* what lies between the matches is what counts as one */
} gd_split_step;

/* The piece that begins at text[start]; !*kept: it is left out. */
GD_CHECKED gd_status gd_split_step_next(const gd_split_step *step, gd_splitter_state *state, const char *text, size_t count,
                                        size_t start, size_t *end, bool *kept);

#endif
