/* Sampling: what temperature, top-k, top-p, seed and position promise. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "shard/base/rng.h"
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

/* Whatever k, the best k are the first k of a sorted list. */
static void the_best_are_those_of_a_sorted_list(void **state) {
  (void)state;
  enum { MANY = 500 };
  float values[MANY];
  bool never[MANY];
  gd_rng rng = gd_rng_make(3, GD_RNG_WEIGHTS, 1, 0, 0);
  for (uint64_t i = 0; i < MANY; i++) {
    values[i] = floorf(40 * gd_rng_uniform(&rng, i)); /* many are equal */
    never[i] = gd_rng_uniform(&rng, MANY + i) < 0.1f;
  }
  values[17] = NAN;
  values[30] = -INFINITY;
  for (int32_t k = 1; k <= MANY; k += k < 20 ? 1 : 97) {
    gd_candidate best[MANY];
    int32_t count = gd_best(values, MANY, 5, never, k, best);
    bool taken[MANY] = {false};
    for (int32_t i = 0; i < count; i++) {
      int32_t expected = -1;
      for (int32_t j = 0; j < MANY; j++)
        if (!taken[j] && !never[j] && values[j] >= 5 && (expected < 0 || values[j] > values[expected])) expected = j;
      assert_int_equal(best[i].token, expected);
      taken[expected] = true;
    }
    if (k < 100) assert_int_equal(count, k);
  }
}

static void penalties_are_taken_once_and_ends_wait(void **state) {
  (void)state;
  static const bool ends[V] = {false, false, true, false, false, true};
  static const int32_t tokens[] = {1, 4, 1, 1};
  const gd_sampling sampling = {.repetition_penalty = 2, .min_new_tokens = 3, .ends = ends};
  float out[V];
  for (int64_t made = 2; made <= 3; made++) {
    memcpy(out, logits, sizeof out);
    gd_sampling_process(&sampling, tokens, 4, made, V, logits, out);
    const float expected[V] = {0.0f, 1.0f, made < 3 ? -INFINITY : 1.0f, 2.0f, -2.0f, made < 3 ? -INFINITY : -30.0f};
    for (int i = 0; i < V; i++) assert_true(out[i] == expected[i]);
  }
}

/* Texts of one seed differ by their stream, and stream 0 is what a single text draws. */
static void streams_are_other_texts(void **state) {
  (void)state;
  gd_candidate candidates[V];
  int differ = 0;
  for (int i = 0; i < 200; i++) {
    gd_sampling one = {.temperature = 1, .top_p = 1, .seed = 1}, other = one;
    other.stream = 1;
    differ += gd_sample(&one, logits, V, i, candidates) != gd_sample(&other, logits, V, i, candidates);
  }
  assert_in_range(differ, 20, 180);
}

static void log_sum_exp_is_that_of_its_terms(void **state) {
  (void)state;
  double sum = 0;
  for (int i = 0; i < V; i++) sum += exp((double)logits[i]);
  assert_true(fabs(gd_log_sum_exp(logits, V) - log(sum)) < 1e-12);
  const float large[2] = {1000, 1000};
  assert_true(fabs(gd_log_sum_exp(large, 2) - 1000 - log(2)) < 1e-12);
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
      cmocka_unit_test(the_best_are_those_of_a_sorted_list),
      cmocka_unit_test(penalties_are_taken_once_and_ends_wait),
      cmocka_unit_test(streams_are_other_texts),
      cmocka_unit_test(log_sum_exp_is_that_of_its_terms),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
