/* source.c - tells a checkpoint from a model folder and reads either. */
#include "trainer/source.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/base/files.h"
#include "io/checkpoint/name.h"

static bool is_huggingface(const char *path) {
  char config[GD_PATH_BYTES + 32];
  snprintf(config, sizeof config, "%s/config.json", path);
  return gd_file_exists(config);
}

static gd_status open_source(gd_session *session, const char *path, bool peek, gd_weight_source *out) {
  memset(out, 0, sizeof *out);
  snprintf(out->path, sizeof out->path, "%s", path);
  bool first = !session || gd_session_rank(session) == 0;
  gd_status found = first ? gd_checkpoint_named(path, "a checkpoint, a run directory or a model folder") : GD_OK;
  GD_TRY(session ? gd_session_agree(session, found) : found);
  if (is_huggingface(path)) {
    snprintf(out->tokenizer, sizeof out->tokenizer, "%s", path);
    return gd_huggingface_open(path, &out->huggingface);
  }
  GD_TRY(peek ? gd_checkpoint_peek(path, false, &out->checkpoint) : gd_checkpoint_open(session, path, false, &out->checkpoint));
  if (!out->checkpoint)
    return gd_fail_user(
        GD_BAD_DATA,
        "%s: found neither a gptdist checkpoint (MANIFEST.pb, or a run's checkpoints/) nor a model folder (config.json)", path);
  if (gd_checkpoint_manifest(out->checkpoint)->tokenizer_count)
    snprintf(out->tokenizer, sizeof out->tokenizer, "%s", gd_checkpoint_tokenizer(out->checkpoint));
  return GD_OK;
}

gd_status gd_weight_source_open(gd_session *session, const char *path, gd_weight_source *out) {
  return open_source(session, path, false, out);
}

gd_status gd_weight_source_peek(const char *path, gd_weight_source *out) {
  return open_source(NULL, path, true, out);
}

gd_status gd_weight_source_model(const gd_weight_source *source, gd_spec *spec) {
  gd_model_spec before = spec->model;
  spec->model.classes = 0;
  if (source->huggingface)
    GD_TRY(gd_huggingface_spec(source->huggingface, spec));
  else
    spec->model = gd_checkpoint_run_spec(source->checkpoint)->model;
  memcpy(spec->model.init_from, before.init_from, sizeof before.init_from);
  spec->model.dropout = before.dropout;
  return GD_OK;
}

const gd_data_task *gd_weight_source_task(const gd_weight_source *source) {
  return source->checkpoint ? &gd_checkpoint_manifest(source->checkpoint)->task : gd_huggingface_task(source->huggingface);
}

gd_status gd_weight_source_base(const gd_weight_source *source, gd_base *out) {
  char path[GD_PATH_BYTES];
  gd_bytes bytes = {0};
  *out = (gd_base){0};
  const char *folder = source->checkpoint ? gd_checkpoint_path(source->checkpoint) : source->path;
  GD_TRY(gd_path_join(path, sizeof path, folder, source->checkpoint ? GD_MANIFEST_NAME : "config.json"));
  snprintf(out->path, sizeof out->path, "%s", folder);
  gd_status status = gd_file_read(path, (size_t)1 << 30, &bytes);
  if (status == GD_OK) status = gd_sha256_bytes(bytes.bytes, bytes.count, out->sha256);
  gd_bytes_free(&bytes);
  return status;
}

gd_status gd_weight_source_read(void *context, const gd_tensor *tensors, const gd_owned_box *boxes, int32_t count,
                                float *const *data) {
  const gd_weight_source *source = context;
  gd_checkpoint_box *wanted = calloc((size_t)count + 1, sizeof *wanted);
  if (!wanted) return gd_fail(GD_NO_MEMORY, "no memory for %d boxes", count);
  for (int32_t i = 0; i < count; i++) wanted[i] = (gd_checkpoint_box){boxes[i].tensor, GD_KIND_WEIGHTS, boxes[i].box, data[i]};
  gd_status status = source->huggingface ? gd_huggingface_read(source->huggingface, tensors, wanted, count)
                                         : gd_checkpoint_read(source->checkpoint, tensors, wanted, count);
  free(wanted);
  return status;
}

void gd_weight_source_close(gd_weight_source *source) {
  if (source->checkpoint) gd_checkpoint_close(source->checkpoint);
  if (source->huggingface) gd_huggingface_close(source->huggingface);
  memset(source, 0, sizeof *source);
}
