/* corpus.h - the documents of text files, as a stream of parts in bounded memory.
 *
 *   text    documents are parted by lines that are exactly the separator; a file without one is one document
 *   jsonl   a JSON object a line; the text is one of its fields
 *   json    an array of such objects, or objects one behind the other; line ends mean nothing
 *   csv     RFC 4180: a header row (or a column number), quoted fields may hold commas, quotes and line ends
 *   tsv     the same with tabs and without quoting
 *
 * The last four hold records: of one text column, or of those that are asked for, by name or number.
 * Files may be .gz or .zst; "-" is standard input. A plain text or jsonl file can be read in byte ranges: the ranges of a file
 * give together exactly what the whole gives, so units of work can be dealt over ranks. All local. */
#ifndef GD_IO_TEXT_CORPUS_H
#define GD_IO_TEXT_CORPUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shard/base/status.h"

typedef enum gd_corpus_format {
  GD_CORPUS_AUTO,
  GD_CORPUS_TEXT,
  GD_CORPUS_JSONL,
  GD_CORPUS_JSON,
  GD_CORPUS_CSV,
  GD_CORPUS_TSV
} gd_corpus_format;

/* A column of records. In csv and tsv every value is text; json and jsonl have more: */
typedef enum gd_column_kind {
  GD_COLUMN_TEXT,   /* a string */
  GD_COLUMN_SCALAR, /* a string, or a number, true or false as JSON writes them */
  GD_COLUMN_JSON    /* any value, as JSON text; in csv and tsv what stands there */
} gd_column_kind;

enum { GD_CORPUS_COLUMNS = 64 };
typedef struct gd_corpus_column {
  const char *name; /* in the header of csv and tsv, or the field of json and jsonl; NULL: by number */
  int64_t number;   /* csv and tsv without a header row, from 1; with names, 0 */
  gd_column_kind kind;
  bool optional; /* may be missing or null, which is empty */
  bool empty_ok; /* may be empty: without a character but white space */
} gd_corpus_column;

typedef struct gd_corpus_options {
  gd_corpus_format
      format;             /* auto: by the file's name, which must say one; text for what has no name (standard input, a pipe) */
  const char *separator;  /* text: the line between documents; NULL: <|endoftext|> */
  const char *text_field; /* json, jsonl, csv, tsv; NULL: "text" */
  int64_t text_column;    /* csv, tsv without a header row: counted from 1; 0: the header names text_field */
  const gd_corpus_column
      *columns;         /* [column_count], at most GD_CORPUS_COLUMNS, all by name or all by number: in place of the text
                           field or column; a row of csv and tsv must have as many fields as the first one then */
  int32_t column_count; /* 0: the text alone */
  bool drop_empty;      /* a record with an empty column that must not be: it is left out and counted; else GD_BAD_DATA */
  bool replace_invalid; /* bytes that are not UTF-8 become U+FFFD; else they are GD_BAD_DATA */
  bool cut;             /* a long text may come in parts, cut only between an ASCII letter or digit and a space or newline */
  int64_t unit_bytes;   /* length of the ranges of gd_corpus_plan; 0: 8 MiB */
} gd_corpus_options;

/* A range of a file: what gd_corpus_open reads. end < 0: to the end of the file. */
typedef struct gd_corpus_unit {
  int32_t input; /* index of the path */
  int64_t begin, end;
} gd_corpus_unit;

/* The units of all files in order; depends on the files and options only. *units is the caller's to free. GD_IO, GD_USAGE. */
GD_CHECKED gd_status gd_corpus_plan(const char *const *paths, int32_t count, const gd_corpus_options *options,
                                    gd_corpus_unit **units, int64_t *unit_count);

/* The format that a file's name says, GD_CORPUS_AUTO: none. */
gd_corpus_format gd_corpus_format_of(const char *path);
/* Whether it ends in .gz or .zst. */
bool gd_corpus_is_packed(const char *path);

typedef struct gd_corpus gd_corpus;
GD_CHECKED gd_status gd_corpus_open(const char *path, const gd_corpus_options *options, int64_t begin, int64_t end,
                                    gd_corpus **out);
void gd_corpus_close(gd_corpus *corpus);

/* A piece of a document. Nothing between two separator lines of a plain text is no document. */
typedef struct gd_corpus_part {
  const char *bytes; /* [count] valid UTF-8, until the next call */
  size_t count;
  bool ends_document;
} gd_corpus_part;

/* The next part; *more = false at the end. GD_BAD_DATA with file, line, what was found and what was expected: invalid UTF-8,
 * damaged or truncated .gz and .zst, a missing or doubled column (with those that are there), an empty one, a row of another
 * number of fields, bad JSON, an open quote. GD_IO. */
GD_CHECKED gd_status gd_corpus_next(gd_corpus *corpus, gd_corpus_part *part, bool *more);

/* A record: its columns in the order of the options, valid UTF-8 until the next call. Blank lines are no records. */
typedef struct gd_corpus_value {
  const char *bytes;
  size_t count;
} gd_corpus_value;
typedef struct gd_corpus_record {
  int64_t line;                  /* of the file, from 1; 0 in a range that does not begin with the file */
  const gd_corpus_value *values; /* [column_count]; [1], the text, where no columns were asked for */
} gd_corpus_record;

/* The next record; faults as gd_corpus_next. GD_USAGE for plain text, which has none. */
GD_CHECKED gd_status gd_corpus_next_record(gd_corpus *corpus, gd_corpus_record *record, bool *more);

/* Whether a text is empty: without a character but white space. */
bool gd_corpus_is_empty(const char *bytes, size_t count);

/* Records left out so far because a column was empty. */
int64_t gd_corpus_dropped(const gd_corpus *corpus);

/* Bytes of the file (packed, where it is) that were used of this unit so far. */
int64_t gd_corpus_done(const gd_corpus *corpus);

#endif
