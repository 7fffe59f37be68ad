/* table.c - records in memory, groups of equal ones, and how they are dealt to splits. */
#include "io/data/table.h"

#include <stdlib.h>
#include <string.h>

#include "io/data/order.h"

enum { SPLITS = 3 };

static gd_status grow(gd_table *table) {
  if (table->count < table->capacity) return GD_OK;
  int64_t capacity = table->capacity ? 2 * table->capacity : 1024;
  size_t *ends = realloc(table->ends, (size_t)(capacity * table->columns) * sizeof *ends);
  if (ends) table->ends = ends;
  int64_t *line = realloc(table->line, (size_t)capacity * sizeof *line);
  if (line) table->line = line;
  const char **path = realloc(table->path, (size_t)capacity * sizeof *path);
  if (path) table->path = path;
  int32_t *split = realloc(table->split, (size_t)capacity * sizeof *split);
  if (split) table->split = split;
  if (!ends || !line || !path || !split) return gd_fail(GD_NO_MEMORY, "no memory for %lld rows", (long long)capacity);
  table->capacity = capacity;
  return GD_OK;
}

static gd_status add(gd_table *table, const char *path, const gd_corpus_record *record, int32_t split) {
  GD_TRY(grow(table));
  int64_t row = table->count;
  for (int32_t k = 0; k < table->columns; k++) {
    GD_TRY(gd_bytes_append(&table->text, record->values[k].bytes, record->values[k].count));
    table->ends[row * table->columns + k] = table->text.count;
  }
  table->line[row] = record->line;
  table->path[row] = path;
  table->split[row] = split;
  table->count++;
  return GD_OK;
}

gd_status gd_table_read(gd_table *table, const char *path, const gd_corpus_options *options, int32_t split) {
  gd_corpus *corpus;
  gd_corpus_record record;
  bool more = true;
  table->columns = options->column_count;
  GD_TRY(gd_corpus_open(path, options, 0, -1, &corpus));
  gd_status status;
  while ((status = gd_corpus_next_record(corpus, &record, &more)) == GD_OK && more)
    if ((status = add(table, path, &record, split)) != GD_OK) break;
  table->dropped += gd_corpus_dropped(corpus);
  table->bytes = (int64_t)table->text.count;
  gd_corpus_close(corpus);
  return status;
}

void gd_table_free(gd_table *table) {
  gd_bytes_free(&table->text);
  free(table->ends);
  free(table->line);
  free(table->path);
  free(table->split);
  *table = (gd_table){0};
}

gd_corpus_value gd_table_value(const gd_table *table, int64_t row, int32_t column) {
  int64_t at = row * table->columns + column;
  size_t begin = at ? table->ends[at - 1] : 0;
  return (gd_corpus_value){table->text.bytes + begin, table->ends[at] - begin};
}

/* ---- groups ---- */

static int by_key(const void *a, const void *b, void *context) {
  const gd_corpus_value *keys = context;
  int64_t i = *(const int64_t *)a, k = *(const int64_t *)b;
  size_t least = keys[i].count < keys[k].count ? keys[i].count : keys[k].count;
  int order = least ? memcmp(keys[i].bytes, keys[k].bytes, least) : 0;
  if (order) return order;
  if (keys[i].count != keys[k].count) return keys[i].count < keys[k].count ? -1 : 1;
  return i < k ? -1 : i > k;
}

gd_status gd_table_group(const gd_corpus_value *keys, int64_t count, int64_t *number) {
  int64_t *order = malloc(((size_t)count + 1) * sizeof *order);
  if (!order) return gd_fail(GD_NO_MEMORY, "no memory for %lld rows", (long long)count);
  for (int64_t i = 0; i < count; i++) order[i] = i;
  qsort_r(order, (size_t)count, sizeof *order, by_key, (void *)(uintptr_t)keys);
  for (int64_t i = 0; i < count; i++) {
    const gd_corpus_value *key = &keys[order[i]], *before = i ? &keys[order[i - 1]] : NULL;
    bool same = before && before->count == key->count && (!key->count || memcmp(before->bytes, key->bytes, key->count) == 0);
    number[order[i]] = same ? number[order[i - 1]] : order[i];
  }
  free(order);
  return GD_OK;
}

/* ---- dealing ---- */

/* Work of gd_table_deal, each [count], indexed by row. */
typedef struct dealing {
  int64_t *size;  /* rows of the group that begins at a row */
  int64_t *next;  /* the stratum's next group; -1: none */
  int64_t *first; /* of a stratum that begins at a row: its first group; -1: none */
  int64_t *last;
  int64_t *list; /* the groups of one stratum */
} dealing;

static void deal_stratum(const dealing *work, int64_t stratum, const double fractions[SPLITS], uint64_t seed,
                         double lacking[SPLITS], int32_t *split) {
  int64_t groups = 0;
  gd_rng rng = gd_rng_make(seed, GD_RNG_DATA, 254, 0, (uint64_t)stratum); /* site 254: no source of a mixture has it */
  for (int64_t group = work->first[stratum]; group >= 0; group = work->next[group]) {
    work->list[groups++] = group;
    for (int k = 0; k < SPLITS; k++) lacking[k] += fractions[k] * (double)work->size[group];
  }
  for (int64_t i = 0; i < groups; i++) {
    int64_t group = work->list[gd_order_permute(&rng, groups, i)];
    int best = 0;
    for (int k = 1; i && k < SPLITS; k++)
      if (fractions[k] > 0 && lacking[k] > lacking[best]) best = k;
    lacking[best] -= (double)work->size[group];
    split[group] = best;
  }
}

gd_status gd_table_deal(const int64_t *group, const int64_t *stratum, int64_t count, const double fractions[3], uint64_t seed,
                        int32_t *split) {
  int64_t *memory = malloc((5 * (size_t)count + 1) * sizeof *memory);
  if (!memory) return gd_fail(GD_NO_MEMORY, "no memory for %lld rows", (long long)count);
  dealing work = {memory, memory + count, memory + 2 * count, memory + 3 * count, memory + 4 * count};
  for (int64_t i = 0; i < count; i++) {
    work.size[i] = 0;
    work.next[i] = work.first[i] = -1; /* groups and strata are numbered by their first row: it comes before the others */
    work.size[group[i]]++;
    if (group[i] != i) continue;
    int64_t s = stratum[i];
    if (work.first[s] < 0)
      work.first[s] = i;
    else
      work.next[work.last[s]] = i;
    work.last[s] = i;
  }
  double lacking[SPLITS] = {0};
  for (int64_t s = 0; s < count; s++)
    if (work.first[s] >= 0) deal_stratum(&work, s, fractions, seed, lacking, split);
  for (int64_t i = 0; i < count; i++) split[i] = split[group[i]];
  free(memory);
  return GD_OK;
}
