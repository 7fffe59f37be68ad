/* progress.c - one counter for the whole process: work has no session to report to below comm/. */
#include "shard/base/progress.h"

#include <stdatomic.h>

static atomic_uint_fast64_t count;

void gd_progress(void) {
  atomic_fetch_add_explicit(&count, 1, memory_order_relaxed);
}

uint64_t gd_progress_count(void) {
  return atomic_load_explicit(&count, memory_order_relaxed);
}
