/* Token shards on a disk that fails or fills up: the system's fault is told as such, and no file stays open that keeps its
 * space. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#include "io/base/files.h"
#include "io/data/token_shard.h"
#include "tests/fault/faults.c"

enum { TOKENS = 300000, DOCUMENTS = 2000, MOST_CALLS = 2000 };

static char folder[64], path[80];
static int32_t ids[4 * TOKENS];

static int setup(void **state) {
  (void)state;
  strcpy(folder, "/tmp/gptdist-shard-XXXXXX");
  if (!mkdtemp(folder)) return 1;
  snprintf(path, sizeof path, "%s/shard.h5", folder);
  for (int i = 0; i < 4 * TOKENS; i++) ids[i] = (int32_t)((uint32_t)i * 2654435761u % 50000u);
  return 0;
}

static int teardown(void **state) {
  (void)state;
  gd_faults_arm(NULL);
  return gd_folder_remove(folder) == GD_OK ? 0 : 1;
}

static int open_files(void) {
  int count = 0;
  DIR *entries = opendir("/proc/self/fd");
  while (entries && readdir(entries)) count++;
  if (entries) closedir(entries);
  return count;
}

/* As gptdist-data prepare does it, down to the removal of what failed. */
static gd_status write_shard(int64_t tokens) {
  gd_token_shard_info info = {.tokenizer = "test", .tokenizer_digest = "0123", .vocabulary = 50000, .eot = 5, .tokens = tokens};
  gd_token_shard_writer *writer = NULL;
  int64_t positions[DOCUMENTS];
  for (int64_t i = 0; i < DOCUMENTS; i++) positions[i] = i * 100;
  GD_TRY(gd_token_shard_create(path, &info, &writer));
  gd_status status = gd_token_shard_append(writer, ids, tokens);
  if (status == GD_OK) status = gd_token_shard_set_documents(writer, positions, DOCUMENTS);
  if (status == GD_OK) return gd_token_shard_finish(writer);
  gd_token_shard_abandon(writer);
  return status;
}

static gd_status read_shard(void) {
  static int32_t found[TOKENS];
  int64_t document;
  gd_token_shard *shard = NULL;
  gd_shard_check check = {0};
  gd_shard_source source = {.path = path, .index = "index", .check = &check};
  uint8_t digest[GD_SHA256_BYTES];
  GD_TRY(gd_sha256_file(path, digest, NULL));
  gd_sha256_hex(digest, source.sha256);
  GD_TRY(gd_token_shard_open(&source, &shard));
  gd_status status = gd_token_shard_read(shard, 0, TOKENS, found);
  if (status == GD_OK) status = gd_token_shard_find_document(shard, 12345, &document);
  gd_token_shard_close(shard);
  if (status == GD_OK && memcmp(found, ids, sizeof found) != 0) return gd_fail(GD_BUG, "other tokens");
  return status;
}

static void test_a_fault_at_any_call_of_a_writer_is_told_and_leaves_no_file_open(void **state) {
  (void)state;
  static const int errors[] = {EIO, ENOSPC};
  for (int e = 0; e < 4; e++) {
    gd_faults faults = {.path = folder, .error = errors[e % 2], .sticky = e > 1, .calls = "open write fsync close"};
    int before = open_files();
    do {
      faults.nth++;
      assert_true(faults.nth < MOST_CALLS);
      gd_faults_arm(&faults);
      gd_status status = write_shard(TOKENS);
      long calls = gd_faults_seen();
      gd_faults_arm(NULL);
      if (open_files() != before) print_message("call %ld keeps a file open\n", faults.nth);
      assert_int_equal(open_files(), before);
      if (calls < faults.nth) {
        assert_int_equal(status, GD_OK);
        break;
      }
      if (status == GD_OK) { /* HDF5 tries an open twice */
        assert_int_equal(read_shard(), GD_OK);
        continue;
      }
      unlink(path);
      if (status != GD_IO || !strstr(gd_error_text(), path)) print_message("call %ld: %s\n", faults.nth, gd_error_text());
      assert_int_equal(status, GD_IO);
      assert_non_null(strstr(gd_error_text(), path));
      assert_non_null(strstr(gd_error_text(), strerror(errors[e % 2])));
    } while (true);
    assert_true(faults.nth > 10);
  }
}

static void test_a_read_that_the_system_refuses_is_its_fault_and_not_the_shard_s(void **state) {
  (void)state;
  static const int errors[] = {EIO, EMFILE, EACCES};
  assert_int_equal(write_shard(TOKENS), GD_OK);
  for (size_t e = 0; e < sizeof errors / sizeof *errors; e++) {
    gd_faults faults = {.path = folder, .error = errors[e], .calls = "open read stat"};
    gd_status status;
    long calls;
    do {
      faults.nth++;
      assert_true(faults.nth < MOST_CALLS);
      gd_faults_arm(&faults);
      status = read_shard();
      calls = gd_faults_seen();
      gd_faults_arm(NULL);
      if (status != GD_OK && status != GD_IO) print_message("call %ld: %s\n", faults.nth, gd_error_text());
      assert_true(status == GD_OK || (status == GD_IO && strstr(gd_error_text(), path)));
      assert_true(calls < faults.nth || status == GD_IO);
    } while (calls >= faults.nth);
    assert_true(faults.nth > 5);
  }
}

/* In a child with a disk of 1 MiB over the folder: 77 no right to mount one, else the line that was wrong. */
#define EXPECT(condition) \
  if (!(condition)) _exit(__LINE__ % 70 + 1)
static void fill_a_small_disk(void) {
  struct statvfs before, after;
  if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
      mount("tmpfs", folder, "tmpfs", 0, "size=1m"))
    _exit(77);
  EXPECT(statvfs(folder, &before) == 0);
  for (int i = 0; i < 5; i++) {
    EXPECT(write_shard(4 * TOKENS) == GD_IO);
    EXPECT(strstr(gd_error_text(), "No space left on device"));
    EXPECT(unlink(path) == 0);
    EXPECT(statvfs(folder, &after) == 0);
    EXPECT(after.f_bfree == before.f_bfree);
  }
  EXPECT(write_shard(TOKENS) == GD_OK && read_shard() == GD_OK);
  exit(0);
}

static void test_a_full_disk_gets_its_space_back(void **state) {
  (void)state;
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) fill_a_small_disk();
  int code = 0;
  assert_int_equal(waitpid(child, &code, 0), child);
  if (WIFEXITED(code) && WEXITSTATUS(code) == 77) {
    print_message("skipped: no right to mount a small disk\n");
    skip();
  }
  if (code) print_message("the child left with %d\n", WEXITSTATUS(code));
  assert_int_equal(code, 0);
}

int main(int argc, char **argv) {
  if (argc > 1) cmocka_set_test_filter(argv[1]); /* some of them: a pattern with * */
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
  const struct CMUnitTest tests[] = {
      TEST(test_a_fault_at_any_call_of_a_writer_is_told_and_leaves_no_file_open),
      TEST(test_a_read_that_the_system_refuses_is_its_fault_and_not_the_shard_s),
      TEST(test_a_full_disk_gets_its_space_back),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
