/* text.c - plain text: parts of documents, parted by separator lines. */
#include <string.h>

#include "io/text/internal.h"

typedef enum found { NOTHING, SEPARATOR_LINE, NEED_MORE } found;

/* The first separator line in bytes[count]: it begins at *at and the next line at *next. NEED_MORE: what begins at *at may be
 * one. */
static found find_separator(const gd_corpus *corpus, const char *bytes, size_t count, size_t *at, size_t *next) {
  const char *separator = corpus->options.separator;
  const size_t length = strlen(separator);
  for (const char *hit = bytes; (hit = memmem(hit, count - (size_t)(hit - bytes), separator, length)); hit++) {
    size_t begin = (size_t)(hit - bytes), end = begin + length;
    if (begin ? hit[-1] != '\n' : !corpus->line_start) continue;
    *at = begin;
    if (end < count && bytes[end] == '\r') end++;
    *next = end + 1;
    if (end < count && bytes[end] == '\n') return SEPARATOR_LINE;
    if (end < count) continue;
    *next = end;
    return corpus->finished && corpus->to_end ? SEPARATOR_LINE : corpus->finished ? NOTHING : NEED_MORE;
  }
  return NOTHING;
}

/* U+5000 to U+9FBF, letters all; at[0 .. 3). */
static bool is_ideograph(const char *at) {
  unsigned char first = (unsigned char)at[0], second = (unsigned char)at[1];
  return first >= 0xe5 && first <= 0xe9 && !(first == 0xe9 && second == 0xbf);
}

/* Chinese and Japanese have no spaces: between a line end and an ideograph, where the line is not empty and does not end in a
 * space of any kind (U+4000 and above there is none, and U+3002 is the full stop). */
static bool cuts_line(const char *bytes, size_t at, size_t count) {
  if (at < 4 || count - at < 3 || bytes[at - 1] != '\n' || !is_ideograph(bytes + at)) return false;
  const unsigned char *end = (const unsigned char *)bytes + at - 4;
  return (end[0] >= 0xe4 && end[0] <= 0xef) || (end[0] == 0xe3 && end[1] == 0x80 && end[2] == 0x82);
}

/* The last place in bytes[1 .. count) where the text may be cut without changing its ids: between a letter or digit and a space
 * or newline, or before an ideograph that begins a line; 0: none. */
static size_t last_cut(const char *bytes, size_t count) {
  for (size_t i = count; i-- > 1;) {
    char before = bytes[i - 1];
    bool word = (before >= 'a' && before <= 'z') || (before >= 'A' && before <= 'Z') || (before >= '0' && before <= '9');
    if ((word && (bytes[i] == ' ' || bytes[i] == '\n')) || cuts_line(bytes, i, count)) return i;
  }
  return 0;
}

static gd_status hand_out(gd_corpus *corpus, size_t count, bool ends, gd_corpus_part *part) {
  const char *bytes = corpus->window.bytes + corpus->used;
  GD_TRY(gd_corpus_check_utf8(corpus, bytes, count, 0, &corpus->text));
  *part = (gd_corpus_part){bytes, count, ends};
  if (corpus->text.count) *part = (gd_corpus_part){corpus->text.bytes, corpus->text.count, ends};
  gd_corpus_use(corpus, count);
  if (count) corpus->line_start = bytes[count - 1] == '\n';
  corpus->in_document = !ends;
  return GD_OK;
}

gd_status gd_corpus_next_text(gd_corpus *corpus, gd_corpus_part *part, bool *more) {
  *more = true;
  for (size_t wanted = GD_CORPUS_PART_BYTES;;) {
    size_t count = corpus->window.count - corpus->used, at = 0, next = 0;
    if (count < wanted && !corpus->finished) {
      GD_TRY(gd_corpus_fill(corpus, wanted - count));
      continue;
    }
    const char *bytes = corpus->window.bytes + corpus->used;
    found result = find_separator(corpus, bytes, count, &at, &next);
    if (result == SEPARATOR_LINE) {
      bool empty = at == 0 && !corpus->in_document;
      if (!empty) GD_TRY(hand_out(corpus, at, true, part));
      gd_corpus_use(corpus, next - at);
      corpus->line_start = true;
      if (!empty) return GD_OK;
      continue;
    }
    if (result == NEED_MORE) {
      wanted = count + GD_CORPUS_PART_BYTES;
      continue;
    }
    if (corpus->finished) {
      /* A unit that stops inside the file leaves the document open for the next. */
      if (count || (corpus->in_document && corpus->to_end)) return hand_out(corpus, count, corpus->to_end, part);
      *more = false;
      return GD_OK;
    }
    size_t cut = corpus->options.cut ? last_cut(bytes, count) : 0;
    if (cut) return hand_out(corpus, cut, false, part);
    wanted = 2 * count + GD_CORPUS_PART_BYTES;
  }
}
