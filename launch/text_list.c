/* text_list.c - reads texts, one a line or one a JSON document. */
#include "launch/text_list.h"

#include <string.h>

#include "io/base/json.h"
#include "io/base/utf8.h"
#include "io/text/corpus.h"
#include "io/text/stream.h"

typedef struct reader {
  gd_text_list *out;
  const char *field, *option;
  bool several, json;
} reader;

static gd_status begin_record(gd_text_list *out, int64_t line) {
  gd_text_record record = {.line = line, .first = (int64_t)(out->texts.count / sizeof(size_t))};
  GD_TRY(gd_bytes_append(&out->records, &record, sizeof record));
  out->count++;
  return GD_OK;
}

static gd_status add_text(gd_text_list *out, const char *text, size_t count) {
  gd_text_record *record = (gd_text_record *)(void *)out->records.bytes + out->count - 1;
  record->count++;
  GD_TRY(gd_bytes_append(&out->texts, &out->bytes.count, sizeof out->bytes.count));
  GD_TRY(gd_bytes_append(&out->bytes, text, count));
  return gd_bytes_append(&out->bytes, "", 1);
}

static gd_status read_document(const reader *r, const gd_json *document, int64_t line) {
  const gd_json *value = gd_json_is_object(document) ? gd_json_get(document, r->field) : document;
  bool list = r->several && gd_json_is_array(value), good = true;
  const gd_json *text = list ? gd_json_first(value) : value;
  if (list && !text)
    return gd_fail_user(GD_BAD_DATA, "%s:%lld: found an empty list, expected one reference or more", r->out->path,
                        (long long)line);
  do {
    const char *string = gd_json_string(text);
    good = string != 0;
    if (good) GD_TRY(add_text(r->out, string, strlen(string)));
    text = list ? gd_json_next(text) : 0;
  } while (text && good);
  if (good) return GD_OK;
  return gd_fail_user(GD_BAD_DATA, "%s:%lld: expected a string%s, or an object with such a \"%s\" (%s)", r->out->path,
                      (long long)line, r->several ? " or a list of strings" : "", r->field, r->option);
}

static gd_status read_line(const reader *r, const char *line, size_t count, int64_t number) {
  gd_json *document = 0;
  const char *fault = gd_utf8_fault(line, count);
  if (fault) return gd_fail_user(GD_BAD_DATA, "%s:%lld: found %s", r->out->path, (long long)number, fault);
  if (!r->json) {
    GD_TRY(begin_record(r->out, number));
    return add_text(r->out, line, count);
  }
  size_t blank = 0;
  while (blank < count && (line[blank] == ' ' || line[blank] == '\t')) blank++;
  if (blank == count) return GD_OK; /* no document */
  GD_TRY(begin_record(r->out, number));
  GD_TRY(gd_json_parse(line, count, r->out->path, number, &document));
  gd_status status = read_document(r, document, number);
  gd_json_free(document);
  return status;
}

gd_status gd_text_list_read(const char *path, const char *field, const char *option, bool several, gd_text_list *out) {
  bool json = field || gd_corpus_format_of(path) == GD_CORPUS_JSONL;
  reader r = {out, field ? field : "text", option, several, json};
  gd_bytes file = {0};
  int64_t number = 0;
  *out = (gd_text_list){.path = path};
  if (strcmp(path, "-") != 0) GD_TRY(gd_path_named(path, GD_PATH_FILE, "a file of texts"));
  gd_status status = gd_text_stream_read_all(path, (size_t)1 << 32, &file);
  for (size_t at = 0; status == GD_OK && at < file.count;) {
    const char *line = file.bytes + at, *end = memchr(line, '\n', file.count - at);
    size_t length = end ? (size_t)(end - line) : file.count - at;
    at += length + 1;
    if (length > 0 && line[length - 1] == '\r') length--;
    status = read_line(&r, line, length, ++number);
  }
  gd_bytes_free(&file);
  if (status == GD_OK && out->count == 0) status = gd_fail_user(GD_BAD_DATA, "%s: holds no texts", path);
  return status;
}

void gd_text_list_free(gd_text_list *list) {
  gd_bytes_free(&list->bytes);
  gd_bytes_free(&list->texts);
  gd_bytes_free(&list->records);
  memset(list, 0, sizeof *list);
}

const gd_text_record *gd_text_list_record(const gd_text_list *list, int64_t record) {
  return (const gd_text_record *)(const void *)list->records.bytes + record;
}

const char *gd_text_list_text(const gd_text_list *list, int64_t record, int32_t text) {
  const size_t *begins = (const size_t *)(const void *)list->texts.bytes;
  return list->bytes.bytes + begins[gd_text_list_record(list, record)->first + text];
}
