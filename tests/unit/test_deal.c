/* Who computes what: every sequence once, and the sums of all data ranks are the leaves of the whole tree. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "shard/deal.h"

static gd_spec spec_of(int32_t global, int32_t micro, int32_t time_blocks, gd_numerics numerics) {
  gd_spec spec;
  memset(&spec, 0, sizeof spec);
  spec.batch.global = global;
  spec.batch.micro = micro;
  spec.parallel.time_blocks = time_blocks;
  spec.numerics = numerics;
  return spec;
}

static void every_sequence_is_in_one_round_of_one_rank(void **state) {
  (void)state;
  for (int32_t data = 1; data <= 12; data++)
    for (int32_t share = 1; share <= 9; share++)
      for (int32_t micro = 1; micro <= share; micro++) {
        gd_spec spec = spec_of(data * share, micro, 1, GD_NUMERICS_INVARIANT);
        int64_t next = 0;
        for (int32_t rank = 0; rank < data; rank++) {
          gd_deal all = gd_deal_share(&spec, data, rank);
          assert_int_equal(all.first_sequence, next);
          assert_int_equal(all.sequences, share);
          for (int32_t i = 0; i < gd_deal_rounds(&spec, data); i++) {
            gd_deal round = gd_deal_round(&spec, data, rank, i);
            assert_int_equal(round.first_sequence, next);
            assert_in_range(round.sequences, 1, micro);
            next += round.sequences;
          }
        }
        assert_int_equal(next, data * share);
      }
}

/* In order and without gaps, each an aligned run of leaves; whole sequences are as many nodes whatever K is. */
static void sums_are_complete_nodes_of_the_tree(void **state) {
  (void)state;
  gd_tree_node nodes[GD_TREE_MAX_NODES], one[GD_TREE_MAX_NODES];
  for (int32_t data = 1; data <= 9; data++)
    for (int32_t share = 1; share <= 9; share++)
      for (int32_t k = 1; k <= 8; k *= 2) {
        gd_spec spec = spec_of(data * share, 1, k, GD_NUMERICS_INVARIANT);
        gd_spec uncut = spec_of(data * share, 1, 1, GD_NUMERICS_INVARIANT);
        int64_t next = 0;
        for (int32_t rank = 0; rank < data; rank++) {
          int count = gd_deal_sums(&spec, data, rank, nodes);
          assert_int_equal(count, gd_deal_sums(&uncut, data, rank, one));
          for (int i = 0; i < count; i++) {
            assert_int_equal(nodes[i].first, next);
            assert_int_equal(nodes[i].first % nodes[i].count, 0);
            assert_int_equal(nodes[i].count, one[i].count * k);
            next += nodes[i].count;
          }
          assert_int_equal(gd_deal_slots(&spec, data, rank, 1), gd_deal_slots(&uncut, data, rank, 1));
        }
        assert_int_equal(next, (int64_t)data * share * k);
      }
}

static void fast_keeps_one_running_sum_a_rank(void **state) {
  (void)state;
  gd_tree_node nodes[GD_TREE_MAX_NODES];
  gd_spec spec = spec_of(24, 2, 1, GD_NUMERICS_FAST);
  for (int32_t rank = 0; rank < 3; rank++) {
    assert_int_equal(gd_deal_sums(&spec, 3, rank, nodes), 1);
    assert_int_equal(nodes[0].first, rank);
    assert_int_equal(nodes[0].count, 1);
    assert_int_equal(gd_deal_slots(&spec, 3, rank, 2), 1);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_sequence_is_in_one_round_of_one_rank),
      cmocka_unit_test(sums_are_complete_nodes_of_the_tree),
      cmocka_unit_test(fast_keeps_one_running_sum_a_rank),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
