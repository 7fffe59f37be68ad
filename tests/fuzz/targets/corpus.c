/* corpus.c - a text corpus, plain, gzip or zstd. The first byte is the format (text, jsonl, json, csv, tsv) and three options.
 * What is handed out is UTF-8, and the ranges of a file together give what the whole gives. */
#include <stdlib.h>
#include <string.h>

#include "io/base/files.h"
#include "io/base/utf8.h"
#include "io/text/corpus.h"
#include "tests/fuzz/fuzz.h"

/* Appends the texts of a unit, 0xff behind each document. */
static gd_status read_unit(const char *path, const gd_corpus_options *options, int64_t begin, int64_t end, gd_bytes *out) {
  gd_corpus *corpus = NULL;
  gd_corpus_part part;
  bool more = true;
  gd_status status = gd_corpus_open(path, options, begin, end, &corpus);
  while (status == GD_OK) {
    status = gd_corpus_next(corpus, &part, &more);
    if (status != GD_OK || !more) break;
    for (size_t at = 0; at < part.count;) {
      size_t length = gd_utf8_length(part.bytes + at, part.count - at, NULL);
      fuzz_check(length > 0, "a part that is no UTF-8");
      at += length;
    }
    fuzz_must(gd_bytes_append(out, part.bytes, part.count));
    if (part.ends_document) fuzz_must(gd_bytes_append(out, "\xff", 1));
    fuzz_check(gd_corpus_done(corpus) >= 0, "less than nothing was read");
  }
  gd_corpus_close(corpus);
  return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const gd_corpus_format formats[] = {GD_CORPUS_TEXT, GD_CORPUS_JSONL, GD_CORPUS_JSON, GD_CORPUS_CSV, GD_CORPUS_TSV};
  if (!size) return 0;
  char path[GD_PATH_BYTES];
  gd_corpus_options options = {.format = formats[(data[0] & 7) % 5],
                               .replace_invalid = data[0] >> 3 & 1,
                               .cut = data[0] >> 4 & 1,
                               .text_column = data[0] >> 5 & 1,
                               .unit_bytes = (int64_t)(size / 3 + 1)};
  gd_bytes whole = {0}, ranges = {0};
  gd_corpus_unit *units = NULL;
  int64_t count = 0;
  fuzz_write("corpus", data + 1, size - 1, path);
  const char *const paths[] = {path};
  if (fuzz_accepted(read_unit(path, &options, 0, -1, &whole), GD_BAD_DATA)) {
    fuzz_must(gd_corpus_plan(paths, 1, &options, &units, &count));
    for (int64_t i = 0; count > 1 && i < count; i++)
      fuzz_must(read_unit(path, &options, units[i].begin, units[i].end, &ranges));
    fuzz_check(
        count == 1 || (whole.count == ranges.count && (!whole.count || memcmp(whole.bytes, ranges.bytes, whole.count) == 0)),
        "the ranges of a file give another text than the whole");
    free(units);
  }
  gd_bytes_free(&whole);
  gd_bytes_free(&ranges);
  return 0;
}
