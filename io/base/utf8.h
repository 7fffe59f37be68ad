/* utf8.h - UTF-8, one character at a time: what is valid, how long, and back. All local. */
#ifndef GD_IO_BASE_UTF8_H
#define GD_IO_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/base/files.h"

/* Length in bytes (1 to 4) of the UTF-8 character at text[0 .. count), 0 where it is not valid; *code_point may be NULL. */
size_t gd_utf8_length(const char *text, size_t count, uint32_t *code_point);

/* Appends a code point as UTF-8. */
GD_CHECKED gd_status gd_utf8_append(gd_bytes *out, uint32_t code_point);

/* The Unicode property White_Space. */
bool gd_utf8_is_space(uint32_t code_point);

/* The length of the run of valid (*valid = true) or invalid UTF-8 at the beginning of text[count], count > 0. */
size_t gd_utf8_run(const char *text, size_t count, bool *valid);

/* What text[count] has that no text has, in words: bytes that are no UTF-8, or a zero byte; NULL: nothing. */
const char *gd_utf8_fault(const char *text, size_t count);

/* How many bytes at the end of text[count] begin a character that is not whole yet: 0 to 3. */
size_t gd_utf8_unfinished(const char *text, size_t count);

#endif
