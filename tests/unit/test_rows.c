/* Rows of examples: each stands in one row of its epoch, no row is too long, and instructions fill them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs the four above */
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/data/rows.h"

enum { EXAMPLES = 10000 };

static int64_t starts[EXAMPLES + 1];

static void ok(gd_status status) {
  if (status != GD_OK) fail_msg("%s", gd_error_text());
}

static gd_rng rng_of(uint64_t seed, uint64_t epoch) {
  return gd_rng_make(seed, GD_RNG_DATA, 0, 2, epoch);
}

/* Lengths of instructions: the logarithm is normal, about 110 tokens, some of 600. */
static void make_lengths(int32_t most) {
  gd_rng rng = gd_rng_make(3, GD_RNG_DATA, 9, 0, 0);
  starts[0] = 0;
  for (int64_t i = 0; i < EXAMPLES; i++) {
    double length = exp(4.5 + 0.6 * (double)gd_rng_normal(&rng, (uint64_t)i));
    starts[i + 1] = starts[i] + (length < 1 ? 1 : length > most ? most : (int64_t)length);
  }
}

/* Each example once, no row longer than `length`, none empty; the share of the rows that is filled. */
static double check(const gd_rows *rows, int64_t examples, int32_t length) {
  static char seen[EXAMPLES];
  memset(seen, 0, sizeof seen);
  assert_int_equal(rows->first[0], 0);
  assert_int_equal(rows->first[rows->count], examples);
  for (int64_t r = 0; r < rows->count; r++) {
    int64_t tokens = 0;
    assert_true(rows->first[r] < rows->first[r + 1]);
    for (int64_t i = rows->first[r]; i < rows->first[r + 1]; i++) {
      int64_t example = rows->example[i];
      assert_in_range(example, 0, examples - 1);
      assert_int_equal(seen[example]++, 0);
      tokens += starts[example + 1] - starts[example];
    }
    assert_in_range(tokens, 1, length);
  }
  return (double)starts[examples] / (double)(rows->count * length);
}

static void instructions_fill_their_rows(void **state) {
  (void)state;
  static const int32_t lengths[] = {512, 1024, 2048};
  for (int k = 0; k < 3; k++) {
    gd_rows rows;
    gd_rng rng = rng_of(1, 0);
    make_lengths(lengths[k]);
    ok(gd_rows_make(starts, EXAMPLES, lengths[k], true, &rng, &rows));
    double filled = check(&rows, EXAMPLES, lengths[k]);
    printf("T = %d: %lld rows, %.1f %% full\n", lengths[k], (long long)rows.count, 100 * filled);
    assert_true(filled >= 0.95);
    gd_rows_free(&rows);
  }
}

static void each_example_stands_in_one_row_of_any_epoch(void **state) {
  (void)state;
  static const int64_t counts[] = {1, 2, 50, 4095, 4096, 4097, EXAMPLES};
  make_lengths(200);
  for (int k = 0; k < 7; k++) {
    for (uint64_t epoch = 0; epoch < 3; epoch++) {
      gd_rows rows;
      gd_rng rng = rng_of(7, epoch);
      ok(gd_rows_make(starts, counts[k], 200, true, &rng, &rows));
      check(&rows, counts[k], 200);
      gd_rows_free(&rows);
      ok(gd_rows_make(starts, counts[k], 200, false, &rng, &rows));
      check(&rows, counts[k], 200);
      assert_int_equal(rows.count, counts[k]);
      gd_rows_free(&rows);
    }
  }
  gd_rows none;
  ok(gd_rows_make(starts, 0, 200, true, NULL, &none));
  assert_int_equal(none.count, 0);
  gd_rows_free(&none);
}

static bool same(const gd_rows *a, const gd_rows *b) {
  return a->count == b->count && memcmp(a->first, b->first, (size_t)(a->count + 1) * sizeof *a->first) == 0 &&
         memcmp(a->example, b->example, EXAMPLES * sizeof *a->example) == 0;
}

static void seed_and_epoch_make_the_order(void **state) {
  (void)state;
  gd_rows rows[4];
  static const uint64_t of[4][2] = {{1, 0}, {1, 0}, {2, 0}, {1, 1}};
  make_lengths(500);
  for (int k = 0; k < 4; k++) {
    gd_rng rng = rng_of(of[k][0], of[k][1]);
    ok(gd_rows_make(starts, EXAMPLES, 512, true, &rng, &rows[k]));
  }
  assert_true(same(&rows[0], &rows[1]));
  assert_false(same(&rows[0], &rows[2]));
  assert_false(same(&rows[0], &rows[3]));
  for (int k = 0; k < 4; k++) gd_rows_free(&rows[k]);
}

/* Worked by hand: first fit, an example that does not fit opens a row, a later one goes back to the first with room. */
static void the_first_row_with_room_takes_an_example(void **state) {
  (void)state;
  static const int64_t lengths[] = {6, 5, 3, 4, 2, 1, 10}, wanted[] = {0, 2, 5, 1, 3, 4, 6}, first[] = {0, 3, 5, 6, 7};
  gd_rows rows;
  starts[0] = 0;
  for (int i = 0; i < 7; i++) starts[i + 1] = starts[i] + lengths[i];
  ok(gd_rows_make(starts, 7, 10, true, NULL, &rows));
  assert_int_equal(rows.count, 4);
  for (int i = 0; i < 7; i++) assert_int_equal(rows.example[i], wanted[i]);
  for (int i = 0; i < 5; i++) assert_int_equal(rows.first[i], first[i]);
  gd_rows_free(&rows);
}

/* Examples of two windows never share a row. */
static void windows_are_packed_apart(void **state) {
  (void)state;
  gd_rows rows;
  for (int64_t i = 0; i <= EXAMPLES; i++) starts[i] = i;
  ok(gd_rows_make(starts, EXAMPLES, 1000, true, NULL, &rows));
  assert_int_equal(rows.count, 5 + 5 + 2);
  assert_int_equal(rows.first[5], GD_ROWS_WINDOW);
  assert_int_equal(rows.example[GD_ROWS_WINDOW], GD_ROWS_WINDOW);
  gd_rows_free(&rows);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(instructions_fill_their_rows),  cmocka_unit_test(each_example_stands_in_one_row_of_any_epoch),
      cmocka_unit_test(seed_and_epoch_make_the_order), cmocka_unit_test(the_first_row_with_room_takes_an_example),
      cmocka_unit_test(windows_are_packed_apart),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
