/* rows.c - which examples stand in which row. */
#include "io/data/rows.h"

#include <stdlib.h>
#include <string.h>

#include "io/data/order.h"

/* One window while its rows are filled. */
typedef struct window {
  int64_t shuffled[GD_ROWS_WINDOW]; /* examples in their turn */
  int32_t row[GD_ROWS_WINDOW];      /* of each of them */
  int32_t room[GD_ROWS_WINDOW];     /* of each row */
  int32_t rows;
} window;

static int32_t length_of(const int64_t *starts, int64_t example) {
  return (int32_t)(starts[example + 1] - starts[example]);
}

static void fill(window *at, int32_t count, const int64_t *starts, int32_t length) {
  int32_t shortest = length, open = 0; /* rows before `open` have no room for any example of the window */
  at->rows = 0;
  for (int32_t i = 0; i < count; i++)
    if (length_of(starts, at->shuffled[i]) < shortest) shortest = length_of(starts, at->shuffled[i]);
  for (int32_t i = 0; i < count; i++) {
    int32_t tokens = length_of(starts, at->shuffled[i]);
    while (open < at->rows && at->room[open] < shortest) open++;
    int32_t r = open;
    while (r < at->rows && at->room[r] < tokens) r++;
    if (r == at->rows) at->room[at->rows++] = length;
    at->room[r] -= tokens;
    at->row[i] = r;
  }
}

/* The window's rows behind those that are there; `next` examples stand in these. */
static void put(const window *at, int32_t count, int64_t next, gd_rows *out) {
  int64_t *first = out->first + out->count;
  memset(first + 1, 0, (size_t)at->rows * sizeof *first);
  for (int32_t i = 0; i < count; i++) first[at->row[i] + 1]++;
  first[0] = next;
  for (int32_t r = 0; r < at->rows; r++) first[r + 1] += first[r];
  for (int32_t i = 0; i < count; i++) out->example[first[at->row[i]]++] = at->shuffled[i];
  for (int32_t r = at->rows; r > 0; r--) first[r] = first[r - 1]; /* each has moved on to the next row's begin */
  first[0] = next;
  out->count += at->rows;
}

gd_status gd_rows_make(const int64_t *starts, int64_t examples, int32_t length, bool pack, const gd_rng *rng, gd_rows *out) {
  *out = (gd_rows){0};
  window *at = malloc(sizeof *at);
  out->first = malloc(((size_t)examples + 1) * sizeof *out->first);
  out->example = malloc(((size_t)examples + 1) * sizeof *out->example);
  if (!at || !out->first || !out->example) {
    free(at);
    return gd_fail(GD_NO_MEMORY, "no memory for rows of %lld examples", (long long)examples);
  }
  out->first[0] = 0;
  for (int64_t next = 0; next < examples; next += GD_ROWS_WINDOW) {
    int32_t count = examples - next < GD_ROWS_WINDOW ? (int32_t)(examples - next) : GD_ROWS_WINDOW;
    for (int32_t i = 0; i < count; i++) at->shuffled[i] = rng ? gd_order_permute(rng, examples, next + i) : next + i;
    if (pack)
      fill(at, count, starts, length);
    else
      for (at->rows = 0; at->rows < count; at->rows++) at->row[at->rows] = at->rows;
    put(at, count, next, out);
    out->first[out->count] = next + count;
  }
  free(at);
  return GD_OK;
}

void gd_rows_free(gd_rows *rows) {
  free(rows->first);
  free(rows->example);
  *rows = (gd_rows){0};
}
