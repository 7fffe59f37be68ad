/* Stopping on request: the first signal only asks; the same one 5 s later leaves at once, with 75 where nothing would be lost;
 * all others are the same request. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "launch/signals.h"

enum { LIVED = 99 };

/* Runs `part` in a child with the handlers installed; what it left with, or 256 + the signal that ended it. */
static int code_of(void (*part)(int first, int second), int first, int second) {
  pid_t child = fork();
  if (child == 0) {
    if (gd_signals_install() != GD_OK) _exit(98);
    part(first, second);
    _exit(LIVED);
  }
  int status = 0;
  assert_int_equal(waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}

static const int numbers[] = {SIGINT, SIGTERM, SIGUSR1};

static void first_asks(int first, int second) {
  (void)second;
  if (gd_signals_pending() != 0) _exit(1);
  gd_signals_set_saved(true); /* saved or not, the first one leaves the step to its end */
  raise(first);
  if (gd_signals_pending() != first) _exit(2);
}

static void the_first_signal_only_asks(void **state) {
  (void)state;
  for (int i = 0; i < 3; i++) assert_int_equal(code_of(first_asks, numbers[i], 0), LIVED);
}

static void both(int first, int second) {
  raise(first);
  raise(second);
  raise(first);
  if (gd_signals_pending() != first) _exit(1);
}

static void signals_that_come_together_are_one_request(void **state) {
  (void)state;
  for (int i = 0; i < 3; i++)
    for (int j = 0; j < 3; j++) assert_int_equal(code_of(both, numbers[i], numbers[j]), LIVED);
}

static void wait_long(void) {
  for (unsigned left = 6; left; left = sleep(left)) continue;
}

static void both_later(int first, int second) {
  raise(first);
  wait_long();
  raise(second);
}

static void the_same_again_later_leaves_with_its_number(void **state) {
  (void)state;
  assert_int_equal(code_of(both_later, SIGTERM, SIGTERM), 128 + SIGTERM);
}

static void another_one_later_is_the_same_request(void **state) {
  (void)state;
  assert_int_equal(code_of(both_later, SIGTERM, SIGUSR1), LIVED);
}

/* As SLURM and a launcher do it: each of the two again, later, is one that came before. */
static void second_of_two_again(int first, int second) {
  raise(first);
  raise(second);
  wait_long();
  raise(second);
}

static void either_of_two_again_later_leaves(void **state) {
  (void)state;
  assert_int_equal(code_of(second_of_two_again, SIGTERM, SIGUSR1), 128 + SIGUSR1);
}

static void save_between(int first, int second) {
  raise(first);
  gd_signals_set_saved(true);
  wait_long();
  raise(second);
}

static void after_a_save_it_asks_for_another_start(void **state) {
  (void)state;
  assert_int_equal(code_of(save_between, SIGTERM, SIGTERM), GD_REQUEUE);
}

static void step_after_save(int first, int second) {
  gd_signals_set_saved(true);
  raise(first);
  gd_signals_set_saved(false);
  wait_long();
  raise(second);
}

static void a_step_after_the_save_is_work_unsaved(void **state) {
  (void)state;
  assert_int_equal(code_of(step_after_save, SIGUSR1, SIGUSR1), 128 + SIGUSR1);
}

static void read_through(int first, int second) {
  (void)second;
  int ends[2];
  char byte = 0;
  if (pipe(ends) != 0) _exit(1);
  pid_t sender = fork();
  if (sender == 0) {
    pid_t parent = getppid();
    usleep(100000);
    kill(parent, first);
    usleep(100000);
    if (write(ends[1], "x", 1) != 1) _exit(1);
    _exit(0);
  }
  if (read(ends[0], &byte, 1) != 1 || byte != 'x') _exit(2);
  waitpid(sender, NULL, 0);
  if (gd_signals_pending() != first) _exit(3);
}

static void a_system_call_under_way_goes_on(void **state) {
  (void)state;
  for (int i = 0; i < 3; i++) assert_int_equal(code_of(read_through, numbers[i], 0), LIVED);
}

static void losses(int first, int second) {
  if (gd_signals_install_losses() != GD_OK) _exit(1);
  raise(first);
  if (gd_signals_pending() != first) _exit(2);
  wait_long();
  raise(first); /* each line that nobody reads sends another one */
  if (second) raise(second);
}

static void a_lost_terminal_or_reader_is_one_request(void **state) {
  (void)state;
  assert_int_equal(code_of(losses, SIGHUP, 0), LIVED);
  assert_int_equal(code_of(losses, SIGPIPE, SIGTERM), LIVED);
}

static void ignored_before(int first, int second) {
  (void)second;
  signal(first, SIG_IGN);
  if (gd_signals_install_losses() != GD_OK) _exit(1);
  raise(first);
  if (gd_signals_pending() != 0) _exit(2);
}

static void under_nohup_there_is_no_request(void **state) {
  (void)state;
  assert_int_equal(code_of(ignored_before, SIGHUP, 0), LIVED);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_first_signal_only_asks),
      cmocka_unit_test(signals_that_come_together_are_one_request),
      cmocka_unit_test(the_same_again_later_leaves_with_its_number),
      cmocka_unit_test(another_one_later_is_the_same_request),
      cmocka_unit_test(either_of_two_again_later_leaves),
      cmocka_unit_test(after_a_save_it_asks_for_another_start),
      cmocka_unit_test(a_step_after_the_save_is_work_unsaved),
      cmocka_unit_test(a_system_call_under_way_goes_on),
      cmocka_unit_test(a_lost_terminal_or_reader_is_one_request),
      cmocka_unit_test(under_nohup_there_is_no_request),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
