/* validate.h - the loss on a split: every target once, the same bits on every layout in invariant mode. */
#ifndef GD_TRAINER_VALIDATE_H
#define GD_TRAINER_VALIDATE_H

#include "io/data/dataset.h"
#include "shard/plan.h"
#include "trainer/model.h"
#include "trainer/scores/classification.h"

typedef struct gd_validator {
  gd_model *model;
  gd_dataset *dataset;
  gd_plan plan;           /* of a global batch: forward and head */
  void *batch_memory;     /* host */
  gd_batch batch;         /* [share][T] */
  float *sums, *all_sums; /* device: [2 * share], [2 * global] */
  float *host_sums;
  /* Of a classifier, else zeros: */
  void *label_memory;
  gd_labels labels;       /* of the batch */
  float *logits;          /* host: of the batch's documents, as gd_classifier_loss */
  uint8_t *has, *given;   /* [classes]: of several labels, those of a document */
  gd_class_counts counts; /* of the last run, all documents, on every rank */
} gd_validator;

GD_CHECKED gd_status gd_validator_open(gd_model *model, gd_dataset *dataset, gd_validator *out);
void gd_validator_close(gd_validator *validator);

/* Asked between batches on every rank; the answer must be agreed. */
typedef gd_status gd_validator_poll(void *context, bool *stop);

/* Runs global batches of windows from the start of the split (batches 0: all). values by gd_metric: the loss is the mean over
 * targets, of a classifier over documents, without class weights and label smoothing; NaN for what this split's task has not.
 * *stopped when the poll said so and there are none. Collective over the job. */
GD_CHECKED gd_status gd_validator_run(gd_validator *validator, int64_t batches, int64_t step, gd_validator_poll *poll,
                                      void *context, double values[GD_METRICS], bool *stopped);

#endif
