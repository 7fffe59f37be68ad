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
  splitter->code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                                 PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED | PCRE2_NEVER_BACKSLASH_C, &code, &at, NULL);
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

gd_status gd_splitter_next(const gd_splitter *splitter, gd_splitter_state *state, const char *text, size_t count, size_t start,
                           size_t *end) {
  PCRE2_SPTR subject = (PCRE2_SPTR)text;
  int found = splitter->jit
                  ? pcre2_jit_match(splitter->code, subject, count, start, 0, state->match, state->context)
                  : pcre2_match(splitter->code, subject, count, start, PCRE2_NO_UTF_CHECK, state->match, state->context);
  if (found > 0) {
    *end = pcre2_get_ovector_pointer(state->match)[1];
    if (*end > start) return GD_OK;
  } else if (found != PCRE2_ERROR_NOMATCH) {
    PCRE2_UCHAR message[128];
    pcre2_get_error_message(found, message, sizeof message);
    return gd_fail_user(GD_BAD_DATA, "the tokenizer's splitting pattern fails on this text: %s", (const char *)message);
  }
  /* A pattern read from a file need not match everywhere: a character that it leaves out is a piece of its own. */
  size_t length = gd_utf8_length(text + start, count - start, NULL);
  *end = start + (length ? length : 1);
  return GD_OK;
}
