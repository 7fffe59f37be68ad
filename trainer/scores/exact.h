/* exact.h - answers that are right or not: the same words, the same last number. All local, on the host. */
#ifndef GD_TRAINER_SCORES_EXACT_H
#define GD_TRAINER_SCORES_EXACT_H

#include "io/base/files.h"

/* Appends an answer as SQuAD compares it (Rajpurkar et al. 2016, evaluate-v1.1.py): in lower case, without ASCII punctuation,
 * without the words a, an and the, one space between words. GD_NO_MEMORY. */
GD_CHECKED gd_status gd_exact_normalise(const char *text, gd_bytes *out);

/* Appends the last number of a text in one spelling ("1,250.50" and "1250.5" are "1250.5", "-0" is "0"); nothing where there is
 * none. Digits, with commas between groups of three, and a fraction; a - counts where no letter, digit or ) stands before it.
 * GD_NO_MEMORY. */
GD_CHECKED gd_status gd_exact_last_number(const char *text, gd_bytes *out);

/* Whether a text is equal to one of references[count] in either sense; without a number it is equal to none in the second.
 * GD_NO_MEMORY. */
GD_CHECKED gd_status gd_exact_match(const char *text, const char *const *references, int32_t count, bool *same_words,
                                    bool *same_number);

#endif
