/* internal.h - the reader that the formats share: a window of the stream that grows and moves on. */
#ifndef GD_IO_TEXT_INTERNAL_H
#define GD_IO_TEXT_INTERNAL_H

#include "io/text/corpus.h"
#include "io/text/stream.h"

#ifndef GD_CORPUS_PART_BYTES /* the fuzzers take few bytes, or no input of theirs would come in parts */
#define GD_CORPUS_PART_BYTES (1 << 20)
#endif
enum { GD_CORPUS_DOCUMENT_LIMIT = 1 << 30 };

struct gd_corpus {
  char *path;
  gd_corpus_options options;
  gd_corpus_format format;
  gd_text_stream *stream;
  int64_t begin, end; /* of this unit in the file, moved to places where it may be cut; end < 0: the file's end */
  bool to_end;        /* the unit ends where the file does */
  gd_bytes window;    /* bytes read and not yet used from `used` on */
  size_t used;
  int64_t window_offset; /* file position of window.bytes[0] */
  int64_t lines;         /* newlines before window.bytes[used], counted from the unit's begin */
  bool finished;         /* the stream has no more bytes for this unit */
  bool line_start;       /* text: window.bytes[used] begins a line */
  bool in_document;      /* text: the open document has bytes */
  char behind;   /* json: what was read last: '[', '{' (a record of the array), ',', ']', '-' (there is no array), 0: nothing */
  gd_bytes text; /* text: the part handed out, where it is not in the window */
  gd_corpus_column columns[GD_CORPUS_COLUMNS];
  int32_t column_count;
  bool placed;                      /* csv, tsv: it is known where the columns stand */
  int64_t place[GD_CORPUS_COLUMNS]; /* counted from 0; -1: an optional one that is not there */
  int64_t width;                    /* fields of the first row; 0: not known */
  gd_bytes fields;                  /* of the record at hand, one behind the other */
  struct {
    size_t begin, count; /* in fields */
    bool found;
  } field[GD_CORPUS_COLUMNS];
  gd_corpus_value values[GD_CORPUS_COLUMNS];
  int64_t dropped;
};

/* Reads more: the window keeps the unused bytes and grows by up to `more`. finished is set at the end. */
GD_CHECKED gd_status gd_corpus_fill(gd_corpus *corpus, size_t more);
/* Moves on by `count` bytes and counts their lines. */
void gd_corpus_use(gd_corpus *corpus, size_t count);
/* The line of the file (from 1) in which window.bytes[used + ahead] lies. */
int64_t gd_corpus_line(const gd_corpus *corpus, size_t ahead);
/* Checks bytes[count], that stand `ahead` bytes from `used`: NULL in *fixed where they are fine, else a copy with U+FFFD. */
GD_CHECKED gd_status gd_corpus_check_utf8(gd_corpus *corpus, const char *bytes, size_t count, size_t ahead, gd_bytes *fixed);

/* The options that say which columns. */
const char *gd_corpus_column_options(const gd_corpus *corpus);

/* The JSON object in bytes[count], which stands at `used`, to fields. */
GD_CHECKED gd_status gd_corpus_read_object(gd_corpus *corpus, const char *bytes, size_t count);

GD_CHECKED gd_status gd_corpus_next_text(gd_corpus *corpus, gd_corpus_part *part, bool *more);
/* The next record to fields; it stands at `used`, and the next one begins `length` bytes behind. */
GD_CHECKED gd_status gd_corpus_find_jsonl(gd_corpus *corpus, size_t *length, bool *more);
GD_CHECKED gd_status gd_corpus_find_json(gd_corpus *corpus, size_t *length, bool *more);
GD_CHECKED gd_status gd_corpus_find_row(gd_corpus *corpus, size_t *length, bool *more);

#endif
