/* train_spec.c - makes the spec that trains out of run file, command line, the model to begin with and the data. */
#include "launch/train_spec.h"

#include <stdlib.h>
#include <string.h>

#include "io/data/metric.h"
#include "launch/train_base.h"
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

/* What the weights say of the model: those of the checkpoint to resume from, where there is one, else those of model.init_from,
 * which a resumed run does without. */
static gd_status adopt(const gd_resume *resume, gd_spec *spec, gd_config_origins *origins) {
  gd_weight_source source = {0};
  gd_spec brought = *spec;
  GD_TRY(gd_resume_peek(resume, spec->run.directory, &source.checkpoint));
  const bool resumed = source.checkpoint != NULL;
  gd_status status = resumed ? GD_OK : gd_weight_source_peek(spec->model.init_from, &source);
  if (status == GD_OK) status = gd_weight_source_model(&source, &brought);
  const char *from = resumed ? gd_checkpoint_path(source.checkpoint) : spec->model.init_from;
  if (status == GD_OK) status = gd_config_adopt_model(&brought.model, from, resumed, spec, origins);
  gd_weight_source_close(&source);
  return status;
}

gd_status gd_train_spec_load(const gd_command_line *line, const gd_resume *resume, gd_spec *spec, gd_config_origins *origins) {
  GD_TRY(gd_options_load(line, true, spec, origins));
  GD_TRY(gd_config_explain(check_either("run.epochs", "run.steps", spec, origins), origins));
  GD_TRY(gd_config_explain(check_either("validation.interval_epochs", "validation.interval_steps", spec, origins), origins));
  return spec->model.init_from[0] ? adopt(resume, spec, origins) : GD_OK;
}

/* The resolved run file says steps. */
static void settle_epochs(gd_spec *spec, const gd_dataset *data) {
  int64_t windows = gd_dataset_windows(data);
  if (spec->run.epochs > 0) spec->run.steps = gd_policy_steps((double)spec->run.epochs, windows, spec->batch.global);
  if (spec->validation.interval_epochs > 0)
    spec->validation.interval_steps = gd_policy_interval((double)spec->validation.interval_epochs, windows, spec->batch.global);
  spec->run.epochs = spec->validation.interval_epochs = 0;
}

/* Outputs of the classifier that the labels of the data take, and its loss. */
static gd_status settle_labels(gd_spec *spec, const gd_data_task *task) {
  gd_finetune_spec *finetune = &spec->finetune;
  int32_t labels = task->label_count, weights = finetune->class_weights.count;
  if (finetune->loss == GD_LABEL_LOSS_AUTO) finetune->loss = task->multiple ? GD_LABEL_LOSS_SIGMOID : GD_LABEL_LOSS_SOFTMAX;
  bool sigmoid = finetune->loss == GD_LABEL_LOSS_SIGMOID;
  if (task->multiple && !sigmoid)
    return gd_fail_user(GD_USAGE,
                        "finetune.loss: found softmax, but a text of data.path may have several labels, expected sigmoid");
  if (sigmoid && !task->multiple && labels != 2)
    return gd_fail_user(GD_USAGE,
                        "finetune.loss: found sigmoid, but data.path has %d labels of which a text has one, expected softmax",
                        labels);
  if (weights && task->multiple)
    return gd_fail_user(GD_USAGE,
                        "finetune.class_weights: weigh the one label of a text; a text of data.path may have several");
  if (weights > 0 && weights != labels)
    return gd_fail_user(GD_USAGE, "finetune.class_weights: found %d numbers, but data.path has %d labels", weights, labels);
  int32_t classes = sigmoid && !task->multiple ? 1 : labels;
  if (spec->model.classes && spec->model.classes != classes && !spec->model.init_from[0])
    return gd_fail_user(GD_USAGE, "model.classes: found %d, but the %d labels of data.path take %d%s", spec->model.classes,
                        labels, classes,
                        spec->model.classes == 1 && labels == 2 && !task->multiple
                            ? " with finetune.loss: softmax; write finetune.loss: sigmoid for one output, or drop the key"
                            : "");
  spec->model.classes = classes;
  return GD_OK;
}

/* The weights of a list, or those of `balanced`, which are scikit-learn's. */
static gd_status weigh_labels(const gd_class_weights *given, gd_dataset *data) {
  const gd_data_task *task = gd_dataset_task(data);
  size_t labels = (size_t)task->label_count;
  const bool balanced = given->count < 0;
  char names[GD_TASK_NAMES_BYTES];
  int64_t *counts = calloc(labels + 1, sizeof *counts), documents = gd_dataset_documents(data);
  float *weights = calloc(labels + 1, sizeof *weights);
  gd_status status = counts && weights ? GD_OK : gd_fail(GD_NO_MEMORY, "no memory for %zu labels", labels);
  if (status == GD_OK && balanced) status = gd_dataset_label_counts(data, counts);
  if (status == GD_OK && balanced && gd_data_task_unseen(task, counts, 0, task->label_count, names))
    status = gd_fail_user(GD_USAGE,
                          "finetune.class_weights: found balanced, but no text for training has %s; expected a text of each "
                          "label, or a list of %zu numbers",
                          names, labels);
  for (size_t i = 0; status == GD_OK && i < labels; i++)
    weights[i] = balanced ? (float)((double)documents / ((double)labels * (double)counts[i])) : given->value[i];
  if (status == GD_OK) status = gd_dataset_weigh_labels(data, weights);
  free(counts), free(weights);
  return status;
}

/* Examples of a task stand each by itself. */
static gd_status settle_task(gd_spec *spec, const gd_dataset *data) {
  static const gd_finetune_task kinds[] = {
      [GD_TASK_LM] = GD_FINETUNE_LM, [GD_TASK_CLASSIFICATION] = GD_FINETUNE_CLASSIFICATION, [GD_TASK_SFT] = GD_FINETUNE_SFT};
  static const char *const names[] = {"auto", "lm", "classification", "sft"};
  gd_data_task_kind kind = gd_dataset_task(data)->kind;
  if (spec->finetune.task != GD_FINETUNE_AUTO && spec->finetune.task != kinds[kind])
    return gd_fail_user(GD_USAGE, "finetune.task: found %s, but data.path %s is for %s; drop the key, or name other data",
                        names[spec->finetune.task], spec->data.path[0], gd_data_task_name(kind));
  if (kind != GD_TASK_LM) spec->data.mask_documents = spec->data.reset_positions = true;
  if (kind == GD_TASK_CLASSIFICATION) return settle_labels(spec, gd_dataset_task(data));
  if (spec->model.classes)
    return gd_fail_user(
        GD_USAGE,
        "data.path: %s is for %s, but model.classes, found %d, is of a run for classification; drop the key, or "
        "name other data, or weights without a classifier",
        spec->data.path[0], gd_data_task_name(kind), spec->model.classes);
  if (spec->finetune.loss != GD_LABEL_LOSS_AUTO || spec->finetune.class_weights.count)
    return gd_fail_user(GD_USAGE, "finetune.%s: is of a classifier, but data.path %s is for %s",
                        spec->finetune.loss != GD_LABEL_LOSS_AUTO ? "loss" : "class_weights", spec->data.path[0],
                        gd_data_task_name(kind));
  return GD_OK;
}

/* What the data says of the spec. */
static gd_status settle(gd_spec *spec, const gd_config_origins *origins, gd_dataset *data) {
  settle_epochs(spec, data);
  GD_TRY(gd_config_explain(settle_task(spec, data), origins));
  if (spec->finetune.class_weights.count) GD_TRY(gd_config_explain(weigh_labels(&spec->finetune.class_weights, data), origins));
  int32_t vocabulary = gd_dataset_vocabulary(data);
  if (!spec->model.vocabulary) spec->model.vocabulary = vocabulary;
  if (spec->model.vocabulary < vocabulary && !spec->model.init_from[0])
    return gd_config_explain(gd_fail_user(GD_USAGE, "model.vocabulary: found %d, but the data's tokenizer has %d tokens",
                                          spec->model.vocabulary, vocabulary),
                             origins);
  if (spec->model.vocabulary < vocabulary) spec->model.vocabulary = vocabulary; /* the weights get rows, or are refused */
  return GD_OK;
}

/* A key that says less than the checkpoint has may say what the run began with: rows that the weights had before they got more.
 * `grown`: the checkpoint has as many as the data takes, so it may be that. */
static gd_status compare_said(const char *key, int32_t said, int32_t has, bool grown, const char *checkpoint,
                              const gd_config_origins *origins) {
  if (!said || said == has) return GD_OK;
  if (said < has && grown) {
    gd_log(GD_LOG_INFO, "resume: %s: found %d (%s), but %s has %d, which stay; the key may be dropped", key, said,
           gd_config_origin(origins, key), checkpoint, has);
    return GD_OK;
  }
  return gd_fail_user(GD_USAGE,
                      "%s: found %d, expected %d as in %s; drop the key, or choose another run.directory, or --resume none",
                      key, said, has, checkpoint);
}

/* given: the model as it was before the data said what it takes. */
static gd_status check_said(const gd_spec *spec, const gd_model_spec *given, const gd_checkpoint *checkpoint,
                            const gd_config_origins *origins) {
  const gd_model_spec *has = &gd_checkpoint_run_spec(checkpoint)->model, *takes = &spec->model;
  const char *path = gd_checkpoint_path(checkpoint);
  GD_TRY(gd_config_resume_loss(gd_checkpoint_run_spec(checkpoint), spec, path));
  GD_TRY(compare_said("model.vocabulary", given->vocabulary, has->vocabulary, takes->vocabulary >= has->vocabulary, path,
                      origins));
  return compare_said("model.classes", given->classes, has->classes, takes->classes == has->classes, path, origins);
}

/* The weights that adopt() took the model from, with the data: before anything else is said of it, what a checkpoint of the run
 * was for; then the keys. */
static gd_status settle_upon(gd_spec *spec, const gd_checkpoint *checkpoint, const gd_config_origins *origins,
                             gd_dataset *data) {
  const gd_model_spec given = spec->model;
  if (checkpoint) GD_TRY(gd_config_explain(gd_resume_check_data(checkpoint, spec, data, true), origins));
  GD_TRY(settle(spec, origins, data));
  return gd_config_explain(
      checkpoint ? check_said(spec, &given, checkpoint, origins) : gd_train_base_check(spec, given.classes, data), origins);
}

gd_status gd_train_spec_open_data(gd_spec *spec, const gd_resume *resume, const gd_config_origins *origins, bool first,
                                  gd_dataset **out) {
  int32_t length = spec->batch.sequence ? spec->batch.sequence : spec->model.context;
  gd_checkpoint *checkpoint = NULL;
  GD_TRY(gd_dataset_open(&spec->data, length, spec->batch.order, spec->run.seed, spec->finetune.pack, out));
  if (!first || !spec->model.init_from[0]) return settle(spec, origins, *out);
  GD_TRY(gd_resume_peek(resume, spec->run.directory, &checkpoint));
  gd_status status = settle_upon(spec, checkpoint, origins, *out);
  gd_checkpoint_close(checkpoint);
  return status;
}

gd_status gd_train_spec_check_validation(const gd_dataset *data, const gd_dataset *validation) {
  const gd_data_task *task = gd_dataset_task(data), *other = gd_dataset_task(validation);
  if (task->kind != other->kind)
    return gd_fail_user(GD_USAGE, "data.validation: is for another task (%s) than data.path (%s)",
                        gd_data_task_name(other->kind), gd_data_task_name(task->kind));
  if (!gd_data_task_equal(task, other))
    return gd_fail_user(GD_USAGE, "data.validation: has %s than data.path",
                        task->kind == GD_TASK_SFT ? "another template" : "other labels");
  if (strcmp(gd_dataset_tokenizer_digest(data), gd_dataset_tokenizer_digest(validation)) != 0)
    return gd_fail_user(GD_USAGE, "data.validation: was made with tokenizer %s (%.12s), data.path with %s (%.12s)",
                        gd_dataset_tokenizer(validation), gd_dataset_tokenizer_digest(validation), gd_dataset_tokenizer(data),
                        gd_dataset_tokenizer_digest(data));
  return GD_OK;
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

gd_status gd_train_spec_plan(const gd_command_line *line, const gd_resume *resume, int32_t ranks, gd_spec *spec,
                             gd_config_origins *origins) {
  GD_TRY(gd_train_spec_load(line, resume, spec, origins));
  if (!spec->data.sources && !spec->model.vocabulary)
    return gd_fail_user(GD_USAGE,
                        "model.vocabulary: not set, and there is no data.path or model.init_from to take it from; say how "
                        "many tokens the tokenizer has (--set model.vocabulary=50257)");
  bool known = spec->model.vocabulary > 0;
  gd_dataset *data = 0;
  gd_status status = spec->data.sources ? gd_train_spec_open_data(spec, resume, origins, true, &data) : GD_OK;
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
