/* manifest.c - MANIFEST.pb as plain C, encoded and decoded with every check. */
#include "io/checkpoint/manifest.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/config/config.h"
#include "io/data/metric.h"
#include "manifest.pb-c.h"
#include "shard/base/log.h"

enum { KINDS = 3, IMPORTED_MOST = 2, MOST_TENSORS = 1 << 20, MOST_FILES = 1 << 20, MOST_BOXES = 1 << 25 };

void gd_manifest_free(gd_manifest *manifest) {
  free(manifest->tensors);
  free(manifest->imported);
  free(manifest->files);
  free(manifest->tokenizer);
  free(manifest->boxes);
  free(manifest->index);
  gd_data_task_free(&manifest->task);
  *manifest = (gd_manifest){0};
}

uint32_t gd_manifest_kinds(const gd_manifest *manifest, int32_t tensor) {
  return manifest->tensors[tensor].frozen ? 1u : manifest->kinds;
}

gd_status gd_manifest_check_boxes(gd_manifest *manifest) {
  GD_TRY(gd_reshard_index(manifest->boxes, manifest->box_count, &manifest->index));
  uint32_t *kinds = calloc((size_t)manifest->tensor_count + 1, sizeof *kinds);
  if (!kinds) return gd_fail(GD_NO_MEMORY, "no memory for %d tensors", manifest->tensor_count);
  gd_status status = gd_reshard_check_cover(manifest->tensors, manifest->tensor_count, manifest->boxes, manifest->box_count,
                                            manifest->index, kinds);
  manifest->kinds = 1;
  for (int32_t t = manifest->tensor_count - 1; t >= 0; t--)
    if (!manifest->tensors[t].frozen) manifest->kinds = kinds[t];
  for (int32_t t = 0; status == GD_OK && t < manifest->tensor_count; t++) {
    const gd_tensor *tensor = &manifest->tensors[t];
    if (tensor->frozen && kinds[t] & ~1u)
      status = gd_fail_user(GD_BAD_DATA, "%s: is frozen, and moments of it are stored", tensor->name);
    else if (!(kinds[t] & 1u) || kinds[t] != gd_manifest_kinds(manifest, t))
      status = gd_fail_user(GD_BAD_DATA, "%s: its weights or moments are not stored", tensor->name);
  }
  free(kinds);
  return status;
}

/* ---- encode: the message tree lives in one block of memory ---- */

typedef struct pool {
  char *memory;
  size_t used, size;
} pool;

static void *take(pool *from, size_t bytes) {
  size_t start = (from->used + 15) & ~(size_t)15;
  from->used = start + bytes;
  return from->memory ? from->memory + start : NULL;
}

static char *take_text(pool *from, const char *text) {
  size_t bytes = strlen(text) + 1;
  char *copy = take(from, bytes);
  if (copy) memcpy(copy, text, bytes);
  return copy;
}

/* `count` messages of one type and the array of pointers to them. With no memory yet only their size is counted. */
#define TAKE_LIST(from, type, init, count, list, first)                             \
  do {                                                                              \
    (list) = take((from), (size_t)(count) * sizeof(type *) + 1);                    \
    (first) = take((from), (size_t)(count) * sizeof(type) + 1);                     \
    for (size_t take_i = 0; (from)->memory && take_i < (size_t)(count); take_i++) { \
      init(&(first)[take_i]);                                                       \
      (list)[take_i] = &(first)[take_i];                                            \
    }                                                                               \
  } while (0)

#define SET(message, field, v) ((message)->has_##field = 1, (message)->field = (v))

static void put_state(pool *from, const gd_manifest *in, Gptdist__Manifest *out) {
  Gptdist__RunState *state = take(from, sizeof *state);
  Gptdist__Mesh *mesh = take(from, sizeof *mesh);
  Gptdist__Machine *machine = take(from, sizeof *machine);
  char *metric = take_text(from, gd_metric_look((gd_metric)in->state.metric)->name);
  char *host = take_text(from, in->host), *isa = take_text(from, in->isa), *hdf5 = take_text(from, in->hdf5_version);
  if (!from->memory) return;
  gptdist__run_state__init(state);
  SET(state, step, in->state.step);
  SET(state, tokens, in->state.tokens);
  SET(state, draws, in->state.draws);
  SET(state, applied_steps, in->state.applied_steps);
  SET(state, bad_steps, in->state.bad_steps);
  SET(state, best_validation, in->state.best_validation);
  SET(state, best_step, in->state.best_step);
  state->metric = metric;
  SET(state, validated_step, in->state.validated_step);
  SET(state, wait, in->state.wait);
  SET(state, lr_wait, in->state.lr_wait);
  SET(state, lr_factor, in->state.lr_factor);
  gptdist__mesh__init(mesh);
  SET(mesh, data, (uint32_t)in->mesh.size[GD_AXIS_DATA]);
  SET(mesh, pipeline, (uint32_t)in->mesh.size[GD_AXIS_PIPELINE]);
  SET(mesh, context, (uint32_t)in->mesh.size[GD_AXIS_CONTEXT]);
  SET(mesh, tensor, (uint32_t)in->mesh.size[GD_AXIS_TENSOR]);
  gptdist__machine__init(machine);
  machine->host = host;
  machine->isa = isa;
  machine->hdf5_version = hdf5;
  out->state = state;
  out->mesh = mesh;
  out->machine = machine;
}

static void put_spec(pool *from, const gd_manifest *in, Gptdist__Manifest *out) {
  const gd_config_key *keys;
  int count = gd_config_keys(&keys);
  Gptdist__Setting *settings, **list;
  TAKE_LIST(from, Gptdist__Setting, gptdist__setting__init, count, list, settings);
  for (int i = 0; i < count; i++) {
    char text[GD_CONFIG_TEXT_BYTES];
    char *name = take_text(from, keys[i].name);
    char *value = take_text(from, gd_config_value(&keys[i], &in->spec, text, sizeof text));
    if (!from->memory) continue;
    settings[i].key = name;
    settings[i].value = value;
  }
  if (!from->memory) return;
  out->n_spec = (size_t)count;
  out->spec = list;
}

static void put_tensors(pool *from, const gd_manifest *in, Gptdist__Manifest *out) {
  Gptdist__Tensor *tensors, **list;
  TAKE_LIST(from, Gptdist__Tensor, gptdist__tensor__init, in->tensor_count, list, tensors);
  for (int32_t i = 0; i < in->tensor_count; i++) {
    char *name = take_text(from, in->tensors[i].name);
    if (!from->memory) continue;
    tensors[i].name = name;
    SET(&tensors[i], dims, (uint32_t)in->tensors[i].dims);
    SET(&tensors[i], rows, in->tensors[i].rows);
    SET(&tensors[i], cols, in->tensors[i].cols);
    if (in->tensors[i].frozen) SET(&tensors[i], frozen, 1);
    if (in->imported) SET(&tensors[i], imported, in->imported[i]);
  }
  if (!from->memory) return;
  out->n_tensors = (size_t)in->tensor_count;
  out->tensors = list;
}

static Gptdist__File **put_files(pool *from, const gd_manifest_file *files, int32_t count) {
  Gptdist__File *messages, **list;
  TAKE_LIST(from, Gptdist__File, gptdist__file__init, count, list, messages);
  for (int32_t i = 0; i < count; i++) {
    char *name = take_text(from, files[i].name);
    uint8_t *digest = take(from, GD_SHA256_BYTES);
    if (!from->memory) continue;
    memcpy(digest, files[i].sha256, GD_SHA256_BYTES);
    messages[i].name = name;
    SET(&messages[i], bytes, files[i].bytes);
    messages[i].has_sha256 = 1;
    messages[i].sha256 = (ProtobufCBinaryData){GD_SHA256_BYTES, digest};
  }
  return list;
}

static void put_boxes(pool *from, const gd_manifest *in, Gptdist__Manifest *out) {
  Gptdist__Box *boxes, **list;
  TAKE_LIST(from, Gptdist__Box, gptdist__box__init, in->box_count, list, boxes);
  if (!from->memory) return;
  for (int32_t i = 0; i < in->box_count; i++) {
    const gd_stored_box *box = &in->boxes[i];
    SET(&boxes[i], file, (uint32_t)box->file);
    SET(&boxes[i], tensor, (uint32_t)box->tensor);
    SET(&boxes[i], kind, (uint32_t)box->kind);
    SET(&boxes[i], offset, box->offset);
    SET(&boxes[i], row, box->box.row);
    SET(&boxes[i], rows, box->box.rows);
    SET(&boxes[i], col, box->box.col);
    SET(&boxes[i], cols, box->box.cols);
  }
  out->n_boxes = (size_t)in->box_count;
  out->boxes = list;
}

static bool any_frozen(const gd_manifest *manifest) {
  for (int32_t i = 0; i < manifest->tensor_count; i++)
    if (manifest->tensors[i].frozen) return true;
  return false;
}

static void put_base(pool *from, const gd_manifest *in, Gptdist__Manifest *out) {
  if (!in->base.path[0]) return;
  Gptdist__Base *base = take(from, sizeof *base);
  char *path = take_text(from, in->base.path);
  uint8_t *digest = take(from, GD_SHA256_BYTES);
  if (!from->memory) return;
  gptdist__base__init(base);
  memcpy(digest, in->base.sha256, GD_SHA256_BYTES);
  base->path = path;
  base->has_sha256 = 1;
  base->sha256 = (ProtobufCBinaryData){GD_SHA256_BYTES, digest};
  out->began_with = base;
}

/* task: as JSON text, "": none. */
static void put_all(pool *from, const gd_manifest *in, const char *task, Gptdist__Manifest *out) {
  gptdist__manifest__init(out);
  SET(out, format_version, gd_run_state_waits(&in->state) ? 3 : any_frozen(in) ? 2 : 1);
  SET(out, numbers_version, (uint32_t)in->numbers_version);
  out->gptdist_version = take_text(from, in->gptdist_version);
  put_state(from, in, out);
  put_spec(from, in, out);
  put_tensors(from, in, out);
  out->n_files = (size_t)in->file_count;
  out->files = put_files(from, in->files, in->file_count);
  out->n_tokenizer = (size_t)in->tokenizer_count;
  out->tokenizer = put_files(from, in->tokenizer, in->tokenizer_count);
  put_boxes(from, in, out);
  if (*task) out->task = take_text(from, task);
  put_base(from, in, out);
}

/* "": plain text. */
static gd_status task_text(const gd_data_task *task, gd_bytes *out) {
  if (task->kind == GD_TASK_LM) return gd_bytes_append(out, "", 0);
  GD_TRY(gd_data_task_write(task, out)); /* ", ..." as a part of an object */
  out->bytes[0] = '{';
  return gd_bytes_append(out, "}", 1);
}

gd_status gd_manifest_encode(const gd_manifest *manifest, gd_bytes *out) {
  Gptdist__Manifest message;
  pool memory = {0};
  gd_bytes task = {0};
  gd_status status = task_text(&manifest->task, &task);
  if (status == GD_OK) {
    put_all(&memory, manifest, task.bytes, &message); /* counts */
    memory.memory = malloc(memory.used + 16);
    if (!memory.memory) status = gd_fail(GD_NO_MEMORY, "no memory for a manifest of %zu bytes", memory.used);
  }
  if (status != GD_OK) {
    gd_bytes_free(&task);
    return status;
  }
  memory.used = 0;
  put_all(&memory, manifest, task.bytes, &message);
  gd_bytes_free(&task);
  size_t bytes = gptdist__manifest__get_packed_size(&message);
  status = gd_bytes_reserve(out, bytes);
  if (status == GD_OK) {
    out->count += gptdist__manifest__pack(&message, (uint8_t *)out->bytes + out->count);
    out->bytes[out->count] = 0;
  }
  free(memory.memory);
  return status;
}

/* ---- decode ---- */

static bool get_text(char *out, size_t size, const char *text) {
  if (!text || strlen(text) >= size) return false;
  for (const char *at = text; *at; at++)
    if ((unsigned char)*at < 0x20 || (unsigned char)*at == 0x7f) return false;
  memcpy(out, text, strlen(text) + 1);
  return true;
}

static gd_status get_state(const char *path, const Gptdist__Manifest *in, gd_manifest *out) {
  const Gptdist__RunState *s = in->state;
  const Gptdist__Mesh *m = in->mesh;
  if (!s || !s->has_step || !s->has_tokens || !s->has_draws || !s->has_applied_steps || !s->has_bad_steps)
    return gd_fail_user(GD_BAD_DATA, "%s: the run state is not complete", path);
  if (s->step < 0 || s->tokens < 0 || s->draws < 0 || s->applied_steps < 0 || s->applied_steps > s->step || s->bad_steps < 0)
    return gd_fail_user(GD_BAD_DATA, "%s: the run state holds impossible counts (step %" PRId64 ")", path, s->step);
  gd_metric metric = gd_metric_find(s->metric ? s->metric : gd_metric_look(GD_METRIC_LOSS)->name);
  if (metric == GD_METRICS)
    return gd_fail_user(GD_BAD_DATA, "%s: the run follows a metric that this version does not know", path);
  if (s->wait < 0 || s->lr_wait < 0 || (s->has_lr_factor && !(s->lr_factor >= 0 && s->lr_factor <= 1)))
    return gd_fail_user(GD_BAD_DATA, "%s: the run state holds impossible waits", path);
  out->state = (gd_run_state){.step = s->step,
                              .tokens = s->tokens,
                              .draws = s->draws,
                              .applied_steps = s->applied_steps,
                              .bad_steps = s->bad_steps,
                              .best_validation = s->has_best_validation ? s->best_validation : (double)INFINITY,
                              .best_step = s->has_best_step ? s->best_step : -1,
                              .metric = metric,
                              .wait = s->wait,
                              .lr_wait = s->lr_wait,
                              .lr_factor = s->has_lr_factor ? s->lr_factor : 1};
  out->state.validated_step = s->has_validated_step ? s->validated_step : out->state.best_step;
  if (!m || !m->has_data || !m->has_pipeline || !m->has_context || !m->has_tensor)
    return gd_fail_user(GD_BAD_DATA, "%s: the mesh is not complete", path);
  uint64_t ranks = 1;
  const uint32_t sizes[] = {m->data, m->pipeline, m->context, m->tensor};
  for (int i = 0; i < 4; i++) {
    if (sizes[i] < 1 || sizes[i] > (1u << 20)) return gd_fail_user(GD_BAD_DATA, "%s: a mesh axis of %u", path, sizes[i]);
    ranks *= sizes[i];
    if (ranks > (1u << 24)) return gd_fail_user(GD_BAD_DATA, "%s: a mesh of too many ranks", path);
  }
  out->mesh.size[GD_AXIS_DATA] = (int32_t)m->data;
  out->mesh.size[GD_AXIS_PIPELINE] = (int32_t)m->pipeline;
  out->mesh.size[GD_AXIS_CONTEXT] = (int32_t)m->context;
  out->mesh.size[GD_AXIS_TENSOR] = (int32_t)m->tensor;
  out->mesh.ranks = (int32_t)ranks;
  return GD_OK;
}

/* Keys that a newer version added are skipped with a line in the log; keys that an older one lacked keep their defaults. */
static gd_status get_spec(const char *path, const Gptdist__Manifest *in, gd_manifest *out) {
  gd_config_defaults(&out->spec);
  for (size_t i = 0; i < in->n_spec; i++) {
    const Gptdist__Setting *setting = in->spec[i];
    if (!setting->key || !setting->value) return gd_fail_user(GD_BAD_DATA, "%s: a setting without key or value", path);
    const gd_config_key *key = gd_config_find(setting->key);
    if (!key) {
      gd_log(GD_LOG_WARNING, "%s: the setting %.64s is not known to this version and is left out", path, setting->key);
      continue;
    }
    char where[GD_PATH_BYTES + 96];
    snprintf(where, sizeof where, "%s: %s", path, key->name);
    gd_status status = gd_config_set(key, setting->value, where, &out->spec);
    if (status == GD_USAGE) return gd_error_context(GD_BAD_DATA, "in the settings of the checkpoint's manifest");
    GD_TRY(status);
  }
  return GD_OK;
}

static gd_status get_imported(const char *path, const Gptdist__Manifest *in, gd_manifest *out) {
  size_t there = 0;
  for (size_t i = 0; i < in->n_tensors; i++) there += in->tensors[i]->has_imported ? 1 : 0;
  if (!there) return GD_OK;
  out->imported = calloc(in->n_tensors, sizeof *out->imported);
  if (!out->imported) return gd_fail(GD_NO_MEMORY, "no memory for %zu tensors", in->n_tensors);
  for (size_t i = 0; i < in->n_tensors; i++) {
    if (!in->tensors[i]->has_imported || in->tensors[i]->imported > IMPORTED_MOST)
      return gd_fail_user(GD_BAD_DATA, "%s: the element type that %s was imported from is missing or not known", path,
                          out->tensors[i].name);
    out->imported[i] = (uint8_t)in->tensors[i]->imported;
  }
  return GD_OK;
}

static gd_status get_tensors(const char *path, const Gptdist__Manifest *in, gd_manifest *out) {
  if (in->n_tensors > MOST_TENSORS) return gd_fail_user(GD_BAD_DATA, "%s: %zu tensors", path, in->n_tensors);
  out->tensors = calloc(in->n_tensors + 1, sizeof *out->tensors);
  if (!out->tensors) return gd_fail(GD_NO_MEMORY, "no memory for %zu tensors", in->n_tensors);
  for (size_t i = 0; i < in->n_tensors; i++) {
    const Gptdist__Tensor *from = in->tensors[i];
    gd_tensor *to = &out->tensors[i];
    if (!get_text(to->name, sizeof to->name, from->name) || !to->name[0])
      return gd_fail_user(GD_BAD_DATA, "%s: tensor %zu has no proper name", path, i);
    if (!from->has_dims || !from->has_rows || !from->has_cols || from->dims < 1 || from->dims > 2 || from->rows < 1 ||
        from->cols < 1 || from->rows > INT64_MAX / 16 / from->cols || (from->dims == 1 && from->cols != 1))
      return gd_fail_user(GD_BAD_DATA, "%s: %s has no proper shape", path, to->name);
    if (i && strcmp(out->tensors[i - 1].name, to->name) >= 0)
      return gd_fail_user(GD_BAD_DATA, "%s: tensors are not in ascending order at %s", path, to->name);
    to->dims = (int32_t)from->dims;
    to->rows = from->rows;
    to->cols = from->cols;
    to->frozen = from->has_frozen && from->frozen;
    if (to->frozen && in->format_version < 2)
      return gd_fail_user(GD_BAD_DATA, "%s: %s is frozen, which format version 1 does not know", path, to->name);
  }
  GD_TRY(get_imported(path, in, out));
  out->tensor_count = (int32_t)in->n_tensors;
  return GD_OK;
}

static gd_status get_files(const char *path, Gptdist__File **in, size_t count, gd_manifest_file **files, int32_t *file_count) {
  if (count > MOST_FILES) return gd_fail_user(GD_BAD_DATA, "%s: %zu files", path, count);
  *files = calloc(count + 1, sizeof **files);
  if (!*files) return gd_fail(GD_NO_MEMORY, "no memory for %zu files", count);
  for (size_t i = 0; i < count; i++) {
    gd_manifest_file *to = &(*files)[i];
    if (!get_text(to->name, sizeof to->name, in[i]->name) || !to->name[0] || to->name[0] == '.' || strchr(to->name, '/') ||
        strchr(to->name, '\\'))
      return gd_fail_user(GD_BAD_DATA, "%s: file %zu has no proper name", path, i);
    if (!in[i]->has_bytes || in[i]->bytes < 0 || !in[i]->has_sha256 || in[i]->sha256.len != GD_SHA256_BYTES)
      return gd_fail_user(GD_BAD_DATA, "%s: %s has no size or digest", path, to->name);
    to->bytes = in[i]->bytes;
    memcpy(to->sha256, in[i]->sha256.data, GD_SHA256_BYTES);
  }
  *file_count = (int32_t)count;
  return GD_OK;
}

static gd_status get_boxes(const char *path, const Gptdist__Manifest *in, gd_manifest *out) {
  if (in->n_boxes > MOST_BOXES) return gd_fail_user(GD_BAD_DATA, "%s: %zu boxes", path, in->n_boxes);
  out->boxes = calloc(in->n_boxes + 1, sizeof *out->boxes);
  if (!out->boxes) return gd_fail(GD_NO_MEMORY, "no memory for %zu boxes", in->n_boxes);
  for (size_t i = 0; i < in->n_boxes; i++) {
    const Gptdist__Box *b = in->boxes[i];
    if (!b->has_file || !b->has_tensor || !b->has_kind || !b->has_offset || !b->has_row || !b->has_rows || !b->has_col ||
        !b->has_cols || b->file >= (uint32_t)out->file_count || b->tensor >= (uint32_t)out->tensor_count || b->kind >= KINDS)
      return gd_fail_user(GD_BAD_DATA, "%s: box %zu is not complete or names no file or tensor", path, i);
    const gd_tensor *tensor = &out->tensors[b->tensor];
    if (b->row < 0 || b->rows < 1 || b->rows > tensor->rows - b->row || b->col < 0 || b->cols < 1 ||
        b->cols > tensor->cols - b->col || b->offset < 0 || b->offset > out->files[b->file].bytes / 4 - b->rows * b->cols)
      return gd_fail_user(GD_BAD_DATA, "%s: box %zu (of %s) lies outside its tensor or file", path, i, tensor->name);
    out->boxes[i] = (gd_stored_box){.tensor = (int32_t)b->tensor,
                                    .kind = (int32_t)b->kind,
                                    .file = (int32_t)b->file,
                                    .offset = b->offset,
                                    .box = {b->row, b->rows, b->col, b->cols}};
  }
  out->box_count = (int32_t)in->n_boxes;
  gd_status status = gd_manifest_check_boxes(out);
  return status == GD_BAD_DATA ? gd_error_context(status, "in %s", path) : status;
}

static gd_status get_task(const char *path, const Gptdist__Manifest *in, gd_manifest *out) {
  gd_json *json = NULL;
  if (!in->task) return GD_OK;
  gd_status status = gd_json_parse(in->task, strlen(in->task), path, 1, &json);
  if (status == GD_OK) status = gd_data_task_read(json, path, &out->task);
  gd_json_free(json);
  return status;
}

static gd_status get_base(const char *path, const Gptdist__Manifest *in, gd_manifest *out) {
  if (!in->began_with) return GD_OK;
  if (!get_text(out->base.path, sizeof out->base.path, in->began_with->path) || !in->began_with->has_sha256 ||
      in->began_with->sha256.len != GD_SHA256_BYTES)
    return gd_fail_user(GD_BAD_DATA, "%s: a base without path or digest", path);
  memcpy(out->base.sha256, in->began_with->sha256.data, GD_SHA256_BYTES);
  return GD_OK;
}

static gd_status get_all(const char *path, const Gptdist__Manifest *in, gd_manifest *out) {
  if (!in->has_format_version) return gd_fail_user(GD_BAD_DATA, "%s: not a gptdist manifest", path);
  if (in->format_version < 1 || in->format_version > GD_MANIFEST_VERSION)
    return gd_fail_user(GD_BAD_DATA, "%s: format version %u, this program reads versions 1 to %d", path, in->format_version,
                        GD_MANIFEST_VERSION);
  out->numbers_version = in->has_numbers_version ? (int32_t)in->numbers_version : 1;
  if (out->numbers_version < 1)
    return gd_fail_user(GD_BAD_DATA, "%s: numbers version %d, expected at least 1", path, out->numbers_version);
  if (in->gptdist_version && !get_text(out->gptdist_version, sizeof out->gptdist_version, in->gptdist_version))
    return gd_fail_user(GD_BAD_DATA, "%s: an improper version text", path);
  if (in->machine) {
    if (in->machine->host) snprintf(out->host, sizeof out->host, "%s", in->machine->host);
    if (in->machine->isa) snprintf(out->isa, sizeof out->isa, "%s", in->machine->isa);
    if (in->machine->hdf5_version) snprintf(out->hdf5_version, sizeof out->hdf5_version, "%s", in->machine->hdf5_version);
  }
  GD_TRY(get_state(path, in, out));
  GD_TRY(get_spec(path, in, out));
  GD_TRY(get_task(path, in, out));
  GD_TRY(get_base(path, in, out));
  GD_TRY(get_tensors(path, in, out));
  GD_TRY(get_files(path, in->files, in->n_files, &out->files, &out->file_count));
  GD_TRY(get_files(path, in->tokenizer, in->n_tokenizer, &out->tokenizer, &out->tokenizer_count));
  return get_boxes(path, in, out);
}

/* Memory for a message, as protobuf-c asks for it: so much and no more. A message of nothing takes two bytes in the file and
 * 150 here, one that says something is a tenth of that. */
typedef struct budget {
  size_t left;
  bool exceeded;
} budget;

static void *take_some(void *context, size_t bytes) {
  budget *of = context;
  of->exceeded = of->exceeded || bytes > of->left;
  if (of->exceeded) return NULL;
  of->left -= bytes;
  return malloc(bytes);
}

static void give_back(void *context, void *pointer) {
  (void)context;
  free(pointer);
}

gd_status gd_manifest_decode(const char *path, const void *bytes, size_t count, gd_manifest *out) {
  *out = (gd_manifest){0};
  const size_t most = 16 * count + (1 << 20);
  budget memory = {most, false};
  ProtobufCAllocator allocator = {take_some, give_back, &memory};
  Gptdist__Manifest *message = gptdist__manifest__unpack(&allocator, count, bytes);
  if (!message && memory.exceeded)
    return gd_fail_user(GD_BAD_DATA, "%s: found %zu bytes that unpack to more than %zu, as no gptdist manifest does", path,
                        count, most);
  if (!message) return gd_fail_user(GD_BAD_DATA, "%s: not a gptdist manifest", path);
  gd_status status = get_all(path, message, out);
  gptdist__manifest__free_unpacked(message, &allocator);
  if (status != GD_OK) gd_manifest_free(out);
  return status;
}

/* ---- the two files ---- */

static gd_status put_sum(const uint8_t digest[GD_SHA256_BYTES], const char *folder, const char *name, gd_bytes *out) {
  char hex[GD_SHA256_HEX_BYTES];
  gd_sha256_hex(digest, hex);
  return gd_bytes_printf(out, "%s  %s%s\n", hex, folder, name);
}

gd_status gd_manifest_sums(const gd_manifest *manifest, const void *bytes, size_t count, gd_bytes *out) {
  uint8_t digest[GD_SHA256_BYTES];
  for (int32_t i = 0; i < manifest->file_count; i++)
    GD_TRY(put_sum(manifest->files[i].sha256, "", manifest->files[i].name, out));
  for (int32_t i = 0; i < manifest->tokenizer_count; i++)
    GD_TRY(put_sum(manifest->tokenizer[i].sha256, GD_MANIFEST_TOKENIZER "/", manifest->tokenizer[i].name, out));
  GD_TRY(gd_sha256_bytes(bytes, count, digest));
  return put_sum(digest, "", GD_MANIFEST_NAME, out);
}

/* Writes and reads back: the digests would miss a bit that turned on the way until they are needed. */
static gd_status write_and_compare(const char *folder, const char *name, const gd_bytes *bytes) {
  char path[GD_PATH_BYTES];
  gd_bytes found = {0};
  GD_TRY(gd_path_join(path, sizeof path, folder, name));
  GD_TRY(gd_file_write(path, bytes->bytes, bytes->count));
  gd_status status = gd_file_read(path, bytes->count, &found);
  if (status == GD_OK && (found.count != bytes->count || memcmp(found.bytes, bytes->bytes, found.count) != 0))
    status = gd_fail(GD_IO, "%s: what the disk holds is not what was written", path);
  gd_bytes_free(&found);
  return status;
}

gd_status gd_manifest_write(const gd_manifest *manifest, const char *folder) {
  gd_bytes bytes = {0}, sums = {0};
  gd_status status;
  GD_TRY_GOTO(status, done, gd_manifest_encode(manifest, &bytes));
  GD_TRY_GOTO(status, done, gd_manifest_sums(manifest, bytes.bytes, bytes.count, &sums));
  GD_TRY_GOTO(status, done, write_and_compare(folder, GD_MANIFEST_NAME, &bytes));
  GD_TRY_GOTO(status, done, write_and_compare(folder, GD_MANIFEST_SUMS, &sums));
done:
  gd_bytes_free(&bytes);
  gd_bytes_free(&sums);
  return status;
}

gd_status gd_manifest_open(const char *folder, const gd_bytes *bytes, const gd_bytes *sums, gd_manifest *out) {
  char path[GD_PATH_BYTES], hex[GD_SHA256_HEX_BYTES], last[GD_SHA256_HEX_BYTES + sizeof GD_MANIFEST_NAME + 4];
  uint8_t digest[GD_SHA256_BYTES];
  *out = (gd_manifest){0};
  GD_TRY(gd_path_join(path, sizeof path, folder, GD_MANIFEST_NAME));
  GD_TRY(gd_sha256_bytes(bytes->bytes, bytes->count, digest));
  gd_sha256_hex(digest, hex);
  size_t length = (size_t)snprintf(last, sizeof last, "%s  %s\n", hex, GD_MANIFEST_NAME);
  if (sums->count < length || memcmp(sums->bytes + sums->count - length, last, length) != 0)
    return gd_fail_user(GD_BAD_DATA, "%s: does not match its digest in %s (SHA-256 found: %s)", path, GD_MANIFEST_SUMS, hex);
  GD_TRY(gd_manifest_decode(path, bytes->bytes, bytes->count, out));
  gd_bytes expected = {0};
  gd_status status = gd_manifest_sums(out, bytes->bytes, bytes->count, &expected);
  if (status == GD_OK && (expected.count != sums->count || memcmp(expected.bytes, sums->bytes, sums->count) != 0))
    status = gd_fail_user(GD_BAD_DATA, "%s/%s: does not list what %s lists", folder, GD_MANIFEST_SUMS, GD_MANIFEST_NAME);
  gd_bytes_free(&expected);
  if (status != GD_OK) gd_manifest_free(out);
  return status;
}
