/* line_records.c - records from lines, in order, until they are printed. */
#include "launch/line_records.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/base/utf8.h"
#include "shard/base/log.h"

gd_status gd_lines_open(gd_session *session, const char *path, bool texts, const gd_line_kind *kind, gd_lines *out) {
  *out = (gd_lines){.session = session, .kind = *kind, .texts = texts, .prints = gd_session_rank(session) == 0};
  out->name = strcmp(path, "-") ? path : "standard input";
  return gd_session_agree(session, gd_input_open(&out->input, path, out->prints));
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
  bool valid = true;
  if (text->count && (gd_utf8_run(text->bytes, text->count, &valid) < text->count || !valid))
    return gd_fail_user(GD_BAD_DATA, "found bytes that are no UTF-8");
  if (memchr(text->bytes, 0, text->count)) return gd_fail_user(GD_BAD_DATA, "found a zero byte");
  return lines->texts ? lines->kind.read(lines->kind.context, NULL, text, r) : read_object(lines, text, r);
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

static gd_status add_record(gd_lines *lines, const gd_bytes *text, gd_line_record **out) {
  gd_line_record *r = *out = calloc(1, lines->kind.bytes);
  if (!r) return gd_fail(GD_NO_MEMORY, "no memory for a record");
  r->line = lines->read;
  if (lines->last)
    lines->last->next = r;
  else
    lines->first = r;
  lines->last = r;
  gd_status status = read_record(lines, text, r);
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

gd_status gd_lines_next(gd_lines *lines, bool wait, gd_line_record **out) {
  *out = NULL;
  while (!lines->end && !*out) {
    gd_bytes text = {0};
    gd_input_kind kind = GD_INPUT_NONE;
    gd_status status = gd_input_next(&lines->input, lines->session, wait, &kind, &text);
    if (status == GD_OK && kind == GD_INPUT_LINE) {
      lines->read++;
      if (text.count || lines->texts) status = add_record(lines, &text, out);
    }
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
  return gd_fail_user(GD_BAD_DATA, "%lld of %lld lines were no use; the first: %s", (long long)lines->bad,
                      (long long)lines->read, lines->first_bad);
}
