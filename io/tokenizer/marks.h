/* marks.h - what begins and ends a text or a turn, where a tokenizer's own files do not tell. Local. */
#ifndef GD_IO_TOKENIZER_MARKS_H
#define GD_IO_TOKENIZER_MARKS_H

#include "io/base/json.h"
#include "io/tokenizer/internal.h"

/* Reads what stands beside `path`, a tokenizer's file of Hugging Face's. GD_BAD_DATA naming the file. */
GD_CHECKED gd_status gd_marks_read(gd_tokenizer *tokenizer, const char *path);

/* Whether they are other ones than the tokenizer's own files give. */
bool gd_marks_told(const gd_tokenizer *tokenizer);

/* Lines of gptdist-tokenizer.json, with a digest of their own, appended to `out`; and back from its text: the caller compares
 * what gd_marks_write then makes. */
GD_CHECKED gd_status gd_marks_write(const gd_tokenizer *tokenizer, gd_bytes *out);
GD_CHECKED gd_status gd_marks_restore(gd_tokenizer *tokenizer, const gd_json *description, const char *where);

#endif
