/* step.h - one training step: the table of shard/plan.h, walked. */
#ifndef GD_TRAINER_STEP_H
#define GD_TRAINER_STEP_H

#include "io/data/dataset.h"
#include "shard/plan.h"
#include "trainer/optimizer.h"
#include "trainer/reduce.h"

typedef struct gd_step {
  gd_model *model;
  gd_optimizer *optimizer;
  gd_gradient_reducer reducer;
  gd_plan plan;
  gd_event **done;         /* [rows]: of those that a row of the other stream waits for, else NULL */
  gd_event **gathered;     /* [buckets]: those of the gather rows, which the next step's forward waits for */
  gd_tree_counter counter; /* over this data rank's sequences */
  gd_micro *micros;        /* [slots]: under way */
} gd_step;

/* Local. */
GD_CHECKED gd_status gd_step_open(gd_model *model, gd_optimizer *optimizer, gd_step *out);
void gd_step_close(gd_step *step);

/* Enqueues step `number` on this data rank's share of the global batch (host arrays, `share` sequences). The verdict is ready
 * when the compute stream has passed; with ZeRO 1 the updated weights of other ranks' pieces come on the communication stream
 * (the next forward waits for them). Collective over the job. */
GD_CHECKED gd_status gd_step_run(gd_step *step, int64_t number, const gd_batch *share, float lr);
/* Waits until all of it has passed, on both streams. Local. */
GD_CHECKED gd_status gd_step_wait(gd_step *step);

#endif
