/* data_brought.h - what earlier work brings to new data: the tokenizer of a run, and a label map whose labels keep their
 * numbers. Local. */
#ifndef GD_LAUNCH_DATA_BROUGHT_H
#define GD_LAUNCH_DATA_BROUGHT_H

#include "io/data/task.h"
#include "shard/spec.h"

/* A SPEC for gd_tokenizer_open: of a run or RUN@NAME the checkpoint's folder, written to `memory`; anything else is itself.
 * GD_USAGE, GD_BAD_DATA: no checkpoint there. */
GD_CHECKED gd_status gd_data_tokenizer_spec(const char *spec, char memory[GD_PATH_BYTES], const char **out);

/* The task of a dataset folder or one of its splits, or what a checkpoint, a run or RUN@NAME was trained for, as its manifest
 * says. GD_USAGE where it has no labels. gd_data_task_free in any case. */
GD_CHECKED gd_status gd_data_labels(const char *path, gd_data_task *out);

#endif
