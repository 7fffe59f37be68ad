/* optimizer.h - the state of the optimizer on one rank (moments, and float32 master weights of a bfloat16 run), the vote that
 * ends a step and the update. ZeRO 0 keeps the state of every parameter here, ZeRO 1 (Rajbhandari et al. 2020) that of this
 * rank's pieces. What is frozen has none. */
#ifndef GD_TRAINER_OPTIMIZER_H
#define GD_TRAINER_OPTIMIZER_H

#include "trainer/flags.h"
#include "trainer/gradient_norm.h"

/* Elements of a bucket that this rank updates with one learning rate. */
typedef struct gd_update_span {
  int32_t bucket;
  float lr_scale;
  int64_t offset, elements;
} gd_update_span;

typedef struct gd_optimizer {
  gd_model *model;
  gd_update_span *spans;
  int32_t span_count;
  float *master;         /* [state_elems]; NULL in float32 runs, where the parameters are the master */
  float *first, *second; /* [state_elems]; second NULL for SGD */
  uint8_t *decay;        /* [state_elems / GD_UNIT_ELEMS] */
  gd_verdict *verdict;   /* device */
  gd_gradient_norm norm;
  float *sequence_sums, *all_sequence_sums; /* [2 * share], [2 * global batch] */
} gd_optimizer;

/* Takes the memory; moments and verdict start at zero, masters from the parameters (call after the weights are read). Local. */
GD_CHECKED gd_status gd_optimizer_open(gd_model *model, gd_optimizer *out);
void gd_optimizer_close(gd_optimizer *optimizer);

/* Loss and gradient norm over all ranks, the flags of this place (flags.h), the verdict on the device. Collective over the job.
 */
GD_CHECKED gd_status gd_optimizer_vote(gd_optimizer *optimizer, gd_flags *flags, int32_t place);
/* Moments, master and stored weights of what this rank updates, from gradient slot 0; a parameter's learning rate, and with it
 * its decay, is lr times its lr_scale. Local. */
GD_CHECKED gd_status gd_optimizer_update(gd_optimizer *optimizer, float lr);
/* Every data rank gets a bucket's updated weights of all pieces (ZeRO 1), on the communication stream. Collective over data. */
GD_CHECKED gd_status gd_optimizer_gather(gd_optimizer *optimizer, int32_t bucket);

/* applied_steps and bad_steps of a resumed run. Local. */
GD_CHECKED gd_status gd_optimizer_set_progress(gd_optimizer *optimizer, int64_t applied_steps, int64_t bad_steps);

/* Device pointer to the float32 weights from element `offset` of a bucket on, of those that this rank updates: the master, or
 * the parameter itself. */
float *gd_optimizer_weights(const gd_optimizer *optimizer, int32_t bucket, int64_t offset);

#endif
