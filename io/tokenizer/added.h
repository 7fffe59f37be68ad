/* added.h - special tokens that a tokenizer got behind its own ids: no file of its own names them, gptdist-tokenizer.json does.
 * Local. */
#ifndef GD_IO_TOKENIZER_ADDED_H
#define GD_IO_TOKENIZER_ADDED_H

#include "io/base/json.h"
#include "io/tokenizer/internal.h"

/* The SHA-256 of kind, files and the texts added[count], in tokenizer->digest. */
GD_CHECKED gd_status gd_added_digest(gd_tokenizer *tokenizer, const char *const *added, int32_t count);

/* A line of gptdist-tokenizer.json, appended, and its texts again, which are the node's; *out is the caller's. */
GD_CHECKED gd_status gd_added_write(const gd_tokenizer *tokenizer, gd_bytes *out);
GD_CHECKED gd_status gd_added_read(const gd_json *description, const char *where, const char ***out, int32_t *count);

/* Behind the last id. GD_USAGE: no text for a token. */
GD_CHECKED gd_status gd_added_append(gd_tokenizer *tokenizer, const char *text);

/* The text of an added id, NULL: it is another one. */
const char *gd_added_text(const gd_tokenizer *tokenizer, int32_t id);

/* Appends a tokenizer.json with the added tokens in its list. */
GD_CHECKED gd_status gd_added_export(const gd_tokenizer *tokenizer, gd_bytes *out);

#endif
