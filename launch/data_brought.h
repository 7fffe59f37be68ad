/* data_brought.h - what earlier work brings to new data: the tokenizer of a run, a label map whose labels keep their
 * numbers, and the template of talks. Local. */
#ifndef GD_LAUNCH_DATA_BROUGHT_H
#define GD_LAUNCH_DATA_BROUGHT_H

#include "io/data/task.h"
#include "io/data/template.h"
#include "shard/spec.h"

/* A SPEC for gd_tokenizer_open: of a run or RUN@NAME the checkpoint's folder, written to `memory`; anything else is itself.
 * GD_USAGE, GD_BAD_DATA: no checkpoint there. */
GD_CHECKED gd_status gd_data_tokenizer_spec(const char *spec, char memory[GD_PATH_BYTES], const char **out);

/* The task of a dataset folder or one of its splits, what a checkpoint, a run or RUN@NAME was trained for, as its manifest
 * says, or the labels of a model folder. GD_USAGE where it has no labels. gd_data_task_free in any case. */
GD_CHECKED gd_status gd_data_labels(const char *path, gd_data_task *out);

/* The template of talks: the one called `named` (--template) where it is not NULL; else that of `spec`, a run, checkpoint,
 * dataset, model folder or hf:tokenizer.json (its manifest, index or chat_template); alpaca where that says nothing. GD_USAGE:
 * a chat_template that is none of ours; GD_BAD_DATA. gd_template_free in any case. */
GD_CHECKED gd_status gd_data_template(const char *spec, const char *named, gd_template *out);
/* What `spec` brings: all zeros where it says nothing that is one of ours. */
GD_CHECKED gd_status gd_data_template_brought(const char *spec, gd_template *out);

#endif
