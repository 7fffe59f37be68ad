/* text.c - sentences in a buffer of fixed size. */
#include "shard/base/text.h"

#include <stdarg.h>
#include <stdio.h>

void gd_text_add(gd_text *text, const char *format, ...) {
  size_t room = text->bytes - text->used;
  if (room < 2) return;
  va_list list;
  va_start(list, format);
  int n = vsnprintf(text->out + text->used, room, format, list);
  va_end(list);
  if (n > 0) text->used += (size_t)n < room ? (size_t)n : room - 1;
}
