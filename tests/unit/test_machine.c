/* Facts of the machine: cores are those of the affinity mask, threads leave signals to the main thread, the limit of open files
 * is what the system lets a process have. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "comm/machine.h"

static void cores_are_those_of_the_affinity_mask(void **state) {
  (void)state;
  cpu_set_t before, one;
  gd_machine_affinity(&before);
  assert_int_equal(gd_machine_cores(), CPU_COUNT(&before));
  CPU_ZERO(&one);
  for (size_t i = 0; i < CPU_SETSIZE && !CPU_COUNT(&one); i++)
    if (CPU_ISSET(i, &before)) CPU_SET(i, &one);
  assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
  assert_int_equal(gd_machine_cores(), 1);
  assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
}

static void *tell_mask(void *argument) {
  pthread_sigmask(SIG_SETMASK, NULL, argument);
  return NULL;
}

static void threads_leave_signals_to_the_main_thread(void **state) {
  (void)state;
  sigset_t mine, theirs;
  pthread_t thread;
  assert_int_equal(gd_machine_thread(&thread, tell_mask, &theirs, "a thread"), GD_OK);
  assert_int_equal(pthread_join(thread, NULL), 0);
  assert_int_equal(sigismember(&theirs, SIGTERM), 1);
  assert_int_equal(sigismember(&theirs, SIGUSR1), 1);
  pthread_sigmask(SIG_SETMASK, NULL, &mine);
  assert_int_equal(sigismember(&mine, SIGTERM), 0);
}

static void the_limit_of_open_files_is_raised_to_what_is_allowed(void **state) {
  (void)state;
  struct rlimit limit, low;
  assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
  low = limit;
  low.rlim_cur = 64;
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
  assert_true(gd_machine_raise_files() > 64 || limit.rlim_max <= 64);
  assert_int_equal(getrlimit(RLIMIT_NOFILE, &low), 0);
  assert_true(low.rlim_cur == limit.rlim_max);
}

static void clocks_go_on_and_the_folder_is_whole(void **state) {
  (void)state;
  int64_t then = gd_machine_now_ms();
  double seconds = gd_machine_seconds();
  assert_true(gd_machine_now_ms() >= then && gd_machine_seconds() >= seconds);
  char folder[4096];
  gd_machine_folder(folder, sizeof folder);
  assert_true(folder[0] == '/' && folder[strlen(folder) - 1] == '/');
}

static void the_widest_instructions_run_and_unknown_ones_do_not(void **state) {
  (void)state;
  assert_true(gd_machine_runs(gd_machine_instructions()));
  assert_true(gd_machine_runs("generic"));
  assert_false(gd_machine_runs("avx1024"));
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(cores_are_those_of_the_affinity_mask),
                                     cmocka_unit_test(threads_leave_signals_to_the_main_thread),
                                     cmocka_unit_test(the_limit_of_open_files_is_raised_to_what_is_allowed),
                                     cmocka_unit_test(clocks_go_on_and_the_folder_is_whole),
                                     cmocka_unit_test(the_widest_instructions_run_and_unknown_ones_do_not)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
