/* exact.c - answers compared as SQuAD does, and by their last number. */
#include "trainer/scores/exact.h"

#include <string.h>

#include "io/base/utf8.h"
#include "trainer/scores/lower.h"
#include "trainer/scores/words.h"

static bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
static bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* ---- words ---- */

static bool is_punctuation(uint32_t c) {
  return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
}

/* What ends a word, as \b of a regular expression means it: space and marks; beyond ASCII the blocks that hold marks. */
static bool ends_word(uint32_t c) {
  static const uint32_t blocks[][2] = {{0, 0x20},        {0x7f, 0xa9},     {0xab, 0xb1},     {0xb4, 0xb4},
                                       {0xb6, 0xb8},     {0xbb, 0xbb},     {0xbf, 0xbf},     {0xd7, 0xd7},
                                       {0xf7, 0xf7},     {0x300, 0x36f},   {0x2000, 0x206f}, {0x20a0, 0x20cf},
                                       {0x3000, 0x3004}, {0x3008, 0x3020}, {0xff01, 0xff0f}, {0xff1a, 0xff20}};
  for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
    if (c >= blocks[i][0] && c <= blocks[i][1]) return true;
  return false;
}

typedef struct normaliser {
  gd_bytes *out, word;
  size_t begin; /* of this text in out */
  bool gap;     /* a space is due before what comes next */
} normaliser;

static gd_status add_part(normaliser *n, const char *bytes, size_t count) {
  if (count == 0) return GD_OK;
  if (n->gap && n->out->count > n->begin) GD_TRY(gd_bytes_append(n->out, " ", 1));
  n->gap = false;
  return gd_bytes_append(n->out, bytes, count);
}

static gd_status end_word(normaliser *n) {
  static const char *const articles[] = {"a", "an", "the"};
  bool article = false;
  for (size_t i = 0; i < 3 && n->word.count > 0; i++) article = article || strcmp(n->word.bytes, articles[i]) == 0;
  if (article)
    n->gap = true;
  else
    GD_TRY(add_part(n, n->word.bytes, n->word.count));
  n->word.count = 0;
  return GD_OK;
}

static gd_status add_character(normaliser *n, const char *bytes, size_t length, uint32_t c) {
  if (length == 0) return gd_bytes_append(&n->word, bytes, 1); /* no UTF-8: a letter that nobody knows */
  if (is_punctuation(c)) return GD_OK;
  if (ends_word(c)) {
    GD_TRY(end_word(n));
    if (!gd_is_space(c)) return add_part(n, bytes, length);
    n->gap = true;
    return GD_OK;
  }
  if (c != 0x130) return gd_utf8_append(&n->word, gd_lower(c));
  GD_TRY(gd_bytes_append(&n->word, "i", 1)); /* the one letter whose lower case is a letter and a mark */
  GD_TRY(end_word(n));
  return add_part(n, "\u0307", 2);
}

gd_status gd_exact_normalise(const char *text, gd_bytes *out) {
  normaliser n = {.out = out, .begin = out->count};
  gd_status status = GD_OK;
  for (size_t at = 0, count = strlen(text); at < count && status == GD_OK;) {
    uint32_t code_point = 0;
    size_t length = gd_utf8_length(text + at, count - at, &code_point);
    status = add_character(&n, text + at, length, code_point);
    at += length > 0 ? length : 1;
  }
  if (status == GD_OK) status = end_word(&n);
  gd_bytes_free(&n.word);
  return status;
}

/* ---- the last number ---- */

typedef struct number {
  const char *whole, *fraction; /* digits, and of the whole part commas; fraction NULL: none */
  size_t whole_count, fraction_count;
  bool negative;
} number;

static size_t digits(const char *text) {
  size_t count = 0;
  while (is_digit(text[count])) count++;
  return count;
}

/* The number that begins with the digit text[at]; returns its end. */
static size_t read_number(const char *text, size_t at, number *out) {
  size_t end = at + digits(text + at), first = at;
  *out = (number){.whole = text + at};
  bool bare = at > 0 && text[at - 1] == '.' && (at == 1 || strchr(" \t\n$-", text[at - 2])); /* ".5" */
  if (bare) {
    *out = (number){.whole = text + at, .fraction = text + at, .fraction_count = end - at};
    first = at - 1;
  } else {
    if (end - at <= 3)
      while (text[end] == ',' && digits(text + end + 1) == 3) end += 4;
    out->whole_count = end - at;
    if (text[end] == '.' && is_digit(text[end + 1])) {
      out->fraction = text + end + 1;
      out->fraction_count = digits(out->fraction);
      end += 1 + out->fraction_count;
    }
  }
  if (first > 0 && text[first - 1] == '$') first--;
  if (first > 0 && text[first - 1] == '-')
    out->negative = first == 1 || !(is_letter(text[first - 2]) || is_digit(text[first - 2]) || text[first - 2] == ')');
  return end;
}

static gd_status add_number(const number *n, gd_bytes *out) {
  size_t skip = 0, fraction = n->fraction_count;
  while (skip < n->whole_count && (n->whole[skip] == '0' || n->whole[skip] == ',')) skip++;
  while (fraction > 0 && n->fraction[fraction - 1] == '0') fraction--;
  bool zero = skip == n->whole_count && fraction == 0;
  if (n->negative && !zero) GD_TRY(gd_bytes_append(out, "-", 1));
  if (skip == n->whole_count) GD_TRY(gd_bytes_append(out, "0", 1));
  for (size_t i = skip; i < n->whole_count; i++)
    if (n->whole[i] != ',') GD_TRY(gd_bytes_append(out, &n->whole[i], 1));
  if (fraction == 0) return GD_OK;
  GD_TRY(gd_bytes_append(out, ".", 1));
  return gd_bytes_append(out, n->fraction, fraction);
}

gd_status gd_exact_last_number(const char *text, gd_bytes *out) {
  number last = {0};
  for (size_t at = 0; text[at];) {
    if (is_digit(text[at]))
      at = read_number(text, at, &last);
    else
      at++;
  }
  return last.whole ? add_number(&last, out) : GD_OK;
}

/* ---- both ---- */

static bool equal(const gd_bytes *a, const gd_bytes *b) {
  return a->count == b->count && (a->count == 0 || memcmp(a->bytes, b->bytes, a->count) == 0);
}

gd_status gd_exact_match(const char *text, const char *const *references, int32_t count, bool *same_words, bool *same_number) {
  gd_bytes words = {0}, value = {0}, other = {0};
  gd_status status = gd_exact_normalise(text, &words);
  if (status == GD_OK) status = gd_exact_last_number(text, &value);
  *same_words = *same_number = false;
  for (int32_t i = 0; i < count && status == GD_OK; i++) {
    other.count = 0;
    status = gd_exact_normalise(references[i], &other);
    *same_words = *same_words || equal(&words, &other);
    other.count = 0;
    if (status == GD_OK) status = gd_exact_last_number(references[i], &other);
    *same_number = *same_number || (value.count > 0 && equal(&value, &other));
  }
  gd_bytes_free(&words);
  gd_bytes_free(&value);
  gd_bytes_free(&other);
  return status;
}
