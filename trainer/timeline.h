/* timeline.h - when each row of the first steps, and each call of a group inside it, ran on its stream (log.timeline): a file a
 * rank, RUN/timeline/rank-00000.json, in Chrome's trace event format, which Perfetto opens.
 *
 * Host tasks in the streams read the clock, so times are the streams' own on every device and no number depends on them. On a
 * GPU the stream stands still for each, some microseconds. Local where nothing else is said, on the thread that enqueues. */
#ifndef GD_TRAINER_TIMELINE_H
#define GD_TRAINER_TIMELINE_H

#include "comm/session.h"
#include "shard/plan.h"

typedef struct gd_timeline gd_timeline;

/* How far a clock is ahead of rank 0's, as known from messages both ways: between the two, in seconds. */
typedef struct gd_clock_bounds {
  double least, most;
} gd_clock_bounds;

/* What is taken for it: none where that is possible - ranks of one host have one clock, hosts count from when they were started
 * - else the middle. */
double gd_clock_ahead(gd_clock_bounds bounds);

/* Draws spec->log.timeline steps from `first_step` on. Compares the clocks: collective over the job. layout must stay where it
 * is. GD_NO_MEMORY. */
GD_CHECKED gd_status gd_timeline_open(gd_session *session, gd_device *device, const gd_spec *spec, const gd_layout *layout,
                                      int64_t first_step, gd_timeline **out);
/* What is on the streams must have ended. */
void gd_timeline_close(gd_timeline *timeline);

/* Around the enqueueing of a row of step `step` on its stream, behind what the stream waits for; nothing for other steps. */
GD_CHECKED gd_status gd_timeline_begin(gd_timeline *timeline, gd_stream *stream, int64_t step, int32_t row,
                                       const gd_action *action);
GD_CHECKED gd_status gd_timeline_end(gd_timeline *timeline);

/* Whether all its steps are among the first `steps` of the run. */
bool gd_timeline_whole(const gd_timeline *timeline, int64_t steps);
/* Writes this rank's file, where there was a step to draw; what is on the streams must have ended. GD_IO: an earlier file
 * stays. */
GD_CHECKED gd_status gd_timeline_write(const gd_timeline *timeline);

#endif
