/* class_report.h - scores of labels as text that a person reads. Local. */
#ifndef GD_TRAINER_SCORES_CLASS_REPORT_H
#define GD_TRAINER_SCORES_CLASS_REPORT_H

#include "io/base/files.h"
#include "trainer/scores/classification.h"

/* Appends what scikit-learn's classification_report(labels=all, target_names=names, digits=4, zero_division=0) prints, byte for
 * byte. names[classes] UTF-8. samples: gd_class_samples, where an example may have several labels; else NULL. GD_NO_MEMORY. */
GD_CHECKED gd_status gd_class_report(const gd_class_counts *counts, const gd_class_scores *scores,
                                     const gd_class_score *samples, const char *const *names, gd_bytes *out);

/* Appends the confusion matrix: a row a true label, a column a predicted one. With more than GD_CONFUSION_SHOWN classes: the
 * most frequent confusions. Several labels an example: true and false negatives and positives of each. GD_NO_MEMORY. */
enum { GD_CONFUSION_SHOWN = 24 };
GD_CHECKED gd_status gd_class_confusion(const gd_class_counts *counts, const char *const *names, gd_bytes *out);

#endif
