/* How long a rank may stand still where nobody said: five median steps, and never below 30 s. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "trainer/deadline.h"

static void before_the_first_step_it_is_30_seconds(void **state) {
  (void)state;
  gd_deadline deadline = {0};
  assert_int_equal(gd_deadline_seconds(&deadline, -1), 30);
}

static void quick_steps_leave_it_there(void **state) {
  (void)state;
  gd_deadline deadline = {0};
  for (int i = 0; i < 100; i++) gd_deadline_step(&deadline, 6000);
  assert_int_equal(gd_deadline_seconds(&deadline, -1), 30);
}

static void slow_steps_raise_it_to_five_of_them(void **state) {
  (void)state;
  gd_deadline deadline = {0};
  gd_deadline_step(&deadline, 20000);
  assert_int_equal(gd_deadline_seconds(&deadline, -1), 100);
  gd_deadline_step(&deadline, 6201);
  gd_deadline_step(&deadline, 6200);
  assert_int_equal(gd_deadline_seconds(&deadline, -1), 32); /* 31.005 */
}

static void one_slow_step_is_not_the_median(void **state) {
  (void)state;
  gd_deadline deadline = {0};
  for (int i = 0; i < 9; i++) gd_deadline_step(&deadline, i == 4 ? 1e6 : 10000);
  assert_int_equal(gd_deadline_seconds(&deadline, -1), 50);
}

static void old_steps_are_forgotten(void **state) {
  (void)state;
  gd_deadline deadline = {0};
  for (int i = 0; i < 200; i++) gd_deadline_step(&deadline, i < 169 ? 60000 : 8000);
  assert_int_equal(gd_deadline_seconds(&deadline, -1), 40);
}

static void what_was_set_stands(void **state) {
  (void)state;
  gd_deadline deadline = {0};
  gd_deadline_step(&deadline, 60000);
  assert_int_equal(gd_deadline_seconds(&deadline, 7), 7);
  assert_int_equal(gd_deadline_seconds(&deadline, 0), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(before_the_first_step_it_is_30_seconds),
      cmocka_unit_test(quick_steps_leave_it_there),
      cmocka_unit_test(slow_steps_raise_it_to_five_of_them),
      cmocka_unit_test(one_slow_step_is_not_the_median),
      cmocka_unit_test(old_steps_are_forgotten),
      cmocka_unit_test(what_was_set_stands),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
