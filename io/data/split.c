/* split.c - one split: its index, and its shards read as one stream. */
#include "io/data/split.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/base/files.h"
#include "io/base/json.h"
#include "shard/spec.h"

enum { OPEN_SHARDS = 8, FORMAT_VERSION = 3, TEXT_VERSION = 2, INDEX_LIMIT = 1 << 28, VERIFY_TOKENS = 1 << 18 };
static const char format_name[] = "gptdist-dataset";

typedef struct entry {
  char *path;
  gd_shard_source source;
  gd_shard_check check; /* where no records are shared */
  int64_t first, tokens, documents, first_document;
  gd_token_shard *shard; /* NULL: not open */
  uint64_t used;         /* when it was last read, for closing the oldest */
} entry;

struct gd_split {
  char *folder, *index; /* index: index.json in it */
  char digest[GD_SHA256_HEX_BYTES];
  gd_token_shard_info info;
  gd_data_task task;
  entry *entries;
  int32_t count, open;
  uint64_t clock;
};

static gd_status wanted_integer(const char *path, const gd_json *object, const char *key, int64_t low, int64_t high,
                                int64_t *out) {
  if (!gd_json_integer(gd_json_get(object, key), out) || *out < low || *out > high)
    return gd_fail_user(GD_BAD_DATA, "%s: \"%s\" is missing or no number from %lld to %lld", path, key, (long long)low,
                        (long long)high);
  return GD_OK;
}

static gd_status wanted_text(const char *path, const gd_json *object, const char *key, char *out, size_t size) {
  const char *text = gd_json_string(gd_json_get(object, key));
  if (!text || strlen(text) >= size)
    return gd_fail_user(GD_BAD_DATA, "%s: \"%s\" is missing or no text below %zu bytes", path, key, size);
  strcpy(out, text);
  return GD_OK;
}

static gd_status read_entry(gd_split *split, const char *path, const gd_json *node, entry *out) {
  char file[256], full[GD_PATH_BYTES];
  GD_TRY(wanted_text(path, node, "file", file, sizeof file));
  if (strchr(file, '/')) return gd_fail_user(GD_BAD_DATA, "%s: \"file\" is \"%s\", expected a plain file name", path, file);
  GD_TRY(wanted_integer(path, node, "tokens", 0, INT64_MAX >> 11, &out->tokens));
  GD_TRY(wanted_integer(path, node, "documents", 0, out->tokens, &out->documents));
  GD_TRY(wanted_text(path, node, "sha256", out->source.sha256, sizeof out->source.sha256));
  GD_TRY(gd_path_join(full, sizeof full, split->folder, file));
  out->path = strdup(full);
  if (!out->path) return gd_fail(GD_NO_MEMORY, "no memory for an index");
  out->source.path = out->path;
  out->source.index = split->index;
  out->source.check = &out->check;
  if (!gd_file_exists(full)) return gd_fail_user(GD_BAD_DATA, "%s: the token shard is missing, expected by %s", full, path);
  return GD_OK;
}

/* The end of an index: the digest of all text before it. */
static gd_status make_tail(const char *text, size_t count, gd_bytes *out) {
  uint8_t digest[GD_SHA256_BYTES];
  char hex[GD_SHA256_HEX_BYTES];
  GD_TRY(gd_sha256_bytes(text, count, digest));
  gd_sha256_hex(digest, hex);
  return gd_bytes_printf(out, ",\n  \"digest\": \"%s\"\n}\n", hex);
}

/* Before any of it is parsed. Version 1 had no digest: there what an index says is compared with its shards alone. One that has
 * a digest is of a later version, whatever it says. */
static gd_status check_index(const char *path, const gd_bytes *text) {
  static const char key[] = "\"version\": ", digest[] = "\"digest\"";
  const char *at = text->count ? memmem(text->bytes, text->count, key, sizeof key - 1) : NULL;
  long version = at ? strtol(at + sizeof key - 1, NULL, 10) : 0;
  if (version == 1 && !memmem(text->bytes, text->count, digest, sizeof digest - 1)) return GD_OK;
  if (version < 0 || version > FORMAT_VERSION)
    return gd_fail_user(GD_BAD_DATA, "%s: format version %ld, this program reads versions 1 to %d", path, version,
                        FORMAT_VERSION);
  gd_bytes tail = {0};
  gd_status status = make_tail("", 0, &tail);
  size_t length = tail.count, begin = text->count < length ? 0 : text->count - length;
  tail.count = 0;
  if (status == GD_OK) status = make_tail(text->bytes, begin, &tail);
  if (status == GD_OK && (text->count < length || memcmp(text->bytes + begin, tail.bytes, length) != 0))
    status =
        gd_fail_user(GD_BAD_DATA,
                     "%s: is damaged: its last line is not the SHA-256 of what comes before it (%.64s); copy it from where "
                     "it is whole, or prepare the dataset again",
                     path, tail.bytes + sizeof ",\n  \"digest\": \"" - 1);
  gd_bytes_free(&tail);
  return status;
}

static gd_status read_index(gd_split *split, const char *path, const gd_json *root) {
  const char *format = gd_json_string(gd_json_get(root, "format"));
  int64_t value, tokens = 0, documents = 0;
  if (!format || strcmp(format, format_name) != 0)
    return gd_fail_user(GD_BAD_DATA, "%s: format is \"%s\", expected \"%s\"", path, format ? format : "", format_name);
  GD_TRY(wanted_integer(path, root, "version", INT32_MIN, INT32_MAX, &value));
  const int64_t version = value;
  if (value < 1 || value > FORMAT_VERSION)
    return gd_fail_user(GD_BAD_DATA, "%s: format version %lld, this program reads versions 1 to %d", path, (long long)value,
                        FORMAT_VERSION);
  gd_token_shard_info *info = &split->info;
  GD_TRY(wanted_text(path, root, "tokenizer", info->tokenizer, sizeof info->tokenizer));
  GD_TRY(wanted_text(path, root, "tokenizer_digest", info->tokenizer_digest, sizeof info->tokenizer_digest));
  GD_TRY(wanted_integer(path, root, "vocabulary", 1, INT32_MAX, &value));
  info->vocabulary = (int32_t)value;
  GD_TRY(wanted_integer(path, root, "eot", -1, info->vocabulary - 1, &value));
  info->eot = (int32_t)value;
  GD_TRY(wanted_integer(path, root, "tokens", 0, INT64_MAX >> 11, &info->tokens));
  GD_TRY(wanted_integer(path, root, "documents", 0, info->tokens, &info->documents));
  if (version == FORMAT_VERSION) {
    GD_TRY(gd_data_task_read(root, path, &split->task));
    info->examples = true;
    info->columns = gd_data_task_columns(&split->task);
  }
  const gd_json *shards = gd_json_get(root, "shards");
  if (!gd_json_is_array(shards)) return gd_fail_user(GD_BAD_DATA, "%s: \"shards\" is missing or no list", path);
  int32_t count = 0;
  for (const gd_json *node = gd_json_first(shards); node; node = gd_json_next(node)) count++;
  split->entries = calloc((size_t)count + 1, sizeof *split->entries);
  if (!split->entries) return gd_fail(GD_NO_MEMORY, "no memory for an index of %d shards", count);
  for (const gd_json *node = gd_json_first(shards); node; node = gd_json_next(node)) {
    entry *next = &split->entries[split->count++];
    GD_TRY(read_entry(split, path, node, next));
    next->first = tokens;
    next->first_document = documents;
    tokens += next->tokens;
    documents += next->documents;
  }
  if (tokens != info->tokens || documents != info->documents)
    return gd_fail_user(GD_BAD_DATA, "%s: the shards hold %lld tokens and %lld documents, expected %lld and %lld", path,
                        (long long)tokens, (long long)documents, (long long)info->tokens, (long long)info->documents);
  return GD_OK;
}

gd_status gd_split_open(const char *folder, gd_split **out) {
  *out = NULL;
  char path[GD_PATH_BYTES];
  uint8_t digest[GD_SHA256_BYTES];
  GD_TRY(gd_path_join(path, sizeof path, folder, "index.json"));
  if (!gd_file_exists(path))
    return gd_fail_user(GD_BAD_DATA, "%s: no index.json there, expected a folder written by gptdist-data prepare", folder);
  gd_split *split = calloc(1, sizeof *split);
  if (!split) return gd_fail(GD_NO_MEMORY, "no memory for a dataset");
  gd_bytes text = {0};
  gd_json *root = NULL;
  gd_status status = GD_OK;
  split->folder = strdup(folder);
  split->index = strdup(path);
  if (!split->folder || !split->index) status = gd_fail(GD_NO_MEMORY, "no memory for a dataset");
  if (status == GD_OK) status = gd_file_read(path, INDEX_LIMIT, &text);
  if (status == GD_OK) status = check_index(path, &text);
  if (status == GD_OK) status = gd_json_parse(text.bytes, text.count, path, 1, &root);
  if (status == GD_OK) status = read_index(split, path, root);
  if (status == GD_OK) status = gd_sha256_bytes(text.bytes, text.count, digest);
  if (status == GD_OK) gd_sha256_hex(digest, split->digest);
  gd_json_free(root);
  gd_bytes_free(&text);
  if (status != GD_OK) {
    gd_split_close(split);
    return status;
  }
  *out = split;
  return GD_OK;
}

void gd_split_close(gd_split *split) {
  if (!split) return;
  for (int32_t i = 0; i < split->count; i++) {
    gd_token_shard_close(split->entries[i].shard);
    free(split->entries[i].path);
  }
  gd_data_task_free(&split->task);
  free(split->entries);
  free(split->index);
  free(split->folder);
  free(split);
}

const char *gd_split_folder(const gd_split *split) {
  return split->folder;
}
const char *gd_split_digest(const gd_split *split) {
  return split->digest;
}
const gd_token_shard_info *gd_split_info(const gd_split *split) {
  return &split->info;
}
const gd_data_task *gd_split_task(const gd_split *split) {
  return &split->task;
}
int32_t gd_split_shards(const gd_split *split) {
  return split->count;
}
const char *gd_split_shard_path(const gd_split *split, int32_t shard) {
  return split->entries[shard].path;
}
int64_t gd_split_shard_first(const gd_split *split, int32_t shard) {
  return split->entries[shard].first;
}

void gd_split_share_checks(gd_split *split, gd_shard_check *checks, gd_shard_check_cost *cost) {
  for (int32_t i = 0; i < split->count; i++) {
    split->entries[i].source.check = &checks[i];
    split->entries[i].source.cost = cost;
  }
}

gd_status gd_split_check(const gd_split *split, int32_t shard) {
  const gd_shard_source *source = &split->entries[shard].source;
  int file;
  uint64_t identity;
  if (atomic_load(&source->check->known)) return GD_OK;
  GD_TRY(gd_shard_check_open(source, &file, &identity));
  close(file);
  return GD_OK;
}

int32_t gd_split_find(const gd_split *split, int64_t token) {
  int32_t low = 0, high = split->count - 1;
  while (low < high) { /* the last shard that begins at or before the token; empty shards share their begin with the next */
    int32_t middle = low + (high - low + 1) / 2;
    if (split->entries[middle].first <= token)
      low = middle;
    else
      high = middle - 1;
  }
  return low;
}

static void close_shard(gd_split *split, entry *at) {
  gd_token_shard_close(at->shard);
  at->shard = NULL;
  split->open--;
}

static void close_oldest(gd_split *split) {
  entry *oldest = NULL;
  for (int32_t i = 0; i < split->count; i++) {
    entry *at = &split->entries[i];
    if (at->shard && (!oldest || at->used < oldest->used)) oldest = at;
  }
  if (oldest) close_shard(split, oldest);
}

static gd_status open_shard(gd_split *split, int32_t index, gd_token_shard **out) {
  entry *at = &split->entries[index];
  at->used = ++split->clock;
  if (at->shard && gd_token_shard_changed(at->shard)) close_shard(split, at); /* it is compared with its digest anew */
  *out = at->shard;
  if (at->shard) return GD_OK;
  if (split->open >= OPEN_SHARDS) close_oldest(split);
  gd_token_shard *shard;
  GD_TRY(gd_token_shard_open(&at->source, &shard));
  const gd_token_shard_info *found = gd_token_shard_get_info(shard), *wanted = &split->info;
  gd_status status = GD_OK;
  if (strcmp(found->tokenizer_digest, wanted->tokenizer_digest) != 0 || found->vocabulary != wanted->vocabulary ||
      strcmp(found->tokenizer, wanted->tokenizer) != 0 || found->eot != wanted->eot)
    status = gd_fail_user(GD_BAD_DATA,
                          "%s: made with tokenizer %s (%.12s, vocabulary %d, eot %d), %s expects %s (%.12s, vocabulary %d, eot "
                          "%d)",
                          at->path, found->tokenizer, found->tokenizer_digest, found->vocabulary, found->eot, split->index,
                          wanted->tokenizer, wanted->tokenizer_digest, wanted->vocabulary, wanted->eot);
  else if (found->tokens != at->tokens || found->documents != at->documents)
    status = gd_fail_user(GD_BAD_DATA, "%s: holds %lld tokens and %lld documents, %s expects %lld and %lld", at->path,
                          (long long)found->tokens, (long long)found->documents, split->index, (long long)at->tokens,
                          (long long)at->documents);
  else if (found->examples != wanted->examples || found->columns != wanted->columns)
    status = gd_fail_user(GD_BAD_DATA, "%s: holds %s with %d columns of labels, %s expects %s with %d", at->path,
                          found->examples ? "examples" : "plain text", found->columns, split->index,
                          wanted->examples ? "examples" : "plain text", wanted->columns);
  if (status != GD_OK) {
    gd_token_shard_close(shard);
    return status;
  }
  split->open++;
  *out = at->shard = shard;
  return GD_OK;
}

/* ids or targets of `count` tokens from `first` on, over the borders of shards; the other one is NULL. */
static gd_status read_tokens(gd_split *split, int64_t first, int64_t count, int32_t *ids, uint8_t *targets) {
  if (first < 0 || count < 0 || count > split->info.tokens - first)
    return gd_fail(GD_BUG, "%s: tokens %lld + %lld of %lld", split->folder, (long long)first, (long long)count,
                   (long long)split->info.tokens);
  for (int64_t done = 0, here; done < count; done += here) {
    int32_t index = gd_split_find(split, first + done);
    const entry *at = &split->entries[index];
    int64_t from = first + done - at->first;
    gd_token_shard *shard;
    GD_TRY(open_shard(split, index, &shard));
    here = at->tokens - from < count - done ? at->tokens - from : count - done;
    if (ids) GD_TRY(gd_token_shard_read(shard, from, here, ids + done));
    if (targets) GD_TRY(gd_token_shard_targets(shard, from, here, targets + done));
  }
  return GD_OK;
}

gd_status gd_split_read(gd_split *split, int64_t first, int64_t count, int32_t *ids) {
  return read_tokens(split, first, count, ids, NULL);
}

gd_status gd_split_targets(gd_split *split, int64_t first, int64_t count, uint8_t *targets) {
  return read_tokens(split, first, count, NULL, targets);
}

/* A label that is none of the map's, or none at all. */
static gd_status check_labels(const gd_split *split, const char *path, int64_t document, const float *labels) {
  const gd_data_task *task = &split->task;
  for (int32_t k = 0; k < split->info.columns; k++) {
    bool good = task->multiple ? labels[k] >= 0 && labels[k] <= 1
                               : labels[k] >= 0 && labels[k] < (float)task->label_count && labels[k] == floorf(labels[k]);
    if (!good)
      return gd_fail_user(GD_BAD_DATA, "%s: document %lld has the label %g, expected %s %d", path, (long long)document,
                          (double)labels[k], task->multiple ? "0 to" : "a whole number below",
                          task->multiple ? 1 : task->label_count);
  }
  return GD_OK;
}

gd_status gd_split_labels(gd_split *split, int64_t document, float *labels) {
  for (int32_t i = 0; i < split->count; i++) {
    const entry *at = &split->entries[i];
    if (document < at->first_document || document >= at->first_document + at->documents) continue;
    gd_token_shard *shard;
    GD_TRY(open_shard(split, i, &shard));
    GD_TRY(gd_token_shard_labels(shard, document - at->first_document, 1, labels));
    return check_labels(split, split->index, document, labels);
  }
  return gd_fail(GD_BUG, "%s: document %lld of %lld", split->folder, (long long)document, (long long)split->info.documents);
}

gd_status gd_split_documents(gd_split *split, int64_t *starts) {
  int64_t longest = 0;
  starts[split->info.documents] = split->info.tokens;
  for (int32_t i = 0; i < split->count; i++) {
    const entry *at = &split->entries[i];
    gd_token_shard *shard;
    GD_TRY(open_shard(split, i, &shard));
    GD_TRY(gd_token_shard_documents(shard, 0, at->documents, starts + at->first_document));
    if (at->tokens && (!at->documents || starts[at->first_document] != 0))
      return gd_fail_user(GD_BAD_DATA, "%s: its first token belongs to no document, expected one to begin at 0", at->path);
    for (int64_t d = 0; d < at->documents; d++) starts[at->first_document + d] += at->first;
  }
  for (int64_t d = 0; d < split->info.documents; d++) {
    int64_t length = starts[d + 1] - starts[d];
    if (length < 1)
      return gd_fail_user(GD_BAD_DATA, "%s: document %lld of the split has no tokens", split->index, (long long)d);
    if (length > longest) longest = length;
  }
  if (longest != split->task.longest)
    return gd_fail_user(GD_BAD_DATA, "%s: \"longest\" is %d, but the longest document has %lld tokens", split->index,
                        split->task.longest, (long long)longest);
  return GD_OK;
}

gd_status gd_split_document_starts(gd_split *split, int64_t first, int64_t count, int32_t *starts) {
  int32_t start = 0;
  for (int64_t done = 0; done < count;) {
    int64_t token = first + done;
    int32_t index = gd_split_find(split, token);
    const entry *at = &split->entries[index];
    gd_token_shard *shard;
    GD_TRY(open_shard(split, index, &shard));
    int64_t end = at->first + at->tokens < first + count ? at->first + at->tokens : first + count;
    /* `document` is the first that begins behind `token`; a document that begins at `token` itself comes first. */
    int64_t document, position;
    GD_TRY(gd_token_shard_find_document(shard, token - at->first, &document));
    if (document > 0) {
      GD_TRY(gd_token_shard_documents(shard, document - 1, 1, &position));
      if (at->first + position == token) start = (int32_t)done;
    }
    while (token < end) {
      int64_t next = end;
      bool begins = false;
      if (document < at->documents) {
        GD_TRY(gd_token_shard_documents(shard, document++, 1, &position));
        begins = at->first + position < end;
        if (begins) next = at->first + position;
      }
      for (; token < next; token++) starts[token - first] = start;
      if (begins) start = (int32_t)(next - first);
      if (!begins) break;
    }
    done = end - first;
  }
  return GD_OK;
}

static gd_status verify_examples(gd_split *split) {
  int64_t *starts = malloc(((size_t)split->info.documents + 1) * sizeof *starts);
  uint8_t *targets = malloc(VERIFY_TOKENS);
  float *labels = malloc(((size_t)split->info.columns + 1) * sizeof *labels);
  gd_status status = starts && targets && labels ? gd_split_documents(split, starts)
                                                 : gd_fail(GD_NO_MEMORY, "no memory to verify %s", split->folder);
  for (int64_t first = 0; status == GD_OK && first < split->info.tokens; first += VERIFY_TOKENS) {
    int64_t left = split->info.tokens - first;
    status = gd_split_targets(split, first, left < VERIFY_TOKENS ? left : VERIFY_TOKENS, targets);
  }
  for (int64_t d = 0; status == GD_OK && split->info.columns && d < split->info.documents; d++)
    status = gd_split_labels(split, d, labels);
  free(starts);
  free(targets);
  free(labels);
  return status;
}

gd_status gd_split_verify(gd_split *split) {
  int32_t *ids = malloc(VERIFY_TOKENS * sizeof *ids);
  if (!ids) return gd_fail(GD_NO_MEMORY, "no memory to verify %s", split->folder);
  gd_status status = GD_OK;
  for (int32_t i = 0; status == GD_OK && i < split->count; i++) {
    entry *at = &split->entries[i];
    gd_token_shard *shard;
    GD_TRY_GOTO(status, done, open_shard(split, i, &shard));
    for (int64_t first = 0; first < at->tokens; first += VERIFY_TOKENS) {
      int64_t count = at->tokens - first < VERIFY_TOKENS ? at->tokens - first : VERIFY_TOKENS;
      GD_TRY_GOTO(status, done, gd_token_shard_read(shard, first, count, ids));
    }
    int64_t positions[1024];
    for (int64_t first = 0; first < at->documents; first += 1024) {
      int64_t count = at->documents - first < 1024 ? at->documents - first : 1024;
      GD_TRY_GOTO(status, done, gd_token_shard_documents(shard, first, count, positions));
    }
  }
  if (status == GD_OK && split->info.examples) status = verify_examples(split);
done:
  free(ids);
  return status;
}

gd_status gd_split_write_index(const char *folder, const gd_token_shard_info *info, const gd_data_task *task,
                               const gd_split_entry *entries, int32_t count) {
  char path[GD_PATH_BYTES];
  GD_TRY(gd_path_join(path, sizeof path, folder, "index.json"));
  gd_bytes text = {0};
  gd_status status = gd_bytes_printf(
      &text,
      "{\n  \"format\": \"%s\",\n  \"version\": %d,\n  \"tokenizer\": \"%s\",\n  \"tokenizer_digest\": \"%s\",\n"
      "  \"vocabulary\": %d,\n  \"eot\": %d,\n  \"tokens\": %lld,\n  \"documents\": %lld",
      format_name, task->kind == GD_TASK_LM ? TEXT_VERSION : FORMAT_VERSION, info->tokenizer, info->tokenizer_digest,
      info->vocabulary, info->eot, (long long)info->tokens, (long long)info->documents);
  if (status == GD_OK) status = gd_data_task_write(task, &text);
  if (status == GD_OK) status = gd_bytes_printf(&text, ",\n  \"shards\": [");
  for (int32_t i = 0; status == GD_OK && i < count; i++)
    status = gd_bytes_printf(&text, "%s\n    {\"file\": \"%s\", \"tokens\": %lld, \"documents\": %lld, \"sha256\": \"%s\"}",
                             i ? "," : "", entries[i].file, (long long)entries[i].tokens, (long long)entries[i].documents,
                             entries[i].sha256);
  if (status == GD_OK) status = gd_bytes_printf(&text, "\n  ]");
  if (status == GD_OK) status = make_tail(text.bytes, text.count, &text);
  if (status == GD_OK) status = gd_file_write(path, text.bytes, text.count);
  gd_bytes_free(&text);
  return status;
}
