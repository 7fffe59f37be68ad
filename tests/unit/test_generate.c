/* Sampling: what temperature, top-k, top-p, seed and position promise. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "trainer/sampling.h"

enum { V = 6, DRAWS = 20000 };
static const float logits[V] = {0.0f, 2.0f, 1.0f, 2.0f, -1.0f, -30.0f};

static void count_draws(gd_sampling sampling, int counts[V]) {
  gd_candidate candidates[V];
  memset(counts, 0, V * sizeof *counts);
  for (int i = 0; i < DRAWS; i++) {
    int32_t token = gd_sample(&sampling, logits, V, i, candidates);
    assert_in_range(token, 0, V - 1);
    counts[token]++;
  }
}

static void temperature_zero_takes_the_largest_and_lowest_id(void **state) {
  (void)state;
  gd_candidate candidates[V];
  gd_sampling sampling = {.temperature = 0, .top_p = 1, .seed = 3};
  for (int i = 0; i < 50; i++) assert_int_equal(gd_sample(&sampling, logits, V, i, candidates), 1);
}

/* 5 standard deviations of a count. */
static void expect_odds(const int counts[V], const double odds[V]) {
  double sum = 0;
  for (int i = 0; i < V; i++) sum += odds[i];
  for (int i = 0; i < V; i++) {
    double p = odds[i] / sum, spread = 5 * sqrt(DRAWS * p * (1 - p));
    if (fabs(counts[i] - DRAWS * p) > spread + 1e-9)
      fail_msg("token %d: %d of %d draws, expected %.0f", i, counts[i], DRAWS, DRAWS * p);
  }
}

static void draws_follow_the_softmax(void **state) {
  (void)state;
  const double temperatures[] = {1.0, 0.5, 3.0};
  for (int t = 0; t < 3; t++) {
    int counts[V];
    double odds[V];
    for (int i = 0; i < V; i++) odds[i] = exp((double)logits[i] / temperatures[t]);
    count_draws((gd_sampling){.temperature = temperatures[t], .top_p = 1, .seed = 5}, counts);
    expect_odds(counts, odds);
  }
}

static void top_k_keeps_the_k_most_likely(void **state) {
  (void)state;
  int counts[V];
  count_draws((gd_sampling){.temperature = 1, .top_k = 3, .top_p = 1, .seed = 1}, counts);
  expect_odds(counts, (double[V]){0, exp(2), exp(1), exp(2), 0, 0});
}

static void top_p_keeps_the_smallest_set_that_reaches_p(void **state) {
  (void)state;
  int counts[V];
  /* the two likeliest have 0.4 each, the third 0.147 */
  count_draws((gd_sampling){.temperature = 1, .top_p = 0.75, .seed = 1}, counts);
  expect_odds(counts, (double[V]){0, 1, 0, 1, 0, 0});
  count_draws((gd_sampling){.temperature = 1, .top_p = 0.85, .seed = 1}, counts);
  expect_odds(counts, (double[V]){0, exp(2), exp(1), exp(2), 0, 0});
  count_draws((gd_sampling){.temperature = 1, .top_p = 1e-9, .seed = 1}, counts);
  assert_int_equal(counts[1], DRAWS);
}

static void a_draw_depends_on_seed_and_position_only(void **state) {
  (void)state;
  gd_candidate candidates[V];
  gd_sampling a = {.temperature = 1, .top_p = 1, .seed = 1}, b = {.temperature = 1, .top_p = 1, .seed = 2};
  int other_seed = 0, other_place = 0;
  for (int i = 0; i < 200; i++) {
    int32_t token = gd_sample(&a, logits, V, i, candidates);
    assert_int_equal(token, gd_sample(&a, logits, V, i, candidates));
    other_seed += token != gd_sample(&b, logits, V, i, candidates);
    other_place += token != gd_sample(&a, logits, V, i + 1, candidates);
  }
  assert_in_range(other_seed, 20, 180);
  assert_in_range(other_place, 20, 180);
}

static void logits_that_are_no_numbers_still_give_a_token(void **state) {
  (void)state;
  gd_candidate candidates[V];
  const float bad[V] = {NAN, NAN, NAN, NAN, NAN, NAN};
  gd_sampling sampling = {.temperature = 1, .top_p = 1};
  assert_int_equal(gd_sample(&sampling, bad, V, 0, candidates), 0);
}

/* At temperature 3 the likeliest three reach 0.755, at temperature 1 the likeliest two 0.799. */
static void top_p_sees_the_odds_of_the_temperature(void **state) {
  (void)state;
  int counts[V];
  count_draws((gd_sampling){.temperature = 3, .top_p = 0.7, .seed = 1}, counts);
  expect_odds(counts, (double[V]){0, exp(2.0 / 3), exp(1.0 / 3), exp(2.0 / 3), 0, 0});
  gd_candidate candidates[V];
  gd_sampling greedy = {.temperature = 0, .top_p = 0.9, .top_k = 4, .seed = 1};
  for (int i = 0; i < 50; i++) assert_int_equal(gd_sample(&greedy, logits, V, i, candidates), 1);
}

static void ids_without_a_text_are_never_drawn(void **state) {
  (void)state;
  static const bool never[V] = {false, true, false, false, true, true};
  int counts[V];
  count_draws((gd_sampling){.temperature = 1, .top_p = 1, .seed = 1, .never = never}, counts);
  expect_odds(counts, (double[V]){1, 0, exp(1), exp(2), 0, 0});
  count_draws((gd_sampling){.temperature = 1, .top_k = 1, .top_p = 1, .seed = 1, .never = never}, counts);
  assert_int_equal(counts[3], DRAWS);
  count_draws((gd_sampling){.temperature = 0, .top_p = 1, .never = never}, counts);
  assert_int_equal(counts[3], DRAWS);
  static const bool first[V] = {true, true, true, true, false, true};
  count_draws((gd_sampling){.temperature = 0, .top_p = 1, .never = first}, counts);
  assert_int_equal(counts[4], DRAWS);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(temperature_zero_takes_the_largest_and_lowest_id),
      cmocka_unit_test(draws_follow_the_softmax),
      cmocka_unit_test(top_k_keeps_the_k_most_likely),
      cmocka_unit_test(top_p_keeps_the_smallest_set_that_reaches_p),
      cmocka_unit_test(top_p_sees_the_odds_of_the_temperature),
      cmocka_unit_test(ids_without_a_text_are_never_drawn),
      cmocka_unit_test(a_draw_depends_on_seed_and_position_only),
      cmocka_unit_test(logits_that_are_no_numbers_still_give_a_token),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
