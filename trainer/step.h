/* step.h - one training step: the table of shard/plan.h, walked.
 *
 * The host enqueues a step and need not wait for it: what it came to is read when the host wants it, up to GD_FLAGS_AHEAD steps
 * later. */
#ifndef GD_TRAINER_STEP_H
#define GD_TRAINER_STEP_H

#include "io/data/dataset.h"
#include "shard/plan.h"
#include "trainer/flags.h"
#include "trainer/labels.h"
#include "trainer/optimizer.h"
#include "trainer/reduce.h"
#include "trainer/timeline.h"

typedef struct gd_step {
  gd_model *model;
  gd_optimizer *optimizer;
  gd_gradient_reducer reducer;
  gd_flags flags;
  gd_plan plan;
  gd_event **done;         /* [rows]: of those that a row of the other stream waits for, else NULL */
  gd_event **gathered;     /* [buckets]: those of the gather rows, which the next step's forward waits for */
  gd_tree_counter counter; /* over this data rank's sequences */
  gd_micro *micros;        /* [slots]: under way */
  gd_verdict *verdicts;    /* host, [GD_FLAGS_AHEAD]: step n's at n % GD_FLAGS_AHEAD */
  gd_event *voted[GD_FLAGS_AHEAD];
  void *batch_memory;               /* host, of the batches */
  gd_batch batches[GD_FLAGS_AHEAD]; /* step n's at n % GD_FLAGS_AHEAD */
  gd_event *loaded[GD_FLAGS_AHEAD]; /* they have been copied to the device */
  void *label_memory;               /* host, of a classifier: those of step n at n % GD_FLAGS_AHEAD; else NULL */
  int64_t label_bytes;
  gd_labels labels;      /* of the step that is being enqueued */
  gd_timeline *timeline; /* the run's, while it draws; else NULL */
} gd_step;

/* What all ranks have agreed on in a step. */
typedef struct gd_step_result {
  gd_verdict verdict;
  int32_t flags[GD_FLAGS];
} gd_step_result;

/* `ask` (may be NULL) tells this rank's flags in each vote. Local. */
GD_CHECKED gd_status gd_step_open(gd_model *model, gd_optimizer *optimizer, gd_flags_ask *ask, void *context, gd_step *out);
void gd_step_close(gd_step *step);

/* Where step `number`'s batch is to be written: host memory that copies reach while the host goes on. Waits until the batch
 * that was there has been copied, or the device would find the new one in its place. Local. */
GD_CHECKED gd_status gd_step_batch(gd_step *step, int64_t number, gd_batch **out);
/* Enqueues step `number` on this data rank's share of the global batch (gd_step_batch's, or other host arrays of `share`
 * sequences, which must stay until the step's result was read). With ZeRO 1 the updated weights of other ranks' pieces come on
 * the communication stream (the next forward waits for them). Collective over the job. */
GD_CHECKED gd_status gd_step_run(gd_step *step, int64_t number, const gd_batch *share, float lr);
/* What gd_step_repeat shows of a bucket: this rank's own sums of its gradient, in the slots of step->counter, ready on the
 * reducer's stream. */
typedef gd_status gd_step_look(void *context, gd_step *step, int32_t bucket);
/* Forward and backward of a step that changed no weights (its update was skipped) once more, with the same masks of dropout:
 * `look` sees each bucket where gd_step_run sums it over the data axis. Nothing is summed there, nothing is updated. Collective
 * over tensor. */
GD_CHECKED gd_status gd_step_repeat(gd_step *step, int64_t number, const gd_batch *share, gd_step_look *look, void *context);
/* Waits for the vote of step `number`, of the last GD_FLAGS_AHEAD that were enqueued. Local. */
GD_CHECKED gd_status gd_step_read(gd_step *step, int64_t number, gd_step_result *out);
/* Waits until all that was enqueued has passed, on both streams. Local. */
GD_CHECKED gd_status gd_step_wait(gd_step *step);

#endif
