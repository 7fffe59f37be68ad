/* read.c - values of tensors from the files of an open checkpoint, a few files open at a time; the hash of all of them. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/checkpoint/internal.h"
#include "io/data/metric.h"

static gd_status reader_file(gd_checkpoint_reader *reader, int32_t file, gd_checkpoint_file **out) {
  const gd_checkpoint *checkpoint = reader->checkpoint;
  int32_t oldest = 0;
  for (int32_t i = 0; i < GD_READER_FILES; i++) {
    if (reader->slot[i].open && reader->slot[i].file == file) {
      reader->slot[i].used = ++reader->clock;
      *out = reader->slot[i].open;
      return GD_OK;
    }
    if (reader->slot[i].used < reader->slot[oldest].used) oldest = i;
  }
  char path[GD_PATH_BYTES];
  GD_TRY(gd_path_join(path, sizeof path, checkpoint->path, checkpoint->manifest.files[file].name));
  gd_checkpoint_file_close(reader->slot[oldest].open);
  reader->slot[oldest].open = NULL;
  GD_TRY(gd_checkpoint_file_open(path, &reader->slot[oldest].open));
  reader->slot[oldest].file = file;
  reader->slot[oldest].used = ++reader->clock;
  *out = reader->slot[oldest].open;
  return GD_OK;
}

void gd_checkpoint_reader_close(gd_checkpoint_reader *reader) {
  for (int32_t i = 0; i < GD_READER_FILES; i++) gd_checkpoint_file_close(reader->slot[i].open);
  *reader = (gd_checkpoint_reader){.checkpoint = reader->checkpoint};
}

/* One copy of the plan: rows of the stored box that lie dense on both sides go as one run. */
static gd_status read_copy(gd_checkpoint_reader *reader, const gd_stored_box *from, const gd_copy *copy,
                           const gd_checkpoint_box *to) {
  gd_checkpoint_file *file;
  GD_TRY(reader_file(reader, from->file, &file));
  bool dense = copy->box.cols == from->box.cols && copy->box.cols == to->box.cols;
  int64_t rows = dense ? 1 : copy->box.rows, run = dense ? gd_box_elements(copy->box) : copy->box.cols;
  for (int64_t r = 0; r < rows; r++) {
    int64_t row = copy->box.row + r;
    int64_t source = from->offset + (row - from->box.row) * from->box.cols + (copy->box.col - from->box.col);
    int64_t target = (row - to->box.row) * to->box.cols + (copy->box.col - to->box.col);
    GD_TRY(gd_checkpoint_file_read(file, (gd_checkpoint_kind)from->kind, source, run, to->data + target));
  }
  return GD_OK;
}

gd_status gd_checkpoint_reader_read(gd_checkpoint_reader *reader, const gd_checkpoint_box *boxes, int32_t count) {
  const gd_manifest *manifest = &reader->checkpoint->manifest;
  gd_stored_box *wanted = calloc((size_t)count + 1, sizeof *wanted);
  gd_copy *copies = NULL;
  int64_t copy_count = 0;
  if (!wanted) return gd_fail(GD_NO_MEMORY, "no memory for a list of %d boxes", count);
  for (int32_t i = 0; i < count; i++)
    wanted[i] = (gd_stored_box){.tensor = boxes[i].tensor, .kind = (int32_t)boxes[i].kind, .box = boxes[i].box};
  gd_status status = gd_reshard_plan(manifest->tensors, manifest->boxes, manifest->box_count, manifest->index, wanted, count,
                                     &copies, &copy_count);
  for (int64_t i = 0; status == GD_OK && i < copy_count; i++)
    status = read_copy(reader, &manifest->boxes[copies[i].source], &copies[i], &boxes[copies[i].target]);
  free(copies);
  free(wanted);
  return status;
}

static int compare_names(const void *key, const void *element) {
  return strcmp(key, ((const gd_tensor *)element)->name);
}

static gd_status match(const gd_checkpoint *checkpoint, const gd_tensor *wanted, const gd_checkpoint_box *box, int32_t *out) {
  const gd_manifest *manifest = &checkpoint->manifest;
  const gd_tensor *found = manifest->tensor_count ? bsearch(wanted->name, manifest->tensors, (size_t)manifest->tensor_count,
                                                            sizeof *found, compare_names)
                                                  : NULL;
  if (!found)
    return gd_fail_user(GD_BAD_DATA, "%s: has no tensor %s: a checkpoint of another model", checkpoint->path, wanted->name);
  if (found->rows != wanted->rows || found->cols != wanted->cols || found->dims != wanted->dims)
    return gd_fail_user(GD_BAD_DATA,
                        "%s: %s is %" PRId64 " x %" PRId64 ", this run expects %" PRId64 " x %" PRId64
                        ": a checkpoint of another model",
                        checkpoint->path, wanted->name, found->rows, found->cols, wanted->rows, wanted->cols);
  if (!(manifest->kinds & 1u << box->kind))
    return gd_fail_user(GD_BAD_DATA, "%s: holds no %s moments of the optimizer", checkpoint->path,
                        gd_checkpoint_kind_name(box->kind));
  if (!(gd_manifest_kinds(manifest, (int32_t)(found - manifest->tensors)) & 1u << box->kind))
    return gd_fail_user(GD_BAD_DATA, "%s: holds no %s moments of %s, which was frozen", checkpoint->path,
                        gd_checkpoint_kind_name(box->kind), found->name);
  if (box->box.row < 0 || box->box.rows > wanted->rows - box->box.row || box->box.col < 0 ||
      box->box.cols > wanted->cols - box->box.col)
    return gd_fail(GD_BUG, "a box of %s lies outside it", wanted->name);
  *out = (int32_t)(found - manifest->tensors);
  return GD_OK;
}

gd_status gd_checkpoint_read(const gd_checkpoint *checkpoint, const gd_tensor *tensors, gd_checkpoint_box *boxes,
                             int32_t count) {
  gd_checkpoint_reader reader = {.checkpoint = checkpoint};
  gd_checkpoint_box *own = malloc(((size_t)count + 1) * sizeof *own);
  if (!own) return gd_fail(GD_NO_MEMORY, "no memory for a list of %d boxes", count);
  gd_status status = GD_OK;
  for (int32_t i = 0; status == GD_OK && i < count; i++) {
    own[i] = boxes[i];
    status = match(checkpoint, &tensors[boxes[i].tensor], &boxes[i], &own[i].tensor);
  }
  if (status == GD_OK) status = gd_checkpoint_reader_read(&reader, own, count);
  gd_checkpoint_reader_close(&reader);
  free(own);
  return status;
}

/* ---- hash ---- */

enum { SLAB_ELEMS = 1 << 20 };

static gd_status hash_tensor(gd_checkpoint_reader *reader, int32_t index, gd_checkpoint_kind kind, float *slab,
                             gd_sha256 *sha256) {
  const gd_tensor *tensor = &reader->checkpoint->manifest.tensors[index];
  int64_t step_rows = SLAB_ELEMS / tensor->cols > 0 ? SLAB_ELEMS / tensor->cols : 1;
  int64_t step_cols = tensor->cols < SLAB_ELEMS ? tensor->cols : SLAB_ELEMS;
  for (int64_t row = 0; row < tensor->rows; row += step_rows)
    for (int64_t col = 0; col < tensor->cols; col += step_cols) {
      int64_t rows = tensor->rows - row < step_rows ? tensor->rows - row : step_rows;
      int64_t cols = tensor->cols - col < step_cols ? tensor->cols - col : step_cols;
      gd_checkpoint_box box = {index, kind, {row, rows, col, cols}, slab};
      GD_TRY(gd_checkpoint_reader_read(reader, &box, 1));
      GD_TRY(gd_sha256_update(sha256, slab, (size_t)(rows * cols) * sizeof *slab));
    }
  return GD_OK;
}

/* docs/formats.md says what is hashed; a change there is a change of every hash. */
static gd_status hash_all(gd_checkpoint_reader *reader, float *slab, gd_sha256 *sha256) {
  const gd_manifest *manifest = &reader->checkpoint->manifest;
  char text[256];
  for (int32_t t = 0; t < manifest->tensor_count; t++)
    for (int kind = 0; kind < GD_KINDS; kind++) {
      const gd_tensor *tensor = &manifest->tensors[t];
      if (!(gd_manifest_kinds(manifest, t) & 1u << kind)) continue;
      int length =
          snprintf(text, sizeof text, "%s %s float32", tensor->name, gd_checkpoint_kind_name((gd_checkpoint_kind)kind));
      length += snprintf(text + length, sizeof text - (size_t)length, " %" PRId64, tensor->rows);
      if (tensor->dims == 2) length += snprintf(text + length, sizeof text - (size_t)length, " %" PRId64, tensor->cols);
      length += snprintf(text + length, sizeof text - (size_t)length, "\n");
      GD_TRY(gd_sha256_update(sha256, text, (size_t)length));
      GD_TRY(hash_tensor(reader, t, (gd_checkpoint_kind)kind, slab, sha256));
    }
  const gd_run_state *s = &manifest->state;
  int length =
      snprintf(text, sizeof text,
               "step %" PRId64 " tokens %" PRId64 " draws %" PRId64 " applied_steps %" PRId64 " bad_steps %" PRId64 "\n",
               s->step, s->tokens, s->draws, s->applied_steps, s->bad_steps);
  GD_TRY(gd_sha256_update(sha256, text, (size_t)length));
  if (!gd_run_state_waits(s)) return GD_OK;
  length = snprintf(text, sizeof text,
                    "metric %s best %.17g best_step %" PRId64 " validated_step %" PRId64 " wait %" PRId64 " lr_wait %" PRId64
                    " lr_factor %.17g\n",
                    gd_metric_look((gd_metric)s->metric)->name, s->best_validation, s->best_step, s->validated_step, s->wait,
                    s->lr_wait, s->lr_factor);
  return gd_sha256_update(sha256, text, (size_t)length);
}

gd_status gd_checkpoint_hash(const gd_checkpoint *checkpoint, char hex[65]) {
  gd_checkpoint_reader reader = {.checkpoint = checkpoint};
  uint8_t digest[GD_SHA256_BYTES];
  gd_sha256 *sha256 = NULL;
  float *slab = malloc(SLAB_ELEMS * sizeof *slab);
  gd_status status = slab ? gd_sha256_open(&sha256) : gd_fail(GD_NO_MEMORY, "no memory for %d elements", SLAB_ELEMS);
  if (status == GD_OK) status = hash_all(&reader, slab, sha256);
  if (status == GD_OK) status = gd_sha256_finish(sha256, digest);
  if (status == GD_OK) gd_sha256_hex(digest, hex);
  gd_sha256_close(sha256);
  free(slab);
  gd_checkpoint_reader_close(&reader);
  return status;
}
