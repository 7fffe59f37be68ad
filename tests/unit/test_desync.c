/* The calls of several ranks, made up and compared: who disagrees about what, and who is only late. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "comm/calls_sum.h"
#include "comm/desync.h"

enum { RANKS = 4, TENSOR = 2, DATA = 3, NOW = 100000 };

static gd_watched_rank ranks[RANKS];
static bool seen[RANKS];
static gd_watch watch;
static const int32_t tensor_leader[RANKS] = {0, 0, 2, 2}, data_leader[RANKS] = {0, 1, 0, 1};
static gd_calls *calls[RANKS]; /* as each rank would have them */
static gd_group *groups[RANKS][2];
static gd_rank_calls gathered[RANKS];
static char text[2048];
static gd_device device;

static int start(void **state) {
  (void)state;
  memset(ranks, 0, sizeof ranks);
  watch = (gd_watch){.ranks = RANKS, .rank = ranks, .seen = seen};
  watch.group_leader[TENSOR] = tensor_leader;
  watch.group_leader[DATA] = data_leader;
  snprintf(watch.group_name[TENSOR], 32, "tensor");
  snprintf(watch.group_name[DATA], 32, "data");
  if (gd_device_open_cpu(&device) != GD_OK) return -1;
  for (int32_t r = 0; r < RANKS; r++) {
    snprintf(ranks[r].host, sizeof ranks[r].host, "node%d", r);
    ranks[r].arrived_ms = NOW;
    calls[r] = calloc(1, sizeof *calls[r]);
    gd_calls_open(calls[r]);
    gathered[r].call = calloc(GD_CALLS, sizeof(gd_call));
    for (int i = 0; i < 2; i++)
      if (gd_calls_watch(calls[r], i, "session", NULL, 0, r, RANKS) != GD_OK) return -1;
    for (int i = 0; i < 2; i++) {
      /* Of two ranks in its own book, of one for the back end, which moves nothing between ranks. */
      const int32_t *leader = i ? data_leader : tensor_leader;
      int32_t mine = leader[r] == r ? 0 : 1;
      if (gd_collectives_self_group(i ? "data" : "tensor", &groups[r][i]) != GD_OK ||
          gd_calls_watch(calls[r], TENSOR + i, i ? "data" : "tensor", groups[r][i], leader[r], mine, 2) != GD_OK)
        return -1;
    }
  }
  return 0;
}

static int end(void **state) {
  (void)state;
  for (int32_t r = 0; r < RANKS; r++) {
    for (int i = 0; i < 2; i++) groups[r][i]->ops->destroy(groups[r][i]);
    gd_calls_close(calls[r]);
    free(calls[r]);
    free(gathered[r].call);
  }
  device.ops->close(&device);
  return 0;
}

static char memory[2][256];

static void gather(int32_t r, int group, size_t bytes) {
  gd_group *g = groups[r][group - TENSOR];
  assert_int_equal(g->ops->all_gather(g, device.compute, memory[0], memory[1], bytes), GD_OK);
}

static void reduce(int32_t r, int group, size_t elements, gd_dtype dtype, gd_reduction op) {
  gd_group *g = groups[r][group - TENSOR];
  assert_int_equal(g->ops->all_reduce(g, device.compute, memory[0], elements, dtype, op), GD_OK);
}

/* The back end refuses it, being one of one rank; it is written down all the same. */
static void message(int32_t r, int group, gd_direction direction, int32_t peer, size_t bytes) {
  gd_group *g = groups[r][group - TENSOR];
  const gd_message one = {direction, peer, memory[0], bytes};
  (void)!g->ops->exchange(g, device.compute, &one, 1);
  gd_error_clear();
}

static bool all_agree(void) {
  int64_t sum = 0;
  for (int32_t r = 0; r < RANKS; r++) sum += gd_calls_digest(calls[r]);
  return (sum & GD_CALLS_SUM_MASK) == 0;
}

static bool find(bool differ) {
  memset(text, 0, sizeof text);
  for (int32_t r = 0; r < RANKS; r++)
    gathered[r].count = gd_calls_copy(calls[r], gathered[r].call, GD_CALLS, &gathered[r].first);
  return gd_desync_find(gathered, &watch, differ, NOW, text, sizeof text);
}

static void step(void) {
  for (int32_t r = 0; r < RANKS; r++) {
    gather(r, TENSOR, 64);
    message(r, DATA, GD_SEND, r < 2 ? 1 : 0, 32);
    message(r, DATA, GD_RECEIVE, r < 2 ? 1 : 0, 32);
    gather(r, DATA, 16);
  }
}

static void equal_calls_are_no_difference(void **state) {
  (void)state;
  for (int i = 0; i < 2000; i++) step(); /* the ring has gone round */
  assert_true(all_agree());
  assert_false(find(false));
  assert_false(find(true));
}

static void each_argument_counts(void **state) {
  (void)state;
  for (int what = 0; what < 5; what++) {
    step();
    for (int32_t r = 0; r < RANKS; r++) {
      bool bad = r == 3;
      if (what == 4 && bad)
        gather(r, TENSOR, 8);
      else
        reduce(r, TENSOR, bad && what == 0 ? 7 : 8, bad && what == 1 ? GD_INT32 : GD_FLOAT32,
               bad && what == 2 ? GD_SUM : GD_MAX);
    }
    if (what == 3) {
      assert_true(all_agree());
      assert_false(find(true));
      continue;
    }
    assert_false(all_agree());
    assert_true(find(false));
    assert_non_null(strstr(text, "ranks 2 and 3 disagree about call #"));
    assert_non_null(strstr(text, "of group tensor: rank 2 on node2: all_reduce of 8 float32, max; rank 3 on node3: "));
    end(NULL);
    assert_int_equal(start(NULL), 0);
  }
}

static void the_first_difference_is_named(void **state) {
  (void)state;
  step();
  gather(0, DATA, 16), gather(2, DATA, 17); /* ranks 0 and 2 are a data group */
  gather(0, TENSOR, 24), gather(1, TENSOR, 25);
  assert_true(find(false));
  assert_non_null(strstr(text, "ranks 0 and 2 disagree about call #2 of group data: "));
  assert_non_null(strstr(text, "16 bytes a rank; rank 2 on node2: all_gather of 17 bytes a rank"));
}

static void a_message_has_two_ends_of_one_size(void **state) {
  (void)state;
  step();
  message(1, DATA, GD_SEND, 1, 40);
  assert_false(all_agree());
  assert_false(find(false)); /* its receiver may be late */
  message(3, DATA, GD_RECEIVE, 0, 39);
  assert_false(all_agree());
  assert_true(find(false));
  assert_string_equal(text,
                      "ranks 1 and 3 disagree about message #2 of group data: rank 1 on node1: send of 40 bytes to rank 1 of "
                      "the group; rank 3 on node3: receive of 39 bytes from rank 0 of the group");
}

static void in_call(int32_t r, int g, uint64_t number) {
  ranks[r].beat.group[g].place = GD_WATCH_IN_COLLECTIVE;
  ranks[r].beat.group[g].entered = ranks[r].beat.group[g].sequence = number;
}

static void who_is_late_does_not_disagree(void **state) {
  (void)state;
  step();
  for (int32_t r = 0; r < RANKS; r++)
    for (int g = TENSOR; g <= DATA; g++) ranks[r].beat.group[g].entered = 1;
  gather(0, TENSOR, 64), in_call(0, TENSOR, 2);
  gather(1, DATA, 16), in_call(1, DATA, 2);
  gather(2, TENSOR, 64), in_call(2, TENSOR, 2);
  assert_false(find(false)); /* rank 3 works */
  gather(3, TENSOR, 64), in_call(3, TENSOR, 2);
  assert_false(find(false)); /* ranks 2 and 3 are on their way through the same call */
  ranks[3].beat.group[TENSOR] = (gd_beat_group){.entered = 2, .sequence = 2};
  gather(2, DATA, 16), in_call(2, DATA, 2);
  ranks[2].beat.group[TENSOR].place = GD_WATCH_OUTSIDE;
  gather(3, TENSOR, 64), in_call(3, TENSOR, 3);
  assert_true(find(false)); /* 0 waits for 1, which waits for 3, which waits for 2, which waits for 0 */
  assert_non_null(
      strstr(text, "ranks 0 and 1 disagree about call #2 of group tensor: rank 0 on node0: all_gather of 64 bytes"));
  assert_non_null(strstr(text, "rank 1 on node1 has not made it, its newest call is #2 of group data: all_gather of 16 bytes"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(equal_calls_are_no_difference, start, end),
      cmocka_unit_test_setup_teardown(each_argument_counts, start, end),
      cmocka_unit_test_setup_teardown(the_first_difference_is_named, start, end),
      cmocka_unit_test_setup_teardown(a_message_has_two_ends_of_one_size, start, end),
      cmocka_unit_test_setup_teardown(who_is_late_does_not_disagree, start, end),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
