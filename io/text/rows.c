/* rows.c - JSONL, CSV and TSV: a record a line or row. */
#include <string.h>

#include "io/text/internal.h"
#include "io/text/row_scan.h"

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

/* Fields to corpus->fields: those that are wanted; of a header all, each with a zero behind it. */
typedef struct keeper {
  gd_corpus *corpus;
  bool header;
  size_t begin; /* of the field at hand, in fields */
} keeper;

static bool is_wanted(const gd_corpus *corpus, int64_t field) {
  for (int32_t k = 0; k < corpus->column_count; k++)
    if (corpus->place[k] == field) return true;
  return false;
}

static gd_status keep(void *context, int64_t field, const char *bytes, size_t count) {
  const keeper *k = context;
  return k->header || is_wanted(k->corpus, field) ? gd_bytes_append(&k->corpus->fields, bytes, count) : GD_OK;
}

static gd_status end_field(void *context, int64_t field) {
  keeper *at = context;
  gd_corpus *corpus = at->corpus;
  if (at->header) return gd_bytes_append(&corpus->fields, "", 1);
  for (int32_t k = 0; k < corpus->column_count; k++) {
    if (corpus->place[k] != field) continue;
    corpus->field[k].begin = at->begin;
    corpus->field[k].count = corpus->fields.count - at->begin;
    corpus->field[k].found = true;
  }
  at->begin = corpus->fields.count;
  return GD_OK;
}

/* Reads until the window holds a whole row; row.next == 0: the end of the file. */
static gd_status read_row(gd_corpus *corpus, bool header, gd_row_scan *row) {
  keeper at = {corpus, header, 0};
  const gd_row_sink sink = {keep, end_field, &at};
  *row = (gd_row_scan){.quoting = corpus->format == GD_CORPUS_CSV};
  corpus->fields.count = 0;
  for (int32_t k = 0; k < corpus->column_count; k++) corpus->field[k].count = corpus->field[k].found = 0;
  for (;;) {
    size_t held = corpus->window.count - corpus->used;
    if (corpus->finished && !held) return GD_OK;
    GD_TRY(gd_row_scan_on(row, corpus->window.bytes + corpus->used, held, corpus->finished, &sink));
    if (row->next) return GD_OK;
    if (corpus->finished)
      return gd_fail_user(GD_BAD_DATA, "%s:%lld: the quote that opens here is never closed", corpus->path,
                          (long long)gd_corpus_line(corpus, row->quote));
    GD_TRY(gd_corpus_fill(corpus, held + GD_CORPUS_PART_BYTES));
  }
}

static gd_status read_header(gd_corpus *corpus) {
  gd_row_scan header;
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
    gd_row_scan at;
    GD_TRY(read_row(corpus, false, &at));
    *more = at.next > 0;
    *length = at.next;
    if (!*more) return GD_OK;
    if (!gd_row_is_blank(&at, corpus->window.bytes + corpus->used)) return check_row(corpus, at.fields);
    gd_corpus_use(corpus, at.next);
  }
}
