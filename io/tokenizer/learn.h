/* learn.h - learning merges from counted words. Local. */
#ifndef GD_IO_TOKENIZER_LEARN_H
#define GD_IO_TOKENIZER_LEARN_H

#include <stddef.h>
#include <stdint.h>

#include "io/tokenizer/tokenizer.h"

/* Words and how often each occurs: a hash table that grows. */
typedef struct gd_words gd_words;
GD_CHECKED gd_status gd_words_open(gd_words **out);
void gd_words_close(gd_words *words);
GD_CHECKED gd_status gd_words_count(gd_words *words, const char *bytes, size_t count);
int64_t gd_words_number(const gd_words *words);

typedef struct gd_learned {
  int32_t left, right;
} gd_learned;

/* Up to `most` merges, in order; merge m makes id first_id + m. byte_ids[256]: the ids of the bytes. *merges is the caller's to
 * free. */
GD_CHECKED gd_status gd_learn_merges(const gd_words *words, const int32_t *byte_ids, int32_t first_id, int64_t most,
                                     gd_learned **merges, int64_t *count);

#endif
