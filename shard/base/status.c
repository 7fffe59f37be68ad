#include "shard/base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char error_text[2048];
static int place_rank = -1;
static char place_host[128];
static _Atomic int64_t place_step = -1;

static void append(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void append_list(const char *format, va_list list) {
  size_t used = strlen(error_text);
  if (used + 1 < sizeof error_text) vsnprintf(error_text + used, sizeof error_text - used, format, list);
}

static void append(const char *format, ...) {
  va_list list;
  va_start(list, format);
  append_list(format, list);
  va_end(list);
}

gd_status gd_error_write(gd_status code, const char *file, int line, const char *function, const char *format, ...) {
  /* The arguments may point into the old record, so the new text is built aside. */
  char text[sizeof error_text];
  va_list list;
  va_start(list, format);
  vsnprintf(text, sizeof text, format, list);
  va_end(list);
  memcpy(error_text, text, sizeof text);
  if (file) {
    append(" [%s:%d %s", file, line, function);
    if (place_rank >= 0) append(", rank %d on %s", place_rank, place_host);
    if (place_step >= 0) append(", step %lld", (long long)place_step);
    append("]");
  }
  return code;
}

gd_status gd_error_context(gd_status code, const char *format, ...) {
  append("\n  ");
  va_list list;
  va_start(list, format);
  append_list(format, list);
  va_end(list);
  return code;
}

const char *gd_error_text(void) {
  return error_text;
}

void gd_error_clear(void) {
  error_text[0] = 0;
}

void gd_error_take(gd_status code, gd_error *out) {
  out->code = code;
  memcpy(out->text, error_text, sizeof out->text);
}

gd_status gd_error_raise(const gd_error *error) {
  memcpy(error_text, error->text, sizeof error_text);
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
