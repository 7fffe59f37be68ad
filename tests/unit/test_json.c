/* JSON: a text of more values than memory is for is refused before any is made; what stands inside strings counts for nothing;
 * members are copied as they are written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "io/base/json.h"

enum { MOST = 1 << 24 };

static void test_too_many_values_are_refused(void **state) {
  (void)state;
  size_t count = 2 * (size_t)MOST + 2; /* [0,0, ... 0] */
  char *text = malloc(count);
  gd_json *root = NULL;
  assert_non_null(text);
  for (size_t i = 0; i < count; i++) text[i] = i % 2 ? '0' : ',';
  text[0] = '[';
  text[count - 1] = ']';
  assert_int_equal(gd_json_parse(text, count, "many.json", 1, &root), GD_BAD_DATA);
  assert_string_equal(gd_error_text(), "many.json:1: found more than 16777216 values in one JSON text");
  free(text);
}

static void test_a_long_text_is_one_value(void **state) {
  (void)state;
  size_t count = 2 * (size_t)MOST;
  char *text = malloc(count);
  gd_json *root = NULL;
  assert_non_null(text);
  for (size_t i = 0; i < count; i++) text[i] = "[,{\\\""[i % 5];
  text[0] = text[count - 1] = '"';
  if (gd_json_parse(text, count, "long.json", 1, &root) != GD_OK) fail_msg("%s", gd_error_text());
  assert_non_null(gd_json_string(root));
  gd_json_free(root);
  free(text);
}

static bool is_wanted(const char *key) {
  return strcmp(key, "b,\"}") != 0;
}

static void test_members_are_copied_as_they_are_written(void **state) {
  (void)state;
  static const char text[] =
      " {\"id\" : 12345678901234567890 , \"b,\\\"}\":[1,{\"c\":2}],\n\"d\":{\"e\":[\"]},\\\\\",1.10]}, \"f\":\"\\u0000\" }  ";
  static const struct {
    bool (*wanted)(const char *key);
    const char *expected;
  } cases[] = {
      {NULL, "\"id\" : 12345678901234567890,\"b,\\\"}\":[1,{\"c\":2}],\"d\":{\"e\":[\"]},\\\\\",1.10]},\"f\":\"\\u0000\""},
      {is_wanted, "\"id\" : 12345678901234567890,\"d\":{\"e\":[\"]},\\\\\",1.10]},\"f\":\"\\u0000\""},
  };
  gd_json *root = NULL;
  if (gd_json_parse(text, strlen(text), "members.json", 1, &root) != GD_OK) fail_msg("%s", gd_error_text());
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    gd_bytes copied = {0};
    assert_int_equal(gd_json_copy_members(root, text, cases[i].wanted, &copied), GD_OK);
    assert_string_equal(copied.bytes, cases[i].expected);
    gd_bytes_free(&copied);
  }
  gd_json_free(root);
}

static void test_json_by_the_letter(void **state) {
  (void)state;
  static const struct {
    const char *text;
    bool strict;
  } cases[] = {{"{\"a\\\"\": [0, -0, 10, 1e-05, -1.50E+3, 0.05, \"01 1. \\u0001\"]}", true},
               {" \t{} \r\n", true},
               {"\"\x7f\\\\\"", true},
               {"[01]", false},
               {"[-01]", false},
               {"[1.]", false},
               {"[1.e5]", false},
               {"[-.5]", false},
               {"\"a\tb\"", false},
               {"\"a\\\\\x01\"", false},
               {"[1,\v2]", false}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    gd_json *root;
    assert_int_equal(gd_json_parse(cases[i].text, strlen(cases[i].text), "case", 1, &root), GD_OK);
    if (gd_json_strict(cases[i].text, strlen(cases[i].text)) != cases[i].strict) fail_msg("case %zu: %s", i, cases[i].text);
    gd_json_free(root);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_too_many_values_are_refused),
      cmocka_unit_test(test_a_long_text_is_one_value),
      cmocka_unit_test(test_members_are_copied_as_they_are_written),
      cmocka_unit_test(test_json_by_the_letter),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
