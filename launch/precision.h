/* precision.h - the dtype that a job really computes in, known once its device is open. */
#ifndef GD_LAUNCH_PRECISION_H
#define GD_LAUNCH_PRECISION_H

#include "comm/session.h"
#include "shard/spec.h"

/* bfloat16 where every rank's kernels have its products; else it becomes float32, which rank 0 says, on all ranks alike. With
 * `promised` (a training in numerics: invariant) that would be other bits: GD_USAGE naming the rank and its kernels.
 * Collective over the job. */
GD_CHECKED gd_status gd_precision_settle(gd_session *session, gd_device *device, bool promised, gd_spec *spec);

#endif
