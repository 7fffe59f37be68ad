/* corpus.c - which units a file has, and the reader of one: it opens, cuts and hands on to the format. */
#include "io/text/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { UNIT_BYTES = 8 << 20, STEP_BYTES = 64 << 10 };

/* ---- formats and units ---- */

static bool ends_with(const char *text, size_t length, const char *end) {
  size_t count = strlen(end);
  return length >= count && strncasecmp(text + length - count, end, count) == 0;
}

/* Of .gz or .zst at the end of a name. */
static size_t packing(const char *path, size_t length) {
  return ends_with(path, length, ".gz") ? 3 : ends_with(path, length, ".zst") ? 4 : 0;
}

bool gd_corpus_is_packed(const char *path) {
  return packing(path, strlen(path)) > 0;
}

gd_corpus_format gd_corpus_format_of(const char *path) {
  static const struct {
    const char *end;
    gd_corpus_format format;
  } known[] = {{".txt", GD_CORPUS_TEXT},     {".text", GD_CORPUS_TEXT}, {".md", GD_CORPUS_TEXT}, {".jsonl", GD_CORPUS_JSONL},
               {".ndjson", GD_CORPUS_JSONL}, {".json", GD_CORPUS_JSON}, {".csv", GD_CORPUS_CSV}, {".tsv", GD_CORPUS_TSV}};
  size_t length = strlen(path);
  length -= packing(path, length);
  for (size_t i = 0; i < sizeof known / sizeof *known; i++)
    if (ends_with(path, length, known[i].end)) return known[i].format;
  return GD_CORPUS_AUTO;
}

/* What `path` is read as. What has no name of its own (standard input, a pipe) is text. */
static gd_status choose_format(const char *path, gd_corpus_format wanted, gd_corpus_format *out) {
  struct stat info;
  *out = wanted != GD_CORPUS_AUTO ? wanted : gd_corpus_format_of(path);
  if (*out == GD_CORPUS_AUTO && (strcmp(path, "-") == 0 || (stat(path, &info) == 0 && !S_ISREG(info.st_mode))))
    *out = GD_CORPUS_TEXT;
  if (*out != GD_CORPUS_AUTO) return GD_OK;
  return gd_fail_user(
      GD_USAGE,
      "%s: the name does not say what is in it; expected .txt, .md, .jsonl, .json, .csv or .tsv (also with .gz or "
      ".zst behind), or --format FORMAT",
      path);
}

static gd_status plan_file(const char *path, int32_t input, const gd_corpus_options *options, gd_corpus_unit **units,
                           int64_t *count) {
  struct stat info = {0};
  gd_corpus_format format;
  if (strcmp(path, "-") != 0 && stat(path, &info))
    return gd_fail_user(gd_fault_named(errno), "%s: %s, expected a corpus file", path, strerror(errno));
  if (S_ISDIR(info.st_mode)) return gd_fail_user(GD_USAGE, "%s: a folder, expected a corpus file", path);
  GD_TRY(choose_format(path, options->format, &format));
  bool whole = !S_ISREG(info.st_mode) || (format == GD_CORPUS_TEXT ? !options->cut : format != GD_CORPUS_JSONL);
  if (!whole) { /* a pipe is not opened here: what is read of it is gone */
    gd_text_stream *stream;
    GD_TRY(gd_text_stream_open(path, &stream));
    whole = gd_text_stream_compressed(stream);
    gd_text_stream_close(stream);
  }
  int64_t step = options->unit_bytes > 0 ? options->unit_bytes : UNIT_BYTES, size = info.st_size;
  int64_t pieces = whole || size <= step ? 1 : (size + step - 1) / step;
  gd_corpus_unit *bigger = realloc(*units, (size_t)(*count + pieces) * sizeof **units);
  if (!bigger) return gd_fail(GD_NO_MEMORY, "no memory for %lld units", (long long)(*count + pieces));
  *units = bigger;
  for (int64_t i = 0; i < pieces; i++)
    bigger[(*count)++] = (gd_corpus_unit){input, i * step, i == pieces - 1 ? -1 : (i + 1) * step};
  return GD_OK;
}

gd_status gd_corpus_plan(const char *const *paths, int32_t count, const gd_corpus_options *options, gd_corpus_unit **units,
                         int64_t *unit_count) {
  *units = NULL;
  *unit_count = 0;
  gd_status status = GD_OK;
  for (int32_t i = 0; status == GD_OK && i < count; i++) status = plan_file(paths[i], i, options, units, unit_count);
  if (status == GD_OK) return GD_OK;
  free(*units);
  *units = NULL;
  return status;
}

static bool may_cut(gd_corpus_format format, char before, char behind) {
  if (format == GD_CORPUS_JSONL) return before == '\n';
  bool word = (before >= 'a' && before <= 'z') || (before >= 'A' && before <= 'Z') || (before >= '0' && before <= '9');
  return word && (behind == ' ' || behind == '\n');
}

/* The first place at or behind `offset` where a unit may begin; *place = -1: the end of the file. */
static gd_status find_cut(gd_corpus *corpus, int64_t offset, int64_t *place) {
  *place = offset;
  if (offset <= 0) return GD_OK;
  char bytes[STEP_BYTES];
  char before = 0;
  size_t got;
  int64_t at = offset - 1;
  GD_TRY(gd_text_stream_seek(corpus->stream, at));
  for (bool first = true;; first = false) {
    GD_TRY(gd_text_stream_read(corpus->stream, bytes, sizeof bytes, &got));
    if (!got) break;
    for (size_t i = 0; i < got; i++) {
      if ((i || !first) && may_cut(corpus->format, i ? bytes[i - 1] : before, bytes[i])) {
        *place = at + (int64_t)i;
        return GD_OK;
      }
    }
    before = bytes[got - 1];
    at += (int64_t)got;
  }
  *place = -1;
  return GD_OK;
}

/* ---- opening ---- */

static gd_status start(gd_corpus *corpus, int64_t begin, int64_t end) {
  GD_TRY(gd_bytes_append(&corpus->window, "", 0)); /* never NULL, also where nothing is read */
  corpus->to_end = end < 0;
  corpus->begin = begin;
  corpus->end = end;
  if (begin > 0 || end >= 0) {
    GD_TRY(find_cut(corpus, begin, &corpus->begin));
    if (end >= 0) GD_TRY(find_cut(corpus, end, &corpus->end));
    corpus->to_end = corpus->end < 0;
    corpus->finished = corpus->begin < 0 || (!corpus->to_end && corpus->begin >= corpus->end);
    if (!corpus->finished) GD_TRY(gd_text_stream_seek(corpus->stream, corpus->begin));
  }
  corpus->window_offset = corpus->begin;
  corpus->line_start = corpus->begin == 0;
  if (corpus->begin != 0) return GD_OK;
  while (!corpus->finished && corpus->window.count < 3) GD_TRY(gd_corpus_fill(corpus, GD_CORPUS_PART_BYTES));
  if (corpus->window.count >= 3 && memcmp(corpus->window.bytes, "\xef\xbb\xbf", 3) == 0) corpus->used = 3; /* byte order mark */
  return GD_OK;
}

/* The columns that are asked for, or the text as the only one. */
static gd_status choose_columns(gd_corpus *corpus) {
  const gd_corpus_options *options = &corpus->options;
  bool rows = corpus->format == GD_CORPUS_CSV || corpus->format == GD_CORPUS_TSV;
  int32_t count = options->column_count, numbers = 0;
  if (count > GD_CORPUS_COLUMNS) return gd_fail(GD_BUG, "%d columns", count);
  corpus->column_count = count ? count : 1;
  if (!count)
    corpus->columns[0] = rows && options->text_column > 0
                             ? (gd_corpus_column){.number = options->text_column}
                             : (gd_corpus_column){.name = options->text_field ? options->text_field : "text"};
  for (int32_t k = 0; k < count; k++) corpus->columns[k] = options->columns[k];
  for (int32_t k = 0; k < corpus->column_count; k++) numbers += !corpus->columns[k].name;
  if (numbers && !rows && corpus->format != GD_CORPUS_TEXT)
    return gd_fail_user(GD_USAGE, "%s: columns by number are those of csv and tsv, expected the names of fields", corpus->path);
  if (numbers && numbers != corpus->column_count)
    return gd_fail_user(
        GD_USAGE, "%s: some columns are named and some numbered; expected names where there is a header row, else numbers",
        corpus->path);
  for (int32_t k = 0; numbers && k < corpus->column_count; k++) corpus->place[k] = corpus->columns[k].number - 1;
  corpus->placed = numbers > 0;
  return GD_OK;
}

gd_status gd_corpus_open(const char *path, const gd_corpus_options *options, int64_t begin, int64_t end, gd_corpus **out) {
  *out = NULL;
  gd_corpus *corpus = calloc(1, sizeof *corpus);
  if (!corpus) return gd_fail(GD_NO_MEMORY, "no memory for a reader");
  corpus->options = *options;
  if (!corpus->options.separator) corpus->options.separator = "<|endoftext|>";
  corpus->path = strdup(strcmp(path, "-") == 0 ? "standard input" : path); /* as messages name it */
  gd_status status =
      corpus->path ? choose_format(path, options->format, &corpus->format) : gd_fail(GD_NO_MEMORY, "no memory for a reader");
  if (status == GD_OK) status = choose_columns(corpus);
  if (status == GD_OK) status = gd_text_stream_open(path, &corpus->stream);
  if (status == GD_OK) status = start(corpus, begin, end);
  if (status != GD_OK) {
    gd_corpus_close(corpus);
    return status;
  }
  *out = corpus;
  return GD_OK;
}

void gd_corpus_close(gd_corpus *corpus) {
  if (!corpus) return;
  gd_text_stream_close(corpus->stream);
  gd_bytes_free(&corpus->window);
  gd_bytes_free(&corpus->text);
  gd_bytes_free(&corpus->fields);
  free(corpus->path);
  free(corpus);
}

gd_status gd_corpus_next(gd_corpus *corpus, gd_corpus_part *part, bool *more) {
  *part = (gd_corpus_part){0};
  if (corpus->format == GD_CORPUS_TEXT) return gd_corpus_next_text(corpus, part, more);
  gd_corpus_record record;
  GD_TRY(gd_corpus_next_record(corpus, &record, more));
  if (*more) *part = (gd_corpus_part){record.values[0].bytes, record.values[0].count, true};
  return GD_OK;
}

int64_t gd_corpus_done(const gd_corpus *corpus) {
  if (gd_text_stream_compressed(corpus->stream)) return gd_text_stream_packed(corpus->stream);
  return corpus->begin < 0 ? 0 : corpus->window_offset + (int64_t)corpus->used - corpus->begin;
}
