/* ids.c - growing arrays of ids, and the special tokens that every kind of tokenizer adds. */
#include <stdlib.h>
#include <string.h>

#include "io/tokenizer/internal.h"

gd_status gd_ids_reserve(gd_ids *buffer, size_t more) {
  size_t wanted = buffer->count + more;
  if (wanted <= buffer->capacity) return GD_OK;
  size_t capacity = buffer->capacity ? buffer->capacity : 64;
  while (capacity < wanted) capacity *= 2;
  int32_t *ids = realloc(buffer->ids, capacity * sizeof *ids);
  if (!ids) return gd_fail(GD_NO_MEMORY, "no memory for %zu ids", capacity);
  buffer->ids = ids;
  buffer->capacity = capacity;
  return GD_OK;
}

gd_status gd_ids_append(gd_ids *buffer, const int32_t *ids, size_t count) {
  GD_TRY(gd_ids_reserve(buffer, count));
  if (count) memcpy(buffer->ids + buffer->count, ids, count * sizeof *ids);
  buffer->count += count;
  return GD_OK;
}

void gd_ids_free(gd_ids *buffer) {
  free(buffer->ids);
  *buffer = (gd_ids){0};
}

gd_status gd_tokenizer_add_special(gd_tokenizer *tokenizer, const char *text, int32_t id) {
  gd_special special = {.text = (char *)text, .id = id, .special = true};
  return gd_specials_add(&tokenizer->specials, &special);
}
