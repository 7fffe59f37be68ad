/* row_scan.h - where a row of CSV (RFC 4180) or TSV (no quoting) ends, and the bytes of its fields. Local. */
#ifndef GD_IO_TEXT_ROW_SCAN_H
#define GD_IO_TEXT_ROW_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shard/base/status.h"

/* Who takes the fields: each in any number of pieces, then its end. */
typedef struct gd_row_sink {
  gd_status (*piece)(void *context, int64_t field, const char *bytes, size_t count);
  gd_status (*end)(void *context, int64_t field);
  void *context;
} gd_row_sink;

/* All zeros but `quoting` before a row. */
typedef struct gd_row_scan {
  bool quoting;
  int64_t fields; /* ended so far */
  size_t next;    /* where the next row begins; 0: the row goes on behind the bytes */
  size_t quote;   /* the last field's, where it began with one */
  bool open;      /* inside that quote */
  size_t at, start;
  bool inside; /* behind a field's first byte */
} gd_row_scan;

/* Goes on with the row that begins at bytes[0], of which count bytes are there, more than at the call before; `last`: no more
 * will be. With `last` next is 0 alone where a quote is never closed. What the sink gives. */
GD_CHECKED gd_status gd_row_scan_on(gd_row_scan *scan, const char *bytes, size_t count, bool last, const gd_row_sink *sink);

/* Whether a whole row is of nothing but white space. */
bool gd_row_is_blank(const gd_row_scan *scan, const char *bytes);

#endif
