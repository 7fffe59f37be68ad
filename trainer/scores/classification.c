/* classification.c - counts of labels and predictions, precision, recall, F1 and their averages, McNemar's test. */
#include "trainer/scores/classification.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/scores/pairwise.h"

/* ---- counts ---- */

gd_status gd_class_counts_open(int32_t classes, bool multiple, gd_class_counts *out) {
  bool matrix = !multiple && classes <= GD_CONFUSION_CLASSES;
  int64_t n = classes, elements = 2 + 3 * n + (matrix ? n * n : 0);
  *out = (gd_class_counts){.classes = classes, .multiple = multiple, .elements = elements};
  out->all = calloc((size_t)elements, sizeof *out->all);
  if (!out->all) return gd_fail(GD_NO_MEMORY, "no memory for the counts of %d classes", classes);
  out->examples = out->all;
  out->right = out->all + 1;
  out->hits = out->all + 2;
  out->predicted = out->hits + n;
  out->support = out->predicted + n;
  out->confusion = matrix ? out->support + n : 0;
  return GD_OK;
}

void gd_class_counts_close(gd_class_counts *counts) {
  free(counts->all);
  memset(counts, 0, sizeof *counts);
}

int32_t gd_class_answer(const float *logits, int32_t outputs) {
  int32_t best = 0;
  if (outputs == 1) return logits[0] > 0;
  for (int32_t i = 1; i < outputs; i++)
    if (logits[i] > logits[best]) best = i;
  return best;
}

void gd_class_counts_add(gd_class_counts *counts, int32_t label, int32_t predicted) {
  ++*counts->examples;
  *counts->right += label == predicted;
  counts->hits[label] += label == predicted;
  counts->predicted[predicted]++;
  counts->support[label]++;
  if (counts->confusion) counts->confusion[(int64_t)label * counts->classes + predicted]++;
}

void gd_class_counts_add_multiple(gd_class_counts *counts, const uint8_t *has, const uint8_t *given) {
  bool right = true;
  for (int32_t i = 0; i < counts->classes; i++) {
    counts->hits[i] += has[i] && given[i];
    counts->predicted[i] += given[i] != 0;
    counts->support[i] += has[i] != 0;
    right = right && !has[i] == !given[i];
  }
  ++*counts->examples;
  *counts->right += right;
}

/* ---- scores ---- */

static double ratio(int64_t numerator, int64_t denominator) {
  return denominator ? (double)numerator / (double)denominator : 0;
}

static gd_class_score score_of(int64_t hits, int64_t predicted, int64_t support) {
  return (gd_class_score){ratio(hits, predicted), ratio(hits, support), ratio(2 * hits, predicted + support)};
}

/* weights NULL: all 1. */
static double average(const double *values, const int64_t *weights, int64_t count, double *scratch) {
  double total = 0; /* of whole numbers: exact */
  for (int64_t i = 0; i < count && weights; i++) total += (double)weights[i];
  if (total == 0) return gd_pairwise_sum(values, count) / (double)count;
  for (int64_t i = 0; i < count; i++) scratch[i] = values[i] * (double)weights[i];
  return gd_pairwise_sum(scratch, count) / total;
}

/* scratch[2 * count] */
static gd_class_score average_score(const gd_class_score *scores, const int64_t *weights, int64_t count, double *scratch) {
  double averages[3];
  for (int part = 0; part < 3; part++) {
    for (int64_t i = 0; i < count; i++)
      scratch[i] = part == 0 ? scores[i].precision : part == 1 ? scores[i].recall : scores[i].f1;
    averages[part] = average(scratch, weights, count, scratch + count);
  }
  return (gd_class_score){averages[0], averages[1], averages[2]};
}

gd_status gd_class_scores_open(const gd_class_counts *counts, gd_class_scores *out) {
  int32_t n = counts->classes;
  double *scratch = malloc(2 * (size_t)n * sizeof *scratch);
  *out = (gd_class_scores){.of_class = malloc((size_t)n * sizeof *out->of_class), .loss = NAN};
  if (!scratch || !out->of_class) {
    free(scratch);
    gd_class_scores_close(out);
    return gd_fail(GD_NO_MEMORY, "no memory for the scores of %d classes", n);
  }
  int64_t hits = 0, predicted = 0, support = 0;
  for (int32_t i = 0; i < n; i++) {
    out->of_class[i] = score_of(counts->hits[i], counts->predicted[i], counts->support[i]);
    hits += counts->hits[i];
    predicted += counts->predicted[i];
    support += counts->support[i];
  }
  out->accuracy = ratio(*counts->right, *counts->examples);
  out->micro = score_of(hits, predicted, support);
  out->macro = average_score(out->of_class, 0, n, scratch);
  out->weighted = average_score(out->of_class, counts->support, n, scratch);
  free(scratch);
  return GD_OK;
}

void gd_class_scores_close(gd_class_scores *scores) {
  free(scores->of_class);
  memset(scores, 0, sizeof *scores);
}

gd_status gd_class_samples(const uint8_t *has, const uint8_t *given, int64_t examples, int32_t classes, gd_class_score *out) {
  gd_class_score *scores = malloc((size_t)examples * sizeof *scores);
  double *scratch = malloc(2 * (size_t)examples * sizeof *scratch);
  if (scores && scratch) {
    for (int64_t e = 0; e < examples; e++) {
      int64_t hits = 0, predicted = 0, support = 0;
      for (int64_t i = e * classes; i < (e + 1) * classes; i++) {
        hits += has[i] && given[i];
        predicted += given[i] != 0;
        support += has[i] != 0;
      }
      scores[e] = score_of(hits, predicted, support);
    }
    *out = examples ? average_score(scores, 0, examples, scratch) : (gd_class_score){0, 0, 0};
  }
  gd_status status = scores && scratch ? GD_OK : gd_fail(GD_NO_MEMORY, "no memory for %lld scores", (long long)examples);
  free(scores);
  free(scratch);
  return status;
}

double gd_class_scores_value(const gd_class_scores *scores, gd_metric metric) {
  switch (metric) {
    case GD_METRIC_LOSS: return scores->loss;
    case GD_METRIC_ACCURACY: return scores->accuracy;
    case GD_METRIC_MACRO_F1: return scores->macro.f1;
    case GD_METRIC_WEIGHTED_F1: return scores->weighted.f1;
    case GD_METRIC_MICRO_F1: return scores->micro.f1;
    case GD_METRICS: break;
  }
  return NAN;
}

/* ---- McNemar ---- */

/* 2 * P(X <= k), X binomial of n fair throws, k the smaller count. Terms are added from the largest down, each made of the one
 * before, until they no longer count. */
double gd_mcnemar(int64_t only_first, int64_t only_second) {
  int64_t n = only_first + only_second, k = only_first < only_second ? only_first : only_second;
  if (2 * k == n) return 1; /* the two tails overlap */
  double term = exp(lgamma((double)n + 1) - lgamma((double)k + 1) - lgamma((double)(n - k) + 1) - (double)n * log(2)), sum = 0;
  for (; k >= 0 && term > sum * 0x1p-60; k--) {
    sum += term;
    term *= (double)k / (double)(n - k + 1);
  }
  return fmin(1, 2 * sum);
}
