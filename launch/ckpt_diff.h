/* ckpt_diff.h - how two checkpoints differ, tensor by tensor. Local. */
#ifndef GD_LAUNCH_CKPT_DIFF_H
#define GD_LAUNCH_CKPT_DIFF_H

#include <stdbool.h>

#include "io/checkpoint/checkpoint.h"

/* Prints to stdout what differs: one line a tensor and kind (or one JSON document a line), then a summary. GD_NO when anything
 * that gd_checkpoint_hash covers differs. Streams; bounded memory. */
GD_CHECKED gd_status gd_ckpt_diff(const gd_checkpoint *a, const gd_checkpoint *b, bool json);

#endif
