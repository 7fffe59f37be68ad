/* read_timeline FILE...: parses files of log.timeline, holds each to what every one must be, and prints its spans for
 * test_timeline.sh: one a line, rank stream category step row micro-batch bucket group bytes begin end name. Exit 1 with the
 * fault where a file is not what it should be. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/base/json.h"

enum { MOST_RANKS = 8 };

static int wrong(const char *path, int64_t event, const char *what) {
  fprintf(stderr, "%s: event %lld: %s\n", path, (long long)event, what);
  return 1;
}

/* The end of the last span of a stream, and of its last row. */
typedef struct stream {
  double ended, row_began, row_ended;
  int64_t row;
} stream;

static const char *text_of(const gd_json *object, const char *key) {
  const char *text = gd_json_string(gd_json_get(object, key));
  return text ? text : "-";
}

static int64_t number_of(const gd_json *object, const char *key) {
  int64_t number;
  return gd_json_integer(gd_json_get(object, key), &number) ? number : -1;
}

static int read_span(const char *path, int64_t at, const gd_json *e, stream streams[MOST_RANKS][2]) {
  const gd_json *args = gd_json_get(e, "args");
  int64_t rank = number_of(e, "pid"), beside = number_of(e, "tid"), row = number_of(args, "row"),
          step = number_of(args, "step");
  double began, length;
  if (rank < 0 || rank >= MOST_RANKS || beside < 0 || beside > 1) return wrong(path, at, "no such rank or stream");
  if (!gd_json_number(gd_json_get(e, "ts"), &began) || !gd_json_number(gd_json_get(e, "dur"), &length))
    return wrong(path, at, "no times");
  if (length < 0) return wrong(path, at, "it ends before it begins");
  if (step < 1 || row < 0) return wrong(path, at, "no step or row");
  static const double rounded = 0.002; /* microseconds have three digits */
  stream *s = &streams[rank][beside];
  bool call = strcmp(text_of(e, "cat"), "call") == 0;
  if (call && (s->row != row || began + length > s->row_ended + rounded)) return wrong(path, at, "a call outside of its row");
  if (began + rounded < (call ? s->ended : s->row_ended))
    return wrong(path, at, "it begins before what is before it has ended");
  if (!call) *s = (stream){began, began, began + length, row};
  if (call) s->ended = began + length;
  printf("%lld %s %s %lld %lld %lld %s %s %lld %.3f %.3f %s\n", (long long)rank, beside ? "communication" : "compute",
         text_of(e, "cat"), (long long)step, (long long)row, (long long)number_of(args, "micro"), text_of(args, "bucket"),
         text_of(args, "group"), (long long)number_of(args, "bytes"), began, began + length, text_of(e, "name"));
  return 0;
}

static int read_file(const char *path) {
  stream streams[MOST_RANKS][2];
  gd_json *root = NULL;
  gd_bytes text = {0};
  int64_t at = 0, spans = 0, names = 0;
  memset(streams, 0, sizeof streams);
  for (int i = 0; i < 2 * MOST_RANKS; i++) streams[i / 2][i % 2] = (stream){-1e300, -1e300, -1e300, -1};
  if (gd_file_read(path, 1 << 28, &text) != GD_OK || gd_json_parse(text.bytes, text.count, path, 1, &root) != GD_OK) {
    fprintf(stderr, "%s\n", gd_error_text());
    return 1;
  }
  int failed = gd_json_strict(text.bytes, text.count) && gd_json_is_array(root) ? 0 : wrong(path, 0, "no list in JSON");
  for (const gd_json *e = gd_json_first(root); e && !failed; e = gd_json_next(e), at++) {
    const char *phase = text_of(e, "ph");
    if (strcmp(phase, "X") == 0) {
      failed = read_span(path, at, e, streams);
      spans++;
    } else if (strcmp(phase, "M") == 0) {
      names += strcmp(text_of(e, "name"), "process_name") == 0 || strcmp(text_of(e, "name"), "thread_name") == 0;
    } else {
      failed = wrong(path, at, "of an unknown kind");
    }
  }
  if (!failed && (spans == 0 || names < 3)) failed = wrong(path, at, "no spans, or streams without names");
  gd_json_free(root);
  gd_bytes_free(&text);
  return failed;
}

int main(int count, char **paths) {
  int failed = count < 2;
  for (int i = 1; i < count; i++) failed |= read_file(paths[i]);
  return failed;
}
