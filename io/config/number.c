/* number.c - a float as people write it. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "io/config/internal.h"

bool gd_config_parse_float(const char *text, float *out) {
  /* Decimal only: strtof alone would take hexadecimal, "inf" and "nan". */
  if (!*text || strspn(text, "0123456789+-.eE") != strlen(text)) return false;
  char *end;
  errno = 0;
  float value = strtof(text, &end);
  if (*end || end == text || !isfinite(value) || (errno == ERANGE && value == 0.0f)) return false;
  *out = value == 0.0f ? 0.0f : value;
  return true;
}

/* 0.01, not 0.00999999978. */
void gd_config_float_text(float value, char *out, size_t bytes) {
  for (int digits = 6; digits <= 9; digits++) {
    snprintf(out, bytes, "%.*g", digits, (double)value);
    if (strtof(out, 0) == value) return;
  }
}
