/* train_base.h - do the weights to begin with fit the data: labels, tokenizer, rows of the token table. Local. */
#ifndef GD_LAUNCH_TRAIN_BASE_H
#define GD_LAUNCH_TRAIN_BASE_H

#include "io/data/dataset.h"
#include "shard/spec.h"

/* model.init_from is set, and model.vocabulary settled. The data's tokenizer is that of the weights, or that one with more
 * special tokens behind it, for which alone the token table may have more rows than the weights bring. Of a model folder
 * whose tokenizer is not read, or is another file, only the sizes are compared. GD_USAGE; what reading the folders gives. */
GD_CHECKED gd_status gd_train_base_check(const gd_spec *spec, const gd_dataset *data);

#endif
