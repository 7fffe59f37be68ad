/* rows.c - JSONL, CSV and TSV: a document a line or row. */
#include <string.h>

#include "io/text/internal.h"
#include "io/base/json.h"

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

gd_status gd_corpus_read_record(gd_corpus *corpus, const char *bytes, size_t count, gd_bytes *text) {
  gd_bytes fixed = {0};
  gd_json *root = NULL;
  text->count = 0;
  int64_t line = 0;
  gd_status status = gd_corpus_check_utf8(corpus, bytes, count, 0, &fixed);
  /* The line is counted only for a fault: a first try may fail, the second names the place. */
  if (status == GD_OK)
    status = gd_json_parse(fixed.count ? fixed.bytes : bytes, fixed.count ? fixed.count : count, corpus->path, 1, &root);
  if (status == GD_BAD_DATA && !root) {
    bool invalid = !corpus->options.replace_invalid && gd_corpus_check_utf8(corpus, bytes, count, 0, &fixed) != GD_OK;
    if (!invalid) {
      line = gd_corpus_line(corpus, 0);
      status = gd_json_parse(fixed.count ? fixed.bytes : bytes, fixed.count ? fixed.count : count, corpus->path, line, &root);
    }
  }
  if (status == GD_OK) {
    const char *field = corpus->options.text_field;
    const gd_json *node = gd_json_get(root, field);
    if (!gd_json_is_object(root))
      status = gd_fail_user(GD_BAD_DATA, "%s:%lld: expected a JSON object with the field \"%s\"", corpus->path,
                            (long long)gd_corpus_line(corpus, 0), field);
    else if (!node) {
      const char *first = gd_json_key(gd_json_first(root));
      status = gd_fail_user(GD_BAD_DATA, "%s:%lld: no field \"%s\" (the first is \"%s\"), see --text-field", corpus->path,
                            (long long)gd_corpus_line(corpus, 0), field, first ? first : "");
    } else if (!gd_json_string(node))
      status = gd_fail_user(GD_BAD_DATA, "%s:%lld: the field \"%s\" is no text", corpus->path,
                            (long long)gd_corpus_line(corpus, 0), field);
    else
      status = gd_json_text(node, text);
  }
  gd_json_free(root);
  gd_bytes_free(&fixed);
  return status;
}

gd_status gd_corpus_next_jsonl(gd_corpus *corpus, gd_corpus_part *part, bool *more) {
  for (;;) {
    size_t count, next;
    GD_TRY(find_line(corpus, &count, &next));
    *more = next > 0;
    if (!*more) return GD_OK;
    const char *bytes = corpus->window.bytes + corpus->used;
    if (!blank(bytes, count))
      GD_TRY(gd_corpus_read_record(corpus, bytes, count, &corpus->text));
    else
      corpus->text.count = 0;
    gd_corpus_use(corpus, next);
    if (!corpus->text.count) continue;
    *part = (gd_corpus_part){corpus->text.bytes, corpus->text.count, true};
    return GD_OK;
  }
}

/* ---- csv and tsv ---- */

/* One row of the window from `used` on. Appends field `column` to text (SIZE_MAX: the header, looked through for text_field,
 * whose index is put into *found). *next == 0 asks for more bytes. */
typedef struct row {
  size_t next;
  int64_t fields;
  int64_t found; /* header: the column; else 1 where the column was there */
  size_t quote;  /* where a quote that is still open begins, SIZE_MAX: none */
} row;

static gd_status scan_row(gd_corpus *corpus, int64_t column, gd_bytes *text, row *out) {
  bool quoting = corpus->format == GD_CORPUS_CSV, header = column < 0, open = false, fresh = true;
  char comma = quoting ? ',' : '\t';
  const char *bytes = corpus->window.bytes + corpus->used, *field = corpus->options.text_field;
  size_t count = corpus->window.count - corpus->used, start = 0;
  *out = (row){.found = -1, .quote = SIZE_MAX};
  text->count = 0;
  for (size_t i = 0; i <= count; i++) {
    if (i == count && !corpus->finished) return GD_OK; /* the row, or the second of two quotes, may go on */
    bool end = i == count;
    char c = end ? '\n' : bytes[i];
    if (open && !end) {
      if (c != '"') continue;
      if (i + 1 < count && bytes[i + 1] == '"') {
        if (header || out->fields == column) GD_TRY(gd_bytes_append(text, bytes + start, i + 1 - start));
        start = ++i + 1;
        continue;
      }
      if (header || out->fields == column) GD_TRY(gd_bytes_append(text, bytes + start, i - start));
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
    if (header || out->fields == column) GD_TRY(gd_bytes_append(text, bytes + start, stop - start));
    out->quote = SIZE_MAX;
    if (header && out->found < 0 && text->count == strlen(field) && memcmp(text->bytes, field, text->count) == 0)
      out->found = out->fields;
    if (header) text->count = 0;
    if (!header && out->fields == column) out->found = 1;
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
static gd_status read_row(gd_corpus *corpus, int64_t column, gd_bytes *text, row *out) {
  for (;;) {
    size_t held = corpus->window.count - corpus->used;
    if (corpus->finished && !held) {
      out->next = 0;
      return GD_OK;
    }
    if (held) {
      GD_TRY(scan_row(corpus, column, text, out));
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
  GD_TRY(read_row(corpus, -1, &corpus->text, &header));
  if (!header.next) return GD_OK;
  if (header.found < 0) {
    size_t count = strcspn(corpus->window.bytes + corpus->used, "\r\n");
    return gd_fail_user(GD_BAD_DATA, "%s:1: no column \"%s\" in the header \"%.*s\", see --text-field and --text-column",
                        corpus->path, corpus->options.text_field, (int)(count < 60 ? count : 60),
                        corpus->window.bytes + corpus->used);
  }
  corpus->column = header.found;
  gd_corpus_use(corpus, header.next);
  return GD_OK;
}

gd_status gd_corpus_next_row(gd_corpus *corpus, gd_corpus_part *part, bool *more) {
  if (corpus->column < 0) GD_TRY(read_header(corpus));
  for (;;) {
    row at;
    GD_TRY(read_row(corpus, corpus->column, &corpus->text, &at));
    *more = at.next > 0;
    if (!*more) return GD_OK;
    const char *bytes = corpus->window.bytes + corpus->used;
    bool empty = at.fields == 1 && blank(bytes, strcspn(bytes, "\n"));
    if (at.found < 0 && !empty)
      return gd_fail_user(GD_BAD_DATA, "%s:%lld: the row has %lld fields, expected at least %lld", corpus->path,
                          (long long)gd_corpus_line(corpus, 0), (long long)at.fields, (long long)corpus->column + 1);
    gd_bytes fixed = {0};
    gd_status status = gd_corpus_check_utf8(corpus, corpus->text.bytes, corpus->text.count, 0, &fixed);
    if (status == GD_OK && fixed.count) {
      corpus->text.count = 0;
      status = gd_bytes_append(&corpus->text, fixed.bytes, fixed.count);
    }
    gd_bytes_free(&fixed);
    GD_TRY(status);
    gd_corpus_use(corpus, at.next);
    if (empty || !corpus->text.count) continue;
    *part = (gd_corpus_part){corpus->text.bytes, corpus->text.count, true};
    return GD_OK;
  }
}
