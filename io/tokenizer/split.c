/* split.c - text cut into the pieces inside which pairs are merged, by PCRE2. */
#include "io/tokenizer/split.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "io/base/utf8.h"

#define SPACE "\\t-\\r \\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"

const char gd_splitter_gpt2[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" SPACE "\\p{L}\\p{N}]+|[" SPACE "]+(?![^" SPACE "])|[" SPACE "]+";
const char gd_splitter_cl100k[] = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^" SPACE
                                  "\\p{L}\\p{N}]+[\\r\\n]*|[" SPACE "]*[\\r\\n]+|[" SPACE "]+(?![^" SPACE "])|[" SPACE "]+";

const char gd_splitter_qwen2[] = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^" SPACE
                                 "\\p{L}\\p{N}]+[\\r\\n]*|[" SPACE "]*[\\r\\n]+|[" SPACE "]+(?![^" SPACE "])|[" SPACE "]+";

enum { STACK_START = 32 << 10, STACK_MOST = 64 << 20 };

struct gd_splitter {
  pcre2_code *code;
  bool jit;
};

struct gd_splitter_state {
  pcre2_match_data *match;
  pcre2_match_context *context;
  pcre2_jit_stack *stack;
};

gd_status gd_splitter_open(const char *pattern, gd_splitter **out) {
  *out = NULL;
  int code = 0;
  PCRE2_SIZE at = 0;
  gd_splitter *splitter = calloc(1, sizeof *splitter);
  if (!splitter) return gd_fail(GD_NO_MEMORY, "no memory for a pattern");
  /* \C would cut inside a character, and what begins there is no UTF-8. */
  splitter->code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C,
                                 &code, &at, NULL);
  if (!splitter->code) {
    PCRE2_UCHAR text[128];
    pcre2_get_error_message(code, text, sizeof text);
    free(splitter);
    return gd_fail_user(GD_BAD_DATA, "the splitting pattern is not understood at character %zu: %s", (size_t)at,
                        (const char *)text);
  }
  /* Without JIT (a hardened kernel may forbid it) the interpreter gives the same pieces, slower. */
  splitter->jit = pcre2_jit_compile(splitter->code, PCRE2_JIT_COMPLETE) == 0;
  *out = splitter;
  return GD_OK;
}

void gd_splitter_close(gd_splitter *splitter) {
  if (!splitter) return;
  pcre2_code_free(splitter->code);
  free(splitter);
}

gd_status gd_splitter_state_open(const gd_splitter *splitter, gd_splitter_state **out) {
  *out = NULL;
  gd_splitter_state *state = calloc(1, sizeof *state);
  if (!state) return gd_fail(GD_NO_MEMORY, "no memory for a pattern");
  state->match = pcre2_match_data_create_from_pattern(splitter->code, NULL);
  state->context = pcre2_match_context_create(NULL);
  state->stack = splitter->jit ? pcre2_jit_stack_create(STACK_START, STACK_MOST, NULL) : NULL;
  if (!state->match || !state->context || (splitter->jit && !state->stack)) {
    gd_splitter_state_close(state);
    return gd_fail(GD_NO_MEMORY, "no memory for a pattern");
  }
  if (state->stack) pcre2_jit_stack_assign(state->context, NULL, state->stack);
  *out = state;
  return GD_OK;
}

void gd_splitter_state_close(gd_splitter_state *state) {
  if (!state) return;
  pcre2_match_data_free(state->match);
  pcre2_match_context_free(state->context);
  if (state->stack) pcre2_jit_stack_free(state->stack);
  free(state);
}

/* The first match at or behind `from`; *begin = count: none. */
static gd_status search(const gd_splitter *splitter, gd_splitter_state *state, const char *text, size_t count, size_t from,
                        size_t *begin, size_t *end) {
  PCRE2_SPTR subject = (PCRE2_SPTR)text;
  int found = splitter->jit
                  ? pcre2_jit_match(splitter->code, subject, count, from, 0, state->match, state->context)
                  : pcre2_match(splitter->code, subject, count, from, PCRE2_NO_UTF_CHECK, state->match, state->context);
  *begin = *end = count;
  if (found > 0) {
    *begin = pcre2_get_ovector_pointer(state->match)[0];
    *end = pcre2_get_ovector_pointer(state->match)[1];
    if (*begin < from || *end < *begin) *begin = *end = count; /* \K can do that */
  } else if (found != PCRE2_ERROR_NOMATCH) {
    PCRE2_UCHAR message[128];
    pcre2_get_error_message(found, message, sizeof message);
    return gd_fail_user(GD_BAD_DATA, "the tokenizer's splitting pattern fails on this text: %s", (const char *)message);
  }
  return GD_OK;
}

gd_status gd_splitter_next(const gd_splitter *splitter, gd_splitter_state *state, const char *text, size_t count, size_t start,
                           size_t *end, bool *matched) {
  size_t begin;
  GD_TRY(search(splitter, state, text, count, start, &begin, end));
  *matched = begin == start && *end > start;
  if (*matched) return GD_OK;
  if (begin == start) { /* an empty match, which cut before this run */
    size_t length = gd_utf8_length(text + start, count - start, NULL);
    GD_TRY(search(splitter, state, text, count, start + (length ? length : 1), &begin, end));
  }
  *end = begin; /* a pattern read from a file need not match everywhere */
  return GD_OK;
}

static gd_status step_run(const gd_split_step *step, gd_splitter_state *state, const char *text, size_t count, size_t start,
                          size_t *end, bool *matched) {
  GD_TRY(gd_splitter_next(step->splitter, state, text, count, start, end, matched));
  *matched = *matched != step->invert;
  return GD_OK;
}

gd_status gd_split_step_next(const gd_split_step *step, gd_splitter_state *state, const char *text, size_t count, size_t start,
                             size_t *end, bool *kept) {
  bool matched, next_matched;
  size_t next;
  GD_TRY(step_run(step, state, text, count, start, end, &matched));
  *kept = step->behavior != GD_SPLIT_REMOVED || !matched;
  bool joins = (step->behavior == GD_SPLIT_MERGED_WITH_PREVIOUS && !matched) ||
               (step->behavior == GD_SPLIT_MERGED_WITH_NEXT && matched) || step->behavior == GD_SPLIT_CONTIGUOUS;
  while (joins && *end < count) {
    GD_TRY(step_run(step, state, text, count, *end, &next, &next_matched));
    bool all = step->behavior == GD_SPLIT_CONTIGUOUS;
    if (all != (next_matched == matched)) break;
    *end = next;
    joins = all; /* the other two join one neighbour */
  }
  return GD_OK;
}

static gd_status not_the_same(const char *what) {
  return gd_fail_user(GD_BAD_DATA, "the splitting pattern has %s, which is not read here", what);
}

gd_status gd_splitter_translate(const char *pattern, gd_bytes *out) {
  bool inside = false; /* of a class */
  for (const char *at = pattern; *at; at++) {
    const char *as = NULL;
    size_t length = 1;
    if (*at == '\\' && at[1]) {
      length = 2;
      if (at[1] == 's') as = inside ? SPACE : "[" SPACE "]";
      if (at[1] == 'S' && !inside) as = "[^" SPACE "]";
    } else if (!inside && *at == '[') {
      inside = true;
      length += at[length] == '^';
      length += at[length] == ']';
    } else if (inside && *at == ']') {
      inside = false;
    } else if (inside && *at == '[' && at[1] != ':') {
      return not_the_same("a class inside a class");
    } else if (inside && *at == '[') { /* [:alpha:] */
      const char *close = strstr(at, ":]");
      if (!close) return not_the_same("an open [:");
      length = (size_t)(close + 2 - at);
    } else if (inside && *at == '&' && at[1] == '&') {
      return not_the_same("an intersection of classes (&&)");
    }
    GD_TRY(as ? gd_bytes_append(out, as, strlen(as)) : gd_bytes_append(out, at, length));
    at += length - 1;
  }
  return gd_bytes_append(out, "", 0);
}
