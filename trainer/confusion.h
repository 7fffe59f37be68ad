/* confusion.h - what a classifier answered, counted. Host memory. */
#ifndef GD_TRAINER_CONFUSION_H
#define GD_TRAINER_CONFUSION_H

#include "comm/session.h"

/* One label a document: counts[truth][answer], labels x labels. Several (multiple): counts[label][truth][answer], labels x 2 x
 * 2, where a label of at least a half is one. */
typedef struct gd_confusion {
  int32_t labels;
  bool multiple;
  int64_t documents, right; /* right: in all labels */
  int64_t *counts;
} gd_confusion;

/* Empty. GD_NO_MEMORY. */
GD_CHECKED gd_status gd_confusion_open(int32_t labels, bool multiple, gd_confusion *out);
void gd_confusion_close(gd_confusion *confusion);
void gd_confusion_clear(gd_confusion *confusion);
int64_t gd_confusion_size(const gd_confusion *confusion); /* of counts */

/* The answer to logits[outputs]: the largest, the first of equals. One output: 1 where it is above 0. */
int32_t gd_confusion_answer(const float *logits, int32_t outputs);
/* Counts a document with its labels, as a shard has them (one number, or one for each label), and its logits[outputs]. */
void gd_confusion_add(gd_confusion *confusion, const float *labels, const float *logits, int32_t outputs);

/* Adds up those of all ranks that count, on all of them. Collective over the job. GD_NO_MEMORY. */
GD_CHECKED gd_status gd_confusion_sum(gd_session *session, bool mine_counts, gd_confusion *confusion);

#endif
