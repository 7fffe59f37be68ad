/* data_brought.c - what earlier work brings to new data. */
#include "launch/data_brought.h"

#include <stdio.h>

#include "io/base/files.h"
#include "io/checkpoint/checkpoint.h"
#include "io/checkpoint/name.h"
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
  GD_TRY(gd_checkpoint_peek(path, out));
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
  GD_TRY(folder[0] ? labels_of_split(folder, out) : labels_of_checkpoint(path, out));
  if (out->kind == GD_TASK_CLASSIFICATION) return GD_OK;
  return gd_fail_user(GD_USAGE, "%s: has no labels, expected examples for classification, or a run that was trained on them",
                      folder[0] ? folder : path);
}
