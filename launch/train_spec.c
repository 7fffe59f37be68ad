/* train_spec.c - makes the spec that trains out of run file, command line, the model to begin with and the data. */
#include "launch/train_spec.h"

#include <string.h>

#include "io/data/metric.h"
#include "io/tokenizer/tokenizer.h"
#include "shard/base/log.h"
#include "trainer/policy.h"
#include "trainer/source.h"

/* One of two keys that say the same. */
static gd_status check_either(const char *epochs, const char *steps, const gd_spec *spec, const gd_config_origins *origins) {
  const gd_config_key *keys;
  char value[GD_CONFIG_VALUE_BYTES];
  gd_config_keys(&keys);
  const gd_config_key *a = gd_config_find(epochs), *b = gd_config_find(steps);
  gd_config_value(a, spec, value, sizeof value);
  if (strcmp(value, "0") == 0 || strcmp(origins->text[b - keys], "default") == 0) return GD_OK;
  return gd_fail_user(GD_USAGE, "%s: found %s, but %s is set too; keep one of them", epochs, value, steps);
}

gd_status gd_train_spec_load(const gd_command_line *line, gd_spec *spec, gd_config_origins *origins) {
  GD_TRY(gd_options_load(line, true, spec, origins));
  GD_TRY(gd_config_explain(check_either("run.epochs", "run.steps", spec, origins), origins));
  GD_TRY(gd_config_explain(check_either("validation.interval_epochs", "validation.interval_steps", spec, origins), origins));
  if (!spec->model.init_from[0]) return GD_OK;
  gd_weight_source source;
  gd_spec brought = *spec;
  gd_status status = gd_weight_source_peek(spec->model.init_from, &source);
  if (status == GD_OK) status = gd_weight_source_model(&source, &brought);
  gd_weight_source_close(&source);
  return status == GD_OK ? gd_config_adopt_model(&brought.model, brought.model.init_from, spec, origins) : status;
}

/* Ids mean the same to the data as to the weights: the tokenizer kept with a checkpoint is the data's. A model folder of others
 * has no digest of ours. */
static gd_status compare_tokenizers(const gd_spec *spec, const gd_dataset *data) {
  const char *from = spec->model.init_from, *name = gd_dataset_tokenizer(data), *digest = gd_dataset_tokenizer_digest(data);
  gd_weight_source source;
  gd_tokenizer *tokenizer = 0;
  gd_status status = gd_weight_source_peek(from, &source);
  bool known = status == GD_OK && source.checkpoint && gd_folder_exists(source.tokenizer);
  if (known) status = gd_tokenizer_open(source.tokenizer, &tokenizer);
  if (status == GD_OK && !known)
    gd_log(GD_LOG_INFO,
           "model.init_from %s keeps no gptdist tokenizer to compare with the data's (%s, %d tokens): only the sizes were "
           "compared",
           from, name, gd_dataset_vocabulary(data));
  if (status == GD_OK && known && strcmp(gd_tokenizer_digest(tokenizer), digest) != 0)
    status = gd_fail_user(
        GD_USAGE,
        "data.path: %s was made with tokenizer %s (%.12s), but the weights of model.init_from %s belong to %s "
        "(%.12s); prepare the data with --tokenizer %s",
        spec->data.path[0], name, digest, from, gd_tokenizer_name(tokenizer), gd_tokenizer_digest(tokenizer), source.tokenizer);
  if (tokenizer) gd_tokenizer_close(tokenizer);
  gd_weight_source_close(&source);
  return status;
}

/* The resolved run file says steps. */
static void settle_epochs(gd_spec *spec, const gd_dataset *data) {
  int64_t windows = gd_dataset_windows(data);
  if (spec->run.epochs > 0) spec->run.steps = gd_policy_steps((double)spec->run.epochs, windows, spec->batch.global);
  if (spec->validation.interval_epochs > 0)
    spec->validation.interval_steps = gd_policy_interval((double)spec->validation.interval_epochs, windows, spec->batch.global);
  spec->run.epochs = spec->validation.interval_epochs = 0;
}

gd_status gd_train_spec_open_data(gd_spec *spec, const gd_config_origins *origins, bool first, gd_dataset **out) {
  int32_t length = spec->batch.sequence ? spec->batch.sequence : spec->model.context;
  GD_TRY(gd_dataset_open(&spec->data, length, spec->batch.order, spec->run.seed, spec->finetune.pack, out));
  settle_epochs(spec, *out);
  int32_t vocabulary = gd_dataset_vocabulary(*out);
  if (!spec->model.vocabulary) spec->model.vocabulary = vocabulary;
  if (spec->model.vocabulary >= vocabulary)
    return first && spec->model.init_from[0] ? gd_config_explain(compare_tokenizers(spec, *out), origins) : GD_OK;
  return gd_config_explain(gd_fail_user(GD_USAGE, "model.vocabulary: found %d, but the data's tokenizer has %d tokens",
                                        spec->model.vocabulary, vocabulary),
                           origins);
}

gd_status gd_train_spec_need_text(const gd_dataset *dataset, const char *what) {
  const gd_data_task *task = gd_dataset_task(dataset);
  if (task->kind == GD_TASK_LM) return GD_OK;
  return gd_fail_user(GD_USAGE, "%s: holds examples for %s, expected plain text (gptdist-data prepare without --task)", what,
                      gd_data_task_name(task->kind));
}

gd_status gd_train_spec_check_policy(const gd_spec *spec, const gd_dataset *data, const gd_dataset *validation) {
  GD_TRY(gd_metric_check(spec->validation.metric, gd_dataset_task(data)->kind));
  return gd_spec_check_validated(spec, validation != NULL, "data.path has no validation/, and data.validation is not set");
}

/* Patterns of tensor names are known to mean something once the names are there. */
static gd_status resolve(gd_spec *spec, int32_t ranks) {
  gd_mesh mesh;
  gd_layout layout;
  GD_TRY(gd_spec_resolve(spec, ranks));
  GD_TRY(gd_mesh_init(&mesh, ranks, spec->parallel.tensor, spec->parallel.pipeline, spec->parallel.context));
  GD_TRY(gd_layout_create(spec, &mesh, 0, &layout));
  gd_layout_free(&layout);
  return GD_OK;
}

gd_status gd_train_spec_resolve(gd_spec *spec, const gd_config_origins *origins, int32_t ranks) {
  return gd_config_explain(resolve(spec, ranks), origins);
}

gd_status gd_train_spec_plan(const gd_command_line *line, int32_t ranks, gd_spec *spec, gd_config_origins *origins) {
  GD_TRY(gd_train_spec_load(line, spec, origins));
  if (!spec->data.sources && !spec->model.vocabulary)
    return gd_fail_user(GD_USAGE,
                        "model.vocabulary: not set, and there is no data.path or model.init_from to take it from; say how "
                        "many tokens the tokenizer has (--set model.vocabulary=50257)");
  bool known = spec->model.vocabulary > 0;
  gd_dataset *data = 0;
  gd_status status = spec->data.sources ? gd_train_spec_open_data(spec, origins, true, &data) : GD_OK;
  if (status == GD_OK && data) status = gd_config_explain(gd_train_spec_need_text(data, "data.path"), origins);
  if (data) {
    gd_dataset_close(data);
    GD_TRY(status);
  } else if (spec->run.epochs > 0 || spec->validation.interval_epochs > 0) {
    const char *key = spec->run.epochs > 0 ? "run.epochs" : "validation.interval_epochs";
    return status == GD_OK ? gd_fail_user(GD_USAGE, "%s: needs data.path: the size of the data makes steps of it", key)
                           : gd_error_context(status, "%s: the size of the data makes steps of it", key);
  } else if (!known) {
    return gd_error_context(status,
                            "model.vocabulary: not set; without the data a plan needs it (--set model.vocabulary=50257)");
  } else if (status != GD_OK) {
    gd_log(GD_LOG_WARNING, "planned without the data: %s", gd_error_text());
    gd_error_clear();
  }
  return gd_train_spec_resolve(spec, origins, ranks);
}
