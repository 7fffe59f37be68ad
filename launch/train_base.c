/* train_base.c - compares the data with the weights that a run begins with. */
#include "launch/train_base.h"

#include <stdio.h>
#include <stdlib.h>

#include "io/tokenizer/tokenizer.h"
#include "shard/base/log.h"
#include "trainer/source.h"

/* What is compared. */
typedef struct base {
  gd_weight_source source;
  gd_tokenizer *own, *data; /* that of the weights, NULL: not known; that of the data */
  int32_t rows, outputs;    /* of the weights' token table and classifier */
  char unread[600];         /* why `own` is not known */
} base;

/* A model folder need not bring a tokenizer that is read here. */
static gd_status open_own(base *b) {
  snprintf(b->unread, sizeof b->unread, "it brings none");
  if (!b->source.tokenizer[0] || (b->source.checkpoint && !gd_folder_exists(b->source.tokenizer))) return GD_OK;
  gd_status status = gd_tokenizer_open(b->source.tokenizer, &b->own);
  if (status == GD_OK || !b->source.huggingface) return status;
  snprintf(b->unread, sizeof b->unread, "%s", gd_error_text());
  gd_error_clear();
  b->own = NULL;
  return GD_OK;
}

static gd_status open_base(const gd_spec *spec, const gd_dataset *data, base *b) {
  gd_spec brought = *spec;
  GD_TRY(gd_weight_source_peek(spec->model.init_from, &b->source));
  GD_TRY(gd_weight_source_model(&b->source, &brought));
  b->rows = brought.model.vocabulary;
  b->outputs = brought.model.classes;
  GD_TRY(open_own(b));
  return gd_tokenizer_open(gd_dataset_tokenizer_folder(data), &b->data);
}

/* Ids mean the same to the data as to the weights. */
static gd_status compare_tokenizers(const gd_spec *spec, const gd_dataset *data, const base *b) {
  const char *from = spec->model.init_from, *name = gd_dataset_tokenizer(data), *digest = gd_dataset_tokenizer_digest(data);
  bool same = false;
  if (!b->own) return GD_OK;
  GD_TRY(gd_tokenizer_extends(b->data, b->own, &same));
  /* The same one in other files, as an imported folder has it. With fewer tokens it is that of a folder alone: those that a run
   * was given would be lost. */
  const bool as_many = gd_tokenizer_vocabulary(b->data) == gd_tokenizer_vocabulary(b->own);
  if (!same && (b->source.huggingface || as_many)) GD_TRY(gd_tokenizer_within(b->data, b->own, &same));
  if (same) return GD_OK;
  return gd_fail_user(GD_USAGE,
                      "data.path: %s was made with tokenizer %s (%.12s), but the weights of model.init_from %s belong to %s "
                      "(%.12s); prepare the data with --tokenizer %s",
                      spec->data.path[0], name, digest, from, gd_tokenizer_name(b->own), gd_tokenizer_digest(b->own),
                      b->source.tokenizer);
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

/* Said where nothing is left to refuse. */
static void warn_of_unread(const gd_spec *spec, const gd_dataset *data, const base *b) {
  if (!b->own)
    gd_log(GD_LOG_WARNING,
           "model.init_from %s: no tokenizer to compare with the data's (%s, %d tokens): %s; only the sizes were compared",
           spec->model.init_from, gd_dataset_tokenizer(data), gd_dataset_vocabulary(data), b->unread);
}

/* A classifier forgets no label unsaid: those that it has must be labels of the data. */
static gd_status find_lacking(const gd_spec *spec, const gd_data_task *own, const gd_data_task *task) {
  const char *from = spec->model.init_from;
  char names[GD_TASK_NAMES_BYTES];
  int64_t *places = calloc((size_t)own->label_count + 1, sizeof *places);
  if (!places) return gd_fail(GD_NO_MEMORY, "no memory for %d labels", own->label_count);
  gd_data_task_match(task, own, places);
  int32_t lacking = gd_data_task_unseen(own, places, 0, own->label_count, names);
  free(places);
  if (!lacking) return GD_OK;
  return gd_fail_user(
      GD_USAGE,
      "data.path: %s lacks the label%s %s of the classifier of model.init_from %s; prepare the data with --labels "
      "%s, which keeps all of them, or begin with weights without a classifier",
      spec->data.path[0], lacking == 1 ? "" : "s", names, from, from);
}

/* The rows of a classifier go by label: the data may have them in another order, and more. */
static gd_status compare_labels(const gd_spec *spec, int32_t given, const gd_dataset *data, const base *b) {
  const gd_data_task *own = gd_weight_source_task(&b->source), *task = gd_dataset_task(data);
  const int32_t outputs = spec->model.classes;
  if (given && given != outputs && given != b->outputs)
    return gd_fail_user(GD_USAGE, "model.classes: found %d, but the %d labels of data.path take %d", given, task->label_count,
                        outputs);
  if (!b->outputs || (outputs == b->outputs && gd_data_task_equal(own, task))) return GD_OK;
  if (own->multiple != task->multiple)
    return gd_fail_user(GD_USAGE, "data.path: its texts have %s, those of the classifier of model.init_from %s %s",
                        task->multiple ? "any number of labels" : "one label each", spec->model.init_from,
                        own->multiple ? "any number of labels" : "one label each");
  GD_TRY(find_lacking(spec, own, task));
  if (b->outputs == own->label_count && outputs == task->label_count) return GD_OK;
  return gd_fail_user(
      GD_USAGE,
      "finetune.loss: gives %d output%s to the %d labels of data.path, where the classifier of model.init_from %s "
      "has %d for %d labels: an output for two labels has no row of each",
      outputs, outputs == 1 ? "" : "s", task->label_count, spec->model.init_from, b->outputs, own->label_count);
}

gd_status gd_train_base_check(const gd_spec *spec, int32_t classes, const gd_dataset *data) {
  base b = {.rows = 0};
  gd_status status = open_base(spec, data, &b);
  if (status == GD_OK) status = compare_tokenizers(spec, data, &b);
  if (status == GD_OK) status = compare_rows(spec, data, &b);
  if (status == GD_OK) status = compare_labels(spec, classes, data, &b);
  if (status == GD_OK) warn_of_unread(spec, data, &b);
  if (b.own) gd_tokenizer_close(b.own);
  if (b.data) gd_tokenizer_close(b.data);
  gd_weight_source_close(&b.source);
  return status;
}
