/* doctor_report.c - what the doctor's parts share: a finding on stdout, the middle of many values. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/base/json.h"
#include "launch/doctor.h"
#include "launch/run_line.h"

static int bad_findings;
static bool as_json;

void gd_doctor_report_as(bool json) {
  as_json = json;
}

int gd_doctor_bad(void) {
  return bad_findings;
}

void gd_doctor_finding(bool good, const char *what, const char *format, ...) {
  char text[GD_RUN_TEXT_BYTES + 256];
  va_list list;
  va_start(list, format);
  vsnprintf(text, sizeof text, format, list);
  va_end(list);
  gd_bytes quoted = {0};
  if (!as_json)
    printf("%-4s %-8s %s\n", good ? "ok" : "BAD", what, text);
  else if (gd_json_quote(&quoted, text, strlen(text)) == GD_OK)
    printf("{\"check\": \"%s\", \"good\": %s, \"text\": %s}\n", what, good ? "true" : "false", quoted.bytes);
  gd_bytes_free(&quoted);
  fflush(stdout);
  bad_findings += !good;
}

static int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

double gd_doctor_median(double *values, int64_t count) {
  qsort(values, (size_t)count, sizeof *values, ascending);
  return values[count / 2];
}
