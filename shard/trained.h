/* trained.h - which tensors of a model learn, and how fast: finetune.train and optimizer.lr_scale, by the tensors' names.
 *
 * What finetune.train names learns, all else is frozen: "head" is the head and the final norm (a tied head is the token table),
 * "top:K" these and the last K layers, anything else a name with the wildcards of a shell, where * takes dots too. */
#ifndef GD_SHARD_TRAINED_H
#define GD_SHARD_TRAINED_H

#include "shard/spec.h"

bool gd_trained(const gd_spec *spec, const char *tensor);
/* The factor of the last pattern of optimizer.lr_scale that matches; none: 1. */
float gd_trained_lr_scale(const gd_spec *spec, const char *tensor);

/* Does every pattern mean something of the model whose tensors these are (a factor: of what learns)? GD_USAGE naming key and
 * pattern, and what there is. */
GD_CHECKED gd_status gd_trained_check(const gd_spec *spec, const gd_tensor *tensors, int32_t count);

#endif
