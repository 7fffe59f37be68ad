/* gpt2.c - byte-level BPE from files: GPT-2's vocab.json and merges.txt, and Hugging Face's tokenizer.json. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/base/json.h"
#include "io/tokenizer/bpe.h"
#include "io/tokenizer/split.h"
#include "io/base/utf8.h"

static const gd_tokenizer_kind gpt2_kind = {"gpt2", true, gd_bpe_encode, gd_bpe_decode, gd_bpe_close};

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

/* `vocab` is an object text -> id. Texts outside the alphabet (added tokens) are kept as they are. */
static gd_status read_vocab(gd_tokenizer *tokenizer, gd_bpe *bpe, const gd_json *vocab, const char *where) {
  gd_bytes raw = {0};
  gd_status status = GD_OK;
  for (const gd_json *node = gd_json_first(vocab); status == GD_OK && node; node = gd_json_next(node)) {
    const char *text = gd_json_key(node);
    int64_t id = 0;
    bool mapped;
    if (!gd_json_integer(node, &id) || id < 0 || id >= tokenizer->vocabulary) {
      status = gd_fail_user(GD_BAD_DATA, "%s: the id of \"%s\" is not a number from 0 to %d", where, text,
                            tokenizer->vocabulary - 1);
      break;
    }
    status = unmap(text, strlen(text), &raw, &mapped);
    if (status == GD_OK && mapped) status = gd_bpe_set(bpe, (int32_t)id, raw.bytes, raw.count, true);
    if (status == GD_OK && !mapped) status = gd_bpe_set(bpe, (int32_t)id, text, strlen(text), false);
    if (status != GD_OK) status = gd_error_context(status, "in %s, entry \"%s\"", where, text);
  }
  gd_bytes_free(&raw);
  return status;
}

/* One merge "left right" (count bytes); line < 0: an entry of a list. */
static gd_status read_merge(gd_bpe *bpe, const char *left, size_t left_count, const char *right, size_t right_count,
                            uint32_t rank, const char *where, int64_t line) {
  gd_bytes a = {0}, b = {0};
  bool a_mapped = false, b_mapped = false;
  gd_status status = unmap(left, left_count, &a, &a_mapped);
  if (status == GD_OK) status = unmap(right, right_count, &b, &b_mapped);
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

static gd_status read_merge_text(gd_bpe *bpe, const char *text, size_t count, uint32_t rank, const char *where, int64_t line) {
  const char *space = memchr(text, ' ', count);
  if (!space)
    return gd_fail_user(GD_BAD_DATA, "%s:%lld: found \"%.*s\", expected two tokens with a space between", where,
                        (long long)line, (int)(count < 40 ? count : 40), text);
  size_t left = (size_t)(space - text);
  return read_merge(bpe, text, left, space + 1, count - left - 1, rank, where, line);
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
    GD_TRY(read_merge_text(bpe, file->bytes + start, count, rank++, where, line));
  }
  return GD_OK;
}

static gd_status largest_id(const gd_json *vocab, int64_t largest, const char *where, int32_t *vocabulary) {
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
  if (status == GD_OK) status = largest_id(root, -1, where, &tokenizer->vocabulary);
  if (status == GD_OK) status = gd_bpe_open(tokenizer->vocabulary, &bpe);
  tokenizer->kind = &gpt2_kind;
  tokenizer->state = bpe;
  if (status == GD_OK) status = read_vocab(tokenizer, bpe, root, where);
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

/* ---- tokenizer.json ---- */

static bool has_type(const gd_json *node, const char *type) {
  const char *found = gd_json_string(gd_json_get(node, "type"));
  return found && strcmp(found, type) == 0;
}

static bool is_true(const gd_json *node, const char *key) {
  bool value = false;
  return gd_json_boolean(gd_json_get(node, key), &value) && value;
}

static gd_status unsupported(const char *where, const char *what) {
  return gd_fail_user(GD_BAD_DATA, "%s: %s is not supported, expected byte-level BPE with a split in GPT-2's style", where,
                      what);
}

static bool has_entries(const gd_json *node) {
  return gd_json_is_object(node) && gd_json_first(node);
}

/* ByteLevel alone, or a sequence of one Split by a regular expression and ByteLevel. */
static gd_status read_split(const gd_json *node, const char *where, const char **pattern) {
  const gd_json *level = node;
  *pattern = gd_splitter_gpt2;
  if (has_type(node, "Sequence")) {
    const gd_json *split = gd_json_first(gd_json_get(node, "pretokenizers"));
    level = gd_json_next(split);
    const char *behavior = gd_json_string(gd_json_get(split, "behavior"));
    *pattern = gd_json_string(gd_json_get(gd_json_get(split, "pattern"), "Regex"));
    if (!has_type(split, "Split") || !*pattern || !behavior || strcmp(behavior, "Isolated") != 0 || is_true(split, "invert") ||
        is_true(level, "use_regex") || gd_json_next(level))
      return unsupported(where, "its pre_tokenizer");
  }
  if (!has_type(level, "ByteLevel")) return unsupported(where, "its pre_tokenizer");
  if (is_true(level, "add_prefix_space")) return unsupported(where, "add_prefix_space");
  return GD_OK;
}

static gd_status read_merge_list(gd_bpe *bpe, const gd_json *merges, const char *where) {
  uint32_t rank = 0;
  for (const gd_json *node = gd_json_first(merges); node; node = gd_json_next(node), rank++) {
    const char *text = gd_json_string(node);
    if (text) {
      GD_TRY(read_merge_text(bpe, text, strlen(text), rank, where, (int64_t)rank));
      continue;
    }
    const char *left = gd_json_string(gd_json_first(node)), *right = gd_json_string(gd_json_next(gd_json_first(node)));
    if (!left || !right) return gd_fail_user(GD_BAD_DATA, "%s: merge %u is no pair of texts", where, rank);
    GD_TRY(read_merge(bpe, left, strlen(left), right, strlen(right), rank, where, (int64_t)rank));
  }
  return GD_OK;
}

static gd_status read_added(gd_tokenizer *tokenizer, gd_bpe *bpe, const gd_json *added, const char *where) {
  static const char *const ends[] = {"<|endoftext|>", "<|end_of_text|>", "</s>", "<|im_end|>"};
  size_t best = sizeof ends / sizeof *ends;
  for (const gd_json *node = gd_json_first(added); node; node = gd_json_next(node)) {
    const char *text = gd_json_string(gd_json_get(node, "content"));
    int64_t id;
    size_t length;
    if (!text || !text[0] || !gd_json_integer(gd_json_get(node, "id"), &id) || id < 0 || id >= tokenizer->vocabulary)
      return gd_fail_user(GD_BAD_DATA, "%s: an added token has no content or no id", where);
    if (!gd_bpe_bytes(bpe, (int32_t)id, &length)) GD_TRY(gd_bpe_set(bpe, (int32_t)id, text, strlen(text), false));
    GD_TRY(gd_tokenizer_add_special(tokenizer, text, (int32_t)id));
    for (size_t i = 0; i < best; i++) {
      if (strcmp(text, ends[i]) != 0) continue;
      best = i;
      tokenizer->eot = (int32_t)id;
    }
    if (strcmp(text, "<|begin_of_text|>") == 0) tokenizer->bos = (int32_t)id;
  }
  return GD_OK;
}

static gd_status build_huggingface(gd_tokenizer *tokenizer, const gd_json *root, const char *where) {
  const gd_json *model = gd_json_get(root, "model"), *vocab = gd_json_get(model, "vocab"),
                *added = gd_json_get(root, "added_tokens");
  const char *type = gd_json_string(gd_json_get(model, "type")), *pattern;
  if (!model) return gd_fail_user(GD_BAD_DATA, "%s: no \"model\" in it, expected a Hugging Face tokenizer.json", where);
  if (type && strcmp(type, "BPE") != 0) return unsupported(where, type);
  if (has_entries(gd_json_get(root, "normalizer"))) return unsupported(where, "its normalizer");
  if (is_true(model, "byte_fallback")) return unsupported(where, "byte_fallback (SentencePiece)");
  GD_TRY(read_split(gd_json_get(root, "pre_tokenizer"), where, &pattern));
  int64_t largest = -1, id;
  for (const gd_json *node = gd_json_first(added); node; node = gd_json_next(node))
    if (gd_json_integer(gd_json_get(node, "id"), &id) && id > largest) largest = id;
  GD_TRY(largest_id(vocab, largest, where, &tokenizer->vocabulary));
  gd_bpe *bpe;
  GD_TRY(gd_bpe_open(tokenizer->vocabulary, &bpe));
  tokenizer->kind = &gpt2_kind;
  tokenizer->state = bpe;
  GD_TRY(read_vocab(tokenizer, bpe, vocab, where));
  GD_TRY(read_added(tokenizer, bpe, added, where));
  GD_TRY(read_merge_list(bpe, gd_json_get(model, "merges"), where));
  int32_t unknown = -1;
  const char *unknown_text = gd_json_string(gd_json_get(model, "unk_token"));
  if (unknown_text && gd_json_integer(gd_json_get(vocab, unknown_text), &id)) unknown = (int32_t)id;
  return gd_bpe_finish(bpe, pattern, is_true(model, "ignore_merges"), unknown);
}

gd_status gd_tokenizer_build_huggingface(gd_tokenizer *tokenizer, const char *where) {
  gd_json *root = NULL;
  const gd_bytes *file = &tokenizer->files[0].bytes;
  gd_status status = gd_json_parse(file->bytes, file->count, where, 1, &root);
  if (status == GD_OK) status = build_huggingface(tokenizer, root, where);
  gd_json_free(root);
  return status;
}
