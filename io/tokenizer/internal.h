/* internal.h - what the files of the tokenizer share. A kind is a static table of functions over its own state. */
#ifndef GD_IO_TOKENIZER_INTERNAL_H
#define GD_IO_TOKENIZER_INTERNAL_H

#include "io/tokenizer/specials.h"
#include "io/tokenizer/tokenizer.h"

typedef struct gd_tokenizer_kind {
  const char *name;
  bool cuts; /* gd_tokenizer_cuts */
  /* Ordinary text; first: nothing stands before it. Safe from several threads. */
  gd_status (*encode)(void *state, bool first, const char *bytes, size_t count, gd_ids *out);
  gd_status (*decode)(const void *state, int32_t previous, const int32_t *ids, size_t count, gd_bytes *out);
  void (*close)(void *state);
} gd_tokenizer_kind;

typedef struct gd_tokenizer_file {
  char name[32]; /* in a saved folder */
  gd_bytes bytes;
} gd_tokenizer_file;

enum { GD_TOKENIZER_FILES = 2, GD_TOKENIZER_FILE_LIMIT = 256 << 20, GD_TOKENIZER_ENDS = 64 };

struct gd_tokenizer {
  const gd_tokenizer_kind *kind;
  void *state;
  const char *spec_kind; /* "gpt2", "tiktoken", "hf", "llama2c", "bytes", "chars": how a saved folder is opened */
  int32_t vocabulary, eot, bos;
  int32_t own_vocabulary, own_eot, own_bos;   /* by its own files alone */
  int32_t added_count;                        /* ids from own_vocabulary on: the last of the specials */
  int32_t ends[GD_TOKENIZER_ENDS], end_count; /* ids that end a text or a turn; none: eot does */
  gd_specials specials;
  gd_tokenizer_file files[GD_TOKENIZER_FILES]; /* as read, for saving and the digest */
  int32_t file_count;
  char digest[GD_SHA256_HEX_BYTES];
};

/* Fill kind, state, vocabulary, eot, bos and specials from the files already read; `where` names them in faults. */
GD_CHECKED gd_status gd_tokenizer_build_gpt2(gd_tokenizer *tokenizer, const char *where);
GD_CHECKED gd_status gd_tokenizer_build_tiktoken(gd_tokenizer *tokenizer, const char *where);
GD_CHECKED gd_status gd_tokenizer_build_huggingface(gd_tokenizer *tokenizer, const char *where);
GD_CHECKED gd_status gd_tokenizer_build_llama2c(gd_tokenizer *tokenizer, const char *where);
GD_CHECKED gd_status gd_tokenizer_build_bytes(gd_tokenizer *tokenizer, const char *where);
GD_CHECKED gd_status gd_tokenizer_build_chars(gd_tokenizer *tokenizer, const char *where);

/* A special token that is taken only where the caller allows it. */
GD_CHECKED gd_status gd_tokenizer_add_special(gd_tokenizer *tokenizer, const char *text, int32_t id);
GD_CHECKED gd_status gd_ids_reserve(gd_ids *buffer, size_t more);

/* GPT-2's byte alphabet: the code point (33 to 323) that stands for a byte in vocab.json, and back (-1: none). */
uint32_t gd_gpt2_code_point(uint8_t byte);
int32_t gd_gpt2_byte(uint32_t code_point);
/* The 256 bytes in the order of GPT-2's ids. */
void gd_gpt2_order(uint8_t order[256]);

#endif
