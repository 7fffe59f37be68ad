/* huggingface_import.c - a model folder streamed into a checkpoint of one rank. */
#include "io/checkpoint/huggingface_import.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/base/stage.h"
#include "io/checkpoint/file.h"
#include "io/checkpoint/huggingface.h"
#include "io/config/config.h"
#include "io/data/chat_template.h"
#include "io/tokenizer/tokenizer.h"
#include "shard/base/log.h"

/* As long as a spec without data may ask for; no more than a key of the run file. */
enum { SEQUENCE = 1024 };

typedef struct reading {
  gd_huggingface *model;
  gd_spec spec;
  gd_layout layout;
  gd_checkpoint_box *boxes; /* each tensor whole */
  gd_stored_box *stored;
  char folder[GD_PATH_BYTES]; /* until it is whole */
  gd_manifest manifest;
  gd_bytes layout_text; /* of the template, JSON; nothing: none */
} reading;

/* ---- the model ---- */

/* What a manifest says of the model is read as a run file is: numbers beyond its keys' ranges would lock the checkpoint. */
static gd_status check_ranges(const gd_spec *spec, const char *folder) {
  static gd_spec copy; /* large */
  const gd_config_key *keys;
  char text[GD_CONFIG_VALUE_BYTES], where[GD_PATH_BYTES + 64];
  copy = *spec;
  for (int k = 0, count = gd_config_keys(&keys); k < count; k++) {
    if (strncmp(keys[k].name, "model.", 6) != 0) continue;
    (void)gd_config_value(&keys[k], spec, text, sizeof text);
    snprintf(where, sizeof where, "%s/config.json, as %s", folder, keys[k].name);
    gd_status status = gd_config_set(&keys[k], text, where, &copy);
    if (status == GD_USAGE) return gd_error_context(GD_BAD_DATA, "more than this program takes");
    GD_TRY(status);
  }
  return GD_OK;
}

static gd_status make_layout(reading *i, const char *folder) {
  gd_mesh mesh;
  gd_config_defaults(&i->spec);
  GD_TRY(gd_huggingface_spec(i->model, &i->spec));
  GD_TRY(check_ranges(&i->spec, folder));
  i->spec.precision.dtype = gd_huggingface_is_bfloat16(i->model) ? GD_BFLOAT16 : GD_FLOAT32;
  i->spec.batch.global = i->spec.batch.micro = 1;
  i->spec.batch.sequence = i->spec.model.context < SEQUENCE ? i->spec.model.context : SEQUENCE;
  GD_TRY(gd_mesh_init(&mesh, 1, 1, 1, 1));
  gd_status status = gd_spec_resolve(&i->spec, 1);
  if (status == GD_USAGE) return gd_error_context(GD_BAD_DATA, "in the model of config.json");
  GD_TRY(status);
  return gd_layout_create(&i->spec, &mesh, 0, &i->layout);
}

/* All tensors are there with their shapes, before anything is written. */
static gd_status look_at_tensors(reading *i, gd_huggingface_import_report *report) {
  int32_t count = i->layout.tensor_count;
  i->boxes = calloc((size_t)count, sizeof *i->boxes);
  i->stored = calloc((size_t)count, sizeof *i->stored);
  i->manifest.imported = calloc((size_t)count, sizeof *i->manifest.imported);
  if (!i->boxes || !i->stored || !i->manifest.imported) return gd_fail(GD_NO_MEMORY, "no memory for %d tensors", count);
  for (int32_t t = 0; t < count; t++) {
    const gd_tensor *tensor = &i->layout.tensors[t];
    gd_safetensors_dtype dtype;
    gd_checkpoint_box nothing = {.tensor = t, .kind = GD_KIND_WEIGHTS};
    GD_TRY(gd_huggingface_read(i->model, i->layout.tensors, &nothing, 1));
    GD_TRY(gd_huggingface_dtype(i->model, tensor, &dtype));
    i->manifest.imported[t] = (uint8_t)dtype;
    i->boxes[t] = (gd_checkpoint_box){t, GD_KIND_WEIGHTS, {0, tensor->rows, 0, tensor->cols}, NULL};
    report->elements += tensor->rows * tensor->cols;
  }
  report->tensors = count;
  return GD_OK;
}

/* A run of elements is whole rows, and at its ends parts of one. */
static gd_status read_run(void *context, const gd_checkpoint_box *box, int64_t first, int64_t count, float *out) {
  const reading *i = context;
  int64_t cols = box->box.cols;
  while (count) {
    int64_t row = first / cols, col = first % cols;
    bool whole = col == 0 && count >= cols;
    gd_checkpoint_box part = *box;
    part.box = (gd_box){row, whole ? count / cols : 1, col, whole ? cols : cols - col < count ? cols - col : count};
    part.data = out;
    GD_TRY(gd_huggingface_read(i->model, i->layout.tensors, &part, 1));
    int64_t elements = gd_box_elements(part.box);
    out += elements;
    first += elements;
    count -= elements;
  }
  return GD_OK;
}

/* ---- the tokenizer ---- */

static gd_status add_file(reading *i, const char *folder, const char *name) {
  char path[GD_PATH_BYTES];
  gd_manifest_file *grown =
      realloc(i->manifest.tokenizer, ((size_t)i->manifest.tokenizer_count + 1) * sizeof *i->manifest.tokenizer);
  if (!grown) return gd_fail(GD_NO_MEMORY, "no memory for a list of files");
  i->manifest.tokenizer = grown;
  gd_manifest_file *file = &grown[i->manifest.tokenizer_count++];
  memset(file, 0, sizeof *file);
  if ((size_t)snprintf(file->name, sizeof file->name, "%s", name) >= sizeof file->name)
    return gd_fail(GD_BUG, "the tokenizer's file %s has too long a name", name);
  GD_TRY(gd_path_join(path, sizeof path, folder, name));
  return gd_sha256_file(path, file->sha256, &file->bytes);
}

static int compare_files(const void *left, const void *right) {
  return strcmp(((const gd_manifest_file *)left)->name, ((const gd_manifest_file *)right)->name);
}

static gd_status write_tokenizer(reading *i, const gd_tokenizer *tokenizer) {
  char folder[GD_PATH_BYTES];
  struct dirent *entry = NULL;
  GD_TRY(gd_path_join(folder, sizeof folder, i->folder, GD_MANIFEST_TOKENIZER));
  GD_TRY(gd_tokenizer_save(tokenizer, folder));
  DIR *entries = opendir(folder);
  if (!entries) return gd_fail(GD_IO, "cannot read the folder %s", folder);
  gd_status status = GD_OK;
  while (status == GD_OK && (status = gd_folder_next(entries, folder, &entry)) == GD_OK && entry)
    status = add_file(i, folder, entry->d_name);
  closedir(entries);
  if (status == GD_OK)
    qsort(i->manifest.tokenizer, (size_t)i->manifest.tokenizer_count, sizeof *i->manifest.tokenizer, compare_files);
  return status;
}

/* *out = NULL where the folder has none. One that cannot be read is a fault: a model without it says nothing. */
static gd_status open_tokenizer(const char *folder, gd_tokenizer **out) {
  static const char *const names[] = {"tokenizer.json", "vocab.json", "gptdist-tokenizer.json"};
  char path[GD_PATH_BYTES];
  *out = NULL;
  for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
    GD_TRY(gd_path_join(path, sizeof path, folder, names[n]));
    if (!gd_file_exists(path)) continue;
    gd_status status = gd_tokenizer_open(folder, out);
    return status == GD_BAD_DATA
               ? gd_error_context(status, "this is the folder's tokenizer; --no-tokenizer imports the model without it")
               : status;
  }
  gd_log(GD_LOG_WARNING, "%s has no tokenizer.json: the checkpoint keeps no tokenizer", folder);
  return GD_OK;
}

/* ---- the template ---- */

/* That of the folder's chat_template, or the one that was chosen. */
static gd_status find_template(const char *folder, const char *chosen, gd_template *out) {
  char where[GD_PATH_BYTES];
  gd_bytes stranger = {0};
  *out = (gd_template){0};
  if (chosen) return strcmp(chosen, "none") == 0 ? GD_OK : gd_template_open(chosen, out);
  gd_status status = gd_chat_template_find(folder, where, &stranger, out);
  if (status == GD_OK && where[0] && !out->name)
    status = gd_chat_template_refuse(where, &stranger, ", or none of them with --template none");
  gd_bytes_free(&stranger);
  return status;
}

static gd_status read_template(reading *i, const char *folder, const char *chosen, const gd_tokenizer *tokenizer,
                               gd_huggingface_import_report *report) {
  gd_template layout;
  int32_t end;
  if (i->spec.model.classes || !tokenizer)
    return chosen && strcmp(chosen, "none") != 0
               ? gd_fail_user(GD_USAGE, "--template: %s",
                              tokenizer ? "is for a language model, this is a classifier" : "needs the tokenizer")
               : GD_OK;
  gd_status status = find_template(folder, chosen, &layout);
  if (status == GD_OK && layout.name) {
    status = gd_template_check(&layout, tokenizer, &end);
    if (status == GD_OK) status = gd_template_write(&layout, &i->layout_text);
    snprintf(report->template_name, sizeof report->template_name, "%s", layout.name);
  }
  gd_template_free(&layout);
  return status;
}

/* ---- all of it ---- */

static gd_status write_all(reading *i, const gd_tokenizer *tokenizer) {
  gd_manifest *m = &i->manifest;
  char path[GD_PATH_BYTES];
  const gd_checkpoint_feed feed = {read_run, i};
  m->files = calloc(1, sizeof *m->files);
  if (!m->files) return gd_fail(GD_NO_MEMORY, "no memory for a list of files");
  m->file_count = 1;
  snprintf(m->files[0].name, sizeof m->files[0].name, "rank-00000.h5");
  GD_TRY(gd_path_join(path, sizeof path, i->folder, m->files[0].name));
  GD_TRY(gd_checkpoint_file_write(path, i->layout.tensors, i->layout.tensor_count, i->boxes, i->layout.tensor_count, &feed,
                                  i->stored, m->files));
  if (tokenizer) GD_TRY(write_tokenizer(i, tokenizer));
  m->numbers_version = GD_NUMBERS_VERSION;
  snprintf(m->gptdist_version, sizeof m->gptdist_version, "%s", GPTDIST_VERSION);
  gethostname(m->host, sizeof m->host - 1);
  gd_checkpoint_file_library(m->hdf5_version);
  m->spec = i->spec;
  m->mesh = i->layout.mesh;
  m->task = *gd_huggingface_task(i->model); /* lent */
  if (i->layout_text.count) m->task = (gd_data_task){.kind = GD_TASK_SFT, .layout = i->layout_text.bytes};
  m->task.longest = i->spec.model.context; /* of data nothing is known: the longest that the model takes */
  m->state = (gd_run_state){.best_validation = (double)INFINITY, .best_step = -1, .validated_step = -1, .lr_factor = 1};
  m->tensors = i->layout.tensors;
  m->tensor_count = m->box_count = i->layout.tensor_count;
  m->boxes = i->stored;
  gd_status status = gd_manifest_check_boxes(m);
  if (status == GD_OK) status = gd_manifest_write(m, i->folder);
  m->task = (gd_data_task){0};
  m->tensors = NULL; /* the layout's */
  m->boxes = NULL;
  return status;
}

gd_status gd_huggingface_import(const char *folder, const char *out, bool with_tokenizer, const char *template_name,
                                gd_huggingface_import_report *report) {
  static reading i; /* large: specs */
  gd_tokenizer *tokenizer = NULL;
  memset(&i, 0, sizeof i);
  *report = (gd_huggingface_import_report){0};
  gd_status status = gd_huggingface_open(folder, &i.model);
  if (status == GD_OK) status = make_layout(&i, folder);
  if (status == GD_OK) status = look_at_tensors(&i, report);
  if (status == GD_OK && with_tokenizer) status = open_tokenizer(folder, &tokenizer);
  report->tokenizer = tokenizer != NULL;
  if (status == GD_OK && tokenizer && gd_tokenizer_vocabulary(tokenizer) > i.spec.model.vocabulary)
    status = gd_fail_user(GD_BAD_DATA, "%s: the tokenizer has %d ids, but the model only %d", folder,
                          gd_tokenizer_vocabulary(tokenizer), i.spec.model.vocabulary);
  if (status == GD_OK) status = read_template(&i, folder, template_name, tokenizer, report);
  if (status == GD_OK) status = gd_stage_open(out, i.folder);
  if (status == GD_OK) status = gd_stage_close(out, i.folder, write_all(&i, tokenizer));
  if (tokenizer) gd_tokenizer_close(tokenizer);
  gd_manifest_free(&i.manifest);
  gd_bytes_free(&i.layout_text);
  gd_layout_free(&i.layout);
  free(i.boxes);
  free(i.stored);
  if (i.model) gd_huggingface_close(i.model);
  return status;
}
