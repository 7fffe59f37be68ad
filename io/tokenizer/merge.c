/* merge.c - the table of merges, and the merging of one piece. */
#include "io/tokenizer/merge.h"

#include <stdlib.h>

enum { SHORT = 48 }; /* up to here a scan for the lowest rank beats a heap */
static const uint32_t none = UINT32_MAX;

static uint64_t pair_of(int32_t left, int32_t right) {
  return ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) + 1;
}

static size_t slot_of(const gd_merge_map *map, uint64_t pair) {
  uint64_t hash = pair * 0x9E3779B97F4A7C15u;
  size_t slot = (hash ^ hash >> 32) & (map->size - 1);
  while (map->entries[slot].pair && map->entries[slot].pair != pair) slot = (slot + 1) & (map->size - 1);
  return slot;
}

static gd_status grow(gd_merge_map *map) {
  gd_merge_map bigger = {.size = map->size ? map->size * 2 : 4096, .count = map->count};
  bigger.entries = calloc(bigger.size, sizeof *bigger.entries);
  if (!bigger.entries) return gd_fail(GD_NO_MEMORY, "no memory for %zu merges", bigger.size);
  for (size_t i = 0; i < map->size; i++)
    if (map->entries[i].pair) bigger.entries[slot_of(&bigger, map->entries[i].pair)] = map->entries[i];
  free(map->entries);
  *map = bigger;
  return GD_OK;
}

gd_status gd_merge_map_add(gd_merge_map *map, int32_t left, int32_t right, uint32_t rank, int32_t merged) {
  if (2 * (map->count + 1) > map->size) GD_TRY(grow(map));
  size_t slot = slot_of(map, pair_of(left, right));
  if (map->entries[slot].pair) return GD_OK;
  map->entries[slot] = (gd_merge_entry){pair_of(left, right), rank, merged};
  map->count++;
  return GD_OK;
}

void gd_merge_map_free(gd_merge_map *map) {
  free(map->entries);
  *map = (gd_merge_map){0};
}

static uint32_t rank_of(const gd_merge_map *map, int32_t left, int32_t right, int32_t *merged) {
  if (!map->size) return none;
  const gd_merge_entry *entry = &map->entries[slot_of(map, pair_of(left, right))];
  if (!entry->pair) return none;
  *merged = entry->merged;
  return entry->rank;
}

/* rank[i]: of the pair (ids[i], ids[i + 1]). */
static size_t merge_short(const gd_merge_map *map, int32_t *ids, size_t count) {
  uint32_t rank[SHORT];
  int32_t merged[SHORT];
  for (size_t i = 0; i + 1 < count; i++) rank[i] = rank_of(map, ids[i], ids[i + 1], &merged[i]);
  while (count > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < count; i++)
      if (rank[i] < rank[best]) best = i;
    if (rank[best] == none) break;
    ids[best] = merged[best];
    for (size_t i = best + 1; i + 1 < count; i++) {
      ids[i] = ids[i + 1];
      rank[i] = rank[i + 1];
      merged[i] = merged[i + 1];
    }
    count--;
    if (best > 0) rank[best - 1] = rank_of(map, ids[best - 1], ids[best], &merged[best - 1]);
    if (best + 1 < count) rank[best] = rank_of(map, ids[best], ids[best + 1], &merged[best]);
  }
  return count;
}

/* A long piece: a linked list of symbols and a heap of (rank, position); an entry is stale when the symbol's rank moved on. */
typedef struct symbol {
  uint32_t previous, next, rank;
  int32_t merged;
} symbol;

static void heap_push(uint64_t *heap, size_t *size, uint64_t value) {
  size_t at = (*size)++;
  for (; at && heap[(at - 1) / 2] > value; at = (at - 1) / 2) heap[at] = heap[(at - 1) / 2];
  heap[at] = value;
}

static uint64_t heap_pop(uint64_t *heap, size_t *size) {
  uint64_t top = heap[0], last = heap[--*size];
  size_t at = 0;
  for (;;) {
    size_t child = 2 * at + 1;
    if (child >= *size) break;
    if (child + 1 < *size && heap[child + 1] < heap[child]) child++;
    if (heap[child] >= last) break;
    heap[at] = heap[child];
    at = child;
  }
  heap[at] = last;
  return top;
}

static void look(const gd_merge_map *map, const int32_t *ids, symbol *symbols, uint32_t at, uint64_t *heap, size_t *size) {
  uint32_t next = symbols[at].next;
  symbols[at].rank = next == none ? none : rank_of(map, ids[at], ids[next], &symbols[at].merged);
  if (symbols[at].rank != none) heap_push(heap, size, (uint64_t)symbols[at].rank << 32 | at);
}

static gd_status merge_long(const gd_merge_map *map, int32_t *ids, size_t *count) {
  if (*count >= none) return gd_fail_user(GD_BAD_DATA, "a piece of %zu bytes without a break is too long", *count);
  uint32_t n = (uint32_t)*count;
  symbol *symbols = malloc(n * sizeof *symbols);
  uint64_t *heap = malloc(3 * (size_t)n * sizeof *heap); /* at most one entry a pair at the start and two a merge */
  if (!symbols || !heap) {
    free(symbols);
    free(heap);
    return gd_fail(GD_NO_MEMORY, "no memory to merge a piece of %zu bytes", *count);
  }
  size_t size = 0;
  for (uint32_t i = 0; i < n; i++) symbols[i] = (symbol){i ? i - 1 : none, i + 1 < n ? i + 1 : none, none, 0};
  for (uint32_t i = 0; i < n; i++) look(map, ids, symbols, i, heap, &size);
  while (size) {
    uint64_t top = heap_pop(heap, &size);
    uint32_t at = (uint32_t)top;
    if (symbols[at].rank != (uint32_t)(top >> 32)) continue;
    uint32_t gone = symbols[at].next, next = symbols[gone].next;
    ids[at] = symbols[at].merged;
    symbols[gone].rank = none; /* its entries are stale from now on */
    ids[gone] = -1;
    symbols[at].next = next;
    if (next != none) symbols[next].previous = at;
    look(map, ids, symbols, at, heap, &size);
    if (symbols[at].previous != none) look(map, ids, symbols, symbols[at].previous, heap, &size);
  }
  size_t kept = 0;
  for (uint32_t i = 0; i < n; i++)
    if (ids[i] >= 0) ids[kept++] = ids[i];
  *count = kept;
  free(symbols);
  free(heap);
  return GD_OK;
}

gd_status gd_merge(const gd_merge_map *map, int32_t *ids, size_t *count) {
  if (*count > SHORT) return merge_long(map, ids, count);
  if (*count > 1) *count = merge_short(map, ids, *count);
  return GD_OK;
}
