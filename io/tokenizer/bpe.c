/* bpe.c - a vocabulary with merges: built, text to ids piece by piece, and back. */
#include "io/tokenizer/bpe.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "io/base/nfc.h"
#include "io/tokenizer/merge.h"
#include "io/base/utf8.h"

enum { CACHE_WORDS = 1 << 15, WORD_BYTES = 24, WORD_IDS = 9, SEAM_BITS = 1 << 16, PART = 128 };

/* One cache line: a piece of text and its ids. length 0: empty. */
typedef struct word {
  uint64_t text[WORD_BYTES / 8]; /* zero padded */
  uint8_t length, count;         /* length: PART where the text is a part of a piece */
  int32_t ids[WORD_IDS];
} word;

/* What one call of encode needs; contexts wait in a list between calls. */
typedef struct context {
  struct context *next;
  gd_splitter_state *states[GD_BPE_STEPS]; /* of each step */
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
  uint64_t seams[SEAM_BITS / 64]; /* seam_bit of every merge whose right part begins with a character behind another one */
  int32_t byte_ids[256];
  bool whole_first, nfc;
  gd_split_step steps[GD_BPE_STEPS];
  int32_t step_count;
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
  for (int i = 0; i < GD_BPE_STEPS; i++) gd_splitter_state_close(at->states[i]);
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
  for (int32_t i = 0; i < bpe->step_count; i++) gd_splitter_close(bpe->steps[i].splitter);
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

/* Up to two bytes on either side of a seam, `at` being the first behind it, as a bit of bpe->seams. */
static size_t seam_bit(const char *at, size_t before, size_t behind) {
  uint32_t value = (uint32_t)(4 * before + behind);
  for (size_t i = 0; i < before + behind; i++) value = (value << 8 | (uint8_t)(at - before)[i]) * 0x9E3779B1u;
  return value >> 16;
}

/* Between two characters that are not ASCII. */
static bool is_seam(const char *at) {
  return (uint8_t)at[0] >= 0xc0 && (uint8_t)at[-1] >= 0x80;
}

static void note_seam(gd_bpe *bpe, int32_t left, int32_t right) {
  size_t left_count, right_count;
  const char *left_bytes = gd_bpe_bytes(bpe, left, &left_count), *right_bytes = gd_bpe_bytes(bpe, right, &right_count);
  if (!left_bytes || !right_bytes) return;
  size_t before = left_count < 2 ? left_count : 2, behind = right_count < 2 ? right_count : 2;
  char bytes[4];
  memcpy(bytes, left_bytes + left_count - before, before);
  memcpy(bytes + before, right_bytes, behind);
  if (!is_seam(bytes + before)) return;
  size_t bit = seam_bit(bytes + before, before, behind);
  bpe->seams[bit / 64] |= (uint64_t)1 << bit % 64;
}

gd_status gd_bpe_add_merge(gd_bpe *bpe, int32_t left, int32_t right, uint32_t rank, int32_t merged) {
  note_seam(bpe, left, right);
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

static int by_rank(const void *a, const void *b) {
  const gd_bpe_pair *x = a, *y = b;
  if (x->rank != y->rank) return x->rank < y->rank ? -1 : 1;
  if (x->left != y->left) return x->left < y->left ? -1 : 1;
  return (x->right > y->right) - (x->right < y->right);
}

gd_status gd_bpe_pairs(const gd_bpe *bpe, gd_bpe_pair **out, size_t *count) {
  *count = 0;
  *out = malloc((bpe->merges.count + 1) * sizeof **out);
  if (!*out) return gd_fail(GD_NO_MEMORY, "no memory for %zu merges", bpe->merges.count);
  for (size_t i = 0; i < bpe->merges.size; i++) {
    const gd_merge_entry *entry = &bpe->merges.entries[i];
    if (!entry->pair) continue;
    uint64_t pair = entry->pair - 1;
    (*out)[(*count)++] = (gd_bpe_pair){entry->rank, (int32_t)(pair >> 32), (int32_t)(uint32_t)pair};
  }
  if (*count) qsort(*out, *count, sizeof **out, by_rank);
  return GD_OK;
}

gd_status gd_bpe_finish(gd_bpe *bpe, const char *pattern, bool whole_first, int32_t unknown) {
  gd_split_step step = {0};
  GD_TRY(gd_splitter_open(pattern, &step.splitter));
  return gd_bpe_finish_steps(bpe, &step, 1, false, whole_first, unknown);
}

gd_status gd_bpe_finish_steps(gd_bpe *bpe, const gd_split_step *steps, int32_t count, bool nfc, bool whole_first,
                              int32_t unknown) {
  for (int byte = 0; byte < 256; byte++) {
    char one = (char)byte;
    int32_t id = gd_bpe_find(bpe, &one, 1);
    bpe->byte_ids[byte] = id >= 0 ? id : unknown;
    if (id < 0) memset(bpe->seams, 0xff, sizeof bpe->seams); /* "unknown" may merge with anything: nothing is a safe seam */
  }
  bpe->whole_first = whole_first;
  bpe->nfc = nfc;
  memcpy(bpe->steps, steps, (size_t)count * sizeof *steps);
  bpe->step_count = count;
  return GD_OK;
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
  for (int32_t i = 0; status == GD_OK && i < bpe->step_count; i++)
    status = gd_splitter_state_open(bpe->steps[i].splitter, &at->states[i]);
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

static gd_status encode_bytes(const gd_bpe *bpe, const char *bytes, size_t count, bool whole, gd_ids *out) {
  int32_t id = whole ? gd_bpe_find(bpe, bytes, count) : -1;
  if (id >= 0) return gd_ids_append(out, &id, 1);
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

/* Through the cache where the text is short; a newer word replaces an older one of the same slot. whole: a text that is a token
 * is taken as it is. */
static gd_status encode_word(const gd_bpe *bpe, context *at, const char *bytes, size_t count, bool whole, gd_ids *out) {
  if (count > WORD_BYTES) return encode_bytes(bpe, bytes, count, whole, out);
  uint64_t text[WORD_BYTES / 8] = {0};
  memcpy(text, bytes, count);
  const uint8_t length = (uint8_t)(count | (whole ? 0 : PART));
  uint64_t hash = mix(mix(mix(length, text[0]), text[1]), text[2]);
  word *cached = &at->cache[hash & (CACHE_WORDS - 1)];
  if (cached->length == length && cached->text[0] == text[0] && cached->text[1] == text[1] && cached->text[2] == text[2]) {
    GD_TRY(gd_ids_reserve(out, WORD_IDS));
    memcpy(out->ids + out->count, cached->ids, sizeof cached->ids);
    out->count += cached->count;
    return GD_OK;
  }
  size_t before = out->count;
  GD_TRY(encode_bytes(bpe, bytes, count, whole, out));
  size_t ids = out->count - before;
  if (ids > WORD_IDS) return GD_OK;
  memcpy(cached->text, text, sizeof text);
  memcpy(cached->ids, out->ids + before, ids * sizeof *out->ids);
  cached->length = length;
  cached->count = (uint8_t)ids;
  return GD_OK;
}

static bool may_cross(const gd_bpe *bpe, const char *at, size_t before, size_t behind) {
  for (size_t i = 1; i <= before && i <= 2; i++)
    for (size_t j = 1; j <= behind && j <= 2; j++) {
      size_t bit = seam_bit(at, i, j);
      if (bpe->seams[bit / 64] >> bit % 64 & 1) return true;
    }
  return false;
}

static bool is_ascii(const char *bytes, size_t count) {
  uint64_t high = 0, eight;
  for (; count >= 8; bytes += 8, count -= 8) {
    memcpy(&eight, bytes, 8);
    high |= eight;
  }
  for (size_t i = 0; i < count; i++) high |= (uint8_t)bytes[i];
  return !(high & 0x8080808080808080u);
}

/* The first place behind `start` that no merge crosses, whatever was merged before; count: none. */
static size_t next_seam(const gd_bpe *bpe, const char *bytes, size_t count, size_t start) {
  for (size_t i = start + 1; i < count; i++)
    if (is_seam(bytes + i) && !may_cross(bpe, bytes + i, i, count - i)) return i;
  return count;
}

/* Text without spaces (Chinese, Japanese, Thai) comes in pieces that hardly ever come again, but made of few characters. Where
 * no merge can join what stands left and right of a seam, both sides are merged as if the other were not there: the ids are
 * those of the whole, and the sides are found in the cache. */
static gd_status encode_piece(const gd_bpe *bpe, context *at, const char *bytes, size_t count, gd_ids *out) {
  size_t end = is_ascii(bytes, count) ? count : next_seam(bpe, bytes, count, 0);
  if (end == count) return encode_word(bpe, at, bytes, count, bpe->whole_first, out);
  int32_t id = bpe->whole_first ? gd_bpe_find(bpe, bytes, count) : -1;
  if (id >= 0) return gd_ids_append(out, &id, 1);
  for (size_t start = 0; start < count; start = end) {
    end = next_seam(bpe, bytes, count, start);
    GD_TRY(encode_word(bpe, at, bytes + start, end - start, false, out));
  }
  return GD_OK;
}

/* Valid UTF-8, cut by the steps from `step` on. */
static gd_status encode_cut(const gd_bpe *bpe, context *at, int32_t step, const char *bytes, size_t count, gd_ids *out) {
  if (step == bpe->step_count) return encode_piece(bpe, at, bytes, count, out);
  for (size_t start = 0, end; start < count; start = end) {
    bool kept;
    GD_TRY(gd_split_step_next(&bpe->steps[step], at->states[step], bytes, count, start, &end, &kept));
    if (kept) GD_TRY(encode_cut(bpe, at, step + 1, bytes + start, end - start, out));
  }
  return GD_OK;
}

static gd_status encode_in(gd_bpe *bpe, context *at, const char *bytes, size_t count, gd_ids *out) {
  gd_bytes composed = {0};
  gd_status status = GD_OK;
  while (status == GD_OK && count) {
    bool valid;
    size_t run = gd_utf8_run(bytes, count, &valid);
    if (!valid) {
      status = encode_piece(bpe, at, bytes, run, out);
    } else if (bpe->nfc && !gd_nfc_is(bytes, run)) {
      composed.count = 0;
      status = gd_nfc_append(&composed, bytes, run);
      if (status == GD_OK) status = encode_cut(bpe, at, 0, composed.bytes, composed.count, out);
    } else {
      status = encode_cut(bpe, at, 0, bytes, run, out);
    }
    bytes += run;
    count -= run;
  }
  gd_bytes_free(&composed);
  return status;
}

gd_status gd_bpe_encode(void *state, bool first, const char *bytes, size_t count, gd_ids *out) {
  (void)first;
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
