/* record.c - records: the fields that a format found, checked and handed out. */
#include <stdio.h>
#include <string.h>

#include "io/text/internal.h"

/* What a column is called in messages: "text" in quotes, or 2. */
static const char *column_name(const gd_corpus_column *column, char out[80]) {
  if (column->name)
    snprintf(out, 80, "\"%.70s\"", column->name);
  else
    snprintf(out, 80, "%lld", (long long)column->number);
  return out;
}

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

bool gd_corpus_is_empty(const char *bytes, size_t count) {
  size_t i = 0;
  while (i < count && strchr(" \t\r\n", bytes[i]) && bytes[i]) i++;
  return i == count;
}

/* The first column that must not be empty and is; -1: none. */
static int32_t find_empty(const gd_corpus *corpus) {
  for (int32_t k = 0; k < corpus->column_count; k++) {
    bool empty = gd_corpus_is_empty(corpus->fields.bytes + corpus->field[k].begin, corpus->field[k].count);
    if (empty && !corpus->columns[k].empty_ok) return k;
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
                          corpus->path, (long long)gd_corpus_line(corpus, 0), column_name(&corpus->columns[empty], name));
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
