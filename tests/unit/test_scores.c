/* Scores equal those of scikit-learn, on the vectors that they made (tests/numerics/scores/make_vectors.py); with a file as its
 * argument, on the vectors of that file. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "io/base/json.h"
#include "trainer/scores/class_report.h"

static const char *vectors_path = GD_SOURCE_DIR "/tests/unit/scores.json";
static gd_json *vectors;

static int open_vectors(void **state) {
  (void)state;
  return gd_json_read(vectors_path, (size_t)1 << 30, &vectors) == GD_OK ? 0 : -1;
}

static int close_vectors(void **state) {
  (void)state;
  gd_json_free(vectors);
  return 0;
}

static const gd_json *first_case(const char *kind) {
  const gd_json *list = gd_json_get(vectors, kind);
  if (!gd_json_first(list)) fail_msg("%s: no vectors of %s", vectors_path, kind);
  return gd_json_first(list);
}

static double number(const gd_json *object, const char *key) {
  double value = NAN;
  const gd_json *node = gd_json_get(object, key);
  if (!gd_json_number(node, &value)) fail_msg("no number \"%s\"", key);
  return value;
}

static bool flag(const gd_json *object, const char *key) {
  bool value = false;
  if (!gd_json_boolean(gd_json_get(object, key), &value)) fail_msg("no flag \"%s\"", key);
  return value;
}

static void close_to(double found, double wanted, const char *what, int index) {
  if (!(fabs(found - wanted) <= 1e-12 * fmax(1, fabs(wanted))))
    fail_msg("%s %d: %.17g, expected %.17g", what, index, found, wanted);
}

/* ---- labels ---- */

/* A list of whole numbers, or a list of lists of them, one behind the other. */
static int32_t *numbers(const gd_json *list, int32_t *count) {
  int32_t n = 0, room = 64, *out = malloc((size_t)room * sizeof *out);
  for (const gd_json *e = gd_json_first(list); e; e = gd_json_next(e)) {
    for (const gd_json *inner = gd_json_is_array(e) ? gd_json_first(e) : e; inner;
         inner = gd_json_is_array(e) ? gd_json_next(inner) : 0) {
      int64_t value = 0;
      assert_true(gd_json_integer(inner, &value));
      if (n == room) out = realloc(out, (size_t)(room *= 2) * sizeof *out);
      assert_non_null(out);
      out[n++] = (int32_t)value;
    }
  }
  *count = n;
  return out;
}

static uint8_t *bytes_of(const int32_t *values, int32_t count) {
  uint8_t *out = malloc((size_t)count + 1);
  assert_non_null(out);
  for (int32_t i = 0; i < count; i++) out[i] = (uint8_t)values[i];
  return out;
}

static void check_labels(const gd_json *c, int index) {
  const char *names[GD_CONFUSION_CLASSES];
  int32_t classes = 0, count, same, *labels = numbers(gd_json_get(c, "labels"), &count),
          *predicted = numbers(gd_json_get(c, "predicted"), &same);
  for (const gd_json *e = gd_json_first(gd_json_get(c, "names")); e; e = gd_json_next(e)) names[classes++] = gd_json_string(e);
  bool multiple = flag(c, "multiple");
  gd_class_counts counts;
  gd_class_scores scores;
  gd_class_score samples = {0, 0, 0};
  gd_bytes text = {0};
  assert_int_equal(count, same);
  assert_int_equal(gd_class_counts_open(classes, multiple, &counts), GD_OK);
  uint8_t *has = bytes_of(labels, count), *given = bytes_of(predicted, count);
  int32_t examples = multiple ? count / classes : count;
  for (int32_t i = 0; i < examples; i++) {
    if (multiple)
      gd_class_counts_add_multiple(&counts, has + i * classes, given + i * classes);
    else
      gd_class_counts_add(&counts, labels[i], predicted[i]);
  }
  if (multiple) assert_int_equal(gd_class_samples(has, given, examples, classes, &samples), GD_OK);
  assert_int_equal(gd_class_scores_open(&counts, &scores), GD_OK);
  assert_int_equal(gd_class_report(&counts, &scores, multiple ? &samples : 0, names, &text), GD_OK);
  if (strcmp(text.bytes, gd_json_string(gd_json_get(c, "text"))) != 0)
    fail_msg("labels %d: found\n%s\nexpected\n%s", index, text.bytes, gd_json_string(gd_json_get(c, "text")));
  const gd_json *values = gd_json_get(c, "metrics");
  for (const gd_metric *m = gd_metrics; m->name; m++)
    if (m->of_classes) close_to(m->value(&scores), number(values, m->name), m->name, index);
  assert_true(isnan(gd_metric_find("loss")->value(&scores)));
  gd_bytes_free(&text);
  gd_class_scores_close(&scores);
  gd_class_counts_close(&counts);
  free(labels);
  free(predicted);
  free(has);
  free(given);
}

static void reports_are_those_of_scikit_learn(void **state) {
  (void)state;
  int index = 0;
  for (const gd_json *c = first_case("labels"); c; c = gd_json_next(c)) check_labels(c, index++);
  print_message("%d reports\n", index);
}

static void mcnemar_is_the_binomial_test(void **state) {
  (void)state;
  int index = 0;
  for (const gd_json *c = first_case("mcnemar"); c; c = gd_json_next(c)) {
    double found = gd_mcnemar((int64_t)number(c, "first"), (int64_t)number(c, "second")), wanted = number(c, "p");
    if (!(fabs(found - wanted) <= 1e-8 * wanted)) fail_msg("McNemar %d: %.17g, expected %.17g", index, found, wanted);
    index++;
  }
}

static void counts_of_parts_add_up(void **state) {
  (void)state;
  gd_class_counts parts[2], whole;
  for (int i = 0; i < 2; i++) assert_int_equal(gd_class_counts_open(3, false, &parts[i]), GD_OK);
  assert_int_equal(gd_class_counts_open(3, false, &whole), GD_OK);
  for (int32_t i = 0; i < 30; i++) {
    gd_class_counts_add(&parts[i % 2], i % 3, i * i % 3);
    gd_class_counts_add(&whole, i % 3, i * i % 3);
  }
  for (int64_t i = 0; i < whole.elements; i++) assert_int_equal(parts[0].all[i] + parts[1].all[i], whole.all[i]);
  assert_int_equal(whole.confusion[2 * 3 + 1], 10); /* 2 was taken for 1 */
  for (int i = 0; i < 2; i++) gd_class_counts_close(&parts[i]);
  gd_class_counts_close(&whole);
}

static void no_example_scores_nothing(void **state) {
  (void)state;
  gd_class_counts counts;
  gd_class_scores scores;
  gd_class_score samples;
  for (int multiple = 0; multiple < 2; multiple++) {
    assert_int_equal(gd_class_counts_open(2, multiple, &counts), GD_OK);
    assert_int_equal(gd_class_scores_open(&counts, &scores), GD_OK);
    assert_true(scores.accuracy == 0 && scores.macro.f1 == 0 && scores.weighted.f1 == 0 && scores.micro.f1 == 0);
    gd_class_scores_close(&scores);
    gd_class_counts_close(&counts);
  }
  assert_int_equal(gd_class_samples(0, 0, 0, 2, &samples), GD_OK);
  assert_true(samples.f1 == 0);
}

static void metrics_are_found_by_name(void **state) {
  (void)state;
  assert_false(gd_metric_find("loss")->larger_is_better);
  assert_true(gd_metric_find("macro_f1")->larger_is_better);
  assert_null(gd_metric_find("f1"));
}

static void confusions_are_shown(void **state) {
  (void)state;
  enum { MANY = GD_CONFUSION_SHOWN + 1 };
  static const char *const names[MANY] = {"欢迎", "ab", "c"};
  gd_class_counts counts;
  gd_bytes text = {0};
  assert_int_equal(gd_class_counts_open(3, false, &counts), GD_OK);
  for (int i = 0; i < 12; i++) gd_class_counts_add(&counts, 0, i / 10);
  gd_class_counts_add(&counts, 2, 0);
  assert_int_equal(gd_class_confusion(&counts, names, &text), GD_OK);
  assert_string_equal(strchr(text.bytes, '\n') + 1, "        0  1  2\n欢迎   0 10  2  0\nab   1  0  0  0\n c   2  1  0  0\n");
  gd_class_counts_close(&counts);
  text.count = 0;
  assert_int_equal(gd_class_counts_open(MANY, false, &counts), GD_OK);
  for (int i = 0; i < 9; i++) gd_class_counts_add(&counts, i % 3, i < 4 ? 1 : 0);
  assert_int_equal(gd_class_confusion(&counts, names, &text), GD_OK);
  assert_string_equal(strchr(text.bytes, '\n') + 1,
                      "        2  欢迎, predicted ab\n        2  ab, predicted 欢迎\n"
                      "        2  c, predicted 欢迎\n        1  c, predicted ab\n");
  gd_class_counts_close(&counts);
  text.count = 0;
  assert_int_equal(gd_class_counts_open(2, true, &counts), GD_OK);
  gd_class_counts_add_multiple(&counts, (uint8_t[]){1, 0}, (uint8_t[]){1, 1});
  gd_class_counts_add_multiple(&counts, (uint8_t[]){1, 0}, (uint8_t[]){0, 0});
  assert_int_equal(gd_class_confusion(&counts, names, &text), GD_OK);
  assert_string_equal(strchr(text.bytes, '\n') + 1,
                      "欢迎          0         0         1         1\n"
                      "ab          1         1         0         0\n");
  gd_class_counts_close(&counts);
  gd_bytes_free(&text);
}

int main(int argc, char **argv) {
  if (argc > 1) vectors_path = argv[1];
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(reports_are_those_of_scikit_learn),
      cmocka_unit_test(mcnemar_is_the_binomial_test),
      cmocka_unit_test(counts_of_parts_add_up),
      cmocka_unit_test(no_example_scores_nothing),
      cmocka_unit_test(metrics_are_found_by_name),
      cmocka_unit_test(confusions_are_shown),
  };
  return cmocka_run_group_tests(tests, open_vectors, close_vectors);
}
