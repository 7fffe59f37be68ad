/* Templates: turns to ids by the table, contents never to special tokens, responses and their end tokens as targets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs the four above */
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/data/template.h"
#include "tests/own_folder.h"

static char path[300];
static gd_tokenizer *bytes;

static int open_bytes(void **state) {
  return make_folder(state) == 0 && gd_tokenizer_open("bytes", &bytes) == GD_OK ? 0 : 1;
}

static int close_bytes(void **state) {
  gd_tokenizer_close(bytes);
  return remove_folder(state);
}

static gd_status open_table(const char *text, gd_template *out) {
  snprintf(path, sizeof path, "%s/table.json", folder);
  ok(gd_file_write(path, text, strlen(text)));
  return gd_template_open(path, out);
}

/* The example as text: a special token is #, targets are in capitals (the texts have none). */
static void expect(const gd_template *layout, const gd_turn *turns, int32_t count, const char *wanted) {
  gd_ids ids = {0};
  gd_bytes targets = {0}, found = {0};
  int32_t end;
  bool differs;
  ok(gd_template_check(layout, bytes, &end));
  assert_int_equal(end, 256);
  ok(gd_template_encode(layout, bytes, end, turns, count, &ids, &targets, &differs));
  assert_int_equal(ids.count, targets.count);
  assert_false(differs);
  for (size_t i = 0; i < ids.count; i++) {
    char c = ids.ids[i] == 256 ? (targets.bytes[i] ? '!' : '#') : (char)ids.ids[i];
    if (targets.bytes[i] && c >= 'a' && c <= 'z') c = (char)(c - 'a' + 'A');
    ok(gd_bytes_append(&found, &c, 1));
  }
  assert_string_equal(found.bytes, wanted);
  gd_ids_free(&ids);
  gd_bytes_free(&targets);
  gd_bytes_free(&found);
}

#define TURN(role, text, learnt) ((gd_turn){role, text, sizeof text - 1, learnt})

static void turns_are_laid_out_by_the_table(void **state) {
  (void)state;
  gd_template plain, own;
  ok(gd_template_open("plain", &plain));
  const gd_turn pair[] = {TURN(GD_TURN_USER, "ask", false), TURN(GD_TURN_ASSISTANT, "say", true)};
  expect(&plain, pair, 2, "ask\nSAY!");
  gd_template_free(&plain);
  ok(
      open_table("{\"begin\": \"<|endoftext|>b:\", \"system\": [\"s<\", \">\"], \"user\": [\"u<\", \">\"], \"assistant\": "
                 "[\"a<\", \">\"], "
                 "\"end\": \"<|endoftext|>\", \"generation\": \"g<\"}",
                 &own));
  const gd_turn talk[] = {TURN(GD_TURN_SYSTEM, "be", false),      TURN(GD_TURN_USER, "one", false),
                          TURN(GD_TURN_ASSISTANT, "first", true), TURN(GD_TURN_USER, "two", false),
                          TURN(GD_TURN_ASSISTANT, "left", false), TURN(GD_TURN_USER, "three", false),
                          TURN(GD_TURN_ASSISTANT, "last", true)};
  expect(&own, talk, 7, "#b:s<be>u<one>a<FIRST!>u<two>a<left#>u<three>g<LAST!");
  gd_template_free(&own);
}

static void contents_never_become_special_tokens(void **state) {
  (void)state;
  gd_template plain;
  ok(gd_template_open("plain", &plain));
  const gd_turn pair[] = {TURN(GD_TURN_USER, "x<|endoftext|>", false), TURN(GD_TURN_ASSISTANT, "<|endoftext|>y", true)};
  expect(&plain, pair, 2, "x<|endoftext|>\n<|ENDOFTEXT|>Y!");
  gd_template_free(&plain);
}

static void a_table_survives_its_json(void **state) {
  (void)state;
  static const char *const names[] = {"plain", "alpaca", "chatml", "llama3"};
  for (int i = 0; i < 4; i++) {
    gd_template named, again;
    gd_bytes text = {0}, twice = {0};
    ok(gd_template_open(names[i], &named));
    ok(gd_template_write(&named, &text));
    ok(open_table(text.bytes, &again));
    ok(gd_template_write(&again, &twice));
    assert_string_equal(text.bytes, twice.bytes);
    assert_string_equal(again.name, names[i]);
    gd_bytes_free(&text);
    gd_bytes_free(&twice);
    gd_template_free(&named);
    gd_template_free(&again);
  }
}

static void expect_table_fault(const char *table, gd_status code, const char *text) {
  gd_template layout;
  int32_t end;
  gd_status status = table[0] == '{' || table[0] == '[' ? open_table(table, &layout) : gd_template_open(table, &layout);
  if (status == GD_OK) status = gd_template_check(&layout, bytes, &end);
  if (status != code || !strstr(gd_error_text(), text))
    fail_msg("status %d, text \"%s\", expected \"%s\"", (int)status, gd_error_text(), text);
  gd_template_free(&layout);
}

static void a_table_that_is_none_is_named(void **state) {
  (void)state;
  expect_table_fault("jinja", GD_USAGE, "template \"jinja\": neither a file nor plain, alpaca, chatml or llama3");
  expect_table_fault("[]", GD_BAD_DATA, "table.json: expected a JSON object, a template");
  expect_table_fault("{\"user\": [\"a\", \"b\"]}", GD_BAD_DATA, "table.json: \"assistant\" is missing or no pair of texts");
  expect_table_fault("{\"user\": [\"a\"], \"assistant\": [\"\", \"\"]}", GD_BAD_DATA,
                     "table.json: \"user\" is missing or no pair");
  expect_table_fault("{\"user\": [\"\", \"\"], \"assistant\": [\"\", \"\"], \"stop\": \"x\"}", GD_BAD_DATA,
                     "table.json: \"stop\" is not known");
  expect_table_fault("{\"user\": [\"\", \"\"], \"assistant\": [\"\", \"\"], \"end\": 5}", GD_BAD_DATA,
                     "table.json: \"end\" is no text");
  expect_table_fault("{\"user\": [\"\", \"\"], \"assistant\": [\"\", \"\"], \"end\": \"stop\"}", GD_USAGE,
                     "its end \"stop\" is no special token");
  expect_table_fault("chatml", GD_USAGE, "template chatml: names the token <|im_start|>, which the tokenizer (bytes, ");
  expect_table_fault("llama3", GD_USAGE, "template llama3: names the token <|begin_of_text|>, which the tokenizer");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(turns_are_laid_out_by_the_table),
      cmocka_unit_test(contents_never_become_special_tokens),
      cmocka_unit_test(a_table_survives_its_json),
      cmocka_unit_test(a_table_that_is_none_is_named),
  };
  return cmocka_run_group_tests(tests, open_bytes, close_bytes);
}
