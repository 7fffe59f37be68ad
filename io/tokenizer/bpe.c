#include "io/tokenizer/bpe.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "io/tokenizer/merge.h"
#include "io/tokenizer/split.h"
#include "io/base/utf8.h"

enum { CACHE_WORDS = 1 << 15, WORD_BYTES = 24, WORD_IDS = 9 };

/* One cache line: a piece of text and its ids. length 0: empty. */
typedef struct word {
  uint64_t text[WORD_BYTES / 8]; /* zero padded */
  uint8_t length, count;
  int32_t ids[WORD_IDS];
} word;

/* What one call of encode needs; contexts wait in a list between calls. */
typedef struct context {
  struct context *next;
  gd_splitter_state *splitter;
  word *cache;
  gd_ids scratch;
} context;

struct gd_bpe {
  int32_t vocabulary;
  gd_bytes blob;     /* the bytes of all ids, in the order they were set */
  size_t *offset;    /* [vocabulary], SIZE_MAX: no bytes */
  uint32_t *length;  /* [vocabulary] */
  int32_t *table;    /* ids by hash of their bytes, -1: free */
  size_t table_size; /* a power of two */
  gd_merge_map merges;
  int32_t byte_ids[256];
  bool whole_first;
  gd_splitter *splitter;
  pthread_mutex_t mutex;
  context *idle;
};

gd_status gd_bpe_open(int32_t vocabulary, gd_bpe **out) {
  *out = NULL;
  gd_bpe *bpe = calloc(1, sizeof *bpe);
  if (!bpe) return gd_fail(GD_NO_MEMORY, "no memory for a vocabulary");
  pthread_mutex_init(&bpe->mutex, NULL);
  size_t count = (size_t)vocabulary;
  bpe->vocabulary = vocabulary;
  bpe->table_size = 1024;
  while (bpe->table_size < 2 * count) bpe->table_size *= 2;
  bpe->offset = malloc((count + 1) * sizeof *bpe->offset);
  bpe->length = calloc(count + 1, sizeof *bpe->length);
  bpe->table = malloc(bpe->table_size * sizeof *bpe->table);
  if (!bpe->offset || !bpe->length || !bpe->table) {
    gd_bpe_close(bpe);
    return gd_fail(GD_NO_MEMORY, "no memory for a vocabulary of %d", vocabulary);
  }
  memset(bpe->offset, 0xff, (count + 1) * sizeof *bpe->offset);
  memset(bpe->table, 0xff, bpe->table_size * sizeof *bpe->table);
  memset(bpe->byte_ids, 0xff, sizeof bpe->byte_ids);
  *out = bpe;
  return GD_OK;
}

static void context_close(context *at) {
  if (!at) return;
  gd_splitter_state_close(at->splitter);
  free(at->cache);
  gd_ids_free(&at->scratch);
  free(at);
}

void gd_bpe_close(void *state) {
  gd_bpe *bpe = state;
  if (!bpe) return;
  while (bpe->idle) {
    context *at = bpe->idle;
    bpe->idle = at->next;
    context_close(at);
  }
  gd_splitter_close(bpe->splitter);
  gd_merge_map_free(&bpe->merges);
  gd_bytes_free(&bpe->blob);
  free(bpe->offset);
  free(bpe->length);
  free(bpe->table);
  pthread_mutex_destroy(&bpe->mutex);
  free(bpe);
}

static uint64_t mix(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * 0x9E3779B97F4A7C15u;
  return hash ^ hash >> 29;
}

static uint64_t hash_bytes(const char *bytes, size_t count) {
  uint64_t hash = count, eight;
  for (; count >= 8; bytes += 8, count -= 8) {
    memcpy(&eight, bytes, 8);
    hash = mix(hash, eight);
  }
  eight = 0;
  if (count) memcpy(&eight, bytes, count);
  return mix(hash, eight);
}

/* The slot that holds the bytes, or the free one where they would go. */
static size_t slot_of(const gd_bpe *bpe, const char *bytes, size_t count) {
  size_t slot = hash_bytes(bytes, count) & (bpe->table_size - 1);
  for (;; slot = (slot + 1) & (bpe->table_size - 1)) {
    int32_t id = bpe->table[slot];
    if (id < 0 || (bpe->length[id] == count && memcmp(bpe->blob.bytes + bpe->offset[id], bytes, count) == 0)) return slot;
  }
}

gd_status gd_bpe_set(gd_bpe *bpe, int32_t id, const char *bytes, size_t count, bool findable) {
  if (id < 0 || id >= bpe->vocabulary)
    return gd_fail_user(GD_BAD_DATA, "id %d is not below the vocabulary of %d", id, bpe->vocabulary);
  if (bpe->offset[id] != SIZE_MAX) return gd_fail_user(GD_BAD_DATA, "id %d is given twice", id);
  if (!count) return gd_fail_user(GD_BAD_DATA, "id %d has an empty text", id);
  size_t slot = slot_of(bpe, bytes, count);
  if (findable && bpe->table[slot] >= 0)
    return gd_fail_user(GD_BAD_DATA, "ids %d and %d have the same text", bpe->table[slot], id);
  bpe->offset[id] = bpe->blob.count;
  bpe->length[id] = (uint32_t)count;
  GD_TRY(gd_bytes_append(&bpe->blob, bytes, count));
  if (findable) bpe->table[slot] = id;
  return GD_OK;
}

int32_t gd_bpe_find(const gd_bpe *bpe, const char *bytes, size_t count) {
  return bpe->table[slot_of(bpe, bytes, count)];
}

const char *gd_bpe_bytes(const gd_bpe *bpe, int32_t id, size_t *count) {
  if (id < 0 || id >= bpe->vocabulary || bpe->offset[id] == SIZE_MAX) return NULL;
  *count = bpe->length[id];
  return bpe->blob.bytes + bpe->offset[id];
}

gd_status gd_bpe_add_merge(gd_bpe *bpe, int32_t left, int32_t right, uint32_t rank, int32_t merged) {
  return gd_merge_map_add(&bpe->merges, left, right, rank, merged);
}

gd_status gd_bpe_add_all_merges(gd_bpe *bpe, const uint32_t *rank) {
  for (int32_t id = 0; id < bpe->vocabulary; id++) {
    size_t count;
    const char *bytes = gd_bpe_bytes(bpe, id, &count);
    if (!bytes || gd_bpe_find(bpe, bytes, count) != id) continue;
    for (size_t cut = 1; cut < count; cut++) {
      int32_t left = gd_bpe_find(bpe, bytes, cut), right = gd_bpe_find(bpe, bytes + cut, count - cut);
      if (left >= 0 && right >= 0) GD_TRY(gd_bpe_add_merge(bpe, left, right, rank ? rank[id] : (uint32_t)id, id));
    }
  }
  return GD_OK;
}

gd_status gd_bpe_finish(gd_bpe *bpe, const char *pattern, bool whole_first, int32_t unknown) {
  for (int byte = 0; byte < 256; byte++) {
    char one = (char)byte;
    int32_t id = gd_bpe_find(bpe, &one, 1);
    bpe->byte_ids[byte] = id >= 0 ? id : unknown;
  }
  bpe->whole_first = whole_first;
  return gd_splitter_open(pattern, &bpe->splitter);
}

gd_status gd_bpe_merge(const gd_bpe *bpe, int32_t *ids, size_t *count) {
  return gd_merge(&bpe->merges, ids, count);
}

/* ---- encoding ---- */

static gd_status context_take(gd_bpe *bpe, context **out) {
  pthread_mutex_lock(&bpe->mutex);
  context *at = bpe->idle;
  if (at) bpe->idle = at->next;
  pthread_mutex_unlock(&bpe->mutex);
  *out = at;
  if (at) return GD_OK;
  at = calloc(1, sizeof *at);
  gd_status status = GD_OK;
  if (at) at->cache = calloc(CACHE_WORDS, sizeof *at->cache);
  if (!at || !at->cache) status = gd_fail(GD_NO_MEMORY, "no memory to encode");
  if (status == GD_OK) status = gd_splitter_state_open(bpe->splitter, &at->splitter);
  if (status != GD_OK) {
    context_close(at);
    return status;
  }
  *out = at;
  return GD_OK;
}

static void context_give(gd_bpe *bpe, context *at) {
  pthread_mutex_lock(&bpe->mutex);
  at->next = bpe->idle;
  bpe->idle = at;
  pthread_mutex_unlock(&bpe->mutex);
}

static gd_status encode_piece(const gd_bpe *bpe, const char *bytes, size_t count, gd_ids *out) {
  if (bpe->whole_first) {
    int32_t id = gd_bpe_find(bpe, bytes, count);
    if (id >= 0) return gd_ids_append(out, &id, 1);
  }
  GD_TRY(gd_ids_reserve(out, count));
  int32_t *ids = out->ids + out->count;
  for (size_t i = 0; i < count; i++) {
    uint8_t byte = (uint8_t)bytes[i];
    ids[i] = bpe->byte_ids[byte];
    if (ids[i] < 0) return gd_fail_user(GD_BAD_DATA, "the tokenizer has no id for the byte 0x%02x", byte);
  }
  GD_TRY(gd_bpe_merge(bpe, ids, &count));
  out->count += count;
  return GD_OK;
}

/* Through the cache where the piece is short; a newer word replaces an older one of the same slot. */
static gd_status encode_word(const gd_bpe *bpe, context *at, const char *bytes, size_t count, gd_ids *out) {
  if (count > WORD_BYTES) return encode_piece(bpe, bytes, count, out);
  uint64_t text[WORD_BYTES / 8] = {0};
  memcpy(text, bytes, count);
  uint64_t hash = mix(mix(mix(count, text[0]), text[1]), text[2]);
  word *cached = &at->cache[hash & (CACHE_WORDS - 1)];
  if (cached->length == count && cached->text[0] == text[0] && cached->text[1] == text[1] && cached->text[2] == text[2]) {
    GD_TRY(gd_ids_reserve(out, WORD_IDS));
    memcpy(out->ids + out->count, cached->ids, sizeof cached->ids);
    out->count += cached->count;
    return GD_OK;
  }
  size_t before = out->count;
  GD_TRY(encode_piece(bpe, bytes, count, out));
  size_t ids = out->count - before;
  if (ids > WORD_IDS) return GD_OK;
  memcpy(cached->text, text, sizeof text);
  memcpy(cached->ids, out->ids + before, ids * sizeof *out->ids);
  cached->length = (uint8_t)count;
  cached->count = (uint8_t)ids;
  return GD_OK;
}

static gd_status encode_in(gd_bpe *bpe, context *at, const char *bytes, size_t count, gd_ids *out) {
  while (count) {
    bool valid;
    size_t run = gd_utf8_run(bytes, count, &valid);
    if (!valid) {
      GD_TRY(encode_piece(bpe, bytes, run, out));
    } else {
      for (size_t start = 0, end; start < run; start = end) {
        GD_TRY(gd_splitter_next(bpe->splitter, at->splitter, bytes, run, start, &end));
        GD_TRY(encode_word(bpe, at, bytes + start, end - start, out));
      }
    }
    bytes += run;
    count -= run;
  }
  return GD_OK;
}

gd_status gd_bpe_encode(void *state, const char *bytes, size_t count, gd_ids *out) {
  gd_bpe *bpe = state;
  context *at;
  GD_TRY(context_take(bpe, &at));
  gd_status status = encode_in(bpe, at, bytes, count, out);
  context_give(bpe, at);
  return status;
}

gd_status gd_bpe_decode(const void *state, int32_t previous, const int32_t *ids, size_t count, gd_bytes *out) {
  const gd_bpe *bpe = state;
  (void)previous; /* only kinds with a prefix space look back */
  for (size_t i = 0; i < count; i++) {
    size_t length;
    const char *bytes = gd_bpe_bytes(bpe, ids[i], &length);
    if (!bytes)
      return gd_fail_user(GD_BAD_DATA, "id %d has no text, expected an id of the vocabulary of %d", ids[i], bpe->vocabulary);
    GD_TRY(gd_bytes_append(out, bytes, length));
  }
  return GD_OK;
}
