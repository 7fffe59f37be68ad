/* The learning rate of every step, against arithmetic of its own: each kind at its first step, inside and at the end of the
 * warm-up, in the middle, at the end and beyond. Half the range by hand, the rest by formulas written another way than
 * trainer/schedule.c's. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "io/config/config.h"
#include "trainer/schedule.h"

static gd_spec make_spec(gd_schedule_kind kind, int64_t steps, int64_t warmup, int64_t decay, float lr, float min_lr) {
  static gd_spec spec;
  gd_config_defaults(&spec);
  spec.model.vocabulary = 61;
  spec.schedule.kind = kind;
  spec.run.steps = steps;
  spec.schedule.warmup_steps = warmup;
  spec.schedule.decay_steps = decay;
  spec.optimizer.lr = lr;
  spec.optimizer.min_lr = min_lr;
  if (gd_spec_resolve(&spec, 1) != GD_OK) fail_msg("%s", gd_error_text());
  return spec;
}

/* Equal to float32's last place. */
static void expect(const gd_spec *spec, int64_t step, long double expected) {
  float found = gd_schedule_lr(spec, 1, step), wanted = (float)expected;
  if (!(fabsf(found - wanted) <= 0x1p-23f * wanted))
    fail_msg("schedule %d, step %lld: found %.9g, expected %.9g", (int)spec->schedule.kind, (long long)step, (double)found,
             (double)wanted);
}

typedef struct point {
  int64_t step;
  double lr;
} point;

static void expect_points(const gd_spec *spec, const point *points, size_t count) {
  for (size_t i = 0; i < count; i++) expect(spec, points[i].step, (long double)points[i].lr);
}
#define EXPECT(spec, ...)                                           \
  do {                                                              \
    const point points[] = {__VA_ARGS__};                           \
    expect_points(&(spec), points, sizeof points / sizeof *points); \
  } while (0)

/* lr 1, min 0.25, warm-up over 3 steps: by hand. */
static void warm_up_is_the_same_for_every_kind(void **state) {
  (void)state;
  for (int kind = GD_SCHEDULE_COSINE; kind <= GD_SCHEDULE_WSD; kind++) {
    gd_spec spec = make_spec((gd_schedule_kind)kind, 100, 3, 0, 1.0f, 0.25f);
    EXPECT(spec, {0, 0.25}, {1, 0.5}, {2, 0.75}, {3, 1.0});
    gd_spec none = make_spec((gd_schedule_kind)kind, 100, 0, 0, 1.0f, 0.25f);
    EXPECT(none, {0, 1.0});
  }
}

static void cosine(void **state) {
  (void)state;
  gd_spec spec = make_spec(GD_SCHEDULE_COSINE, 15, 3, 0, 1.0f, 0.25f); /* decays over 12 steps */
  double third = 0.25 + 0.75 * 0.75, two_thirds = 0.25 + 0.75 * 0.25;  /* cos 60 degrees is 1/2 */
  EXPECT(spec, {3, 1.0}, {7, third}, {9, 0.625}, {11, two_thirds}, {15, 0.25}, {16, 0.25}, {1000000, 0.25});
  gd_spec given = make_spec(GD_SCHEDULE_COSINE, 100, 2, 8, 1.0f, 0.25f);
  EXPECT(given, {2, 1.0}, {6, 0.625}, {10, 0.25}, {11, 0.25}, {99, 0.25});
}

static void linear(void **state) {
  (void)state;
  gd_spec spec = make_spec(GD_SCHEDULE_LINEAR, 15, 3, 0, 1.0f, 0.25f);
  EXPECT(spec, {3, 1.0}, {4, 0.9375}, {6, 0.8125}, {9, 0.625}, {12, 0.4375}, {15, 0.25}, {16, 0.25}, {1000000, 0.25});
  gd_spec given = make_spec(GD_SCHEDULE_LINEAR, 100, 2, 8, 1.0f, 0.0f);
  EXPECT(given, {2, 1.0}, {3, 0.875}, {6, 0.5}, {9, 0.125}, {10, 0.0}, {50, 0.0});
}

static void constant(void **state) {
  (void)state;
  gd_spec spec = make_spec(GD_SCHEDULE_CONSTANT, 15, 3, 5, 1.0f, 0.25f);
  EXPECT(spec, {3, 1.0}, {8, 1.0}, {14, 1.0}, {15, 1.0}, {1000000, 1.0});
}

static void warm_up_stable_decay(void **state) {
  (void)state;
  gd_spec spec = make_spec(GD_SCHEDULE_WSD, 20, 3, 5, 1.0f, 0.25f); /* the last 5 steps: 15 .. 19 */
  EXPECT(spec, {3, 1.0}, {10, 1.0}, {14, 1.0}, {15, 1.0}, {16, 0.85}, {17, 0.7}, {19, 0.4}, {20, 0.25}, {21, 0.25}, {99, 0.25});
  /* A fifth of the run, rounded up, where the file does not say. */
  gd_spec fifth = make_spec(GD_SCHEDULE_WSD, 21, 0, 0, 1.0f, 0.0f);
  assert_int_equal(fifth.schedule.decay_steps, 5);
  EXPECT(fifth, {16, 1.0}, {17, 0.8}, {20, 0.2}, {21, 0.0});
}

/* Every step of a run with odd numbers. cos^2 of half the angle is (1 + cos) / 2; a straight line through its two ends. */
static void every_step_of_a_run(void **state) {
  (void)state;
  const long double lr = (long double)6e-4f, low = (long double)6e-5f;
  const int64_t steps = 977, warmup = 31, decay = 613;
  for (int kind = GD_SCHEDULE_COSINE; kind <= GD_SCHEDULE_WSD; kind++) {
    gd_spec spec = make_spec((gd_schedule_kind)kind, steps, warmup, decay, 6e-4f, 6e-5f);
    int64_t begin = kind == GD_SCHEDULE_WSD ? steps - decay : warmup, end = begin + decay;
    for (int64_t step = 0; step < steps + 20; step++) {
      long double wanted = lr;
      if (step < warmup)
        wanted = lr - lr * (long double)(warmup - step) / (long double)(warmup + 1);
      else if (kind != GD_SCHEDULE_CONSTANT && step >= end)
        wanted = low;
      else if (kind == GD_SCHEDULE_COSINE)
        wanted = low + (lr - low) * powl(cosl(acosl(0.0L) * (long double)(step - begin) / (long double)decay), 2);
      else if (kind != GD_SCHEDULE_CONSTANT && step > begin)
        wanted = (low * (long double)(step - begin) + lr * (long double)(end - step)) / (long double)decay;
      expect(&spec, step, wanted);
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(warm_up_is_the_same_for_every_kind),
      cmocka_unit_test(cosine),
      cmocka_unit_test(linear),
      cmocka_unit_test(constant),
      cmocka_unit_test(warm_up_stable_decay),
      cmocka_unit_test(every_step_of_a_run),
  };
  return cmocka_run_group_tests(tests, 0, 0);
}
