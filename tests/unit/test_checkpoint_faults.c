/* Whatever happens in the middle of a save, the checkpoints before it load. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/unit/checkpoint_fixture.h"
#include "io/checkpoint/folder.h"
#include "io/base/files.h"
#include "io/checkpoint/manifest.h"
#include "shard/base/rng.h"

enum { TRIALS = 25, MUTATIONS = 4000 };

static char folder[64];

static int setup(void **state) {
  (void)state;
  strcpy(folder, "/tmp/gptdist-faults-XXXXXX");
  return mkdtemp(folder) ? 0 : 1;
}

static int teardown(void **state) {
  (void)state;
  return gd_folder_remove(folder) == GD_OK ? 0 : 1;
}

static int count_names(const char *path, const char *part) {
  int count = 0;
  DIR *entries = opendir(path);
  assert_non_null(entries);
  for (struct dirent *entry; (entry = readdir(entries));) count += strstr(entry->d_name, part) != NULL;
  closedir(entries);
  return count;
}

/* Saves one step after the other and tells each published one; never returns. */
static void save_forever(int64_t first, int told) {
  gd_checkpoint_writer *writer = NULL;
  if (fixture_writer(folder, 2, &writer) != GD_OK) _exit(1);
  for (int64_t step = first;; step++) {
    int64_t published;
    if (fixture_save(writer, step, 3, &published) != GD_OK) _exit(2);
    if (write(told, &published, sizeof published) != sizeof published) _exit(3);
  }
}

static void test_a_kill_at_any_moment_of_a_save_leaves_the_last_published_one_loadable(void **state) {
  (void)state;
  gd_rng rng = gd_rng_make(20, GD_RNG_DATA, 0, 0, 0);
  int64_t last = 0;
  int interrupted = 0;
  for (uint64_t trial = 0; trial < TRIALS; trial++) {
    int told[2];
    assert_int_equal(pipe(told), 0);
    pid_t child = fork();
    if (child == 0) {
      close(told[0]);
      save_forever(last + 1, told[1]);
    }
    close(told[1]);
    int64_t step = 0;
    assert_int_equal(read(told[0], &step, sizeof step), sizeof step);
    long wait_ns = (long)(gd_rng_word(&rng, trial) % 40000) * 1000;
    nanosleep(&(struct timespec){0, wait_ns}, NULL);
    kill(child, SIGKILL);
    int code = 0;
    assert_int_equal(waitpid(child, &code, 0), child);
    assert_true(WIFSIGNALED(code));
    last = step;
    while (read(told[0], &step, sizeof step) == sizeof step) last = step;
    close(told[0]);
    interrupted += count_names(folder, ".tmp-") > 0;
    gd_checkpoint *checkpoint = NULL;
    assert_int_equal(gd_checkpoint_open(NULL, folder, true, &checkpoint), GD_OK);
    assert_non_null(checkpoint);
    /* The kill may have come between the rename and its telling. */
    int64_t found = gd_checkpoint_state(checkpoint)->step;
    assert_true(found == last || found == last + 1);
    assert_true(fixture_holds(checkpoint));
    gd_checkpoint_close(checkpoint);
    assert_int_equal(count_names(folder, ".bad"), 0);
    last = found;
    gd_checkpoint_writer *writer = NULL;
    assert_int_equal(fixture_writer(folder, 2, &writer), GD_OK);
    gd_checkpoint_writer_close(writer);
    assert_int_equal(count_names(folder, ".tmp-"), 0);
    int64_t *steps;
    int32_t count;
    assert_int_equal(gd_checkpoint_list(folder, &steps, &count, NULL), GD_OK);
    assert_true(count >= 1 && count <= 3);
    free(steps);
  }
  print_message("%d of %d kills left an unfinished save\n", interrupted, TRIALS);
  assert_true(interrupted > 0);
}

/* ---- a small real disk ---- */

static int open_files(void) {
  return count_names("/proc/self/fd", "");
}

/* In a child with a tmpfs of 2.5 MB over the folder: 0 good, 77 no right to mount, else the line that was wrong. */
#define EXPECT(condition) \
  if (!(condition)) _exit(__LINE__ % 70 + 1)
static void fill_a_small_disk(void) {
  gd_checkpoint_writer *writer = NULL;
  int64_t published = 0;
  struct statvfs before, after;
  if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
      mount("tmpfs", folder, "tmpfs", 0, "size=2560k"))
    _exit(77);
  EXPECT(fixture_writer(folder, 3, &writer) == GD_OK);
  EXPECT(fixture_save(writer, 1, 1, &published) == GD_OK); /* 1.7 MB */
  EXPECT(statvfs(folder, &before) == 0);
  int files = open_files();
  for (int64_t step = 2; step < 5; step++) {
    EXPECT(fixture_save(writer, step, 1, &published) == GD_IO);
    EXPECT(strstr(gd_error_text(), "No space left on device") != NULL);
    EXPECT(published == -1);
  }
  EXPECT(open_files() == files);
  EXPECT(statvfs(folder, &after) == 0);
  EXPECT(after.f_bfree == before.f_bfree); /* the space came back */
  EXPECT(count_names(folder, ".tmp-") == 0);
  gd_checkpoint_writer_close(writer);
  gd_checkpoint *checkpoint = NULL;
  EXPECT(gd_checkpoint_open(NULL, folder, true, &checkpoint) == GD_OK && checkpoint);
  EXPECT(gd_checkpoint_state(checkpoint)->step == 1 && fixture_holds(checkpoint));
  gd_checkpoint_close(checkpoint);
  exit(0); /* and the library ends without a crash */
}

static void test_a_full_disk_costs_one_checkpoint_and_keeps_no_space(void **state) {
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
  assert_int_equal(code, 0);
}

static void test_a_folder_without_write_permission_is_named(void **state) {
  (void)state;
  if (geteuid() == 0) {
    pid_t child = fork();
    if (child == 0) { /* as an ordinary user */
      gd_checkpoint_writer *writer = NULL;
      char path[80];
      snprintf(path, sizeof path, "%s/checkpoints", folder);
      if (setgid(65534) || setuid(65534)) _exit(1);
      gd_status status = fixture_writer(path, 2, &writer);
      _exit(status == GD_IO && strstr(gd_error_text(), "Permission denied") && strstr(gd_error_text(), path) ? 0 : 2);
    }
    int code = 0;
    assert_int_equal(waitpid(child, &code, 0), child);
    assert_int_equal(code, 0);
    return;
  }
  gd_checkpoint_writer *writer = NULL;
  assert_int_equal(fixture_writer("/proc/gptdist", 2, &writer), GD_IO);
}

static void test_a_writer_closed_in_mid_save_leaves_nothing(void **state) {
  (void)state;
  gd_checkpoint_writer *writer = NULL;
  assert_int_equal(fixture_writer(folder, 2, &writer), GD_OK);
  assert_int_equal(fixture_save(writer, 1, 2, NULL), GD_OK);
  gd_checkpoint_writer_close(writer);
  assert_int_equal(count_names(folder, "step-"), 0);
}

/* ---- hostile manifests ---- */

static void test_a_damaged_manifest_is_never_worse_than_bad_data(void **state) {
  (void)state;
  gd_checkpoint_writer *writer = NULL;
  int64_t published;
  char path[128];
  gd_bytes whole = {0};
  gd_rng rng = gd_rng_make(21, GD_RNG_DATA, 0, 0, 0);
  uint64_t counter = 0;
  int good = 0;
  assert_int_equal(fixture_writer(folder, 2, &writer), GD_OK);
  assert_int_equal(fixture_save(writer, 1, 2, &published), GD_OK);
  gd_checkpoint_writer_close(writer);
  snprintf(path, sizeof path, "%s/step-00000001/%s", folder, GD_MANIFEST_NAME);
  assert_int_equal(gd_file_read(path, 1 << 20, &whole), GD_OK);
  for (int i = 0; i < MUTATIONS; i++) {
    size_t count = whole.count;
    uint8_t *bytes = malloc(count + 1); /* an own block, so that a read past its end is seen */
    memcpy(bytes, whole.bytes, count);
    for (uint32_t n = 1 + gd_rng_word(&rng, counter++) % 4; n; n--) {
      uint32_t word = gd_rng_word(&rng, counter++), at = gd_rng_word(&rng, counter++) % (uint32_t)count;
      if (word % 4 == 0)
        bytes[at] = (uint8_t)(word >> 8);
      else if (word % 4 == 1 && word % 5 == 0)
        count = at + 1;
      else
        bytes[at] ^= (uint8_t)(1u << (word >> 8) % 8);
    }
    gd_manifest manifest;
    gd_status status = gd_manifest_decode("MANIFEST.pb", bytes, count, &manifest);
    if (status == GD_OK) {
      gd_bytes again = {0};
      assert_int_equal(gd_manifest_encode(&manifest, &again), GD_OK);
      gd_bytes_free(&again);
      good++;
    } else {
      assert_int_equal(status, GD_BAD_DATA);
    }
    gd_manifest_free(&manifest);
    free(bytes);
  }
  assert_true(good > 0 && good < MUTATIONS);
  gd_bytes_free(&whole);
}

static void test_settings_of_a_newer_version_are_passed_over(void **state) {
  (void)state;
  gd_checkpoint_writer *writer = NULL;
  int64_t published;
  char path[128];
  gd_bytes bytes = {0};
  gd_manifest manifest;
  assert_int_equal(fixture_writer(folder, 2, &writer), GD_OK);
  assert_int_equal(fixture_save(writer, 1, 2, &published), GD_OK);
  gd_checkpoint_writer_close(writer);
  snprintf(path, sizeof path, "%s/step-00000001/%s", folder, GD_MANIFEST_NAME);
  assert_int_equal(gd_file_read(path, 1 << 20, &bytes), GD_OK);
  /* A setting (field 5) and a whole field (1000) that this version does not know. */
  static const char added[] = "\x2a\x0a\x0a\x05x.new\x12\x01\x31\xc2\x3e\x02hi";
  assert_int_equal(gd_bytes_append(&bytes, added, sizeof added - 1), GD_OK);
  gd_status status = gd_manifest_decode(path, bytes.bytes, bytes.count, &manifest);
  if (status != GD_OK) print_message("%s\n", gd_error_text());
  assert_int_equal(status, GD_OK);
  assert_int_equal(manifest.state.step, 1);
  gd_manifest_free(&manifest);
  gd_bytes_free(&bytes);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
  const struct CMUnitTest tests[] = {
      TEST(test_a_kill_at_any_moment_of_a_save_leaves_the_last_published_one_loadable),
      TEST(test_a_full_disk_costs_one_checkpoint_and_keeps_no_space),
      TEST(test_a_folder_without_write_permission_is_named),
      TEST(test_a_writer_closed_in_mid_save_leaves_nothing),
      TEST(test_a_damaged_manifest_is_never_worse_than_bad_data),
      TEST(test_settings_of_a_newer_version_are_passed_over),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
