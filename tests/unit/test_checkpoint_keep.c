/* Which checkpoints stay: random sequences of saves, best ones, kills at any call, starts and runs taken back, against a model
 * of what must be on the disk: the newest K, the best, and never less than one that loads. Of a step that is there twice, by a
 * kill between the renames of a replacement, a whole one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sys/wait.h>

#define FIXTURE_ROWS 8
#include "tests/unit/checkpoint_fixture.h"
#include "io/base/files.h"
#include "io/checkpoint/folder.h"
#include "shard/base/log.h"
#include "shard/base/rng.h"
#include "tests/fault/faults.c"

enum { SEQUENCES = 40, OPERATIONS = 12, MOST_STEPS = 256 };

/* What the test knows of a run. */
typedef struct model {
  int32_t keep;
  int64_t step; /* the newest; 0: none yet */
  bool there[MOST_STEPS];
  int64_t best_of[MOST_STEPS]; /* the best step as the checkpoint of that step has it */
} model;

static char folder[64];
static gd_rng rng;
static uint64_t drawn;

static uint32_t draw(uint32_t below) {
  return gd_rng_word(&rng, drawn++) % below;
}

static void keep_silent(void *context, gd_log_level level, const char *line) {
  (void)context;
  (void)level;
  (void)line;
}

static int setup(void **state) {
  (void)state;
  snprintf(folder, sizeof folder, "%s/gptdist-keep-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
  gd_log_set_sink(keep_silent, NULL);
  return mkdtemp(folder) ? 0 : 1;
}

static int teardown(void **state) {
  (void)state;
  return gd_folder_remove(folder) == GD_OK ? 0 : 1;
}

/* A start of the run that saves `step` and marks it where it is the best, as gd_run does. */
static gd_status save(int32_t keep, int64_t step, int64_t best) {
  gd_checkpoint_writer *writer = NULL;
  int64_t published;
  fixture_best_step = best;
  gd_status status = fixture_writer(folder, keep, &writer);
  if (status == GD_OK) status = fixture_save(writer, step, 1, &published);
  if (status == GD_OK && best == step) status = gd_checkpoint_mark_best(writer, step);
  gd_checkpoint_writer_close(writer);
  return status;
}

/* True where the fault came; a child that was not struck has saved. */
static bool save_and_be_killed(int32_t keep, int64_t step, int64_t best, long at) {
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) {
    gd_faults faults = {.path = folder, .nth = at, .kill = true};
    gd_faults_arm(&faults);
    _exit(save(keep, step, best) != GD_OK);
  }
  int code = -1;
  assert_int_equal(waitpid(child, &code, 0), child);
  if (WIFSIGNALED(code) && WTERMSIG(code) == SIGKILL) return true;
  assert_int_equal(code, 0);
  return false;
}

static bool is_there(int64_t step) {
  char path[128], name[32];
  gd_checkpoint_step_name(step, name);
  snprintf(path, sizeof path, "%s/%s", folder, name);
  return gd_folder_exists(path);
}

/* What a clean save of `step` leaves. */
static void expect_saved(model *m, int64_t step, int64_t best) {
  int32_t newer = 0;
  for (int64_t s = step + 1; s < MOST_STEPS; s++) m->there[s] = false; /* of a try that was taken back */
  m->there[step] = true;
  m->best_of[step] = best;
  m->step = step;
  for (int64_t s = step; s > 0; s--) {
    if (!m->there[s]) continue;
    if (newer >= m->keep && s != best) m->there[s] = false;
    newer++;
  }
}

static void assert_as_expected(const model *m, const char *what) {
  for (int64_t s = 1; s < MOST_STEPS; s++) {
    if (is_there(s) != m->there[s])
      print_message("%s: step %d is%s there, keep %d, newest %d, best %d\n", what, (int)s, m->there[s] ? " not" : "", m->keep,
                    (int)m->step, (int)m->best_of[m->step]);
    assert_int_equal(is_there(s), m->there[s]);
  }
}

/* After a kill in a save of `step`: what was promised before it, with or without the new one, and what is found is the new
 * state. */
static void adopt(model *m, int64_t step, int64_t best) {
  gd_checkpoint *checkpoint = NULL;
  assert_int_equal(gd_checkpoint_open(NULL, folder, true, &checkpoint), GD_OK);
  if (!checkpoint) { /* only before the very first save was done, or where a run was taken back to its beginning */
    assert_true(m->step == 0);
    return;
  }
  int64_t found = gd_checkpoint_state(checkpoint)->step;
  int64_t its_best = gd_checkpoint_state(checkpoint)->best_step;
  assert_true(fixture_holds(checkpoint));
  gd_checkpoint_close(checkpoint);
  if (found == step && its_best == best) m->best_of[step] = best;
  if (found != step && found != m->step) print_message("found %d, saving %d after %d\n", (int)found, (int)step, (int)m->step);
  assert_true(found == step || found == m->step);
  m->step = found;
  if (m->best_of[found] > 0) assert_true(is_there(m->best_of[found]));
  for (int64_t s = 1; s < MOST_STEPS; s++) m->there[s] = is_there(s);
}

static void test_random_runs_keep_the_newest_and_the_best_and_always_one_that_loads(void **state) {
  (void)state;
  int kills = 0, backs = 0;
  for (uint64_t sequence = 0; sequence < SEQUENCES; sequence++) {
    rng = gd_rng_make(33 + sequence, GD_RNG_DATA, 0, 0, 0);
    model m = {.keep = 1 + (int32_t)draw(3)};
    memset(m.best_of, -1, sizeof m.best_of);
    assert_int_equal(gd_folder_remove(folder), GD_OK);
    assert_int_equal(gd_folder_make(folder), GD_OK);
    for (int i = 0; i < OPERATIONS; i++) {
      int64_t from = m.step;
      if (m.step && draw(6) == 0) { /* resumed by name from an older one */
        while (--from > 0 && !m.there[from]) continue;
        if (from <= 0) from = m.step;
        backs += from != m.step;
      }
      int64_t step = from + 1 + draw(3), best = draw(3) == 0 || from == 0 ? step : m.best_of[from];
      if (best > 0 && best != step && !m.there[best]) best = step; /* the best went with a try that was taken back */
      if (draw(3) == 0 && from == m.step) {
        if (save_and_be_killed(m.keep, step, best, 1 + (long)draw(160))) {
          kills++;
          adopt(&m, step, best);
          continue;
        }
      } else {
        assert_int_equal(save(m.keep, step, best), GD_OK);
      }
      expect_saved(&m, step, best);
      assert_as_expected(&m, "after a save");
      int64_t marked;
      assert_int_equal(gd_checkpoint_hint(folder, "BEST", &marked), GD_OK);
      assert_int_equal(marked, best);
    }
  }
  print_message("%d kills, %d runs taken back\n", kills, backs);
  assert_true(kills > 20 && backs > 10);
}

/* ---- step-N and step-N.replaced ---- */

static bool has(const char *name) {
  char path[128];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  return gd_folder_exists(path);
}

/* A bit in the middle of the file. */
static void damage(const char *file) {
  char path[128];
  gd_bytes bytes = {0};
  snprintf(path, sizeof path, "%s/%s", folder, file);
  assert_int_equal(gd_file_read(path, 1 << 24, &bytes), GD_OK);
  bytes.bytes[bytes.count / 2] ^= 1;
  assert_int_equal(gd_file_write(path, bytes.bytes, bytes.count), GD_OK);
  gd_bytes_free(&bytes);
}

/* Steps 1 and 2, the latter twice; "": nothing is damaged. */
static void make_twice(const char *first, const char *second) {
  char command[400];
  assert_int_equal(gd_folder_remove(folder), GD_OK);
  assert_int_equal(save(3, 1, -1), GD_OK);
  assert_int_equal(save(3, 2, -1), GD_OK);
  snprintf(command, sizeof command, "cp -a %s/step-00000002 %s/step-00000002.replaced", folder, folder);
  assert_int_equal(system(command), 0);
  if (*first) damage(first);
  if (*second) damage(second);
}

static void assert_opens(int64_t step) {
  gd_checkpoint *checkpoint = NULL;
  assert_int_equal(gd_checkpoint_open(NULL, folder, true, &checkpoint), GD_OK);
  assert_non_null(checkpoint);
  assert_int_equal(gd_checkpoint_state(checkpoint)->step, step);
  assert_true(fixture_holds(checkpoint));
  gd_checkpoint_close(checkpoint);
}

static void assert_peeks(int64_t step) {
  gd_checkpoint *checkpoint = NULL;
  assert_int_equal(gd_checkpoint_peek(folder, true, &checkpoint), GD_OK);
  assert_non_null(checkpoint);
  assert_int_equal(gd_checkpoint_state(checkpoint)->step, step);
  gd_checkpoint_close(checkpoint);
}

/* Who names it is told of the other, which can be named as well. */
static void assert_named_is_bad(void) {
  gd_checkpoint *checkpoint = NULL;
  char path[128];
  snprintf(path, sizeof path, "%s/step-00000002", folder);
  assert_int_equal(gd_checkpoint_open(NULL, path, false, &checkpoint), GD_BAD_DATA);
  strcat(path, ".replaced");
  assert_non_null(strstr(gd_error_text(), path));
  assert_int_equal(gd_checkpoint_open(NULL, path, false, &checkpoint), GD_OK);
  assert_true(fixture_holds(checkpoint));
  gd_checkpoint_close(checkpoint);
}

static void test_of_a_step_that_is_there_twice_a_whole_one_is_taken(void **state) {
  (void)state;
  static const char *const files[] = {"rank-00000.h5", "MANIFEST.pb", "SHA256SUMS"};
  for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
    char first[64], second[64];
    snprintf(first, sizeof first, "step-00000002/%s", files[i]);
    snprintf(second, sizeof second, "step-00000002.replaced/%s", files[i]);
    make_twice("", second); /* also what is left of one that was being removed */
    assert_peeks(2);
    assert_opens(2);
    assert_true(has("step-00000002") && !has("step-00000002.replaced") && !has("step-00000002.bad") &&
                !has("step-00000002.old"));
    make_twice(first, "");
    assert_peeks(2);
    assert_true(has("step-00000002") && has("step-00000002.replaced")); /* who only looks moves nothing */
    assert_named_is_bad();
    assert_opens(2);
    assert_true(has("step-00000002") && !has("step-00000002.replaced") && has("step-00000002.bad"));
    make_twice(first, second);
    assert_peeks(i ? 1 : 2);
    assert_opens(1);
    assert_true(has("step-00000002.bad") && has("step-00000002.bad.2") && !has("step-00000002"));
  }
}

/* A start that goes on from elsewhere, or anew, has looked at neither. */
static void test_of_a_step_that_is_there_twice_none_is_removed_unseen(void **state) {
  (void)state;
  gd_checkpoint_writer *writer = NULL;
  gd_checkpoint *checkpoint = NULL;
  char path[128];
  make_twice("step-00000002/rank-00000.h5", "");
  assert_int_equal(fixture_writer(folder, 3, &writer), GD_OK);
  gd_checkpoint_writer_close(writer);
  snprintf(path, sizeof path, "%s/step-00000002.old", folder);
  assert_int_equal(gd_checkpoint_open(NULL, path, false, &checkpoint), GD_OK);
  assert_true(fixture_holds(checkpoint));
  gd_checkpoint_close(checkpoint);
  assert_true(has("step-00000002") && !has("step-00000002.replaced"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_random_runs_keep_the_newest_and_the_best_and_always_one_that_loads, setup, teardown),
      cmocka_unit_test_setup_teardown(test_of_a_step_that_is_there_twice_a_whole_one_is_taken, setup, teardown),
      cmocka_unit_test_setup_teardown(test_of_a_step_that_is_there_twice_none_is_removed_unseen, setup, teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
