/* dataset.c - the samples of training and validation: windows of shards in a fixed order. */
#include "io/data/dataset.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/machine.h"
#include "io/base/files.h"
#include "io/data/order.h"
#include "io/data/rows.h"
#include "io/data/split.h"
#include "shard/base/log.h"

/* Rows of a task's source. The number of rows differs from epoch to epoch, so the epochs before are gone through once. */
typedef struct source_rows {
  int64_t *starts; /* [documents + 1] in the stream */
  gd_rows rows;    /* of `epoch` */
  int64_t epoch;   /* -1: of none yet */
  int64_t *begins; /* [known + 1] first row of each epoch, counted through all */
  int64_t known, capacity;
} source_rows;

struct gd_dataset {
  pthread_mutex_t mutex; /* the splits keep open files and a cache */
  int32_t sources;
  gd_split *splits[GD_MAX_SOURCES];
  int64_t windows[GD_MAX_SOURCES];
  source_rows rows[GD_MAX_SOURCES]; /* of a task */
  gd_mixture mixture;
  int32_t length; /* T */
  gd_sample_order order;
  uint64_t seed;
  bool mask_documents;
  bool pack;       /* of a task: several documents a row */
  bool validation; /* in stream order, once, the last window padded */
  char tokenizer_folder[GD_PATH_BYTES];
  char digest[GD_SHA256_HEX_BYTES];
  const gd_shard_check_cost *checked; /* shared with others; NULL before gd_dataset_check */
  int64_t check_shards;               /* all that are counted there */
  int32_t *scratch;                   /* [T + 1] */
  uint8_t *marks;                     /* [T] targets of a document */
  float *label_weights;               /* [label_count] or NULL */
};

/* ---- opening ---- */

/* `path` itself where it is a split folder, else path/name. */
static gd_status split_folder(const char *path, const char *name, char out[GD_PATH_BYTES]) {
  char index[GD_PATH_BYTES];
  GD_TRY(gd_path_join(index, sizeof index, path, "index.json"));
  if (gd_file_exists(index)) {
    if ((size_t)snprintf(out, GD_PATH_BYTES, "%s", path) >= GD_PATH_BYTES)
      return gd_fail_user(GD_USAGE, "%s: path too long", path);
    return GD_OK;
  }
  GD_TRY(gd_path_named(path, GD_PATH_FOLDER, "a dataset written by gptdist-data prepare"));
  GD_TRY(gd_path_join(out, GD_PATH_BYTES, path, name));
  if (!gd_folder_exists(out))
    return gd_fail_user(GD_BAD_DATA, "%s: no %s/ in it, expected a dataset written by gptdist-data prepare", path, name);
  return GD_OK;
}

static gd_status allocate(int32_t length, gd_dataset **out) {
  gd_dataset *dataset = calloc(1, sizeof *dataset);
  *out = dataset;
  if (!dataset) return gd_fail(GD_NO_MEMORY, "no memory for a dataset");
  pthread_mutex_init(&dataset->mutex, NULL);
  dataset->length = length;
  dataset->scratch = calloc((size_t)length + 1, sizeof *dataset->scratch);
  dataset->marks = calloc((size_t)length, sizeof *dataset->marks);
  if (!dataset->scratch || !dataset->marks) return gd_fail(GD_NO_MEMORY, "no memory for a window of %d tokens", length);
  return GD_OK;
}

static bool is_rows(const gd_dataset *dataset) {
  return gd_dataset_task(dataset)->kind != GD_TASK_LM;
}

/* Makes the rows of an epoch of source k; where it is the next unknown one, the begin of the epoch behind it is known then. */
static gd_status make_rows(gd_dataset *dataset, int32_t k, int64_t epoch) {
  source_rows *at = &dataset->rows[k];
  if (at->epoch == epoch) return GD_OK;
  gd_rng rng = gd_rng_make(dataset->seed, GD_RNG_DATA, (uint32_t)k, 2, (uint64_t)epoch);
  gd_rows_free(&at->rows);
  at->epoch = -1;
  GD_TRY(gd_rows_make(at->starts, gd_split_info(dataset->splits[k])->documents, dataset->length, dataset->pack,
                      dataset->order == GD_ORDER_SHUFFLED ? &rng : NULL, &at->rows));
  at->epoch = epoch;
  if (epoch < at->known) return GD_OK;
  if (at->known + 2 > at->capacity) {
    int64_t capacity = 2 * at->capacity + 16;
    int64_t *begins = realloc(at->begins, (size_t)capacity * sizeof *begins);
    if (!begins) return gd_fail(GD_NO_MEMORY, "no memory for %lld epochs", (long long)capacity);
    at->begins = begins;
    at->capacity = capacity;
  }
  if (!epoch) at->begins[0] = 0;
  at->begins[++at->known] = at->begins[epoch] + at->rows.count;
  return GD_OK;
}

/* Row `index` of a source, counted through all epochs: the rows of its epoch are there then. */
static gd_status find_row(gd_dataset *dataset, int32_t k, int64_t index, int64_t *epoch, int64_t *row) {
  source_rows *at = &dataset->rows[k];
  while (at->begins[at->known] <= index) GD_TRY(make_rows(dataset, k, at->known));
  int64_t low = 0, high = at->known - 1; /* the last epoch that begins at or before the row */
  while (low < high) {
    int64_t middle = low + (high - low + 1) / 2;
    if (at->begins[middle] <= index)
      low = middle;
    else
      high = middle - 1;
  }
  *epoch = low;
  *row = index - at->begins[low];
  return make_rows(dataset, k, low);
}

static gd_status open_rows(gd_dataset *dataset, int32_t k) {
  gd_split *split = dataset->splits[k];
  const gd_data_task *task = gd_split_task(split);
  int64_t documents = gd_split_info(split)->documents;
  if (dataset->order == GD_ORDER_RANDOM_OFFSET)
    return gd_fail_user(
        GD_USAGE, "%s: holds examples of a task, which have no random offsets; expected batch.order shuffled or sequential",
        gd_split_folder(split));
  if (!documents) return gd_fail_user(GD_BAD_DATA, "%s: holds no example", gd_split_folder(split));
  if (task->longest > dataset->length)
    return gd_fail_user(
        GD_USAGE,
        "%s: its longest example has %d tokens, expected at most the %d of a sequence; prepare it with --max-tokens %d",
        gd_split_folder(split), task->longest, dataset->length, dataset->length);
  source_rows *at = &dataset->rows[k];
  at->epoch = -1;
  at->starts = malloc(((size_t)documents + 1) * sizeof *at->starts);
  if (!at->starts) return gd_fail(GD_NO_MEMORY, "no memory for %lld documents", (long long)documents);
  GD_TRY(gd_split_documents(split, at->starts));
  GD_TRY(make_rows(dataset, k, 0));
  dataset->windows[k] = at->rows.count;
  return GD_OK;
}

static gd_status open_source(gd_dataset *dataset, const char *folder, float weight, gd_sha256 *sha256) {
  int32_t k = dataset->sources;
  GD_TRY(gd_split_open(folder, &dataset->splits[k]));
  dataset->sources++;
  const gd_token_shard_info *info = gd_split_info(dataset->splits[k]), *first = gd_split_info(dataset->splits[0]);
  if (strcmp(info->tokenizer_digest, first->tokenizer_digest) != 0 || info->vocabulary != first->vocabulary)
    return gd_fail_user(GD_USAGE, "%s was made with tokenizer %s (%.12s), %s with %s (%.12s); all sources need the same one",
                        folder, info->tokenizer, info->tokenizer_digest, gd_split_folder(dataset->splits[0]), first->tokenizer,
                        first->tokenizer_digest);
  if (!gd_data_task_equal(gd_split_task(dataset->splits[k]), gd_split_task(dataset->splits[0])))
    return gd_fail_user(GD_USAGE, "%s is for another task (%s) than %s (%s), or has other labels or another template", folder,
                        gd_data_task_name(gd_split_task(dataset->splits[k])->kind), gd_split_folder(dataset->splits[0]),
                        gd_data_task_name(gd_dataset_task(dataset)->kind));
  if (is_rows(dataset)) {
    GD_TRY(open_rows(dataset, k));
    GD_TRY(gd_sha256_update(sha256, gd_split_digest(dataset->splits[k]), GD_SHA256_HEX_BYTES));
    return gd_sha256_update(sha256, &weight, sizeof weight);
  }
  int64_t least = dataset->validation ? 2 : (int64_t)dataset->length + 1;
  if (info->tokens < least)
    return gd_fail_user(GD_USAGE, "%s: holds %lld tokens, expected at least %lld for sequences of %d", folder,
                        (long long)info->tokens, (long long)least, dataset->length);
  int64_t targets = info->tokens - 1, length = dataset->length;
  dataset->windows[k] = dataset->validation ? (targets + length - 1) / length : targets / length;
  GD_TRY(gd_sha256_update(sha256, gd_split_digest(dataset->splits[k]), GD_SHA256_HEX_BYTES));
  return gd_sha256_update(sha256, &weight, sizeof weight);
}

static gd_status finish_open(gd_dataset *dataset, gd_sha256 *sha256) {
  uint8_t digest[GD_SHA256_BYTES];
  GD_TRY(gd_sha256_finish(sha256, digest));
  gd_sha256_hex(digest, dataset->digest);
  const char *folder = gd_split_folder(dataset->splits[0]);
  char *out = dataset->tokenizer_folder, beside[GD_PATH_BYTES];
  GD_TRY(gd_path_join(beside, sizeof beside, folder, ".."));
  GD_TRY(gd_path_join(out, sizeof dataset->tokenizer_folder, beside, "tokenizer"));
  if (!gd_folder_exists(out)) GD_TRY(gd_path_join(out, sizeof dataset->tokenizer_folder, folder, "tokenizer"));
  return GD_OK;
}

gd_status gd_dataset_open(const gd_data_spec *data, int32_t length, gd_sample_order order, uint64_t seed, bool pack,
                          gd_dataset **out) {
  *out = NULL;
  if (data->sources < 1)
    return gd_fail_user(GD_USAGE, "data.path is empty, expected a dataset written by gptdist-data prepare");
  if (length < 1 || data->sources > GD_MAX_SOURCES) return gd_fail(GD_BUG, "length %d, %d sources", length, data->sources);
  gd_dataset *dataset;
  gd_sha256 *sha256 = NULL;
  gd_status status = allocate(length, &dataset);
  if (status == GD_OK) status = gd_sha256_open(&sha256);
  if (status == GD_OK) {
    dataset->order = order;
    dataset->seed = seed;
    dataset->mask_documents = data->mask_documents;
    dataset->pack = pack;
    gd_mixture_make(&dataset->mixture, data->weight, data->sources);
  }
  for (int32_t k = 0; status == GD_OK && k < data->sources; k++) {
    char folder[GD_PATH_BYTES];
    status = split_folder(data->path[k], "train", folder);
    if (status == GD_OK) status = open_source(dataset, folder, data->weight[k], sha256);
  }
  if (status == GD_OK) status = finish_open(dataset, sha256);
  gd_sha256_close(sha256);
  if (status == GD_OK)
    *out = dataset;
  else
    gd_dataset_close(dataset);
  return status;
}

gd_status gd_dataset_open_split(const char *folder, int32_t length, bool mask_documents, bool pack, gd_dataset **out) {
  *out = NULL;
  if (length < 1) return gd_fail(GD_BUG, "length %d", length);
  gd_dataset *dataset;
  gd_sha256 *sha256 = NULL;
  gd_status status = allocate(length, &dataset);
  if (status == GD_OK) status = gd_sha256_open(&sha256);
  if (status == GD_OK) {
    const float whole = 1;
    dataset->order = GD_ORDER_SEQUENTIAL;
    dataset->validation = true;
    dataset->mask_documents = mask_documents;
    dataset->pack = pack;
    gd_mixture_make(&dataset->mixture, &whole, 1);
    status = open_source(dataset, folder, whole, sha256);
  }
  if (status == GD_OK) status = finish_open(dataset, sha256);
  gd_sha256_close(sha256);
  if (status == GD_OK)
    *out = dataset;
  else
    gd_dataset_close(dataset);
  return status;
}

gd_status gd_dataset_open_validation(const gd_data_spec *data, int32_t length, bool pack, gd_dataset **out) {
  *out = NULL;
  char folder[GD_PATH_BYTES];
  if (data->validation[0]) {
    GD_TRY(split_folder(data->validation, "validation", folder));
  } else {
    if (data->sources < 1) return GD_OK;
    GD_TRY(gd_path_join(folder, sizeof folder, data->path[0], "validation"));
    if (!gd_folder_exists(folder)) return GD_OK;
  }
  return gd_dataset_open_split(folder, length, data->mask_documents, pack, out);
}

/* ---- checking ---- */

/* Records of all shards of some datasets, as the ranks of a host share them. */
typedef struct check_table {
  gd_shard_check_cost cost;
  gd_shard_check check[];
} check_table;

/* Split `at` of those of all datasets, in order; NULL behind the last. */
static gd_split *split_of(gd_dataset *const *datasets, int32_t count, int32_t at) {
  for (int32_t d = 0; d < count; d++) {
    if (!datasets[d]) continue;
    if (at < datasets[d]->sources) return datasets[d]->splits[at];
    at -= datasets[d]->sources;
  }
  return NULL;
}

static void share_checks(gd_dataset *const *datasets, int32_t count, int64_t shards, check_table *table) {
  int64_t first = 0;
  gd_split *split;
  for (int32_t s = 0; (split = split_of(datasets, count, s)); first += gd_split_shards(split), s++)
    gd_split_share_checks(split, &table->check[first], &table->cost);
  for (int32_t d = 0; d < count; d++) {
    if (!datasets[d]) continue;
    datasets[d]->checked = &table->cost;
    datasets[d]->check_shards = shards;
  }
}

/* Each rank of a host begins elsewhere and goes round; what another did or is at is passed over. */
static gd_status check_some(const gd_session *session, gd_dataset *const *datasets, int32_t count, int64_t shards,
                            double until) {
  int64_t begin = shards * gd_session_local_rank(session) / gd_session_local_ranks(session);
  for (int64_t i = 0; i < shards && gd_machine_seconds() < until; i++) {
    int64_t at = (begin + i) % shards;
    gd_split *split;
    int32_t s = 0;
    for (; (split = split_of(datasets, count, s)) && at >= gd_split_shards(split); s++) at -= gd_split_shards(split);
    if (split) GD_TRY(gd_split_check(split, (int32_t)at));
  }
  return GD_OK;
}

gd_status gd_dataset_check(gd_session *session, gd_dataset *const *datasets, int32_t count, double seconds) {
  double start = gd_machine_seconds();
  int64_t shards = 0;
  gd_split *split;
  void *memory;
  for (int32_t s = 0; (split = split_of(datasets, count, s)); s++) shards += gd_split_shards(split);
  if (shards == 0) return GD_OK;
  GD_TRY(gd_session_share(session, sizeof(check_table) + (size_t)shards * sizeof(gd_shard_check), &memory));
  check_table *table = memory;
  share_checks(datasets, count, shards, table);
  GD_TRY(gd_session_agree(session, check_some(session, datasets, count, shards, start + seconds)));
  int64_t files = atomic_load(&table->cost.files);
  if (gd_session_rank(session) == 0)
    gd_log(GD_LOG_INFO, "data: %lld of %lld token shards have the SHA-256 of their index, %.3f GB compared in %.2f s%s",
           (long long)files, (long long)shards, (double)atomic_load(&table->cost.bytes) * 1e-9, gd_machine_seconds() - start,
           files < shards ? "; the others are compared before their first use" : "");
  return GD_OK;
}

void gd_dataset_get_checked(const gd_dataset *dataset, gd_dataset_checked *out) {
  *out = (gd_dataset_checked){0};
  if (!dataset->checked) return;
  *out = (gd_dataset_checked){.shards = atomic_load(&dataset->checked->files),
                              .of = dataset->check_shards,
                              .bytes = atomic_load(&dataset->checked->bytes),
                              .seconds = (double)atomic_load(&dataset->checked->nanoseconds) * 1e-9};
}

void gd_dataset_close(gd_dataset *dataset) {
  if (!dataset) return;
  for (int32_t k = 0; k < GD_MAX_SOURCES; k++) {
    gd_split_close(dataset->splits[k]);
    gd_rows_free(&dataset->rows[k].rows);
    free(dataset->rows[k].starts);
    free(dataset->rows[k].begins);
  }
  pthread_mutex_destroy(&dataset->mutex);
  free(dataset->scratch);
  free(dataset->marks);
  free(dataset->label_weights);
  free(dataset);
}

gd_batch_shape gd_dataset_batch_shape(const gd_dataset *dataset, int32_t sequences) {
  gd_batch_shape shape = {.sequences = sequences, .length = dataset->length};
  if (gd_dataset_task(dataset)->kind != GD_TASK_CLASSIFICATION) return shape;
  shape.documents = dataset->pack ? dataset->length : 1;
  shape.columns = gd_data_task_columns(gd_dataset_task(dataset));
  return shape;
}

gd_status gd_dataset_label_counts(gd_dataset *dataset, int64_t *counts) {
  memset(counts, 0, (size_t)gd_dataset_task(dataset)->label_count * sizeof *counts);
  if (gd_data_task_columns(gd_dataset_task(dataset)) != 1) return gd_fail(GD_BUG, "counts of several labels a document");
  for (int32_t k = 0; k < dataset->sources; k++)
    for (int64_t d = 0; d < gd_split_info(dataset->splits[k])->documents; d++) {
      float label;
      GD_TRY(gd_split_labels(dataset->splits[k], d, &label));
      counts[(int32_t)label]++;
    }
  return GD_OK;
}

gd_status gd_dataset_weigh_labels(gd_dataset *dataset, const float *weights) {
  size_t count = (size_t)gd_dataset_task(dataset)->label_count;
  free(dataset->label_weights);
  dataset->label_weights = malloc((count + 1) * sizeof *weights);
  if (!dataset->label_weights) return gd_fail(GD_NO_MEMORY, "no memory for the weights of %zu labels", count);
  memcpy(dataset->label_weights, weights, count * sizeof *weights);
  return GD_OK;
}

int32_t gd_dataset_length(const gd_dataset *dataset) {
  return dataset->length;
}

int64_t gd_dataset_tokens(const gd_dataset *dataset) {
  int64_t sum = 0;
  for (int32_t k = 0; k < dataset->sources; k++) sum += gd_split_info(dataset->splits[k])->tokens;
  return sum;
}

int64_t gd_dataset_documents(const gd_dataset *dataset) {
  int64_t sum = 0;
  for (int32_t k = 0; k < dataset->sources; k++) sum += gd_split_info(dataset->splits[k])->documents;
  return sum;
}

int64_t gd_dataset_windows(const gd_dataset *dataset) {
  int64_t sum = 0;
  for (int32_t k = 0; k < dataset->sources; k++) sum += dataset->windows[k];
  return sum;
}

const gd_data_task *gd_dataset_task(const gd_dataset *dataset) {
  return gd_split_task(dataset->splits[0]);
}

int32_t gd_dataset_vocabulary(const gd_dataset *dataset) {
  return gd_split_info(dataset->splits[0])->vocabulary;
}
const char *gd_dataset_tokenizer_folder(const gd_dataset *dataset) {
  return dataset->tokenizer_folder;
}
const char *gd_dataset_tokenizer(const gd_dataset *dataset) {
  return gd_split_info(dataset->splits[0])->tokenizer;
}
const char *gd_dataset_tokenizer_digest(const gd_dataset *dataset) {
  return gd_split_info(dataset->splits[0])->tokenizer_digest;
}
const char *gd_dataset_digest(const gd_dataset *dataset) {
  return dataset->digest;
}

/* ---- reading ---- */

/* *inside = false: the draw lies behind the end of a validation split. Of a task: the rows of its epoch are there then. */
static gd_status locate(gd_dataset *dataset, int64_t draw, gd_dataset_place *place, bool *inside) {
  int64_t index;
  *inside = true;
  gd_mixture_place(&dataset->mixture, draw, &place->source, &index);
  if (is_rows(dataset)) {
    const source_rows *at = &dataset->rows[place->source];
    if (dataset->validation && index >= dataset->windows[place->source]) {
      *inside = false;
      return GD_OK;
    }
    GD_TRY(find_row(dataset, place->source, index, &place->epoch, &place->window));
    place->token = at->starts[at->rows.example[at->rows.first[place->window]]];
    return GD_OK;
  }
  int64_t windows = dataset->windows[place->source];
  place->epoch = index / windows;
  place->window = index % windows;
  *inside = !dataset->validation || !place->epoch;
  if (dataset->order == GD_ORDER_SHUFFLED) {
    gd_rng rng = gd_rng_make(dataset->seed, GD_RNG_DATA, (uint32_t)place->source, 0, (uint64_t)place->epoch);
    place->window = gd_order_permute(&rng, windows, place->window);
  }
  place->token = place->window * dataset->length;
  if (dataset->order == GD_ORDER_RANDOM_OFFSET) {
    gd_rng rng = gd_rng_make(dataset->seed, GD_RNG_DATA, (uint32_t)place->source, 1, 0);
    int64_t starts = gd_split_info(dataset->splits[place->source])->tokens - dataset->length;
    place->window = -1;
    place->token = gd_order_uniform(&rng, starts, index);
  }
  return GD_OK;
}

/* A document of a task into a row of a batch, from index `at` on. */
static gd_status read_document(gd_dataset *dataset, gd_split *split, int64_t first, int32_t count, gd_batch *out, size_t at) {
  GD_TRY(gd_split_read(split, first, count, out->tokens + at));
  GD_TRY(gd_split_targets(split, first, count, dataset->marks));
  for (int32_t t = 0; t + 1 < count; t++) {
    if (!dataset->marks[t + 1]) continue;
    out->targets[at + (size_t)t] = out->tokens[at + (size_t)t + 1];
    out->weights[at + (size_t)t] = 1;
  }
  return GD_OK;
}

/* The labels of the `number`-th document of a row, whose last token is at `last`. */
static gd_status read_labels(gd_dataset *dataset, int32_t source, int64_t document, gd_batch *out, int32_t row, int32_t number,
                             int32_t last) {
  size_t at = (size_t)row * (size_t)out->documents + (size_t)number;
  float *labels = out->labels + at * (size_t)out->columns;
  out->label_rows[at] = last;
  GD_TRY(gd_split_labels(dataset->splits[source], document, labels));
  out->label_weights[at] = dataset->label_weights ? dataset->label_weights[(int32_t)labels[0]] : 1;
  return GD_OK;
}

static gd_status read_documents(gd_dataset *dataset, int64_t draw, gd_batch *out, int32_t row) {
  const size_t begin = (size_t)row * (size_t)dataset->length, size = (size_t)dataset->length;
  gd_dataset_place place = {0};
  bool inside;
  memset(out->tokens + begin, 0, size * sizeof *out->tokens);
  memset(out->targets + begin, 0, size * sizeof *out->targets);
  memset(out->weights + begin, 0, size * sizeof *out->weights);
  GD_TRY(locate(dataset, draw, &place, &inside));
  const source_rows *at = &dataset->rows[place.source];
  int32_t used = 0, documents = 0;
  for (int32_t d = 0; d < out->documents; d++) out->label_rows[(size_t)row * (size_t)out->documents + (size_t)d] = -1;
  for (int64_t i = inside ? at->rows.first[place.window] : 0; inside && i < at->rows.first[place.window + 1]; i++) {
    const int64_t *bounds = at->starts + at->rows.example[i];
    int32_t count = (int32_t)(bounds[1] - bounds[0]);
    GD_TRY(read_document(dataset, dataset->splits[place.source], bounds[0], count, out, begin + (size_t)used));
    for (int32_t t = 0; t < count; t++) out->document_starts[begin + (size_t)(used + t)] = used;
    used += count;
    if (out->documents) GD_TRY(read_labels(dataset, place.source, at->rows.example[i], out, row, documents++, used - 1));
  }
  for (int32_t t = used; t < dataset->length; t++) out->document_starts[begin + (size_t)t] = used;
  return GD_OK;
}

static gd_status read_row(gd_dataset *dataset, int64_t draw, gd_batch *out, int32_t row) {
  int32_t length = dataset->length;
  size_t at = (size_t)row * (size_t)length, size = (size_t)length;
  int32_t *tokens = out->tokens + at, *targets = out->targets + at, *starts = out->document_starts + at;
  float *weights = out->weights + at;
  gd_dataset_place place = {0};
  bool inside;
  memset(starts, 0, size * sizeof *starts);
  int64_t here = 0; /* tokens read, the last target included */
  GD_TRY(locate(dataset, draw, &place, &inside));
  if (inside) {
    gd_split *split = dataset->splits[place.source];
    here = gd_split_info(split)->tokens - place.token;
    if (here > length + 1) here = (int64_t)length + 1;
    GD_TRY(gd_split_read(split, place.token, here, dataset->scratch));
    if (dataset->mask_documents) GD_TRY(gd_split_document_starts(split, place.token, here < length ? here : length, starts));
  }
  for (int32_t t = 0; t < length; t++) {
    bool target = t + 1 < here;
    tokens[t] = t < here ? dataset->scratch[t] : 0;
    targets[t] = target ? dataset->scratch[t + 1] : 0;
    weights[t] = target ? 1 : 0;
  }
  return GD_OK;
}

static gd_status read_any_row(gd_dataset *dataset, int64_t draw, gd_batch *out, int32_t row) {
  const size_t begin = (size_t)row * (size_t)dataset->length;
  GD_TRY(is_rows(dataset) ? read_documents(dataset, draw, out, row) : read_row(dataset, draw, out, row));
  for (int32_t t = 0; t < dataset->length; t++) out->positions[begin + (size_t)t] = t - out->document_starts[begin + (size_t)t];
  return GD_OK;
}

gd_status gd_dataset_read(gd_dataset *dataset, int64_t draw, int32_t count, gd_batch *out, int32_t first_row) {
  gd_batch_shape shape = gd_dataset_batch_shape(dataset, out->sequences);
  if (out->documents && (out->documents != shape.documents || out->columns != shape.columns))
    return gd_fail(GD_BUG, "a batch of %d documents of %d numbers for %d of %d", out->documents, out->columns, shape.documents,
                   shape.columns);
  if (out->length != dataset->length || first_row < 0 || count < 0 || count > out->sequences - first_row || draw < 0)
    return gd_fail(GD_BUG, "rows %d + %d of %d, length %d for %d, draw %lld", first_row, count, out->sequences, out->length,
                   dataset->length, (long long)draw);
  pthread_mutex_lock(&dataset->mutex);
  gd_status status = GD_OK;
  for (int32_t r = 0; status == GD_OK && r < count; r++) status = read_any_row(dataset, draw + r, out, first_row + r);
  pthread_mutex_unlock(&dataset->mutex);
  return status;
}

gd_status gd_dataset_where(gd_dataset *dataset, int64_t draw, gd_dataset_place *out) {
  *out = (gd_dataset_place){0};
  bool inside = false;
  pthread_mutex_lock(&dataset->mutex);
  gd_status status = draw < 0 ? GD_OK : locate(dataset, draw, out, &inside);
  pthread_mutex_unlock(&dataset->mutex);
  GD_TRY(status);
  if (!inside)
    return gd_fail_user(GD_USAGE, "draw %lld is outside the split's %lld windows", (long long)draw,
                        (long long)gd_dataset_windows(dataset));
  const gd_split *split = dataset->splits[out->source];
  int32_t shard = gd_split_find(split, out->token);
  snprintf(out->file, sizeof out->file, "%s", gd_split_shard_path(split, shard));
  out->file_token = out->token - gd_split_shard_first(split, shard);
  return GD_OK;
}

gd_status gd_dataset_examples(gd_dataset *dataset, int64_t draw, gd_dataset_example *out, int32_t *count) {
  gd_dataset_place place = {0};
  bool inside;
  *count = 0;
  if (!is_rows(dataset) || draw < 0) return gd_fail(GD_BUG, "examples of draw %lld of no task", (long long)draw);
  pthread_mutex_lock(&dataset->mutex);
  gd_status status = locate(dataset, draw, &place, &inside);
  const source_rows *at = &dataset->rows[place.source];
  int32_t used = 0;
  inside = status == GD_OK && inside;
  for (int64_t i = inside ? at->rows.first[place.window] : 0; inside && i < at->rows.first[place.window + 1]; i++) {
    int64_t document = at->rows.example[i];
    int32_t tokens = (int32_t)(at->starts[document + 1] - at->starts[document]);
    out[(*count)++] = (gd_dataset_example){place.source, document, used, tokens};
    used += tokens;
  }
  pthread_mutex_unlock(&dataset->mutex);
  return status;
}

gd_status gd_dataset_labels(gd_dataset *dataset, const gd_dataset_example *example, float *labels) {
  pthread_mutex_lock(&dataset->mutex);
  gd_status status = gd_split_labels(dataset->splits[example->source], example->document, labels);
  pthread_mutex_unlock(&dataset->mutex);
  return status;
}
