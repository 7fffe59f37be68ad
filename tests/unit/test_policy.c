/* What validations decide, against the definitions, told over the whole history: the best, the early end, the cuts of the
 * learning rate; a resumed run that repeats a validation counts it once; epochs to steps; the table of metrics. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "io/config/config.h"
#include "io/data/metric.h"
#include "shard/base/rng.h"
#include "trainer/policy.h"
#include "trainer/schedule.h"

enum { LONGEST = 40, TRIALS = 400 };

static gd_spec make_spec(gd_metric metric, int32_t patience, float min_gain, int32_t lr_patience) {
  gd_spec spec;
  gd_config_defaults(&spec);
  spec.run.steps = 1000;
  spec.validation.metric = metric;
  spec.validation.patience = patience;
  spec.validation.min_gain = min_gain;
  spec.schedule.kind = GD_SCHEDULE_PLATEAU;
  spec.schedule.patience = lr_patience;
  spec.schedule.factor = 0.5f;
  spec.optimizer.lr = 1;
  spec.optimizer.min_lr = 0;
  return spec;
}

static bool better(bool higher, double a, double b) {
  return higher ? a > b : a < b;
}

/* The best of values[0 .. count - 1]: its index, -1 where none is a number. */
static int best_of(bool higher, const double *values, int count) {
  int best = -1;
  for (int i = 0; i < count; i++)
    if (!isnan(values[i]) && (best < 0 || better(higher, values[i], values[best]))) best = i;
  return best;
}

static bool is_gain(bool higher, double min_gain, const double *values, int at) {
  int before = best_of(higher, values, at);
  if (isnan(values[at])) return false;
  if (before < 0) return true;
  double gain = higher ? values[at] - values[before] : values[before] - values[at];
  return gain > 0 && gain >= min_gain;
}

/* Validations without a gain, up to and with `at`, since `after`. */
static int waited(bool higher, double min_gain, const double *values, int at, int after) {
  int wait = 0;
  while (at > after && !is_gain(higher, min_gain, values, at)) at--, wait++;
  return wait;
}

static void random_histories_end_and_cut_where_the_definition_says(void **state) {
  (void)state;
  gd_rng rng = gd_rng_make(9, GD_RNG_DATA, 0, 0, 0);
  uint64_t drawn = 0;
  int stops = 0, cuts = 0;
  for (int trial = 0; trial < TRIALS; trial++) {
    bool higher = trial % 2;
    int32_t patience = (int32_t)(gd_rng_word(&rng, drawn++) % 6), lr_patience = 1 + (int32_t)(gd_rng_word(&rng, drawn++) % 4);
    float min_gain = trial % 3 ? 0.125f * (float)(gd_rng_word(&rng, drawn++) % 5) : 0;
    gd_spec spec = make_spec(higher ? GD_METRIC_ACCURACY : GD_METRIC_LOSS, patience, min_gain, lr_patience);
    gd_run_state run = gd_policy_begin(spec.validation.metric);
    double values[LONGEST];
    int last_cut = -1, made = 0;
    for (int i = 0; i < LONGEST; i++) {
      values[i] =
          gd_rng_word(&rng, drawn++) % 16 ? (double)(gd_rng_word(&rng, drawn++) % 64) / 16 + (higher ? i : -i) / 24.0 : NAN;
      run.step = 3 * i;
      gd_policy_verdict verdict = gd_policy_judge(&spec, &run, values[i]);
      int best = best_of(higher, values, i + 1), wait = waited(higher, (double)min_gain, values, i, -1);
      assert_int_equal(verdict.best, best == i);
      assert_int_equal(run.best_step, best < 0 ? -1 : 3 * best);
      if (best >= 0) assert_true(run.best_validation == values[best]);
      assert_int_equal(gd_run_state_stopped(&run, &spec), patience > 0 && wait >= patience);
      bool cut = waited(higher, (double)min_gain, values, i, last_cut) == lr_patience;
      assert_int_equal(verdict.cut, cut);
      if (cut) last_cut = i, made++;
      assert_true(run.lr_factor == pow(0.5, made));
      gd_run_state again = run; /* a resumed run validates once more */
      assert_int_equal(gd_policy_judge(&spec, &again, values[i]).best, best == i);
      assert_memory_equal(&run, &again, sizeof run);
      if (!gd_run_state_stopped(&run, &spec)) continue;
      stops++;
      break;
    }
    cuts += made;
  }
  assert_true(stops > TRIALS / 4 && cuts > TRIALS);
}

static void a_wait_is_counted_only_where_something_waits(void **state) {
  (void)state;
  gd_spec spec = make_spec(GD_METRIC_LOSS, 0, 0, 1);
  spec.schedule.kind = GD_SCHEDULE_COSINE;
  gd_run_state run = gd_policy_begin(GD_METRIC_LOSS);
  for (run.step = 1; run.step < 9; run.step++) assert_false(gd_policy_judge(&spec, &run, 2).cut);
  assert_false(gd_run_state_waits(&run));
  assert_false(gd_run_state_stopped(&run, &spec));
  run.wait = run.lr_wait = 1; /* of a run that waited until it was resumed */
  (void)gd_policy_judge(&spec, &run, 2);
  assert_false(gd_run_state_waits(&run));
}

static void at_the_last_step_a_run_is_done_not_stopped(void **state) {
  (void)state;
  gd_spec spec = make_spec(GD_METRIC_LOSS, 1, 0, 100);
  gd_run_state run = gd_policy_begin(GD_METRIC_LOSS);
  for (run.step = 998; run.step < 1000; run.step++) (void)gd_policy_judge(&spec, &run, 2);
  run.step = 999;
  assert_true(gd_run_state_stopped(&run, &spec));
  run.step = 1000;
  assert_false(gd_run_state_stopped(&run, &spec));
}

static void the_learning_rate_ends_at_the_lowest(void **state) {
  (void)state;
  gd_spec spec = make_spec(GD_METRIC_LOSS, 0, 0, 1);
  spec.optimizer.min_lr = 0.2f;
  spec.schedule.warmup_steps = 3;
  gd_run_state run = gd_policy_begin(GD_METRIC_LOSS);
  const double expected[] = {1, 0.5, 0.25, (double)0.2f, (double)0.2f, (double)0.2f};
  for (int i = 0; i < 6; i++) {
    run.step = 10 + i;
    assert_int_equal(gd_policy_judge(&spec, &run, 1).cut, i > 0 && i < 4);
    assert_true((double)gd_schedule_lr(&spec, run.lr_factor, run.step) == expected[i]);
    assert_true(fabs((double)gd_schedule_lr(&spec, run.lr_factor, 1) - expected[i] / 2) < 1e-7); /* the warm-up rises to it */
  }
  assert_true(run.lr_factor == 0.125); /* no cut changes nothing */
  spec.schedule.kind = GD_SCHEDULE_CONSTANT;
  assert_true(gd_schedule_lr(&spec, run.lr_factor, 10) == 1);
}

static void another_metric_begins_anew(void **state) {
  (void)state;
  gd_spec spec = make_spec(GD_METRIC_LOSS, 3, 0, 2);
  gd_run_state run = gd_policy_begin(GD_METRIC_LOSS);
  for (run.step = 1; run.step < 4; run.step++) (void)gd_policy_judge(&spec, &run, 2);
  gd_run_state same = run, other = run, begin = gd_policy_begin(GD_METRIC_ACCURACY);
  gd_policy_resume(&spec, &same);
  assert_memory_equal(&same, &run, sizeof run);
  spec.validation.metric = GD_METRIC_ACCURACY;
  gd_policy_resume(&spec, &other);
  begin.step = run.step;
  begin.lr_factor = run.lr_factor;
  assert_true(run.lr_factor < 1);
  assert_memory_equal(&other, &begin, sizeof begin);
}

static void epochs_are_whole_steps(void **state) {
  (void)state;
  assert_int_equal(gd_policy_steps(3, 100, 32), 10);
  assert_int_equal(gd_policy_steps(1, 64, 32), 2);
  assert_int_equal(gd_policy_steps((double)0.1f, 1000, 10), 10); /* 0.1f is more than 0.1 */
  assert_int_equal(gd_policy_steps((double)0.3f, 1000, 10), 30);
  assert_int_equal(gd_policy_steps(1, 1, 32), 1);
  assert_int_equal(gd_policy_steps(1, 1000003, 1), 1000003);
  assert_int_equal(gd_policy_interval(0.5, 100, 10), 5);
  assert_int_equal(gd_policy_interval(0.5, 130, 10), 7);
  assert_int_equal(gd_policy_interval(0.5, 120, 10), 6);
  assert_int_equal(gd_policy_interval((double)0.001f, 100, 10), 1);
}

static void metrics_have_the_names_that_the_run_file_takes(void **state) {
  (void)state;
  const gd_config_key *key = gd_config_find("validation.metric");
  int choices = 0;
  for (const gd_key_choice *c = key->choices; c->name; c++, choices++) {
    assert_string_equal(gd_metric_look((gd_metric)c->value)->name, c->name);
    assert_int_equal(gd_metric_find(c->name), c->value);
  }
  assert_int_equal(choices, GD_METRICS);
  assert_int_equal(gd_metric_find("loss "), GD_METRICS);
  assert_false(gd_metric_look(GD_METRIC_LOSS)->higher);
  assert_true(gd_metric_look(GD_METRIC_ACCURACY)->higher && gd_metric_look(GD_METRIC_MACRO_F1)->higher);
  assert_int_equal(gd_metric_check(GD_METRIC_LOSS, GD_TASK_LM), GD_OK);
  assert_int_equal(gd_metric_check(GD_METRIC_LOSS, GD_TASK_SFT), GD_OK);
  assert_int_equal(gd_metric_check(GD_METRIC_MACRO_F1, GD_TASK_CLASSIFICATION), GD_OK);
  assert_int_equal(gd_metric_check(GD_METRIC_MACRO_F1, GD_TASK_LM), GD_USAGE);
  assert_string_equal(gd_error_text(),
                      "validation.metric: found macro_f1, which is of data for classification; the data here is plain text, "
                      "which has loss");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(random_histories_end_and_cut_where_the_definition_says),
      cmocka_unit_test(a_wait_is_counted_only_where_something_waits),
      cmocka_unit_test(at_the_last_step_a_run_is_done_not_stopped),
      cmocka_unit_test(the_learning_rate_ends_at_the_lowest),
      cmocka_unit_test(another_metric_begins_anew),
      cmocka_unit_test(epochs_are_whole_steps),
      cmocka_unit_test(metrics_have_the_names_that_the_run_file_takes),
  };
  return cmocka_run_group_tests(tests, 0, 0);
}
