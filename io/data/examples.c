/* examples.c - encoded examples to token shards. */
#include "io/data/examples.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const split_names[GD_PREPARE_SPLITS] = {"train", "validation", "test"};

gd_status gd_examples_end(gd_examples *examples, int32_t split, const float *labels) {
  const size_t columns = (size_t)examples->columns;
  if (examples->count == examples->capacity) {
    int64_t capacity = examples->capacity ? 2 * examples->capacity : 1024;
    int64_t *ends = realloc(examples->ends, (size_t)capacity * sizeof *ends);
    if (ends) examples->ends = ends;
    int32_t *splits = realloc(examples->split, (size_t)capacity * sizeof *splits);
    if (splits) examples->split = splits;
    float *all = realloc(examples->labels, ((size_t)capacity * columns + 1) * sizeof *all);
    if (all) examples->labels = all;
    if (!ends || !splits || !all) return gd_fail(GD_NO_MEMORY, "no memory for %lld examples", (long long)capacity);
    examples->capacity = capacity;
  }
  size_t missing = examples->ids.count - examples->targets.count;
  GD_TRY(gd_bytes_reserve(&examples->targets, missing + 1));
  memset(examples->targets.bytes + examples->targets.count, 0, missing + 1);
  examples->targets.count += missing;
  examples->ends[examples->count] = (int64_t)examples->ids.count;
  examples->split[examples->count] = split;
  if (columns) memcpy(examples->labels + (size_t)examples->count * columns, labels, columns * sizeof *labels);
  examples->count++;
  return GD_OK;
}

void gd_examples_free(gd_examples *examples) {
  gd_ids_free(&examples->ids);
  gd_bytes_free(&examples->targets);
  free(examples->ends);
  free(examples->split);
  free(examples->labels);
  *examples = (gd_examples){0};
}

/* ---- writing ---- */

typedef struct writing {
  const gd_prepare *prepare;
  const gd_examples *examples;
  int32_t split;
  char folder[GD_PATH_BYTES];
  gd_token_shard_info info;
  gd_split_entry *entries;
  int32_t shards;
} writing;

static int64_t begin_of(const gd_examples *examples, int64_t example) {
  return example ? examples->ends[example - 1] : 0;
}

static gd_status append_examples(const writing *at, gd_token_shard_writer *writer, int64_t first, int64_t last) {
  const gd_examples *examples = at->examples;
  for (int64_t i = first; i < last; i++) {
    int64_t begin = begin_of(examples, i), count = examples->ends[i] - begin;
    if (examples->split[i] != at->split) continue;
    GD_TRY(gd_token_shard_append(writer, examples->ids.ids + begin, count));
    GD_TRY(gd_token_shard_append_targets(writer, (const uint8_t *)examples->targets.bytes + begin, count));
  }
  return GD_OK;
}

static gd_status fill_shard(const writing *at, gd_token_shard_writer *writer, int64_t first, int64_t last, int64_t documents) {
  const gd_examples *examples = at->examples;
  size_t columns = (size_t)examples->columns;
  int64_t *positions = malloc((size_t)documents * sizeof *positions), token = 0, d = 0;
  float *labels = malloc(((size_t)documents * columns + 1) * sizeof *labels);
  gd_status status = positions && labels ? append_examples(at, writer, first, last)
                                         : gd_fail(GD_NO_MEMORY, "no memory for %lld documents", (long long)documents);
  for (int64_t i = first; status == GD_OK && i < last; i++) {
    if (examples->split[i] != at->split) continue;
    if (columns) memcpy(labels + (size_t)d * columns, examples->labels + (size_t)i * columns, columns * sizeof *labels);
    positions[d++] = token;
    token += examples->ends[i] - begin_of(examples, i);
  }
  if (status == GD_OK) status = gd_token_shard_set_labels(writer, labels, documents);
  if (status == GD_OK) status = gd_token_shard_set_documents(writer, positions, documents);
  free(positions);
  free(labels);
  return status;
}

/* Examples first .. last - 1, as far as they belong to the split, are the next shard. */
static gd_status write_shard(writing *at, int64_t first, int64_t last, int64_t tokens, int64_t documents) {
  gd_split_entry *entries = realloc(at->entries, (size_t)(at->shards + 1) * sizeof *entries);
  if (!entries) return gd_fail(GD_NO_MEMORY, "no memory for %d shards", at->shards + 1);
  at->entries = entries;
  gd_split_entry *entry = &entries[at->shards];
  *entry = (gd_split_entry){.tokens = tokens, .documents = documents};
  snprintf(entry->file, sizeof entry->file, "%05d.h5", at->shards++);
  char path[GD_PATH_BYTES];
  uint8_t digest[GD_SHA256_BYTES];
  gd_token_shard_writer *writer;
  gd_token_shard_info info = at->info;
  info.tokens = tokens;
  GD_TRY(gd_path_join(path, sizeof path, at->folder, entry->file));
  GD_TRY(gd_token_shard_create(path, &info, &writer));
  gd_status status = fill_shard(at, writer, first, last, documents);
  if (status != GD_OK) {
    gd_token_shard_abandon(writer);
    return status;
  }
  GD_TRY(gd_token_shard_finish(writer));
  GD_TRY(gd_sha256_file(path, digest, NULL));
  gd_sha256_hex(digest, entry->sha256);
  at->info.tokens += tokens;
  at->info.documents += documents;
  return GD_OK;
}

static gd_status write_split(writing *at, const gd_data_task *task, int64_t shard_tokens) {
  const gd_examples *examples = at->examples;
  gd_data_task of_split = *task;
  int64_t first = 0, tokens = 0, documents = 0;
  of_split.longest = 0;
  GD_TRY(gd_folder_make(at->folder));
  for (int64_t i = 0; i < examples->count; i++) {
    if (examples->split[i] != at->split) continue;
    int64_t length = examples->ends[i] - begin_of(examples, i);
    if (documents && tokens + length > shard_tokens) {
      GD_TRY(write_shard(at, first, i, tokens, documents));
      first = i;
      tokens = documents = 0;
    }
    tokens += length;
    documents++;
    if (length > of_split.longest) of_split.longest = (int32_t)length;
  }
  GD_TRY(write_shard(at, first, examples->count, tokens, documents));
  GD_TRY(gd_split_write_index(at->folder, &at->info, &of_split, at->entries, at->shards));
  return gd_folder_sync(at->folder);
}

gd_status gd_examples_write(const gd_prepare *prepare, const gd_examples *examples, const gd_data_task *task,
                            gd_prepare_report *report) {
  const int64_t shard_tokens = gd_prepare_shard_tokens(prepare);
  for (int64_t i = 0; i < examples->count; i++) report->documents[examples->split[i]]++;
  if (!report->documents[0])
    return gd_fail_user(
        GD_BAD_DATA, "no row is left for training: %lld longer than --max-tokens and %lld with an empty column were left out",
        (long long)report->dropped_long, (long long)report->dropped_empty);
  for (int32_t k = 0; k < GD_PREPARE_SPLITS; k++) {
    if (!report->documents[k]) continue;
    writing at = {.prepare = prepare, .examples = examples, .split = k, .info = gd_prepare_info(prepare)};
    at.info.examples = true;
    at.info.columns = examples->columns;
    gd_status status = gd_path_join(at.folder, sizeof at.folder, prepare->work, split_names[k]);
    if (status == GD_OK) status = write_split(&at, task, shard_tokens);
    free(at.entries);
    GD_TRY(status);
    report->tokens[k] = at.info.tokens;
    report->shards[k] = at.shards;
  }
  return GD_OK;
}
