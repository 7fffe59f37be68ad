/* Normalization form C: what is composed, in which order, and what is left alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs the four above */
#include <cmocka.h>
#include <string.h>

#include "io/base/nfc.h"

static void check(const char *text, const char *wanted) {
  gd_bytes out = {0};
  assert_int_equal(gd_nfc_append(&out, text, strlen(text)), GD_OK);
  assert_string_equal(out.bytes, wanted);
  if (gd_nfc_is(text, strlen(text))) assert_string_equal(text, wanted);
  assert_true(gd_nfc_is("plain \xc3\xa9 \xe6\xbc\xa2", 12));
  gd_bytes_free(&out);
}

static void marks_join_the_letter_before_them(void **state) {
  (void)state;
  check("a", "a");
  check("a\xcc\x80", "\xc3\xa0");                  /* a, grave */
  check("a\xcc\xa3\xcc\x82", "\xe1\xba\xad");      /* dot below, circumflex: both join */
  check("a\xcc\x82\xcc\xa3", "\xe1\xba\xad");      /* put in order first */
  check("a\xcc\x80\xcc\x81", "\xc3\xa0\xcc\x81");  /* the second of a class is blocked */
  check("x\xcc\x80", "x\xcc\x80");                 /* nothing to make */
  check("a\xcd\x8f\xcc\x80", "a\xcd\x8f\xcc\x80"); /* a joiner of class 0 between them */
  check(
      "\xcc\x80"
      "a",
      "\xcc\x80"
      "a");                              /* a mark alone */
  check("\xe1\xba\xad", "\xe1\xba\xad"); /* taken apart twice, and made again */
}

static void letters_that_have_another_form_take_it(void **state) {
  (void)state;
  check("\xe2\x84\xab", "\xc3\x85");                             /* the sign of Angstrom */
  check("\xe0\xa5\x98", "\xe0\xa4\x95\xe0\xa4\xbc");             /* one that stays apart */
  check("\xef\xa4\x80", "\xe8\xb1\x88");                         /* a compatibility ideograph */
  check("\xf0\x9d\x85\x9e", "\xf0\x9d\x85\x97\xf0\x9d\x85\xa5"); /* music, outside the first plane */
}

static void hangul_is_made_by_arithmetic(void **state) {
  (void)state;
  check("\xe1\x84\x92\xe1\x85\xa1\xe1\x86\xab", "\xed\x95\x9c"); /* three letters */
  check("\xe1\x84\x92\xe1\x85\xa1", "\xed\x95\x98");
  check("\xed\x95\x98\xe1\x86\xab", "\xed\x95\x9c"); /* a syllable and a last letter */
  check("\xed\x95\x9c", "\xed\x95\x9c");
  check("\xed\x95\x9c\xe1\x86\xab", "\xed\x95\x9c\xe1\x86\xab"); /* one that has it already */
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(marks_join_the_letter_before_them),
      cmocka_unit_test(letters_that_have_another_form_take_it),
      cmocka_unit_test(hangul_is_made_by_arithmetic),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
