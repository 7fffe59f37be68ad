/* Learning merges: against counting everything anew for every merge; any text comes back; ties are settled. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs the four above */
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/base/files.h"
#include "io/tokenizer/tokenizer.h"
#include "io/tokenizer/learn.h"
#include "io/tokenizer/train.h"
#include "shard/base/rng.h"

static void ok(gd_status status) {
  if (status != GD_OK) fail_msg("%s", gd_error_text());
}

enum { WORDS = 400, MOST = 12, MERGES = 60, IDS = 256 + MERGES };

/* The definition: count all pairs, take the first of the most frequent, replace, repeat. */
static int64_t learn_slowly(int32_t (*words)[MOST], int32_t *lengths, gd_learned *out) {
  static int64_t count[IDS][IDS];
  for (int64_t merge = 0; merge < MERGES; merge++) {
    memset(count, 0, sizeof count);
    int32_t left = 0, right = 0;
    for (int w = 0; w < WORDS; w++)
      for (int i = 0; i + 1 < lengths[w]; i++) count[words[w][i]][words[w][i + 1]]++;
    for (int32_t a = 0; a < IDS; a++)
      for (int32_t b = 0; b < IDS; b++)
        if (count[a][b] > count[left][right]) left = a, right = b;
    if (count[left][right] < 2) return merge;
    out[merge] = (gd_learned){left, right};
    for (int w = 0; w < WORDS; w++) {
      int32_t kept = 0;
      for (int i = 0; i < lengths[w]; kept++) {
        bool here = i + 1 < lengths[w] && words[w][i] == left && words[w][i + 1] == right;
        words[w][kept] = here ? 256 + (int32_t)merge : words[w][i];
        i += here ? 2 : 1;
      }
      lengths[w] = kept;
    }
  }
  return MERGES;
}

static void merges_are_those_of_the_definition(void **state) {
  (void)state;
  for (uint64_t seed = 0; seed < 12; seed++) {
    static int32_t words[WORDS][MOST];
    int32_t lengths[WORDS], byte_ids[256];
    gd_learned slow[MERGES], *fast;
    gd_words *counted;
    gd_rng rng = gd_rng_make(seed, GD_RNG_DATA, 0, 0, 0);
    uint64_t next = 0;
    ok(gd_words_open(&counted));
    for (int i = 0; i < 256; i++) byte_ids[i] = i;
    for (int w = 0; w < WORDS; w++) {
      char text[MOST];
      lengths[w] = (int32_t)(1 + gd_rng_word(&rng, next++) % MOST);
      for (int i = 0; i < lengths[w]; i++) {
        text[i] = (char)('a' + gd_rng_word(&rng, next++) % (2 + seed)); /* few letters: many ties, runs like "aaaa" */
        words[w][i] = text[i];
      }
      ok(gd_words_count(counted, text, (size_t)lengths[w]));
    }
    int64_t count, wanted = learn_slowly(words, lengths, slow);
    ok(gd_learn_merges(counted, byte_ids, 256, MERGES, &fast, &count));
    assert_int_equal(count, wanted);
    assert_memory_equal(fast, slow, (size_t)count * sizeof *fast);
    free(fast);
    gd_words_close(counted);
  }
}

static void a_trained_folder_opens_and_any_bytes_come_back(void **state) {
  (void)state;
  char folder[] = "/tmp/gptdist-test-XXXXXX", input[100], output[100];
  assert_non_null(mkdtemp(folder));
  snprintf(input, sizeof input, "%s/a.txt", folder);
  snprintf(output, sizeof output, "%s/bpe", folder);
  gd_bytes text = {0}, back = {0};
  for (int i = 0; i < 300; i++) ok(gd_bytes_printf(&text, "the cat number %d sat on the mat, \xc3\xa9t\xc3\xa9\n", i));
  ok(gd_file_write(input, text.bytes, text.count));
  const char *inputs[] = {input};
  const gd_tokenizer_train_options options = {.inputs = inputs, .input_count = 1, .output = output, .vocabulary = 300};
  gd_tokenizer_train_report report;
  ok(gd_tokenizer_train(&options, &report));
  assert_int_equal(report.vocabulary, 300);
  gd_tokenizer *tokenizer;
  gd_ids ids = {0};
  ok(gd_tokenizer_open(output, &tokenizer));
  assert_int_equal(gd_tokenizer_vocabulary(tokenizer), 300);
  assert_int_equal(gd_tokenizer_eot(tokenizer), 299);
  ok(gd_tokenizer_encode(tokenizer, " the", 4, false, &ids));
  assert_int_equal(ids.count, 1);
  char bytes[512];
  for (int i = 0; i < 512; i++) bytes[i] = (char)(i * 7);
  ids.count = 0;
  ok(gd_tokenizer_encode(tokenizer, bytes, sizeof bytes, false, &ids));
  ok(gd_tokenizer_decode(tokenizer, -1, ids.ids, ids.count, &back));
  assert_int_equal(back.count, sizeof bytes);
  assert_memory_equal(back.bytes, bytes, sizeof bytes);
  assert_int_equal(gd_tokenizer_train(&options, &report), GD_USAGE);
  assert_non_null(strstr(gd_error_text(), "vocab.json: exists already; --force replaces it"));
  gd_tokenizer_close(tokenizer);
  gd_ids_free(&ids);
  gd_bytes_free(&text);
  gd_bytes_free(&back);
  ok(gd_folder_remove(folder));
}

static void expect_equal(const char *spec, const char *other) {
  static const char text[] =
      "the cat's mat,\xc3\xa9t\xc3\xa9  number 12\xc2\x85\xe1\xa0\x8e\xe3\x80\x80 x\n\n  sat\xf0\x9f\x98\x80 {\"}\\ ";
  gd_tokenizer *a, *b;
  gd_ids x = {0}, y = {0};
  ok(gd_tokenizer_open(spec, &a));
  ok(gd_tokenizer_open(other, &b));
  assert_int_equal(gd_tokenizer_vocabulary(a), gd_tokenizer_vocabulary(b));
  assert_int_equal(gd_tokenizer_eot(a), gd_tokenizer_eot(b));
  ok(gd_tokenizer_encode(a, text, sizeof text - 1, false, &x));
  ok(gd_tokenizer_encode(b, text, sizeof text - 1, false, &y));
  assert_int_equal(x.count, y.count);
  assert_memory_equal(x.ids, y.ids, x.count * sizeof *x.ids);
  gd_ids_free(&x);
  gd_ids_free(&y);
  gd_tokenizer_close(a);
  gd_tokenizer_close(b);
}

/* tokenizer.json is Hugging Face's; a folder whose description has that name, as they had once, opens still. */
static void both_descriptions_of_a_folder_give_its_ids(void **state) {
  (void)state;
  char folder[] = "/tmp/gptdist-test-XXXXXX", input[100], output[100], path[160], spec[160], digest[GD_SHA256_HEX_BYTES];
  assert_non_null(mkdtemp(folder));
  snprintf(input, sizeof input, "%s/a.txt", folder);
  snprintf(output, sizeof output, "%s/bpe", folder);
  static const char text[] =
      "the cat sat on the mat and the cat sat, \xc3\xa9t\xc3\xa9 \xc3\xa9t\xc3\xa9 {\"}\\ {\"}\\ {\"}\\\n";
  ok(gd_file_write(input, text, sizeof text - 1));
  const char *inputs[] = {input};
  const gd_tokenizer_train_options options = {.inputs = inputs, .input_count = 1, .output = output, .vocabulary = 280};
  gd_tokenizer_train_report report;
  ok(gd_tokenizer_train(&options, &report));
  snprintf(spec, sizeof spec, "hf:%s/tokenizer.json", output);
  expect_equal(output, spec);
  gd_tokenizer *tokenizer;
  ok(gd_tokenizer_open(output, &tokenizer));
  assert_string_equal(gd_tokenizer_name(tokenizer), "gpt2");
  snprintf(digest, sizeof digest, "%s", gd_tokenizer_digest(tokenizer));
  gd_tokenizer_close(tokenizer);

  snprintf(path, sizeof path, "%s/gptdist-tokenizer.json", output);
  snprintf(spec, sizeof spec, "%s/tokenizer.json", output);
  assert_int_equal(rename(path, spec), 0);
  ok(gd_tokenizer_open(output, &tokenizer));
  assert_string_equal(gd_tokenizer_digest(tokenizer), digest);
  gd_tokenizer_close(tokenizer);
  ok(gd_folder_remove(folder));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(merges_are_those_of_the_definition),
      cmocka_unit_test(both_descriptions_of_a_folder_give_its_ids),
      cmocka_unit_test(a_trained_folder_opens_and_any_bytes_come_back),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
