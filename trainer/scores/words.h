/* words.h - texts cut at white space into words that are numbered, so that equal words are equal numbers: what BLEU and ROUGE
 * count. All local, on the host. */
#ifndef GD_TRAINER_SCORES_WORDS_H
#define GD_TRAINER_SCORES_WORDS_H

#include "io/base/files.h"

/* A few texts that are compared with each other. All zeros is empty. */
typedef struct gd_words {
  gd_bytes bytes;  /* the words' letters */
  gd_bytes places; /* where each word begins in them, size_t */
  gd_bytes ends;   /* of each text: words up to its end, int64_t */
  int32_t *ids;    /* [words], after gd_words_number */
  int64_t count;   /* words */
  int32_t texts;
} gd_words;

/* Unicode's white space and the control characters that Python's str.split takes for it. */
bool gd_is_space(uint32_t code_point);

/* Forgets all texts and keeps the memory. */
void gd_words_clear(gd_words *words);
void gd_words_free(gd_words *words);

/* Adds a text as the words between its white space; what is not UTF-8 belongs to a word. GD_NO_MEMORY. */
GD_CHECKED gd_status gd_words_add(gd_words *words, const char *text, size_t count);

/* Numbers the words of all texts. GD_NO_MEMORY. */
GD_CHECKED gd_status gd_words_number(gd_words *words);

/* The numbers of text `text`, [*count]. */
const int32_t *gd_words_of(const gd_words *words, int32_t text, int64_t *count);

/* How many runs of `order` words of text `hypothesis` stand also in one of the texts [first, end): each run counts at most as
 * often as in that of them that has it most often. GD_NO_MEMORY. */
GD_CHECKED gd_status gd_words_matches(const gd_words *words, int32_t hypothesis, int32_t first, int32_t end, int order,
                                      int64_t *matches);

#endif
