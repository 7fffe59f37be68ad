/* weights.h - filling the parameter arena, from a reader of boxes. */
#ifndef GD_TRAINER_WEIGHTS_H
#define GD_TRAINER_WEIGHTS_H

#include "trainer/arenas.h"

/* Reads float32 boxes of named tensors into host memory (gd_checkpoint_read, gd_huggingface_read or random ones). */
typedef gd_status gd_weights_reader(void *context, const gd_tensor *tensors, const gd_owned_box *boxes, int32_t count,
                                    float *const *data);
/* Fills the parameter arena from a reader. Collective over nothing; may take gigabytes of host memory for a moment. */
GD_CHECKED gd_status gd_model_read_weights(gd_model *model, gd_weights_reader *reader, void *context);
/* The reader of initial weights: normal(0, init_std) by a counter rng keyed by (seed, tensor name) and the logical element,
 * norms 1, biases 0: the same on every layout. context: the gd_model. */
GD_CHECKED gd_status gd_model_random_weights(void *context, const gd_tensor *tensors, const gd_owned_box *boxes, int32_t count,
                                             float *const *data);

#endif
