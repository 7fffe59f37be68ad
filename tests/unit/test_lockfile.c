/* The lock of a run directory: who holds it, and what one that was removed, copied or taken by another means. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/base/files.h"
#include "io/base/lockfile.h"
#include "shard/base/log.h"

static char folder[64];

static int setup(void **state) {
  (void)state;
  strcpy(folder, "/tmp/gptdist-lockfile-XXXXXX");
  return mkdtemp(folder) ? 0 : 1;
}

static int teardown(void **state) {
  (void)state;
  return gd_folder_remove(folder) == GD_OK ? 0 : 1;
}

static void write_text(const char *path, const char *text) {
  assert_int_equal(gd_file_write(path, text, strlen(text)), GD_OK);
}

static void test_a_held_lock_is_refused_with_process_and_host_and_a_left_one_is_taken(void **state) {
  (void)state;
  int ready[2];
  char byte;
  assert_int_equal(pipe(ready), 0);
  pid_t child = fork();
  if (child == 0) {
    gd_lockfile *lock = NULL;
    if (gd_lockfile_take(folder, &lock) != GD_OK) _exit(1);
    if (write(ready[1], "x", 1) != 1) _exit(1);
    for (;;) pause();
  }
  assert_int_equal(read(ready[0], &byte, 1), 1);
  gd_lockfile *lock = NULL;
  char holder[64];
  assert_int_equal(gd_lockfile_take(folder, &lock), GD_IO);
  snprintf(holder, sizeof holder, "in use by process %ld on ", (long)child);
  assert_non_null(strstr(gd_error_text(), holder));
  kill(child, SIGKILL);
  assert_int_equal(waitpid(child, NULL, 0), child);
  assert_int_equal(gd_lockfile_take(folder, &lock), GD_OK);
  gd_lockfile *second = NULL;
  assert_int_equal(gd_lockfile_take(folder, &second), GD_IO); /* twice in one process, too */
  gd_lockfile_release(lock);
  assert_int_equal(gd_lockfile_take(folder, &second), GD_OK);
  char path[600], away[600], text[128] = "";
  snprintf(path, sizeof path, "%s/lock", folder);
  snprintf(away, sizeof away, "%s/away", folder);
  assert_int_equal(gd_lockfile_look(second), GD_LOCKFILE_HELD);
  assert_int_equal(rename(path, away), 0);
  assert_int_equal(gd_lockfile_look(second), GD_LOCKFILE_REMOVED);
  assert_true(gd_lockfile_folder_stays(second)); /* its file alone is gone */
  FILE *file = fopen(away, "r"), *copy = fopen(path, "w");
  size_t bytes = file ? fread(text, 1, sizeof text, file) : 0;
  struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  assert_true(bytes && copy && fwrite(text, 1, bytes, copy) == bytes && fflush(copy) == 0);
  fclose(file);
  assert_int_equal(fcntl(fileno(copy), F_OFD_SETLK, &whole), 0);
  assert_int_equal(gd_lockfile_look(second), GD_LOCKFILE_HELD); /* the same file, numbered anew */
  fclose(copy);
  assert_int_equal(gd_lockfile_look(second), GD_LOCKFILE_REMOVED); /* this process' own, put back */
  /* Another process of the same number and host name: one that only started, while it does and when it has gone; one that
   * began. */
  char *rest = strchr(strchr(text, '\n') + 1, '\n');
  rest[-1] = rest[-1] == '0' ? '1' : '0';
  assert_string_equal(rest, "\nstarts\n");
  write_text(path, text);
  assert_int_equal(gd_lockfile_look(second), GD_LOCKFILE_REMOVED);
  copy = fopen(path, "r+");
  assert_true(copy && fcntl(fileno(copy), F_OFD_SETLK, &whole) == 0);
  assert_int_equal(gd_lockfile_look(second), GD_LOCKFILE_REPLACED);
  fclose(copy);
  assert_int_equal(gd_lockfile_look(second), GD_LOCKFILE_REMOVED);
  rest[1] = 0;
  write_text(path, text);
  assert_int_equal(gd_lockfile_look(second), GD_LOCKFILE_REPLACED);
  write_text(path, "");
  assert_int_equal(gd_lockfile_look(second), GD_LOCKFILE_REMOVED);
  write_text(path, "process 1 on elsewhere\n");
  assert_int_equal(gd_lockfile_look(second), GD_LOCKFILE_REPLACED);
  assert_int_equal(gd_lockfile_take(folder, &lock), GD_OK);
  assert_int_equal(gd_lockfile_begin(lock), GD_OK);
  gd_lockfile_release(lock);
  file = fopen(path, "r");
  memset(text, 0, sizeof text);
  assert_true(file && fread(text, 1, sizeof text - 1, file) && !strstr(text, "starts")); /* it says so when it has gone */
  fclose(file);
  /* A start that is refused behind one that began does not hide that. */
  write_text(path, "process 1 on elsewhere\n");
  assert_int_equal(gd_lockfile_take(folder, &lock), GD_OK);
  gd_lockfile_release(lock);
  file = fopen(path, "r");
  memset(text, 0, sizeof text);
  assert_true(file && fread(text, 1, sizeof text - 1, file) && !strstr(text, "starts"));
  fclose(file);
  snprintf(away, sizeof away, "%s-away", folder);
  assert_int_equal(rename(folder, away), 0);
  assert_false(gd_lockfile_folder_stays(second));
  assert_int_equal(mkdir(folder, 0777), 0);
  assert_false(gd_lockfile_folder_stays(second)); /* another folder of its name */
  assert_int_equal(rmdir(folder), 0);
  assert_int_equal(rename(away, folder), 0);
  assert_true(gd_lockfile_folder_stays(second));
  gd_lockfile_release(second);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_a_held_lock_is_refused_with_process_and_host_and_a_left_one_is_taken, setup,
                                      teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
