/* eval_classes.c - reports, JSON and files of predicted labels. */
#include "launch/eval_classes.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "io/base/json.h"
#include "io/data/metric.h"
#include "trainer/scores/class_report.h"

/* What was right of each example, and the scores of all. */
typedef struct outcome {
  gd_class_counts counts;
  gd_class_scores scores;
  gd_class_score samples; /* of several labels */
  bool *right;            /* [examples] */
} outcome;

static int32_t best(const float *probabilities, int32_t classes) {
  int32_t at = 0;
  for (int32_t i = 1; i < classes; i++)
    if (probabilities[i] > probabilities[at]) at = i;
  return at;
}

static bool is_had(float label) {
  return label >= 0.5f;
}
static bool is_given(float probability) {
  return probability > 0.5f;
}

static gd_status label_of(const gd_predictions *p, int64_t example, int32_t *label) {
  float value = p->labels[example];
  *label = value >= 0 && value < (float)p->task->label_count ? (int32_t)value : -1;
  if (*label >= 0) return GD_OK;
  return gd_fail_user(GD_BAD_DATA, "example %lld has the label number %g, but there are %d labels", (long long)example,
                      (double)value, p->task->label_count);
}

static gd_status count_single(const gd_predictions *p, outcome *out) {
  for (int64_t e = 0; e < p->examples; e++) {
    int32_t label, predicted = best(p->probabilities + e * p->task->label_count, p->task->label_count);
    GD_TRY(label_of(p, e, &label));
    gd_class_counts_add(&out->counts, label, predicted);
    out->right[e] = label == predicted;
  }
  return GD_OK;
}

static gd_status count_multiple(const gd_predictions *p, outcome *out) {
  int32_t classes = p->task->label_count;
  int64_t all = p->examples * classes;
  uint8_t *has = malloc((size_t)all), *given = malloc((size_t)all);
  if (has && given) {
    for (int64_t i = 0; i < all; i++) {
      has[i] = is_had(p->labels[i]);
      given[i] = is_given(p->probabilities[i]);
    }
    for (int64_t e = 0; e < p->examples; e++) {
      gd_class_counts_add_multiple(&out->counts, has + e * classes, given + e * classes);
      out->right[e] = memcmp(has + e * classes, given + e * classes, (size_t)classes) == 0;
    }
  }
  gd_status status = has && given ? gd_class_samples(has, given, p->examples, classes, &out->samples)
                                  : gd_fail(GD_NO_MEMORY, "no memory for %lld labels", (long long)all);
  free(has);
  free(given);
  return status;
}

static void close_outcome(outcome *o) {
  gd_class_counts_close(&o->counts);
  gd_class_scores_close(&o->scores);
  free(o->right);
}

/* close_outcome in any case. */
static gd_status open_outcome(const gd_predictions *p, outcome *out) {
  *out = (outcome){.right = malloc((size_t)p->examples * sizeof *out->right)};
  if (!out->right) return gd_fail(GD_NO_MEMORY, "no memory for %lld examples", (long long)p->examples);
  GD_TRY(gd_class_counts_open(p->task->label_count, p->task->multiple, &out->counts));
  GD_TRY(p->task->multiple ? count_multiple(p, out) : count_single(p, out));
  GD_TRY(gd_class_scores_open(&out->counts, &out->scores));
  out->scores.loss = p->loss;
  return GD_OK;
}

/* ---- two predictions ---- */

typedef struct comparison {
  int64_t only_before, only_after;
  double p;
} comparison;

static comparison compare(const outcome *before, const outcome *after, int64_t examples) {
  comparison c = {0, 0, 0};
  for (int64_t e = 0; e < examples; e++) {
    c.only_before += before->right[e] && !after->right[e];
    c.only_after += after->right[e] && !before->right[e];
  }
  c.p = gd_mcnemar(c.only_before, c.only_after);
  return c;
}

/* ---- text ---- */

static gd_status add_metrics(const char *name, const gd_class_scores *scores, gd_bytes *out) {
  GD_TRY(gd_bytes_printf(out, "%-6s", name));
  for (int m = 0; m < GD_METRICS; m++) {
    double value = gd_class_scores_value(scores, (gd_metric)m);
    if (isfinite(value)) GD_TRY(gd_bytes_printf(out, "  %s %.4f", gd_metric_look((gd_metric)m)->name, value));
  }
  return gd_bytes_append(out, "\n", 1);
}

static gd_status add_text(const gd_predictions *p, const outcome *after, const outcome *before, gd_bytes *out) {
  const char *const *names = (const char *const *)p->task->labels;
  GD_TRY(gd_class_report(&after->counts, &after->scores, p->task->multiple ? &after->samples : 0, names, out));
  GD_TRY(gd_bytes_append(out, "\n", 1));
  GD_TRY(gd_class_confusion(&after->counts, names, out));
  if (!before) return isfinite(p->loss) ? gd_bytes_printf(out, "\nloss %.6f\n", p->loss) : GD_OK;
  comparison c = compare(before, after, p->examples);
  GD_TRY(gd_bytes_append(out, "\n", 1));
  GD_TRY(add_metrics("before", &before->scores, out));
  GD_TRY(add_metrics("after", &after->scores, out));
  return gd_bytes_printf(out, "right before alone %lld, after alone %lld: McNemar's exact p = %.4g\n", (long long)c.only_before,
                         (long long)c.only_after, c.p);
}

/* ---- JSON ---- */

static gd_status add_score(const char *name, const gd_class_score *score, gd_bytes *out) {
  return gd_bytes_printf(out, ",\"%s\":{\"precision\":%.9g,\"recall\":%.9g,\"f1\":%.9g}", name, score->precision, score->recall,
                         score->f1);
}

/* "loss":0.1,"accuracy":0.9,... */
static gd_status add_members(const gd_class_scores *scores, gd_bytes *out) {
  for (int m = 0; m < GD_METRICS; m++) {
    double value = gd_class_scores_value(scores, (gd_metric)m);
    GD_TRY(gd_bytes_printf(out, isfinite(value) ? "%s\"%s\":%.9g" : "%s\"%s\":null", m ? "," : "",
                           gd_metric_look((gd_metric)m)->name, value));
  }
  return GD_OK;
}

static gd_status add_classes(const gd_predictions *p, const outcome *o, gd_bytes *out) {
  int32_t n = p->task->label_count;
  GD_TRY(gd_bytes_printf(out, ",\"labels\":["));
  for (int32_t i = 0; i < n; i++) {
    const gd_class_score *score = &o->scores.of_class[i];
    GD_TRY(gd_bytes_printf(out, "%s{\"label\":", i ? "," : ""));
    GD_TRY(gd_json_quote(out, p->task->labels[i], strlen(p->task->labels[i])));
    GD_TRY(gd_bytes_printf(out,
                           ",\"precision\":%.9g,\"recall\":%.9g,\"f1\":%.9g,\"support\":%lld,\"predicted\":%lld,\"hits\":%lld}",
                           score->precision, score->recall, score->f1, (long long)o->counts.support[i],
                           (long long)o->counts.predicted[i], (long long)o->counts.hits[i]));
  }
  GD_TRY(gd_bytes_append(out, "]", 1));
  if (!o->counts.confusion) return GD_OK;
  GD_TRY(gd_bytes_printf(out, ",\"confusion\":["));
  for (int32_t i = 0; i < n * n; i++)
    GD_TRY(gd_bytes_printf(out, "%s%lld%s",
                           i == 0       ? "["
                           : i % n == 0 ? ",["
                                        : ",",
                           (long long)o->counts.confusion[i], i % n == n - 1 ? "]" : ""));
  return gd_bytes_append(out, "]", 1);
}

static gd_status add_json(const gd_predictions *p, const outcome *after, const outcome *before, gd_bytes *out) {
  GD_TRY(gd_bytes_printf(out, "{\"task\":\"classification\",\"examples\":%lld,", (long long)p->examples));
  GD_TRY(add_members(&after->scores, out));
  GD_TRY(add_score("macro", &after->scores.macro, out));
  GD_TRY(add_score("weighted", &after->scores.weighted, out));
  GD_TRY(add_score("micro", &after->scores.micro, out));
  if (p->task->multiple) GD_TRY(add_score("samples", &after->samples, out));
  GD_TRY(add_classes(p, after, out));
  if (before) {
    comparison c = compare(before, after, p->examples);
    GD_TRY(gd_bytes_printf(out, ",\"before\":{"));
    GD_TRY(add_members(&before->scores, out));
    GD_TRY(gd_bytes_printf(out, "},\"right_before_alone\":%lld,\"right_after_alone\":%lld,\"mcnemar_p\":%.9g",
                           (long long)c.only_before, (long long)c.only_after, c.p));
  }
  return gd_bytes_append(out, "}\n", 2);
}

/* ---- both ---- */

typedef gd_status add_outcomes(const gd_predictions *p, const outcome *after, const outcome *before, gd_bytes *out);

static gd_status tell(add_outcomes *add, const gd_predictions *predictions, const gd_predictions *before, gd_bytes *out) {
  outcome after = {0}, old = {0};
  gd_status status = open_outcome(predictions, &after);
  if (status == GD_OK && before) status = open_outcome(before, &old);
  if (status == GD_OK) status = add(predictions, &after, before ? &old : 0, out);
  close_outcome(&after);
  close_outcome(&old);
  return status;
}

gd_status gd_eval_classes_text(const gd_predictions *predictions, const gd_predictions *before, gd_bytes *out) {
  return tell(add_text, predictions, before, out);
}
gd_status gd_eval_classes_json(const gd_predictions *predictions, const gd_predictions *before, gd_bytes *out) {
  return tell(add_json, predictions, before, out);
}

/* ---- example by example ---- */

static gd_status add_name(const gd_data_task *task, int32_t label, gd_bytes *out) {
  return gd_json_quote(out, task->labels[label], strlen(task->labels[label]));
}

/* The names of all labels of which values[label_count] say yes. */
static gd_status add_names(const gd_data_task *task, const float *values, bool (*says_yes)(float), gd_bytes *out) {
  bool first = true;
  GD_TRY(gd_bytes_append(out, "[", 1));
  for (int32_t i = 0; i < task->label_count; i++) {
    if (!says_yes(values[i])) continue;
    if (!first) GD_TRY(gd_bytes_append(out, ",", 1));
    GD_TRY(add_name(task, i, out));
    first = false;
  }
  return gd_bytes_append(out, "]", 1);
}

static gd_status add_probability(const char *before, float probability, gd_bytes *out) {
  return isfinite(probability) ? gd_bytes_printf(out, "%s%.9g", before, (double)probability)
                               : gd_bytes_printf(out, "%snull", before);
}

gd_status gd_eval_classes_answer(const gd_data_task *task, const float *probabilities, gd_bytes *out) {
  int32_t classes = task->label_count, predicted = best(probabilities, classes);
  GD_TRY(gd_bytes_printf(out, "\"predicted\":"));
  GD_TRY(task->multiple ? add_names(task, probabilities, is_given, out) : add_name(task, predicted, out));
  if (!task->multiple) GD_TRY(add_probability(",\"probability\":", probabilities[predicted], out));
  GD_TRY(gd_bytes_printf(out, ",\"probabilities\":["));
  for (int32_t i = 0; i < classes; i++) GD_TRY(add_probability(i ? "," : "", probabilities[i], out));
  return gd_bytes_append(out, "]", 1);
}

static gd_status add_line(const gd_predictions *p, int64_t example, gd_bytes *out) {
  int32_t classes = p->task->label_count, label = 0;
  GD_TRY(gd_bytes_printf(out, "{\"index\":%lld,\"label\":", (long long)example));
  if (p->task->multiple) {
    GD_TRY(add_names(p->task, p->labels + example * classes, is_had, out));
  } else {
    GD_TRY(label_of(p, example, &label));
    GD_TRY(add_name(p->task, label, out));
  }
  GD_TRY(gd_bytes_append(out, ",", 1));
  GD_TRY(gd_eval_classes_answer(p->task, p->probabilities + example * classes, out));
  return gd_bytes_append(out, "}\n", 2);
}

gd_status gd_eval_classes_lines(const gd_predictions *predictions, gd_bytes *out) {
  for (int64_t e = 0; e < predictions->examples; e++) GD_TRY(add_line(predictions, e, out));
  return GD_OK;
}
