/* jinja.c - a Jinja text in a form of its own, for comparing: what is printed as it is in JSON's quotes, expressions in braces,
 * statements between percent signs. White space goes as transformers has it: trim_blocks and lstrip_blocks. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "io/data/chat_template.h"

typedef struct normal {
  const char *text;
  size_t count;
  gd_bytes printed; /* waits, so that what is printed in pieces becomes one */
  gd_bytes *out;
} normal;

/* A word, a string or a sign of an expression. */
typedef struct part {
  char kind; /* 'w', 's', or the sign; 0: the end */
  const char *at;
  size_t count;
} part;

static bool is_word(char c) {
  return isalnum((unsigned char)c) || c == '_';
}

static part next_part(const char **at, const char *end) {
  while (*at < end && isspace((unsigned char)**at)) ++*at;
  const char *from = *at;
  if (from == end) return (part){0};
  if (*from == '\'' || *from == '"') {
    for (++*at; *at < end && **at != *from; ++*at)
      if (**at == '\\' && *at + 1 < end) ++*at;
    part found = {'s', from + 1, (size_t)(*at - from - 1)};
    if (*at < end) ++*at;
    return found;
  }
  if (!is_word(*from)) return (part){*(*at)++, from, 1};
  while (*at < end && is_word(**at)) ++*at;
  return (part){'w', from, (size_t)(*at - from)};
}

/* The text of a string; of the escapes those that stand in templates, others as they are written. */
static gd_status put_string(const part *string, gd_bytes *out) {
  for (size_t i = 0; i < string->count; i++) {
    char c = string->at[i];
    if (c == '\\' && i + 1 < string->count) {
      c = string->at[++i];
      if (!strchr("ntr\\'\"", c)) GD_TRY(gd_bytes_append(out, "\\", 1));
      c = (char)(c == 'n' ? '\n' : c == 't' ? '\t' : c == 'r' ? '\r' : c);
    }
    GD_TRY(gd_bytes_append(out, &c, 1));
  }
  return GD_OK;
}

static gd_status quote_string(const part *string, gd_bytes *out) {
  gd_bytes text = {0};
  gd_status status = put_string(string, &text);
  if (status == GD_OK) status = gd_json_quote(out, text.count ? text.bytes : "", text.count);
  gd_bytes_free(&text);
  return status;
}

/* An expression or statement: one space between words, a.b as a["b"]. */
static gd_status put_code(const char *at, const char *end, gd_bytes *out) {
  char last = 0;
  for (part p; (p = next_part(&at, end)).kind; last = p.kind) {
    const char *ahead = at;
    part name = next_part(&ahead, end);
    const char *behind_name = ahead;
    if (p.kind == '.' && name.kind == 'w' && next_part(&ahead, end).kind != '(') {
      GD_TRY(gd_bytes_append(out, "[", 1));
      GD_TRY(gd_json_quote(out, name.at, name.count));
      GD_TRY(gd_bytes_append(out, "]", 1));
      at = behind_name;
      continue;
    }
    if (last == 'w' && p.kind == 'w') GD_TRY(gd_bytes_append(out, " ", 1));
    GD_TRY(p.kind == 's' ? quote_string(&p, out) : gd_bytes_append(out, p.at, p.count));
  }
  return GD_OK;
}

static gd_status put_printed(normal *n) {
  if (!n->printed.count) return GD_OK;
  gd_status status = gd_json_quote(n->out, n->printed.bytes, n->printed.count);
  n->printed.count = 0;
  return status;
}

static gd_status put_tag(normal *n, const char *open, const char *at, const char *end, const char *close) {
  GD_TRY(put_printed(n));
  GD_TRY(gd_bytes_append(n->out, open, 1));
  GD_TRY(put_code(at, end, n->out));
  return gd_bytes_append(n->out, close, 1);
}

static bool is_plus(const part *p) {
  return p->kind == '+' || p->kind == '~';
}

static int depth_change(const part *p) {
  return (strchr("([{", p->kind) != NULL) - (strchr(")]}", p->kind) != NULL);
}

/* Whether an expression is nothing but a sum, and may be parted. */
static bool is_sum(const char *at, const char *end) {
  static const char *const others[] = {"if", "else", "and", "or", "not", "in", "is"};
  bool term = false;
  int depth = 0;
  for (part p; (p = next_part(&at, end)).kind;) {
    depth += depth_change(&p);
    if (depth < 0) return false;
    term = depth > 0 || !is_plus(&p);
    if (depth > 0) continue;
    if (strchr("-*/%<>=!:,", p.kind)) return false;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
      if (p.kind == 'w' && strlen(others[i]) == p.count && memcmp(others[i], p.at, p.count) == 0) return false;
  }
  return term && depth == 0; /* behind a + there is one */
}

/* Where the first term of a sum ends, before its + or at `end`. */
static const char *end_of_term(const char *at, const char *end) {
  int depth = 0;
  for (const char *from = at;; from = at) {
    part p = next_part(&at, end);
    if (!p.kind) return end;
    depth += depth_change(&p);
    if (depth == 0 && is_plus(&p)) return from;
  }
}

/* {{ ... }}: a sum is printed term by term, and a term that is a string is a text. */
static gd_status put_expression(normal *n, const char *at, const char *end) {
  if (!is_sum(at, end)) return put_tag(n, "{", at, end, "}");
  while (at < end) {
    const char *term = end_of_term(at, end), *look = at;
    part first = next_part(&look, term);
    if (first.kind == 's' && !next_part(&look, term).kind)
      GD_TRY(put_string(&first, &n->printed));
    else
      GD_TRY(put_tag(n, "{", at, term, "}"));
    at = term;
    if (at < end) (void)next_part(&at, end); /* its + */
  }
  return GD_OK;
}

/* The end of what {{, {% or {# opens, which lies behind strings of it; NULL: none. */
static const char *find_close(const char *at, const char *end, char kind) {
  char close = (char)(kind == '{' ? '}' : kind);
  while (at + 1 < end) {
    if (at[0] == close && at[1] == '}') return at;
    if (kind != '#' && (*at == '\'' || *at == '"'))
      (void)next_part(&at, end);
    else
      at++;
  }
  return NULL;
}

static const char *find_open(const char *at, const char *end) {
  for (; at + 1 < end; at++)
    if (*at == '{' && (at[1] == '{' || at[1] == '%' || at[1] == '#')) return at;
  return end;
}

/* White space before a tag at text[.. end): all of it, or from a line's start on. */
static const char *trim_before(const char *from, const char *end, bool all, bool block, bool line_start) {
  const char *at = end;
  while (at > from && (all ? isspace((unsigned char)at[-1]) : at[-1] == ' ' || at[-1] == '\t')) at--;
  if (all) return at;
  return block && (at == from ? line_start : at[-1] == '\n') ? at : end;
}

static gd_status read_all(normal *n) {
  const char *at = n->text, *end = n->text + n->count;
  if (end > at && end[-1] == '\n') end--; /* Jinja's keep_trailing_newline is false */
  bool strip = false, line_start = true;
  while (at < end) {
    const char *open = find_open(at, end);
    while (strip && at < open && isspace((unsigned char)*at)) at++;
    if (open == end) return gd_bytes_append(&n->printed, at, (size_t)(end - at));
    bool block = open[1] != '{', minus = open + 2 < end && open[2] == '-', plus = open + 2 < end && open[2] == '+';
    const char *text_end = trim_before(at, open, minus, block && !plus, line_start);
    GD_TRY(gd_bytes_append(&n->printed, at, (size_t)(text_end - at)));
    const char *code = open + 2 + (minus || plus), *close = find_close(code, end, open[1]);
    if (!close) return gd_bytes_append(&n->printed, open, (size_t)(end - open)); /* no Jinja: it is like nothing of ours */
    strip = close > code && close[-1] == '-';
    const char *code_end = close - strip;
    at = close + 2;
    line_start = block && !strip && at < end && *at == '\n';
    at += line_start;
    if (open[1] == '{') GD_TRY(put_expression(n, code, code_end));
    if (open[1] == '%') GD_TRY(put_tag(n, "%", code, code_end, "%"));
  }
  return GD_OK;
}

gd_status gd_jinja_normal(const char *text, size_t count, gd_bytes *out) {
  normal n = {.text = text, .count = count, .out = out};
  gd_status status = gd_bytes_append(out, "", 0);
  bool zero = memchr(text, 0, count) != NULL; /* ends no expression here, and stands in none of ours */
  if (status == GD_OK) status = zero ? gd_bytes_append(&n.printed, text, count) : read_all(&n);
  if (status == GD_OK) status = put_printed(&n);
  gd_bytes_free(&n.printed);
  return status;
}
