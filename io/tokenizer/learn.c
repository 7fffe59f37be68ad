/* learn.c - merges learned from counted words. */
#include "io/tokenizer/learn.h"

#include <stdlib.h>
#include <string.h>

/* ---- words ---- */

typedef struct word {
  size_t offset;
  uint32_t length;
  uint64_t hash;
  int64_t count;
} word;

struct gd_words {
  gd_bytes blob;
  word *words;
  int64_t number, capacity;
  int64_t *table; /* index + 1; 0: free */
  size_t table_size;
};

gd_status gd_words_open(gd_words **out) {
  gd_words *words = calloc(1, sizeof *words);
  *out = words;
  if (!words) return gd_fail(GD_NO_MEMORY, "no memory for words");
  words->table_size = 1 << 16;
  words->table = calloc(words->table_size, sizeof *words->table);
  if (words->table) return GD_OK;
  gd_words_close(words);
  *out = NULL;
  return gd_fail(GD_NO_MEMORY, "no memory for words");
}

void gd_words_close(gd_words *words) {
  if (!words) return;
  gd_bytes_free(&words->blob);
  free(words->words);
  free(words->table);
  free(words);
}

static uint64_t hash_bytes(const char *bytes, size_t count) {
  uint64_t hash = 14695981039346656037u;
  for (size_t i = 0; i < count; i++) hash = (hash ^ (uint8_t)bytes[i]) * 1099511628211u;
  return hash ^ hash >> 31;
}

static gd_status grow_words(gd_words *words) {
  int64_t capacity = words->capacity ? 2 * words->capacity : 1 << 14;
  word *bigger = realloc(words->words, (size_t)capacity * sizeof *bigger);
  if (!bigger) return gd_fail(GD_NO_MEMORY, "no memory for %lld words", (long long)capacity);
  words->words = bigger;
  words->capacity = capacity;
  if ((size_t)capacity * 2 <= words->table_size) return GD_OK;
  size_t size = (size_t)capacity * 4;
  int64_t *table = calloc(size, sizeof *table);
  if (!table) return gd_fail(GD_NO_MEMORY, "no memory for %lld words", (long long)capacity);
  for (int64_t i = 0; i < words->number; i++) {
    size_t slot = words->words[i].hash & (size - 1);
    while (table[slot]) slot = (slot + 1) & (size - 1);
    table[slot] = i + 1;
  }
  free(words->table);
  words->table = table;
  words->table_size = size;
  return GD_OK;
}

gd_status gd_words_count(gd_words *words, const char *bytes, size_t count) {
  uint64_t hash = hash_bytes(bytes, count);
  size_t slot = hash & (words->table_size - 1);
  for (; words->table[slot]; slot = (slot + 1) & (words->table_size - 1)) {
    word *at = &words->words[words->table[slot] - 1];
    if (at->hash != hash || at->length != count || memcmp(words->blob.bytes + at->offset, bytes, count) != 0) continue;
    at->count++;
    return GD_OK;
  }
  if (words->number == words->capacity) {
    GD_TRY(grow_words(words));
    slot = hash & (words->table_size - 1);
    while (words->table[slot]) slot = (slot + 1) & (words->table_size - 1);
  }
  words->words[words->number] = (word){words->blob.count, (uint32_t)count, hash, 1};
  words->table[slot] = ++words->number;
  return gd_bytes_append(&words->blob, bytes, count);
}

int64_t gd_words_number(const gd_words *words) {
  return words->number;
}

/* ---- pairs ---- */

/* A pair of neighbouring ids: how often it occurs now, and the words where it was seen (some may have lost it). */
typedef struct pair {
  int32_t left, right;
  int64_t count;
  uint32_t *where;
  uint32_t where_count, where_capacity;
} pair;

/* A pair with the count that it had when it was pushed; stale where the count has moved on. */
typedef struct candidate {
  int64_t count;
  uint32_t pair;
} candidate;

typedef struct learner {
  int32_t *symbols; /* the ids of all words, one behind the other */
  size_t *offset;   /* [words] */
  uint32_t *length; /* [words] */
  const gd_words *words;
  pair *pairs;
  uint32_t pair_count, pair_capacity;
  uint32_t *table; /* index + 1; 0: free */
  size_t table_size;
  candidate *heap;
  size_t heap_count, heap_capacity;
} learner;

static size_t pair_slot(const learner *l, int32_t left, int32_t right) {
  uint64_t hash = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9E3779B97F4A7C15u;
  size_t slot = (hash ^ hash >> 32) & (l->table_size - 1);
  for (; l->table[slot]; slot = (slot + 1) & (l->table_size - 1)) {
    const pair *at = &l->pairs[l->table[slot] - 1];
    if (at->left == left && at->right == right) break;
  }
  return slot;
}

static gd_status grow_pairs(learner *l) {
  uint32_t capacity = l->pair_capacity ? 2 * l->pair_capacity : 1 << 14;
  pair *bigger = realloc(l->pairs, capacity * sizeof *bigger);
  if (bigger) l->pairs = bigger;
  uint32_t *table = calloc((size_t)capacity * 4, sizeof *table);
  if (!bigger || !table) {
    free(table);
    return gd_fail(GD_NO_MEMORY, "no memory for %u pairs", capacity);
  }
  l->pair_capacity = capacity;
  free(l->table);
  l->table = table;
  l->table_size = (size_t)capacity * 4;
  for (uint32_t i = 0; i < l->pair_count; i++) l->table[pair_slot(l, l->pairs[i].left, l->pairs[i].right)] = i + 1;
  return GD_OK;
}

static gd_status add(learner *l, int32_t left, int32_t right, int64_t count, uint32_t word_index) {
  if (l->pair_count == l->pair_capacity) GD_TRY(grow_pairs(l));
  size_t slot = pair_slot(l, left, right);
  if (!l->table[slot]) {
    l->pairs[l->pair_count] = (pair){.left = left, .right = right};
    l->table[slot] = ++l->pair_count;
  }
  pair *at = &l->pairs[l->table[slot] - 1];
  at->count += count;
  if (at->where_count && at->where[at->where_count - 1] == word_index) return GD_OK;
  if (at->where_count == at->where_capacity) {
    uint32_t capacity = at->where_capacity ? 2 * at->where_capacity : 4;
    uint32_t *where = realloc(at->where, capacity * sizeof *where);
    if (!where) return gd_fail(GD_NO_MEMORY, "no memory for pairs");
    at->where = where;
    at->where_capacity = capacity;
  }
  at->where[at->where_count++] = word_index;
  return GD_OK;
}

/* More often first; then the smaller ids. */
static bool before(const learner *l, const candidate *a, const candidate *b) {
  if (a->count != b->count) return a->count > b->count;
  const pair *x = &l->pairs[a->pair], *y = &l->pairs[b->pair];
  return x->left != y->left ? x->left < y->left : x->right < y->right;
}

static gd_status push(learner *l, uint32_t index) {
  if (l->heap_count == l->heap_capacity) {
    size_t capacity = l->heap_capacity ? 2 * l->heap_capacity : 1 << 14;
    candidate *heap = realloc(l->heap, capacity * sizeof *heap);
    if (!heap) return gd_fail(GD_NO_MEMORY, "no memory for pairs");
    l->heap = heap;
    l->heap_capacity = capacity;
  }
  candidate value = {l->pairs[index].count, index};
  size_t at = l->heap_count++;
  for (; at && before(l, &value, &l->heap[(at - 1) / 2]); at = (at - 1) / 2) l->heap[at] = l->heap[(at - 1) / 2];
  l->heap[at] = value;
  return GD_OK;
}

static candidate pop(learner *l) {
  candidate top = l->heap[0], last = l->heap[--l->heap_count];
  size_t at = 0;
  for (;;) {
    size_t child = 2 * at + 1;
    if (child >= l->heap_count) break;
    if (child + 1 < l->heap_count && before(l, &l->heap[child + 1], &l->heap[child])) child++;
    if (!before(l, &l->heap[child], &last)) break;
    l->heap[at] = l->heap[child];
    at = child;
  }
  l->heap[at] = last;
  return top;
}

static gd_status start(learner *l, const int32_t *byte_ids) {
  const gd_words *words = l->words;
  size_t number = (size_t)words->number;
  l->symbols = malloc((words->blob.count + 1) * sizeof *l->symbols);
  l->offset = malloc((number + 1) * sizeof *l->offset);
  l->length = malloc((number + 1) * sizeof *l->length);
  if (!l->symbols || !l->offset || !l->length) return gd_fail(GD_NO_MEMORY, "no memory for %zu words", number);
  for (size_t i = 0; i < words->blob.count; i++) l->symbols[i] = byte_ids[(uint8_t)words->blob.bytes[i]];
  for (size_t w = 0; w < number; w++) {
    const word *at = &words->words[w];
    l->offset[w] = at->offset;
    l->length[w] = at->length;
    const int32_t *ids = l->symbols + at->offset;
    for (uint32_t i = 0; i + 1 < at->length; i++) GD_TRY(add(l, ids[i], ids[i + 1], at->count, (uint32_t)w));
  }
  for (uint32_t i = 0; i < l->pair_count; i++) GD_TRY(push(l, i));
  return GD_OK;
}

/* Replaces left right by id in one word; the counts of the neighbouring pairs follow. */
static gd_status merge_word(learner *l, uint32_t w, int32_t left, int32_t right, int32_t id) {
  int32_t *ids = l->symbols + l->offset[w];
  int64_t count = l->words->words[w].count;
  uint32_t length = l->length[w], kept = 0;
  bool found = false;
  for (uint32_t i = 0; i + 1 < length && !found; i++) found = ids[i] == left && ids[i + 1] == right;
  if (!found) return GD_OK;
  /* Takes all pairs of the word out and puts those of the new word in: a word is short. */
  for (uint32_t i = 0; i + 1 < length; i++) l->pairs[l->table[pair_slot(l, ids[i], ids[i + 1])] - 1].count -= count;
  for (uint32_t i = 0; i < length; kept++) {
    bool here = i + 1 < length && ids[i] == left && ids[i + 1] == right;
    ids[kept] = here ? id : ids[i];
    i += here ? 2 : 1;
  }
  l->length[w] = kept;
  for (uint32_t i = 0; i + 1 < kept; i++) {
    bool fresh = ids[i] == id || ids[i + 1] == id;
    if (fresh)
      GD_TRY(add(l, ids[i], ids[i + 1], count, w));
    else
      l->pairs[l->table[pair_slot(l, ids[i], ids[i + 1])] - 1].count += count;
  }
  return GD_OK;
}

static gd_status learn(learner *l, int32_t first_id, int64_t most, gd_learned *merges, int64_t *count) {
  while (*count < most && l->heap_count) {
    candidate top = pop(l);
    int64_t now = l->pairs[top.pair].count;
    if (now != top.count) {
      if (now > 1) GD_TRY(push(l, top.pair));
      continue;
    }
    if (now < 2) break;
    int32_t left = l->pairs[top.pair].left, right = l->pairs[top.pair].right, id = first_id + (int32_t)*count;
    uint32_t pairs_before = l->pair_count;
    /* The list belongs to this pair alone and is not looked at again. */
    uint32_t *where = l->pairs[top.pair].where, where_count = l->pairs[top.pair].where_count;
    l->pairs[top.pair].where = NULL;
    l->pairs[top.pair].where_count = l->pairs[top.pair].where_capacity = 0;
    gd_status status = GD_OK;
    for (uint32_t i = 0; status == GD_OK && i < where_count; i++) status = merge_word(l, where[i], left, right, id);
    free(where);
    /* A pair with the new id is new; those that became rarer are found stale when they are popped. */
    for (uint32_t i = pairs_before; status == GD_OK && i < l->pair_count; i++) status = push(l, i);
    GD_TRY(status);
    merges[(*count)++] = (gd_learned){left, right};
  }
  return GD_OK;
}

gd_status gd_learn_merges(const gd_words *words, const int32_t *byte_ids, int32_t first_id, int64_t most, gd_learned **merges,
                          int64_t *count) {
  *count = 0;
  *merges = malloc((size_t)(most > 0 ? most : 1) * sizeof **merges);
  learner l = {.words = words};
  gd_status status = *merges ? start(&l, byte_ids) : gd_fail(GD_NO_MEMORY, "no memory for %lld merges", (long long)most);
  if (status == GD_OK) status = learn(&l, first_id, most, *merges, count);
  for (uint32_t i = 0; i < l.pair_count; i++) free(l.pairs[i].where);
  free(l.pairs);
  free(l.table);
  free(l.heap);
  free(l.symbols);
  free(l.offset);
  free(l.length);
  if (status == GD_OK) return GD_OK;
  free(*merges);
  *merges = NULL;
  return status;
}
