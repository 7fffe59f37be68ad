/* data_brought.c - what earlier work brings to new data. */
#include "launch/data_brought.h"

#include <stdio.h>
#include <string.h>

#include "io/base/files.h"
#include "io/checkpoint/checkpoint.h"
#include "io/checkpoint/huggingface_config.h"
#include "io/checkpoint/name.h"
#include "io/data/chat_template.h"
#include "io/data/split.h"

static bool holds(const char *folder, const char *name, bool is_folder) {
  char path[GD_PATH_BYTES];
  if (gd_path_join(path, sizeof path, folder, name) != GD_OK) {
    gd_error_clear();
    return false;
  }
  return is_folder ? gd_folder_exists(path) : gd_file_exists(path);
}

static gd_status peek(const char *path, gd_checkpoint **out) {
  GD_TRY(gd_checkpoint_named(path, "a dataset, a checkpoint or a run directory"));
  GD_TRY(gd_checkpoint_peek(path, false, out));
  return *out ? GD_OK : gd_fail_user(GD_USAGE, "%s: holds neither a dataset nor a checkpoint", path);
}

gd_status gd_data_tokenizer_spec(const char *spec, char memory[GD_PATH_BYTES], const char **out) {
  gd_checkpoint *checkpoint;
  *out = spec;
  if (!gd_checkpoint_is_name(spec) && !holds(spec, "checkpoints", true)) return GD_OK;
  GD_TRY(peek(spec, &checkpoint));
  snprintf(memory, GD_PATH_BYTES, "%s", gd_checkpoint_path(checkpoint));
  gd_checkpoint_close(checkpoint);
  *out = memory;
  return GD_OK;
}

/* DIR/train of a dataset, or the split itself; "" where it is neither. */
static gd_status find_split(const char *path, char out[GD_PATH_BYTES]) {
  out[0] = 0;
  if (holds(path, "index.json", false)) return gd_path_join(out, GD_PATH_BYTES, path, "");
  return holds(path, "train", true) ? gd_path_join(out, GD_PATH_BYTES, path, "train") : GD_OK;
}

static gd_status labels_of_split(const char *folder, gd_data_task *out) {
  gd_split *split;
  GD_TRY(gd_split_open(folder, &split));
  gd_status status = gd_data_task_copy(gd_split_task(split), out);
  gd_split_close(split);
  return status;
}

static gd_status labels_of_folder(const char *folder, gd_data_task *out) {
  gd_huggingface_config config;
  gd_status status = gd_huggingface_config_read(folder, &config);
  if (status == GD_OK) status = gd_data_task_copy(&config.task, out);
  gd_huggingface_config_free(&config);
  return status;
}

static gd_status labels_of_checkpoint(const char *path, gd_data_task *out) {
  gd_checkpoint *checkpoint;
  GD_TRY(peek(path, &checkpoint));
  gd_status status = gd_data_task_copy(&gd_checkpoint_manifest(checkpoint)->task, out);
  gd_checkpoint_close(checkpoint);
  return status;
}

gd_status gd_data_labels(const char *path, gd_data_task *out) {
  char folder[GD_PATH_BYTES];
  *out = (gd_data_task){0};
  GD_TRY(find_split(path, folder));
  if (!folder[0] && holds(path, "config.json", false))
    GD_TRY(labels_of_folder(path, out));
  else
    GD_TRY(folder[0] ? labels_of_split(folder, out) : labels_of_checkpoint(path, out));
  if (out->kind == GD_TASK_CLASSIFICATION) return GD_OK;
  return gd_fail_user(GD_USAGE, "%s: has no labels, expected examples for classification, or a run that was trained on them",
                      folder[0] ? folder : path);
}

static gd_status parse_layout(const gd_data_task *task, const char *where, gd_template *out) {
  return task->kind == GD_TASK_SFT ? gd_template_parse(task->layout, where, out) : GD_OK;
}

/* By index.json, MANIFEST.pb, or the chat_template of a folder, which is none of ours where `where` says where it stands. */
static gd_status find_template(const char *spec, char where[GD_PATH_BYTES], gd_bytes *stranger, gd_template *out) {
  char folder[GD_PATH_BYTES];
  gd_checkpoint *checkpoint;
  gd_split *split;
  bool file = strncmp(spec, "hf:", 3) == 0;
  where[0] = 0;
  *out = (gd_template){0};
  if (file || holds(spec, "config.json", false) || holds(spec, "tokenizer_config.json", false)) {
    const char *slash = file ? strrchr(spec + 3, '/') : NULL;
    snprintf(folder, sizeof folder, "%s", file ? "." : spec);
    if (slash) snprintf(folder, sizeof folder, "%.*s", slash == spec + 3 ? 1 : (int)(slash - spec - 3), spec + 3);
    return gd_chat_template_find(folder, where, stranger, out);
  }
  if (gd_checkpoint_is_name(spec) || holds(spec, "checkpoints", true) || holds(spec, GD_MANIFEST_NAME, false)) {
    GD_TRY(peek(spec, &checkpoint));
    gd_status status = parse_layout(&gd_checkpoint_manifest(checkpoint)->task, spec, out);
    gd_checkpoint_close(checkpoint);
    return status;
  }
  GD_TRY(find_split(spec, folder));
  if (!folder[0]) return GD_OK;
  GD_TRY(gd_split_open(folder, &split));
  gd_status status = parse_layout(gd_split_task(split), folder, out);
  gd_split_close(split);
  return status;
}

gd_status gd_data_template_brought(const char *spec, gd_template *out) {
  char where[GD_PATH_BYTES];
  gd_bytes stranger = {0};
  gd_status status = find_template(spec, where, &stranger, out);
  gd_bytes_free(&stranger);
  return status;
}

gd_status gd_data_template(const char *spec, const char *named, gd_template *out) {
  char where[GD_PATH_BYTES];
  gd_bytes stranger = {0};
  if (named) return gd_template_open(named, out);
  gd_status status = find_template(spec, where, &stranger, out);
  if (status == GD_OK && !out->name && where[0]) status = gd_chat_template_refuse(where, &stranger, "");
  if (status == GD_OK && !out->name) status = gd_template_open("alpaca", out);
  gd_bytes_free(&stranger);
  return status;
}
