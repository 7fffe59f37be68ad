/* corpus.h - the documents of text files, as a stream of parts in bounded memory.
 *
 *   text    documents are parted by lines that are exactly the separator; a file without one is one document
 *   jsonl   a JSON object a line; the text is one of its fields
 *   json    an array of such objects, or objects one behind the other; line ends mean nothing
 *   csv     RFC 4180: a header row (or a column number), quoted fields may hold commas, quotes and line ends
 *   tsv     the same with tabs and without quoting
 *
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

typedef struct gd_corpus_options {
  gd_corpus_format
      format;             /* auto: by the file's name, which must say one; text for what has no name (standard input, a pipe) */
  const char *separator;  /* text: the line between documents; NULL: <|endoftext|> */
  const char *text_field; /* json, jsonl, csv, tsv; NULL: "text" */
  int64_t text_column;    /* csv, tsv without a header row: counted from 1; 0: the header names text_field */
  bool replace_invalid;   /* bytes that are not UTF-8 become U+FFFD; else they are GD_BAD_DATA */
  bool cut;               /* a long text may come in parts, cut only between an ASCII letter or digit and a space or newline */
  int64_t unit_bytes;     /* length of the ranges of gd_corpus_plan; 0: 8 MiB */
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

typedef struct gd_corpus gd_corpus;
GD_CHECKED gd_status gd_corpus_open(const char *path, const gd_corpus_options *options, int64_t begin, int64_t end,
                                    gd_corpus **out);
void gd_corpus_close(gd_corpus *corpus);

/* A piece of a document; documents without any text are left out. */
typedef struct gd_corpus_part {
  const char *bytes; /* [count] valid UTF-8, until the next call */
  size_t count;
  bool ends_document;
} gd_corpus_part;

/* The next part; *more = false at the end. GD_BAD_DATA with file, line, what was found and what was expected: invalid UTF-8,
 * damaged or truncated .gz and .zst, a missing field, bad JSON, an open quote. GD_IO. */
GD_CHECKED gd_status gd_corpus_next(gd_corpus *corpus, gd_corpus_part *part, bool *more);

/* Bytes of the file (packed, where it is) that were used of this unit so far. */
int64_t gd_corpus_done(const gd_corpus *corpus);

#endif
