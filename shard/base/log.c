/* log.c - the one place that lines for people go through: a sink that launch/ sets, one line at a time. */
#include "shard/base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>

#include "shard/base/status.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static gd_log_sink *current_sink;
static void *current_context;

void gd_log_set_sink(gd_log_sink *sink, void *context) {
  pthread_mutex_lock(&lock);
  current_sink = sink;
  current_context = context;
  pthread_mutex_unlock(&lock);
}

static void log_list(gd_log_level level, const char *format, va_list list) {
  char line[4096];
  vsnprintf(line, sizeof line, format, list);
  pthread_mutex_lock(&lock);
  if (current_sink) current_sink(current_context, level, line);
  pthread_mutex_unlock(&lock);
}

void gd_log(gd_log_level level, const char *format, ...) {
  va_list list;
  va_start(list, format);
  log_list(level, format, list);
  va_end(list);
}

void gd_log_fault(gd_log_level level, const char *format, ...) {
  va_list list;
  va_start(list, format);
  log_list(level, format, list);
  va_end(list);
  if (*gd_error_place()) gd_log(GD_LOG_DEBUG, "raised at %s", gd_error_place());
}
