/* specials.c - a trie of the special tokens' bytes. */
#include "io/tokenizer/specials.h"

#include <stdlib.h>
#include <string.h>

static gd_status add_node(gd_specials *specials, uint8_t byte, int32_t *out) {
  if (specials->node_count == specials->node_capacity) {
    int32_t capacity = specials->node_capacity ? 2 * specials->node_capacity : 64;
    gd_specials_node *nodes = realloc(specials->nodes, (size_t)capacity * sizeof *nodes);
    if (!nodes) return gd_fail(GD_NO_MEMORY, "no memory for %d special tokens", specials->count);
    specials->nodes = nodes;
    specials->node_capacity = capacity;
  }
  *out = specials->node_count++;
  specials->nodes[*out] = (gd_specials_node){-1, -1, -1, byte};
  return GD_OK;
}

static int32_t child_of(const gd_specials *specials, int32_t node, uint8_t byte) {
  int32_t child = specials->nodes[node].child;
  while (child >= 0 && specials->nodes[child].byte != byte) child = specials->nodes[child].sibling;
  return child;
}

static gd_status insert(gd_specials *specials, int32_t index) {
  const gd_special *special = &specials->list[index];
  const uint8_t *text = (const uint8_t *)special->text;
  int32_t at = specials->first[text[0]] - 1, next;
  if (at < 0) {
    GD_TRY(add_node(specials, text[0], &at));
    specials->first[text[0]] = at + 1;
  }
  for (size_t i = 1; i < special->length; i++, at = next) {
    next = child_of(specials, at, text[i]);
    if (next >= 0) continue;
    GD_TRY(add_node(specials, text[i], &next));
    specials->nodes[next].sibling = specials->nodes[at].child;
    specials->nodes[at].child = next;
  }
  if (specials->nodes[at].ends < 0) specials->nodes[at].ends = index;
  return GD_OK;
}

gd_status gd_specials_add(gd_specials *specials, const gd_special *special) {
  size_t count = (size_t)specials->count + 1;
  gd_special *list = realloc(specials->list, count * sizeof *list);
  if (list) specials->list = list;
  char *copy = list ? strdup(special->text) : NULL;
  if (!copy) return gd_fail(GD_NO_MEMORY, "no memory for %zu special tokens", count);
  list[specials->count] = *special;
  list[specials->count].text = copy;
  list[specials->count].length = strlen(copy);
  return insert(specials, specials->count++);
}

void gd_specials_free(gd_specials *specials) {
  for (int32_t i = 0; i < specials->count; i++) free(specials->list[i].text);
  free(specials->list);
  free(specials->nodes);
  *specials = (gd_specials){0};
}

/* The longest that begins at bytes[0]. */
static const gd_special *match(const gd_specials *specials, const char *bytes, size_t count, bool special) {
  const gd_special *best = NULL;
  int32_t at = specials->first[(uint8_t)bytes[0]] - 1;
  for (size_t i = 1; at >= 0; i++) {
    int32_t ends = specials->nodes[at].ends;
    if (ends >= 0 && (special || !specials->list[ends].special)) best = &specials->list[ends];
    if (i == count) break;
    at = child_of(specials, at, (uint8_t)bytes[i]);
  }
  return best;
}

const gd_special *gd_specials_find(const gd_specials *specials, const char *bytes, size_t count, bool special, size_t *at) {
  for (size_t i = 0; i < count && specials->count; i++) {
    if (!specials->first[(uint8_t)bytes[i]]) continue;
    const gd_special *found = match(specials, bytes + i, count - i, special);
    if (!found) continue;
    *at = i;
    return found;
  }
  return NULL;
}
