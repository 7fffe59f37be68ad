/* own_folder.h - a folder of a test program's own, the fixtures that make and remove it, and what must go well. Behind
 * cmocka.h. */
#ifndef GD_TESTS_OWN_FOLDER_H
#define GD_TESTS_OWN_FOLDER_H

#include <stdlib.h>

#include "io/base/files.h"

static char folder[] = "/tmp/gptdist-test-XXXXXX";

static inline void ok(gd_status status) {
  if (status != GD_OK) fail_msg("%s", gd_error_text());
}

static inline int make_folder(void **state) {
  (void)state;
  return mkdtemp(folder) ? 0 : 1;
}

static inline int remove_folder(void **state) {
  (void)state;
  return gd_folder_remove(folder) == GD_OK ? 0 : 1;
}

#endif
