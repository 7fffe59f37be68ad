/* classification.h - how good predicted labels are: counts that can be added up over parts and ranks, and the scores that
 * follow from them, as scikit-learn defines them (a score whose denominator is 0 is 0). All local, on the host. */
#ifndef GD_TRAINER_SCORES_CLASSIFICATION_H
#define GD_TRAINER_SCORES_CLASSIFICATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shard/spec.h"

/* ---- counts ---- */

enum { GD_CONFUSION_CLASSES = 1024 }; /* with more classes the matrix is not kept: 8 bytes a pair */

/* The sum of the counts of parts, element by element, is the counts of the whole: ranks may add all[elements]. The other
 * pointers point into it. */
typedef struct gd_class_counts {
  int32_t classes;
  bool multiple; /* any number of labels an example, not one */
  int64_t *all;  /* [elements] */
  int64_t elements;
  int64_t *examples;  /* [1] */
  int64_t *right;     /* [1] examples whose labels were all predicted, and no others */
  int64_t *hits;      /* [classes] examples that have the label and were given it */
  int64_t *predicted; /* [classes] examples that were given it */
  int64_t *support;   /* [classes] examples that have it */
  int64_t *confusion; /* [classes][classes], true x predicted; NULL: several labels, or more than GD_CONFUSION_CLASSES */
} gd_class_counts;

/* All zeros. classes >= 1. GD_NO_MEMORY. */
GD_CHECKED gd_status gd_class_counts_open(int32_t classes, bool multiple, gd_class_counts *out);
void gd_class_counts_close(gd_class_counts *counts);

/* The label that logits[outputs] say: the largest, the first of equals. One output for two labels: 1 where it is above 0. */
int32_t gd_class_answer(const float *logits, int32_t outputs);

/* Adds an example of one label; both in [0, classes). */
void gd_class_counts_add(gd_class_counts *counts, int32_t label, int32_t predicted);
/* Adds an example of any number of labels: has[classes], given[classes], 0 or 1. */
void gd_class_counts_add_multiple(gd_class_counts *counts, const uint8_t *has, const uint8_t *given);

/* ---- scores ---- */

typedef struct gd_class_score {
  double precision, recall, f1;
} gd_class_score;

typedef struct gd_class_scores {
  gd_class_score *of_class;              /* [classes] */
  gd_class_score micro, macro, weighted; /* over all decisions; the mean of the classes; their mean weighted by support */
  double accuracy;                       /* right / examples */
  double loss;                           /* the caller's; NaN: not known */
} gd_class_scores;

/* loss = NaN; without examples all is 0. Sums as NumPy makes them, so that no digit differs. GD_NO_MEMORY. */
GD_CHECKED gd_status gd_class_scores_open(const gd_class_counts *counts, gd_class_scores *out);
void gd_class_scores_close(gd_class_scores *scores);

/* The mean over examples of the scores of each: has and given are [examples][classes]. GD_NO_MEMORY. */
GD_CHECKED gd_status gd_class_samples(const uint8_t *has, const uint8_t *given, int64_t examples, int32_t classes,
                                      gd_class_score *out);

/* A score by its name: what a run may watch, and reports list. */
double gd_class_scores_value(const gd_class_scores *scores, gd_metric metric);

/* ---- two predictions of the same examples ---- */

/* McNemar's exact test (two-sided, binomial): the probability of a split at least as uneven of those examples that only one of
 * two predictions got right, if both are as good. 1 where there are none. */
double gd_mcnemar(int64_t only_first, int64_t only_second);

#endif
