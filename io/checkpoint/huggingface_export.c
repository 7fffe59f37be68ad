/* huggingface_export.c - our logical tensors under Hugging Face's names, in shards, a tensor at a time. */
#include "io/checkpoint/huggingface_export.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/base/json.h"
#include "io/base/stage.h"
#include "io/checkpoint/huggingface_names.h"
#include "io/checkpoint/internal.h"
#include "io/data/chat_template.h"
#include "io/tokenizer/tokenizer.h"
#include "shard/base/log.h"

enum { SLAB_ELEMS = 1 << 20, MOST_PARTS = 3 };

/* One of theirs. */
typedef struct output {
  char name[GD_HUGGINGFACE_NAME_BYTES];
  int32_t part[MOST_PARTS], parts; /* ours, side by side along the output */
  bool transposed;
} output;

typedef struct writing {
  const gd_checkpoint *checkpoint;
  const gd_spec *spec;
  gd_checkpoint_reader reader;
  gd_huggingface_config config;
  char folder[GD_PATH_BYTES]; /* until it is whole */
  output *outputs;
  gd_safetensor *tensors; /* of the outputs */
  int32_t *first;         /* the first tensor of each file, and behind the last */
  int32_t count, files;
  gd_huggingface_export_report *report;
} writing;

/* ---- what goes where ---- */

static int compare_names(const void *key, const void *element) {
  return strcmp(key, ((const gd_tensor *)element)->name);
}

/* A manifest's tensors are those of the model that its settings describe: what follows takes their shapes for granted. */
static gd_status check_tensors(const writing *e) {
  static gd_spec spec; /* large */
  gd_mesh mesh;
  gd_layout layout;
  int32_t count;
  const gd_tensor *found = gd_checkpoint_tensors(e->checkpoint, &count, NULL);
  spec = *e->spec;
  spec.parallel = (gd_parallel_spec){.tensor = 1, .pipeline = 1, .context = 1};
  spec.finetune.train.count = spec.optimizer.lr_scale.count = 0;
  GD_TRY(gd_mesh_init(&mesh, 1, 1, 1, 1));
  gd_status status = gd_spec_resolve_model(&spec);
  if (status == GD_USAGE) return gd_error_context(GD_BAD_DATA, "in the settings of %s", gd_checkpoint_path(e->checkpoint));
  GD_TRY(status);
  GD_TRY(gd_layout_create(&spec, &mesh, 0, &layout));
  for (int32_t t = 0; status == GD_OK && t < count && t < layout.tensor_count; t++) {
    const gd_tensor *a = &found[t], *b = &layout.tensors[t];
    if (strcmp(a->name, b->name) != 0 || a->dims != b->dims || a->rows != b->rows || a->cols != b->cols)
      status = gd_fail_user(GD_BAD_DATA, "%s: found %s, which is not as its settings have %s",
                            gd_checkpoint_path(e->checkpoint), a->name, b->name);
  }
  if (status == GD_OK && count != layout.tensor_count)
    status = gd_fail_user(GD_BAD_DATA, "%s: found %d tensors, its settings make %d", gd_checkpoint_path(e->checkpoint), count,
                          layout.tensor_count);
  gd_layout_free(&layout);
  return status;
}

static gd_status add_output(writing *e, const gd_huggingface_rule *rule, int32_t layer, gd_safetensors_dtype dtype) {
  char ours[2 * GD_NAME_BYTES];
  int32_t tensor_count;
  const gd_tensor *list = gd_checkpoint_tensors(e->checkpoint, &tensor_count, NULL);
  if (layer < 0)
    snprintf(ours, sizeof ours, "%s", rule->ours);
  else
    snprintf(ours, sizeof ours, "layers.%d.%s", layer, rule->ours);
  const gd_tensor *tensor = bsearch(ours, list, (size_t)tensor_count, sizeof *list, compare_names);
  if (!tensor) return GD_OK; /* a head that is tied, biases of a model without */
  if (rule->part == 0) {
    output *next = &e->outputs[e->count];
    gd_safetensor *head = &e->tensors[e->count++];
    (void)gd_huggingface_translate(&e->config, e->config.llama ? "model." : "transformer.", ours, next->name);
    next->transposed = rule->transposed;
    const uint8_t *imported = gd_checkpoint_manifest(e->checkpoint)->imported;
    if (dtype == GD_SAFETENSORS_OTHER && imported) dtype = (gd_safetensors_dtype)imported[tensor - list];
    if (dtype == GD_SAFETENSORS_OTHER)
      dtype = e->spec->precision.dtype == GD_BFLOAT16 ? GD_SAFETENSORS_BF16 : GD_SAFETENSORS_F32;
    *head = (gd_safetensor){.name = next->name, .dtype = dtype, .dims = tensor->dims};
    head->shape[rule->transposed] = tensor->rows * rule->parts;
    if (tensor->dims == 2) head->shape[!rule->transposed] = tensor->cols;
    head->bytes = tensor->rows * rule->parts * tensor->cols * gd_safetensors_dtype_bytes(dtype);
  }
  output *at = &e->outputs[e->count - 1];
  at->part[at->parts++] = (int32_t)(tensor - list);
  return GD_OK;
}

/* Each of our tensors in one output; the files: as many bytes as are allowed, one after the other. */
static gd_status plan(writing *e, const gd_huggingface_export_options *options) {
  int32_t tensor_count, used = 0;
  (void)gd_checkpoint_tensors(e->checkpoint, &tensor_count, NULL);
  e->outputs = calloc((size_t)tensor_count + 1, sizeof *e->outputs);
  e->tensors = calloc((size_t)tensor_count + 1, sizeof *e->tensors);
  e->first = calloc((size_t)tensor_count + 2, sizeof *e->first);
  if (!e->outputs || !e->tensors || !e->first) return gd_fail(GD_NO_MEMORY, "no memory for %d tensors", tensor_count);
  for (int32_t layer = -1; layer < e->spec->model.layers; layer++)
    for (const gd_huggingface_rule *rule = gd_huggingface_rules(&e->config, layer >= 0); rule->ours; rule++)
      GD_TRY(add_output(e, rule, layer, options->dtype));
  for (int32_t i = 0; i < e->count; i++) used += e->outputs[i].parts;
  if (used != tensor_count)
    return gd_fail_user(GD_BAD_DATA, "%s: found %d tensors, of which the architecture %s takes %d",
                        gd_checkpoint_path(e->checkpoint), tensor_count, e->config.llama ? "Llama" : "GPT-2", used);
  int64_t held = 0;
  for (int32_t i = 0; i < e->count; i++) {
    if (e->files == 0 || (held && held + e->tensors[i].bytes > options->shard_bytes)) {
      e->first[e->files++] = i;
      held = 0;
    }
    held += e->tensors[i].bytes;
    e->report->bytes += e->tensors[i].bytes;
  }
  e->first[e->files] = e->count;
  e->report->tensors = e->count;
  e->report->files = e->files;
  return GD_OK;
}

static void file_name(const writing *e, int32_t file, char out[GD_NAME_BYTES]) {
  if (e->files == 1)
    snprintf(out, GD_NAME_BYTES, "model.safetensors");
  else
    snprintf(out, GD_NAME_BYTES, "model-%05d-of-%05d.safetensors", file + 1, e->files);
}

/* ---- tensors ---- */

static gd_status read_rows(writing *e, int32_t tensor, int64_t row, int64_t rows, float *out) {
  int32_t count;
  const gd_tensor *list = gd_checkpoint_tensors(e->checkpoint, &count, NULL);
  gd_checkpoint_box box = {tensor, GD_KIND_WEIGHTS, {row, rows, 0, list[tensor].cols}, out};
  return gd_checkpoint_reader_read(&e->reader, &box, 1);
}

/* As it lies here, a slab of rows at a time. */
static gd_status copy_part(writing *e, int32_t tensor, gd_safetensors_writer *writer) {
  int32_t count;
  const gd_tensor *ours = &gd_checkpoint_tensors(e->checkpoint, &count, NULL)[tensor];
  int64_t step = SLAB_ELEMS / ours->cols > 0 ? SLAB_ELEMS / ours->cols : 1;
  float *slab = malloc((size_t)(step < ours->rows ? step : ours->rows) * (size_t)ours->cols * sizeof *slab);
  if (!slab) return gd_fail(GD_NO_MEMORY, "no memory for rows of %s", ours->name);
  gd_status status = GD_OK;
  for (int64_t row = 0; status == GD_OK && row < ours->rows; row += step) {
    int64_t rows = ours->rows - row < step ? ours->rows - row : step;
    status = read_rows(e, tensor, row, rows, slab);
    if (status == GD_OK) status = gd_safetensors_append(writer, slab, rows * ours->cols);
  }
  free(slab);
  return status;
}

/* [out][in] in memory, [in][out] to the file. */
static gd_status write_transposed(writing *e, const output *from, const gd_safetensor *tensor, gd_safetensors_writer *writer) {
  int64_t in = tensor->shape[0], out = tensor->shape[1], rows = out / from->parts;
  float *whole = malloc((size_t)(in * out) * sizeof *whole), *line = malloc((size_t)out * sizeof *line);
  gd_status status = whole && line ? GD_OK : gd_fail(GD_NO_MEMORY, "no memory for %s", from->name);
  for (int32_t p = 0; status == GD_OK && p < from->parts; p++)
    status = read_rows(e, from->part[p], 0, rows, whole + p * rows * in);
  for (int64_t i = 0; status == GD_OK && i < in; i++) {
    for (int64_t o = 0; o < out; o++) line[o] = whole[o * in + i];
    status = gd_safetensors_append(writer, line, out);
  }
  free(whole);
  free(line);
  return status;
}

static gd_status write_tensors(writing *e, int32_t file) {
  char path[GD_PATH_BYTES], name[GD_NAME_BYTES];
  gd_safetensors_writer *writer;
  int32_t first = e->first[file], end = e->first[file + 1];
  file_name(e, file, name);
  GD_TRY(gd_path_join(path, sizeof path, e->folder, name));
  GD_TRY(gd_safetensors_create(path, e->tensors + first, end - first, &writer));
  gd_status status = GD_OK;
  for (int32_t i = first; status == GD_OK && i < end; i++) {
    const output *from = &e->outputs[i];
    if (from->transposed) status = write_transposed(e, from, &e->tensors[i], writer);
    for (int32_t p = 0; status == GD_OK && !from->transposed && p < from->parts; p++)
      status = copy_part(e, from->part[p], writer);
  }
  if (status == GD_OK) status = gd_safetensors_finish(writer);
  gd_safetensors_writer_close(writer);
  return status;
}

/* ---- the files beside them ---- */

static gd_status write_text(const writing *e, const char *name, const gd_bytes *text) {
  char path[GD_PATH_BYTES];
  GD_TRY(gd_path_join(path, sizeof path, e->folder, name));
  return gd_file_write(path, text->bytes, text->count);
}

static gd_status put_index(const writing *e, gd_bytes *out) {
  GD_TRY(gd_bytes_printf(out, "{\n  \"metadata\": {\"total_size\": %" PRId64 "},\n  \"weight_map\": {", e->report->bytes));
  for (int32_t file = 0; file < e->files; file++) {
    char name[GD_NAME_BYTES];
    file_name(e, file, name);
    for (int32_t i = e->first[file]; i < e->first[file + 1]; i++)
      GD_TRY(gd_bytes_printf(out, "%s\n    \"%s\": \"%s\"", i ? "," : "", e->outputs[i].name, name));
  }
  return gd_bytes_printf(out, "\n  }\n}\n");
}

/* What config.json calls the model's: the token embedding's. */
static const char *dtype_text(const writing *e) {
  static const char *const names[] = {"float32", "float16", "bfloat16"};
  return names[e->tensors[0].dtype];
}

static gd_status write_texts(const writing *e, const gd_huggingface_marks *marks) {
  gd_bytes config = {0}, generation = {0}, index = {0};
  gd_status status = gd_huggingface_config_write(e->spec, &e->config, marks, dtype_text(e), &config);
  if (status == GD_OK) status = gd_huggingface_generation_write(marks, &generation);
  if (status == GD_OK && e->files > 1) status = put_index(e, &index);
  if (status == GD_OK) status = write_text(e, "config.json", &config);
  if (status == GD_OK) status = write_text(e, "generation_config.json", &generation);
  if (status == GD_OK && e->files > 1) status = write_text(e, "model.safetensors.index.json", &index);
  gd_bytes_free(&config);
  gd_bytes_free(&generation);
  gd_bytes_free(&index);
  return status;
}

static void add_end(gd_huggingface_marks *marks, int32_t id) {
  for (int32_t i = 0; i < marks->end_count; i++)
    if (marks->ends[i] == id) return;
  if (id >= 0 && marks->end_count < GD_HUGGINGFACE_ENDS) marks->ends[marks->end_count++] = id;
}

/* The template of what was trained on, as Jinja; nothing where there was none. Its end token ends a turn. */
static gd_status put_chat_template(const writing *e, const gd_tokenizer *tokenizer, gd_huggingface_marks *marks,
                                   gd_bytes *out) {
  const gd_data_task *task = &gd_checkpoint_manifest(e->checkpoint)->task;
  gd_template layout;
  int32_t end = -1;
  if (task->kind != GD_TASK_SFT) return GD_OK;
  gd_status status = gd_template_parse(task->layout, gd_checkpoint_path(e->checkpoint), &layout);
  if (status == GD_OK) status = gd_template_check(&layout, tokenizer, &end);
  if (status == GD_OK)
    status = gd_chat_template_write(&layout, gd_tokenizer_special_text(tokenizer, gd_tokenizer_bos(tokenizer)), out);
  add_end(marks, end);
  gd_template_free(&layout);
  return status;
}

static gd_status write_tokenizer(const writing *e, gd_huggingface_marks *marks) {
  gd_tokenizer *tokenizer;
  gd_bytes chat_template = {0};
  *marks = (gd_huggingface_marks){.begin = -1};
  if (!gd_checkpoint_manifest(e->checkpoint)->tokenizer_count) {
    gd_log(GD_LOG_WARNING, "%s keeps no tokenizer: the folder has none", gd_checkpoint_path(e->checkpoint));
    return GD_OK;
  }
  GD_TRY(gd_tokenizer_open(gd_checkpoint_tokenizer(e->checkpoint), &tokenizer));
  gd_status status = GD_OK;
  marks->begin = gd_tokenizer_bos(tokenizer);
  add_end(marks, gd_tokenizer_eot(tokenizer));
  for (int32_t i = 0, id; (id = gd_tokenizer_end(tokenizer, i)) >= 0; i++) add_end(marks, id);
  status = put_chat_template(e, tokenizer, marks, &chat_template);
  e->report->tokenizer = gd_tokenizer_exports(tokenizer);
  e->report->chat_template = e->report->tokenizer && chat_template.count;
  if (status == GD_OK && e->report->tokenizer)
    status = gd_tokenizer_export(tokenizer, e->folder, e->spec->model.context, chat_template.bytes);
  else if (status == GD_OK)
    gd_log(GD_LOG_WARNING, "a tokenizer.json cannot say what the tokenizer %s does: the folder has none",
           gd_tokenizer_name(tokenizer));
  gd_bytes_free(&chat_template);
  gd_tokenizer_close(tokenizer);
  return status;
}

static gd_status write_all(writing *e) {
  gd_huggingface_marks marks;
  gd_status status = write_tokenizer(e, &marks);
  if (status == GD_OK) status = write_texts(e, &marks);
  for (int32_t file = 0; status == GD_OK && file < e->files; file++) status = write_tensors(e, file);
  return status;
}

gd_status gd_huggingface_export(const gd_checkpoint *checkpoint, const char *folder,
                                const gd_huggingface_export_options *options, gd_huggingface_export_report *report) {
  writing e = {.checkpoint = checkpoint, .reader = {.checkpoint = checkpoint}, .report = report};
  *report = (gd_huggingface_export_report){0};
  e.spec = gd_checkpoint_run_spec(checkpoint);
  gd_status status = gd_huggingface_config_from(e.spec, &gd_checkpoint_manifest(checkpoint)->task, &e.config);
  if (status == GD_OK) status = check_tensors(&e);
  if (status == GD_OK) status = plan(&e, options);
  if (status == GD_OK) status = gd_stage_open(folder, e.folder);
  if (status == GD_OK) status = gd_stage_close(folder, e.folder, write_all(&e));
  gd_checkpoint_reader_close(&e.reader);
  gd_huggingface_config_free(&e.config);
  free(e.outputs);
  free(e.tensors);
  free(e.first);
  return status;
}
