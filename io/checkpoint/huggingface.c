/* huggingface.c - the tensors of a Hugging Face folder under the names of ours. */
#include "io/checkpoint/huggingface.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/checkpoint/huggingface_names.h"
#include "io/checkpoint/safetensors.h"
#include "shard/base/log.h"

enum { INDEX_LIMIT = 64 << 20, SLAB_ELEMS = 1 << 20, NAMES_SAID = 12 };

typedef struct shard {
  char *name;
  gd_safetensors *file;
} shard;

struct gd_huggingface {
  char folder[GD_PATH_BYTES];
  gd_huggingface_config config;
  const char *prefix; /* before their names: "transformer.", "model." or "" */
  shard *shards;
  int32_t shard_count;
  bool own_head; /* config.json ties the head, but the one that is stored is another */
};

/* ---- files ---- */

static gd_status open_shard(gd_huggingface *model, const char *name) {
  char path[GD_PATH_BYTES];
  for (int32_t i = 0; i < model->shard_count; i++)
    if (strcmp(model->shards[i].name, name) == 0) return GD_OK;
  if (!name[0] || name[0] == '.' || strchr(name, '/'))
    return gd_fail_user(GD_BAD_DATA, "%s/model.safetensors.index.json: %.64s is no proper file name", model->folder, name);
  GD_TRY(gd_path_join(path, sizeof path, model->folder, name));
  if (!gd_file_exists(path)) return gd_fail_user(GD_BAD_DATA, "%s: is missing", path);
  shard *grown = realloc(model->shards, ((size_t)model->shard_count + 1) * sizeof *grown);
  if (!grown) return gd_fail(GD_NO_MEMORY, "no memory for a list of files");
  model->shards = grown;
  grown[model->shard_count] = (shard){strdup(name), NULL};
  if (!grown[model->shard_count].name) return gd_fail(GD_NO_MEMORY, "no memory for a name");
  model->shard_count++;
  return gd_safetensors_open(path, &grown[model->shard_count - 1].file);
}

static gd_status open_files(gd_huggingface *model) {
  char path[GD_PATH_BYTES];
  GD_TRY(gd_path_join(path, sizeof path, model->folder, "model.safetensors"));
  if (gd_file_exists(path)) return open_shard(model, "model.safetensors");
  GD_TRY(gd_path_join(path, sizeof path, model->folder, "model.safetensors.index.json"));
  if (!gd_file_exists(path))
    return gd_fail_user(GD_BAD_DATA, "%s: found neither model.safetensors nor model.safetensors.index.json", model->folder);
  gd_json *root = NULL;
  GD_TRY(gd_json_read(path, INDEX_LIMIT, &root));
  const gd_json *map = gd_json_get(root, "weight_map");
  gd_status status = gd_json_is_object(map) ? GD_OK : gd_fail_user(GD_BAD_DATA, "%s: has no weight_map", path);
  for (const gd_json *entry = gd_json_first(map); status == GD_OK && entry; entry = gd_json_next(entry)) {
    const char *name = gd_json_string(entry);
    status = name ? open_shard(model, name) : gd_fail_user(GD_BAD_DATA, "%s: weight_map holds no file name", path);
  }
  gd_json_free(root);
  return status;
}

static const gd_safetensor *find(const gd_huggingface *model, const char *name, const gd_safetensors **file) {
  for (int32_t i = 0; i < model->shard_count; i++) {
    const gd_safetensor *tensor = gd_safetensors_find(model->shards[i].file, name);
    *file = model->shards[i].file;
    if (tensor) return tensor;
  }
  return NULL;
}

static gd_status find_prefix(gd_huggingface *model) {
  const char *table = model->config.llama ? "embed_tokens.weight" : "wte.weight";
  const char *prefix = model->config.llama ? "model." : "transformer.";
  const gd_safetensors *file;
  char name[GD_HUGGINGFACE_NAME_BYTES];
  snprintf(name, sizeof name, "%s%s", prefix, table);
  model->prefix = prefix;
  if (find(model, name, &file)) return GD_OK;
  model->prefix = "";
  if (find(model, table, &file)) return GD_OK;
  return gd_fail_user(GD_BAD_DATA, "%s: has no tensor %s (with or without \"%s\" before it)", model->folder, table, prefix);
}

/* ---- is everything used, and as what ---- */

static gd_status check_all_used(const gd_huggingface *model) {
  gd_bytes names = {0};
  gd_status status = GD_OK;
  int32_t unused = 0;
  for (int32_t i = 0; i < model->shard_count; i++) {
    int32_t count;
    const gd_safetensors *file;
    const gd_safetensor *list = gd_safetensors_list(model->shards[i].file, &count);
    for (int32_t t = 0; status == GD_OK && t < count; t++) {
      bool second = find(model, list[t].name, &file) && file != model->shards[i].file;
      if (!second && gd_huggingface_uses(&model->config, model->prefix, list[t].name)) continue;
      if (unused++ < NAMES_SAID) status = gd_bytes_printf(&names, "%s%.80s", unused > 1 ? ", " : "", list[t].name);
    }
  }
  if (status == GD_OK && unused > NAMES_SAID) status = gd_bytes_printf(&names, " and %d more", unused - NAMES_SAID);
  if (status == GD_OK && unused)
    status = gd_fail_user(GD_BAD_DATA, "%s: found tensors that the model of config.json (layers %d%s) has no use for: %s",
                          model->folder, model->config.model.layers, model->config.model.bias ? "" : ", no bias", names.bytes);
  gd_bytes_free(&names);
  return status;
}

/* The stored head, if there is one, has the embedding's elements. Compared as they are read, a slab of rows at a time. */
static gd_status compare_head(const gd_huggingface *model, const gd_safetensors *head_file, const gd_safetensor *head,
                              bool *equal) {
  char name[GD_HUGGINGFACE_NAME_BYTES];
  const gd_safetensors *table_file;
  (void)gd_huggingface_translate(&model->config, model->prefix, "token_embedding.weight", name);
  const gd_safetensor *table = find(model, name, &table_file);
  *equal =
      table && head->dims == 2 && table->dims == 2 && head->shape[0] == table->shape[0] && head->shape[1] == table->shape[1];
  if (!*equal || !head->shape[0] || !head->shape[1]) return GD_OK;
  int64_t rows = head->shape[0], cols = head->shape[1], step = SLAB_ELEMS / cols > 0 ? SLAB_ELEMS / cols : 1;
  float *slab = malloc(2 * (size_t)step * (size_t)cols * sizeof *slab);
  if (!slab) return gd_fail(GD_NO_MEMORY, "no memory to read %s", head->name);
  gd_status status = GD_OK;
  for (int64_t row = 0; status == GD_OK && *equal && row < rows; row += step) {
    gd_box box = {row, rows - row < step ? rows - row : step, 0, cols};
    size_t elems = (size_t)(box.rows * cols);
    status = gd_safetensors_read(head_file, head, box, slab);
    if (status == GD_OK) status = gd_safetensors_read(table_file, table, box, slab + elems);
    if (status == GD_OK) *equal = memcmp(slab, slab + elems, elems * sizeof *slab) == 0;
  }
  free(slab);
  return status;
}

/* A head that config.json ties, but that is stored and is another one, is the model's: it is what its training left. */
static gd_status settle_head(gd_huggingface *model) {
  bool equal = true;
  const gd_safetensors *file;
  const gd_safetensor *head = find(model, "lm_head.weight", &file);
  if (!model->config.model.tied_head || !head || model->config.model.classes) return GD_OK;
  GD_TRY(compare_head(model, file, head, &equal));
  model->own_head = !equal;
  model->config.model.tied_head = equal;
  return GD_OK;
}

gd_status gd_huggingface_open(const char *folder, gd_huggingface **out) {
  *out = NULL;
  gd_huggingface *model = calloc(1, sizeof *model);
  if (!model) return gd_fail(GD_NO_MEMORY, "no memory for a model");
  gd_status status = GD_OK;
  if ((size_t)snprintf(model->folder, sizeof model->folder, "%s", folder) >= sizeof model->folder)
    status = gd_fail_user(GD_USAGE, "the path %s is too long", folder);
  if (status == GD_OK) status = gd_huggingface_config_read(folder, &model->config);
  if (status == GD_OK) status = open_files(model);
  if (status == GD_OK) status = find_prefix(model);
  if (status == GD_OK) status = check_all_used(model);
  if (status == GD_OK) status = settle_head(model);
  if (status == GD_OK)
    *out = model;
  else
    gd_huggingface_close(model);
  return status;
}

void gd_huggingface_close(gd_huggingface *model) {
  if (!model) return;
  for (int32_t i = 0; i < model->shard_count; i++) {
    gd_safetensors_close(model->shards[i].file);
    free(model->shards[i].name);
  }
  free(model->shards);
  gd_huggingface_config_free(&model->config);
  free(model);
}

const gd_data_task *gd_huggingface_task(const gd_huggingface *model) {
  return &model->config.task;
}

gd_status gd_huggingface_spec(const gd_huggingface *model, gd_spec *spec) {
  gd_model_spec before = spec->model;
  spec->model = model->config.model;
  memcpy(spec->model.init_from, before.init_from, sizeof before.init_from);
  spec->model.dropout = before.dropout;
  spec->model.init_std = before.init_std;
  if (model->own_head)
    gd_log(GD_LOG_WARNING, "%s: lm_head.weight is not the token embedding, though config.json ties the two: it is used",
           model->folder);
  return GD_OK;
}

/* ---- boxes ---- */

/* Our box of a transposed tensor: their rows are our columns. A slab of their rows at a time. */
static gd_status read_transposed(const gd_safetensors *file, const gd_safetensor *tensor, gd_box box, int64_t first_out,
                                 float *out) {
  int64_t step = SLAB_ELEMS / box.rows > 0 ? SLAB_ELEMS / box.rows : 1;
  float *slab = malloc((size_t)(step < box.cols ? step : box.cols) * (size_t)box.rows * sizeof *slab);
  if (!slab) return gd_fail(GD_NO_MEMORY, "no memory to read %s", tensor->name);
  gd_status status = GD_OK;
  for (int64_t col = 0; status == GD_OK && col < box.cols; col += step) {
    int64_t cols = box.cols - col < step ? box.cols - col : step;
    status = gd_safetensors_read(file, tensor, (gd_box){box.col + col, cols, first_out + box.row, box.rows}, slab);
    for (int64_t c = 0; status == GD_OK && c < cols; c++)
      for (int64_t r = 0; r < box.rows; r++) out[r * box.cols + col + c] = slab[c * box.rows + r];
  }
  free(slab);
  return status;
}

/* The stored tensor that one of ours lies in, with the shape that config.json gives it. */
static gd_status find_stored(const gd_huggingface *model, const gd_tensor *ours, const gd_huggingface_rule **how,
                             const gd_safetensor **tensor, const gd_safetensors **file) {
  char name[GD_HUGGINGFACE_NAME_BYTES];
  *how = gd_huggingface_translate(&model->config, model->prefix, ours->name, name);
  if (!*how) return gd_fail_user(GD_BAD_DATA, "%s: a model of this kind has no %s", model->folder, ours->name);
  *tensor = find(model, name, file);
  if (!*tensor) return gd_fail_user(GD_BAD_DATA, "%s: has no tensor %s (for %s)", model->folder, name, ours->name);
  int64_t out = ours->rows * (*how)->parts, in = ours->cols;
  int64_t rows = (*how)->transposed ? in : out, cols = (*how)->transposed ? out : in;
  int64_t found_cols = (*tensor)->dims == 2 ? (*tensor)->shape[1] : 1;
  if ((*tensor)->dims == ours->dims && (*tensor)->shape[0] == rows && found_cols == cols) return GD_OK;
  return gd_fail_user(GD_BAD_DATA, "%s: %s is %" PRId64 " x %" PRId64 ", config.json makes it %" PRId64 " x %" PRId64,
                      model->folder, name, (*tensor)->dims ? (*tensor)->shape[0] : 1, found_cols, rows, cols);
}

static gd_status read_box(const gd_huggingface *model, const gd_tensor *ours, const gd_checkpoint_box *wanted) {
  const gd_safetensors *file = NULL;
  const gd_safetensor *tensor = NULL;
  const gd_huggingface_rule *how = NULL;
  GD_TRY(find_stored(model, ours, &how, &tensor, &file));
  gd_box box = wanted->box;
  if (box.row < 0 || box.rows > ours->rows - box.row || box.col < 0 || box.cols > ours->cols - box.col)
    return gd_fail(GD_BUG, "a box of %s lies outside it", ours->name);
  if (box.rows < 1 || box.cols < 1) return GD_OK;
  int64_t first_out = how->part * ours->rows;
  if (how->transposed) return read_transposed(file, tensor, box, first_out, wanted->data);
  box.row += first_out;
  return gd_safetensors_read(file, tensor, box, wanted->data);
}

gd_status gd_huggingface_dtype(const gd_huggingface *model, const gd_tensor *ours, gd_safetensors_dtype *out) {
  const gd_safetensors *file = NULL;
  const gd_safetensor *tensor = NULL;
  const gd_huggingface_rule *how = NULL;
  float nothing;
  GD_TRY(find_stored(model, ours, &how, &tensor, &file));
  *out = tensor->dtype;
  return gd_safetensors_read(file, tensor, (gd_box){0}, &nothing); /* refuses what is read as no float32 */
}

bool gd_huggingface_is_bfloat16(const gd_huggingface *model) {
  char name[GD_HUGGINGFACE_NAME_BYTES];
  const gd_safetensors *file;
  (void)gd_huggingface_translate(&model->config, model->prefix, "token_embedding.weight", name);
  const gd_safetensor *table = find(model, name, &file);
  return table && table->dtype == GD_SAFETENSORS_BF16;
}

gd_status gd_huggingface_read(const gd_huggingface *model, const gd_tensor *tensors, gd_checkpoint_box *boxes, int32_t count) {
  for (int32_t i = 0; i < count; i++) {
    if (boxes[i].kind != GD_KIND_WEIGHTS)
      return gd_fail_user(GD_BAD_DATA, "%s: a model folder holds no moments of the optimizer", model->folder);
    GD_TRY(read_box(model, &tensors[boxes[i].tensor], &boxes[i]));
  }
  return GD_OK;
}
