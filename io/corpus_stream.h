/* corpus_stream.h - the bytes of a file, plain, .gz or .zst (told apart by their first bytes), from front to back. Local. */
#ifndef GD_IO_CORPUS_STREAM_H
#define GD_IO_CORPUS_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/files.h"
#include "shard/base/status.h"

typedef struct gd_stream gd_stream;

/* GD_IO naming the file. */
GD_CHECKED gd_status gd_stream_open(const char *path, gd_stream **out);
void gd_stream_close(gd_stream *stream);

bool gd_stream_compressed(const gd_stream *stream);

/* Goes to a byte of a plain file. */
GD_CHECKED gd_status gd_stream_seek(gd_stream *stream, int64_t offset);

/* Up to `count` bytes; *got == 0 is the end. GD_BAD_DATA for damaged or truncated compressed data, naming file and place. */
GD_CHECKED gd_status gd_stream_read(gd_stream *stream, char *bytes, size_t count, size_t *got);

/* The whole unpacked file, at most `limit` bytes. */
GD_CHECKED gd_status gd_stream_read_all(const char *path, size_t limit, gd_bytes *out);

#endif
