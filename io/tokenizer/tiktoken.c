/* tiktoken.c - ranks as tiktoken writes them: lines of base64 and rank; with the pattern and the special tokens of cl100k_base.
 */
#include <stdlib.h>
#include <string.h>

#include "io/tokenizer/bpe.h"
#include "io/tokenizer/split.h"

static const gd_tokenizer_kind tiktoken_kind = {"tiktoken", true, gd_bpe_encode, gd_bpe_decode, gd_bpe_close};

static int sextet(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* text[count] of base64 into out; false: not base64, or longer than `limit` bytes. */
static bool decode_base64(const char *text, size_t count, char *out, size_t limit, size_t *written) {
  uint32_t bits = 0;
  int held = 0;
  *written = 0;
  while (count && text[count - 1] == '=') count--;
  for (size_t i = 0; i < count; i++) {
    int value = sextet(text[i]);
    if (value < 0) return false;
    bits = (bits << 6 | (uint32_t)value) & 0xffffff;
    held += 6;
    if (held < 8) continue;
    held -= 8;
    if (*written == limit) return false;
    out[(*written)++] = (char)(bits >> held & 0xff);
  }
  return true;
}

/* Digits alone, below 2^24; -1 otherwise. Looks at count bytes only: the text goes on behind them for a megabyte. */
static int32_t read_rank(const char *digits, size_t count) {
  int32_t value = 0;
  if (!count || count > 8) return -1;
  for (size_t i = 0; i < count; i++) {
    if (digits[i] < '0' || digits[i] > '9') return -1;
    value = 10 * value + (digits[i] - '0');
  }
  return value < 1 << 24 ? value : -1;
}

/* One line; both passes read them with this. *count == 0: an empty line. */
static gd_status read_line(const gd_bytes *file, const char *where, size_t *at, int64_t *line, char *bytes, size_t limit,
                           size_t *count, int32_t *rank) {
  const char *start = file->bytes + *at, *end = memchr(start, '\n', file->count - *at);
  size_t length = end ? (size_t)(end - start) : file->count - *at;
  *at += length + 1;
  ++*line;
  *count = 0;
  if (length && start[length - 1] == '\r') length--;
  if (!length) return GD_OK;
  const char *space = memchr(start, ' ', length);
  int32_t value = space ? read_rank(space + 1, (size_t)(start + length - space - 1)) : -1;
  if (value < 0 || !decode_base64(start, (size_t)(space - start), bytes, limit, count) || !*count)
    return gd_fail_user(GD_BAD_DATA, "%s:%lld: found \"%.*s\", expected base64, a space and a rank", where, (long long)*line,
                        (int)(length < 40 ? length : 40), start);
  *rank = value;
  return GD_OK;
}

gd_status gd_tokenizer_build_tiktoken(gd_tokenizer *tokenizer, const char *where) {
  static const struct {
    const char *text;
    int32_t behind; /* id, counted from the number of ranks */
  } specials[] = {
      {"<|endoftext|>", 1}, {"<|fim_prefix|>", 2}, {"<|fim_middle|>", 3}, {"<|fim_suffix|>", 4}, {"<|endofprompt|>", 20}};
  const gd_bytes *file = &tokenizer->files[0].bytes;
  char bytes[1024];
  size_t count;
  int32_t rank = 0, largest = -1;
  int64_t line = 0;
  for (size_t at = 0; at < file->count;) {
    GD_TRY(read_line(file, where, &at, &line, bytes, sizeof bytes, &count, &rank));
    if (count && rank > largest) largest = rank;
  }
  if (largest < 255) return gd_fail_user(GD_BAD_DATA, "%s: the largest rank is %d, expected at least 255", where, largest);
  /* cl100k_base: ranks to 100255, specials from 100257 */
  tokenizer->vocabulary = largest + 1 + 21;
  gd_bpe *bpe;
  GD_TRY(gd_bpe_open(tokenizer->vocabulary, &bpe));
  tokenizer->kind = &tiktoken_kind;
  tokenizer->state = bpe;
  line = 0;
  for (size_t at = 0; at < file->count;) {
    GD_TRY(read_line(file, where, &at, &line, bytes, sizeof bytes, &count, &rank));
    gd_status status = count ? gd_bpe_set(bpe, rank, bytes, count, true) : GD_OK;
    if (status != GD_OK) return gd_error_context(status, "at %s:%lld", where, (long long)line);
  }
  for (size_t i = 0; i < sizeof specials / sizeof *specials; i++) {
    int32_t id = largest + 1 + specials[i].behind;
    GD_TRY(gd_bpe_set(bpe, id, specials[i].text, strlen(specials[i].text), false));
    GD_TRY(gd_tokenizer_add_special(tokenizer, specials[i].text, id));
  }
  tokenizer->eot = largest + 2;
  GD_TRY(gd_bpe_add_all_merges(bpe, NULL));
  return gd_bpe_finish(bpe, gd_splitter_cl100k, true, -1);
}
