/* specials.h - the tokens that are looked for in a text before anything else, all of them in one pass: a trie of their bytes.
 */
#ifndef GD_IO_TOKENIZER_SPECIALS_H
#define GD_IO_TOKENIZER_SPECIALS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shard/base/status.h"

typedef struct gd_special {
  char *text;
  size_t length;
  int32_t id;
  bool special;        /* taken where the caller allows special tokens; else always */
  bool lstrip, rstrip; /* white space before or behind it belongs to it */
} gd_special;

typedef struct gd_specials_node {
  int32_t sibling, child; /* -1: none */
  int32_t ends;           /* the token whose text ends here, -1: none */
  uint8_t byte;
} gd_specials_node;

/* All zeros is empty. */
typedef struct gd_specials {
  gd_special *list;
  int32_t count;
  gd_specials_node *nodes;
  int32_t node_count, node_capacity;
  int32_t first[256]; /* nodes of the first bytes, + 1; 0: none */
} gd_specials;

/* Copies text, which is not empty. The first of two with the same text stays. GD_NO_MEMORY. */
GD_CHECKED gd_status gd_specials_add(gd_specials *specials, const gd_special *special);
void gd_specials_free(gd_specials *specials);

/* The one that comes first in bytes[count], the longest of those at the same place, and where it begins; NULL: none. Without
 * `special` those that are special are passed over. */
const gd_special *gd_specials_find(const gd_specials *specials, const char *bytes, size_t count, bool special, size_t *at);

#endif
