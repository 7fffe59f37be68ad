/* nfc.h - Unicode's normalization form C (UAX 15): a letter and its accent are one character where there is one. Local. */
#ifndef GD_IO_BASE_NFC_H
#define GD_IO_BASE_NFC_H

#include "io/base/files.h"

/* Whether text[count], valid UTF-8, is seen to be in form C without composing it; false: perhaps not. */
bool gd_nfc_is(const char *text, size_t count);

/* Appends text[count], valid UTF-8, in form C. Takes eight bytes of memory a character. GD_NO_MEMORY. */
GD_CHECKED gd_status gd_nfc_append(gd_bytes *out, const char *text, size_t count);

#endif
