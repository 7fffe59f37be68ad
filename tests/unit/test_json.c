/* JSON: a text of more values than memory is for is refused before any is made; what stands inside strings counts for nothing.
 */
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

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_too_many_values_are_refused),
      cmocka_unit_test(test_a_long_text_is_one_value),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
