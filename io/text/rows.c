/* rows.c - JSONL, CSV and TSV: a record a line or row. */
#include <string.h>

#include "io/text/internal.h"

/* Makes the window hold a whole line: *count = its length without the newline, *next = where the next begins. At the end of
 * the file *next == 0. */
static gd_status find_line(gd_corpus *corpus, size_t *count, size_t *next) {
  size_t looked = 0;
  for (;;) {
    size_t held = corpus->window.count - corpus->used;
    const char *bytes = corpus->window.bytes + corpus->used;
    const char *newline = held > looked ? memchr(bytes + looked, '\n', held - looked) : NULL;
    if (newline || corpus->finished) {
      *count = newline ? (size_t)(newline - bytes) : held;
      *next = newline ? *count + 1 : held;
      return GD_OK;
    }
    looked = held;
    GD_TRY(gd_corpus_fill(corpus, held + GD_CORPUS_PART_BYTES));
  }
}

static bool blank(const char *bytes, size_t count) {
  for (size_t i = 0; i < count; i++)
    if (bytes[i] != ' ' && bytes[i] != '\t' && bytes[i] != '\r') return false;
  return true;
}

gd_status gd_corpus_find_jsonl(gd_corpus *corpus, size_t *length, bool *more) {
  for (;;) {
    size_t count;
    GD_TRY(find_line(corpus, &count, length));
    *more = *length > 0;
    if (!*more) return GD_OK;
    const char *bytes = corpus->window.bytes + corpus->used;
    if (!blank(bytes, count)) return gd_corpus_read_object(corpus, bytes, count);
    gd_corpus_use(corpus, *length);
  }
}

/* ---- csv and tsv ---- */

/* One row of the window from `used` on. next == 0 asks for more bytes. */
typedef struct row {
  size_t next;
  int64_t fields;
  size_t quote; /* where a quote that is still open begins, SIZE_MAX: none */
} row;

static bool is_wanted(const gd_corpus *corpus, int64_t field) {
  for (int32_t k = 0; k < corpus->column_count; k++)
    if (corpus->place[k] == field) return true;
  return false;
}

/* Bytes of field `field` to fields, where it is wanted; `header`: all are, each with a zero behind it. */
static gd_status keep(gd_corpus *corpus, bool header, int64_t field, const char *bytes, size_t count) {
  return header || is_wanted(corpus, field) ? gd_bytes_append(&corpus->fields, bytes, count) : GD_OK;
}

static gd_status end_field(gd_corpus *corpus, bool header, int64_t field, size_t begin) {
  if (header) return gd_bytes_append(&corpus->fields, "", 1);
  for (int32_t k = 0; k < corpus->column_count; k++) {
    if (corpus->place[k] != field) continue;
    corpus->field[k].begin = begin;
    corpus->field[k].count = corpus->fields.count - begin;
    corpus->field[k].found = true;
  }
  return GD_OK;
}

static gd_status scan_row(gd_corpus *corpus, bool header, row *out) {
  bool quoting = corpus->format == GD_CORPUS_CSV, open = false, fresh = true;
  char comma = quoting ? ',' : '\t';
  const char *bytes = corpus->window.bytes + corpus->used;
  size_t count = corpus->window.count - corpus->used, start = 0, kept = 0;
  *out = (row){.quote = SIZE_MAX};
  corpus->fields.count = 0;
  for (int32_t k = 0; k < corpus->column_count; k++) corpus->field[k].count = corpus->field[k].found = 0;
  for (size_t i = 0; i <= count; i++) {
    if (i == count && !corpus->finished) return GD_OK; /* the row, or the second of two quotes, may go on */
    bool end = i == count;
    char c = end ? '\n' : bytes[i];
    if (open && !end) {
      if (c != '"') continue;
      if (i + 1 < count && bytes[i + 1] == '"') {
        GD_TRY(keep(corpus, header, out->fields, bytes + start, i + 1 - start));
        start = ++i + 1;
        continue;
      }
      GD_TRY(keep(corpus, header, out->fields, bytes + start, i - start));
      start = i + 1;
      open = false;
      continue;
    }
    if (open) return GD_OK; /* the file ended inside quotes: next stays 0 and quote tells where */
    if (quoting && fresh && c == '"') {
      open = true;
      out->quote = i;
      start = i + 1;
      fresh = false;
      continue;
    }
    fresh = false;
    if (c != comma && c != '\n') continue;
    size_t stop = i;
    if (c == '\n' && stop > start && bytes[stop - 1] == '\r') stop--;
    GD_TRY(keep(corpus, header, out->fields, bytes + start, stop - start));
    GD_TRY(end_field(corpus, header, out->fields, kept));
    kept = corpus->fields.count;
    out->quote = SIZE_MAX;
    out->fields++;
    start = i + 1;
    fresh = true;
    if (c != '\n') continue;
    out->next = end ? count : i + 1;
    return GD_OK;
  }
  return GD_OK;
}

/* Reads until the window holds a whole row; row.next == 0: the end of the file. */
static gd_status read_row(gd_corpus *corpus, bool header, row *out) {
  for (;;) {
    size_t held = corpus->window.count - corpus->used;
    if (corpus->finished && !held) {
      out->next = 0;
      return GD_OK;
    }
    if (held) {
      GD_TRY(scan_row(corpus, header, out));
      if (out->next) return GD_OK;
      if (corpus->finished)
        return gd_fail_user(GD_BAD_DATA, "%s:%lld: the quote that opens here is never closed", corpus->path,
                            (long long)gd_corpus_line(corpus, out->quote == SIZE_MAX ? 0 : out->quote));
    }
    GD_TRY(gd_corpus_fill(corpus, held + GD_CORPUS_PART_BYTES));
  }
}

static gd_status read_header(gd_corpus *corpus) {
  row header;
  GD_TRY(read_row(corpus, true, &header));
  corpus->placed = true;
  if (!header.next) return GD_OK;
  corpus->width = header.fields;
  const char *line = corpus->window.bytes + corpus->used;
  int shown = (int)strcspn(line, "\r\n");
  if (shown > 200) shown = 200;
  for (int32_t k = 0; k < corpus->column_count; k++) {
    const char *wanted = corpus->columns[k].name, *name = corpus->fields.bytes;
    corpus->place[k] = -1;
    for (int64_t i = 0; i < header.fields; i++, name += strlen(name) + 1) {
      if (strcmp(name, wanted) != 0) continue;
      if (corpus->place[k] >= 0)
        return gd_fail_user(GD_BAD_DATA, "%s:1: the column \"%s\" stands twice in the header \"%.*s\"", corpus->path, wanted,
                            shown, line);
      corpus->place[k] = i;
    }
    if (corpus->place[k] < 0 && !corpus->columns[k].optional)
      return gd_fail_user(GD_BAD_DATA, "%s:1: no column \"%s\" in the header \"%.*s\", see %s", corpus->path, wanted, shown,
                          line, gd_corpus_column_options(corpus));
  }
  gd_corpus_use(corpus, header.next);
  return GD_OK;
}

static gd_status check_row(gd_corpus *corpus, int64_t fields) {
  if (corpus->options.column_count && !corpus->width) corpus->width = fields;
  if (corpus->options.column_count && fields != corpus->width)
    return gd_fail_user(GD_BAD_DATA, "%s:%lld: the row has %lld fields, expected %lld as in the first one", corpus->path,
                        (long long)gd_corpus_line(corpus, 0), (long long)fields, (long long)corpus->width);
  for (int32_t k = 0; k < corpus->column_count; k++)
    if (!corpus->field[k].found && corpus->place[k] >= 0)
      return gd_fail_user(GD_BAD_DATA, "%s:%lld: the row has %lld fields, expected at least %lld", corpus->path,
                          (long long)gd_corpus_line(corpus, 0), (long long)fields, (long long)corpus->place[k] + 1);
  return GD_OK;
}

gd_status gd_corpus_find_row(gd_corpus *corpus, size_t *length, bool *more) {
  if (!corpus->placed) GD_TRY(read_header(corpus));
  for (;;) {
    row at;
    GD_TRY(read_row(corpus, false, &at));
    *more = at.next > 0;
    *length = at.next;
    if (!*more) return GD_OK;
    const char *bytes = corpus->window.bytes + corpus->used;
    if (at.fields > 1 || !blank(bytes, strcspn(bytes, "\n"))) return check_row(corpus, at.fields);
    gd_corpus_use(corpus, at.next);
  }
}
