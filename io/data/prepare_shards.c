/* prepare_shards.c - the second half of prepare: the documents of all units, in order, dealt to train and validation and cut
 * into shards. Every rank walks over all document ends and copies the ids of the shards that are its own. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/data/order.h"
#include "io/data/prepare_internal.h"

enum { COPY_TOKENS = 1 << 16, SPLITS = 2 };

/* One split while it is walked over. */
typedef struct split {
  char folder[GD_PATH_BYTES];
  int64_t total; /* tokens of the whole split, known after the first walk */
  int64_t documents;
  int32_t shards, first_shard; /* number, and index of the first among the shards of both splits */
  int64_t position;            /* tokens walked over */
  gd_split_entry *entries;     /* [shards]; filled by the owner of a shard, then summed over the ranks */
  gd_token_shard_writer *writer;
  char writer_path[GD_PATH_BYTES];
  int64_t *positions; /* documents that begin in the open shard */
  int64_t position_count, position_capacity;
} split;

typedef struct walker {
  const gd_prepare *prepare;
  bool write; /* the second walk */
  int64_t shard_tokens;
  gd_rng rng;
  int64_t chosen; /* documents of the validation split */
  int64_t tail;   /* a single document: tokens of its tail that are validation; -1: none */
  split splits[SPLITS];
  int64_t unit; /* whose ids are open */
  int ids;
  int64_t unit_first; /* stream position of that unit's first id */
  int32_t *copy;      /* [COPY_TOKENS] */
} walker;

/* ---- writing ---- */

static gd_status open_shard(walker *walk, split *at, int32_t shard) {
  int64_t left = at->total - shard * walk->shard_tokens;
  gd_token_shard_info info = gd_prepare_info(walk->prepare);
  info.tokens = left < walk->shard_tokens ? left : walk->shard_tokens;
  gd_split_entry *entry = &at->entries[shard];
  snprintf(entry->file, sizeof entry->file, "%05d.h5", shard);
  entry->tokens = info.tokens;
  at->position_count = 0;
  GD_TRY(gd_path_join(at->writer_path, sizeof at->writer_path, at->folder, entry->file));
  return gd_token_shard_create(at->writer_path, &info, &at->writer);
}

static gd_status close_shard(split *at, int32_t shard) {
  gd_split_entry *entry = &at->entries[shard];
  uint8_t digest[GD_SHA256_BYTES];
  entry->documents = at->position_count;
  gd_status status = gd_token_shard_set_documents(at->writer, at->positions, at->position_count);
  if (status == GD_OK) {
    status = gd_token_shard_finish(at->writer);
    at->writer = NULL;
  }
  GD_TRY(status);
  GD_TRY(gd_sha256_file(at->writer_path, digest, NULL));
  gd_sha256_hex(digest, entry->sha256);
  return GD_OK;
}

static gd_status add_document(split *at, int64_t position) {
  if (at->position_count == at->position_capacity) {
    int64_t capacity = at->position_capacity ? 2 * at->position_capacity : 1024;
    int64_t *positions = realloc(at->positions, (size_t)capacity * sizeof *positions);
    if (!positions) return gd_fail(GD_NO_MEMORY, "no memory for %lld documents", (long long)capacity);
    at->positions = positions;
    at->position_capacity = capacity;
  }
  at->positions[at->position_count++] = position;
  return GD_OK;
}

static gd_status open_unit(walker *walk, int64_t unit) {
  char path[GD_PATH_BYTES];
  if (walk->ids >= 0) close(walk->ids);
  GD_TRY(gd_prepare_unit_path(walk->prepare, unit, "ids", path));
  walk->ids = open(path, O_RDONLY | O_CLOEXEC);
  if (walk->ids < 0) return gd_fail(GD_IO, "cannot open %s: %s", path, strerror(errno));
  return GD_OK;
}

/* Ids of stream positions first .. first + count - 1, which may lie in several units, into the open shard. */
static gd_status copy_ids(walker *walk, split *at, int64_t first, int64_t count) {
  const gd_prepare_unit *units = walk->prepare->units;
  while (count > 0) {
    int64_t unit = walk->unit, begin = walk->unit_first;
    if (walk->ids < 0) unit = begin = 0;
    for (; first < begin; begin -= units[unit].tokens) unit--;
    for (; first >= begin + units[unit].tokens; unit++) begin += units[unit].tokens;
    if (walk->ids < 0 || unit != walk->unit) GD_TRY(open_unit(walk, unit));
    walk->unit = unit;
    walk->unit_first = begin;
    int64_t here = begin + units[unit].tokens - first;
    if (here > count) here = count;
    if (here > COPY_TOKENS) here = COPY_TOKENS;
    gd_prepare_tell(walk->prepare, first);
    size_t bytes = (size_t)here * sizeof *walk->copy;
    ssize_t got = pread(walk->ids, walk->copy, bytes, (off_t)((first - begin) * (int64_t)sizeof *walk->copy));
    if (got != (ssize_t)bytes) return gd_fail(GD_IO, "cannot read the ids of unit %lld: %s", (long long)unit, strerror(errno));
    GD_TRY(gd_token_shard_append(at->writer, walk->copy, here));
    first += here;
    count -= here;
  }
  return GD_OK;
}

/* ---- walking ---- */

/* The next piece of the stream: positions begin .. end - 1 go to split `at`; a document begins there. */
static gd_status take(walker *walk, split *at, int64_t begin, int64_t end) {
  const gd_prepare *prepare = walk->prepare;
  if (!walk->write) {
    at->total += end - begin;
    at->documents++;
    return GD_OK;
  }
  for (bool starts = true; begin < end; starts = false) {
    int32_t shard = (int32_t)(at->position / walk->shard_tokens);
    int64_t inside = at->position % walk->shard_tokens, size = walk->shard_tokens - inside;
    if (size > end - begin) size = end - begin;
    bool mine = (at->first_shard + shard) % prepare->ranks == prepare->rank;
    if (mine) {
      if (inside == 0) GD_TRY(open_shard(walk, at, shard));
      if (starts) GD_TRY(add_document(at, inside));
      GD_TRY(copy_ids(walk, at, begin, size));
    }
    at->position += size;
    begin += size;
    if (mine && (inside + size == walk->shard_tokens || at->position == at->total)) GD_TRY(close_shard(at, shard));
  }
  return GD_OK;
}

static gd_status take_document(walker *walk, int64_t document, int64_t begin, int64_t end) {
  if (walk->tail < 0) {
    bool chosen = walk->chosen > 0 && gd_order_permute(&walk->rng, walk->prepare->documents, document) < walk->chosen;
    return take(walk, &walk->splits[chosen], begin, end);
  }
  if (end - walk->tail > begin) GD_TRY(take(walk, &walk->splits[0], begin, end - walk->tail));
  return walk->tail > 0 ? take(walk, &walk->splits[1], end - walk->tail, end) : GD_OK;
}

/* All documents of all units, in order. */
static gd_status walk_all(walker *walk) {
  const gd_prepare *prepare = walk->prepare;
  int64_t document = 0, begin = 0, first = 0;
  for (int64_t u = 0; u < prepare->unit_count; first += prepare->units[u++].tokens) {
    if (!prepare->units[u].documents) continue;
    char path[GD_PATH_BYTES];
    GD_TRY(gd_prepare_unit_path(prepare, u, "ends", path));
    FILE *file = fopen(path, "rbe");
    if (!file) return gd_fail(GD_IO, "cannot open %s: %s", path, strerror(errno));
    gd_status status = GD_OK;
    for (int64_t i = 0; status == GD_OK && i < prepare->units[u].documents; i++) {
      int64_t end;
      if (fread(&end, sizeof end, 1, file) != 1) {
        status = gd_fail(GD_IO, "cannot read %s: it ends early", path);
        break;
      }
      status = take_document(walk, document++, begin, first + end);
      begin = first + end;
    }
    fclose(file);
    GD_TRY(status);
  }
  return GD_OK;
}

/* ---- both splits ---- */

static void choose(walker *walk) {
  const gd_prepare *prepare = walk->prepare;
  double fraction = prepare->options->validation_fraction;
  walk->rng = gd_rng_make(0, GD_RNG_DATA, 255, 0, 0); /* site 255: no source of a mixture has it */
  walk->tail = -1;
  if (fraction <= 0) return;
  if (prepare->documents == 1) {
    walk->tail = prepare->tokens - (int64_t)((double)prepare->tokens * (1.0 - fraction));
    return;
  }
  walk->chosen = (int64_t)((double)prepare->documents * fraction + 0.5);
  if (walk->chosen < 1) walk->chosen = 1;
  if (walk->chosen >= prepare->documents) walk->chosen = prepare->documents - 1;
}

static gd_status make_folders(walker *walk) {
  static const char *const names[SPLITS] = {"train", "validation"};
  int32_t shards = 0;
  for (int k = 0; k < SPLITS; k++) {
    split *at = &walk->splits[k];
    at->shards = (int32_t)((at->total + walk->shard_tokens - 1) / walk->shard_tokens);
    at->first_shard = shards;
    shards += at->shards;
    at->entries = calloc((size_t)at->shards + 1, sizeof *at->entries);
    if (!at->entries) return gd_fail(GD_NO_MEMORY, "no memory for %d shards", at->shards);
    GD_TRY(gd_path_join(at->folder, sizeof at->folder, walk->prepare->work, names[k]));
    if (walk->prepare->rank == 0 && at->shards) GD_TRY(gd_folder_make(at->folder));
  }
  return GD_OK;
}

/* Entries travel as int64: each is written by one rank and zero on the others. */
static gd_status exchange(const walker *walk, split *at) {
  _Static_assert(sizeof(gd_split_entry) % sizeof(int64_t) == 0, "entries are summed as int64");
  int64_t words = at->shards * (int64_t)(sizeof(gd_split_entry) / sizeof(int64_t));
  return gd_prepare_sum(walk->prepare, (int64_t *)(void *)at->entries, words);
}

static gd_status finish(walker *walk, gd_prepare_report *report) {
  for (int k = 0; k < SPLITS; k++) {
    split *at = &walk->splits[k];
    GD_TRY(exchange(walk, at));
    gd_token_shard_info info = gd_prepare_info(walk->prepare);
    info.tokens = report->tokens[k] = at->total;
    info.documents = report->documents[k] = at->documents;
    report->shards[k] = at->shards;
    if (walk->prepare->rank || !at->shards) continue;
    GD_TRY(gd_split_write_index(at->folder, &info, &(gd_data_task){0}, at->entries, at->shards));
    GD_TRY(gd_folder_sync(at->folder));
  }
  return GD_OK;
}

static gd_status write_splits(walker *walk, gd_prepare_report *report) {
  gd_session *session = walk->prepare->session;
  gd_status status = walk->copy ? GD_OK : gd_fail(GD_NO_MEMORY, "no memory to copy ids");
  choose(walk);
  if (status == GD_OK) status = walk_all(walk);
  if (status == GD_OK && !walk->splits[0].total)
    status = gd_fail_user(GD_BAD_DATA, "the inputs hold %lld tokens, too few to take a part of %g for validation",
                          (long long)walk->prepare->tokens, walk->prepare->options->validation_fraction);
  if (status == GD_OK) status = make_folders(walk);
  GD_TRY(gd_session_agree(session, status));
  walk->write = true;
  GD_TRY(gd_session_agree(session, walk_all(walk)));
  return gd_session_agree(session, finish(walk, report));
}

gd_status gd_prepare_write_splits(gd_prepare *prepare, gd_prepare_report *report) {
  prepare->progress = (gd_prepare_progress){.phase = "write", .mine = prepare->tokens, .total = prepare->tokens};
  walker walk = {.prepare = prepare, .ids = -1};
  walk.shard_tokens = gd_prepare_shard_tokens(prepare);
  walk.copy = malloc(COPY_TOKENS * sizeof *walk.copy);
  gd_status status = write_splits(&walk, report);
  for (int k = 0; k < SPLITS; k++) {
    gd_token_shard_abandon(walk.splits[k].writer);
    free(walk.splits[k].entries);
    free(walk.splits[k].positions);
  }
  if (walk.ids >= 0) close(walk.ids);
  free(walk.copy);
  return status;
}
