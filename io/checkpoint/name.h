/* name.h - a checkpoint as a person names it: a folder, or RUN@best, RUN@last, RUN@STEP, where RUN is a run's folder or its
 * checkpoints/. A path that is there as it is written is that path, whatever characters it has. All calls are local. */
#ifndef GD_IO_CHECKPOINT_NAME_H
#define GD_IO_CHECKPOINT_NAME_H

#include <stdbool.h>
#include <stdint.h>

#include "shard/base/status.h"
#include "shard/spec.h"

/* Whether the path is RUN@... of a RUN that is there. */
bool gd_checkpoint_is_name(const char *path);

/* At the door: is the folder, or the RUN of RUN@..., there? GD_USAGE with what was `expected`; GD_IO. */
GD_CHECKED gd_status gd_checkpoint_named(const char *path, const char *expected);

/* The folder that is meant: `path` itself, or the checkpoint of RUN@...; *exact: the latter. GD_USAGE, with the steps that
 * there are, where there is none of that name; GD_IO. */
GD_CHECKED gd_status gd_checkpoint_find(const char *path, char out[GD_PATH_BYTES], bool *exact);

/* RUN/checkpoints where that is a folder, else RUN. */
GD_CHECKED gd_status gd_checkpoint_folder(const char *run, char out[GD_PATH_BYTES]);

/* The step marked as the best in a folder of checkpoints, -1: none, or it is not there any more. GD_IO, GD_NO_MEMORY. */
GD_CHECKED gd_status gd_checkpoint_best(const char *folder, int64_t *step);

#endif
