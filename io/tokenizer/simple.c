/* simple.c - the tokenizers without merges: bytes, and the characters of a corpus. */
#include <stdlib.h>
#include <string.h>

#include "io/tokenizer/internal.h"
#include "io/base/utf8.h"

/* ---- bytes: ids 0 to 255, end of text 256 ---- */

static gd_status encode_bytes(void *state, bool first, const char *bytes, size_t count, gd_ids *out) {
  (void)first;
  (void)state;
  GD_TRY(gd_ids_reserve(out, count));
  for (size_t i = 0; i < count; i++) out->ids[out->count++] = (uint8_t)bytes[i];
  return GD_OK;
}

static gd_status decode_bytes(const void *state, int32_t previous, const int32_t *ids, size_t count, gd_bytes *out) {
  (void)state;
  (void)previous;
  for (size_t i = 0; i < count; i++) {
    if (ids[i] < 0 || ids[i] > 256) return gd_fail_user(GD_BAD_DATA, "id %d has no text, expected an id below 257", ids[i]);
    char one = (char)ids[i];
    GD_TRY(ids[i] == 256 ? gd_bytes_append(out, "<|endoftext|>", 13) : gd_bytes_append(out, &one, 1));
  }
  return GD_OK;
}

static void close_bytes(void *state) {
  (void)state;
}

static const gd_tokenizer_kind bytes_kind = {"bytes", true, encode_bytes, decode_bytes, close_bytes};

gd_status gd_tokenizer_build_bytes(gd_tokenizer *tokenizer, const char *where) {
  (void)where;
  tokenizer->kind = &bytes_kind;
  tokenizer->vocabulary = 257;
  tokenizer->eot = 256;
  return gd_tokenizer_add_special(tokenizer, "<|endoftext|>", 256);
}

/* ---- chars: the characters of the file in its order ---- */

typedef struct chars {
  int32_t *id; /* [limit] by code point, -1: none */
  uint32_t limit;
  uint32_t *offset; /* [vocabulary + 1] into text */
  char *text;
} chars;

typedef struct chars_state {
  chars table;
  int32_t vocabulary;
} chars_state;

static gd_status encode_chars(void *state, bool first, const char *bytes, size_t count, gd_ids *out) {
  (void)first;
  const chars *table = &((const chars_state *)state)->table;
  GD_TRY(gd_ids_reserve(out, count));
  for (size_t i = 0; i < count;) {
    uint32_t code_point = 0;
    size_t length = gd_utf8_length(bytes + i, count - i, &code_point);
    if (!length)
      return gd_fail_user(GD_BAD_DATA, "byte %zu is 0x%02x, expected UTF-8: the chars tokenizer knows no bytes", i,
                          (uint8_t)bytes[i]);
    int32_t id = code_point < table->limit ? table->id[code_point] : -1;
    if (id < 0)
      return gd_fail_user(GD_BAD_DATA, "the character \"%.*s\" (U+%04X) is not in the vocabulary of the chars tokenizer",
                          (int)length, bytes + i, code_point);
    out->ids[out->count++] = id;
    i += length;
  }
  return GD_OK;
}

static gd_status decode_chars(const void *state, int32_t previous, const int32_t *ids, size_t count, gd_bytes *out) {
  const chars_state *at = state;
  (void)previous;
  for (size_t i = 0; i < count; i++) {
    if (ids[i] < 0 || ids[i] >= at->vocabulary)
      return gd_fail_user(GD_BAD_DATA, "id %d has no text, expected an id below %d", ids[i], at->vocabulary);
    uint32_t start = at->table.offset[ids[i]];
    GD_TRY(gd_bytes_append(out, at->table.text + start, at->table.offset[ids[i] + 1] - start));
  }
  return GD_OK;
}

static void close_chars(void *state) {
  chars_state *at = state;
  if (!at) return;
  free(at->table.id);
  free(at->table.offset);
  free(at->table.text);
  free(at);
}

static const gd_tokenizer_kind chars_kind = {"chars", true, encode_chars, decode_chars, close_chars};

gd_status gd_tokenizer_build_chars(gd_tokenizer *tokenizer, const char *where) {
  const gd_bytes *file = &tokenizer->files[0].bytes;
  chars_state *state = calloc(1, sizeof *state);
  tokenizer->kind = &chars_kind;
  tokenizer->state = state;
  if (!state) return gd_fail(GD_NO_MEMORY, "no memory for a vocabulary");
  chars *table = &state->table;
  uint32_t code_point = 0, largest = 0;
  for (size_t i = 0; i < file->count;) {
    size_t length = gd_utf8_length(file->bytes + i, file->count - i, &code_point);
    if (!length) return gd_fail_user(GD_BAD_DATA, "%s: byte %zu is no UTF-8, expected a list of characters", where, i);
    if (code_point > largest) largest = code_point;
    state->vocabulary++;
    i += length;
  }
  if (!state->vocabulary) return gd_fail_user(GD_BAD_DATA, "%s: empty, expected a list of characters", where);
  table->limit = largest + 1;
  table->id = malloc(table->limit * sizeof *table->id);
  table->offset = calloc((size_t)state->vocabulary + 1, sizeof *table->offset);
  table->text = malloc(file->count);
  if (!table->id || !table->offset || !table->text) return gd_fail(GD_NO_MEMORY, "no memory for a vocabulary");
  memset(table->id, 0xff, table->limit * sizeof *table->id);
  memcpy(table->text, file->bytes, file->count);
  int32_t id = 0;
  for (size_t i = 0; i < file->count; id++) {
    size_t length = gd_utf8_length(file->bytes + i, file->count - i, &code_point);
    if (table->id[code_point] >= 0)
      return gd_fail_user(GD_BAD_DATA, "%s: the character U+%04X is listed twice", where, code_point);
    table->id[code_point] = id;
    table->offset[id] = (uint32_t)i;
    i += length;
  }
  table->offset[id] = (uint32_t)file->count;
  tokenizer->vocabulary = state->vocabulary;
  return GD_OK;
}
