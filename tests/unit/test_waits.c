/* For whom the others waited, from made-up calls of three ranks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "comm/waits.h"

enum { RANKS = 3, ALL = 0, PAIR = 2 };

static gd_watched_rank ranks[RANKS];
static const int32_t pair_leader[RANKS] = {0, 0, 2};
static gd_watch watch;
static gd_rank_calls gathered[RANKS];
static double waited[RANKS];
static char text[256];

static int start(void **state) {
  (void)state;
  memset(ranks, 0, sizeof ranks);
  watch = (gd_watch){.ranks = RANKS, .rank = ranks};
  watch.group_leader[PAIR] = pair_leader;
  for (int r = 0; r < RANKS; r++) {
    snprintf(ranks[r].host, sizeof ranks[r].host, "node%d", r);
    gathered[r] = (gd_rank_calls){.call = calloc(16, sizeof(gd_call))};
  }
  return 0;
}

static int end(void **state) {
  (void)state;
  for (int r = 0; r < RANKS; r++) free(gathered[r].call);
  return 0;
}

static void made(int r, int g, uint64_t number, double seconds) {
  gd_call call = {.kind = GD_CALL_ALL_GATHER, .entry = (uint8_t)g, .number = number};
  call.duration_us = seconds < 0 ? UINT32_MAX : (uint32_t)(seconds * 1e6);
  gathered[r].call[gathered[r].count++] = call;
}

static void rank(void) {
  gd_waits_sum(gathered, &watch, waited);
  gd_waits_text(&watch, waited, text, sizeof text);
}

static void who_comes_last_is_waited_for(void **state) {
  (void)state;
  made(0, ALL, 7, 1.5), made(1, ALL, 7, 0.5), made(2, ALL, 7, 2.5); /* for 1: 1 s and 2 s */
  made(0, PAIR, 3, 0.25), made(1, PAIR, 3, 1.25);                   /* for 0: 1 s */
  made(2, PAIR, 3, 9);                                              /* alone in its group */
  rank();
  assert_string_equal(text, "rank 1 on node1 3.00 s, rank 0 on node0 1.00 s");
}

static void only_calls_that_all_have_ended_count(void **state) {
  (void)state;
  made(1, ALL, 6, 0), made(2, ALL, 6, 5); /* rank 0 has forgotten it */
  made(0, ALL, 7, 1), made(1, ALL, 7, 0), made(2, ALL, 7, 1);
  made(0, ALL, 8, 4), made(1, ALL, 8, -1), made(2, ALL, 8, 4);
  made(0, ALL, 9, 0), made(1, ALL, 9, 0.5), made(2, ALL, 9, 0.5);
  rank();
  assert_string_equal(text, "rank 1 on node1 2.00 s, rank 0 on node0 1.00 s");
}

static void nobody_waits_for_nobody(void **state) {
  (void)state;
  rank();
  assert_string_equal(text, "");
  made(0, ALL, 7, 1);
  made(2, ALL, 7, 1);
  gathered[1].count = 0; /* it did not answer */
  rank();
  assert_string_equal(text, "");
  made(0, ALL, 8, 0.001), made(2, ALL, 8, 0.002);
  made(0, ALL, 9, 3), made(2, ALL, 9, 1);
  rank();
  assert_string_equal(text, "rank 2 on node2 2.00 s"); /* 0.05 % of it say nothing */
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(who_comes_last_is_waited_for, start, end),
      cmocka_unit_test_setup_teardown(only_calls_that_all_have_ended_count, start, end),
      cmocka_unit_test_setup_teardown(nobody_waits_for_nobody, start, end),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
