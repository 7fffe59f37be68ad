/* split.h - cuts text into the pieces inside which byte pairs are merged, by a regular expression (PCRE2 with JIT).
 */
#ifndef GD_IO_TOKENIZER_SPLIT_H
#define GD_IO_TOKENIZER_SPLIT_H

#include <stddef.h>

#include "shard/base/status.h"

typedef struct gd_splitter gd_splitter;             /* the compiled pattern, shared by all threads */
typedef struct gd_splitter_state gd_splitter_state; /* what one thread needs beside it */

/* The patterns of GPT-2 (Radford et al. 2019, encoder.py) and of cl100k_base (openai/tiktoken), with the Unicode property
 * White_Space written out for \s, since PCRE2's own \s also takes U+180E. */
extern const char gd_splitter_gpt2[];
extern const char gd_splitter_cl100k[];

GD_CHECKED gd_status gd_splitter_open(const char *pattern, gd_splitter **out);
void gd_splitter_close(gd_splitter *splitter);
GD_CHECKED gd_status gd_splitter_state_open(const gd_splitter *splitter, gd_splitter_state **out);
void gd_splitter_state_close(gd_splitter_state *state);

/* *end = where the piece that begins at text[start] ends, start < *end <= count. text[count] is valid UTF-8. */
GD_CHECKED gd_status gd_splitter_next(const gd_splitter *splitter, gd_splitter_state *state, const char *text, size_t count,
                                      size_t start, size_t *end);

#endif
