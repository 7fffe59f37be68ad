/* class_report.c - the table of scores as scikit-learn prints it, and the confusion matrix. */
#include "trainer/scores/class_report.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Letters, not bytes: what does not continue a UTF-8 character begins one. */
static int letters(const char *text) {
  int count = 0;
  for (; *text; text++) count += ((unsigned char)*text & 0xc0) != 0x80;
  return count;
}

static int widest(const char *const *names, int32_t classes, int at_least) {
  for (int32_t i = 0; i < classes; i++)
    if (letters(names[i]) > at_least) at_least = letters(names[i]);
  return at_least;
}

/* On the right of `width` letters. */
static gd_status add_name(gd_bytes *out, const char *name, int width) {
  return gd_bytes_printf(out, "%*s%s", width - letters(name), "", name);
}

/* ---- the report ---- */

typedef struct table {
  gd_bytes *out;
  int width;
  const char *fraction; /* behind each support */
} table;

static gd_status add_support(const table *t, int64_t support) {
  char text[32];
  snprintf(text, sizeof text, "%" PRId64 "%s", support, t->fraction);
  return gd_bytes_printf(t->out, " %9s\n", text);
}

static gd_status add_row(const table *t, const char *name, const gd_class_score *score, int64_t support) {
  GD_TRY(add_name(t->out, name, t->width));
  GD_TRY(gd_bytes_printf(t->out, "  %9.4f %9.4f %9.4f", score->precision, score->recall, score->f1));
  return add_support(t, support);
}

gd_status gd_class_report(const gd_class_counts *counts, const gd_class_scores *scores, const gd_class_score *samples,
                          const char *const *names, gd_bytes *out) {
  /* Without a single hit scikit-learn counts in floating point, and its supports read "3.0". */
  bool no_hit = !counts->multiple && *counts->right == 0;
  table t = {out, widest(names, counts->classes, (int)strlen("weighted avg")), no_hit ? ".0" : ""};
  int64_t support = 0;
  GD_TRY(gd_bytes_printf(out, "%*s  %9s %9s %9s %9s\n\n", t.width, "", "precision", "recall", "f1-score", "support"));
  for (int32_t i = 0; i < counts->classes; i++) {
    GD_TRY(add_row(&t, names[i], &scores->of_class[i], counts->support[i]));
    support += counts->support[i];
  }
  GD_TRY(gd_bytes_append(out, "\n", 1));
  if (counts->multiple) {
    GD_TRY(add_row(&t, "micro avg", &scores->micro, support));
  } else {
    GD_TRY(add_name(out, "accuracy", t.width));
    GD_TRY(gd_bytes_printf(out, "  %9s %9s %9.4f", "", "", scores->accuracy));
    GD_TRY(add_support(&t, support));
  }
  GD_TRY(add_row(&t, "macro avg", &scores->macro, support));
  GD_TRY(add_row(&t, "weighted avg", &scores->weighted, support));
  return samples ? add_row(&t, "samples avg", samples, support) : GD_OK;
}

/* ---- the confusion matrix ---- */

static gd_status add_matrix(const gd_class_counts *counts, const char *const *names, gd_bytes *out) {
  int32_t n = counts->classes;
  int64_t most = n;
  for (int32_t i = 0; i < n * n; i++)
    if (counts->confusion[i] > most) most = counts->confusion[i];
  int name = widest(names, n, 0), width = snprintf(0, 0, "%" PRId64, most) + 1;
  GD_TRY(gd_bytes_printf(out, "%*s", name + 4, ""));
  for (int32_t c = 0; c < n; c++) GD_TRY(gd_bytes_printf(out, "%*d", width, c));
  for (int32_t r = 0; r < n; r++) {
    GD_TRY(gd_bytes_append(out, "\n", 1));
    GD_TRY(add_name(out, names[r], name));
    GD_TRY(gd_bytes_printf(out, " %3d", r));
    for (int32_t c = 0; c < n; c++) GD_TRY(gd_bytes_printf(out, "%*" PRId64, width, counts->confusion[r * n + c]));
  }
  return gd_bytes_append(out, "\n", 1);
}

/* Comes a pair of labels before another: by count, then by place? */
static bool before(const gd_class_counts *counts, int32_t a, int32_t b) {
  return counts->confusion[a] > counts->confusion[b] || (counts->confusion[a] == counts->confusion[b] && a < b);
}

static gd_status add_frequent(const gd_class_counts *counts, const char *const *names, gd_bytes *out) {
  enum { MOST = 20 };
  int32_t n = counts->classes, pairs[MOST], found = 0;
  for (int32_t i = 0; i < n * n; i++) {
    if (i / n == i % n || counts->confusion[i] == 0) continue;
    int32_t at = found < MOST ? found++ : MOST;
    for (; at > 0 && before(counts, i, pairs[at - 1]); at--)
      if (at < MOST) pairs[at] = pairs[at - 1];
    if (at < MOST) pairs[at] = i;
  }
  for (int32_t i = 0; i < found; i++)
    GD_TRY(gd_bytes_printf(out, "%9" PRId64 "  %s, predicted %s\n", counts->confusion[pairs[i]], names[pairs[i] / n],
                           names[pairs[i] % n]));
  return GD_OK;
}

gd_status gd_class_confusion(const gd_class_counts *counts, const char *const *names, gd_bytes *out) {
  if (counts->multiple) {
    int width = widest(names, counts->classes, 0);
    GD_TRY(gd_bytes_printf(out, "%*s  %9s %9s %9s %9s\n", width, "", "true neg", "false pos", "false neg", "true pos"));
    for (int32_t i = 0; i < counts->classes; i++) {
      int64_t hits = counts->hits[i], extra = counts->predicted[i] - hits, missed = counts->support[i] - hits;
      GD_TRY(add_name(out, names[i], width));
      GD_TRY(gd_bytes_printf(out, "  %9" PRId64 " %9" PRId64 " %9" PRId64 " %9" PRId64 "\n",
                             *counts->examples - hits - extra - missed, extra, missed, hits));
    }
    return GD_OK;
  }
  if (!counts->confusion) return gd_bytes_printf(out, "more than %d classes: not counted pair by pair\n", GD_CONFUSION_CLASSES);
  if (counts->classes > GD_CONFUSION_SHOWN) {
    GD_TRY(gd_bytes_printf(out, "most frequent confusions:\n"));
    return add_frequent(counts, names, out);
  }
  GD_TRY(gd_bytes_printf(out, "confusion matrix, a row a true label, a column a predicted one:\n"));
  return add_matrix(counts, names, out);
}
