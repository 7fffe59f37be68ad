/* weights.h - filling the parameter arena, from a reader of boxes. */
#ifndef GD_TRAINER_WEIGHTS_H
#define GD_TRAINER_WEIGHTS_H

#include "trainer/arenas.h"

/* Reads float32 boxes of named tensors into host memory (gd_checkpoint_read, gd_huggingface_read or random ones). */
typedef gd_status gd_weights_reader(void *context, const gd_tensor *tensors, const gd_owned_box *boxes, int32_t count,
                                    float *const *data);

enum { GD_PART_ELEMS = 1 << 22 };

/* Boxes on their way from a reader to the device, so many float32 at a time (or one row): the host holds no more of them. */
typedef struct gd_parts {
  gd_device *device;
  gd_dtype dtype; /* as they are stored there */
  const gd_tensor *tensors;
  gd_weights_reader *reader; /* is asked for boxes of one bucket at a time */
  void *context;
  void *(*place)(void *target, const gd_owned_box *box); /* where the first element of a part goes, the others behind it */
  void *target;
} gd_parts;

/* Waits for the stream. Local. GD_NO_MEMORY; what the reader says. */
GD_CHECKED gd_status gd_parts_read(const gd_parts *parts, const gd_owned_box *boxes, int32_t count);

/* Fills the parameter arena, whose padding is zero already, from a reader. Local. As gd_parts_read. */
GD_CHECKED gd_status gd_model_read_weights(gd_model *model, gd_weights_reader *reader, void *context);
/* The reader of initial weights: normal(0, init_std) by a counter rng keyed by (seed, tensor name) and the logical element,
 * norms 1, biases 0: the same on every layout. context: the gd_model. */
GD_CHECKED gd_status gd_model_random_weights(void *context, const gd_tensor *tensors, const gd_owned_box *boxes, int32_t count,
                                             float *const *data);

#endif
