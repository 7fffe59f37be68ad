/* fallback.c - BPE over characters with bytes for those that are no token. */
#include "io/tokenizer/fallback.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/base/utf8.h"

static const char mark[] = "\xe2\x96\x81"; /* U+2581 */
enum { MARK_BYTES = 3 };

typedef struct fallback {
  gd_bpe *bpe;
  gd_fallback_options options;
  const gd_tokenizer *tokenizer;
  int32_t byte_ids[256]; /* -1: none */
} fallback;

static void close_state(void *state) {
  fallback *at = state;
  if (!at) return;
  gd_bpe_close(at->bpe);
  free(at);
}

gd_status gd_fallback_open(gd_bpe *bpe, const gd_fallback_options *options, const gd_tokenizer *tokenizer, void **out) {
  fallback *at = calloc(1, sizeof *at);
  *out = at;
  if (!at) {
    gd_bpe_close(bpe);
    return gd_fail(GD_NO_MEMORY, "no memory for a vocabulary");
  }
  *at = (fallback){.bpe = bpe, .options = *options, .tokenizer = tokenizer};
  for (int byte = 0; byte < 256; byte++) {
    char text[8];
    snprintf(text, sizeof text, "<0x%02X>", byte);
    at->byte_ids[byte] = gd_bpe_find(bpe, text, strlen(text));
  }
  return GD_OK;
}

/* ---- encoding ---- */

static gd_status unknown(const fallback *at, const char *bytes, size_t length, gd_ids *out, size_t first) {
  bool all = true;
  for (size_t i = 0; i < length; i++) all = all && at->byte_ids[(uint8_t)bytes[i]] >= 0;
  for (size_t i = 0; all && i < length; i++) GD_TRY(gd_ids_append(out, &at->byte_ids[(uint8_t)bytes[i]], 1));
  if (all) return GD_OK;
  if (at->options.unknown < 0)
    return gd_fail_user(GD_BAD_DATA, "the tokenizer has no id for the character \"%.*s\"", (int)length, bytes);
  bool again = at->options.fuse && out->count > first && out->ids[out->count - 1] == at->options.unknown;
  return again ? GD_OK : gd_ids_append(out, &at->options.unknown, 1);
}

/* Characters of a piece whose spaces are marks already, then merges. */
static gd_status encode_piece(const fallback *at, const char *bytes, size_t count, gd_ids *out) {
  size_t first = out->count;
  int32_t id = at->options.split && at->options.whole_first ? gd_bpe_find(at->bpe, bytes, count) : -1;
  if (id >= 0) return gd_ids_append(out, &id, 1);
  for (size_t i = 0; i < count;) {
    size_t length = gd_utf8_length(bytes + i, count - i, NULL);
    id = length ? gd_bpe_find(at->bpe, bytes + i, length) : -1;
    if (!length) length = 1;
    GD_TRY(id >= 0 ? gd_ids_append(out, &id, 1) : unknown(at, bytes + i, length, out, first));
    i += length;
  }
  size_t ids = out->count - first;
  GD_TRY(gd_bpe_merge(at->bpe, out->ids + first, &ids));
  out->count = first + ids;
  return GD_OK;
}

static gd_status encode_marked(const fallback *at, const char *bytes, size_t count, gd_ids *out) {
  while (count) {
    const char *next = at->options.split && count > 1 ? memmem(bytes + 1, count - 1, mark, MARK_BYTES) : NULL;
    size_t piece = next ? (size_t)(next - bytes) : count;
    GD_TRY(encode_piece(at, bytes, piece, out));
    bytes += piece;
    count -= piece;
  }
  return GD_OK;
}

static bool begins_marked(const char *bytes, size_t count) {
  return bytes[0] == ' ' || (count >= MARK_BYTES && memcmp(bytes, mark, MARK_BYTES) == 0);
}

static gd_status encode(void *state, bool first, const char *bytes, size_t count, gd_ids *out) {
  const fallback *at = state;
  gd_bytes marked = {0};
  gd_status status = GD_OK;
  if (!count) return GD_OK;
  gd_fallback_prefix prefix = at->options.prefix;
  bool put = prefix == GD_PREFIX_FORCED ||
             ((prefix == GD_PREFIX_ALWAYS || (prefix == GD_PREFIX_FIRST && first)) && !begins_marked(bytes, count));
  if (put) status = gd_bytes_append(&marked, mark, MARK_BYTES);
  while (status == GD_OK && count) {
    const char *space = memchr(bytes, ' ', count);
    size_t run = space ? (size_t)(space - bytes) : count;
    status = gd_bytes_append(&marked, bytes, run);
    if (status == GD_OK && space) status = gd_bytes_append(&marked, mark, MARK_BYTES);
    bytes += run + (space != NULL);
    count -= run + (space != NULL);
  }
  if (status == GD_OK) status = encode_marked(at, marked.bytes, marked.count, out);
  gd_bytes_free(&marked);
  return status;
}

/* ---- decoding ---- */

/* <0x0A> -> 0x0A; -1: another text. */
static int byte_of(const fallback *at, int32_t id, const char *text, size_t count) {
  unsigned byte;
  char copy[8];
  if (count != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>') return -1;
  memcpy(copy, text, 6);
  copy[6] = 0;
  if (sscanf(copy, "<0x%2X>", &byte) != 1) return -1;
  return at->byte_ids[byte] == id ? (int)byte : -1;
}

static gd_status put_text(const char *text, size_t count, bool strip, gd_bytes *out) {
  for (size_t i = 0; i < count;) {
    bool space = count - i >= MARK_BYTES && memcmp(text + i, mark, MARK_BYTES) == 0;
    if (!space || !strip || i) GD_TRY(gd_bytes_append(out, space ? " " : text + i, 1));
    i += space ? MARK_BYTES : 1;
  }
  return GD_OK;
}

/* The space that was put before a text goes. */
static gd_status decode(const void *state, int32_t previous, const int32_t *ids, size_t count, gd_bytes *out) {
  const fallback *at = state;
  for (size_t i = 0; i < count; previous = ids[i++]) {
    size_t length = 0;
    const char *text = gd_bpe_bytes(at->bpe, ids[i], &length);
    if (!text) return gd_fail_user(GD_BAD_DATA, "id %d has no text, expected an id of the vocabulary", ids[i]);
    int byte = byte_of(at, ids[i], text, length);
    char one = (char)byte;
    bool strip = at->options.prefix != GD_PREFIX_NEVER && (previous < 0 || previous == at->tokenizer->bos);
    GD_TRY(byte >= 0 ? gd_bytes_append(out, &one, 1) : put_text(text, length, strip, out));
  }
  return GD_OK;
}

const gd_tokenizer_kind gd_fallback_kind = {"hf", false, encode, decode, close_state};
