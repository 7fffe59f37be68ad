/* window.c - the window of a reader, that all formats look through: it grows, moves on, and knows its line. */
#include <string.h>

#include "io/base/utf8.h"
#include "io/text/internal.h"

enum { COUNT_BYTES = 64 << 10 };

gd_status gd_corpus_fill(gd_corpus *corpus, size_t more) {
  gd_bytes *window = &corpus->window;
  if (corpus->used) {
    memmove(window->bytes, window->bytes + corpus->used, window->count - corpus->used + 1);
    window->count -= corpus->used;
    corpus->window_offset += (int64_t)corpus->used;
    corpus->used = 0;
  }
  if (window->count > GD_CORPUS_DOCUMENT_LIMIT)
    return gd_fail_user(GD_BAD_DATA, "%s:%lld: a text of more than %d bytes without a place to cut it", corpus->path,
                        (long long)gd_corpus_line(corpus, 0), GD_CORPUS_DOCUMENT_LIMIT);
  GD_TRY(gd_bytes_reserve(window, more));
  if (!corpus->to_end) {
    int64_t left = corpus->end - corpus->window_offset - (int64_t)window->count;
    if ((int64_t)more > left) more = (size_t)left;
  }
  size_t got = 0;
  if (more) GD_TRY(gd_text_stream_read(corpus->stream, window->bytes + window->count, more, &got));
  window->count += got;
  window->bytes[window->count] = 0;
  if (!got) corpus->finished = true;
  return GD_OK;
}

static int64_t count_lines(const char *bytes, size_t count) {
  int64_t lines = 0;
  for (const char *at = bytes; (at = memchr(at, '\n', count - (size_t)(at - bytes))); at++) lines++;
  return lines;
}

void gd_corpus_use(gd_corpus *corpus, size_t count) {
  corpus->lines += count_lines(corpus->window.bytes + corpus->used, count);
  corpus->used += count;
}

int64_t gd_corpus_line(const gd_corpus *corpus, size_t ahead) {
  int64_t lines = 1 + corpus->lines + count_lines(corpus->window.bytes + corpus->used, ahead);
  gd_text_stream *stream;
  if (!corpus->begin || gd_text_stream_open(corpus->path, &stream) != GD_OK) return lines;
  /* Only a fault asks for the line, so the part of the file before this unit is counted now. */
  char bytes[COUNT_BYTES];
  size_t got = 1;
  for (int64_t left = corpus->begin; left > 0 && got; left -= (int64_t)got) {
    if (gd_text_stream_read(stream, bytes, left < COUNT_BYTES ? (size_t)left : COUNT_BYTES, &got) != GD_OK) break;
    lines += count_lines(bytes, got);
  }
  gd_text_stream_close(stream);
  return lines;
}

gd_status gd_corpus_check_utf8(gd_corpus *corpus, const char *bytes, size_t count, size_t ahead, gd_bytes *fixed) {
  fixed->count = 0;
  for (size_t at = 0; at < count;) {
    bool valid;
    size_t run = gd_utf8_run(bytes + at, count - at, &valid);
    if (at == 0 && valid && run == count) return GD_OK;
    if (valid) {
      GD_TRY(gd_bytes_append(fixed, bytes + at, run));
    } else if (!corpus->options.replace_invalid) {
      return gd_fail_user(GD_BAD_DATA,
                          "%s:%lld: found the byte 0x%02x, expected UTF-8 (--invalid-utf8 replace goes on with U+FFFD)",
                          corpus->path, (long long)gd_corpus_line(corpus, ahead + at), (unsigned char)bytes[at]);
    } else {
      for (size_t i = 0; i < run; i++) GD_TRY(gd_bytes_append(fixed, "\xef\xbf\xbd", 3));
    }
    at += run;
  }
  return GD_OK;
}
