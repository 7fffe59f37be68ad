/* words.c - numbered words, and runs of them that texts have in common: both found by sorting. */
#include "trainer/scores/words.h"

#include <stdlib.h>
#include <string.h>

#include "io/base/utf8.h"

bool gd_is_space(uint32_t c) {
  if (c < 0x80) return c == ' ' || (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x1f);
  return c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
         c == 0x205f || c == 0x3000;
}

void gd_words_clear(gd_words *words) {
  words->bytes.count = words->places.count = words->ends.count = 0;
  words->count = words->texts = 0;
  free(words->ids);
  words->ids = 0;
}

void gd_words_free(gd_words *words) {
  gd_bytes_free(&words->bytes);
  gd_bytes_free(&words->places);
  gd_bytes_free(&words->ends);
  free(words->ids);
  memset(words, 0, sizeof *words);
}

gd_status gd_words_add(gd_words *words, const char *text, size_t count) {
  bool inside = false;
  for (size_t at = 0; at < count;) {
    uint32_t code_point = 0;
    size_t length = gd_utf8_length(text + at, count - at, &code_point);
    bool space = length > 0 && gd_is_space(code_point);
    if (length == 0) length = 1;
    if (!space && !inside) {
      GD_TRY(gd_bytes_append(&words->places, &words->bytes.count, sizeof words->bytes.count));
      words->count++;
    }
    if (!space) GD_TRY(gd_bytes_append(&words->bytes, text + at, length));
    inside = !space;
    at += length;
  }
  words->texts++;
  return gd_bytes_append(&words->ends, &words->count, sizeof words->count);
}

/* ---- numbers ---- */

typedef struct word {
  const char *bytes;
  size_t count;
  int64_t place;
} word;

static int compare_words(const void *a, const void *b) {
  const word *x = a, *y = b;
  int order = memcmp(x->bytes, y->bytes, x->count < y->count ? x->count : y->count);
  return order ? order : (x->count > y->count) - (x->count < y->count);
}

gd_status gd_words_number(gd_words *words) {
  const size_t *places = (const size_t *)(const void *)words->places.bytes;
  word *sorted = malloc(((size_t)words->count + 1) * sizeof *sorted);
  words->ids = malloc(((size_t)words->count + 1) * sizeof *words->ids);
  if (!sorted || !words->ids) {
    free(sorted);
    return gd_fail(GD_NO_MEMORY, "no memory for %lld words", (long long)words->count);
  }
  for (int64_t i = 0; i < words->count; i++) {
    size_t end = i + 1 < words->count ? places[i + 1] : words->bytes.count;
    sorted[i] = (word){words->bytes.bytes + places[i], end - places[i], i};
  }
  qsort(sorted, (size_t)words->count, sizeof *sorted, compare_words);
  int32_t id = 0;
  for (int64_t i = 0; i < words->count; i++) {
    id += i > 0 && compare_words(&sorted[i - 1], &sorted[i]) != 0;
    words->ids[sorted[i].place] = id;
  }
  free(sorted);
  return GD_OK;
}

const int32_t *gd_words_of(const gd_words *words, int32_t text, int64_t *count) {
  const int64_t *ends = (const int64_t *)(const void *)words->ends.bytes;
  int64_t first = text > 0 ? ends[text - 1] : 0;
  *count = ends[text] - first;
  return words->ids + first;
}

/* ---- runs ---- */

typedef struct run {
  const int32_t *ids;
  int32_t text;
} run;

static int compare_ids(const run *x, const run *y, int order) {
  for (int i = 0; i < order; i++)
    if (x->ids[i] != y->ids[i]) return x->ids[i] < y->ids[i] ? -1 : 1;
  return 0;
}

static int compare_runs(const void *a, const void *b, void *order) {
  const run *x = a, *y = b;
  int ids = compare_ids(x, y, *(int *)order);
  return ids ? ids : (x->text > y->text) - (x->text < y->text);
}

static int64_t list_runs(const gd_words *words, int32_t text, int order, run *out) {
  int64_t length;
  const int32_t *ids = gd_words_of(words, text, &length);
  int64_t runs = length >= order ? length - order + 1 : 0;
  for (int64_t i = 0; i < runs; i++) out[i] = (run){ids + i, text};
  return runs;
}

/* Of equal runs, sorted by text: how many count. */
static int64_t clipped(const run *runs, int64_t count, int32_t hypothesis) {
  int64_t own = 0, most = 0;
  for (int64_t i = 0; i < count;) {
    int64_t end = i;
    while (end < count && runs[end].text == runs[i].text) end++;
    if (runs[i].text == hypothesis)
      own = end - i;
    else if (end - i > most)
      most = end - i;
    i = end;
  }
  return own < most ? own : most;
}

gd_status gd_words_matches(const gd_words *words, int32_t hypothesis, int32_t first, int32_t end, int order, int64_t *matches) {
  run *runs = malloc(((size_t)words->count + 1) * sizeof *runs);
  if (!runs) return gd_fail(GD_NO_MEMORY, "no memory for %lld words", (long long)words->count);
  int64_t count = list_runs(words, hypothesis, order, runs);
  for (int32_t text = first; text < end; text++) count += list_runs(words, text, order, runs + count);
  qsort_r(runs, (size_t)count, sizeof *runs, compare_runs, &order);
  *matches = 0;
  for (int64_t i = 0; i < count;) {
    int64_t next = i + 1;
    while (next < count && compare_ids(&runs[i], &runs[next], order) == 0) next++;
    *matches += clipped(runs + i, next - i, hypothesis);
    i = next;
  }
  free(runs);
  return GD_OK;
}
