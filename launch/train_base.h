/* train_base.h - do the weights to begin with fit the data: labels, tokenizer, rows of the token table. Local. */
#ifndef GD_LAUNCH_TRAIN_BASE_H
#define GD_LAUNCH_TRAIN_BASE_H

#include "io/data/dataset.h"
#include "shard/spec.h"

/* model.init_from is set, model.vocabulary and model.classes are settled; `classes`: what the latter was before. The data's
 * tokenizer is that of the weights, or that one with more special tokens behind it, for which alone the token table may have
 * more rows than the weights bring; of a model folder it may be another file of which each id is the same text. Weights without
 * a tokenizer that is read here are a warning: only the sizes are compared. The data has all labels of a classifier, by name,
 * whatever their order, and maybe more. GD_USAGE; what reading the folders gives. */
GD_CHECKED gd_status gd_train_base_check(const gd_spec *spec, int32_t classes, const gd_dataset *data);

#endif
