/* llama2c.c - SentencePiece BPE in the file layout of llama2.c: int32 longest token, then float32 score, int32 length and bytes
 * of every token (little endian). Ids 0 to 2 are unknown, beginning and end; 3 to 258 the bytes, for characters that are no
 * token. */
#include <stdlib.h>
#include <string.h>

#include "io/tokenizer/bpe.h"
#include "io/base/utf8.h"

enum { BOS = 1, EOS = 2, FIRST_BYTE = 3, FIRST_TEXT = 259, TOKEN_BYTES = 1024 /* every cut of a token is looked up */ };

static gd_status encode(void *state, bool first, const char *bytes, size_t count, gd_ids *out) {
  (void)first;
  const gd_bpe *bpe = state;
  if (!count) return GD_OK;
  GD_TRY(gd_ids_reserve(out, count + 1));
  int32_t *ids = out->ids + out->count;
  size_t used = 0;
  int32_t space = gd_bpe_find(bpe, " ", 1);
  if (space >= 0) ids[used++] = space; /* the format begins every text with a space */
  for (size_t i = 0; i < count;) {
    size_t length = gd_utf8_length(bytes + i, count - i, NULL);
    int32_t id = length ? gd_bpe_find(bpe, bytes + i, length) : -1;
    if (!length) length = 1;
    if (id >= 0)
      ids[used++] = id;
    else
      for (size_t b = 0; b < length; b++) ids[used++] = FIRST_BYTE + (uint8_t)bytes[i + b];
    i += length;
  }
  GD_TRY(gd_bpe_merge(bpe, ids, &used));
  out->count += used;
  return GD_OK;
}

static gd_status decode(const void *state, int32_t previous, const int32_t *ids, size_t count, gd_bytes *out) {
  const gd_bpe *bpe = state;
  for (size_t i = 0; i < count; previous = ids[i++]) {
    if (ids[i] == BOS || ids[i] == EOS) continue;
    if (ids[i] >= FIRST_BYTE && ids[i] < FIRST_TEXT) {
      char one = (char)(ids[i] - FIRST_BYTE);
      GD_TRY(gd_bytes_append(out, &one, 1));
      continue;
    }
    size_t length;
    const char *text = gd_bpe_bytes(bpe, ids[i], &length);
    if (!text) return gd_fail_user(GD_BAD_DATA, "id %d has no text, expected an id of the vocabulary", ids[i]);
    bool strip = previous == BOS && length && text[0] == ' ';
    GD_TRY(gd_bytes_append(out, text + strip, length - strip));
  }
  return GD_OK;
}

static const gd_tokenizer_kind llama2c_kind = {"llama2c", false, encode, decode, gd_bpe_close};

typedef struct token {
  float score;
  int32_t id;
  size_t offset, count;
} token;

/* Higher scores first; the rank of equal scores is the same. */
static int by_score(const void *a, const void *b) {
  const token *x = a, *y = b;
  if (x->score != y->score) return x->score > y->score ? -1 : 1;
  return x->id < y->id ? -1 : x->id > y->id;
}

static gd_status read_tokens(const gd_bytes *file, const char *where, token **out, int32_t *vocabulary) {
  token *tokens = NULL;
  size_t count = 0, capacity = 0, at = sizeof(int32_t);
  while (at < file->count) {
    int32_t length = -1;
    float score = 0;
    if (file->count - at >= 8) {
      memcpy(&score, file->bytes + at, 4);
      memcpy(&length, file->bytes + at + 4, 4);
    }
    if (length < 0 || length > TOKEN_BYTES || score != score || (size_t)length > file->count - at - 8) {
      free(tokens);
      return gd_fail_user(GD_BAD_DATA, "%s: token %zu is cut off or damaged at byte %zu of %zu", where, count, at, file->count);
    }
    if (count == capacity) {
      capacity = capacity ? 2 * capacity : 512;
      token *bigger = realloc(tokens, capacity * sizeof *tokens);
      if (!bigger) {
        free(tokens);
        return gd_fail(GD_NO_MEMORY, "no memory for %zu tokens", capacity);
      }
      tokens = bigger;
    }
    tokens[count] = (token){score, (int32_t)count, at + 8, (size_t)length};
    count++;
    at += 8 + (size_t)length;
  }
  *out = tokens;
  *vocabulary = (int32_t)count;
  if (count > FIRST_TEXT && count < 1 << 24) return GD_OK;
  free(tokens);
  return gd_fail_user(GD_BAD_DATA, "%s: %zu tokens, expected more than %d", where, count, FIRST_TEXT);
}

gd_status gd_tokenizer_build_llama2c(gd_tokenizer *tokenizer, const char *where) {
  const gd_bytes *file = &tokenizer->files[0].bytes;
  token *tokens = NULL;
  gd_bpe *bpe = NULL;
  GD_TRY(read_tokens(file, where, &tokens, &tokenizer->vocabulary));
  gd_status status = gd_bpe_open(tokenizer->vocabulary, &bpe);
  tokenizer->kind = &llama2c_kind;
  tokenizer->state = bpe;
  tokenizer->bos = BOS;
  tokenizer->eot = BOS; /* llama2.c puts a beginning between texts and stops generating there; it never writes an end */
  for (int32_t id = 0; status == GD_OK && id < tokenizer->vocabulary; id++) {
    const token *at = &tokens[id];
    if (!at->count) continue;
    /* The same text twice keeps its first id. */
    bool findable = id >= FIRST_TEXT && gd_bpe_find(bpe, file->bytes + at->offset, at->count) < 0;
    status = gd_bpe_set(bpe, id, file->bytes + at->offset, at->count, findable);
  }
  uint32_t *rank = calloc((size_t)tokenizer->vocabulary, sizeof *rank);
  if (!rank && status == GD_OK) status = gd_fail(GD_NO_MEMORY, "no memory for a vocabulary");
  if (status == GD_OK) {
    qsort(tokens, (size_t)tokenizer->vocabulary, sizeof *tokens, by_score);
    for (int32_t i = 1; i < tokenizer->vocabulary; i++)
      rank[tokens[i].id] = rank[tokens[i - 1].id] + (tokens[i].score < tokens[i - 1].score);
    status = gd_bpe_add_all_merges(bpe, rank);
  }
  if (status == GD_OK) status = gd_tokenizer_add_special(tokenizer, "<s>", BOS);
  if (status == GD_OK) status = gd_tokenizer_add_special(tokenizer, "</s>", EOS);
  free(rank);
  free(tokens);
  return status == GD_OK ? GD_OK : gd_error_context(status, "reading the tokenizer %s", where);
}
