/* Rows in memory: equal ones are one group, and groups are dealt to splits by fractions, label by label. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs the four above */
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/data/table.h"
#include "shard/base/rng.h"

enum { ROWS = 6000, STRATA = 7 };

static void ok(gd_status status) {
  if (status != GD_OK) fail_msg("%s", gd_error_text());
}

static void equal_keys_are_one_group(void **state) {
  (void)state;
  static const char *const texts[] = {"b", "a", "", "b", "ab", "a", "", "aa"};
  static const int64_t wanted[] = {0, 1, 2, 0, 4, 1, 2, 7};
  gd_corpus_value keys[8];
  int64_t number[8];
  for (int i = 0; i < 8; i++) keys[i] = (gd_corpus_value){texts[i], strlen(texts[i])};
  ok(gd_table_group(keys, 8, number));
  for (int i = 0; i < 8; i++) assert_int_equal(number[i], wanted[i]);
  ok(gd_table_group(keys, 0, number));
}

/* Strata of very different sizes; a fourth of the rows repeats an earlier one, with whatever stratum. */
static void make_rows(int64_t *group, int64_t *stratum) {
  gd_rng rng = gd_rng_make(1, GD_RNG_DATA, 0, 0, 0);
  int64_t first[STRATA];
  for (int k = 0; k < STRATA; k++) first[k] = -1;
  for (int64_t i = 0; i < ROWS; i++) {
    uint32_t word = gd_rng_word(&rng, (uint64_t)i);
    int k = 0;
    while (k < STRATA - 1 && word % 3 == 0) {
      word /= 3;
      k++;
    }
    if (first[k] < 0) first[k] = i;
    stratum[i] = first[k];
    group[i] =
        i && gd_rng_word(&rng, (uint64_t)(ROWS + i)) % 4 == 0 ? group[gd_rng_word(&rng, (uint64_t)(2 * ROWS + i)) % i] : i;
  }
}

static void fractions_hold_in_all_and_in_each_stratum(void **state) {
  (void)state;
  static int64_t group[ROWS], stratum[ROWS], largest;
  static int32_t split[ROWS], again[ROWS], other[ROWS];
  static int64_t size[ROWS];
  const double fractions[3] = {0.7, 0.1, 0.2};
  make_rows(group, stratum);
  for (int64_t i = 0; i < ROWS; i++) {
    int64_t rows = ++size[group[i]];
    if (rows > largest) largest = rows;
  }
  ok(gd_table_deal(group, stratum, ROWS, fractions, 5, split));
  ok(gd_table_deal(group, stratum, ROWS, fractions, 5, again));
  ok(gd_table_deal(group, stratum, ROWS, fractions, 6, other));
  assert_memory_equal(split, again, sizeof split);
  int64_t moved = 0, all[3] = {0};
  for (int64_t i = 0; i < ROWS; i++) {
    moved += split[i] != other[i];
    assert_int_equal(split[i], split[group[i]]); /* one text never lands in two splits */
    all[split[i]]++;
  }
  assert_in_range(moved, ROWS / 4, ROWS * 3 / 4);
  for (int k = 0; k < 3; k++) assert_in_range(llabs(all[k] - (int64_t)(ROWS * fractions[k])), 0, largest);
  for (int64_t s = 0; s < ROWS; s++) {
    int64_t counts[3] = {0}, rows = 0;
    for (int64_t i = 0; i < ROWS; i++) {
      if (stratum[group[i]] != s) continue;
      counts[split[i]]++;
      rows++;
    }
    if (rows) assert_in_range(counts[0], 1, ROWS); /* training has seen every label */
    for (int k = 0; k < 3; k++) assert_in_range(llabs(counts[k] - (int64_t)((double)rows * fractions[k])), 0, 2 * largest);
  }
}

static void a_stratum_of_one_row_is_for_training(void **state) {
  (void)state;
  const double fractions[3] = {0.1, 0.3, 0.6};
  int64_t own[12];
  int32_t split[12];
  for (int64_t i = 0; i < 12; i++) own[i] = i;
  ok(gd_table_deal(own, own, 12, fractions, 0, split));
  for (int i = 0; i < 12; i++) assert_int_equal(split[i], 0);
}

static void a_fraction_of_nothing_gets_nothing(void **state) {
  (void)state;
  const double fractions[3] = {0.5, 0, 0.5};
  int64_t own[100], none[100] = {0};
  int32_t split[100];
  int64_t counts[3] = {0};
  for (int64_t i = 0; i < 100; i++) own[i] = i;
  ok(gd_table_deal(own, none, 100, fractions, 0, split));
  for (int i = 0; i < 100; i++) counts[split[i]]++;
  assert_int_equal(counts[0], 50);
  assert_int_equal(counts[1], 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(equal_keys_are_one_group),
      cmocka_unit_test(fractions_hold_in_all_and_in_each_stratum),
      cmocka_unit_test(a_stratum_of_one_row_is_for_training),
      cmocka_unit_test(a_fraction_of_nothing_gets_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
