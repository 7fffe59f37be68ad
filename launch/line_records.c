/* line_records.c - records from lines, in order, until they are printed. */
#include "launch/line_records.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/base/utf8.h"
#include "shard/base/log.h"

gd_status gd_lines_open(gd_session *session, const char *path, const gd_line_format *format, const gd_line_kind *kind,
                        gd_lines *out) {
  *out = (gd_lines){.session = session, .kind = *kind, .form = format->form, .prints = gd_session_rank(session) == 0};
  out->name = strcmp(path, "-") ? path : "standard input";
  out->rows = (gd_line_rows){.path = out->name, .field = format->field, .quoting = format->form == GD_LINES_CSV};
  gd_status status = gd_input_open(&out->input, path, out->prints);
  out->input.keeps_return = format->form == GD_LINES_CSV || format->form == GD_LINES_TSV;
  return gd_session_agree(session, status);
}

static bool has_rows(const gd_lines *lines) {
  return lines->form == GD_LINES_CSV || lines->form == GD_LINES_TSV;
}

static void release_first(gd_lines *lines) {
  gd_line_record *r = lines->first;
  lines->first = r->next;
  if (!lines->first) lines->last = NULL;
  lines->kind.release(lines->kind.context, r);
  gd_bytes_free(&r->id);
  gd_bytes_free(&r->out);
  free(r);
}

void gd_lines_close(gd_lines *lines) {
  while (lines->first) release_first(lines);
  gd_input_close(&lines->input);
  gd_line_rows_free(&lines->rows);
}

static bool is_id(const char *key) {
  return strcmp(key, "id") == 0;
}

static gd_status read_object(gd_lines *lines, const gd_bytes *text, gd_line_record *r) {
  gd_json *object = NULL;
  GD_TRY(gd_json_parse(text->bytes, text->count, lines->name, r->line, &object));
  gd_status status = gd_json_is_object(object) ? GD_OK : gd_fail_user(GD_BAD_DATA, "expected an object");
  if (status == GD_OK && !gd_json_strict(text->bytes, text->count)) /* what comes back must be JSON */
    status = gd_fail_user(GD_BAD_DATA, "found a bare control character or a number such as 01 or 1., expected valid JSON");
  if (status == GD_OK) status = gd_json_copy_members(object, text->bytes, is_id, &r->id);
  if (status == GD_OK) status = lines->kind.read(lines->kind.context, object, text, r);
  gd_json_free(object);
  return status;
}

static gd_status read_record(gd_lines *lines, const gd_bytes *text, gd_line_record *r) {
  const char *fault = gd_utf8_fault(text->bytes, text->count);
  if (fault) return gd_fail_user(GD_BAD_DATA, "found %s", fault);
  return lines->form == GD_LINES_TEXTS ? lines->kind.read(lines->kind.context, NULL, text, r) : read_object(lines, text, r);
}

static gd_status read_row(gd_lines *lines, gd_line_record *r) {
  gd_bytes object = {0};
  gd_status status = gd_line_rows_object(&lines->rows, &object);
  if (status == GD_OK) status = read_object(lines, &object, r);
  gd_bytes_free(&object);
  return status;
}

/* A mistake of the line is told and noted; other faults end the program. */
static gd_status note_bad(gd_lines *lines, gd_line_record *r, gd_status status) {
  char text[480], place[40];
  if (status != GD_USAGE && status != GD_BAD_DATA) return status;
  snprintf(text, sizeof text, "%s", gd_error_text());
  gd_error_clear();
  snprintf(place, sizeof place, ":%lld: ", (long long)r->line);
  const char *without = strstr(text, place); /* what JSON complains about brings its place */
  const char *what = without ? without + strlen(place) : text;
  lines->bad++;
  if (lines->bad == 1)
    snprintf(lines->first_bad, sizeof lines->first_bad, "%.100s:%lld: %s", lines->name, (long long)r->line, what);
  if (lines->prints) gd_log(GD_LOG_WARNING, "%s:%lld: %s", lines->name, (long long)r->line, what);
  GD_TRY(gd_bytes_printf(&r->out, "{"));
  if (r->id.count) GD_TRY(gd_bytes_printf(&r->out, "%s,", r->id.bytes));
  GD_TRY(gd_bytes_printf(&r->out, "\"line\":%lld,\"error\":", (long long)r->line));
  GD_TRY(gd_json_quote(&r->out, what, strlen(what)));
  return gd_bytes_printf(&r->out, "}");
}

/* text: NULL, of a row. */
static gd_status add_record(gd_lines *lines, const gd_bytes *text, gd_line_record **out) {
  gd_line_record *r = *out = calloc(1, lines->kind.bytes);
  if (!r) return gd_fail(GD_NO_MEMORY, "no memory for a record");
  r->line = text ? lines->line : lines->rows.line;
  if (lines->last)
    lines->last->next = r;
  else
    lines->first = r;
  lines->last = r;
  gd_status status = text ? read_record(lines, text, r) : read_row(lines, r);
  return status == GD_OK ? GD_OK : note_bad(lines, r, status);
}

gd_status gd_lines_member(const gd_json *object, const char *key, const gd_json **out) {
  *out = NULL;
  for (const gd_json *node = gd_json_first(object); node; node = gd_json_next(node)) {
    if (strcmp(gd_json_key(node), key) != 0) continue;
    if (*out) return gd_fail_user(GD_BAD_DATA, "\"%.70s\" stands there twice", key);
    *out = node;
  }
  return GD_OK;
}

/* A line, or the end where text is NULL, to a record or none. */
static gd_status take_line(gd_lines *lines, const gd_bytes *text, gd_line_record **out) {
  const bool rows = has_rows(lines);
  bool row = false;
  if (text) lines->line++;
  if (rows) GD_TRY(gd_line_rows_add(&lines->rows, text, lines->line, &row));
  if (rows && lines->rows.lines.count > GD_INPUT_MOST)
    return gd_fail_user(GD_BAD_DATA, "%s:%lld: found a row of more than 256 MiB; is its quote never closed?", lines->name,
                        (long long)lines->rows.line);
  if (rows ? row : text != NULL) lines->read++;
  if (rows) return row ? add_record(lines, NULL, out) : GD_OK;
  return text && (text->count || lines->form == GD_LINES_TEXTS) ? add_record(lines, text, out) : GD_OK;
}

gd_status gd_lines_next(gd_lines *lines, bool wait, gd_line_record **out) {
  *out = NULL;
  while (!lines->end && !*out) {
    gd_bytes text = {0};
    gd_input_kind kind = GD_INPUT_NONE;
    gd_status status = gd_input_next(&lines->input, lines->session, wait, &kind, &text);
    if (status == GD_OK && kind != GD_INPUT_NONE) status = take_line(lines, kind == GD_INPUT_LINE ? &text : NULL, out);
    gd_bytes_free(&text);
    GD_TRY(status);
    lines->end = kind == GD_INPUT_END;
    if (kind == GD_INPUT_NONE) break;
  }
  return GD_OK;
}

gd_status gd_lines_print(gd_lines *lines) {
  bool any = false, taken = true;
  while (taken && lines->first && lines->first->out.count) {
    any = lines->prints;
    taken = !any || puts(lines->first->out.bytes) >= 0; /* a long line is written at once */
    if (taken) release_first(lines);
  }
  if (taken && any) taken = fflush(stdout) == 0;
  return taken ? GD_OK : gd_fail_user(GD_IO, "standard output: %s", strerror(errno));
}

gd_status gd_lines_verdict(const gd_lines *lines) {
  if (lines->bad == 0) return GD_OK;
  return gd_fail_user(GD_BAD_DATA, "%lld of %lld %s were no use; the first: %s", (long long)lines->bad, (long long)lines->read,
                      has_rows(lines) ? "rows" : "lines", lines->first_bad);
}
