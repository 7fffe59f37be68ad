/* nfc.c - decompose, order the marks behind a letter by their class, compose. */
#include "io/base/nfc.h"

#include <stdlib.h>

#include "io/base/nfc_table.h"
#include "io/base/utf8.h"

/* Hangul syllables are made of a leading consonant, a vowel and perhaps a trailing consonant (Unicode 3.12). */
enum { S = 0xac00, L = 0x1100, V = 0x1161, T = 0x11a7, LS = 19, VS = 21, TS = 28, SYLLABLES = LS * VS * TS };

typedef struct letter {
  uint32_t code_point, order; /* its combining class */
} letter;

typedef struct letters {
  letter *list;
  size_t count, capacity;
} letters;

static int by_character(const void *key, const void *row) {
  uint32_t a = *(const uint32_t *)key, b = *(const uint32_t *)row;
  return (a > b) - (a < b);
}

static int by_pair(const void *key, const void *row) {
  const uint32_t *a = key, *b = decompositions[*(const uint16_t *)row] + 1;
  return a[0] != b[0] ? (a[0] > b[0] ? 1 : -1) : (a[1] > b[1]) - (a[1] < b[1]);
}

static int by_range(const void *key, const void *row) {
  uint32_t a = *(const uint32_t *)key;
  const uint32_t *b = row;
  return a < b[0] ? -1 : a > b[1];
}

#define FIND(key, table, compare) bsearch(key, table, sizeof table / sizeof *table, sizeof *table, compare)

static uint32_t class_of(uint32_t code_point) {
  const uint32_t *row = code_point < 0x300 ? NULL : FIND(&code_point, classes, by_range);
  return row ? row[2] : 0;
}

/* What two characters make; 0: nothing. */
static uint32_t compose(uint32_t first, uint32_t second) {
  const uint32_t key[2] = {first, second};
  if (first - L < LS && second - V < VS) return S + ((first - L) * VS + (second - V)) * TS;
  if (first - S < SYLLABLES && (first - S) % TS == 0 && second > T && second - T < TS) return first + (second - T);
  const uint16_t *row = FIND(key, compositions, by_pair);
  return row ? decompositions[*row][0] : 0;
}

/* Stands alone in form C, and joins nothing before it. */
static bool is_plain(uint32_t c) {
  if (c < 0x300) return true;
  if ((c >= V && c < V + VS) || (c > T && c < T + TS) || class_of(c) || FIND(&c, seconds, by_character)) return false;
  const uint32_t *row = FIND(&c, decompositions, by_character);
  return !row || (row[2] && compose(row[1], row[2]) == c);
}

bool gd_nfc_is(const char *text, size_t count) {
  for (size_t i = 0; i < count;) {
    uint32_t c = (uint8_t)text[i];
    size_t length = c < 0x80 ? 1 : gd_utf8_length(text + i, count - i, &c);
    if (!length || !is_plain(c)) return false;
    i += length;
  }
  return true;
}

static gd_status add(letters *out, uint32_t code_point) {
  if (out->count == out->capacity) {
    size_t capacity = out->capacity ? 2 * out->capacity : 256;
    letter *list = realloc(out->list, capacity * sizeof *list);
    if (!list) return gd_fail(GD_NO_MEMORY, "no memory for %zu characters", capacity);
    out->list = list;
    out->capacity = capacity;
  }
  size_t at = out->count++;
  letter added = {code_point, class_of(code_point)};
  for (; added.order && at && out->list[at - 1].order > added.order; at--) out->list[at] = out->list[at - 1];
  out->list[at] = added;
  return GD_OK;
}

/* Whole: what a part is made of, too. Tables hold no circles. */
static gd_status decompose(letters *out, uint32_t c) {
  if (c >= S && c - S < SYLLABLES) {
    uint32_t syllable = c - S, trailing = syllable % TS;
    GD_TRY(add(out, L + syllable / (VS * TS)));
    GD_TRY(add(out, V + syllable % (VS * TS) / TS));
    return trailing ? add(out, T + trailing) : GD_OK;
  }
  const uint32_t *row = c < 0xc0 ? NULL : FIND(&c, decompositions, by_character);
  if (!row) return add(out, c);
  GD_TRY(decompose(out, row[1]));
  return row[2] ? decompose(out, row[2]) : GD_OK;
}

/* A mark joins the last letter of class 0 where no mark of its class or a higher one, and no other letter, lies between. */
static void join(letters *all) {
  size_t kept = 0, starter = SIZE_MAX;
  for (size_t i = 0; i < all->count; i++) {
    letter at = all->list[i];
    bool reaches = starter != SIZE_MAX && (kept == starter + 1 || all->list[kept - 1].order < at.order);
    uint32_t made = reaches ? compose(all->list[starter].code_point, at.code_point) : 0;
    if (made) {
      all->list[starter].code_point = made;
      continue;
    }
    if (!at.order) starter = kept;
    all->list[kept++] = at;
  }
  all->count = kept;
}

gd_status gd_nfc_append(gd_bytes *out, const char *text, size_t count) {
  letters all = {0};
  gd_status status = GD_OK;
  for (size_t i = 0; status == GD_OK && i < count;) {
    uint32_t c = 0;
    size_t length = gd_utf8_length(text + i, count - i, &c);
    if (!length) status = gd_fail(GD_BUG, "a text to be composed is no UTF-8");
    if (length) status = decompose(&all, c);
    i += length;
  }
  if (status == GD_OK) join(&all);
  for (size_t i = 0; status == GD_OK && i < all.count; i++) status = gd_utf8_append(out, all.list[i].code_point);
  free(all.list);
  return status;
}
