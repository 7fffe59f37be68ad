/* merge.h - the table of merges (pair of ids -> rank, merged id) and the merging of one piece. */
#ifndef GD_IO_TOKENIZER_MERGE_H
#define GD_IO_TOKENIZER_MERGE_H

#include <stddef.h>
#include <stdint.h>

#include "shard/base/status.h"

typedef struct gd_merge_entry {
  uint64_t pair; /* (left << 32 | right) + 1; 0: free */
  uint32_t rank; /* below UINT32_MAX */
  int32_t merged;
} gd_merge_entry;

typedef struct gd_merge_map {
  gd_merge_entry *entries;
  size_t size, count; /* size is a power of two */
} gd_merge_map;

GD_CHECKED gd_status gd_merge_map_add(gd_merge_map *map, int32_t left, int32_t right, uint32_t rank, int32_t merged);
void gd_merge_map_free(gd_merge_map *map);

/* Merges ids[*count] in place, lowest rank first, leftmost of equals. O(n log n). GD_NO_MEMORY. */
GD_CHECKED gd_status gd_merge(const gd_merge_map *map, int32_t *ids, size_t *count);

#endif
