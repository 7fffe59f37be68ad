/* data_look.c - gptdist-data inspect, verify and at: what is in a dataset, whether it is whole, and which samples a rank sees.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/base/json.h"
#include "io/data/dataset.h"
#include "io/data/split.h"
#include "io/tokenizer/tokenizer.h"
#include "launch/data_verbs.h"
#include "launch/options.h"
#include "launch/train_spec.h"
#include "shard/mesh.h"

/* Members of a JSON object, each after a comma; nothing of plain text. */
static gd_status print_task(const gd_data_task *task, gd_bytes *out) {
  gd_bytes members = {0};
  gd_status status = gd_data_task_write(task, &members);
  for (size_t i = 0; status == GD_OK && i < members.count; i++) {
    bool space = members.bytes[i] == '\n'; /* between members: inside texts it is escaped */
    status = gd_bytes_append(out, space ? " " : members.bytes + i, 1);
    if (space) i += strspn(members.bytes + i + 1, " ");
  }
  gd_bytes_free(&members);
  return status;
}

static gd_status print_split(const char *folder, const gd_split *split, bool verify) {
  const gd_token_shard_info *info = gd_split_info(split);
  gd_bytes out = {0};
  gd_status status = gd_bytes_printf(&out, "{\"folder\": ");
  if (status == GD_OK) status = gd_json_quote(&out, folder, strlen(folder));
  if (status == GD_OK) status = gd_bytes_printf(&out, ", \"tokenizer\": ");
  if (status == GD_OK) status = gd_json_quote(&out, info->tokenizer, strlen(info->tokenizer));
  if (status == GD_OK) status = gd_bytes_printf(&out, ", \"tokenizer_digest\": ");
  if (status == GD_OK) status = gd_json_quote(&out, info->tokenizer_digest, strlen(info->tokenizer_digest));
  gd_bytes task = {0};
  if (status == GD_OK) status = gd_bytes_append(&task, "", 0);
  if (status == GD_OK) status = print_task(gd_split_task(split), &task);
  if (status == GD_OK)
    printf(
        "%s, \"vocabulary\": %d, \"eot\": %d, \"tokens\": %lld, \"documents\": %lld, \"shards\": %d, \"digest\": \"%s\"%s%s}\n",
        out.bytes, info->vocabulary, info->eot, (long long)info->tokens, (long long)info->documents, gd_split_shards(split),
        gd_split_digest(split), task.bytes, verify ? ", \"whole\": true" : "");
  gd_bytes_free(&out);
  gd_bytes_free(&task);
  return status;
}

static gd_status visit_split(const char *folder, bool verify, bool json) {
  gd_split *split;
  GD_TRY(gd_split_open(folder, &split));
  gd_status status = verify ? gd_split_verify(split) : GD_OK;
  const gd_token_shard_info *info = gd_split_info(split);
  if (status == GD_OK && json)
    status = print_split(folder, split, verify);
  else if (status == GD_OK)
    printf("%s: %lld tokens, %lld documents, %d shard%s, tokenizer %s (%.12s), vocabulary %d%s\n", folder,
           (long long)info->tokens, (long long)info->documents, gd_split_shards(split), gd_split_shards(split) == 1 ? "" : "s",
           info->tokenizer, info->tokenizer_digest, info->vocabulary, verify ? ", whole" : "");
  const gd_data_task *task = gd_split_task(split);
  if (status == GD_OK && !json && task->kind != GD_TASK_LM)
    printf("  %s, at most %d tokens a document", gd_data_task_name(task->kind), task->longest);
  if (status == GD_OK && !json && task->max_tokens)
    printf(", longer ones cut to %d by their %s", task->max_tokens, task->cut_head ? "heads" : "tails");
  if (status == GD_OK && !json && task->kind != GD_TASK_LM) printf("%s", task->label_count ? ", labels" : "\n");
  for (int32_t k = 0; status == GD_OK && !json && k < task->label_count; k++)
    printf(" %s%s", task->labels[k], k + 1 < task->label_count ? "," : "\n");
  gd_split_close(split);
  return status;
}

static gd_status visit_tokenizer(const char *folder, const char *dataset) {
  char train[GD_PATH_BYTES];
  gd_split *split;
  GD_TRY(gd_path_join(train, sizeof train, dataset, "train"));
  GD_TRY(gd_split_open(train, &split));
  gd_status status = gd_tokenizer_check(folder, gd_split_info(split)->tokenizer_digest);
  gd_split_close(split);
  return status;
}

static gd_status visit_dataset(int argc, char **argv, bool verify) {
  static gd_command_line line;
  bool done = false;
  const gd_option none[] = {{0}};
  const gd_program program = {
      .name = verify ? "gptdist-data verify" : "gptdist-data inspect",
      .purpose = verify ? "reads a whole dataset and checks every digest, checksum and id" : "what is in a dataset",
      .usage = "DIR",
      .options = none,
      .takes_arguments = true};
  GD_TRY(gd_options_parse(&program, argc, argv, &line, &done));
  if (done) return GD_OK;
  if (line.arguments != 1)
    return gd_fail_user(GD_USAGE, "%s needs one dataset folder, found %d arguments", program.name, line.arguments);
  const char *folder = line.argument[0];
  char path[GD_PATH_BYTES];
  GD_TRY(gd_path_join(path, sizeof path, folder, "index.json"));
  GD_TRY(gd_path_named(folder, GD_PATH_FOLDER, "a dataset folder"));
  if (gd_file_exists(path)) return visit_split(folder, verify, line.json);
  static const char *const names[] = {"train", "validation", "test"};
  for (int k = 0; k < 3; k++) {
    GD_TRY(gd_path_join(path, sizeof path, folder, names[k]));
    if (k == 0 && !gd_folder_exists(path))
      return gd_fail_user(GD_BAD_DATA, "%s: no train/ in it, expected a dataset folder", folder);
    if (gd_folder_exists(path)) GD_TRY(visit_split(path, verify, line.json));
  }
  GD_TRY(gd_path_join(path, sizeof path, folder, "tokenizer"));
  return verify ? visit_tokenizer(path, folder) : GD_OK;
}

gd_status gd_data_inspect(int argc, char **argv) {
  return visit_dataset(argc, argv, false);
}
gd_status gd_data_verify(int argc, char **argv) {
  return visit_dataset(argc, argv, true);
}

/* ---- at ---- */

static gd_status print_row(const gd_dataset_place *place, const gd_spec *spec, int64_t row, int64_t draw, bool json) {
  const char *source = spec->data.path[place->source];
  gd_bytes path = {0}, file = {0};
  gd_status status = gd_json_quote(&path, source, strlen(source));
  if (status == GD_OK) status = gd_json_quote(&file, place->file, strlen(place->file));
  if (status == GD_OK && json)
    printf(
        "{\"row\": %lld, \"draw\": %lld, \"source\": %s, \"epoch\": %lld, \"window\": %lld, \"token\": %lld, \"file\": %s, "
        "\"file_token\": %lld}\n",
        (long long)row, (long long)draw, path.bytes, (long long)place->epoch, (long long)place->window, (long long)place->token,
        file.bytes, (long long)place->file_token);
  else if (status == GD_OK)
    printf("row %lld: draw %lld, %s epoch %lld window %lld, tokens %lld to %lld, %s from %lld\n", (long long)row,
           (long long)draw, source, (long long)place->epoch, (long long)place->window, (long long)place->token,
           (long long)place->token + spec->batch.sequence, place->file, (long long)place->file_token);
  gd_bytes_free(&path);
  gd_bytes_free(&file);
  return status;
}

/* A row of a task as it is read. Buffers: batch of one row; examples[T]; labels[columns]. */
typedef struct task_row {
  gd_batch batch;
  gd_dataset_example *examples;
  int32_t count;
  float *labels;
} task_row;

static void close_task_row(task_row *at) {
  gd_batch_close(&at->batch);
  free(at->examples);
  free(at->labels);
}

static gd_status open_task_row(const gd_dataset *dataset, task_row *at) {
  int32_t length = gd_dataset_length(dataset);
  *at = (task_row){0};
  at->examples = calloc((size_t)length, sizeof *at->examples);
  at->labels = calloc((size_t)gd_data_task_columns(gd_dataset_task(dataset)) + 1, sizeof *at->labels);
  gd_status status = gd_batch_open(1, length, &at->batch);
  if (status != GD_OK || (at->examples && at->labels)) return status;
  return gd_fail(GD_NO_MEMORY, "no memory for a row of %d tokens", length);
}

/* A member of one number a token. */
static gd_status print_numbers(gd_bytes *out, const char *name, const int32_t *values, int32_t count) {
  GD_TRY(gd_bytes_printf(out, ", \"%s\": [", name));
  for (int32_t i = 0; i < count; i++) GD_TRY(gd_bytes_printf(out, "%s%d", i ? ", " : "", values[i]));
  return gd_bytes_append(out, "]", 1);
}

/* Labels of each document: a number where there is one, else a list. */
static gd_status print_labels(gd_dataset *dataset, const task_row *at, gd_bytes *out) {
  const gd_data_task *task = gd_dataset_task(dataset);
  const int32_t columns = gd_data_task_columns(task);
  if (!columns) return GD_OK;
  GD_TRY(gd_bytes_printf(out, ", \"labels\": ["));
  for (int32_t i = 0; i < at->count; i++) {
    GD_TRY(gd_dataset_labels(dataset, &at->examples[i], at->labels));
    GD_TRY(gd_bytes_printf(out, "%s%s", i ? ", " : "", task->multiple ? "[" : ""));
    for (int32_t k = 0; k < columns; k++) GD_TRY(gd_bytes_printf(out, "%s%g", k ? ", " : "", (double)at->labels[k]));
    if (task->multiple) GD_TRY(gd_bytes_append(out, "]", 1));
  }
  return gd_bytes_append(out, "]", 1);
}

/* One line: the row's documents with begin and number, its tokens without the padding, which of them are targets, labels. */
static gd_status print_task_row(gd_dataset *dataset, const gd_dataset_place *place, const char *source, int64_t row,
                                int64_t draw, bool json, task_row *at) {
  gd_bytes out = {0};
  GD_TRY(gd_dataset_read(dataset, draw, 1, &at->batch, 0));
  GD_TRY(gd_dataset_examples(dataset, draw, at->examples, &at->count));
  int32_t used = 0, targets = 0;
  for (int32_t i = 0; i < at->count; i++) used += at->examples[i].count;
  for (int32_t t = at->batch.length - 1; t >= 0; t--) { /* weight t is of token t + 1 */
    at->batch.targets[t] = t > 0 && at->batch.weights[t - 1] > 0;
    targets += at->batch.targets[t];
  }
  if (!json) {
    printf("row %lld: draw %lld, %s epoch %lld row %lld, %d documents, %d of %d tokens, %d targets\n", (long long)row,
           (long long)draw, source, (long long)place->epoch, (long long)place->window, at->count, used, at->batch.length,
           targets);
    return GD_OK;
  }
  gd_status status = gd_bytes_printf(&out, "{\"row\": %lld, \"draw\": %lld, \"source\": ", (long long)row, (long long)draw);
  if (status == GD_OK) status = gd_json_quote(&out, source, strlen(source));
  if (status == GD_OK)
    status = gd_bytes_printf(&out, ", \"epoch\": %lld, \"window\": %lld, \"documents\": [", (long long)place->epoch,
                             (long long)place->window);
  for (int32_t i = 0; status == GD_OK && i < at->count; i++)
    status = gd_bytes_printf(&out, "%s%lld", i ? ", " : "", (long long)at->examples[i].document);
  if (status == GD_OK) status = gd_bytes_printf(&out, "], \"starts\": [");
  for (int32_t i = 0; status == GD_OK && i < at->count; i++)
    status = gd_bytes_printf(&out, "%s%d", i ? ", " : "", at->examples[i].first);
  if (status == GD_OK) status = gd_bytes_append(&out, "]", 1);
  if (status == GD_OK) status = print_numbers(&out, "tokens", at->batch.tokens, used);
  if (status == GD_OK) status = print_numbers(&out, "targets", at->batch.targets, used);
  if (status == GD_OK) status = print_labels(dataset, at, &out);
  if (status == GD_OK) printf("%s}\n", out.bytes);
  gd_bytes_free(&out);
  return status;
}

static gd_status print_rows(gd_dataset *dataset, const gd_spec *spec, int64_t first, int64_t count, bool json) {
  const bool task = gd_dataset_task(dataset)->kind != GD_TASK_LM;
  task_row at = {0};
  gd_status status = task ? open_task_row(dataset, &at) : GD_OK;
  for (int64_t row = 0; status == GD_OK && row < count; row++) {
    gd_dataset_place place;
    status = gd_dataset_where(dataset, first + row, &place);
    if (status != GD_OK) break;
    status = task ? print_task_row(dataset, &place, spec->data.path[place.source], row, first + row, json, &at)
                  : print_row(&place, spec, row, first + row, json);
  }
  close_task_row(&at);
  return status;
}

gd_status gd_data_at(int argc, char **argv) {
  static gd_command_line line;
  static gd_spec spec;
  static gd_config_origins origins;
  const gd_resume resume = {GD_RESUME_AUTO, "auto"}; /* as the same run file trains */
  int64_t step = -1, ranks = 1, rank = 0;
  bool done = false;
  const gd_option table[] = {
      {"--step", GD_OPTION_INTEGER, &step, "S", "optimizer step, from 0", 0, 9e15},
      {"--ranks", GD_OPTION_INTEGER, &ranks, "N", "ranks of the job (1)", 1, 1e6},
      {"--rank", GD_OPTION_INTEGER, &rank, "R", "whose samples (0)", 0, 1e6},
      {0},
  };
  const gd_program program = {.name = "gptdist-data at",
                              .purpose = "which samples a rank sees at a step",
                              .usage = "--config F --step S [--ranks N] [--rank R]",
                              .options = table,
                              .takes_config = true};
  GD_TRY(gd_options_parse(&program, argc, argv, &line, &done));
  if (done) return GD_OK;
  GD_TRY(gd_train_spec_load(&line, &resume, &spec, &origins));
  if (step < 0) return gd_fail_user(GD_USAGE, "at needs --step S");
  if (rank >= ranks)
    return gd_fail_user(GD_USAGE, "--rank: found %lld, expected 0 to %lld", (long long)rank, (long long)ranks - 1);
  gd_dataset *dataset = 0;
  gd_mesh mesh = {0};
  gd_status status = gd_train_spec_open_data(&spec, &resume, &origins, true, &dataset);
  if (status == GD_OK) status = gd_train_spec_resolve(&spec, &origins, (int32_t)ranks);
  if (status == GD_OK)
    status = gd_mesh_init(&mesh, (int32_t)ranks, spec.parallel.tensor, spec.parallel.pipeline, spec.parallel.context);
  if (status == GD_OK) {
    /* Contiguous sequences of the global batch to each data rank: ZeRO stages 0 and 1. */
    int32_t coordinates[GD_AXES];
    gd_mesh_coordinates(&mesh, (int32_t)rank, coordinates);
    int64_t data = coordinates[GD_AXIS_DATA], share = spec.batch.global / mesh.size[GD_AXIS_DATA];
    status = print_rows(dataset, &spec, step * spec.batch.global + data * share, share, line.json);
  }
  if (dataset) gd_dataset_close(dataset);
  return status;
}
