/* ranks: 1 2 4 */
/* What other ranks than 0 warn of reaches the terminal once, with their ranks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "comm/session.h"
#include "launch/console.h"

static char text[65536];

static int count(const char *what) {
  int n = 0;
  for (const char *at = text; (at = strstr(at, what)) != NULL; at++) n++;
  return n;
}

/* A whole job whose terminal is a file. */
static void run_job(FILE *terminal) {
  gd_session *session;
  int stderr_file = dup(STDERR_FILENO);
  fflush(stderr);
  dup2(fileno(terminal), STDERR_FILENO);
  assert_int_equal(gd_session_open(&session), GD_OK);
  int32_t rank = gd_session_rank(session);
  gd_console_open("test", rank);
  gd_console_connect(session);
  gd_log(GD_LOG_WARNING, "all say this");
  for (int i = 0; i < 3 && rank > 0; i++) gd_log(GD_LOG_WARNING, "the disk is slow");
  if (rank == gd_session_ranks(session) - 1) gd_log(GD_LOG_WARNING, "the last one is hot");
  for (int i = 0; i < 100 && rank == 1; i++) gd_log(GD_LOG_WARNING, "flood %d", i);
  if (rank > 0) gd_log(GD_LOG_INFO, "nobody reads this");
  gd_console_connect(NULL);
  gd_session_close(session);
  gd_console_close();
  fflush(stderr);
  dup2(stderr_file, STDERR_FILENO);
  close(stderr_file);
  rewind(terminal);
  text[fread(text, 1, sizeof text - 1, terminal)] = 0;
}

static void each_warning_is_said_once(void **state) {
  (void)state;
  gd_launch_environment environment;
  gd_session_environment(&environment);
  FILE *terminal = tmpfile();
  assert_non_null(terminal);
  run_job(terminal);
  fclose(terminal);
  if (environment.rank > 0) {
    assert_string_equal(text, "");
    return;
  }
  char last[64] = "test: warning: the last one is hot\n";
  if (environment.ranks > 1) snprintf(last, sizeof last, "test: warning: rank %d on ", environment.ranks - 1);
  assert_int_equal(count("all say this"), 1);
  assert_non_null(strstr(text, "test: warning: all say this\n"));
  assert_non_null(strstr(text, last));
  assert_int_equal(count(": the last one is hot\n"), 1);
  assert_int_equal(count("nobody reads this"), 0);
  assert_int_equal(count("the disk is slow"), environment.ranks > 1);
  if (environment.ranks == 2) assert_non_null(strstr(text, ": the disk is slow\n"));
  if (environment.ranks == 4) assert_non_null(strstr(text, "test: warning: ranks 1 2 3: the disk is slow\n"));
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(each_warning_is_said_once)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
