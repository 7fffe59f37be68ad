/* bleu_tokenize.c - the tokenizers of sacreBLEU: mteval-v13a's, its Chinese one, characters. */
#include <string.h>

#include "io/base/utf8.h"
#include "trainer/scores/bleu.h"
#include "trainer/scores/words.h"

static gd_status add_letter(gd_bytes *out, char letter) {
  return gd_bytes_append(out, &letter, 1);
}

/* Appends text[count] with each `from` replaced. */
static gd_status replace(gd_bytes *text, const char *from, const char *to) {
  gd_bytes out = {0};
  const char *rest = text->bytes, *found;
  gd_status status = GD_OK;
  if (!rest || !strstr(rest, from)) return GD_OK;
  for (; status == GD_OK && (found = strstr(rest, from)); rest = found + strlen(from)) {
    status = gd_bytes_append(&out, rest, (size_t)(found - rest));
    if (status == GD_OK) status = gd_bytes_append(&out, to, strlen(to));
  }
  if (status == GD_OK) status = gd_bytes_append(&out, rest, strlen(rest));
  gd_bytes_free(text);
  *text = out;
  return status;
}

static bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
static bool is_stop(char c) {
  return c == '.' || c == ',';
}
static bool is_mark(char c) { /* ASCII punctuation but ' , - . */
  return (c >= '{' && c <= '~') || (c >= '[' && c <= '`') || (c >= ' ' && c <= '&') || (c >= '(' && c <= '+') ||
         (c >= ':' && c <= '@') || c == '/';
}

/* The rules of mteval-v13a in order, each over the whole text: marks stand alone; a stop behind what is no digit; a stop before
 * what is no digit; a dash behind a digit. Letters of several bytes are none of these, so bytes do. */
typedef enum rule { RULE_MARKS, RULE_STOP_AFTER, RULE_STOP_BEFORE, RULE_DASH, RULES } rule;

static gd_status apply_rule(rule r, const gd_bytes *text, gd_bytes *out) {
  for (size_t i = 0; i < text->count; i++) {
    char c = text->bytes[i], next = i + 1 < text->count ? text->bytes[i + 1] : 0;
    bool pair = i + 1 < text->count &&
                ((r == RULE_STOP_AFTER && !is_digit(c) && is_stop(next)) ||
                 (r == RULE_STOP_BEFORE && is_stop(c) && !is_digit(next)) || (r == RULE_DASH && is_digit(c) && next == '-'));
    if (r == RULE_MARKS && is_mark(c)) {
      GD_TRY(gd_bytes_printf(out, " %c ", c));
    } else if (pair) {
      GD_TRY(gd_bytes_printf(out, r == RULE_STOP_BEFORE ? " %c %c" : "%c %c ", c, next));
      i++;
    } else {
      GD_TRY(add_letter(out, c));
    }
  }
  return GD_OK;
}

static gd_status apply_rules(gd_bytes *text) {
  for (rule r = 0; r < RULES; r++) {
    gd_bytes out = {0};
    gd_status status = gd_bytes_reserve(&out, 2 * text->count + 1);
    if (status == GD_OK) status = apply_rule(r, text, &out);
    gd_bytes_free(text);
    *text = out;
    GD_TRY(status);
  }
  return GD_OK;
}

static gd_status prepare_13a(gd_bytes *text) {
  static const char *const pairs[][2] = {{"<skipped>", ""}, {"-\n", ""},   {"\n", " "},  {"&quot;", "\""},
                                         {"&amp;", "&"},    {"&lt;", "<"}, {"&gt;", ">"}};
  for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) GD_TRY(replace(text, pairs[i][0], pairs[i][1]));
  return GD_OK;
}

/* As sacreBLEU has it: U+2001 to U+2A6D and U+2F81 to U+2FA1 stand there for ideographs of five hex digits. */
static bool is_chinese(uint32_t c) {
  static const uint32_t ranges[][2] = {{0x2001, 0x2a6d}, {0x2e80, 0x2fdf}, {0x2ff0, 0x303f}, {0x3100, 0x312f},
                                       {0x31a0, 0x31bf}, {0x31c0, 0x31ef}, {0x3200, 0x33ff}, {0x3400, 0x4db5},
                                       {0x4e00, 0x9fbb}, {0xf900, 0xfa2d}, {0xfa30, 0xfa6a}, {0xfa70, 0xfad9},
                                       {0xfe10, 0xfe1f}, {0xfe30, 0xfe4f}, {0xff00, 0xffef}};
  for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
    if (c >= ranges[i][0] && c <= ranges[i][1]) return true;
  return false;
}

/* Characters apart: all of them, or the Chinese ones. */
static gd_status split_characters(const char *text, size_t count, bool all, gd_bytes *out) {
  for (size_t at = 0; at < count;) {
    uint32_t code_point = 0;
    size_t length = gd_utf8_length(text + at, count - at, &code_point);
    bool apart = all || (length > 0 && is_chinese(code_point));
    if (length == 0) length = 1;
    if (apart) GD_TRY(add_letter(out, ' '));
    GD_TRY(gd_bytes_append(out, text + at, length));
    if (apart) GD_TRY(add_letter(out, ' '));
    at += length;
  }
  return GD_OK;
}

/* Bytes without the white space at the end, which no tokenizer gets to see; *begin: without that at the beginning. */
static size_t stripped(const char *text, size_t *begin) {
  size_t end = 0, count = strlen(text);
  bool before = true;
  *begin = 0;
  for (size_t at = 0; at < count;) {
    uint32_t code_point = 0;
    size_t length = gd_utf8_length(text + at, count - at, &code_point);
    bool space = length > 0 && gd_is_space(code_point);
    at += length > 0 ? length : 1;
    before = before && space;
    if (before) *begin = at;
    if (!space) end = at;
  }
  return end;
}

gd_status gd_bleu_tokenize(gd_bleu_tokenizer tokenizer, const char *text, gd_bytes *out) {
  gd_bytes work = {0};
  size_t begin, end = stripped(text, &begin);
  if (begin > end) begin = end;
  if (tokenizer == GD_BLEU_NONE) return gd_bytes_append(out, text, end);
  if (tokenizer == GD_BLEU_CHAR) return split_characters(text, end, true, out);
  gd_status status;
  if (tokenizer == GD_BLEU_ZH) {
    status = split_characters(text + begin, end - begin, false, &work);
  } else {
    status = gd_bytes_append(&work, text, end);
    if (status == GD_OK) status = prepare_13a(&work);
    gd_bytes padded = {0}; /* rules look at neighbours */
    if (status == GD_OK) status = gd_bytes_printf(&padded, " %s ", work.count ? work.bytes : "");
    gd_bytes_free(&work);
    work = padded;
  }
  if (status == GD_OK) status = apply_rules(&work);
  if (status == GD_OK) status = gd_bytes_append(out, work.bytes, work.count);
  gd_bytes_free(&work);
  return status;
}
