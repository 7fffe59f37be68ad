/* The error record: what a person reads, where it was raised and whose it is are three things; the log gets the place apart. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "shard/base/log.h"
#include "shard/base/status.h"

static gd_error fault_of_node7; /* as it comes over the wire */

static void the_text_carries_no_place(void **state) {
  (void)state;
  assert_int_equal(gd_fail(GD_IO, "cannot read %s", "x"), GD_IO);
  assert_string_equal(gd_error_text(), "cannot read x");
  assert_non_null(strstr(gd_error_place(), "test_status.c:"));
  assert_null(strstr(gd_error_place(), "../"));
  assert_non_null(strstr(gd_error_place(), " the_text_carries_no_place"));
  assert_int_equal(gd_error_context(GD_IO, "in %s", "y"), GD_IO);
  assert_string_equal(gd_error_text(), "cannot read x\n  in y");
  assert_int_equal(gd_fail_user(GD_USAGE, "a mistake"), GD_USAGE);
  assert_string_equal(gd_error_text(), "a mistake");
  assert_string_equal(gd_error_place(), "");
}

/* GD_IO at step 9 of rank 2 on node7. */
static void *fail_on_node7(void *unused) {
  (void)unused;
  gd_error_set_place(2, "node7");
  gd_error_set_step(9);
  gd_status status = gd_fail(GD_IO, "the disk is gone");
  gd_error_take(status, &fault_of_node7);
  gd_error_set_place(0, "node1");
  gd_error_set_step(-1);
  return NULL;
}

static void a_fault_of_another_rank_says_whose_it_is(void **state) {
  (void)state;
  pthread_t thread;
  gd_error_clear();
  assert_int_equal(pthread_create(&thread, NULL, fail_on_node7, NULL), 0);
  pthread_join(thread, NULL);
  assert_string_equal(gd_error_text(), "");
  assert_int_equal(gd_error_raise(&fault_of_node7), GD_IO);
  assert_string_equal(gd_error_text(), "the disk is gone");
  assert_string_equal(gd_error_whose(), "rank 2 on node7: ");
  assert_non_null(strstr(gd_error_place(), " fail_on_node7, rank 2 on node7, step 9"));
  (void)gd_fail(GD_BUG, "mine");
  assert_string_equal(gd_error_whose(), "");
  gd_error_clear();
  assert_string_equal(gd_error_place(), "");
}

static char lines[3][4096];
static gd_log_level levels[3];
static int count;

static void keep(void *context, gd_log_level level, const char *line) {
  (void)context;
  levels[count] = level;
  snprintf(lines[count++], sizeof lines[0], "%s", line);
}

static void the_log_gets_the_place_as_a_line_that_the_terminal_does_not_show(void **state) {
  (void)state;
  gd_log_set_sink(keep, NULL);
  (void)gd_fail(GD_IO, "the disk is full");
  gd_log_fault(GD_LOG_WARNING, "not saved: %s", gd_error_text());
  assert_int_equal(count, 2);
  assert_int_equal(levels[0], GD_LOG_WARNING);
  assert_string_equal(lines[0], "not saved: the disk is full");
  assert_int_equal(levels[1], GD_LOG_DEBUG);
  assert_non_null(strstr(lines[1], "test_status.c:"));
  (void)gd_fail_user(GD_USAGE, "a mistake");
  gd_log_fault(GD_LOG_WARNING, "%s", gd_error_text());
  assert_int_equal(count, 3);
  gd_log_set_sink(NULL, NULL);
}

static void a_long_text_is_cut_not_overrun(void **state) {
  (void)state;
  static char text[5000];
  memset(text, 'x', sizeof text - 1);
  (void)gd_fail(GD_IO, "%s", text);
  for (int i = 0; i < 3; i++) (void)gd_error_context(GD_IO, "%s", text);
  assert_int_equal(strlen(gd_error_text()), sizeof fault_of_node7.text - 1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_text_carries_no_place),
      cmocka_unit_test(a_fault_of_another_rank_says_whose_it_is),
      cmocka_unit_test(the_log_gets_the_place_as_a_line_that_the_terminal_does_not_show),
      cmocka_unit_test(a_long_text_is_cut_not_overrun),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
