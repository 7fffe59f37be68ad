/* stream.c - the bytes of a file from front to back, plain or unpacked from .gz and .zst. */
#include "io/text/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

enum { INPUT_BYTES = 256 << 10 };

typedef enum packing { PLAIN, GZIP, ZSTD } packing;

struct gd_text_stream {
  char *path;
  int file;
  packing packing;
  char *input; /* [INPUT_BYTES] packed bytes, from `next` to `end` unused */
  size_t next, end;
  int64_t packed; /* bytes taken from the file */
  bool inside;    /* in the middle of a member or frame: the end of the file is a fault */
  z_stream gzip;
  bool gzip_ready;
  ZSTD_DStream *zstd;
};

static gd_status read_file(gd_text_stream *stream, char *bytes, size_t count, size_t *got) {
  for (;;) {
    ssize_t result = read(stream->file, bytes, count);
    if (result < 0 && errno == EINTR) continue;
    if (result < 0) return gd_fail(GD_IO, "cannot read %s: %s", stream->path, strerror(errno));
    *got = (size_t)result;
    return GD_OK;
  }
}

static gd_status fill(gd_text_stream *stream) {
  size_t got = 0;
  GD_TRY(read_file(stream, stream->input, INPUT_BYTES, &got));
  stream->next = 0;
  stream->end = got;
  stream->packed += (int64_t)got;
  return GD_OK;
}

static gd_status open_packing(gd_text_stream *stream) {
  static const unsigned char zstd_magic[4] = {0x28, 0xb5, 0x2f, 0xfd};
  /* A pipe may give less at first; packed files are told apart by at least their first two bytes. */
  while (stream->end < 4) {
    size_t got = 0;
    GD_TRY(read_file(stream, stream->input + stream->end, INPUT_BYTES - stream->end, &got));
    if (!got) break;
    stream->end += got;
  }
  stream->packed = (int64_t)stream->end;
  const unsigned char *head = (const unsigned char *)stream->input;
  if (stream->end >= 2 && head[0] == 0x1f && head[1] == 0x8b) stream->packing = GZIP;
  if (stream->end >= 4 && memcmp(head, zstd_magic, 4) == 0) stream->packing = ZSTD;
  if (stream->packing == GZIP) {
    if (inflateInit2(&stream->gzip, 15 + 16) != Z_OK) return gd_fail(GD_NO_MEMORY, "no memory to unpack %s", stream->path);
    stream->gzip_ready = true;
  } else if (stream->packing == ZSTD) {
    stream->zstd = ZSTD_createDStream();
    if (!stream->zstd) return gd_fail(GD_NO_MEMORY, "no memory to unpack %s", stream->path);
  }
  return GD_OK;
}

gd_status gd_text_stream_open(const char *path, gd_text_stream **out) {
  *out = NULL;
  gd_text_stream *stream = calloc(1, sizeof *stream);
  if (!stream) return gd_fail(GD_NO_MEMORY, "no memory for a reader");
  stream->file = -1;
  bool standard = strcmp(path, "-") == 0;
  stream->path = strdup(standard ? "standard input" : path);
  stream->input = malloc(INPUT_BYTES);
  gd_status status = GD_OK;
  struct stat info;
  if (!stream->path || !stream->input) {
    status = gd_fail(GD_NO_MEMORY, "no memory for a reader");
  } else {
    stream->file = standard ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3) : open(path, O_RDONLY | O_CLOEXEC);
    if (stream->file < 0)
      status = gd_fail(gd_fault_listed(errno), "cannot open %s: %s", stream->path, strerror(errno));
    else if (fstat(stream->file, &info) == 0 && S_ISDIR(info.st_mode))
      status = gd_fail_user(GD_USAGE, "%s: a folder, expected a file", path);
  }
  if (status == GD_OK) status = open_packing(stream);
  if (status != GD_OK) {
    gd_text_stream_close(stream);
    return status;
  }
  *out = stream;
  return GD_OK;
}

void gd_text_stream_close(gd_text_stream *stream) {
  if (!stream) return;
  if (stream->gzip_ready) inflateEnd(&stream->gzip);
  ZSTD_freeDStream(stream->zstd);
  if (stream->file >= 0) close(stream->file);
  free(stream->input);
  free(stream->path);
  free(stream);
}

bool gd_text_stream_compressed(const gd_text_stream *stream) {
  return stream->packing != PLAIN;
}

int64_t gd_text_stream_packed(const gd_text_stream *stream) {
  return stream->packed - (int64_t)(stream->end - stream->next);
}

gd_status gd_text_stream_seek(gd_text_stream *stream, int64_t offset) {
  if (stream->packing != PLAIN) return gd_fail(GD_BUG, "%s: seek in a packed file", stream->path);
  if (lseek(stream->file, offset, SEEK_SET) < 0) return gd_fail(GD_IO, "cannot seek in %s: %s", stream->path, strerror(errno));
  stream->next = stream->end = 0;
  return GD_OK;
}

static gd_status damaged(const gd_text_stream *stream, const char *text) {
  return gd_fail_user(GD_BAD_DATA, "%s: damaged %s data near packed byte %lld: %s", stream->path,
                      stream->packing == GZIP ? "gzip" : "zstd", (long long)gd_text_stream_packed(stream), text);
}

static gd_status read_gzip(gd_text_stream *stream, char *bytes, size_t count, size_t *got) {
  z_stream *gzip = &stream->gzip;
  gzip->next_in = (Bytef *)stream->input + stream->next;
  gzip->avail_in = (uInt)(stream->end - stream->next);
  gzip->next_out = (Bytef *)bytes;
  gzip->avail_out = (uInt)count;
  int result = inflate(gzip, Z_NO_FLUSH);
  *got = count - gzip->avail_out;
  stream->next = stream->end - gzip->avail_in;
  stream->inside = result != Z_STREAM_END;
  if (result == Z_STREAM_END && inflateReset(gzip) != Z_OK) return gd_fail(GD_BUG, "cannot unpack %s", stream->path);
  if (result != Z_STREAM_END && result != Z_OK && result != Z_BUF_ERROR)
    return damaged(stream, gzip->msg ? gzip->msg : "unpacking failed");
  return GD_OK;
}

static gd_status read_zstd(gd_text_stream *stream, char *bytes, size_t count, size_t *got) {
  ZSTD_inBuffer in = {stream->input, stream->end, stream->next};
  ZSTD_outBuffer out = {bytes, count, 0};
  size_t result = ZSTD_decompressStream(stream->zstd, &out, &in);
  stream->next = in.pos;
  *got = out.pos;
  if (ZSTD_isError(result)) return damaged(stream, ZSTD_getErrorName(result));
  stream->inside = result != 0;
  return GD_OK;
}

gd_status gd_text_stream_read(gd_text_stream *stream, char *bytes, size_t count, size_t *got) {
  enum { MOST = 1 << 30 };
  *got = 0;
  if (!count) return GD_OK;
  if (count > MOST) count = MOST;
  if (stream->packing == PLAIN) {
    size_t held = stream->end - stream->next;
    if (!held) return read_file(stream, bytes, count, got);
    *got = held < count ? held : count;
    memcpy(bytes, stream->input + stream->next, *got);
    stream->next += *got;
    return GD_OK;
  }
  for (;;) {
    bool dry = stream->next == stream->end;
    if (dry) GD_TRY(fill(stream));
    bool end = stream->next == stream->end;
    /* At the end of the file zstd may still hold unpacked bytes, so it is asked once more without input. */
    if (end && !stream->inside) return GD_OK;
    GD_TRY(stream->packing == GZIP ? read_gzip(stream, bytes, count, got) : read_zstd(stream, bytes, count, got));
    if (*got) return GD_OK;
    if (end && stream->inside) return damaged(stream, "the file ends in the middle, it is truncated");
  }
}

gd_status gd_text_stream_read_all(const char *path, size_t limit, gd_bytes *out) {
  gd_text_stream *stream;
  size_t start = out->count;
  GD_TRY(gd_text_stream_open(path, &stream));
  gd_status status = GD_OK;
  for (size_t got = 1; status == GD_OK && got;) {
    status = gd_bytes_reserve(out, 1 << 16);
    if (status == GD_OK) status = gd_text_stream_read(stream, out->bytes + out->count, out->capacity - out->count - 1, &got);
    if (status != GD_OK) break;
    out->count += got;
    out->bytes[out->count] = 0;
    if (out->count - start > limit)
      status = gd_fail_user(GD_BAD_DATA, "%s: larger than the %zu bytes expected of such a file", path, limit);
  }
  gd_text_stream_close(stream);
  return status;
}
