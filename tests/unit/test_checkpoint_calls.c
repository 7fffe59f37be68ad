/* Every call on a file that a save or a load makes fails once, or kills the process there: the fault is told with the file's
 * name, an older checkpoint loads afterwards, and the next start saves again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define FIXTURE_ROWS 40
#include "tests/unit/checkpoint_fixture.h"
#include "io/base/files.h"
#include "io/checkpoint/folder.h"
#include "shard/base/log.h"
#include "tests/fault/faults.c"

enum { LIMIT_S = 30, MOST_CALLS = 2000 };

/* What a child tells before it ends. */
typedef struct outcome {
  bool ended;
  gd_status status;
  long seen;
  char text[2048];
} outcome;

static char base[64], folder[80],
    tokenizer[80]; /* in memory where that is possible: a real disk would spend minutes on its fsyncs */
static outcome *told;

static void keep_silent(void *context, gd_log_level level, const char *line) {
  (void)context;
  (void)level;
  (void)line;
}

static gd_status put(const char *name) {
  char path[128];
  snprintf(path, sizeof path, "%s/%s", tokenizer, name);
  return gd_file_write(path, name, strlen(name));
}

static int setup(void **state) {
  (void)state;
  snprintf(base, sizeof base, "%s/gptdist-calls-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
  if (!mkdtemp(base)) return 1;
  snprintf(folder, sizeof folder, "%s/checkpoints", base);
  snprintf(tokenizer, sizeof tokenizer, "%s/tokenizer", base);
  if (gd_folder_make(tokenizer) != GD_OK || put("one.txt") != GD_OK || put("two.txt") != GD_OK) return 1;
  gd_log_set_sink(keep_silent, NULL);
  told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  return told == MAP_FAILED;
}

static int teardown(void **state) {
  (void)state;
  gd_faults_arm(NULL);
  munmap(told, sizeof *told);
  return gd_folder_remove(base) == GD_OK ? 0 : 1;
}

static int count_names(const char *part) {
  int count = 0;
  DIR *entries = opendir(folder);
  assert_non_null(entries);
  for (struct dirent *entry; (entry = readdir(entries));) count += strstr(entry->d_name, part) != NULL;
  closedir(entries);
  return count;
}

/* `work` in a child under `faults`; what it returned stands in *told. True where the child was killed by the fault. */
static bool in_child(const gd_faults *faults, gd_status (*work)(int64_t), int64_t step) {
  memset(told, 0, sizeof *told);
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) {
    alarm(LIMIT_S);
    gd_faults_arm(faults);
    told->status = work(step);
    told->seen = gd_faults_seen();
    gd_faults_arm(NULL);
    snprintf(told->text, sizeof told->text, "%s", gd_error_text());
    told->ended = true;
    _exit(0);
  }
  int code = -1;
  assert_int_equal(waitpid(child, &code, 0), child);
  if (faults->kill && WIFSIGNALED(code) && WTERMSIG(code) == SIGKILL) return true;
  if (code != 0) print_message("call %ld: the child left with %#x\n", faults->nth, (unsigned)code);
  assert_int_equal(code, 0);
  assert_true(told->ended);
  return false;
}

/* A start with keep: 1 that saves one step. */
static gd_status save_one(int64_t step) {
  gd_checkpoint_writer *writer = NULL;
  int64_t published = -1;
  gd_spec spec;
  gd_mesh mesh;
  gd_config_defaults(&spec);
  spec.checkpoint.keep = 1;
  GD_TRY(gd_mesh_init(&mesh, 1, 1, 1, 1));
  gd_status status =
      gd_checkpoint_writer_open(NULL, folder, &spec, &mesh, fixture_tensors, FIXTURE_TENSORS, tokenizer, &writer);
  if (status == GD_OK) status = fixture_save(writer, step, 2, &published);
  gd_checkpoint_writer_close(writer);
  return status == GD_OK && published != step ? gd_fail(GD_BUG, "published %d", (int)published) : status;
}

/* A start that loads the newest one whole. */
static gd_status load_newest(int64_t step) {
  gd_checkpoint *checkpoint = NULL;
  GD_TRY(gd_checkpoint_open(NULL, folder, true, &checkpoint));
  if (!checkpoint) return gd_fail(GD_BUG, "%s: an empty folder, it seems", folder);
  bool right = gd_checkpoint_state(checkpoint)->step == step;
  float *data = malloc(256 * 64 * sizeof *data);
  gd_status status = GD_OK;
  for (int t = 0; status == GD_OK && t < FIXTURE_TENSORS; t++)
    for (int k = 0; status == GD_OK && k < GD_KINDS; k++) {
      gd_box box = {0, fixture_tensors[t].rows, 0, fixture_tensors[t].cols};
      gd_checkpoint_box wanted = {t, (gd_checkpoint_kind)k, box, data};
      status = gd_checkpoint_read(checkpoint, fixture_tensors, &wanted, 1);
    }
  free(data);
  gd_checkpoint_close(checkpoint);
  return status == GD_OK && !right ? gd_fail(GD_BUG, "another step") : status;
}

static int64_t newest(long call) {
  gd_checkpoint *checkpoint = NULL;
  gd_status status = gd_checkpoint_open(NULL, folder, true, &checkpoint);
  if (status != GD_OK || !checkpoint) print_message("call %ld: nothing loads: %s\n", call, gd_error_text());
  assert_int_equal(status, GD_OK);
  assert_non_null(checkpoint);
  int64_t step = gd_checkpoint_state(checkpoint)->step;
  assert_true(fixture_holds(checkpoint));
  assert_int_equal(gd_checkpoint_manifest(checkpoint)->tokenizer_count, 2);
  gd_checkpoint_close(checkpoint);
  assert_int_equal(count_names(".bad"), 0);
  return step;
}

/* The n-th call of a save of `step` over a folder that holds step 1 is struck, for every n until none is left. */
static void strike_every_call_of_a_save(gd_faults faults, int64_t step) {
  long n = 1;
  faults.path = base;
  for (bool struck = true; struck; n++) {
    assert_true(n < MOST_CALLS);
    assert_int_equal(gd_folder_remove(folder), GD_OK);
    assert_int_equal(save_one(1), GD_OK);
    faults.nth = n;
    bool killed = in_child(&faults, save_one, step);
    struck = killed || told->seen >= n;
    int64_t found = newest(n);
    if (!killed && told->status != GD_OK && faults.error) { /* the system's own word for it, never a closing call's */
      if (!strstr(told->text, strerror(faults.error))) print_message("call %ld: %s\n", n, told->text);
      assert_non_null(strstr(told->text, strerror(faults.error)));
    }
    if (killed || faults.sticky) {
      assert_true(found == 1 || found == step);
    } else if (told->status == GD_OK) {
      assert_int_equal(found, step);
    } else { /* not saved is not saved, and the text says where */
      if (told->status != GD_IO || !strstr(told->text, base)) print_message("call %ld: %s\n", n, told->text);
      assert_int_equal(told->status, GD_IO);
      assert_non_null(strstr(told->text, base));
      assert_int_equal(found, 1);
    }
    assert_int_equal(save_one(step), GD_OK); /* the next start */
    assert_int_equal(newest(n), step);
    assert_int_equal(count_names(".tmp-"), 0);
    assert_int_equal(count_names("step-"), 1);
  }
  print_message("%ld calls\n", n - 2);
  assert_true(n > 2);
}

static void test_a_fault_at_any_call_of_a_save_is_told_and_costs_that_save_only(void **state) {
  (void)state;
  strike_every_call_of_a_save((gd_faults){.error = EIO}, 2);
}

static void test_a_disk_that_stays_dead_from_any_call_of_a_save_on_leaves_the_older_one(void **state) {
  (void)state;
  strike_every_call_of_a_save((gd_faults){.error = ENOSPC, .sticky = true, .calls = "open write fsync rename exchange mkdir"},
                              2);
}

static void test_a_kill_at_any_call_of_a_save_leaves_one_that_loads(void **state) {
  (void)state;
  strike_every_call_of_a_save((gd_faults){.kill = true, .calls = "open write fsync rename unlink mkdir"}, 2);
}

static const char publishing[] = "rename exchange fsync unlink mkdir";

static void test_the_same_step_saved_again_is_never_gone_between_old_and_new(void **state) {
  (void)state;
  strike_every_call_of_a_save((gd_faults){.error = EIO, .calls = publishing}, 1);
  strike_every_call_of_a_save((gd_faults){.kill = true, .calls = publishing}, 1);
}

static void test_neither_where_the_file_system_cannot_swap(void **state) {
  (void)state;
  strike_every_call_of_a_save((gd_faults){.error = EIO, .no_exchange = true, .calls = publishing}, 1);
  strike_every_call_of_a_save((gd_faults){.kill = true, .no_exchange = true, .calls = publishing}, 1);
  strike_every_call_of_a_save((gd_faults){.error = EIO, .no_exchange = true, .sticky = true, .calls = "rename"}, 1);
}

static void test_a_bit_that_turns_on_its_way_to_the_disk_does_not_cost_the_older_checkpoint(void **state) {
  (void)state;
  strike_every_call_of_a_save((gd_faults){.flip = true, .calls = "write"}, 2);
}

/* ---- the order of calls ---- */

/* The first line from `from` on that is "CALL PATH"; -1 where there is none. `last` looks for the last one instead. */
static int line_of(char **lines, int count, int from, bool last, const char *call, const char *path) {
  char wanted[512];
  int found = -1;
  snprintf(wanted, sizeof wanted, "%s %s", call, path);
  for (int i = from; i < count && (last || found < 0); i++)
    if (strcmp(lines[i], wanted) == 0) found = i;
  return found;
}

/* PATH's last write, an fsync of it behind that, one of its folder behind that; returns the line of the last. */
static int assert_on_disk(char **lines, int count, const char *path, const char *parent) {
  int written = line_of(lines, count, 0, true, "write", path);
  if (written < 0) print_message("%s is not written\n", path);
  assert_true(written >= 0);
  int forced = line_of(lines, count, written, false, "fsync", path);
  if (forced < 0) print_message("%s is not forced to the disk after its last write\n", path);
  assert_true(forced >= 0);
  int entry = line_of(lines, count, forced, false, "fsync", parent);
  if (entry < 0) print_message("%s is not forced to the disk after %s\n", parent, path);
  assert_true(entry >= 0);
  return entry;
}

static void test_a_checkpoint_gets_its_name_when_all_of_it_is_on_the_disk(void **state) {
  (void)state;
  static const char *const names[] = {"rank-00000.h5", "MANIFEST.pb", "SHA256SUMS", "tokenizer/one.txt", "tokenizer/two.txt"};
  char path[256], temporary[200] = "", whole[400], *lines[MOST_CALLS];
  int count = 0, named = -1;
  gd_bytes text = {0};
  snprintf(path, sizeof path, "%s/log", base);
  gd_faults faults = {.path = folder, .log = path};
  in_child(&faults, save_one, 1);
  assert_int_equal(told->status, GD_OK);
  assert_int_equal(gd_file_read(path, 1 << 20, &text), GD_OK);
  for (char *line = strtok(text.bytes, "\n"); line && count < MOST_CALLS; line = strtok(NULL, "\n")) lines[count++] = line;
  for (int i = 0; i < count; i++)
    if (strncmp(lines[i], "rename ", 7) == 0 && strstr(lines[i], "step-00000001.tmp-")) {
      assert_int_equal(named, -1);
      named = i;
      snprintf(temporary, sizeof temporary, "%.*s", (int)strcspn(lines[i] + 7, " "), lines[i] + 7);
    }
  assert_true(named >= 0);
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    char parent[400];
    snprintf(whole, sizeof whole, "%s/%s", temporary, names[i]);
    snprintf(parent, sizeof parent, "%.*s", (int)(strrchr(whole, '/') - whole), whole);
    int entry = assert_on_disk(lines, count, whole, parent);
    if (strcmp(parent, temporary) != 0) entry = line_of(lines, count, entry, false, "fsync", temporary);
    assert_true(entry >= 0 && entry < named);
  }
  int shown = line_of(lines, count, named, false, "fsync", folder);
  assert_true(shown > named);
  /* LATEST, too: written under another name, forced, renamed, the folder forced. */
  snprintf(path, sizeof path, "%s/LATEST.tmp-new", folder);
  snprintf(whole, sizeof whole, "%s %s/LATEST", path, folder);
  int forced = line_of(lines, count, line_of(lines, count, 0, true, "write", path), false, "fsync", path);
  int renamed = line_of(lines, count, 0, false, "rename", whole);
  assert_true(forced > shown && renamed > forced && line_of(lines, count, renamed, false, "fsync", folder) > renamed);
  gd_bytes_free(&text);
}

/* ---- what is kept ---- */

static void test_the_best_stays_where_its_mark_cannot_be_read(void **state) {
  (void)state;
  char mark[128], path[128];
  snprintf(mark, sizeof mark, "%s/BEST", folder);
  snprintf(path, sizeof path, "%s/step-00000001", folder);
  gd_faults faults = {.path = mark, .error = EIO, .sticky = true};
  do {
    gd_checkpoint_writer *writer = NULL;
    assert_int_equal(gd_folder_remove(folder), GD_OK);
    assert_int_equal(save_one(1), GD_OK);
    assert_int_equal(fixture_writer(folder, 1, &writer), GD_OK);
    assert_int_equal(gd_checkpoint_mark_best(writer, 1), GD_OK);
    gd_checkpoint_writer_close(writer);
    faults.nth++;
    in_child(&faults, save_one, 2);
    assert_int_equal(told->status, GD_OK);
    assert_int_equal(newest(faults.nth), 2);
    assert_true(gd_folder_exists(path));
  } while (told->seen >= faults.nth);
  assert_true(faults.nth > 4);
  /* Nor where it was never written: the state of the run knows it, too. */
  assert_int_equal(gd_folder_remove(folder), GD_OK);
  fixture_best_step = 1;
  assert_int_equal(save_one(1), GD_OK);
  snprintf(mark, sizeof mark, "%s/BEST", folder);
  assert_int_equal(unlink(mark), 0);
  snprintf(mark, sizeof mark, "%s/LATEST", folder); /* the mark is written behind it */
  faults = (gd_faults){.path = mark, .calls = "rename", .error = EIO, .sticky = true, .nth = 1};
  in_child(&faults, save_one, 2);
  fixture_best_step = -1;
  assert_int_equal(told->status, GD_OK);
  assert_int_equal(newest(0), 2);
  assert_true(gd_folder_exists(path));
}

static void test_a_kill_in_a_run_that_was_taken_back_never_leaves_a_later_step_of_its_first_try_beside_it(void **state) {
  (void)state;
  gd_faults faults = {.path = base, .kill = true, .calls = "rename fsync unlink"};
  bool struck = true;
  for (faults.nth = 1; struck; faults.nth++) {
    gd_checkpoint_writer *writer = NULL;
    int64_t published;
    char path[128];
    assert_int_equal(gd_folder_remove(folder), GD_OK);
    assert_int_equal(fixture_writer(folder, 9, &writer), GD_OK);
    assert_int_equal(fixture_save(writer, 1, 1, &published), GD_OK);
    assert_int_equal(fixture_save(writer, 4, 1, &published), GD_OK);
    gd_checkpoint_writer_close(writer);
    struck = in_child(&faults, save_one, 2); /* resumed from step 1 by name */
    gd_checkpoint *checkpoint = NULL;
    assert_int_equal(gd_checkpoint_open(NULL, folder, true, &checkpoint), GD_OK);
    assert_non_null(checkpoint);
    int64_t found = gd_checkpoint_state(checkpoint)->step;
    gd_checkpoint_close(checkpoint);
    snprintf(path, sizeof path, "%s/step-00000002", folder);
    if (gd_folder_exists(path) && found != 2) print_message("call %ld: step %d\n", faults.nth, (int)found);
    assert_true(gd_folder_exists(path) ? found == 2 : found == 1 || found == 4);
  }
  assert_true(faults.nth > 10);
}

/* ---- loading ---- */

static void test_a_read_that_the_system_refuses_sets_nothing_aside(void **state) {
  (void)state;
  static const struct {
    int error;
    const char *calls;
  } ways[] = {
      {EIO, "open read stat list"}, {EMFILE, "open"}, {EACCES, "open stat"}, {ENOMEM, "open stat list"}, {ESTALE, "list stat"}};
  for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
    const char *text = strerror(ways[w].error);
    gd_faults faults = {.path = base, .error = ways[w].error, .calls = ways[w].calls};
    assert_int_equal(save_one(1), GD_OK);
    do {
      faults.nth++;
      assert_true(faults.nth < MOST_CALLS);
      in_child(&faults, load_newest, 1);
      if (told->status != GD_OK && (told->status != GD_IO || !strstr(told->text, base)))
        print_message("%s at call %ld: status %d: %s\n", text, faults.nth, told->status, told->text);
      assert_int_equal(count_names(".bad"), 0);
      if (told->status != GD_OK) {
        assert_int_equal(told->status, GD_IO);
        assert_non_null(strstr(told->text, base));
        assert_non_null(strstr(told->text, text));
      }
      assert_int_equal(newest(faults.nth), 1);
    } while (told->seen >= faults.nth);
    print_message("%s: %ld calls\n", text, faults.nth - 1);
    assert_true(faults.nth > 4);
  }
}

int main(int argc, char **argv) {
  if (argc > 1) cmocka_set_test_filter(argv[1]); /* some of them: a pattern with * */
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
  const struct CMUnitTest tests[] = {
      TEST(test_a_fault_at_any_call_of_a_save_is_told_and_costs_that_save_only),
      TEST(test_a_disk_that_stays_dead_from_any_call_of_a_save_on_leaves_the_older_one),
      TEST(test_a_kill_at_any_call_of_a_save_leaves_one_that_loads),
      TEST(test_the_same_step_saved_again_is_never_gone_between_old_and_new),
      TEST(test_neither_where_the_file_system_cannot_swap),
      TEST(test_a_bit_that_turns_on_its_way_to_the_disk_does_not_cost_the_older_checkpoint),
      TEST(test_a_checkpoint_gets_its_name_when_all_of_it_is_on_the_disk),
      TEST(test_the_best_stays_where_its_mark_cannot_be_read),
      TEST(test_a_kill_in_a_run_that_was_taken_back_never_leaves_a_later_step_of_its_first_try_beside_it),
      TEST(test_a_read_that_the_system_refuses_sets_nothing_aside),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
