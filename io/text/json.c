/* json.c - JSON that is no line format: an array of objects, or objects one behind the other. One object at a time is in
 * memory. */
#include <string.h>

#include "io/text/internal.h"

static gd_status unexpected(const gd_corpus *corpus, const char *expected) {
  const char *found = corpus->window.bytes + corpus->used;
  size_t left = corpus->window.count - corpus->used, count = left < 24 ? left : 24;
  for (size_t i = 0; i < count; i++)
    if ((unsigned char)found[i] < 32 || (unsigned char)found[i] > 126) count = i;
  return gd_fail_user(GD_BAD_DATA, "%s:%lld: found \"%.*s\", expected %s", corpus->path, (long long)gd_corpus_line(corpus, 0),
                      (int)count, found, expected);
}

/* Goes to the next byte that is no white space; *end: there is none. */
static gd_status skip_space(gd_corpus *corpus, bool *end) {
  for (;;) {
    const char *bytes = corpus->window.bytes + corpus->used;
    size_t count = strspn(bytes, " \t\r\n");
    gd_corpus_use(corpus, count);
    *end = corpus->used == corpus->window.count;
    if (!*end || corpus->finished) return GD_OK;
    GD_TRY(gd_corpus_fill(corpus, GD_CORPUS_PART_BYTES));
  }
}

/* Makes the window hold the whole object that begins at `used`: *count is its length. Brackets are counted outside strings;
 * what is inside is the parser's business. */
static gd_status find_object(gd_corpus *corpus, size_t *count) {
  size_t depth = 0;
  bool quoted = false, escaped = false;
  for (size_t i = 0;; i++) {
    while (corpus->used + i == corpus->window.count) {
      if (corpus->finished)
        return gd_fail_user(GD_BAD_DATA, "%s:%lld: the object that begins here is never closed", corpus->path,
                            (long long)gd_corpus_line(corpus, 0));
      GD_TRY(gd_corpus_fill(corpus, i + GD_CORPUS_PART_BYTES));
    }
    char c = corpus->window.bytes[corpus->used + i];
    bool literal = escaped;
    escaped = quoted && !literal && c == '\\';
    if (c == '"' && !literal) quoted = !quoted;
    if (quoted) continue;
    if (c == '{' || c == '[') depth++;
    if ((c == '}' || c == ']') && --depth == 0) {
      *count = i + 1;
      return GD_OK;
    }
  }
}

/* Moves to the next object; *more = false at the end of the file. */
static gd_status next_object(gd_corpus *corpus, bool *more) {
  for (;;) {
    bool end;
    GD_TRY(skip_space(corpus, &end));
    char behind = corpus->behind, c = end ? 0 : corpus->window.bytes[corpus->used];
    bool open = behind == '[' || behind == '{' || behind == ',';
    *more = !end;
    if (end && open)
      return gd_fail_user(GD_BAD_DATA, "%s:%lld: the file ends inside its array, expected ]", corpus->path,
                          (long long)gd_corpus_line(corpus, 0));
    if (end) return GD_OK;
    if (behind == ']') return unexpected(corpus, "the end of the file behind its array");
    bool mark = (behind == 0 && c == '[') || (behind == '{' && c == ',') || ((behind == '[' || behind == '{') && c == ']');
    if (!mark && behind == '{') return unexpected(corpus, "a comma or ] behind an object of the array");
    if (!mark && c != '{') return unexpected(corpus, open ? "a JSON object" : "a JSON object or an array of them");
    if (!mark) {
      corpus->behind = open ? '{' : '-';
      return GD_OK;
    }
    corpus->behind = c;
    gd_corpus_use(corpus, 1);
  }
}

gd_status gd_corpus_find_json(gd_corpus *corpus, size_t *length, bool *more) {
  GD_TRY(next_object(corpus, more));
  if (!*more) return GD_OK;
  GD_TRY(find_object(corpus, length));
  return gd_corpus_read_object(corpus, corpus->window.bytes + corpus->used, *length);
}
