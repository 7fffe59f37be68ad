/* progress.h - who works is not stuck. Long work of any thread says gd_progress() after each part of it (a layer, a tensor, a
 * block of a file); the watchdog of comm/ looks whether the count has moved. */
#ifndef GD_SHARD_BASE_PROGRESS_H
#define GD_SHARD_BASE_PROGRESS_H

#include <stdint.h>

/* A part of some work is done. Any thread, costs nanoseconds. */
void gd_progress(void);

/* Parts done so far in this process. */
uint64_t gd_progress_count(void);

#endif
