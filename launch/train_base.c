/* train_base.c - compares the data with the weights that a run begins with. */
#include "launch/train_base.h"

#include <string.h>

#include "io/tokenizer/tokenizer.h"
#include "shard/base/log.h"
#include "trainer/source.h"

/* What is compared. */
typedef struct base {
  gd_weight_source source;
  gd_tokenizer *own, *data; /* that of the weights, NULL: not known; that of the data */
  int32_t rows;             /* of the weights' token table */
} base;

/* The rows of a classifier to begin with are those of the data's labels. */
static gd_status compare_labels(const gd_weight_source *source, const gd_dataset *data) {
  const gd_manifest *manifest = source->checkpoint ? gd_checkpoint_manifest(source->checkpoint) : NULL;
  if (!manifest || !manifest->spec.model.classes || gd_data_task_equal(&manifest->task, gd_dataset_task(data))) return GD_OK;
  return gd_fail_user(GD_USAGE, "data.path: has other labels than the classifier of model.init_from %s", source->path);
}

/* A model folder need not bring a tokenizer that is read here. */
static gd_status open_own(base *b) {
  if (!b->source.tokenizer[0] || (b->source.checkpoint && !gd_folder_exists(b->source.tokenizer))) return GD_OK;
  gd_status status = gd_tokenizer_open(b->source.tokenizer, &b->own);
  if (status == GD_OK || !b->source.huggingface) return status;
  gd_error_clear();
  b->own = NULL;
  return GD_OK;
}

static gd_status open_base(const gd_spec *spec, const gd_dataset *data, base *b) {
  gd_spec brought = *spec;
  GD_TRY(gd_weight_source_peek(spec->model.init_from, &b->source));
  GD_TRY(gd_weight_source_model(&b->source, &brought));
  b->rows = brought.model.vocabulary;
  GD_TRY(open_own(b));
  return gd_tokenizer_open(gd_dataset_tokenizer_folder(data), &b->data);
}

/* Ids mean the same to the data as to the weights. */
static gd_status compare_tokenizers(const gd_spec *spec, const gd_dataset *data, base *b) {
  const char *from = spec->model.init_from, *name = gd_dataset_tokenizer(data), *digest = gd_dataset_tokenizer_digest(data);
  bool extends = false;
  if (b->own) GD_TRY(gd_tokenizer_extends(b->data, b->own, &extends));
  if (extends) return GD_OK;
  if (b->own && b->source.checkpoint)
    return gd_fail_user(GD_USAGE,
                        "data.path: %s was made with tokenizer %s (%.12s), but the weights of model.init_from %s belong to %s "
                        "(%.12s); prepare the data with --tokenizer %s",
                        spec->data.path[0], name, digest, from, gd_tokenizer_name(b->own), gd_tokenizer_digest(b->own),
                        b->source.tokenizer);
  if (b->own) gd_tokenizer_close(b->own);
  b->own = NULL;
  gd_log(GD_LOG_INFO,
         "model.init_from %s keeps no gptdist tokenizer to compare with the data's (%s, %d tokens): only the sizes were "
         "compared",
         from, name, gd_dataset_vocabulary(data));
  return GD_OK;
}

/* Rows are added for tokens that the data's tokenizer has behind the ids of the weights, and for nothing else. */
static gd_status compare_rows(const gd_spec *spec, const gd_dataset *data, const base *b) {
  int32_t tokens = gd_dataset_vocabulary(data), rows = spec->model.vocabulary;
  if (rows <= b->rows || (b->own && rows == tokens)) return GD_OK;
  if (rows == tokens)
    return gd_fail_user(
        GD_USAGE,
        "model.vocabulary: found %d in model.init_from %s, but the data's tokenizer has %d tokens; rows are added "
        "only for special tokens behind those of a tokenizer that the weights bring "
        "(gptdist-data prepare --add-special)",
        b->rows, spec->model.init_from, tokens);
  return gd_fail_user(GD_USAGE,
                      "model.vocabulary: found %d, expected %d as in model.init_from %s, or the %d of the data's tokenizer",
                      rows, b->rows, spec->model.init_from, tokens);
}

gd_status gd_train_base_check(const gd_spec *spec, const gd_dataset *data) {
  base b = {.rows = 0};
  gd_status status = open_base(spec, data, &b);
  if (status == GD_OK) status = compare_tokenizers(spec, data, &b);
  if (status == GD_OK) status = compare_rows(spec, data, &b);
  if (status == GD_OK) status = compare_labels(&b.source, data);
  if (b.own) gd_tokenizer_close(b.own);
  if (b.data) gd_tokenizer_close(b.data);
  gd_weight_source_close(&b.source);
  return status;
}
