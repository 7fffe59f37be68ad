/* Special tokens behind a tokenizer's own: ids, folders, digests, tokenizer.json, and which tokenizer is another with more. */
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
#include "tests/own_folder.h"

static const char *below(const char *name) {
  static char path[2][400];
  static int turn;
  turn = !turn;
  snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
  return path[turn];
}

static gd_tokenizer *opened(const char *spec) {
  gd_tokenizer *tokenizer;
  ok(gd_tokenizer_open(spec, &tokenizer));
  return tokenizer;
}

static void add(gd_tokenizer *tokenizer, const char *text) {
  bool known;
  ok(gd_tokenizer_add(tokenizer, text, &known));
  assert_false(known);
}

static void expect_ids(gd_tokenizer *tokenizer, const char *text, bool special, const int32_t *wanted, size_t count) {
  gd_ids ids = {0};
  gd_bytes back = {0};
  ok(gd_tokenizer_encode(tokenizer, text, strlen(text), special, &ids));
  assert_int_equal(ids.count, count);
  assert_memory_equal(ids.ids, wanted, count * sizeof *wanted);
  ok(gd_tokenizer_decode(tokenizer, -1, ids.ids, ids.count, &back));
  assert_int_equal(back.count, strlen(text));
  assert_memory_equal(back.bytes, text, back.count);
  gd_ids_free(&ids);
  gd_bytes_free(&back);
}

static void they_stand_behind_the_others(void **state) {
  (void)state;
  gd_tokenizer *bytes = opened("bytes");
  add(bytes, "<a>");
  add(bytes, "<a>b");
  assert_int_equal(gd_tokenizer_vocabulary(bytes), 259);
  assert_int_equal(gd_tokenizer_eot(bytes), 256);
  expect_ids(bytes, "x<a>b<a>y", true, (const int32_t[]){'x', 258, 257, 'y'}, 4);
  expect_ids(bytes, "<a>", false, (const int32_t[]){'<', 'a', '>'}, 3);
  assert_true(gd_tokenizer_has(bytes, 258));
  assert_false(gd_tokenizer_has(bytes, 259));
  assert_string_equal(gd_tokenizer_special_text(bytes, 257), "<a>");
  gd_tokenizer_close(bytes);
  gd_tokenizer *chars;
  ok(gd_tokenizer_from_characters("a<>", 3, &chars));
  add(chars, "<a>");
  expect_ids(chars, "a<a>", true, (const int32_t[]){2, 3}, 2);
  gd_tokenizer_close(chars);
}

static void what_is_one_already_stays(void **state) {
  (void)state;
  static const char *const bad[] = {"a", "", "\xff", "\xc0\x80"};
  gd_tokenizer *bytes = opened("bytes");
  bool known;
  add(bytes, "<a>");
  for (int i = 0; i < 2; i++) {
    ok(gd_tokenizer_add(bytes, i ? "<a>" : "<|endoftext|>", &known));
    assert_true(known);
  }
  for (size_t i = 0; i < 4; i++) {
    assert_int_equal(gd_tokenizer_add(bytes, bad[i], &known), GD_USAGE);
    gd_error_clear();
  }
  char *longest = malloc(1026);
  memset(longest, 'x', 1025);
  longest[1025] = 0;
  assert_int_equal(gd_tokenizer_add(bytes, longest, &known), GD_USAGE);
  longest[1024] = 0;
  ok(gd_tokenizer_add(bytes, longest, &known));
  free(longest);
  assert_int_equal(gd_tokenizer_vocabulary(bytes), 259);
  gd_tokenizer_close(bytes);
}

static void a_folder_keeps_them(void **state) {
  (void)state;
  gd_bytes text = {0};
  gd_tokenizer *bytes = opened("bytes"), *again, *plain = opened("bytes");
  add(bytes, "<a>");
  add(bytes, "quo\"te \xe6\xbc\xa2");
  assert_string_not_equal(gd_tokenizer_digest(bytes), gd_tokenizer_digest(plain));
  ok(gd_tokenizer_save(bytes, below("saved")));
  again = opened(below("saved"));
  assert_string_equal(gd_tokenizer_digest(again), gd_tokenizer_digest(bytes));
  assert_int_equal(gd_tokenizer_vocabulary(again), 259);
  expect_ids(again, "<a>quo\"te \xe6\xbc\xa2", true, (const int32_t[]){257, 258}, 2);
  add(again, "<b>");
  ok(gd_tokenizer_save(again, below("more")));
  gd_tokenizer_close(again);
  again = opened(below("more"));
  expect_ids(again, "<b>", true, (const int32_t[]){259}, 1);
  gd_tokenizer_close(again);
  /* A letter of one is damage. */
  ok(gd_file_read(below("saved/gptdist-tokenizer.json"), 1 << 20, &text));
  *strstr(text.bytes, "<a>") = '(';
  ok(gd_file_write(below("saved/gptdist-tokenizer.json"), text.bytes, text.count));
  assert_int_equal(gd_tokenizer_open(below("saved"), &again), GD_BAD_DATA);
  assert_non_null(strstr(gd_error_text(), "is damaged"));
  gd_bytes_free(&text);
  gd_tokenizer_close(bytes);
  gd_tokenizer_close(plain);
}

static bool extends(const gd_tokenizer *longer, const gd_tokenizer *base) {
  bool found;
  ok(gd_tokenizer_extends(longer, base, &found));
  return found;
}

/* The tokenizer.json at `path` with one text in another's place. */
static gd_tokenizer *edited(const char *path, const char *from, const char *to) {
  char spec[420];
  gd_bytes text = {0}, out = {0};
  ok(gd_file_read(path, 1 << 20, &text));
  const char *at = strstr(text.bytes, from);
  assert_non_null(at);
  ok(gd_bytes_append(&out, text.bytes, (size_t)(at - text.bytes)));
  ok(gd_bytes_append(&out, to, strlen(to)));
  ok(gd_bytes_append(&out, at + strlen(from), strlen(at + strlen(from))));
  ok(gd_file_write(below("edited.json"), out.bytes, out.count));
  gd_bytes_free(&text);
  gd_bytes_free(&out);
  snprintf(spec, sizeof spec, "hf:%s", below("edited.json"));
  return opened(spec);
}

static void one_is_another_with_more(void **state) {
  (void)state;
  gd_tokenizer *plain = opened("bytes"), *a = opened("bytes"), *ab = opened("bytes"), *ba = opened("bytes"), *other;
  ok(gd_tokenizer_from_characters("ab", 2, &other));
  add(a, "<a>");
  add(ab, "<a>");
  add(ab, "<b>");
  add(ba, "<b>");
  add(ba, "<a>");
  assert_true(extends(plain, plain));
  assert_true(extends(a, plain));
  assert_true(extends(ab, a));
  assert_false(extends(plain, a));
  assert_false(extends(a, ab));
  assert_false(extends(ba, a));
  assert_false(extends(ba, ab));
  assert_false(extends(other, plain));
  gd_tokenizer *third;
  ok(gd_tokenizer_from_characters("ac", 2, &third));
  assert_false(extends(third, other));
  gd_tokenizer_close(third);
  gd_tokenizer_close(plain);
  gd_tokenizer_close(a);
  gd_tokenizer_close(ab);
  gd_tokenizer_close(ba);
  gd_tokenizer_close(other);
}

static void one_tokenizer_json_is_another_with_more(void **state) {
  (void)state;
  static const struct {
    const char *from, *to;
    bool extends;
  } edits[] = {{"\"version\": \"1.0\", ", "\"version\" : \"1.0\",\n", true},
               {"\"special\": true}]", "\"special\": true}, {\"id\": 257, \"content\": \"<a>\"}]", true},
               {"\"special\": true}]", "\"special\": true}, {\"id\": 7, \"content\": \"<a>\"}]", false},
               {"\"special\": true}]", "\"special\": false}]", false},
               {"\"dropout\": null", "\"dropout\": 0", false},
               {"\"truncation\": null, ", "", false},
               {"\"truncation\": null, ", "\"truncation\": null, \"more\": 1, ", false},
               {"\"A\": 65, \"B\": 66", "\"A\": 66, \"B\": 65", false}};
  char base_path[400], spec[420];
  gd_tokenizer *bytes = opened("bytes");
  snprintf(base_path, sizeof base_path, "%s", below("base.json"));
  ok(gd_tokenizer_export_json(bytes, base_path));
  snprintf(spec, sizeof spec, "hf:%s", base_path);
  gd_tokenizer *base = opened(spec);
  for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
    gd_tokenizer *other = edited(base_path, edits[i].from, edits[i].to);
    if (extends(other, base) != edits[i].extends) fail_msg("%s", edits[i].to);
    if (gd_tokenizer_vocabulary(other) > 257) assert_false(extends(base, other));
    gd_tokenizer_close(other);
  }
  assert_false(extends(base, bytes));
  gd_tokenizer_close(base);
  gd_tokenizer_close(bytes);
}

/* Two formats of one tokenizer; an id that is another text, a special token or not, or that one of them alone has. */
static void other_files_may_say_the_same(void **state) {
  (void)state;
  static const struct {
    const char *from, *to;
    bool within, around; /* bytes in that, that in bytes */
  } edits[] = {{"\"truncation\": null", "\"truncation\": null", true, true},
               {"\"A\": 65, \"B\": 66", "\"A\": 66, \"B\": 65", false, false},
               {"<|endoftext|>", "<|end|>", false, false},
               {"\"special\": true}]", "\"special\": true}, {\"id\": 257, \"content\": \"<a>\"}]", true, false},
               {"\"id\": 256", "\"id\": 257", false, false}};
  gd_tokenizer *bytes = opened("bytes");
  char path[400];
  snprintf(path, sizeof path, "%s", below("same.json"));
  ok(gd_tokenizer_export_json(bytes, path));
  for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
    bool within, around;
    gd_tokenizer *other = edited(path, edits[i].from, edits[i].to);
    ok(gd_tokenizer_within(bytes, other, &within));
    ok(gd_tokenizer_within(other, bytes, &around));
    if (within != edits[i].within || around != edits[i].around) fail_msg("%s", edits[i].to);
    gd_tokenizer_close(other);
  }
  gd_tokenizer_close(bytes);
}

static void tokenizer_json_has_them(void **state) {
  (void)state;
  char spec[420];
  gd_tokenizer *bytes = opened("bytes");
  add(bytes, "<a>");
  ok(gd_tokenizer_export_json(bytes, below("tokenizer.json")));
  snprintf(spec, sizeof spec, "hf:%s", below("tokenizer.json"));
  gd_tokenizer *hf = opened(spec);
  expect_ids(hf, "x<a>", true, (const int32_t[]){'x', 257}, 2);
  add(hf, "<\"b\">");
  ok(gd_tokenizer_export_json(hf, below("longer.json")));
  snprintf(spec, sizeof spec, "hf:%s", below("longer.json"));
  gd_tokenizer *again = opened(spec);
  assert_int_equal(gd_tokenizer_vocabulary(again), 259);
  expect_ids(again, "x<a><\"b\"><|endoftext|>", true, (const int32_t[]){'x', 257, 258, 256}, 4);
  expect_ids(again, "<a>", false, (const int32_t[]){'<', 'a', '>'}, 3);
  gd_tokenizer_close(again);
  gd_tokenizer_close(hf);
  gd_tokenizer_close(bytes);
}

/* In tokenizer.json the text would be one key with that token, and its ids would be those of the special one. */
static void no_token_is_spelled_so(void **state) {
  (void)state;
  char spec[500];
  bool known;
  gd_tokenizer *bytes = opened("bytes");
  assert_int_equal(gd_tokenizer_add(bytes, "\xc4\x8a", &known), GD_USAGE); /* a new line in GPT-2's alphabet */
  assert_non_null(strstr(gd_error_text(), "the spelling of an ordinary token"));
  assert_int_equal(gd_tokenizer_add(bytes, "\xc4\x80", &known), GD_USAGE); /* a zero byte */
  add(bytes, "\xc4\x8a\xc4\x8a");
  add(bytes, " \xc4\x8a");
  ok(gd_tokenizer_export_json(bytes, below("spelled.json")));
  snprintf(spec, sizeof spec, "hf:%s", below("spelled.json"));
  gd_tokenizer *hf = opened(spec);
  assert_int_equal(gd_tokenizer_vocabulary(hf), 259);
  assert_int_equal(gd_tokenizer_add(hf, "\xc4\x8a", &known), GD_USAGE);
  assert_non_null(strstr(gd_error_text(), "the spelling of an ordinary token"));
  add(hf, "\xc4\x8a\xc4\x8a\xc4\x8a");
  gd_tokenizer_close(hf);
  gd_tokenizer_close(bytes);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(they_stand_behind_the_others),
      cmocka_unit_test(what_is_one_already_stays),
      cmocka_unit_test(a_folder_keeps_them),
      cmocka_unit_test(one_is_another_with_more),
      cmocka_unit_test(one_tokenizer_json_is_another_with_more),
      cmocka_unit_test(other_files_may_say_the_same),
      cmocka_unit_test(tokenizer_json_has_them),
      cmocka_unit_test(no_token_is_spelled_so),
  };
  return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
