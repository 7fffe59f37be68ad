/* stream.h - the bytes of a file, plain, .gz or .zst (told apart by their first bytes), from front to back. Local. */
#ifndef GD_IO_TEXT_STREAM_H
#define GD_IO_TEXT_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/base/files.h"
#include "shard/base/status.h"

typedef struct gd_text_stream gd_text_stream;

/* "-" is standard input. GD_IO naming the file. */
GD_CHECKED gd_status gd_text_stream_open(const char *path, gd_text_stream **out);
void gd_text_stream_close(gd_text_stream *stream);

bool gd_text_stream_compressed(const gd_text_stream *stream);

/* Packed bytes unpacked so far. */
int64_t gd_text_stream_packed(const gd_text_stream *stream);

/* Goes to a byte of a plain file. */
GD_CHECKED gd_status gd_text_stream_seek(gd_text_stream *stream, int64_t offset);

/* Up to `count` bytes; *got == 0 is the end. GD_BAD_DATA for damaged or truncated compressed data, naming file and place. */
GD_CHECKED gd_status gd_text_stream_read(gd_text_stream *stream, char *bytes, size_t count, size_t *got);

/* The whole unpacked file, at most `limit` bytes. */
GD_CHECKED gd_status gd_text_stream_read_all(const char *path, size_t limit, gd_bytes *out);

#endif
