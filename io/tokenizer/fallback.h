/* fallback.h - BPE over characters, as SentencePiece has it: spaces are written as U+2581, a text is merged as one piece, and a
 * character that is no token becomes the tokens of its bytes, <0x00> to <0xFF>. Llama 2, Mistral. */
#ifndef GD_IO_TOKENIZER_FALLBACK_H
#define GD_IO_TOKENIZER_FALLBACK_H

#include "io/tokenizer/bpe.h"

/* Where a space is put before a text that has none. */
typedef enum gd_fallback_prefix {
  GD_PREFIX_NEVER,
  GD_PREFIX_FIRST,  /* before the first text, unless a space begins it */
  GD_PREFIX_ALWAYS, /* also behind special tokens */
  GD_PREFIX_FORCED, /* the same, whatever the text begins with */
} gd_fallback_prefix;

typedef struct gd_fallback_options {
  gd_fallback_prefix prefix;
  bool split;       /* words, each with the space before it, are merged apart */
  bool whole_first; /* where words are apart: one that is a token is taken as it is */
  bool fuse;        /* neighbouring unknown characters are one */
  int32_t unknown;  /* the id for what has no token; -1: a fault */
} gd_fallback_options;

extern const gd_tokenizer_kind gd_fallback_kind;

/* The state of the kind, for a tokenizer whose bos it looks up; takes over `bpe`, whose vocabulary and merges are complete,
 * also where it fails. */
GD_CHECKED gd_status gd_fallback_open(gd_bpe *bpe, const gd_fallback_options *options, const gd_tokenizer *tokenizer,
                                      void **out);

#endif
