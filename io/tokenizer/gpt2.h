/* gpt2.h - reading vocabularies and merges, of GPT-2's files and of tokenizer.json. Faults are GD_BAD_DATA naming `where`. */
#ifndef GD_IO_TOKENIZER_GPT2_H
#define GD_IO_TOKENIZER_GPT2_H

#include "io/base/json.h"
#include "io/tokenizer/bpe.h"

extern const gd_tokenizer_kind gd_gpt2_kind; /* state: a gd_bpe */

/* Ids are 0 to the largest of `vocab` (an object text -> id) and `largest`. */
GD_CHECKED gd_status gd_gpt2_largest_id(const gd_json *vocab, int64_t largest, const char *where, int32_t *vocabulary);

/* Texts are in GPT-2's alphabet, and those that hold another character (added tokens) are kept as they are; plain: all are as
 * they are. */
GD_CHECKED gd_status gd_gpt2_read_vocab(const gd_tokenizer *tokenizer, gd_bpe *bpe, const gd_json *vocab, bool plain,
                                        const char *where);

/* One merge; `line` of its file, or its place in a list, is for messages. The second takes "left right". */
GD_CHECKED gd_status gd_gpt2_read_merge(gd_bpe *bpe, const char *left, size_t left_count, const char *right, size_t right_count,
                                        bool plain, uint32_t rank, const char *where, int64_t line);
GD_CHECKED gd_status gd_gpt2_read_merge_text(gd_bpe *bpe, const char *text, size_t count, bool plain, uint32_t rank,
                                             const char *where, int64_t line);

#endif
