/* tokenizer.json of Hugging Face: splits, normalizers, added tokens and bytes as its own library has them
 * (tests/numerics/peer_transformers.py compares with that); what is not known; what ends a turn. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs the four above */
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/tokenizer/tokenizer.h"

static void ok(gd_status status) {
  if (status != GD_OK) fail_msg("%s", gd_error_text());
}

static void put(const char *folder, const char *name, const char *text, char path[256]) {
  snprintf(path, 256, "%s/%s", folder, name);
  ok(gd_file_write(path, text, strlen(text)));
}

/* A file of Hugging Face's with the given parts, and the ids that a text should have. */
static gd_tokenizer *open_parts(const char *folder, const char *normalizer, const char *split, const char *added,
                                const char *model) {
  char path[256], spec[300];
  gd_bytes text = {0};
  gd_tokenizer *tokenizer = NULL;
  ok(gd_bytes_printf(&text, "{\"normalizer\": %s, \"pre_tokenizer\": %s, \"added_tokens\": [%s], \"model\": {%s}}", normalizer,
                     split, added, model));
  put(folder, "tokenizer.json", text.bytes, path);
  snprintf(spec, sizeof spec, "hf:%s", path);
  if (gd_tokenizer_open(spec, &tokenizer) != GD_OK) tokenizer = NULL;
  gd_bytes_free(&text);
  return tokenizer;
}

static void expect_ids(gd_tokenizer *tokenizer, const char *text, bool special, const char *wanted) {
  gd_ids ids = {0};
  gd_bytes found = {0};
  if (!tokenizer) fail_msg("%s", gd_error_text());
  ok(gd_tokenizer_encode(tokenizer, text, strlen(text), special, &ids));
  for (size_t i = 0; i < ids.count; i++) ok(gd_bytes_printf(&found, "%s%d", i ? " " : "", ids.ids[i]));
  ok(gd_bytes_append(&found, "", 0));
  assert_string_equal(found.bytes, wanted);
  gd_ids_free(&ids);
  gd_bytes_free(&found);
}

/* Vocabulary: a 0, b 1, 1 2, 2 3, space 4, aa 5, 12 6, a-space 7, space-a 8. */
static const char letters[] =
    "\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1, \"1\": 2, \"2\": 3, \"\u0120\": 4, \"aa\": 5, \"12\": 6,"
    " \"a\u0120\": 7, \"\u0120a\": 8},"
    " \"merges\": [\"a a\", \"1 2\", \"a \u0120\", \"\u0120 a\"]";
#define LEVEL "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"use_regex\": false}"
#define STEPS(steps) "{\"type\": \"Sequence\", \"pretokenizers\": [" steps "," LEVEL "]}"
#define SPLIT(pattern, behavior, invert) \
  STEPS("{\"type\": \"Split\", \"pattern\": " pattern ", \"behavior\": \"" behavior "\", \"invert\": " invert "}")

static void splits_of_every_behavior_cut_as_they_say(void **state) {
  (void)state;
  static const struct {
    const char *split, *text, *ids;
  } cases[] = {
      {LEVEL, "aa12 a", "5 6 8"},
      {STEPS("{\"type\": \"Digits\", \"individual_digits\": true}"), "aa12", "5 2 3"},
      {STEPS("{\"type\": \"Digits\", \"individual_digits\": false}"), "aa12", "5 6"},
      {SPLIT("{\"Regex\": \" \"}", "Isolated", "false"), "a a", "0 4 0"},
      {SPLIT("{\"String\": \" \"}", "Removed", "false"), "a a", "0 0"},
      {SPLIT("{\"Regex\": \"[^ ]+\"}", "Removed", "true"), "a a", "0 0"},
      {SPLIT("{\"Regex\": \"\\\\s\"}", "MergedWithPrevious", "false"), "a a", "7 0"},
      {SPLIT("{\"Regex\": \"\\\\s\"}", "MergedWithNext", "false"), "a a", "0 8"},
      {SPLIT("{\"Regex\": \"a\"}", "Contiguous", "false"), "aab", "5 1"},
      {SPLIT("{\"Regex\": \"a\"}", "Isolated", "false"), "aab", "0 0 1"},
      {SPLIT("{\"Regex\": \"(?=a)\"}", "Isolated", "false"), "baa", "1 0 0"}, /* empty matches cut */
      {STEPS("{\"type\": \"Split\", \"pattern\": {\"Regex\": \"b\"}, \"behavior\": \"Isolated\"},"
             "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"^a\"}, \"behavior\": \"Isolated\"}"),
       "aabaa", "0 0 1 0 0"}, /* a step sees the pieces of the one before */
  };
  char folder[] = "/tmp/gptdist-test-XXXXXX";
  assert_non_null(mkdtemp(folder));
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    gd_tokenizer *tokenizer = open_parts(folder, "null", cases[i].split, "", letters);
    expect_ids(tokenizer, cases[i].text, false, cases[i].ids);
    gd_tokenizer_close(tokenizer);
  }
  ok(gd_folder_remove(folder));
}

static void added_tokens_take_their_white_space_and_ordinary_ones_always_count(void **state) {
  (void)state;
  static const char added[] =
      "{\"id\": 9, \"content\": \"<l>\", \"lstrip\": true}, {\"id\": 10, \"content\": \"<r>\", \"rstrip\": true},"
      "{\"id\": 11, \"content\": \"bb\", \"special\": false}, {\"id\": 12, \"content\": \"bba\"},"
      "{\"id\": 13, \"content\": \"<|im_end|>\"}";
  char folder[] = "/tmp/gptdist-test-XXXXXX";
  assert_non_null(mkdtemp(folder));
  gd_tokenizer *tokenizer = open_parts(folder, "{\"type\": \"NFC\"}", LEVEL, added, letters);
  expect_ids(tokenizer, "a  <l> a", true, "0 9 8");
  expect_ids(tokenizer, "a <r>\xe3\x80\x80 a", true, "7 10 0");
  expect_ids(tokenizer, "bba", true, "12"); /* the longest */
  expect_ids(tokenizer, "bba", false, "11 0");
  expect_ids(tokenizer, "abbb", false, "0 11 1");
  assert_int_equal(gd_tokenizer_eot(tokenizer), 13);
  assert_true(gd_tokenizer_ends(tokenizer, 13) && !gd_tokenizer_ends(tokenizer, 12) && gd_tokenizer_end(tokenizer, 1) < 0);
  gd_tokenizer_close(tokenizer);
  ok(gd_folder_remove(folder));
}

static void characters_without_a_token_become_bytes(void **state) {
  (void)state;
  gd_bytes model = {0}, back = {0};
  char folder[] = "/tmp/gptdist-test-XXXXXX";
  assert_non_null(mkdtemp(folder));
  ok(gd_bytes_printf(&model,
                     "\"type\": \"BPE\", \"byte_fallback\": true, \"unk_token\": \"<unk>\", \"vocab\": {\"<unk>\": 256,"
                     " \"\u2581\": 257, \"a\": 258, \"\u2581a\": 259, \"b\": 260"));
  for (int b = 0; b < 256; b++) ok(gd_bytes_printf(&model, ", \"<0x%02X>\": %d", b, b));
  ok(gd_bytes_printf(&model, "}, \"merges\": [[\"\u2581\", \"a\"]]"));
  static const char legacy[] =
      "{\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Prepend\", \"prepend\": \"\u2581\"},"
      "{\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": \"\u2581\"}]}";
  static const char first[] =
      "{\"type\": \"Metaspace\", \"replacement\": \"\u2581\", \"prepend_scheme\": \"first\", \"split\": false}";
  static const char s[] = "{\"id\": 261, \"content\": \"<s>\"}";
  gd_tokenizer *tokenizer = open_parts(folder, legacy, "null", s, model.bytes);
  expect_ids(tokenizer, "a a", false, "259 259");
  expect_ids(tokenizer, " a", false, "257 259");  /* one more, whatever is there */
  expect_ids(tokenizer, "<s>a", true, "261 259"); /* and behind a special token */
  expect_ids(tokenizer, "a\xe6\xbc\xa2", false, "259 230 188 162");
  const int32_t ids[] = {259, 230, 188, 162, 257, 258};
  ok(gd_tokenizer_decode(tokenizer, -1, ids, 6, &back));
  assert_string_equal(back.bytes, "a\xe6\xbc\xa2 a");
  gd_tokenizer_close(tokenizer);
  tokenizer = open_parts(folder, "null", first, s, model.bytes);
  expect_ids(tokenizer, " a", false, "259");
  expect_ids(tokenizer, "a<s>a", true, "259 261 258");
  gd_tokenizer_close(tokenizer);
  gd_bytes_free(&model);
  gd_bytes_free(&back);
  ok(gd_folder_remove(folder));
}

static void what_is_not_known_of_a_tokenizer_is_named_with_what_is(void **state) {
  (void)state;
  static const struct {
    const char *normalizer, *split, *added, *model, *text;
  } cases[] = {
      {"{\"type\": \"Lowercase\"}", LEVEL, "", letters, "normalizer: found \"Lowercase\", expected NFC, Prepend or Replace"},
      {"null", "{\"type\": \"Whitespace\"}", "", letters, "pre_tokenizer: found \"Whitespace\", expected ByteLevel, Split"},
      {"null", "null", "", letters, "pre_tokenizer: found no ByteLevel"},
      {"null", SPLIT("{\"Regex\": \"a\"}", "Glued", "false"), "", letters,
       "behavior of a Split: found \"Glued\", expected Isolated"},
      {"null", SPLIT("{\"Regex\": \"[a&&b]\"}", "Isolated", "false"), "", letters, "an intersection of classes (&&)"},
      {"null", SPLIT("{\"Regex\": \"[a[b]]\"}", "Isolated", "false"), "", letters, "a class inside a class"},
      {"null", SPLIT("{\"Regex\": \"(\"}", "Isolated", "false"), "", letters, "is not understood"},
      {"null", LEVEL, "{\"id\": 9, \"content\": \"x\", \"single_word\": true}", letters, "single_word true, expected false"},
      {"null", LEVEL, "", "\"type\": \"Unigram\"", "model: found \"Unigram\", expected BPE"},
      {"null", LEVEL, "", "\"type\": \"BPE\", \"end_of_word_suffix\": \"</w>\"", "found the end_of_word_suffix"},
      {"null", "{\"type\": \"Metaspace\", \"replacement\": \"_\"}", "", letters, "replacement of Metaspace: found \"_\""},
  };
  char folder[] = "/tmp/gptdist-test-XXXXXX";
  assert_non_null(mkdtemp(folder));
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    assert_null(open_parts(folder, cases[i].normalizer, cases[i].split, cases[i].added, cases[i].model));
    if (!strstr(gd_error_text(), cases[i].text)) fail_msg("\"%s\" is not in \"%s\"", cases[i].text, gd_error_text());
  }
  ok(gd_folder_remove(folder));
}

static void what_ends_a_turn_is_read_beside_the_file_and_kept(void **state) {
  (void)state;
  static const char added[] =
      "{\"id\": 9, \"content\": \"<s>\"}, {\"id\": 10, \"content\": \"</s>\"}, {\"id\": 11, \"content\": \"<|eot_id|>\"}";
  char folder[] = "/tmp/gptdist-test-XXXXXX", path[256], saved[300];
  gd_tokenizer *again;
  assert_non_null(mkdtemp(folder));
  put(folder, "generation_config.json", "{\"eos_token_id\": [11, 3, 999999]}", path);
  put(folder, "config.json", "{\"eos_token_id\": 10}", path);
  put(folder, "tokenizer_config.json",
      "{\"eos_token\": {\"content\": \"</s>\"}, \"bos_token\": \"<s>\", \"add_bos_token\": true}", path);
  gd_tokenizer *tokenizer = open_parts(folder, "null", LEVEL, added, letters);
  if (!tokenizer) fail_msg("%s", gd_error_text());
  snprintf(saved, sizeof saved, "%s/saved", folder);
  ok(gd_tokenizer_save(tokenizer, saved));
  ok(gd_tokenizer_open(saved, &again));
  for (gd_tokenizer *at = tokenizer; at; at = at == tokenizer ? again : NULL) {
    static const int32_t ends[] = {11, 3, 10, -1};
    for (int i = 0; i < 4; i++) assert_int_equal(gd_tokenizer_end(at, i), ends[i]);
    assert_true(gd_tokenizer_ends(at, 3) && gd_tokenizer_ends(at, 10) && !gd_tokenizer_ends(at, 9));
    assert_int_equal(gd_tokenizer_eot(at), 10);
    assert_int_equal(gd_tokenizer_bos(at), 9);
  }
  assert_string_equal(gd_tokenizer_digest(tokenizer), gd_tokenizer_digest(again));
  gd_tokenizer_close(tokenizer);
  gd_tokenizer_close(again);
  put(folder, "generation_config.json", "{\"eos_token_id\": \"</s>\"}", path);
  assert_null(open_parts(folder, "null", LEVEL, added, letters));
  assert_non_null(strstr(gd_error_text(), "generation_config.json: eos_token_id: expected a whole number"));
  ok(gd_folder_remove(folder));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(splits_of_every_behavior_cut_as_they_say),
      cmocka_unit_test(added_tokens_take_their_white_space_and_ordinary_ones_always_count),
      cmocka_unit_test(characters_without_a_token_become_bytes),
      cmocka_unit_test(what_is_not_known_of_a_tokenizer_is_named_with_what_is),
      cmocka_unit_test(what_ends_a_turn_is_read_beside_the_file_and_kept),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
