/* gpt2.c - byte-level BPE from GPT-2's vocab.json and merges.txt; reading of vocabularies and merges that tokenizer.json has,
 * too. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/tokenizer/gpt2.h"
#include "io/tokenizer/split.h"
#include "io/base/utf8.h"

const gd_tokenizer_kind gd_gpt2_kind = {"gpt2", true, gd_bpe_encode, gd_bpe_decode, gd_bpe_close};

/* The 188 bytes that print in Latin-1 stand for themselves, the others for 256, 257, ... in order. */
static bool prints(int byte) {
  return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

uint32_t gd_gpt2_code_point(uint8_t byte) {
  if (prints(byte)) return byte;
  uint32_t others = 0;
  for (int b = 0; b < byte; b++) others += !prints(b);
  return 256 + others;
}

int32_t gd_gpt2_byte(uint32_t code_point) {
  if (code_point < 256) return prints((int)code_point) ? (int32_t)code_point : -1;
  uint32_t others = 256;
  for (int b = 0; b < 256; b++)
    if (!prints(b) && others++ == code_point) return b;
  return -1;
}

void gd_gpt2_order(uint8_t order[256]) {
  int count = 0;
  for (int b = 0; b < 256; b++)
    if (prints(b)) order[count++] = (uint8_t)b;
  for (int b = 0; b < 256; b++)
    if (!prints(b)) order[count++] = (uint8_t)b;
}

/* The bytes that a text in GPT-2's alphabet stands for; false where it holds another character. */
static gd_status unmap(const char *text, size_t count, gd_bytes *out, bool *mapped) {
  out->count = 0;
  *mapped = true;
  for (size_t i = 0; i < count;) {
    uint32_t code_point = 0;
    size_t length = gd_utf8_length(text + i, count - i, &code_point);
    int32_t byte = length ? gd_gpt2_byte(code_point) : -1;
    if (byte < 0) {
      *mapped = false;
      return GD_OK;
    }
    char one = (char)byte;
    GD_TRY(gd_bytes_append(out, &one, 1));
    i += length;
  }
  return GD_OK;
}

gd_status gd_gpt2_read_vocab(const gd_tokenizer *tokenizer, gd_bpe *bpe, const gd_json *vocab, bool plain, const char *where) {
  gd_bytes raw = {0};
  gd_status status = GD_OK;
  for (const gd_json *node = gd_json_first(vocab); status == GD_OK && node; node = gd_json_next(node)) {
    const char *text = gd_json_key(node);
    int64_t id = 0;
    bool mapped = false;
    if (!gd_json_integer(node, &id) || id < 0 || id >= tokenizer->vocabulary) {
      status = gd_fail_user(GD_BAD_DATA, "%s: the id of \"%s\" is not a number from 0 to %d", where, text,
                            tokenizer->vocabulary - 1);
      break;
    }
    if (!plain) status = unmap(text, strlen(text), &raw, &mapped);
    if (status == GD_OK && mapped) status = gd_bpe_set(bpe, (int32_t)id, raw.bytes, raw.count, true);
    if (status == GD_OK && !mapped) status = gd_bpe_set(bpe, (int32_t)id, text, strlen(text), plain);
    if (status != GD_OK) status = gd_error_context(status, "in %s, entry \"%s\"", where, text);
  }
  gd_bytes_free(&raw);
  return status;
}

/* The bytes of a merge's part. */
static gd_status part(const char *text, size_t count, bool plain, gd_bytes *out, bool *mapped) {
  *mapped = true;
  return plain ? gd_bytes_append(out, text, count) : unmap(text, count, out, mapped);
}

gd_status gd_gpt2_read_merge(gd_bpe *bpe, const char *left, size_t left_count, const char *right, size_t right_count,
                             bool plain, uint32_t rank, const char *where, int64_t line) {
  gd_bytes a = {0}, b = {0};
  bool a_mapped = false, b_mapped = false;
  gd_status status = part(left, left_count, plain, &a, &a_mapped);
  if (status == GD_OK) status = part(right, right_count, plain, &b, &b_mapped);
  if (status == GD_OK) {
    int32_t left_id = a_mapped && a.count ? gd_bpe_find(bpe, a.bytes, a.count) : -1;
    int32_t right_id = b_mapped && b.count ? gd_bpe_find(bpe, b.bytes, b.count) : -1;
    if (b.count) status = gd_bytes_append(&a, b.bytes, b.count);
    int32_t merged = a.count ? gd_bpe_find(bpe, a.bytes, a.count) : -1;
    if (status == GD_OK && (left_id < 0 || right_id < 0 || merged < 0))
      status = gd_fail_user(GD_BAD_DATA, "%s:%lld: merge \"%.*s %.*s\": %s is not in the vocabulary", where, (long long)line,
                            (int)left_count, left, (int)right_count, right,
                            left_id < 0    ? "the left part"
                            : right_id < 0 ? "the right part"
                                           : "the result");
    if (status == GD_OK) status = gd_bpe_add_merge(bpe, left_id, right_id, rank, merged);
  }
  gd_bytes_free(&a);
  gd_bytes_free(&b);
  return status;
}

gd_status gd_gpt2_read_merge_text(gd_bpe *bpe, const char *text, size_t count, bool plain, uint32_t rank, const char *where,
                                  int64_t line) {
  const char *space = memchr(text, ' ', count);
  if (!space)
    return gd_fail_user(GD_BAD_DATA, "%s:%lld: found \"%.*s\", expected two tokens with a space between", where,
                        (long long)line, (int)(count < 40 ? count : 40), text);
  size_t left = (size_t)(space - text);
  return gd_gpt2_read_merge(bpe, text, left, space + 1, count - left - 1, plain, rank, where, line);
}

static gd_status read_merges(gd_bpe *bpe, const gd_bytes *file, const char *where) {
  uint32_t rank = 0;
  int64_t line = 0;
  for (size_t start = 0, end; start < file->count; start = end + 1) {
    const char *newline = memchr(file->bytes + start, '\n', file->count - start);
    end = newline ? (size_t)(newline - file->bytes) : file->count;
    size_t count = end - start;
    line++;
    if (count && file->bytes[start + count - 1] == '\r') count--;
    if (!count || (line == 1 && count > 8 && memcmp(file->bytes + start, "#version", 8) == 0)) continue;
    GD_TRY(gd_gpt2_read_merge_text(bpe, file->bytes + start, count, false, rank++, where, line));
  }
  return GD_OK;
}

gd_status gd_gpt2_largest_id(const gd_json *vocab, int64_t largest, const char *where, int32_t *vocabulary) {
  if (!gd_json_is_object(vocab)) return gd_fail_user(GD_BAD_DATA, "%s: expected an object of texts and ids", where);
  for (const gd_json *node = gd_json_first(vocab); node; node = gd_json_next(node)) {
    int64_t id;
    if (gd_json_integer(node, &id) && id > largest) largest = id;
  }
  if (largest < 0 || largest >= 1 << 24)
    return gd_fail_user(GD_BAD_DATA, "%s: the largest id is %lld, expected 0 to 16777215", where, (long long)largest);
  *vocabulary = (int32_t)largest + 1;
  return GD_OK;
}

gd_status gd_tokenizer_build_gpt2(gd_tokenizer *tokenizer, const char *where) {
  static const char *const specials[] = {"<|endoftext|>", "<unk>"};
  gd_json *root = NULL;
  gd_bpe *bpe = NULL;
  int64_t id;
  int32_t unknown = -1;
  const gd_bytes *vocab = &tokenizer->files[0].bytes;
  gd_status status = gd_json_parse(vocab->bytes, vocab->count, where, 1, &root);
  if (status == GD_OK) status = gd_gpt2_largest_id(root, -1, where, &tokenizer->vocabulary);
  if (status == GD_OK) status = gd_bpe_open(tokenizer->vocabulary, &bpe);
  tokenizer->kind = &gd_gpt2_kind;
  tokenizer->state = bpe;
  if (status == GD_OK) status = gd_gpt2_read_vocab(tokenizer, bpe, root, false, where);
  for (size_t i = 0; status == GD_OK && i < sizeof specials / sizeof *specials; i++) {
    if (!gd_json_integer(gd_json_get(root, specials[i]), &id)) continue;
    status = gd_tokenizer_add_special(tokenizer, specials[i], (int32_t)id);
    if (i == 0) tokenizer->eot = (int32_t)id;
    if (i == 1) unknown = (int32_t)id;
  }
  gd_json_free(root);
  if (status == GD_OK) status = read_merges(bpe, &tokenizer->files[1].bytes, "merges");
  if (status == GD_OK) status = gd_bpe_finish(bpe, gd_splitter_gpt2, false, unknown);
  return status == GD_OK ? GD_OK : gd_error_context(status, "reading the tokenizer %s", where);
}
