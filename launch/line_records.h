/* line_records.h - a record a line in, a record a line out, in the same order: what gptdist-generate --jsonl and gptdist-eval
 * --task predict share. A line that is no use has an "error" in its place and is told with file and line; the others go on.
 * Rank 0 reads and prints; all ranks see every line. */
#ifndef GD_LAUNCH_LINE_RECORDS_H
#define GD_LAUNCH_LINE_RECORDS_H

#include "io/base/json.h"
#include "launch/line_input.h"
#include "launch/line_rows.h"

/* A line, until what stands in its place is printed. */
typedef struct gd_line_record {
  struct gd_line_record *next;
  int64_t line;
  gd_bytes id;  /* "id":VALUE as it is written; empty: it has none */
  gd_bytes out; /* what is printed; empty: it is not done */
} gd_line_record;

/* What a program makes of its lines. */
typedef struct gd_line_kind {
  size_t bytes; /* of its record, all zeros at first, whose first member is the gd_line_record */
  /* Reads a line: an object and the text that it was parsed from, or where lines are texts NULL and the text. GD_USAGE,
   * GD_BAD_DATA: it is no use, and has its "error" then. */
  gd_status (*read)(void *context, const gd_json *object, const gd_bytes *text, gd_line_record *record);
  void (*release)(void *context, gd_line_record *record); /* what the record holds beside the gd_line_record */
  void *context;
} gd_line_kind;

/* What the lines are. Rows may be of several lines, and come as objects of their columns. */
typedef enum gd_line_form { GD_LINES_OBJECTS, GD_LINES_TEXTS, GD_LINES_CSV, GD_LINES_TSV } gd_line_form;
typedef struct gd_line_format {
  gd_line_form form;
  const char *field; /* csv, tsv: a column that the header must have; NULL: no header, columns are called 1, 2, ... */
} gd_line_format;

typedef struct gd_lines {
  gd_session *session;
  gd_line_kind kind;
  gd_input input;
  const char *name;             /* of the file, in messages */
  gd_line_record *first, *last; /* not printed yet, in the order of input */
  int64_t read, bad;            /* lines; of csv and tsv rows */
  int64_t line;                 /* lines of the input so far */
  gd_line_form form;
  gd_line_rows rows; /* csv, tsv */
  bool prints;       /* this is rank 0 */
  bool end;          /* no more lines are read: all are, or the program set it */
  char first_bad[600];
} gd_lines;

/* path "-": standard input. GD_USAGE where there is no such file. gd_lines_close in any case. Collective over the job. */
GD_CHECKED gd_status gd_lines_open(gd_session *session, const char *path, const gd_line_format *format,
                                   const gd_line_kind *kind, gd_lines *out);
void gd_lines_close(gd_lines *lines);

/* The member of a line's object, NULL where it has none. GD_BAD_DATA where it stands there twice. Local. */
GD_CHECKED gd_status gd_lines_member(const gd_json *object, const char *key, const gd_json **out);
/* The next line's record: one that has its `out` already is no use. NULL: none is there now, which is only told where `wait` is
 * false or a signal came, or `end`. An empty line is no record where lines are objects or rows. GD_BAD_DATA: a header without
 * the column. Collective over the job. */
GD_CHECKED gd_status gd_lines_next(gd_lines *lines, bool wait, gd_line_record **out);
/* Prints what is done, up to the first record that is not, and lets go of it. GD_IO. Local. */
GD_CHECKED gd_status gd_lines_print(gd_lines *lines);
/* GD_BAD_DATA where lines were no use: how many, and the first. Local. */
GD_CHECKED gd_status gd_lines_verdict(const gd_lines *lines);

#endif
