/* What gptdist-eval says of predicted labels: its text, its JSON and its lines are those of the predictions, alone and beside
 * earlier ones. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "io/base/json.h"
#include "launch/eval_classes.h"

/* Six examples of two classes: four right now, two before; three of these four were wrong then. */
static char *spam_names[] = {"ham", "spam \"x\""};
static const gd_data_task spam = {.kind = GD_TASK_CLASSIFICATION, .label_count = 2, .labels = spam_names};
static const float spam_labels[] = {0, 0, 1, 1, 0, 1};
static const float spam_now[] = {.9f, .1f, .5f, .5f, .25f, .75f, 0, 1, .2f, .8f, 1, 0};
static const float spam_then[] = {.9f, .1f, .1f, .9f, .9f, .1f, .9f, .1f, .9f, .1f, .9f, .1f};

/* Three examples of any of three labels. */
static char *mood_names[] = {"rude", "loud", "late"};
static const gd_data_task mood = {.kind = GD_TASK_CLASSIFICATION, .multiple = true, .label_count = 3, .labels = mood_names};
static const float mood_labels[] = {1, 0, 0, 0, .5f, 1, 0, 0, 0};
static const float mood_now[] = {.75f, .5f, .1f, .2f, .9f, .3f, 0, 0, 0};

static void text_has_report_matrix_and_comparison(void **state) {
  (void)state;
  gd_predictions now = {&spam, 6, spam_labels, spam_now, 0.5}, then = {&spam, 6, spam_labels, spam_then, NAN};
  gd_bytes text = {0};
  assert_int_equal(gd_eval_classes_text(&now, &then, &text), GD_OK);
  assert_string_equal(text.bytes,
                      "              precision    recall  f1-score   support\n\n"
                      "         ham     0.6667    0.6667    0.6667         3\n"
                      "    spam \"x\"     0.6667    0.6667    0.6667         3\n\n"
                      "    accuracy                         0.6667         6\n"
                      "   macro avg     0.6667    0.6667    0.6667         6\n"
                      "weighted avg     0.6667    0.6667    0.6667         6\n\n"
                      "confusion matrix, a row a true label, a column a predicted one:\n"
                      "             0 1\n"
                      "     ham   0 2 1\n"
                      "spam \"x\"   1 1 2\n\n"
                      "before  accuracy 0.3333  macro_f1 0.2500  weighted_f1 0.2500  micro_f1 0.3333\n"
                      "after   loss 0.5000  accuracy 0.6667  macro_f1 0.6667  weighted_f1 0.6667  micro_f1 0.6667\n"
                      "right before alone 1, after alone 3: McNemar's exact p = 0.625\n");
  text.count = 0;
  assert_int_equal(gd_eval_classes_text(&now, 0, &text), GD_OK);
  assert_null(strstr(text.bytes, "before"));
  assert_non_null(strstr(text.bytes, "\nloss 0.500000\n"));
  gd_bytes_free(&text);
}

static double value(const gd_json *node, const char *key) {
  double number = NAN;
  if (!gd_json_number(gd_json_get(node, key), &number)) fail_msg("no number \"%s\"", key);
  return number;
}

static void json_has_all_of_it(void **state) {
  (void)state;
  gd_predictions now = {&spam, 6, spam_labels, spam_now, NAN}, then = {&spam, 6, spam_labels, spam_then, 2};
  gd_bytes text = {0};
  gd_json *root = 0;
  assert_int_equal(gd_eval_classes_json(&now, &then, &text), GD_OK);
  assert_ptr_equal(strchr(text.bytes, '\n'), text.bytes + text.count - 1);
  assert_int_equal(gd_json_parse(text.bytes, text.count, "json", 1, &root), GD_OK);
  assert_true(gd_json_is_null(gd_json_get(root, "loss")));
  assert_true(value(root, "examples") == 6 && fabs(value(root, "accuracy") - 2 / 3.0) < 1e-9);
  assert_true(value(gd_json_get(root, "before"), "loss") == 2 && value(gd_json_get(root, "before"), "macro_f1") == 0.25);
  assert_true(value(root, "right_before_alone") == 1 && value(root, "right_after_alone") == 3 &&
              value(root, "mcnemar_p") == 0.625);
  const gd_json *second = gd_json_next(gd_json_first(gd_json_get(root, "labels")));
  assert_string_equal(gd_json_string(gd_json_get(second, "label")), spam_names[1]);
  assert_true(value(second, "support") == 3 && value(second, "predicted") == 3 && value(second, "hits") == 2);
  assert_non_null(strstr(text.bytes, "\"confusion\":[[2,1],[1,2]],\"before\""));
  gd_json_free(root);
  gd_bytes_free(&text);
}

static void several_labels_an_example(void **state) {
  (void)state;
  gd_predictions now = {&mood, 3, mood_labels, mood_now, NAN};
  gd_bytes text = {0};
  assert_int_equal(gd_eval_classes_text(&now, 0, &text), GD_OK);
  assert_non_null(strstr(text.bytes, "   micro avg     1.0000    0.6667    0.8000         3\n"));
  assert_non_null(strstr(text.bytes, " samples avg     0.6667    0.5000    0.5556         3\n"));
  assert_non_null(strstr(text.bytes, "late          2         0         1         0\n"));
  text.count = 0;
  assert_int_equal(gd_eval_classes_json(&now, 0, &text), GD_OK);
  assert_non_null(strstr(text.bytes, "\"samples\":{\"precision\":0.666666667"));
  assert_null(strstr(text.bytes, "confusion"));
  text.count = 0;
  assert_int_equal(gd_eval_classes_lines(&now, &text), GD_OK);
  assert_string_equal(
      text.bytes,
      "{\"index\":0,\"label\":[\"rude\"],\"predicted\":[\"rude\"],\"probabilities\":[0.75,0.5,0.100000001]}\n"
      "{\"index\":1,\"label\":[\"loud\",\"late\"],\"predicted\":[\"loud\"],\"probabilities\":[0.200000003,0.899999976,0."
      "300000012]}\n"
      "{\"index\":2,\"label\":[],\"predicted\":[],\"probabilities\":[0,0,0]}\n");
  gd_bytes_free(&text);
}

static void a_line_an_example(void **state) {
  (void)state;
  gd_predictions now = {&spam, 3, spam_labels, spam_now, NAN};
  gd_bytes text = {0};
  assert_int_equal(gd_eval_classes_lines(&now, &text), GD_OK);
  assert_string_equal(strchr(text.bytes, '\n') + 1,
                      "{\"index\":1,\"label\":\"ham\",\"predicted\":\"ham\",\"probability\":0.5,\"probabilities\":[0.5,0.5]}\n"
                      "{\"index\":2,\"label\":\"spam \\\"x\\\"\",\"predicted\":\"spam "
                      "\\\"x\\\"\",\"probability\":0.75,\"probabilities\":[0.25,0.75]}\n");
  gd_bytes_free(&text);
}

static void a_label_that_is_none_is_named(void **state) {
  (void)state;
  const float labels[] = {0, 2};
  gd_predictions now = {&spam, 2, labels, spam_now, NAN};
  gd_bytes text = {0};
  assert_int_equal(gd_eval_classes_text(&now, 0, &text), GD_BAD_DATA);
  assert_non_null(strstr(gd_error_text(), "example 1 has the label number 2, but there are 2 labels"));
  assert_int_equal(gd_eval_classes_lines(&now, &text), GD_BAD_DATA);
  gd_bytes_free(&text);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(text_has_report_matrix_and_comparison),
      cmocka_unit_test(json_has_all_of_it),
      cmocka_unit_test(several_labels_an_example),
      cmocka_unit_test(a_line_an_example),
      cmocka_unit_test(a_label_that_is_none_is_named),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
