/* prepare_task.c - a task's part of prepare: files to rows, rows to splits, texts to ids. */
#include "io/data/prepare_task.h"

#include <stdlib.h>
#include <string.h>

#include "io/data/label_text.h"

static gd_status read_files(gd_prepare_rows *rows, const char *const *paths, int32_t count, int32_t split) {
  gd_corpus_unit *units;
  int64_t unit_count;
  GD_TRY(gd_corpus_plan(paths, count, &rows->prepare->corpus, &units, &unit_count)); /* are they there? */
  free(units);
  for (int32_t i = 0; i < count; i++) {
    gd_status status = gd_table_read(&rows->table, paths[i], &rows->prepare->corpus, split);
    if (status == GD_BAD_DATA && !strstr(gd_error_text(), paths[i])) status = gd_error_context(status, "in %s", paths[i]);
    GD_TRY(status);
  }
  return GD_OK;
}

static gd_status read_rows(gd_prepare_rows *rows) {
  const gd_prepare_options *options = rows->prepare->options;
  GD_TRY(read_files(rows, options->inputs, options->input_count, 0));
  const int64_t own = rows->table.count;
  if (!own && rows->table.dropped)
    return gd_fail_user(GD_BAD_DATA, "no row is left for training: %lld with an empty column were left out",
                        (long long)rows->table.dropped);
  if (!own) return gd_fail_user(GD_BAD_DATA, "the inputs hold no rows, the first is %s", options->inputs[0]);
  for (int32_t k = 0; k < 2; k++) {
    int64_t before = rows->table.count;
    GD_TRY(read_files(rows, rows->task->held[k], rows->task->held_count[k], k + 1));
    if (rows->task->held_count[k] && rows->table.count == before)
      return gd_fail_user(GD_BAD_DATA, "%s: holds no rows", rows->task->held[k][0]);
  }
  rows->report->bytes = rows->table.bytes;
  rows->report->dropped_empty = rows->table.dropped;
  size_t count = (size_t)rows->table.count;
  rows->group = malloc(count * sizeof *rows->group);
  rows->stratum = calloc(count, sizeof *rows->stratum);
  rows->keys = malloc(count * sizeof *rows->keys);
  if (rows->group && rows->stratum && rows->keys) return GD_OK;
  return gd_fail(GD_NO_MEMORY, "no memory for %lld rows", (long long)count);
}

/* ---- classification ---- */

static gd_status make_chars(gd_prepare_rows *rows, int32_t column) {
  gd_bytes text = {0};
  gd_status status = GD_OK;
  for (int64_t row = 0; status == GD_OK && row < rows->table.count; row++) {
    gd_corpus_value value = gd_table_value(&rows->table, row, column);
    status = gd_bytes_append(&text, value.bytes, value.count);
  }
  if (status == GD_OK) status = gd_tokenizer_from_characters(text.bytes, text.count, &rows->prepare->tokenizer);
  if (status == GD_OK) status = gd_prepare_add_specials(rows->prepare);
  gd_bytes_free(&text);
  return status;
}

static gd_status encode_text(gd_prepare_rows *rows, int64_t row, gd_corpus_value text, gd_ids *ids) {
  bool cut;
  gd_status status = gd_label_text_encode(rows->prepare->tokenizer, text.bytes, text.count, rows->task->max_tokens,
                                          rows->task->cut_head, ids, &cut);
  if (status != GD_OK) return gd_error_context(status, "in %s:%lld", rows->table.path[row], (long long)rows->table.line[row]);
  rows->report->cut += cut;
  return GD_OK;
}

static gd_status encode_texts(gd_prepare_rows *rows, int32_t column) {
  gd_ids ids = {0};
  gd_status status = GD_OK;
  const size_t columns = (size_t)gd_data_task_columns(&rows->made);
  rows->examples.columns = (int32_t)columns;
  for (int64_t row = 0; status == GD_OK && row < rows->table.count; row++) {
    gd_session_progress(rows->prepare->session, "encode", row);
    if (rows->table.split[row] < 0) continue;
    gd_corpus_value text = gd_table_value(&rows->table, row, column);
    status = encode_text(rows, row, text, &ids);
    if (status == GD_OK) status = gd_ids_append(&rows->examples.ids, ids.ids, ids.count);
    if (status == GD_OK)
      status = gd_examples_end(&rows->examples, rows->table.split[row], rows->labels + (size_t)row * columns);
    if (status == GD_OK) gd_prepare_tell(rows->prepare, text.bytes + text.count - rows->table.text.bytes);
  }
  gd_ids_free(&ids);
  return status;
}

static gd_status classify(gd_prepare_rows *rows) {
  gd_table *table = &rows->table;
  int32_t text = gd_prepare_column(rows->prepare, GD_ROLE_TEXT);
  GD_TRY(gd_prepare_labels(rows));
  rows->made.max_tokens = (int32_t)(rows->task->max_tokens < INT32_MAX ? rows->task->max_tokens : INT32_MAX);
  rows->made.cut_head = rows->task->cut_head;
  const size_t columns = (size_t)gd_data_task_columns(&rows->made), bytes = columns * sizeof *rows->labels;
  for (int64_t row = 0; row < table->count; row++)
    rows->keys[row] = (gd_corpus_value){(const char *)(rows->labels + (size_t)row * columns), bytes};
  GD_TRY(gd_table_group(rows->keys, table->count, rows->stratum));
  for (int64_t row = 0; row < table->count; row++) rows->keys[row] = gd_table_value(table, row, text);
  GD_TRY(gd_table_group(rows->keys, table->count, rows->group));
  for (int64_t row = 0; row < table->count; row++)
    rows->report->disputed += rows->stratum[row] != rows->stratum[rows->group[row]];
  GD_TRY(gd_prepare_deal(rows));
  GD_TRY(gd_prepare_count_labels(rows));
  if (!rows->prepare->tokenizer) GD_TRY(make_chars(rows, text));
  return encode_texts(rows, text);
}

/* ---- all tasks ---- */

static gd_status make(gd_prepare_rows *rows) {
  gd_prepare *prepare = rows->prepare;
  GD_TRY(read_rows(rows));
  prepare->progress = (gd_prepare_progress){.phase = "encode", .mine = rows->table.bytes, .total = rows->table.bytes};
  GD_TRY(rows->task->kind == GD_TASK_SFT ? gd_prepare_talks(rows) : classify(rows));
  GD_TRY(gd_data_task_copy(&rows->made, &rows->report->task));
  return gd_examples_write(prepare, &rows->examples, &rows->made, rows->report);
}

gd_status gd_prepare_examples(gd_prepare *prepare, gd_prepare_report *report) {
  gd_prepare_rows rows = {.prepare = prepare, .task = &prepare->options->task, .report = report};
  gd_status status = prepare->rank == 0 ? make(&rows) : GD_OK;
  gd_table_free(&rows.table);
  gd_examples_free(&rows.examples);
  gd_data_task_free(&rows.made);
  free(rows.group);
  free(rows.stratum);
  free(rows.keys);
  free(rows.labels);
  GD_TRY(gd_session_agree(prepare->session, status));
  if (prepare->rank == 0) report->vocabulary = gd_tokenizer_vocabulary(prepare->tokenizer);
  return GD_OK;
}
