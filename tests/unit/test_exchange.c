/* The exchange of gradients: whatever the ranks and their shares, every piece ends with its owner as the canonical tree over
 * all leaves, after log2 N swaps between neighbours first, with no more bytes than N - 1 messages had. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "shard/exchange.h"

enum { MOST_RANKS = 64 };

/* Sums are numbers that tell their association: a leaf is its index, a sum mixes both sides, left and right alike as addition
 * is commutative. */
static uint64_t mixed(uint64_t x) {
  x = (x ^ (x >> 31)) * 0x9e3779b97f4a7c15u;
  return x ^ (x >> 29);
}

static uint64_t leaf_of(int64_t leaf) {
  return mixed((uint64_t)leaf + 0x1234567u);
}

static uint64_t sum_of(uint64_t a, uint64_t b) {
  return mixed(mixed(a) + mixed(b) + 0x51ed27u);
}

static uint64_t tree_over(int64_t first, int64_t leaves) {
  if (leaves == 1) return leaf_of(first);
  int64_t left = 1;
  while (2 * left < leaves) left *= 2;
  return sum_of(tree_over(first, left), tree_over(first + left, leaves - left));
}

typedef struct sum {
  uint64_t piece[MOST_RANKS]; /* 0: not there */
} sum;

typedef struct rank_state {
  gd_exchange exchange;
  sum *buffers;
  int64_t bytes;    /* pieces sent */
  int32_t messages; /* peers written to, all stages */
} rank_state;

static gd_spec spec_of(int32_t global, int32_t time_blocks, gd_numerics numerics) {
  gd_spec spec;
  memset(&spec, 0, sizeof spec);
  spec.batch.global = global;
  spec.batch.micro = 1;
  spec.parallel.time_blocks = time_blocks;
  spec.numerics = numerics;
  return spec;
}

/* The k-th message of a stage from one rank to another is the k-th that the other expects from it. */
static void deliver(rank_state *ranks, int32_t from, int32_t to, int32_t stage) {
  const gd_exchange *out = &ranks[from].exchange, *in = &ranks[to].exchange;
  const gd_exchange_stage *a = &out->stage[stage], *b = &in->stage[stage];
  int32_t s = a->first_message, r = b->first_message, any = 0;
  for (;; s++, r++) {
    while (s < a->first_message + a->messages && !(out->message[s].send && out->message[s].peer == to)) s++;
    while (r < b->first_message + b->messages && (in->message[r].send || in->message[r].peer != from)) r++;
    bool sends = s < a->first_message + a->messages, takes = r < b->first_message + b->messages;
    assert_int_equal(sends, takes);
    if (!sends) break;
    const gd_exchange_message *m = &out->message[s], *w = &in->message[r];
    assert_int_equal(m->first_piece, w->first_piece);
    assert_int_equal(m->pieces, w->pieces);
    for (int32_t p = m->first_piece; p < m->first_piece + m->pieces; p++) {
      assert_true(ranks[from].buffers[m->buffer].piece[p] != 0);
      assert_true(ranks[to].buffers[w->buffer].piece[p] == 0); /* nothing is overwritten */
      ranks[to].buffers[w->buffer].piece[p] = ranks[from].buffers[m->buffer].piece[p];
    }
    ranks[from].bytes += m->pieces;
    any = 1;
  }
  ranks[from].messages += any;
}

static void check(const gd_spec *spec, int32_t n) {
  rank_state *ranks = calloc((size_t)n, sizeof *ranks);
  int64_t leaves = spec->numerics == GD_NUMERICS_FAST ? n : (int64_t)spec->batch.global * spec->parallel.time_blocks;
  int32_t power = 1, log2 = 0;
  for (; n % (2 * power) == 0; power *= 2) log2++;
  for (int32_t r = 0; r < n; r++) {
    gd_tree_node nodes[GD_TREE_MAX_NODES];
    gd_exchange *e = &ranks[r].exchange;
    if (gd_exchange_create(spec, n, r, e) != GD_OK) fail_msg("%s", gd_error_text());
    ranks[r].buffers = calloc((size_t)e->buffers, sizeof *ranks[r].buffers);
    int count = gd_deal_sums(spec, n, r, nodes);
    for (int32_t i = 0; i < e->buffers; i++) {
      if (e->buffer[i].sum < 0) continue;
      assert_in_range(e->buffer[i].sum, 0, count - 1);
      for (int32_t p = 0; p < n; p++)
        ranks[r].buffers[i].piece[p] = tree_over(nodes[e->buffer[i].sum].first, nodes[e->buffer[i].sum].count);
    }
    assert_int_equal(e->stages, log2 + 1);
  }
  for (int32_t stage = 0; stage < ranks[0].exchange.stages; stage++) {
    for (int32_t from = 0; from < n; from++)
      for (int32_t to = 0; to < n; to++)
        if (from != to) deliver(ranks, from, to, stage);
    for (int32_t r = 0; r < n; r++) {
      const gd_exchange *e = &ranks[r].exchange;
      const gd_exchange_stage *s = &e->stage[stage];
      for (int32_t i = s->first_add; i < s->first_add + s->adds; i++)
        for (int32_t p = s->first_piece; p < s->first_piece + s->pieces; p++) {
          uint64_t *to = &ranks[r].buffers[e->add[i].to].piece[p], from = ranks[r].buffers[e->add[i].from].piece[p];
          assert_true(*to != 0 && from != 0);
          *to = sum_of(*to, from);
        }
    }
  }
  uint64_t want = tree_over(0, leaves);
  bool even = power == n && (spec->batch.global / n & (spec->batch.global / n - 1)) == 0;
  bool owned[MOST_RANKS] = {false};
  for (int32_t r = 0; r < n; r++) {
    int32_t mine = gd_deal_piece(n, r);
    gd_exchange *e = &ranks[r].exchange;
    assert_true(mine >= 0 && mine < n && !owned[mine]); /* each piece has one owner */
    owned[mine] = true;
    if (ranks[r].buffers[e->result].piece[mine] != want) fail_msg("%d ranks: piece %d is no tree", n, mine);
    assert_int_equal(ranks[r].messages, log2 + n / power - 1);
    if (even || spec->numerics == GD_NUMERICS_FAST) assert_true(power < n || ranks[r].bytes == n - 1);
    /* Received nodes lie behind each other. */
    int64_t at = 0;
    for (int32_t m = 0; m < e->messages; m++) {
      if (e->message[m].send) continue;
      assert_int_equal(e->buffer[e->message[m].buffer].at, at);
      assert_int_equal(e->buffer[e->message[m].buffer].first_piece, e->message[m].first_piece);
      at += e->message[m].pieces;
    }
    assert_int_equal(at, e->received_pieces);
    int64_t sent, received;
    gd_exchange_count(spec, n, r, &sent, &received);
    assert_int_equal(received, at);
    assert_int_equal(sent, ranks[r].bytes);
    free(ranks[r].buffers);
    gd_exchange_free(e);
  }
  free(ranks);
}

static void every_piece_ends_as_the_tree_over_all_leaves(void **state) {
  (void)state;
  for (int32_t n = 1; n <= MOST_RANKS; n++)
    for (int32_t share = 1; share <= 7; share++)
      for (int32_t k = 1; k <= 4; k *= 4) {
        gd_spec spec = spec_of(n * share, k, GD_NUMERICS_INVARIANT);
        check(&spec, n);
      }
}

static void fast_sums_of_ranks_are_a_tree_too(void **state) {
  (void)state;
  for (int32_t n = 1; n <= MOST_RANKS; n++) {
    gd_spec spec = spec_of(3 * n, 1, GD_NUMERICS_FAST);
    check(&spec, n);
  }
}

static void halves_go_to_neighbours_first(void **state) {
  (void)state;
  gd_spec spec = spec_of(16, 1, GD_NUMERICS_INVARIANT);
  gd_exchange e;
  assert_int_equal(gd_exchange_create(&spec, 8, 5, &e), GD_OK);
  assert_int_equal(e.stages, 4);
  const int32_t peers[] = {4, 7, 1}, pieces[] = {4, 2, 1};
  for (int i = 0; i < 3; i++) {
    assert_int_equal(e.stage[i].messages, 2);
    assert_int_equal(e.message[e.stage[i].first_message].peer, peers[i]);
    assert_int_equal(e.stage[i].pieces, pieces[i]);
    assert_int_equal(e.stage[i].adds, 1);
  }
  assert_int_equal(e.stage[3].messages, 0);
  assert_int_equal(e.stage[3].first_piece, 5); /* 101 in reverse */
  gd_exchange_free(&e);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_piece_ends_as_the_tree_over_all_leaves),
      cmocka_unit_test(fast_sums_of_ranks_are_a_tree_too),
      cmocka_unit_test(halves_go_to_neighbours_first),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
