/* The watchdog's judgement, from made-up heartbeats: who is named, and who is only a victim. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "comm/watchdog.h"

enum { RANKS = 4, TENSOR = 2, DATA = 3, NOW = 100000, DEADLINE = 10000 };

static gd_watched_rank ranks[RANKS];
static const int32_t tensor_leader[RANKS] = {0, 0, 2, 2}, data_leader[RANKS] = {0, 1, 0, 1};
static bool seen[RANKS];
static gd_watch watch;
static char report[4096];

static int reset(void **state) {
  (void)state;
  memset(ranks, 0, sizeof ranks);
  memset(&watch, 0, sizeof watch);
  watch.ranks = RANKS;
  watch.rank = ranks;
  watch.seen = seen;
  snprintf(watch.group_name[GD_WATCH_AGREE], 32, "control");
  snprintf(watch.group_name[TENSOR], 32, "tensor");
  snprintf(watch.group_name[DATA], 32, "data");
  watch.group_leader[TENSOR] = tensor_leader;
  watch.group_leader[DATA] = data_leader;
  for (int r = 0; r < RANKS; r++) {
    snprintf(ranks[r].host, sizeof ranks[r].host, "n%d", r / 2);
    snprintf(ranks[r].beat.phase, sizeof ranks[r].beat.phase, "backward");
    ranks[r].beat.step = 120;
    ranks[r].beat.idle_ms = DEADLINE;
    ranks[r].arrived_ms = NOW - 500;
    for (int g = 0; g < GD_WATCH_GROUPS; g++) ranks[r].beat.group[g].entered = 481;
  }
  return 0;
}

static void inside(int r, int g, const char *call, uint64_t sequence) {
  gd_beat_group *at = &ranks[r].beat.group[g];
  at->place = !strcmp(call, "exchange") ? GD_WATCH_IN_MESSAGE : GD_WATCH_IN_COLLECTIVE;
  if (at->place == GD_WATCH_IN_COLLECTIVE) at->entered = sequence;
  at->sequence = sequence;
  snprintf(at->call, sizeof at->call, "%s", call);
}

static const char *told(void) {
  gd_watch_report(&watch, NOW, DEADLINE, report, sizeof report);
  return report;
}

static void progress_within_the_deadline_is_not_stuck(void **state) {
  (void)state;
  for (int r = 0; r < RANKS; r++) ranks[r].beat.idle_ms = DEADLINE - 501;
  assert_false(gd_watch_stuck(&watch, NOW, DEADLINE));
  ranks[3].beat.idle_ms = DEADLINE - 500;
  assert_true(gd_watch_stuck(&watch, NOW, DEADLINE));
}

static void silence_counts_as_no_progress(void **state) {
  (void)state;
  for (int r = 0; r < RANKS; r++) ranks[r].beat.idle_ms = 0;
  ranks[1].arrived_ms = NOW - DEADLINE;
  assert_true(gd_watch_stuck(&watch, NOW, DEADLINE));
}

/* Where a rank waits for storage ten deadlines may pass, for those that wait for it, too; not where it sends no beats. */
static void storage_has_ten_deadlines(void **state) {
  (void)state;
  ranks[3].beat.patience = GD_WATCH_PATIENCE;
  for (int r = 0; r < 3; r++) inside(r, GD_WATCH_AGREE, "agree", 482);
  assert_false(gd_watch_stuck(&watch, NOW, DEADLINE));
  ranks[3].beat.idle_ms = 10 * DEADLINE - 501;
  assert_false(gd_watch_stuck(&watch, NOW, DEADLINE));
  ranks[3].beat.idle_ms = 10 * DEADLINE - 500;
  assert_true(gd_watch_stuck(&watch, NOW, DEADLINE));
  ranks[3].beat.idle_ms = 0;
  ranks[3].arrived_ms = NOW - DEADLINE;
  assert_true(gd_watch_stuck(&watch, NOW, DEADLINE));
}

/* Rank 3 works on a long part; 2 waits for it, 0 and 1 wait for 2 and 3. Nobody is stuck until 3 stops working. */
static void who_waits_for_a_rank_that_works_is_not_stuck(void **state) {
  (void)state;
  inside(2, TENSOR, "all_to_all", 482);
  inside(0, DATA, "all_gather", 482);
  inside(1, DATA, "all_gather", 482);
  ranks[3].beat.idle_ms = 0;
  assert_false(gd_watch_stuck(&watch, NOW, DEADLINE));
  ranks[3].beat.idle_ms = DEADLINE;
  assert_true(gd_watch_stuck(&watch, NOW, DEADLINE));
}

/* Rank 0 waits for 1, which is stuck by itself; that 2 and 3 work helps nobody, and they are not named. */
static void a_stuck_rank_is_found_beside_ranks_that_work(void **state) {
  (void)state;
  inside(0, TENSOR, "all_to_all", 482);
  inside(2, DATA, "all_gather", 482); /* waits for 0 */
  ranks[2].beat.idle_ms = ranks[3].beat.idle_ms = 0;
  assert_true(gd_watch_stuck(&watch, NOW, DEADLINE));
  told();
  assert_non_null(strstr(report, "rank 1 on n0 has not entered all_to_all #482 of group tensor"));
  assert_null(strstr(report, "rank 3"));
  assert_null(strchr(report, '\n'));
}

static void a_silent_rank_is_stuck_whatever_it_waits_for(void **state) {
  (void)state;
  for (int r = 0; r < RANKS; r++) ranks[r].beat.idle_ms = 0;
  inside(2, TENSOR, "all_to_all", 482); /* for 3, which works */
  ranks[2].arrived_ms = NOW - DEADLINE;
  assert_true(gd_watch_stuck(&watch, NOW, DEADLINE));
}

static void ranks_that_wait_for_each_other_are_stuck(void **state) {
  (void)state;
  for (int r = 0; r < RANKS; r++) inside(r, r < 2 ? DATA : GD_WATCH_AGREE, "all_gather", 482);
  assert_true(gd_watch_stuck(&watch, NOW, DEADLINE));
}

/* Rank 3 computes for ever; 2 waits for it in tensor, 0 and 1 wait for 2 and 3 in data. Only rank 3 is to blame. */
static void the_root_of_a_chain_is_named_alone(void **state) {
  (void)state;
  inside(2, TENSOR, "all_to_all", 482);
  inside(0, DATA, "all_gather", 482);
  inside(1, DATA, "all_gather", 482);
  snprintf(ranks[3].beat.phase, sizeof ranks[3].beat.phase, "forward");
  assert_string_equal(told(),
                      "rank 3 on n1 has not entered all_to_all #482 of group tensor (step 120, phase backward); its last "
                      "progress was 11 s ago in step 120, phase forward; waiting for it: ranks 2");
}

static void a_stopped_process_inside_a_call_is_named(void **state) {
  (void)state;
  for (int r = 0; r < RANKS; r++) inside(r, GD_WATCH_AGREE, "agree", 482);
  ranks[1].arrived_ms = NOW - 31000;
  assert_string_equal(told(),
                      "rank 1 on n0 does not answer; its last sign was 31 s ago in step 120, phase backward, in agree #482 "
                      "of group control; waiting for it: ranks 0 2 3");
}

static void groups_of_the_same_name_are_told_apart(void **state) {
  (void)state;
  inside(0, TENSOR, "all_to_all", 482); /* waits for 1, not for 2 and 3 */
  told();
  assert_non_null(strstr(report, "rank 1 on n0"));
  assert_null(strstr(report, "rank 2"));
  assert_null(strstr(report, "rank 3"));
}

static void ranks_that_wait_for_each_other_are_all_listed(void **state) {
  (void)state;
  inside(0, TENSOR, "all_gather", 482);
  inside(1, GD_WATCH_AGREE, "agree", 482);
  inside(2, GD_WATCH_AGREE, "agree", 482);
  inside(3, GD_WATCH_AGREE, "agree", 482);
  told();
  assert_non_null(strstr(report, "wait for each other"));
  assert_non_null(strstr(report, "rank 0 on n0: step 120, phase backward, in all_gather #482 of group tensor"));
  assert_non_null(strstr(report, "rank 1 on n0: step 120, phase backward, in agree #482 of group control"));
}

static void who_waits_in_an_exchange_for_a_rank_that_works_is_not_stuck(void **state) {
  (void)state;
  inside(0, DATA, "exchange", 7);
  for (int r = 1; r < RANKS; r++) ranks[r].beat.idle_ms = 0;
  assert_false(gd_watch_stuck(&watch, NOW, DEADLINE));
  /* Rank 2, the other one of its group, waits in a collective for rank 3, which works. */
  ranks[2].beat.idle_ms = DEADLINE;
  inside(2, TENSOR, "all_gather", 482);
  assert_false(gd_watch_stuck(&watch, NOW, DEADLINE));
  /* It hangs: that others of the job work does not help. */
  ranks[2].beat.group[TENSOR].place = GD_WATCH_OUTSIDE;
  assert_true(gd_watch_stuck(&watch, NOW, DEADLINE));
}

static void a_rank_in_no_call_is_listed_before_those_in_an_exchange(void **state) {
  (void)state;
  for (int r = 0; r < RANKS; r++)
    if (r != 3) inside(r, DATA, "exchange", 7);
  assert_true(gd_watch_stuck(&watch, NOW, DEADLINE));
  const char *hung = strstr(told(), "rank 3 on"), *waiting = strstr(report, "rank 0 on");
  assert_non_null(hung);
  assert_non_null(waiting);
  assert_true(hung < waiting);
}

static void a_lonely_exchange_is_described(void **state) {
  (void)state;
  inside(2, DATA, "exchange", 5);
  told();
  assert_non_null(strstr(report, "no rank is behind"));
  assert_non_null(strstr(report, "rank 2 on n1: step 120, phase backward, in exchange #5 of group data"));
}

static void a_task_that_hangs_is_named(void **state) {
  (void)state;
  for (int r = 0; r < 3; r++) inside(r, GD_WATCH_AGREE, "agree", 482);
  snprintf(ranks[3].beat.task[0], sizeof ranks[3].beat.task[0], "attention_backward");
  assert_string_equal(told(),
                      "rank 3 on n1 has not entered agree #482 of group control (step 120, phase backward); its last progress "
                      "was 11 s ago in step 120, phase backward, running attention_backward on the compute stream; waiting "
                      "for it: ranks 0 1 2");
  inside(3, GD_WATCH_AGREE, "agree", 482);
  snprintf(ranks[3].beat.task[1], sizeof ranks[3].beat.task[1], "copy");
  assert_non_null(strstr(told(),
                         "rank 3 on n1: step 120, phase backward, in agree #482 of group control, running "
                         "attention_backward on the compute stream, running copy on the communication stream, since"));
}

static void a_rank_in_no_call_is_placed_by_its_last_one(void **state) {
  (void)state;
  char where[200];
  inside(1, TENSOR, "all_to_all", 482);
  ranks[1].beat.last = TENSOR;
  gd_watch_where(&watch, 1, where, sizeof where);
  assert_string_equal(where, "step 120, phase backward, in all_to_all #482 of group tensor");
  ranks[1].beat.group[TENSOR].place = GD_WATCH_OUTSIDE;
  gd_watch_where(&watch, 1, where, sizeof where);
  assert_string_equal(where, "step 120, phase backward, after all_to_all #482 of group tensor");
}

static void a_long_report_is_cut_and_ends(void **state) {
  (void)state;
  char small[40];
  inside(0, GD_WATCH_AGREE, "agree", 482);
  gd_watch_report(&watch, NOW, DEADLINE, small, sizeof small);
  assert_int_equal(strlen(small), sizeof small - 1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup(progress_within_the_deadline_is_not_stuck, reset),
      cmocka_unit_test_setup(silence_counts_as_no_progress, reset),
      cmocka_unit_test_setup(storage_has_ten_deadlines, reset),
      cmocka_unit_test_setup(who_waits_for_a_rank_that_works_is_not_stuck, reset),
      cmocka_unit_test_setup(a_stuck_rank_is_found_beside_ranks_that_work, reset),
      cmocka_unit_test_setup(a_silent_rank_is_stuck_whatever_it_waits_for, reset),
      cmocka_unit_test_setup(ranks_that_wait_for_each_other_are_stuck, reset),
      cmocka_unit_test_setup(the_root_of_a_chain_is_named_alone, reset),
      cmocka_unit_test_setup(a_stopped_process_inside_a_call_is_named, reset),
      cmocka_unit_test_setup(groups_of_the_same_name_are_told_apart, reset),
      cmocka_unit_test_setup(ranks_that_wait_for_each_other_are_all_listed, reset),
      cmocka_unit_test_setup(who_waits_in_an_exchange_for_a_rank_that_works_is_not_stuck, reset),
      cmocka_unit_test_setup(a_rank_in_no_call_is_listed_before_those_in_an_exchange, reset),
      cmocka_unit_test_setup(a_lonely_exchange_is_described, reset),
      cmocka_unit_test_setup(a_task_that_hangs_is_named, reset),
      cmocka_unit_test_setup(a_rank_in_no_call_is_placed_by_its_last_one, reset),
      cmocka_unit_test_setup(a_long_report_is_cut_and_ends, reset),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
