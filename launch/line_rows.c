/* line_rows.c - rows of CSV and TSV as JSON objects. */
#include "launch/line_rows.h"

#include <stdio.h>
#include <string.h>

#include "io/base/json.h"
#include "io/base/utf8.h"

static gd_status add_piece(void *context, int64_t field, const char *bytes, size_t count) {
  gd_line_rows *rows = context;
  (void)field;
  return gd_bytes_append(&rows->values, bytes, count);
}

static gd_status end_value(void *context, int64_t field) {
  gd_line_rows *rows = context;
  (void)field;
  return gd_bytes_append(&rows->values, "", 1);
}

/* A zero would end a value before its end. */
static gd_status check_text(const gd_line_rows *rows) {
  const char *fault = gd_utf8_fault(rows->lines.bytes, rows->lines.count);
  return fault ? gd_fail_user(GD_BAD_DATA, "found %s", fault) : GD_OK;
}

static gd_status check_header(const gd_line_rows *rows) {
  const char *name = rows->names.bytes, *before;
  bool found = false;
  int shown = (int)strcspn(rows->lines.bytes, "\r\n");
  for (int64_t i = 0; i < rows->width; i++, name += strlen(name) + 1) {
    found = found || strcmp(name, rows->field) == 0;
    before = rows->names.bytes;
    for (int64_t k = 0; *name && k < i; k++, before += strlen(before) + 1)
      if (strcmp(before, name) == 0)
        return gd_fail_user(GD_BAD_DATA, "%s:%lld: the column \"%.70s\" stands twice in the header \"%.*s\"", rows->path,
                            (long long)rows->line, name, shown < 200 ? shown : 200, rows->lines.bytes);
  }
  if (found) return GD_OK;
  return gd_fail_user(GD_BAD_DATA, "%s:%lld: no column \"%.70s\" in the header \"%.*s\", see --text-field and --text-column",
                      rows->path, (long long)rows->line, rows->field, shown < 200 ? shown : 200, rows->lines.bytes);
}

static void begin_row(gd_line_rows *rows) {
  rows->scan = (gd_row_scan){.quoting = rows->quoting};
  rows->lines.count = rows->values.count = 0;
}

static gd_status take_header(gd_line_rows *rows) {
  gd_status status = check_text(rows);
  if (status != GD_OK) return gd_error_context(status, "in the header, %s:%lld", rows->path, (long long)rows->line);
  if (!rows->scan.next)
    return gd_fail_user(GD_BAD_DATA, "%s:%lld: the quote that opens in the header is never closed", rows->path,
                        (long long)rows->line);
  rows->width = rows->scan.fields;
  GD_TRY(gd_bytes_append(&rows->names, rows->values.bytes, rows->values.count));
  return check_header(rows);
}

gd_status gd_line_rows_add(gd_line_rows *rows, const gd_bytes *text, int64_t line, bool *row) {
  const gd_row_sink sink = {add_piece, end_value, rows};
  *row = false;
  if (rows->scan.next || !rows->lines.count) {
    begin_row(rows);
    rows->line = line;
    if (!text) return GD_OK;
  }
  if (text) {
    bool mark = !rows->started && text->count >= 3 && memcmp(text->bytes, "\xef\xbb\xbf", 3) == 0; /* byte order mark */
    rows->started = true;
    GD_TRY(gd_bytes_append(&rows->lines, text->bytes + (mark ? 3 : 0), text->count - (mark ? 3 : 0)));
    GD_TRY(gd_bytes_append(&rows->lines, "\n", 1));
  }
  GD_TRY(gd_row_scan_on(&rows->scan, rows->lines.bytes, rows->lines.count, !text, &sink));
  if (text && !rows->scan.next) return GD_OK;
  if (rows->field && !rows->width) return take_header(rows);
  *row = !rows->scan.next || !gd_row_is_blank(&rows->scan, rows->lines.bytes);
  return GD_OK;
}

gd_status gd_line_rows_object(gd_line_rows *rows, gd_bytes *out) {
  const char *value = rows->values.bytes, *name = rows->field ? rows->names.bytes : NULL;
  char number[24];
  if (!rows->scan.next) return gd_fail_user(GD_BAD_DATA, "the quote that opens in this row is never closed");
  if (!rows->width) rows->width = rows->scan.fields;
  GD_TRY(check_text(rows));
  if (rows->scan.fields != rows->width)
    return gd_fail_user(GD_BAD_DATA, "the row has %lld fields, expected %lld as in the first one", (long long)rows->scan.fields,
                        (long long)rows->width);
  GD_TRY(gd_bytes_append(out, "{", 1));
  for (int64_t i = 0; i < rows->width; i++, value += strlen(value) + 1) {
    snprintf(number, sizeof number, "%lld", (long long)i + 1);
    const char *key = name ? name : number;
    if (name) name += strlen(name) + 1;
    if (!*key) continue;
    if (out->count > 1) GD_TRY(gd_bytes_append(out, ",", 1));
    GD_TRY(gd_json_quote(out, key, strlen(key)));
    GD_TRY(gd_bytes_append(out, ":", 1));
    GD_TRY(gd_json_quote(out, value, strlen(value)));
  }
  return gd_bytes_append(out, "}", 1);
}

void gd_line_rows_free(gd_line_rows *rows) {
  gd_bytes_free(&rows->lines);
  gd_bytes_free(&rows->values);
  gd_bytes_free(&rows->names);
}
