/* line_rows.h - rows of CSV or TSV from lines as they come, each as a JSON object: what launch/line_records.h reads them as. A
 * row may be of several lines. Local. */
#ifndef GD_LAUNCH_LINE_ROWS_H
#define GD_LAUNCH_LINE_ROWS_H

#include "io/base/files.h"
#include "io/text/row_scan.h"

typedef struct gd_line_rows {
  const char *path;      /* in messages */
  const char *field;     /* a column that the header must have; NULL: there is no header, columns are called 1, 2, ... */
  gd_row_scan scan;      /* quoting: CSV */
  gd_bytes lines;        /* of the row at hand */
  int64_t line;          /* its first one, from 1 */
  gd_bytes values;       /* of the row, each with a zero behind it */
  gd_bytes names;        /* of the header, likewise */
  int64_t width;         /* fields of the first row; 0: it was not there yet */
  bool quoting, started; /* CSV; the input began */
} gd_line_rows;

/* One more line, with its carriage return if it has one; NULL: there are no more. *row: a row is whole, to be taken with
 * gd_line_rows_object before the next line. The header is none, nor is a blank line. GD_BAD_DATA: a header without the column,
 * or with the same one twice. */
GD_CHECKED gd_status gd_line_rows_add(gd_line_rows *rows, const gd_bytes *text, int64_t line, bool *row);

/* The whole row: {"NAME":"VALUE",...}, without columns that have no name. GD_BAD_DATA: bytes that are no UTF-8, a quote that is
 * never closed, another number of fields than the first row's. */
GD_CHECKED gd_status gd_line_rows_object(gd_line_rows *rows, gd_bytes *out);
void gd_line_rows_free(gd_line_rows *rows);

#endif
