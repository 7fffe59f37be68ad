/* text.h - sentences put together in a buffer of fixed size. Local; no errors: what does not fit is cut off. */
#ifndef GD_SHARD_BASE_TEXT_H
#define GD_SHARD_BASE_TEXT_H

#include <stddef.h>

/* out[bytes] ends in 0 after the first call; used: letters so far. */
typedef struct gd_text {
  char *out;
  size_t bytes, used;
} gd_text;

void gd_text_add(gd_text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
