/* Byte-pair merging against the plainest form of its rule: of all neighbouring pairs the lowest rank, the leftmost of equals,
 * again and again. The program's own way has caches, seams and a heap; the ids must be the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs the four above */
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/text/corpus.h"
#include "io/text/stream.h"
#include "io/tokenizer/bpe.h"
#include "io/tokenizer/split.h"
#include "shard/base/rng.h"

#define DATA GD_SOURCE_DIR "/../shared/data/"

static void ok(gd_status status) {
  if (status != GD_OK) fail_msg("%s", gd_error_text());
}

/* The rank of a pair of ranks-as-ids is the id of both texts together. */
static int32_t joined(const gd_bpe *bpe, int32_t left, int32_t right) {
  char text[2048];
  size_t a, b;
  const char *x = gd_bpe_bytes(bpe, left, &a), *y = gd_bpe_bytes(bpe, right, &b);
  if (a + b > sizeof text) return -1;
  memcpy(text, x, a);
  memcpy(text + a, y, b);
  return gd_bpe_find(bpe, text, a + b);
}

static void merge_plainly(const gd_bpe *bpe, const char *bytes, size_t count, gd_ids *out) {
  int32_t whole = gd_bpe_find(bpe, bytes, count);
  if (whole >= 0) {
    ok(gd_ids_append(out, &whole, 1));
    return;
  }
  int32_t *ids = malloc(count * sizeof *ids);
  for (size_t i = 0; i < count; i++) ids[i] = gd_bpe_find(bpe, bytes + i, 1);
  for (;;) {
    int32_t lowest = INT32_MAX;
    size_t at = 0;
    for (size_t i = 0; i + 1 < count; i++) {
      int32_t rank = joined(bpe, ids[i], ids[i + 1]);
      if (rank < 0 || rank >= lowest) continue;
      lowest = rank;
      at = i;
    }
    if (lowest == INT32_MAX) break;
    ids[at] = lowest;
    memmove(ids + at + 1, ids + at + 2, (count - at - 2) * sizeof *ids);
    count--;
  }
  ok(gd_ids_append(out, ids, count));
  free(ids);
}

/* text: valid UTF-8. */
static void compare(gd_tokenizer *tokenizer, const gd_splitter *splitter, gd_splitter_state *state, const char *text,
                    size_t count) {
  const gd_bpe *bpe = tokenizer->state;
  gd_ids plain = {0}, ids = {0};
  for (size_t start = 0, end; start < count; start = end) {
    bool matched;
    ok(gd_splitter_next(splitter, state, text, count, start, &end, &matched));
    merge_plainly(bpe, text + start, end - start, &plain);
  }
  ok(gd_tokenizer_encode(tokenizer, text, count, false, &ids));
  for (size_t i = 0; i < plain.count; i++)
    if (i >= ids.count || ids.ids[i] != plain.ids[i])
      fail_msg("\"%.*s\": id %zu is %d, expected %d", (int)count, text, i, i < ids.count ? ids.ids[i] : -1, plain.ids[i]);
  assert_int_equal(ids.count, plain.count);
  gd_ids_free(&plain);
  gd_ids_free(&ids);
}

/* Characters that share their bytes, so that tokens end and begin in the middle of them. */
static const char *const characters[] = {"\xe4\xb8\xad",
                                         "\xe4\xb8\x96",
                                         "\xe4\xb8\xb8",
                                         "\xe8\xb8\xad",
                                         "\xe8\xad\x96",
                                         "\xc3\xa9",
                                         "\xc3\xad",
                                         "\xf0\x9f\x98\x80",
                                         "a",
                                         "b"};
enum { CHARACTERS = sizeof characters / sizeof *characters };

static size_t random_text(gd_rng *rng, uint64_t *next, size_t characters_count, char *out) {
  size_t count = 0;
  for (size_t i = 0; i < characters_count; i++) {
    const char *one = characters[gd_rng_word(rng, (*next)++) % CHARACTERS];
    memcpy(out + count, one, strlen(one));
    count += strlen(one);
  }
  return count;
}

static void put_rank(gd_bytes *file, const char *bytes, size_t count, int rank) {
  static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (size_t i = 0; i < count; i += 3) {
    uint32_t three = 0;
    for (size_t k = 0; k < 3; k++) three = three << 8 | (i + k < count ? (uint8_t)bytes[i + k] : 0);
    for (size_t k = 0; k < 4; k++) ok(gd_bytes_append(file, i + k > count ? "=" : &digits[three >> (18 - 6 * k) & 63], 1));
  }
  ok(gd_bytes_printf(file, " %d\n", rank));
}

/* 256 bytes in a random order, then parts of random texts: some are made of two tokens, some are reached as whole pieces only.
 */
static void write_ranks(gd_rng *rng, uint64_t *next, int tokens, const char *path) {
  gd_bytes file = {0};
  char(*texts)[32] = calloc((size_t)tokens, sizeof *texts);
  size_t *counts = calloc((size_t)tokens, sizeof *counts);
  uint8_t order[256];
  for (int i = 0; i < 256; i++) order[i] = (uint8_t)i;
  for (int i = 255; i > 0; i--) {
    int other = (int)(gd_rng_word(rng, (*next)++) % (uint32_t)(i + 1));
    uint8_t byte = order[i];
    order[i] = order[other];
    order[other] = byte;
  }
  int made = 0;
  for (; made < 256; made++) {
    texts[made][0] = (char)order[made];
    counts[made] = 1;
  }
  while (made < tokens) {
    char text[64];
    size_t length = random_text(rng, next, 4, text), start = gd_rng_word(rng, (*next)++) % (length - 2);
    size_t count = 2 + gd_rng_word(rng, (*next)++) % 5;
    if (start + count > length) count = length - start;
    if (gd_rng_word(rng, (*next)++) % 3 == 0) { /* whole characters, as words of Chinese are */
      count = random_text(rng, next, 2, text);
      start = 0;
    }
    bool known = false;
    for (int i = 0; i < made && !known; i++) known = counts[i] == count && memcmp(texts[i], text + start, count) == 0;
    if (known) continue;
    memcpy(texts[made], text + start, count);
    counts[made++] = count;
  }
  for (int i = 0; i < tokens; i++) put_rank(&file, texts[i], counts[i], i);
  ok(gd_file_write(path, file.bytes, file.count));
  gd_bytes_free(&file);
  free(texts);
  free(counts);
}

static void random_vocabularies_give_the_ids_of_the_plain_rule(void **state) {
  (void)state;
  char folder[] = "/tmp/gptdist-test-XXXXXX", path[64], spec[80], text[1024];
  assert_non_null(mkdtemp(folder));
  snprintf(path, sizeof path, "%s/ranks", folder);
  snprintf(spec, sizeof spec, "tiktoken:%s", path);
  gd_rng rng = gd_rng_make(11, GD_RNG_DATA, 0, 0, 0);
  uint64_t next = 0;
  for (int vocabulary = 0; vocabulary < 40; vocabulary++) {
    gd_tokenizer *tokenizer;
    gd_splitter *splitter;
    gd_splitter_state *splitting;
    write_ranks(&rng, &next, 264 + 4 * vocabulary * (vocabulary % 5), path);
    ok(gd_tokenizer_open(spec, &tokenizer));
    ok(gd_splitter_open(gd_splitter_cl100k, &splitter));
    ok(gd_splitter_state_open(splitter, &splitting));
    for (int trial = 0; trial < 60; trial++) {
      size_t most = trial < 50 ? 9 : 120; /* in the cache, and beyond the lengths that are scanned without a heap */
      size_t count = random_text(&rng, &next, 1 + gd_rng_word(&rng, next) % most, text);
      compare(tokenizer, splitter, splitting, text, count);
      compare(tokenizer, splitter, splitting, text, count); /* now from the cache */
    }
    gd_splitter_state_close(splitting);
    gd_splitter_close(splitter);
    gd_tokenizer_close(tokenizer);
  }
  ok(gd_folder_remove(folder));
}

static void chinese_in_cl100k_has_the_ids_of_the_plain_rule(void **state) {
  (void)state;
  if (access(DATA "text/tang_poems_zh.txt.zst", R_OK) != 0) {
    puts("skipped: no ../shared/data");
    skip();
  }
  gd_tokenizer *tokenizer;
  gd_splitter *splitter;
  gd_splitter_state *splitting;
  gd_bytes text = {0};
  ok(gd_tokenizer_open("tiktoken:" DATA "tokenizer/cl100k_base.tiktoken.gz", &tokenizer));
  ok(gd_splitter_open(gd_splitter_cl100k, &splitter));
  ok(gd_splitter_state_open(splitter, &splitting));
  ok(gd_text_stream_read_all(DATA "text/tang_poems_zh.txt.zst", 1 << 26, &text));
  for (size_t start = 0, part = 0; start + 3000 < text.count; start += 150000, part++) {
    size_t begin = start, end = start + 3000;
    while (((uint8_t)text.bytes[begin] & 0xc0) == 0x80) begin++;
    while (((uint8_t)text.bytes[end] & 0xc0) == 0x80) end++;
    compare(tokenizer, splitter, splitting, text.bytes + begin, end - begin);
  }
  gd_bytes_free(&text);
  gd_splitter_state_close(splitting);
  gd_splitter_close(splitter);
  gd_tokenizer_close(tokenizer);
}

/* What prepare does: a file in parts of bounded length, each encoded by itself. */
static void parts_of_chinese_have_the_ids_of_the_whole(void **state) {
  (void)state;
  static const char *const specs[] = {"tiktoken:" DATA "tokenizer/cl100k_base.tiktoken.gz", "gpt2:" DATA "tokenizer/gpt2"};
  if (access(DATA "text/tang_poems_zh.txt.zst", R_OK) != 0) {
    puts("skipped: no ../shared/data");
    skip();
  }
  gd_bytes text = {0};
  ok(gd_text_stream_read_all(DATA "text/tang_poems_zh.txt.zst", 1 << 26, &text));
  for (int k = 0; k < 2; k++) {
    const gd_corpus_options options = {.cut = true};
    gd_tokenizer *tokenizer;
    gd_corpus *corpus;
    gd_corpus_part part;
    gd_ids whole = {0}, parts = {0};
    bool more = true;
    int count = 0;
    ok(gd_tokenizer_open(specs[k], &tokenizer));
    ok(gd_tokenizer_encode(tokenizer, text.bytes, text.count, false, &whole));
    ok(gd_corpus_open(DATA "text/tang_poems_zh.txt.zst", &options, 0, -1, &corpus));
    for (;; count++) {
      ok(gd_corpus_next(corpus, &part, &more));
      if (!more) break;
      assert_in_range(part.count, 0, 4 << 20);
      ok(gd_tokenizer_encode(tokenizer, part.bytes, part.count, false, &parts));
    }
    assert_in_range(count, 5, 1000);
    assert_int_equal(parts.count, whole.count);
    assert_memory_equal(parts.ids, whole.ids, whole.count * sizeof *whole.ids);
    gd_corpus_close(corpus);
    gd_tokenizer_close(tokenizer);
    gd_ids_free(&whole);
    gd_ids_free(&parts);
  }
  gd_bytes_free(&text);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(random_vocabularies_give_the_ids_of_the_plain_rule),
      cmocka_unit_test(parts_of_chinese_have_the_ids_of_the_whole),
      cmocka_unit_test(chinese_in_cl100k_has_the_ids_of_the_plain_rule),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
