/* stage.h - a folder that is there whole or not at all: made under another name, renamed when every byte is on the disk. Local.
 */
#ifndef GD_IO_BASE_STAGE_H
#define GD_IO_BASE_STAGE_H

#include "shard/base/status.h"
#include "shard/spec.h"

/* Makes the empty folder PATH.tmp-new, in place of one that a killed try left. GD_USAGE where PATH is taken by anything but an
 * empty folder; GD_IO. */
GD_CHECKED gd_status gd_stage_open(const char *path, char staged[GD_PATH_BYTES]);

/* Ends it, `so_far` being what came of filling the folder: published as PATH, forced to the disk, or removed. Returns the first
 * fault. */
GD_CHECKED gd_status gd_stage_close(const char *path, const char *staged, gd_status so_far);

#endif
