/* label_text.h - the text of a classifier as ids: the same in the examples of a dataset and in a text that is asked about.
 * Local. */
#ifndef GD_IO_DATA_LABEL_TEXT_H
#define GD_IO_DATA_LABEL_TEXT_H

#include "io/tokenizer/tokenizer.h"

/* ids = begin-of-text where the tokenizer has it, then the text, of at most max_tokens ids (0: any number): a longer one loses
 * its tail, or where cut_head its head (behind begin-of-text). *cut: it did. GD_BAD_DATA: no token of the text is left, or they
 * are more than 2^31 - 1. */
GD_CHECKED gd_status gd_label_text_encode(gd_tokenizer *tokenizer, const char *text, size_t count, int64_t max_tokens,
                                          bool cut_head, gd_ids *ids, bool *cut);

#endif
