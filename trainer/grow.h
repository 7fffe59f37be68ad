/* grow.h - the weights of a model with fewer tokens read into one with more. Local. */
#ifndef GD_TRAINER_GROW_H
#define GD_TRAINER_GROW_H

#include "trainer/source.h"

/* As gd_weight_source_read, where the source's token table and head have `rows` rows, no more than `tensors` say: each further
 * row is the mean of theirs, summed in double, row after row, and rounded once. GD_NO_MEMORY, and as gd_weight_source_read. */
GD_CHECKED gd_status gd_grown_read(const gd_weight_source *source, int64_t rows, const gd_tensor *tensors,
                                   const gd_owned_box *boxes, int32_t count, float *const *data);

#endif
