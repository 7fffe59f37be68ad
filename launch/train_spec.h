/* train_spec.h - one way from run file and command line to the spec that trains, for gptdist-train, its --dry-run and
 * gptdist-data at: load, then the data, then resolve. */
#ifndef GD_LAUNCH_TRAIN_SPEC_H
#define GD_LAUNCH_TRAIN_SPEC_H

#include "io/data/dataset.h"
#include "launch/options.h"
#include "trainer/resume.h"

/* Run file, command line, and the model that model.init_from brings (by its manifest or config.json; its weights are not
 * hashed yet), which once there is a checkpoint to resume from is that of the checkpoint: what the run began with need not be
 * there any more. Local, one rank's work. GD_USAGE also where a key contradicts that model; what reading the folder gives. */
GD_CHECKED gd_status gd_train_spec_load(const gd_command_line *line, const gd_resume *resume, gd_spec *spec,
                                        gd_config_origins *origins);

/* Opens the training data for the spec's windows; its vocabulary counts where none was given, what is said in epochs becomes
 * steps, and examples of a task stand each by itself (data.mask_documents, reset_positions); their labels say what the
 * classifier is (model.classes, finetune.loss). Weights to begin with get rows for tokens that the data's tokenizer has behind
 * theirs. first: this rank (one does) also compares tokenizer, labels and task with those of the weights. Local. GD_USAGE where
 * the data does not fit the model or is for another task than finetune.task; what gd_dataset_open gives. */
GD_CHECKED gd_status gd_train_spec_open_data(gd_spec *spec, const gd_resume *resume, const gd_config_origins *origins,
                                             bool first, gd_dataset **out);

/* Whether a validation split is of the same task, labels, template and tokenizer. Local. GD_USAGE. */
GD_CHECKED gd_status gd_train_spec_check_validation(const gd_dataset *data, const gd_dataset *validation);

/* GD_USAGE: validation.metric is of other data; a key goes by validations, and there is no validation data (validation NULL).
 */
GD_CHECKED gd_status gd_train_spec_check_policy(const gd_spec *spec, const gd_dataset *data, const gd_dataset *validation);

/* gd_spec_resolve, and where each key that a fault names came from. Local. GD_USAGE. */
GD_CHECKED gd_status gd_train_spec_resolve(gd_spec *spec, const gd_config_origins *origins, int32_t ranks);

/* The whole way for a plan, which can do without the data where the vocabulary is known. Local. GD_USAGE. */
GD_CHECKED gd_status gd_train_spec_plan(const gd_command_line *line, const gd_resume *resume, int32_t ranks, gd_spec *spec,
                                        gd_config_origins *origins);

#endif
