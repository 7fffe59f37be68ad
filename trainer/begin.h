/* begin.h - the weights of a new run: random ones, or those of model.init_from, with what the data asks for beside them. */
#ifndef GD_TRAINER_BEGIN_H
#define GD_TRAINER_BEGIN_H

#include "io/checkpoint/manifest.h"
#include "io/data/task.h"
#include "trainer/model.h"

/* Fills the model and says in *base what it began with. Of a base with fewer tokens the tables get rows (trainer/grow.h); upon
 * one without a classifier a random one is put; of one with a classifier the rows of its labels stand where `task`, that of the
 * data, has these labels, and rows of other labels are those that a random classifier has there. Rank 0 logs what was added.
 * Collective over the job. As gd_weight_source_open and gd_weight_source_read. */
GD_CHECKED gd_status gd_begin_weights(gd_session *session, gd_model *model, const gd_data_task *task, gd_base *base);

#endif
