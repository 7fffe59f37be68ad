/* exit.json keeps pid, host and start of rank 0 whoever ends it; a start that is not meant does not touch it. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "io/base/files.h"
#include "io/base/json.h"
#include "io/base/lockfile.h"
#include "launch/exit_file.h"

static char folder[] = "/tmp/gptdist-exit-file.XXXXXX", path[64];

static void in_child(void (*part)(void)) {
  pid_t child = fork();
  if (child == 0) {
    part();
    _exit(0);
  }
  int status = 1;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_int_equal(status, 0);
}

static void begin(void) {
  gd_exit_file_begin(folder);
}
static void begin_and_end(void) {
  gd_exit_file_begin(folder);
  gd_exit_file_end(folder, 75, "saved");
}
static void end_for_another(void) {
  gd_exit_file_end(folder, 76, "rank 0 is \"lost\"");
}

static void assert_member(const gd_json *root, const char *name, const char *text) {
  const char *found = gd_json_string(gd_json_get(root, name));
  assert_non_null(found);
  if (text) assert_string_equal(found, text);
  assert_true(*found);
}

static void who_ends_it_for_rank_0_leaves_it_rank_0s(void **state) {
  (void)state;
  char host[64] = "", reason[64] = "";
  int64_t pid, code;
  int found = -1;
  gethostname(host, sizeof host - 1);
  setenv(GD_LAUNCH_MARK, "first", 1);
  in_child(begin);
  assert_int_equal(gd_exit_file_read(path, "first", &found, reason, sizeof reason), GD_EXIT_FILE_RUNNING);
  gd_json *root;
  assert_int_equal(gd_json_read(path, 65536, &root), GD_OK);
  int64_t rank_0;
  assert_true(gd_json_integer(gd_json_get(root, "pid"), &rank_0));
  gd_json_free(root);

  in_child(end_for_another);
  assert_int_equal(gd_json_read(path, 65536, &root), GD_OK);
  assert_true(gd_json_integer(gd_json_get(root, "pid"), &pid) && pid == rank_0);
  assert_true(gd_json_integer(gd_json_get(root, "code"), &code) && code == 76);
  assert_member(root, "state", "ended");
  assert_member(root, "reason", "rank 0 is \"lost\"");
  assert_member(root, "host", host);
  assert_member(root, "start", NULL);
  assert_member(root, "end", NULL);
  gd_json_free(root);
  assert_int_equal(gd_exit_file_read(path, "first", &found, reason, sizeof reason), GD_EXIT_FILE_ENDED);
  assert_int_equal(found, 76);
  assert_string_equal(reason, "rank 0 is \"lost\"");
}

static void only_the_start_that_is_meant_counts(void **state) {
  (void)state;
  char reason[64] = "";
  int code = -1;
  setenv(GD_LAUNCH_MARK, "first", 1);
  in_child(begin);
  gd_exit_file_complete(path, "second", 137, "killed");
  gd_exit_file_complete(path, NULL, 137, "killed");
  assert_int_equal(gd_exit_file_read(path, "second", &code, reason, sizeof reason), GD_EXIT_FILE_NONE);
  assert_int_equal(gd_exit_file_read(path, NULL, &code, reason, sizeof reason), GD_EXIT_FILE_NONE);
  assert_int_equal(gd_exit_file_read(path, "first", &code, reason, sizeof reason), GD_EXIT_FILE_RUNNING);
  gd_exit_file_complete(path, "first", 137, "killed");
  assert_int_equal(gd_exit_file_read(path, "first", &code, reason, sizeof reason), GD_EXIT_FILE_ENDED);
  assert_int_equal(code, 137);
}

static void what_has_ended_is_not_completed(void **state) {
  (void)state;
  char reason[64] = "";
  int code = -1;
  unsetenv(GD_LAUNCH_MARK);
  in_child(begin_and_end);
  gd_exit_file_complete(path, NULL, 137, "killed");
  in_child(end_for_another);
  assert_int_equal(gd_exit_file_read(path, NULL, &code, reason, sizeof reason), GD_EXIT_FILE_ENDED);
  assert_int_equal(code, 75);
  assert_string_equal(reason, "saved");
}

static void none_and_a_broken_one_say_nothing(void **state) {
  (void)state;
  char reason[64] = "";
  int code = -1;
  unlink(path);
  assert_int_equal(gd_exit_file_read(path, NULL, &code, reason, sizeof reason), GD_EXIT_FILE_NONE);
  gd_exit_file_complete(path, NULL, 137, "killed");
  assert_false(gd_file_exists(path));
  assert_int_equal(gd_file_write(path, "{\"code\": 7", 10), GD_OK);
  assert_int_equal(gd_exit_file_read(path, NULL, &code, reason, sizeof reason), GD_EXIT_FILE_NONE);
  assert_int_equal(code, -1);
}

static void replace_by_76(void) {
  gd_exit_file_replace(folder, NULL, 76, "refused");
}

static void a_start_that_came_to_nothing_replaces_the_word_of_an_earlier_one(void **state) {
  (void)state;
  char reason[64] = "";
  int code = -1;
  gd_bytes before = {0};
  gd_lockfile *lock;
  setenv(GD_LAUNCH_MARK, "second", 1);
  unlink(path);
  in_child(replace_by_76);
  assert_false(gd_file_exists(path)); /* there was no run */

  setenv(GD_LAUNCH_MARK, "first", 1);
  in_child(begin_and_end);
  assert_int_equal(gd_file_read(path, 65536, &before), GD_OK);
  setenv(GD_LAUNCH_MARK, "second", 1);
  assert_int_equal(gd_lockfile_take(folder, &lock), GD_OK);
  in_child(replace_by_76); /* of another run, which goes on */
  assert_int_equal(gd_exit_file_read(path, "first", &code, reason, sizeof reason), GD_EXIT_FILE_ENDED);
  gd_lockfile_release(lock);
  in_child(replace_by_76);
  assert_int_equal(gd_exit_file_read(path, "second", &code, reason, sizeof reason), GD_EXIT_FILE_ENDED);
  assert_int_equal(code, 76);
  assert_string_equal(reason, "refused");

  gd_exit_file_replace(folder, &before, 137, "killed"); /* that is no longer what stands there */
  assert_int_equal(gd_exit_file_read(path, "second", &code, reason, sizeof reason), GD_EXIT_FILE_ENDED);
  assert_int_equal(code, 76);
  gd_bytes_free(&before);
}

static int remove_folder(void **state) {
  (void)state;
  char lock[64];
  snprintf(lock, sizeof lock, "%s/lock", folder);
  unlink(lock);
  unlink(path);
  return rmdir(folder);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(who_ends_it_for_rank_0_leaves_it_rank_0s),
      cmocka_unit_test(only_the_start_that_is_meant_counts),
      cmocka_unit_test(what_has_ended_is_not_completed),
      cmocka_unit_test(none_and_a_broken_one_say_nothing),
      cmocka_unit_test(a_start_that_came_to_nothing_replaces_the_word_of_an_earlier_one),
  };
  if (!mkdtemp(folder)) return 1;
  snprintf(path, sizeof path, "%s/exit.json", folder);
  return cmocka_run_group_tests(tests, NULL, remove_folder);
}
