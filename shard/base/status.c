/* status.c - the thread's record of what went wrong, and how its text is put together. */
#include "shard/base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local gd_error record;
static int place_rank = -1;
static char place_host[128];
static _Atomic int64_t place_step = -1;

/* "io/base/files.c:55 gd_file_read, rank 2 on node7, step 400" */
static void write_place(const char *file, int line, const char *function) {
  char rank[sizeof record.whose] = "", step[32] = "";
  while (strncmp(file, "../", 3) == 0) file += 3; /* as the build folder sees it */
  if (place_rank >= 0) snprintf(rank, sizeof rank, ", rank %d on %s", place_rank, place_host);
  if (place_step >= 0) snprintf(step, sizeof step, ", step %lld", (long long)place_step);
  snprintf(record.place, sizeof record.place, "%s:%d %s%s%s", file, line, function, rank, step);
}

gd_status gd_error_write(gd_status code, const char *file, int line, const char *function, const char *format, ...) {
  /* The arguments may point into the old record, so the new text is built aside. */
  char text[sizeof record.text];
  va_list list;
  va_start(list, format);
  vsnprintf(text, sizeof text, format, list);
  va_end(list);
  record = (gd_error){.code = code};
  memcpy(record.text, text, sizeof text);
  if (file) write_place(file, line, function);
  if (place_rank > 0) snprintf(record.whose, sizeof record.whose, "rank %d on %s: ", place_rank, place_host);
  return code;
}

gd_status gd_error_context(gd_status code, const char *format, ...) {
  size_t used = strlen(record.text);
  snprintf(record.text + used, sizeof record.text - used, "\n  ");
  used = strlen(record.text);
  va_list list;
  va_start(list, format);
  vsnprintf(record.text + used, sizeof record.text - used, format, list);
  va_end(list);
  return code;
}

const char *gd_error_text(void) {
  return record.text;
}

const char *gd_error_place(void) {
  return record.place;
}

const char *gd_error_whose(void) {
  return record.whose;
}

void gd_error_clear(void) {
  record = (gd_error){.code = GD_OK};
}

void gd_error_take(gd_status code, gd_error *out) {
  *out = record;
  out->code = code;
}

gd_status gd_error_raise(const gd_error *error) {
  record = *error;
  return error->code;
}

void gd_error_set_place(int rank, const char *host) {
  place_rank = rank;
  snprintf(place_host, sizeof place_host, "%s", host ? host : "");
}

void gd_error_set_step(int64_t step) {
  place_step = step;
}

const char *gd_status_name(gd_status status) {
  switch (status) {
    case GD_OK: return "ok";
    case GD_NO: return "no";
    case GD_USAGE: return "usage or configuration";
    case GD_BAD_DATA: return "bad data";
    case GD_BUG: return "internal error";
    case GD_NO_MEMORY: return "out of memory";
    case GD_IO: return "input/output";
    case GD_REQUEUE: return "checkpointed, start again";
    case GD_RANK_FAILED: return "a rank failed";
    case GD_LOSS_DIVERGED: return "the loss diverged";
  }
  return "unknown status";
}
