/* task.c - what the documents of a dataset are for, to JSON and back. */
#include "io/data/task.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/base/utf8.h"

static const char *const names[] = {"lm", "classification", "sft"};

const char *gd_data_task_name(gd_data_task_kind kind) {
  return names[kind];
}

int32_t gd_data_task_columns(const gd_data_task *task) {
  if (task->kind != GD_TASK_CLASSIFICATION) return 0;
  return task->multiple ? task->label_count : 1;
}

bool gd_data_task_equal(const gd_data_task *a, const gd_data_task *b) {
  if (a->kind != b->kind || a->multiple != b->multiple || a->label_count != b->label_count) return false;
  for (int32_t i = 0; i < a->label_count; i++)
    if (strcmp(a->labels[i], b->labels[i]) != 0) return false;
  return strcmp(a->layout ? a->layout : "", b->layout ? b->layout : "") == 0;
}

int32_t gd_data_task_find_label(const gd_data_task *task, const char *label) {
  for (int32_t i = 0; i < task->label_count; i++)
    if (strcmp(task->labels[i], label) == 0) return i;
  return -1;
}

void gd_data_task_match(const gd_data_task *from, const gd_data_task *to, int64_t *places) {
  for (int32_t i = 0; i < to->label_count; i++) {
    bool same = i < from->label_count && strcmp(from->labels[i], to->labels[i]) == 0; /* most often */
    places[i] = 1 + (same ? i : gd_data_task_find_label(from, to->labels[i]));
  }
}

/* A label in quotes, a long one up to some character. */
static size_t quote(const char *label, char *out, size_t bytes) {
  enum { SHOWN = 40 };
  const size_t count = strlen(label), shown = count <= SHOWN ? count : SHOWN - gd_utf8_unfinished(label, SHOWN);
  return (size_t)snprintf(out, bytes, "\"%.*s%s\"", (int)shown, label, count > SHOWN ? "..." : "");
}

int32_t gd_data_task_unseen(const gd_data_task *task, const int64_t *counts, int32_t first, int32_t end,
                            char out[GD_TASK_NAMES_BYTES]) {
  enum { SHOWN = 8 };
  int32_t unseen = 0;
  size_t used = 0;
  out[0] = 0;
  for (int32_t i = first; i < end; i++) {
    if (counts[i] || unseen++ >= SHOWN) continue;
    if (used) used += (size_t)snprintf(out + used, GD_TASK_NAMES_BYTES - used, ", ");
    used += quote(task->labels[i], out + used, GD_TASK_NAMES_BYTES - used);
  }
  if (unseen > SHOWN) snprintf(out + used, GD_TASK_NAMES_BYTES - used, " and %d more", unseen - SHOWN);
  return unseen;
}

gd_status gd_data_task_write(const gd_data_task *task, gd_bytes *out) {
  if (task->kind == GD_TASK_LM) return GD_OK;
  GD_TRY(gd_bytes_printf(out, ",\n  \"task\": \"%s\",\n  \"longest\": %d", names[task->kind], task->longest));
  if (task->kind == GD_TASK_SFT) return gd_bytes_printf(out, ",\n  \"template\": %s", task->layout);
  GD_TRY(gd_bytes_printf(out, ",\n  \"label_kind\": \"%s\",\n  \"labels\": [", task->multiple ? "multiple" : "single"));
  for (int32_t i = 0; i < task->label_count; i++) {
    if (i) GD_TRY(gd_bytes_append(out, ", ", 2));
    GD_TRY(gd_json_quote(out, task->labels[i], strlen(task->labels[i])));
  }
  GD_TRY(gd_bytes_append(out, "]", 1));
  if (!task->max_tokens) return GD_OK;
  return gd_bytes_printf(out, ",\n  \"max_tokens\": %d,\n  \"cut\": \"%s\"", task->max_tokens,
                         task->cut_head ? "head" : "tail");
}

static gd_status read_labels(const gd_json *index, const char *path, gd_data_task *out) {
  const gd_json *list = gd_json_get(index, "labels");
  const char *kind = gd_json_string(gd_json_get(index, "label_kind"));
  int32_t count = 0;
  for (const gd_json *node = gd_json_is_array(list) ? gd_json_first(list) : NULL; node; node = gd_json_next(node)) count++;
  if (!kind || (strcmp(kind, "single") != 0 && strcmp(kind, "multiple") != 0))
    return gd_fail_user(GD_BAD_DATA, "%s: \"label_kind\" is missing or neither single nor multiple", path);
  out->multiple = strcmp(kind, "multiple") == 0;
  if (count < (out->multiple ? 1 : 2) || count > GD_TASK_LABELS)
    return gd_fail_user(GD_BAD_DATA, "%s: \"labels\" lists %d labels, expected %d to %d", path, count, out->multiple ? 1 : 2,
                        GD_TASK_LABELS);
  out->labels = calloc((size_t)count, sizeof *out->labels);
  if (!out->labels) return gd_fail(GD_NO_MEMORY, "no memory for %d labels", count);
  for (const gd_json *node = gd_json_first(list); node; node = gd_json_next(node)) {
    const char *label = gd_json_string(node);
    if (!label || !label[0] || gd_data_task_find_label(out, label) >= 0)
      return gd_fail_user(GD_BAD_DATA, "%s: entry %d of \"labels\" is empty, no text, or stands there twice", path,
                          out->label_count);
    out->labels[out->label_count] = strdup(label);
    if (!out->labels[out->label_count++]) return gd_fail(GD_NO_MEMORY, "no memory for %d labels", count);
  }
  return GD_OK;
}

/* Both or none. */
static gd_status read_cut(const gd_json *index, const char *path, gd_data_task *out) {
  const gd_json *most = gd_json_get(index, "max_tokens"), *cut = gd_json_get(index, "cut");
  const char *end = gd_json_string(cut);
  int64_t tokens;
  if (!most && !cut) return GD_OK;
  if (!gd_json_integer(most, &tokens) || tokens < out->longest || tokens > INT32_MAX)
    return gd_fail_user(GD_BAD_DATA, "%s: \"max_tokens\" is missing or no number from \"longest\", %d, to %d", path,
                        out->longest, INT32_MAX);
  if (!end || (strcmp(end, "tail") != 0 && strcmp(end, "head") != 0))
    return gd_fail_user(GD_BAD_DATA, "%s: \"cut\" is missing or neither tail nor head", path);
  out->max_tokens = (int32_t)tokens;
  out->cut_head = strcmp(end, "head") == 0;
  return GD_OK;
}

static gd_status read_template(const gd_json *index, const char *path, gd_data_task *out) {
  const gd_json *node = gd_json_get(index, "template");
  if (!gd_json_is_object(node)) return gd_fail_user(GD_BAD_DATA, "%s: \"template\" is missing or no table", path);
  gd_bytes text = {0};
  gd_status status = gd_json_print(node, &text);
  out->layout = text.bytes;
  return status;
}

gd_status gd_data_task_read(const gd_json *index, const char *path, gd_data_task *out) {
  *out = (gd_data_task){0};
  const char *name = gd_json_string(gd_json_get(index, "task"));
  int64_t longest;
  for (out->kind = GD_TASK_CLASSIFICATION; out->kind <= GD_TASK_SFT; out->kind++)
    if (name && strcmp(name, names[out->kind]) == 0) break;
  if (out->kind > GD_TASK_SFT) {
    *out = (gd_data_task){0};
    return gd_fail_user(GD_BAD_DATA, "%s: \"task\" is \"%s\", expected classification or sft", path, name ? name : "");
  }
  if (!gd_json_integer(gd_json_get(index, "longest"), &longest) || longest < 1 || longest > INT32_MAX)
    return gd_fail_user(GD_BAD_DATA, "%s: \"longest\" is missing or no number from 1 to %d", path, INT32_MAX);
  out->longest = (int32_t)longest;
  if (out->kind == GD_TASK_SFT) return read_template(index, path, out);
  GD_TRY(read_labels(index, path, out));
  return read_cut(index, path, out);
}

gd_status gd_data_task_copy(const gd_data_task *task, gd_data_task *out) {
  *out = *task;
  out->layout = NULL;
  out->label_count = 0;
  out->labels = calloc((size_t)task->label_count + 1, sizeof *out->labels);
  bool good = out->labels != NULL;
  for (; good && out->label_count < task->label_count; out->label_count++)
    good = (out->labels[out->label_count] = strdup(task->labels[out->label_count])) != NULL;
  if (good && task->layout) good = (out->layout = strdup(task->layout)) != NULL;
  return good ? GD_OK : gd_fail(GD_NO_MEMORY, "no memory for %d labels", task->label_count);
}

void gd_data_task_free(gd_data_task *task) {
  for (int32_t i = 0; i < task->label_count; i++) free(task->labels[i]);
  free(task->labels);
  free(task->layout);
  *task = (gd_data_task){0};
}
