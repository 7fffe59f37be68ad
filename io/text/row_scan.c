/* row_scan.c - fields of CSV and TSV, byte by byte. */
#include "io/text/row_scan.h"

#include <string.h>

/* Inside quotes, up to the one that closes them. *more: the byte behind a quote must be known first. */
static gd_status scan_quoted(gd_row_scan *s, const char *bytes, size_t count, bool last, const gd_row_sink *sink, bool *more) {
  while (s->at < count) {
    const char *found = memchr(bytes + s->at, '"', count - s->at);
    size_t i = s->at = found ? (size_t)(found - bytes) : count;
    if (!found) break;
    if (i + 1 == count && !last) break;
    bool twice = i + 1 < count && bytes[i + 1] == '"'; /* is one */
    GD_TRY(sink->piece(sink->context, s->fields, bytes + s->start, i + twice - s->start));
    s->at = s->start = i + 1 + twice;
    if (twice) continue;
    s->open = false;
    return GD_OK;
  }
  *more = true;
  return GD_OK;
}

static gd_status end_field(gd_row_scan *s, const char *bytes, size_t stop, const gd_row_sink *sink) {
  GD_TRY(sink->piece(sink->context, s->fields, bytes + s->start, stop - s->start));
  GD_TRY(sink->end(sink->context, s->fields));
  s->fields++;
  s->start = s->at;
  s->inside = false;
  return GD_OK;
}

gd_status gd_row_scan_on(gd_row_scan *s, const char *bytes, size_t count, bool last, const gd_row_sink *sink) {
  const char comma = s->quoting ? ',' : '\t';
  bool more = false;
  while (!s->next && !more) {
    if (s->open) GD_TRY(scan_quoted(s, bytes, count, last, sink, &more));
    if (s->open || more) continue;
    if (s->at == count && !last) return GD_OK;
    const bool end = s->at == count;
    const char c = end ? '\n' : bytes[s->at];
    size_t stop = s->at;
    if (!end) s->at++;
    if (s->quoting && !s->inside && c == '"') {
      s->quote = stop;
      s->open = s->inside = true;
      s->start = s->at;
      continue;
    }
    s->inside = true;
    if (c != comma && c != '\n') continue;
    if (c == '\n' && stop > s->start && bytes[stop - 1] == '\r') stop--;
    GD_TRY(end_field(s, bytes, stop, sink));
    if (c == '\n') s->next = s->at;
  }
  return GD_OK;
}

bool gd_row_is_blank(const gd_row_scan *scan, const char *bytes) {
  if (scan->fields > 1) return false;
  for (size_t i = 0; i < scan->next; i++) /* zero bytes may be among them */
    if (bytes[i] != ' ' && bytes[i] != '\t' && bytes[i] != '\r' && bytes[i] != '\n') return false;
  return true;
}
