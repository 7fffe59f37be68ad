/* gptdist-run's own watch, and the ranks' of gptdist-run: no sign of any rank for the deadline and a little is a fault; before
 * the first sign, after goodbyes, without a deadline, or when the watcher itself was away, it is none. Signs of the same user
 * are heard, in order. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "comm/launcher.h"
#include "launch/run_watch.h"
#include "launch/signals.h"

static char text[512];

static gd_run_watch opened(void) {
  gd_run_watch watch;
  char mark[64];
  static int number;
  snprintf(mark, sizeof mark, "test-%d-%d", (int)getpid(), number++);
  assert_int_equal(setenv(GD_LAUNCH_MARK, mark, 1), 0);
  gd_run_watch_open(&watch, mark, 0);
  assert_true(watch.socket >= 0);
  return watch;
}

/* Asked every second from `from` to `to`, seconds: when it found silence, 0: never. */
static int64_t silent_at(gd_run_watch *watch, int64_t from, int64_t to) {
  for (int64_t s = from; s <= to; s++)
    if (gd_run_watch_is_silent(watch, s * 1000, text, sizeof text)) return s;
  return 0;
}

static void silence_is_found_after_the_deadline(void **state) {
  (void)state;
  gd_run_watch watch = opened();
  (void)gd_launcher_tell(&(gd_sign){.rank = 1, .watchdog_ms = 30000, .step = 7, .phase = "backward"});
  assert_int_equal(silent_at(&watch, 1, 100), 1 + 30 + 5);
  assert_non_null(strstr(text, "the last came 35 s ago from rank 1 in step 7, phase backward"));
  gd_run_watch_close(&watch);
}

static void any_rank_s_sign_counts(void **state) {
  (void)state;
  gd_run_watch watch = opened();
  for (int64_t s = 1; s < 60; s++) {
    (void)gd_launcher_tell(&(gd_sign){.rank = (int32_t)s % 2, .watchdog_ms = 1000, .phase = "forward"});
    assert_int_equal(silent_at(&watch, s, s), 0);
  }
  assert_int_equal(silent_at(&watch, 60, 90), 59 + 1 + 5);
  gd_run_watch_close(&watch);
}

static void no_sign_no_deadline_or_goodbye_is_no_silence(void **state) {
  (void)state;
  gd_run_watch watch = opened();
  assert_int_equal(silent_at(&watch, 1, 1000), 0);
  (void)gd_launcher_tell(&(gd_sign){.rank = 0, .watchdog_ms = 2000});
  assert_int_equal(silent_at(&watch, 1001, 1003), 0);
  (void)gd_launcher_tell(&(gd_sign){.rank = 1, .watchdog_ms = 2000});
  (void)gd_launcher_tell(&(gd_sign){.rank = 0});
  assert_int_equal(silent_at(&watch, 1004, 2000), 0);
  gd_run_watch_close(&watch);
}

static void who_was_away_itself_waits_anew(void **state) {
  (void)state;
  gd_run_watch watch = opened();
  (void)gd_launcher_tell(&(gd_sign){.rank = 0, .watchdog_ms = 2000, .phase = "vote"});
  assert_int_equal(silent_at(&watch, 1, 5), 0);
  assert_int_equal(silent_at(&watch, 500, 520), 500 + 2 + 5);
  gd_run_watch_close(&watch);
}

static void ranks_that_left_are_not_waited_for_for_ever(void **state) {
  (void)state;
  gd_run_watch watch = opened();
  (void)gd_launcher_tell(&(gd_sign){.rank = 0, .watchdog_ms = 2000});
  assert_int_equal(silent_at(&watch, 1, 3), 0);
  (void)gd_launcher_tell(&(gd_sign){.leaves = 1});
  (void)gd_launcher_tell(&(gd_sign){.rank = 1, .watchdog_ms = 60000}); /* of one that does not know yet */
  assert_int_equal(silent_at(&watch, 4, 4), 0);
  (void)gd_launcher_tell(&(gd_sign){.leaves = 1});
  for (int64_t s = 5; s < 50; s++) {
    assert_int_equal(silent_at(&watch, s, s), 0);
    assert_int_equal(gd_run_watch_is_over(&watch, s * 1000), s >= 4 + 20);
  }
  gd_run_watch_close(&watch);
  watch = opened(); /* a good end is no such thing */
  (void)gd_launcher_tell(&(gd_sign){.rank = 0});
  assert_int_equal(silent_at(&watch, 1, 100), 0);
  assert_false(gd_run_watch_is_over(&watch, 100000));
  gd_run_watch_close(&watch);
}

static void nobody_listens_or_the_name_is_too_long(void **state) {
  (void)state;
  char mark[300];
  memset(mark, 'x', sizeof mark - 1);
  mark[sizeof mark - 1] = 0;
  setenv(GD_LAUNCH_PLACE, "of an earlier start", 1);
  assert_int_equal(gd_launcher_listen(mark), -1);
  assert_null(getenv(GD_LAUNCH_PLACE));
  setenv(GD_LAUNCH_MARK, mark, 1);
  (void)gd_launcher_tell(&(gd_sign){.rank = 0});
  setenv(GD_LAUNCH_MARK, "nobody", 1);
  (void)gd_launcher_tell(&(gd_sign){.rank = 0});
  unsetenv(GD_LAUNCH_MARK);
  (void)gd_launcher_tell(&(gd_sign){.rank = 0});
  gd_run_watch watch;
  gd_run_watch_open(&watch, mark, 0);
  assert_int_equal(silent_at(&watch, 1, 1000), 0);
  gd_run_watch_close(&watch);
}

static void a_launcher_that_is_gone_is_noticed_where_it_was(void **state) {
  (void)state;
  gd_sign sign = {.rank = 0};
  gd_run_watch watch = opened();
  char place[128];
  assert_non_null(getenv(GD_LAUNCH_PLACE));
  snprintf(place, sizeof place, "%s", getenv(GD_LAUNCH_PLACE));
  assert_false(gd_launcher_tell(&sign));
  gd_run_watch_close(&watch);
  setenv(GD_LAUNCH_PLACE, "another host", 1); /* whose names cannot be seen here */
  assert_false(gd_launcher_tell(&sign));
  unsetenv(GD_LAUNCH_PLACE); /* it could not listen */
  assert_false(gd_launcher_tell(&sign));
  assert_false(gd_launcher_is_gone());
  assert_int_equal(gd_signals_pending(), 0);
  setenv(GD_LAUNCH_PLACE, place, 1);
  assert_true(gd_launcher_tell(&sign));
  assert_false(gd_launcher_tell(&sign)); /* said already */
  assert_true(gd_launcher_is_gone());
  assert_int_equal(gd_signals_pending(), SIGUSR1);
}

static bool empty_at(gd_run_watch *watch, int64_t second) {
  return gd_run_watch_is_empty(watch, getpid(), second * 1000);
}

static void mpirun_without_ranks_is_not_waited_for_for_ever(void **state) {
  (void)state;
  gd_run_watch watch = opened();
  pid_t rank = fork();
  if (rank == 0) {
    pause();
    _exit(0);
  }
  for (int64_t s = 1; s < 100; s++) assert_false(empty_at(&watch, s));
  assert_int_equal(kill(rank, SIGKILL), 0);
  siginfo_t about;
  assert_int_equal(waitid(P_PID, (id_t)rank, &about, WEXITED | WNOWAIT), 0); /* a zombie is no rank */
  for (int64_t s = 100; s < 110; s++) assert_false(empty_at(&watch, s));
  for (int64_t s = 110; s < 160; s++) assert_int_equal(empty_at(&watch, s), s >= 100 + 30);
  (void)gd_launcher_tell(&(gd_sign){.rank = 0}); /* one spoke: who starts them waits for another reason */
  assert_int_equal(silent_at(&watch, 160, 160), 0);
  for (int64_t s = 161; s < 230; s++) assert_false(empty_at(&watch, s));
  assert_false(gd_run_watch_is_empty(&watch, 0x7ffffff0, 300000)); /* no such process: it has ended */
  assert_int_equal(waitpid(rank, NULL, 0), rank);
  gd_run_watch_close(&watch);
}

/* "tell": no test, but a sign of life to who started this, for scripts whose ranks are stand-ins. */
int main(int argc, char **argv) {
  if (argc > 1 && strcmp(argv[1], "tell") == 0) {
    (void)gd_launcher_tell(&(gd_sign){.step = -1, .phase = "start"});
    return 0;
  }
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(silence_is_found_after_the_deadline),
      cmocka_unit_test(any_rank_s_sign_counts),
      cmocka_unit_test(no_sign_no_deadline_or_goodbye_is_no_silence),
      cmocka_unit_test(who_was_away_itself_waits_anew),
      cmocka_unit_test(ranks_that_left_are_not_waited_for_for_ever),
      cmocka_unit_test(nobody_listens_or_the_name_is_too_long),
      cmocka_unit_test(mpirun_without_ranks_is_not_waited_for_for_ever),
      cmocka_unit_test(a_launcher_that_is_gone_is_noticed_where_it_was),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
