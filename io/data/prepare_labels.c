/* prepare_labels.c - label columns to a label map and numbers; which rows are dealt to which split. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/data/prepare_task.h"
#include "shard/base/log.h"

/* A label column's value with a zero behind it. */
typedef struct label {
  char *text;
  int64_t number;
} label;

/* Digits, with a sign or not: "-3", "12". */
static bool read_whole(const char *text, int64_t *out) {
  char *end;
  size_t digits = strspn(text[0] == '-' ? text + 1 : text, "0123456789");
  *out = strtoll(text, &end, 10);
  return digits > 0 && digits < 18 && !*end;
}

static int by_text(const void *a, const void *b) {
  return strcmp(((const label *)a)->text, ((const label *)b)->text);
}

static int by_number(const void *a, const void *b) {
  int64_t x = ((const label *)a)->number, y = ((const label *)b)->number;
  return x != y ? (x < y ? -1 : 1) : by_text(a, b);
}

static gd_status copy_value(const gd_prepare_rows *rows, int64_t row, int32_t column, char **out) {
  gd_corpus_value value = gd_table_value(&rows->table, row, column);
  if (memchr(value.bytes, 0, value.count))
    return gd_fail_user(GD_BAD_DATA, "%s:%lld: the label holds the character U+0000", rows->table.path[row],
                        (long long)rows->table.line[row]);
  *out = strndup(value.bytes, value.count);
  return *out ? GD_OK : gd_fail(GD_NO_MEMORY, "no memory for a label");
}

/* Room for `more` labels, and those that are known, with their numbers. */
static gd_status begin_map(gd_prepare_rows *rows, bool multiple, int64_t more) {
  const gd_data_task *known = rows->task->known;
  gd_data_task *task = &rows->made;
  task->kind = GD_TASK_CLASSIFICATION;
  task->multiple = multiple;
  if (known && known->multiple != multiple)
    return gd_fail_user(GD_USAGE, "--labels: its texts have %s, those here %s",
                        known->multiple ? "any number of labels" : "one label each",
                        multiple ? "any number of labels" : "one label each");
  task->labels = calloc((size_t)(more + (known ? known->label_count : 0)), sizeof *task->labels);
  if (!task->labels) return gd_fail(GD_NO_MEMORY, "no memory for %lld labels", (long long)more);
  for (int32_t k = 0; known && k < known->label_count; k++) {
    task->labels[k] = strdup(known->labels[k]);
    if (!task->labels[k]) return gd_fail(GD_NO_MEMORY, "no memory for a label");
    task->label_count++;
  }
  return GD_OK;
}

/* The labels of training that are not known, sorted and each once, move from all[count] to the map, behind those that are.
 * Numbers are sorted as numbers. */
static gd_status make_map(gd_prepare_rows *rows, label *all, int64_t count) {
  gd_data_task *task = &rows->made;
  bool numbers = true;
  for (int64_t i = 0; i < count; i++) numbers = read_whole(all[i].text, &all[i].number) && numbers;
  qsort(all, (size_t)count, sizeof *all, numbers ? by_number : by_text);
  int64_t different = 0;
  for (int64_t i = 0; i < count; i++) different += !i || strcmp(all[i].text, all[i - 1].text) != 0;
  if (different > GD_TASK_LABELS)
    return gd_fail_user(GD_BAD_DATA, "the label column has %lld different values, expected at most %d: is it the text?",
                        (long long)different, GD_TASK_LABELS);
  GD_TRY(begin_map(rows, false, different));
  const char *last = NULL;
  for (int64_t i = 0; i < count; i++) {
    bool again = last && strcmp(last, all[i].text) == 0;
    last = all[i].text;
    if (again || (rows->task->known && gd_data_task_find_label(rows->task->known, last) >= 0)) continue;
    task->labels[task->label_count++] = all[i].text;
    all[i].text = NULL;
  }
  if (task->label_count < 2)
    return gd_fail_user(GD_BAD_DATA, "all rows for training have the label \"%s\", expected at least two labels",
                        last ? last : "");
  return GD_OK;
}

/* Every row's label as its number in the map. */
static gd_status number_rows(gd_prepare_rows *rows, int32_t column) {
  const gd_data_task *task = &rows->made;
  label *sorted = malloc((size_t)task->label_count * sizeof *sorted);
  if (!sorted) return gd_fail(GD_NO_MEMORY, "no memory for %d labels", task->label_count);
  for (int32_t i = 0; i < task->label_count; i++) sorted[i] = (label){task->labels[i], i};
  qsort(sorted, (size_t)task->label_count, sizeof *sorted, by_text);
  gd_status status = GD_OK;
  for (int64_t row = 0; status == GD_OK && row < rows->table.count; row++) {
    label wanted = {0};
    GD_TRY_GOTO(status, done, copy_value(rows, row, column, &wanted.text));
    const label *known = bsearch(&wanted, sorted, (size_t)task->label_count, sizeof *sorted, by_text);
    if (known)
      rows->labels[row] = (float)known->number;
    else
      status = gd_fail_user(GD_BAD_DATA, "%s:%lld: the label \"%s\" is none of the %d that training has", rows->table.path[row],
                            (long long)rows->table.line[row], wanted.text, task->label_count);
    free(wanted.text);
  }
done:
  free(sorted);
  return status;
}

static gd_status read_single(gd_prepare_rows *rows, int32_t column) {
  const gd_table *table = &rows->table;
  label *all = calloc((size_t)table->count + 1, sizeof *all);
  if (!all) return gd_fail(GD_NO_MEMORY, "no memory for %lld labels", (long long)table->count);
  int64_t count = 0;
  gd_status status = GD_OK;
  for (int64_t row = 0; status == GD_OK && row < table->count; row++)
    if (table->split[row] == 0) status = copy_value(rows, row, column, &all[count++].text);
  if (status == GD_OK) status = make_map(rows, all, count);
  for (int64_t i = 0; i < count; i++) free(all[i].text);
  free(all);
  return status == GD_OK ? number_rows(rows, column) : status;
}

/* Of label columns: which label each is. Every known one needs a column. */
static gd_status name_columns(gd_prepare_rows *rows, int32_t numbers[GD_CORPUS_COLUMNS]) {
  const gd_corpus_options *options = &rows->prepare->corpus;
  gd_data_task *task = &rows->made;
  GD_TRY(begin_map(rows, true, options->column_count));
  const int32_t known = task->label_count;
  for (int32_t k = 0; k < options->column_count; k++) {
    char name[32];
    snprintf(name, sizeof name, "%lld", (long long)options->columns[k].number);
    if (rows->task->roles[k] != GD_ROLE_LABEL) continue;
    const char *text = options->columns[k].name ? options->columns[k].name : name;
    numbers[k] = gd_data_task_find_label(task, text);
    if (numbers[k] >= 0) continue;
    numbers[k] = task->label_count;
    task->labels[numbers[k]] = strdup(text);
    if (!task->labels[task->label_count++]) return gd_fail(GD_NO_MEMORY, "no memory for a label");
  }
  for (int32_t k = 0; k < known; k++) {
    bool there = false;
    for (int32_t c = 0; c < options->column_count; c++)
      there = there || (rows->task->roles[c] == GD_ROLE_LABEL && numbers[c] == k);
    if (!there)
      return gd_fail_user(GD_USAGE, "--labels: there is no column for its label \"%s\", expected one for each",
                          task->labels[k]);
  }
  return GD_OK;
}

/* Several columns: each is a label, and holds 0, 1, false, true or a number between. */
static gd_status read_multiple(gd_prepare_rows *rows) {
  const gd_corpus_options *options = &rows->prepare->corpus;
  int32_t numbers[GD_CORPUS_COLUMNS];
  GD_TRY(name_columns(rows, numbers));
  float *out = rows->labels;
  for (int64_t row = 0; row < rows->table.count; row++, out += rows->made.label_count)
    for (int32_t k = 0; k < options->column_count; k++) {
      char *text, *end;
      if (rows->task->roles[k] != GD_ROLE_LABEL) continue;
      GD_TRY(copy_value(rows, row, k, &text));
      float value = strcmp(text, "true") == 0 ? 1 : strcmp(text, "false") == 0 ? 0 : strtof(text, &end);
      bool good = strcmp(text, "true") == 0 || strcmp(text, "false") == 0 || (end > text && !*end && value >= 0 && value <= 1);
      gd_status status = good ? GD_OK
                              : gd_fail_user(GD_BAD_DATA, "%s:%lld: the label column holds \"%.40s\", expected 0 or 1",
                                             rows->table.path[row], (long long)rows->table.line[row], text);
      free(text);
      GD_TRY(status);
      out[numbers[k]] = value;
    }
  return GD_OK;
}

gd_status gd_prepare_labels(gd_prepare_rows *rows) {
  int32_t columns = 0;
  for (int32_t k = 0; k < rows->table.columns; k++) columns += rows->task->roles[k] == GD_ROLE_LABEL;
  rows->labels = calloc((size_t)(rows->table.count * columns) + 1, sizeof *rows->labels);
  if (!rows->labels) return gd_fail(GD_NO_MEMORY, "no memory for %lld labels", (long long)rows->table.count);
  return columns == 1 ? read_single(rows, gd_prepare_column(rows->prepare, GD_ROLE_LABEL)) : read_multiple(rows);
}

gd_status gd_prepare_count_labels(gd_prepare_rows *rows) {
  const gd_data_task *task = &rows->made;
  const int64_t labels = task->label_count;
  char names[GD_TASK_NAMES_BYTES];
  int64_t *counts = rows->report->label_documents = calloc((size_t)(GD_PREPARE_SPLITS * labels), sizeof *counts);
  if (!counts) return gd_fail(GD_NO_MEMORY, "no memory for %d labels", task->label_count);
  for (int64_t row = 0; row < rows->table.count; row++) {
    if (rows->table.split[row] < 0) continue;
    int64_t *of_split = counts + rows->table.split[row] * labels;
    if (!task->multiple) of_split[(int64_t)rows->labels[row]]++;
    for (int64_t k = 0; task->multiple && k < labels; k++) of_split[k] += rows->labels[row * labels + k] > 0;
  }
  int32_t known = rows->task->known ? rows->task->known->label_count : 0;
  int32_t unseen = gd_data_task_unseen(task, counts, known, task->label_count, names);
  if (unseen && rows->report->repeated && rows->task->repeated == GD_REPEATED_DROP)
    return gd_fail_user(GD_BAD_DATA,
                        "no row for training has the label%s %s: %lld rows were left out, whose text stands in the rows for "
                        "validation or test; --repeated keep keeps them",
                        unseen == 1 ? "" : "s", names, (long long)rows->report->repeated);
  if (unseen) return gd_fail_user(GD_BAD_DATA, "no row for training has the label%s %s", unseen == 1 ? "" : "s", names);
  unseen = gd_data_task_unseen(task, counts, 0, known, names);
  if (unseen)
    gd_log(GD_LOG_WARNING, "no row for training has the label%s %s; --labels keeps %s", unseen == 1 ? "" : "s", names,
           unseen == 1 ? "it" : "them");
  return GD_OK;
}

/* No text lands in two splits: the latest that has it keeps it, as tests are to stay what they are elsewhere. */
static gd_status settle_repeated(gd_prepare_rows *rows) {
  gd_table *table = &rows->table;
  const gd_repeated way = rows->task->repeated;
  int64_t before[GD_PREPARE_SPLITS] = {0}, left[GD_PREPARE_SPLITS] = {0};
  int32_t *last = calloc((size_t)table->count, sizeof *last); /* of a group, at its first row */
  if (!last) return gd_fail(GD_NO_MEMORY, "no memory for %lld rows", (long long)table->count);
  for (int64_t row = 0; row < table->count; row++)
    if (table->split[row] > last[rows->group[row]]) last[rows->group[row]] = table->split[row];
  gd_status status = GD_OK;
  for (int64_t row = 0; status == GD_OK && row < table->count; row++) {
    bool repeated = table->split[row] < last[rows->group[row]];
    rows->report->repeated += repeated;
    before[table->split[row]]++;
    if (repeated && way == GD_REPEATED_REFUSE)
      status = gd_fail_user(GD_BAD_DATA, "%s:%lld: this text or prompt stands in the rows for %s, too", table->path[row],
                            (long long)table->line[row], last[rows->group[row]] == 1 ? "validation" : "the test");
    if (repeated && way == GD_REPEATED_DROP) table->split[row] = -1;
    if (table->split[row] >= 0) left[table->split[row]]++;
  }
  free(last);
  rows->report->keeps_repeated = way == GD_REPEATED_KEEP;
  for (int k = 0; status == GD_OK && k < GD_PREPARE_SPLITS; k++)
    if (before[k] && !left[k])
      status = gd_fail_user(GD_BAD_DATA,
                            "no row is left for %s: the text or prompt of each of the %lld stands in the rows for %s, too; "
                            "--repeated keep keeps them",
                            k ? "validation" : "training", (long long)before[k], k ? "the test" : "validation or the test");
  return status;
}

gd_status gd_prepare_deal(gd_prepare_rows *rows) {
  gd_table *table = &rows->table;
  int64_t own = 0; /* the rows of the inputs stand before those of the files for validation and test */
  while (own < table->count && table->split[own] == 0) own++;
  if (rows->task->split[0] > 0)
    GD_TRY(gd_table_deal(rows->group, rows->stratum, own, rows->task->split, rows->task->seed, table->split));
  return settle_repeated(rows);
}
