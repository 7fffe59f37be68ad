/* Scores equal those of scikit-learn, sacreBLEU and rouge-score on the vectors that these made
 * (tests/numerics/scores/make_vectors.py); with a file as its argument, on the vectors of that file. */
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
#include "io/data/metric.h"
#include "trainer/scores/bleu.h"
#include "trainer/scores/class_report.h"
#include "trainer/scores/exact.h"
#include "trainer/scores/rouge.h"
#include "trainer/scores/words.h"

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
  for (int m = 0; m < GD_METRICS; m++) {
    const char *name = gd_metric_look((gd_metric)m)->name;
    double value = gd_class_scores_value(&scores, (gd_metric)m);
    if (m == GD_METRIC_LOSS)
      assert_true(isnan(value)); /* nobody has said it */
    else
      close_to(value, number(values, name), name, index);
  }
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

/* ---- BLEU ---- */

enum { MOST_REFERENCES = 16 };

static int find_name(const char *const *names, int count, const char *name) {
  for (int i = 0; i < count; i++)
    if (strcmp(names[i], name) == 0) return i;
  fail_msg("no name \"%s\"", name);
  return -1;
}

static void check_tokens(gd_bleu_tokenizer tokenizer, const char *text, const gd_json *wanted, int index) {
  gd_bytes tokens = {0};
  gd_words words = {0};
  assert_int_equal(gd_bleu_tokenize(tokenizer, text, &tokens), GD_OK);
  assert_int_equal(gd_words_add(&words, tokens.bytes, tokens.count), GD_OK);
  const size_t *places = (const size_t *)(const void *)words.places.bytes;
  int64_t i = 0;
  for (const gd_json *e = gd_json_first(wanted); e; e = gd_json_next(e), i++) {
    if (i == words.count) fail_msg("BLEU %d: %lld tokens, expected more: %s", index, (long long)i, text);
    size_t end = i + 1 < words.count ? places[i + 1] : words.bytes.count, length = end - places[i];
    const char *token = gd_json_string(e);
    if (strlen(token) != length || memcmp(token, words.bytes.bytes + places[i], length) != 0)
      fail_msg("BLEU %d: token %lld is \"%.*s\", expected \"%s\"", index, (long long)i, (int)length,
               words.bytes.bytes + places[i], token);
  }
  assert_int_equal(i, words.count);
  gd_words_free(&words);
  gd_bytes_free(&tokens);
}

/* A case: references are streams, one line each a hypothesis; null: none there. */
static void add_case(const gd_json *c, const gd_bleu_options *options, gd_bleu_counts *counts) {
  const gd_json *streams[MOST_REFERENCES];
  int count = 0;
  for (const gd_json *s = gd_json_first(gd_json_get(c, "references")); s; s = gd_json_next(s)) {
    assert_true(count < MOST_REFERENCES);
    streams[count++] = gd_json_first(s);
  }
  for (const gd_json *h = gd_json_first(gd_json_get(c, "hypotheses")); h; h = gd_json_next(h)) {
    const char *references[MOST_REFERENCES];
    int32_t there = 0;
    for (int i = 0; i < count; i++) {
      if (gd_json_string(streams[i])) references[there++] = gd_json_string(streams[i]);
      streams[i] = gd_json_next(streams[i]);
    }
    assert_int_equal(gd_bleu_add(options, gd_json_string(h), references, there, counts), GD_OK);
  }
}

static void check_bleu(const gd_json *c, int index) {
  gd_bleu_options options = {.value = NAN, .effective_order = flag(c, "effective")};
  gd_bleu_counts counts = {0};
  gd_bleu bleu;
  gd_bytes line = {0};
  options.tokenizer =
      (gd_bleu_tokenizer)find_name(gd_bleu_tokenizer_names, GD_BLEU_TOKENIZERS, gd_json_string(gd_json_get(c, "tokenize")));
  options.smoothing =
      (gd_bleu_smoothing)find_name(gd_bleu_smoothing_names, GD_BLEU_SMOOTHINGS, gd_json_string(gd_json_get(c, "smooth")));
  if (!gd_json_is_null(gd_json_get(c, "value"))) options.value = number(c, "value");
  const gd_json *tokens = gd_json_first(gd_json_get(c, "tokens"));
  for (const gd_json *h = gd_json_first(gd_json_get(c, "hypotheses")); h; h = gd_json_next(h), tokens = gd_json_next(tokens))
    check_tokens(options.tokenizer, gd_json_string(h), tokens, index);
  add_case(c, &options, &counts);
  gd_bleu_score(&options, &counts, &bleu);
  close_to(bleu.score, number(c, "score"), "BLEU", index);
  assert_int_equal(gd_bleu_line(&options, &counts, &bleu, &line), GD_OK);
  char *version = strstr(line.bytes, "version:gptdist-" GPTDIST_VERSION);
  assert_non_null(version);
  char *rest = version + strlen("version:gptdist-" GPTDIST_VERSION), wanted[512];
  snprintf(wanted, sizeof wanted, "%.*sversion:V%s", (int)(version - line.bytes), line.bytes, rest);
  if (strcmp(wanted, gd_json_string(gd_json_get(c, "line"))) != 0)
    fail_msg("BLEU %d: found %s, expected %s", index, wanted, gd_json_string(gd_json_get(c, "line")));
  gd_bytes_free(&line);
}

static void bleu_is_that_of_sacrebleu(void **state) {
  (void)state;
  int index = 0;
  for (const gd_json *c = first_case("bleu"); c; c = gd_json_next(c)) check_bleu(c, index++);
  print_message("%d corpora\n", index);
}

/* The cases that sacreBLEU's own tests assert (shared/data/eval). */
static void bleu_has_the_published_scores(void **state) {
  (void)state;
  const char *path = GD_SOURCE_DIR "/../shared/data/eval/bleu_cases.json";
  gd_json *root = 0;
  int index = 0;
  if (!gd_file_exists(path)) {
    print_message("skipped: no ../shared/data\n");
    skip();
  }
  assert_int_equal(gd_json_read(path, 1 << 20, &root), GD_OK);
  for (const gd_json *c = gd_json_first(gd_json_get(root, "cases")); c; c = gd_json_next(c), index++) {
    gd_bleu_options options = {.value = NAN};
    gd_bleu_counts counts = {0};
    gd_bleu bleu;
    char smooth[16];
    assert_true(sscanf(gd_json_string(gd_json_get(c, "smooth")), "%15s %lf", smooth, &options.value) >= 1);
    options.smoothing = (gd_bleu_smoothing)find_name(gd_bleu_smoothing_names, GD_BLEU_SMOOTHINGS, smooth);
    options.tokenizer =
        (gd_bleu_tokenizer)find_name(gd_bleu_tokenizer_names, GD_BLEU_TOKENIZERS, gd_json_string(gd_json_get(c, "tokenize")));
    add_case(c, &options, &counts);
    gd_bleu_score(&options, &counts, &bleu);
    if (!(fabs(bleu.score - number(c, "score")) <= 1e-6)) fail_msg("case %d: %.9g", index, bleu.score);
  }
  assert_int_equal(index, 8);
  gd_json_free(root);
}

/* ---- ROUGE ---- */

static void rouge_is_that_of_rouge_score(void **state) {
  (void)state;
  int index = 0;
  for (const gd_json *c = first_case("rouge"); c; c = gd_json_next(c), index++) {
    const char *references[64];
    int32_t count = 0;
    gd_rouge scores[GD_ROUGES];
    gd_bleu_tokenizer tokenizer = GD_BLEU_NONE;
    const char *tokenize = gd_json_string(gd_json_get(c, "tokenize"));
    if (tokenize) tokenizer = (gd_bleu_tokenizer)find_name(gd_bleu_tokenizer_names, GD_BLEU_TOKENIZERS, tokenize);
    for (const gd_json *e = gd_json_first(gd_json_get(c, "references")); e && count < 64; e = gd_json_next(e))
      references[count++] = gd_json_string(e);
    assert_int_equal(
        gd_rouge_score(tokenize ? &tokenizer : 0, gd_json_string(gd_json_get(c, "hypothesis")), references, count, scores),
        GD_OK);
    for (int i = 0; i < GD_ROUGES; i++) {
      const gd_json *value = gd_json_first(gd_json_get(c, gd_rouge_names[i]));
      double wanted[3] = {NAN, NAN, NAN};
      for (int k = 0; k < 3; k++, value = gd_json_next(value)) assert_true(gd_json_number(value, &wanted[k]));
      close_to(scores[i].precision, wanted[0], gd_rouge_names[i], index);
      close_to(scores[i].recall, wanted[1], gd_rouge_names[i], index);
      close_to(scores[i].f1, wanted[2], gd_rouge_names[i], index);
    }
  }
  print_message("%d texts\n", index);
}

/* ---- exact answers ---- */

static bool is_text(const gd_bytes *found, const char *wanted) {
  return found->count == strlen(wanted) && (found->count == 0 || memcmp(found->bytes, wanted, found->count) == 0);
}

static void answers_are_normalised_as_squad_does(void **state) {
  (void)state;
  gd_bytes found = {0};
  int index = 0;
  for (const gd_json *c = first_case("squad"); c; c = gd_json_next(c), index++) {
    const char *wanted = gd_json_string(gd_json_get(c, "normalised"));
    found.count = 0;
    assert_int_equal(gd_exact_normalise(gd_json_string(gd_json_get(c, "text")), &found), GD_OK);
    if (!is_text(&found, wanted))
      fail_msg("answer %d: found \"%.*s\", expected \"%s\"", index, (int)found.count, found.bytes, wanted);
  }
  gd_bytes_free(&found);
}

static void the_last_number_is_found(void **state) {
  (void)state;
  static const char *const cases[][2] = {
      {"", ""},
      {"no number", ""},
      {"5 apples, then 12.", "12"},
      {"#### 1,250", "1250"},
      {"$1,250.50 in all", "1250.5"},
      {"it is -3", "-3"},
      {"5-3", "3"},
      {"(2)-7", "7"},
      {"-$40", "-40"},
      {"-0.00", "0"},
      {"007", "7"},
      {"3.140", "3.14"},
      {"1,2", "2"},
      {"1,2345", "2345"},
      {"2024,100", "100"},
      {".5", "0.5"},
      {"about .25", "0.25"},
      {"v1.2.3", "3"},
      {"99%", "99"},
      {"1,000,000", "1000000"},
      {"0,005", "5"},
      {"10 e", "10"},
      {"a1b", "1"},
      {"no.5", "5"},
      {"100.0", "100"},
  };
  gd_bytes found = {0};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    found.count = 0;
    assert_int_equal(gd_exact_last_number(cases[i][0], &found), GD_OK);
    if (!is_text(&found, cases[i][1]))
      fail_msg("\"%s\": found \"%.*s\", expected \"%s\"", cases[i][0], (int)found.count, found.bytes, cases[i][1]);
  }
  gd_bytes_free(&found);
}

static void one_of_several_answers_is_enough(void **state) {
  (void)state;
  const char *const references[] = {"Denver Broncos", "The Broncos: 24"};
  bool words, value;
  assert_int_equal(gd_exact_match("broncos, 24!", references, 2, &words, &value), GD_OK);
  assert_true(words && value);
  assert_int_equal(gd_exact_match("the Denver Broncos.", references, 2, &words, &value), GD_OK);
  assert_true(words && !value);
  assert_int_equal(gd_exact_match("10 or 24.0", references, 2, &words, &value), GD_OK);
  assert_true(!words && value);
  assert_int_equal(gd_exact_match("none", references, 1, &words, &value), GD_OK); /* no number is not equal to no number */
  assert_true(!words && !value);
}

int main(int argc, char **argv) {
  if (argc > 1) vectors_path = argv[1];
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(reports_are_those_of_scikit_learn),
      cmocka_unit_test(mcnemar_is_the_binomial_test),
      cmocka_unit_test(counts_of_parts_add_up),
      cmocka_unit_test(no_example_scores_nothing),

      cmocka_unit_test(confusions_are_shown),
      cmocka_unit_test(bleu_is_that_of_sacrebleu),
      cmocka_unit_test(bleu_has_the_published_scores),
      cmocka_unit_test(rouge_is_that_of_rouge_score),
      cmocka_unit_test(answers_are_normalised_as_squad_does),
      cmocka_unit_test(the_last_number_is_found),
      cmocka_unit_test(one_of_several_answers_is_enough),
  };
  return cmocka_run_group_tests(tests, open_vectors, close_vectors);
}
