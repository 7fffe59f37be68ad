#include "shard/base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static gd_log_sink *current_sink;
static void *current_context;

void gd_log_set_sink(gd_log_sink *sink, void *context) {
  pthread_mutex_lock(&lock);
  current_sink = sink;
  current_context = context;
  pthread_mutex_unlock(&lock);
}

void gd_log(gd_log_level level, const char *format, ...) {
  char line[4096];
  va_list list;
  va_start(list, format);
  vsnprintf(line, sizeof line, format, list);
  va_end(list);
  pthread_mutex_lock(&lock);
  if (current_sink) current_sink(current_context, level, line);
  pthread_mutex_unlock(&lock);
}
