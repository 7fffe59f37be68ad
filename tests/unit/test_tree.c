/* The canonical tree: any cut of the leaves over ranks and micro-batches gives the sum of the one-rank tree, bit for bit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "shard/tree.h"

/* The definition: a range splits at the largest power of two below its length. */
static float tree_by_definition(const float *leaves, int64_t n) {
  if (n == 1) return leaves[0];
  int64_t half = 1;
  while (2 * half < n) half *= 2;
  return tree_by_definition(leaves, half) + tree_by_definition(leaves + half, n - half);
}

static float leaf_value(int64_t i) {
  return (float)((double)(i * 2654435761 % 1000003) / 7.0 - 70000.0) * 1.000001f;
}

static void nodes_cover_any_range_once(void **state) {
  (void)state;
  for (int64_t first = 0; first < 40; first++)
    for (int64_t end = first; end < 80; end++) {
      gd_tree_node nodes[GD_TREE_MAX_NODES];
      int count = gd_tree_nodes(first, end, nodes);
      int64_t at = first;
      for (int i = 0; i < count; i++) {
        assert_int_equal(nodes[i].first, at);
        assert_int_equal(nodes[i].count & (nodes[i].count - 1), 0);
        assert_int_equal(nodes[i].first % nodes[i].count, 0);
        at += nodes[i].count;
      }
      assert_int_equal(at, end);
      assert_int_equal(gd_tree_node_count(first, end), count);
    }
}

/* `ranks` ranks hold equal shares and count them up in micro-batches; their nodes are finished by one owner. */
static float cut_sum(const float *leaves, int64_t n, int64_t ranks, int64_t micro) {
  gd_tree_node nodes[256];
  gd_tree_add adds[256];
  float sums[256];
  int count = 0;
  for (int64_t r = 0; r < ranks; r++) {
    int64_t first = n * r / ranks, end = n * (r + 1) / ranks;
    gd_tree_counter counter;
    float slots[64];
    gd_tree_counter_reset(&counter);
    for (int64_t at = first; at < end; at += micro) {
      gd_tree_node list[GD_TREE_MAX_NODES];
      int32_t taken[GD_TREE_MAX_NODES];
      int pieces = gd_tree_nodes(at, at + micro < end ? at + micro : end, list);
      for (int i = 0; i < pieces; i++) {
        taken[i] = gd_tree_counter_take(&counter);
        slots[taken[i]] = tree_by_definition(leaves + list[i].first, list[i].count);
      }
      for (int i = 0; i < pieces; i++) {
        int merges = gd_tree_counter_push(&counter, list[i], taken[i], adds);
        for (int m = 0; m < merges; m++) slots[adds[m].to] += slots[adds[m].from];
      }
    }
    assert_true(counter.count == 0 || counter.slots[0] == 0);
    for (int i = 0; i < counter.count; i++) {
      nodes[count] = counter.nodes[i];
      sums[count++] = slots[counter.slots[i]];
    }
  }
  int merges = gd_tree_finish(nodes, count, adds);
  assert_int_equal(merges, count - 1);
  for (int m = 0; m < merges; m++) sums[adds[m].to] += sums[adds[m].from];
  return sums[0];
}

static void every_cut_gives_the_same_bits(void **state) {
  (void)state;
  float leaves[96];
  for (int64_t i = 0; i < 96; i++) leaves[i] = leaf_value(i);
  for (int64_t n = 1; n <= 96; n++) {
    float want = tree_by_definition(leaves, n);
    for (int64_t ranks = 1; ranks <= 9 && ranks <= n; ranks++)
      for (int64_t micro = 1; micro <= 7; micro++) {
        float got = cut_sum(leaves, n, ranks, micro);
        assert_memory_equal(&got, &want, sizeof got);
      }
  }
}

static void a_plain_running_sum_would_differ(void **state) {
  (void)state;
  float leaves[96], chain = 0;
  int differ = 0;
  for (int64_t i = 0; i < 96; i++) {
    chain += leaves[i] = leaf_value(i);
    differ += chain != tree_by_definition(leaves, i + 1);
  }
  assert_in_range(differ, 20, 96); /* else the test above could not fail */
}

static void slots_suffice_for_every_share(void **state) {
  (void)state;
  for (int64_t first = 0; first < 20; first++)
    for (int64_t end = first + 1; end < 60; end++)
      for (int64_t step = 1; step < 9; step++) {
        gd_tree_counter counter;
        gd_tree_counter_reset(&counter);
        int32_t most = gd_tree_counter_slots(first, end, step);
        for (int64_t at = first; at < end; at += step) {
          gd_tree_node list[GD_TREE_MAX_NODES];
          gd_tree_add adds[GD_TREE_LEVELS];
          int32_t taken[GD_TREE_MAX_NODES];
          int pieces = gd_tree_nodes(at, at + step < end ? at + step : end, list);
          for (int i = 0; i < pieces; i++) {
            taken[i] = gd_tree_counter_take(&counter);
            assert_true(taken[i] < most);
          }
          for (int i = 0; i < pieces; i++) gd_tree_counter_push(&counter, list[i], taken[i], adds);
        }
      }
}

/* A counter over single sequences holds one node a level and the new one; whole powers of two need one slot. */
static void merged_slots_are_used_again(void **state) {
  (void)state;
  for (int32_t levels = 0; levels < 10; levels++) {
    int64_t count = (int64_t)1 << levels;
    assert_int_equal(gd_tree_counter_slots(0, count, 1), levels + 1);
    assert_int_equal(gd_tree_counter_slots(0, count, count), 1);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(nodes_cover_any_range_once),       cmocka_unit_test(every_cut_gives_the_same_bits),
      cmocka_unit_test(a_plain_running_sum_would_differ), cmocka_unit_test(slots_suffice_for_every_share),
      cmocka_unit_test(merged_slots_are_used_again),
  };
  return cmocka_run_group_tests(tests, 0, 0);
}
