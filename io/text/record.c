/* record.c - records: the fields that a format found, checked and handed out; and the fields of a JSON object. */
#include <stdio.h>
#include <string.h>

#include "io/base/json.h"
#include "io/text/internal.h"

const char *gd_corpus_column_name(const gd_corpus_column *column, char out[80]) {
  if (column->name)
    snprintf(out, 80, "\"%.70s\"", column->name);
  else
    snprintf(out, 80, "%lld", (long long)column->number);
  return out;
}

const char *gd_corpus_column_options(const gd_corpus *corpus) {
  return corpus->options.column_count ? "--columns" : "--text-field and --text-column";
}

/* ---- a JSON object ---- */

static gd_status missing_field(gd_corpus *corpus, const gd_json *root, const char *field) {
  gd_bytes names = {0};
  gd_status status = gd_bytes_append(&names, "", 0);
  for (const gd_json *node = gd_json_first(root); status == GD_OK && node && names.count < 200; node = gd_json_next(node))
    status = gd_bytes_printf(&names, "%s\"%.60s\"", names.count ? ", " : "", gd_json_key(node));
  if (status == GD_OK)
    status = gd_fail_user(GD_BAD_DATA, "%s:%lld: no field \"%s\" (there %s %s), see %s", corpus->path,
                          (long long)gd_corpus_line(corpus, 0), field, names.count ? "are" : "is",
                          names.count ? names.bytes : "none", corpus->options.column_count ? "--columns" : "--text-field");
  gd_bytes_free(&names);
  return status;
}

static gd_status read_field(gd_corpus *corpus, const gd_json *root, int32_t k) {
  const gd_corpus_column *column = &corpus->columns[k];
  const gd_json *node = NULL;
  for (const gd_json *child = gd_json_first(root); child; child = gd_json_next(child)) {
    if (strcmp(gd_json_key(child), column->name) != 0) continue;
    if (node)
      return gd_fail_user(GD_BAD_DATA, "%s:%lld: the field \"%s\" stands there twice", corpus->path,
                          (long long)gd_corpus_line(corpus, 0), column->name);
    node = child;
  }
  if (!node && !column->optional) return missing_field(corpus, root, column->name);
  size_t begin = corpus->fields.count;
  double number;
  bool truth, scalar = gd_json_number(node, &number) || gd_json_boolean(node, &truth);
  if (gd_json_string(node))
    GD_TRY(column->kind == GD_COLUMN_JSON ? gd_json_print(node, &corpus->fields) : gd_json_text(node, &corpus->fields));
  else if (node && (column->kind == GD_COLUMN_JSON || (scalar && column->kind == GD_COLUMN_SCALAR)))
    GD_TRY(gd_json_print(node, &corpus->fields));
  else if (node && !(column->optional && gd_json_is_null(node)))
    return gd_fail_user(GD_BAD_DATA, "%s:%lld: the field \"%s\" is no text", corpus->path, (long long)gd_corpus_line(corpus, 0),
                        column->name);
  corpus->field[k].begin = begin;
  corpus->field[k].count = corpus->fields.count - begin;
  return GD_OK;
}

gd_status gd_corpus_read_object(gd_corpus *corpus, const char *bytes, size_t count) {
  gd_bytes fixed = {0};
  gd_json *root = NULL;
  corpus->fields.count = 0;
  gd_status status = gd_corpus_check_utf8(corpus, bytes, count, 0, &fixed);
  bool invalid = status != GD_OK;
  if (fixed.count) {
    bytes = fixed.bytes;
    count = fixed.count;
  }
  if (!invalid) status = gd_json_parse(bytes, count, corpus->path, 1, &root);
  /* The line is counted only for a fault: a first try may fail, the second names the place. */
  if (status == GD_BAD_DATA && !invalid) status = gd_json_parse(bytes, count, corpus->path, gd_corpus_line(corpus, 0), &root);
  if (status == GD_OK && !gd_json_is_object(root))
    status = gd_fail_user(GD_BAD_DATA, "%s:%lld: expected a JSON object with the field \"%s\"", corpus->path,
                          (long long)gd_corpus_line(corpus, 0), corpus->columns[0].name);
  for (int32_t k = 0; status == GD_OK && k < corpus->column_count; k++) status = read_field(corpus, root, k);
  gd_json_free(root);
  gd_bytes_free(&fixed);
  return status;
}

/* ---- any record ---- */

/* Fields of csv and tsv, each by itself: two halves of a character in neighbouring fields are none. */
static gd_status check_utf8(gd_corpus *corpus) {
  gd_bytes fixed = {0};
  gd_status status = GD_OK;
  for (int32_t k = 0; status == GD_OK && k < corpus->column_count; k++) {
    status = gd_corpus_check_utf8(corpus, corpus->fields.bytes + corpus->field[k].begin, corpus->field[k].count, 0, &fixed);
    if (status != GD_OK || !fixed.count) continue;
    corpus->field[k].begin = corpus->fields.count;
    corpus->field[k].count = fixed.count;
    status = gd_bytes_append(&corpus->fields, fixed.bytes, fixed.count);
  }
  gd_bytes_free(&fixed);
  return status;
}

/* The first column that must not be empty and is; -1: none. */
static int32_t find_empty(const gd_corpus *corpus) {
  for (int32_t k = 0; k < corpus->column_count; k++) {
    const char *bytes = corpus->fields.bytes + corpus->field[k].begin;
    size_t count = corpus->field[k].count, i = 0;
    while (i < count && strchr(" \t\r\n", bytes[i]) && bytes[i]) i++;
    if (i == count && !corpus->columns[k].empty_ok) return k;
  }
  return -1;
}

gd_status gd_corpus_next_record(gd_corpus *corpus, gd_corpus_record *record, bool *more) {
  char name[80];
  if (corpus->format == GD_CORPUS_TEXT)
    return gd_fail_user(GD_USAGE, "%s: plain text has no columns; expected csv, tsv, jsonl or json, or see --format",
                        corpus->path);
  for (;;) {
    size_t length = 0;
    GD_TRY(corpus->format == GD_CORPUS_JSONL  ? gd_corpus_find_jsonl(corpus, &length, more)
           : corpus->format == GD_CORPUS_JSON ? gd_corpus_find_json(corpus, &length, more)
                                              : gd_corpus_find_row(corpus, &length, more));
    if (!*more) return GD_OK;
    GD_TRY(gd_bytes_append(&corpus->fields, "", 0)); /* never NULL */
    if (corpus->format == GD_CORPUS_CSV || corpus->format == GD_CORPUS_TSV) GD_TRY(check_utf8(corpus));
    int32_t empty = find_empty(corpus);
    if (empty >= 0 && !corpus->options.drop_empty)
      return gd_fail_user(GD_BAD_DATA, "%s:%lld: column %s is empty; --empty drop leaves out and counts such rows",
                          corpus->path, (long long)gd_corpus_line(corpus, 0),
                          gd_corpus_column_name(&corpus->columns[empty], name));
    record->line = corpus->begin ? 0 : 1 + corpus->lines;
    gd_corpus_use(corpus, length);
    if (empty < 0) break;
    corpus->dropped++;
  }
  for (int32_t k = 0; k < corpus->column_count; k++)
    corpus->values[k] = (gd_corpus_value){corpus->fields.bytes + corpus->field[k].begin, corpus->field[k].count};
  record->values = corpus->values;
  return GD_OK;
}

int64_t gd_corpus_dropped(const gd_corpus *corpus) {
  return corpus->dropped;
}
