/* The step tables of all ranks fit together on every layout of up to 64 ranks, and gd_plan_check finds what makes them not fit.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "shard/plan_check.h"
#include "tests/small_spec.h"

enum { RANKS = 64 };

static gd_layout layouts[RANKS];
static gd_plan plans[RANKS];
static int32_t built;

static gd_spec spec_of(bool llama, int32_t tensor, int32_t zero, int32_t global, int32_t micro, gd_pass_order passes) {
  gd_spec spec = small_spec(llama, tensor, zero);
  spec.model.layers = 3;
  spec.model.heads = spec.model.kv_heads = 8;
  spec.parallel.passes = passes;
  spec.batch.global = global;
  spec.batch.micro = micro;
  spec.numerics = GD_NUMERICS_FAST;
  return spec;
}

static void give_back(void) {
  for (; built > 0; built--) {
    gd_plan_free(&plans[built - 1]);
    gd_layout_free(&layouts[built - 1]);
  }
}

static void build(gd_spec spec, int32_t ranks) {
  gd_mesh mesh;
  give_back();
  assert_int_equal(gd_spec_resolve(&spec, ranks), GD_OK);
  assert_int_equal(gd_mesh_init(&mesh, ranks, spec.parallel.tensor, 1, 1), GD_OK);
  for (; built < ranks; built++) {
    assert_int_equal(gd_layout_create(&spec, &mesh, built, &layouts[built]), GD_OK);
    assert_int_equal(gd_plan_create(&layouts[built], &plans[built]), GD_OK);
  }
}

static void fits(void) {
  if (gd_plan_check(layouts, plans, built) != GD_OK) fail_msg("%s", gd_error_text());
}

static void does_not_fit(const char *why) {
  if (gd_plan_check(layouts, plans, built) != GD_BUG) fail_msg("found nothing, should have: %s", why);
  if (!strstr(gd_error_text(), why)) fail_msg("found \"%s\", should have: %s", gd_error_text(), why);
  gd_error_clear();
}

static void tables_of_every_layout_fit_together(void **state) {
  (void)state;
  for (int32_t ranks = 1; ranks <= RANKS; ranks++)
    for (int32_t tensor = 1; tensor <= 8; tensor *= 2)
      for (int variant = 0; ranks % tensor == 0 && variant < 16; variant++) {
        int32_t data = ranks / tensor;
        build(spec_of(variant & 1, tensor, variant >> 1 & 1, 5 * data, variant & 4 ? 2 : 1,
                      variant & 8 ? GD_PASSES_ALL_FORWARD : GD_PASSES_ONE_BY_ONE),
              ranks);
        if (gd_plan_check(layouts, plans, built) != GD_OK)
          fail_msg("%d ranks, tensor %d, variant %d: %s", ranks, tensor, variant, gd_error_text());
      }
  give_back();
}

/* Backward ends at the lowest layer that learns, and only what is trained is summed and gathered. */
static void tables_fit_together_where_a_part_is_frozen(void **state) {
  (void)state;
  for (int part = 0; part < TRAINED_PARTS; part++)
    for (int32_t ranks = 1; ranks <= 12; ranks++)
      for (int32_t tensor = 1; tensor <= 4; tensor *= 2)
        for (int variant = 0; ranks % tensor == 0 && variant < 16; variant++) {
          int32_t data = ranks / tensor, reduces = 0, gathers = 0, lowest = trained_parts[part].lowest;
          gd_spec spec = spec_of(variant & 1, tensor, variant >> 1 & 1, 5 * data, variant & 4 ? 2 : 1,
                                 variant & 8 ? GD_PASSES_ALL_FORWARD : GD_PASSES_ONE_BY_ONE);
          if (!train_part(&spec, part, variant & 1)) continue;
          if (lowest == 1 && strcmp(trained_parts[part].patterns[0], "top:1") == 0) lowest = 2; /* of three layers */
          build(spec, ranks);
          if (gd_plan_check(layouts, plans, built) != GD_OK)
            fail_msg("%s, %d ranks, tensor %d, variant %d: %s", trained_parts[part].patterns[0], ranks, tensor, variant,
                     gd_error_text());
          int32_t deepest = 3;
          for (int32_t row = 0; row < plans[0].count; row++) {
            const gd_action *a = &plans[0].actions[row];
            reduces += a->kind == GD_DO_REDUCE;
            gathers += a->kind == GD_DO_GATHER;
            if (a->kind == GD_DO_BACKWARD && a->first_layer - a->layers + 1 < deepest) deepest = a->first_layer - a->layers + 1;
          }
          int32_t trained = 0, tied = layouts[0].tied_head_bucket >= 0;
          for (int32_t b = 0; b < layouts[0].bucket_count; b++) trained += layouts[0].buckets[b].trained;
          assert_int_equal(deepest, lowest < 0 ? 3 : lowest);
          assert_int_equal(reduces, trained + tied);
          assert_int_equal(gathers, data > 1 && spec.parallel.zero ? trained : 0);
        }
  give_back();
}

/* ---- faults ---- */

/* The first row of a kind from `row` on. */
static int32_t row_of(int32_t rank, gd_action_kind kind, int32_t row) {
  while (row < plans[rank].count && plans[rank].actions[row].kind != kind) row++;
  assert_true(row < plans[rank].count);
  return row;
}

static gd_action *first(int32_t rank, gd_action_kind kind) {
  return &plans[rank].actions[row_of(rank, kind, 0)];
}

static void insert(int32_t rank, int32_t row, gd_action action) {
  gd_plan *plan = &plans[rank];
  plan->actions = realloc(plan->actions, ((size_t)plan->count + 1) * sizeof *plan->actions);
  assert_non_null(plan->actions);
  memmove(plan->actions + row + 1, plan->actions + row, (size_t)(plan->count++ - row) * sizeof *plan->actions);
  for (int32_t i = 0; i < plan->count; i++)
    if (plan->actions[i].waits_for >= row) plan->actions[i].waits_for++;
  plan->actions[row] = action;
}

static void drop(int32_t rank, int32_t row) {
  gd_plan *plan = &plans[rank];
  memmove(plan->actions + row, plan->actions + row + 1, (size_t)(--plan->count - row) * sizeof *plan->actions);
  for (int32_t i = 0; i < plan->count; i++)
    if (plan->actions[i].waits_for > row) plan->actions[i].waits_for--;
}

static void exchange(int32_t rank, int32_t a, int32_t b) {
  gd_action kept = plans[rank].actions[a];
  plans[rank].actions[a] = plans[rank].actions[b];
  plans[rank].actions[b] = kept;
}

static gd_action message(int32_t peer, bool sends, int32_t micro) {
  return (gd_action){
      .kind = GD_DO_MESSAGE, .micro = micro, .bucket = -1, .slot = 0, .peer = peer, .sends = sends, .waits_for = -1};
}

static void usual(gd_pass_order passes) {
  build(spec_of(false, 2, 1, 6, 1, passes), 4); /* data 2: three micro-batches */
}

static void what_belongs_to_one_table(void **state) {
  (void)state;
  usual(GD_PASSES_ALL_FORWARD);
  assert_int_equal(plans[0].slots, 3);
  fits();
  plans[2].actions[row_of(2, GD_DO_FORWARD, 1)].slot = 0;
  does_not_fit("rank 2, row 1 (forward): writes an activation slot while another micro-batch is alive in it");

  /* The second micro-batch goes back before the first. */
  usual(GD_PASSES_ALL_FORWARD);
  int32_t head = row_of(1, GD_DO_HEAD, 0);
  exchange(1, head, head + 2);
  exchange(1, head + 1, head + 3);
  does_not_fit("rank 1, row 5 (head): micro-batches do not come ascending into a gradient");

  usual(GD_PASSES_ALL_FORWARD);
  exchange(1, head + 1, head + 2);
  does_not_fit("rank 1, row 4 (head): writes over the gradient of another micro-batch on its way back");

  usual(GD_PASSES_ONE_BY_ONE);
  first(3, GD_DO_BACKWARD)->slot = 1;
  does_not_fit("rank 3, row 2 (backward): names no micro-batch or slot of the step");

  usual(GD_PASSES_ONE_BY_ONE);
  drop(0, row_of(0, GD_DO_HEAD, 0));
  does_not_fit("rank 0, row 1 (backward): comes before the head");

  usual(GD_PASSES_ONE_BY_ONE);
  first(0, GD_DO_FORWARD)->layers = 2;
  does_not_fit("rank 0, row 1 (head): does not come once, after the last layer");

  usual(GD_PASSES_ONE_BY_ONE);
  int32_t reduce = row_of(0, GD_DO_REDUCE, row_of(0, GD_DO_REDUCE, 0) + 2);
  exchange(0, reduce, reduce - 1);
  plans[0].actions[reduce - 1].waits_for = reduce - 2;
  does_not_fit("sums a bucket before its last micro-batch");

  usual(GD_PASSES_ONE_BY_ONE);
  first(0, GD_DO_FORWARD)->waits_for = GD_WAITS_NOTHING;
  does_not_fit("rank 0, row 0 (forward): does not wait for the weights that the step before gathers");
}

static void what_waits_for_what(void **state) {
  (void)state;
  usual(GD_PASSES_ONE_BY_ONE);
  plans[1].actions[row_of(1, GD_DO_REDUCE, row_of(1, GD_DO_REDUCE, 0) + 3)].waits_for--;
  does_not_fit("does not wait for the bucket's last gradients");

  usual(GD_PASSES_ONE_BY_ONE);
  first(1, GD_DO_VOTE)->waits_for = GD_WAITS_NOTHING;
  does_not_fit("(vote): does not wait for the last sum");

  usual(GD_PASSES_ONE_BY_ONE);
  first(1, GD_DO_GATHER)->waits_for = row_of(1, GD_DO_VOTE, 0);
  does_not_fit("(gather): does not wait for the update");

  usual(GD_PASSES_ONE_BY_ONE);
  int32_t vote = row_of(2, GD_DO_VOTE, 0);
  exchange(2, vote, vote + 1);
  does_not_fit("(update): comes before the vote");

  usual(GD_PASSES_ONE_BY_ONE);
  drop(2, plans[2].count - 1);
  does_not_fit("the table ends, and the updated final_norm is not gathered");

  usual(GD_PASSES_ONE_BY_ONE);
  first(2, GD_DO_REDUCE)->waits_for = plans[2].count - 1;
  does_not_fit("(reduce): waits for a row that is not before it");

  usual(GD_PASSES_ONE_BY_ONE);
  int32_t reduce = row_of(0, GD_DO_REDUCE, 0);
  insert(0, reduce + 2, plans[0].actions[reduce]);
  does_not_fit("(reduce): sums a bucket twice");
}

static void what_is_frozen_stays_where_it_is(void **state) {
  (void)state;
  gd_spec spec = spec_of(false, 2, 1, 6, 1, GD_PASSES_ONE_BY_ONE);
  train_also(&spec, "layers.1.mlp.*");
  build(spec, 4);
  fits();
  gd_action *backward = first(1, GD_DO_BACKWARD);
  assert_int_equal(backward->layers, 2);
  backward->layers = 3;
  does_not_fit("rank 1, row 2 (backward): goes below the lowest layer that learns");

  build(spec, 4);
  int32_t frozen = layouts[0].parameters[layouts[0].layers[1].qkv_weight].bucket;
  first(0, GD_DO_REDUCE)->bucket = frozen;
  does_not_fit("(reduce): sums a frozen bucket");

  build(spec, 4);
  first(2, GD_DO_GATHER)->bucket = frozen;
  does_not_fit("(gather): gathers a frozen bucket, which no update changed");

  build(spec, 4);
  drop(3, row_of(3, GD_DO_REDUCE, 0));
  first(3, GD_DO_VOTE)->waits_for = GD_WAITS_NOTHING;
  does_not_fit("(vote): comes before all buckets are summed");

  /* Where the head alone learns, its row ends a micro-batch. */
  spec = spec_of(true, 2, 1, 6, 1, GD_PASSES_ONE_BY_ONE);
  train_also(&spec, "head");
  build(spec, 4);
  fits();
  for (int32_t row = 0; row < plans[0].count; row++) assert_int_not_equal(plans[0].actions[row].kind, GD_DO_BACKWARD);
  drop(0, row_of(0, GD_DO_HEAD, 0));
  does_not_fit("rank 0, row 1 (forward): writes an activation slot while another micro-batch is alive in it");
  give_back();
}

static void what_ranks_do_together(void **state) {
  (void)state;
  usual(GD_PASSES_ONE_BY_ONE);
  int32_t reduce = row_of(2, GD_DO_REDUCE, 0);
  exchange(2, reduce, reduce + 1);
  does_not_fit(
      "rank 2, row 8 (reduce of final_norm) and rank 0, row 8 (reduce of tied_head): a group meets in two different rows");

  /* A rank of the same data group that is a gather short. */
  usual(GD_PASSES_ONE_BY_ONE);
  int32_t gather = row_of(3, GD_DO_GATHER, 0);
  exchange(3, gather, gather + 1);
  does_not_fit("a group meets in two different rows");
}

static void messages_of_a_pair(void **state) {
  (void)state;
  usual(GD_PASSES_ONE_BY_ONE);
  /* As one list: both send and receive at once. */
  insert(0, 1, message(1, true, 0)), insert(0, 2, message(1, false, 0));
  insert(1, 1, message(0, true, 0)), insert(1, 2, message(0, false, 0));
  fits();

  /* One after the other: both send first. */
  usual(GD_PASSES_ONE_BY_ONE);
  insert(0, 1, message(1, true, 0)), insert(0, 3, message(1, false, 0));
  insert(1, 1, message(0, true, 0)), insert(1, 3, message(0, false, 0));
  for (int rank = 0; rank < 2; rank++) plans[rank].actions[4].waits_for = 1; /* the compute stream waits in between */
  does_not_fit("waits for ever");

  usual(GD_PASSES_ONE_BY_ONE);
  insert(0, 1, message(1, true, 0)), insert(0, 3, message(1, true, 1));
  insert(1, 1, message(0, false, 1)), insert(1, 3, message(0, false, 0));
  does_not_fit("a pair's messages come in two orders");

  usual(GD_PASSES_ONE_BY_ONE);
  insert(0, 1, message(1, true, 0));
  does_not_fit("rank 0, row 1 (message): waits for ever");

  usual(GD_PASSES_ONE_BY_ONE);
  insert(0, 1, message(7, true, 0));
  does_not_fit("there is no peer 7");
}

/* backward, in its two halves: the weights' half of micro-batch 0 right after, or as late as before that of micro-batch 1. */
static void split_backward(int32_t rank) {
  int32_t row = row_of(rank, GD_DO_BACKWARD, 0);
  gd_action half = plans[rank].actions[row];
  plans[rank].actions[row].kind = GD_DO_BACKWARD_INPUT;
  half.kind = GD_DO_BACKWARD_WEIGHT;
  insert(rank, row + 1, half);
}

static void rows_of_later_schedules(void **state) {
  (void)state;
  usual(GD_PASSES_ONE_BY_ONE);
  for (int32_t rank = 0; rank < built; rank++) split_backward(rank);
  fits();
  int32_t input = row_of(1, GD_DO_BACKWARD_INPUT, 0);
  exchange(1, input, input + 1);
  does_not_fit("(backward_weight): needs gradients of activations that are not there yet");

  /* The slot lives until the weights' half is through. */
  usual(GD_PASSES_ONE_BY_ONE);
  split_backward(0);
  exchange(0, 3, 4);
  does_not_fit("rank 0, row 3 (forward): writes an activation slot while another micro-batch is alive in it");

  usual(GD_PASSES_ONE_BY_ONE);
  gd_action again = *first(0, GD_DO_FORWARD);
  again.kind = GD_DO_RECOMPUTE;
  for (int32_t rank = 0; rank < built; rank++) insert(rank, row_of(rank, GD_DO_BACKWARD, 0), again);
  fits();
  insert(0, row_of(0, GD_DO_BACKWARD, 0) + 1, again);
  does_not_fit("(recompute): works in the slot of another micro-batch");

  usual(GD_PASSES_ONE_BY_ONE);
  insert(1, row_of(1, GD_DO_HEAD, 0), again);
  does_not_fit("rank 1, row 1 (recompute): comes before the head");
}

static gd_action about_weights(gd_action_kind kind, int32_t bucket, int32_t waits_for) {
  return (gd_action){.kind = kind, .micro = -1, .bucket = bucket, .slot = -1, .peer = -1, .waits_for = waits_for};
}

/* As usual, and on every rank layers.1 is freed after the first forward and, unless gather is false, gathered again before the
 * backward. */
static void freed_between(bool gather, int32_t gather_waits_for, bool backward_waits) {
  usual(GD_PASSES_ONE_BY_ONE);
  for (int32_t rank = 0; rank < built; rank++) {
    insert(rank, 1, about_weights(GD_DO_FREE, 3, GD_WAITS_NOTHING));
    if (gather) insert(rank, 2, about_weights(GD_DO_GATHER, 3, gather_waits_for));
    if (backward_waits) first(rank, GD_DO_BACKWARD)->waits_for = 2;
  }
}

static void weights_that_are_freed(void **state) {
  (void)state;
  freed_between(true, 1, true);
  fits();
  freed_between(false, 0, false);
  does_not_fit("(backward): uses weights that were freed and not gathered again");
  freed_between(true, GD_WAITS_NOTHING, true);
  does_not_fit("rank 0, row 2 (gather): does not wait until its weights are free");
  freed_between(true, 1, false);
  does_not_fit("(backward): does not wait for the gather of its weights");

  usual(GD_PASSES_ONE_BY_ONE);
  insert(0, plans[0].count, about_weights(GD_DO_FREE, 3, GD_WAITS_NOTHING));
  does_not_fit("the table ends without the weights of layers.1, and begins with them");

  /* A step that begins and ends without them: gathered for the first forward, freed behind the update. */
  usual(GD_PASSES_ONE_BY_ONE);
  for (int32_t rank = 0; rank < built; rank++) {
    int32_t gather = row_of(rank, GD_DO_GATHER, 0) + 3;
    assert_int_equal(plans[rank].actions[gather].bucket, 3);
    plans[rank].actions[gather] = about_weights(GD_DO_FREE, 3, GD_WAITS_NOTHING);
    insert(rank, 0, about_weights(GD_DO_GATHER, 3, GD_WAITS_NOTHING));
  }
  does_not_fit("does not wait for the gather of its weights"); /* the forward waits for the step before alone */
}

/* The head's row multiplies by the token table of a tied model, whether the table learns or not. */
static void a_tied_head_needs_the_token_table(void **state) {
  (void)state;
  for (int part = 0; part < 4; part++) {
    bool tied = part & 1;
    gd_spec spec = spec_of(!tied, 2, 1, 6, 1, GD_PASSES_ONE_BY_ONE);
    if (part & 2) train_also(&spec, "layers.1.*");
    build(spec, 4);
    assert_int_equal(layouts[0].buckets[0].trained, !(part & 2));
    assert_string_equal(layouts[0].buckets[0].name, part & 2 ? "token_embedding frozen" : "token_embedding");
    for (int32_t rank = 0; rank < built; rank++) {
      insert(rank, 1, about_weights(GD_DO_FREE, 0, GD_WAITS_NOTHING));
      insert(rank, 3, about_weights(GD_DO_GATHER, 0, 1));
      first(rank, GD_DO_BACKWARD)->waits_for = 3;
    }
    if (tied) does_not_fit("rank 0, row 2 (head): uses weights that were freed and not gathered again");
    if (!tied) fits();
  }
}

/* Without the spaces that make columns. */
static void squeeze(char *line) {
  char *to = line;
  for (const char *from = line; *from; from++)
    if (*from != ' ' || (to > line && to[-1] != ' ')) *to++ = *from;
  while (to > line && to[-1] == ' ') to--;
  *to = 0;
}

static void equal_rows_are_printed_once(void **state) {
  (void)state;
  static const char *const lines[] = {
      "0 2 forward 0-1 1 0-2 - 0 gathers of the step before",
      "1 2 head lm 0-1 1 - - 0 gathers of the step before",
      "2 2 backward 0-1 1 2-0 - 0",
      "6 1 forward 2 1 0-2 - 0 gathers of the step before",
      "7 1 head lm 2 1 - - 0 gathers of the step before",
      "8 2 reduce - - - tied_head - final_norm - row 7",
      "10 3 backward 2 1 2-0 - 0",
      "11 3 reduce - - - layers.2 - layers.0 - the row before",
      "16 2 reduce - - - position_embedding - token_embedding - row 14",
      "18 1 vote - - - - - row 17",
      "19 1 update - - - - -",
      "20 6 gather - - - token_embedding - final_norm - row 19",
  };
  int printed = 0, count = sizeof lines / sizeof *lines;
  usual(GD_PASSES_ONE_BY_ONE);
  for (int32_t row = 0, rows, repeats; row < plans[0].count; row += rows * repeats) {
    gd_plan_repeats(&plans[0], row, &rows, &repeats);
    for (int32_t k = row; k < row + rows; k++, printed++) {
      char line[320];
      assert_true(printed < count);
      gd_plan_line(&plans[0], &layouts[0], k, rows, repeats, line, sizeof line);
      squeeze(line);
      assert_string_equal(line, lines[printed]);
    }
  }
  assert_int_equal(printed, count);
  give_back();
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(tables_of_every_layout_fit_together),
      cmocka_unit_test(tables_fit_together_where_a_part_is_frozen),
      cmocka_unit_test(what_belongs_to_one_table),
      cmocka_unit_test(what_waits_for_what),
      cmocka_unit_test(what_is_frozen_stays_where_it_is),
      cmocka_unit_test(a_tied_head_needs_the_token_table),
      cmocka_unit_test(what_ranks_do_together),
      cmocka_unit_test(messages_of_a_pair),
      cmocka_unit_test(rows_of_later_schedules),
      cmocka_unit_test(weights_that_are_freed),
      cmocka_unit_test(equal_rows_are_printed_once),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
