/* A loss of power at any moment of a save: writes that were not forced to the disk are lost, there, or there in part, changes
 * of folders that were not are undone or not. What loads then is the older checkpoint, whole, or the new one, whole; once the
 * save was reported it is the new one; and the next start cleans up and saves again. STATES=N: of each kind of save. The last
 * line is JSON. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sys/wait.h>

#define FIXTURE_ROWS 40
#include "tests/unit/checkpoint_fixture.h"
#include "io/base/files.h"
#include "shard/base/log.h"
#include "tests/fault/recorder.c"

enum { LIMIT_S = 30, WRONG = 1, NEXT_START = 2 };

static char base[64], folder[80], state_folder[80], tokenizer[80];
static int trials, failures;

static void keep_silent(void *context, gd_log_level level, const char *line) {
  (void)context;
  (void)level;
  (void)line;
}

static int setup(void **state) {
  (void)state;
  snprintf(base, sizeof base, "%s/gptdist-crash-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
  if (!mkdtemp(base)) return 1;
  snprintf(folder, sizeof folder, "%s/checkpoints", base);
  snprintf(state_folder, sizeof state_folder, "%s/state", base);
  snprintf(tokenizer, sizeof tokenizer, "%s/tokenizer", base);
  char path[128];
  snprintf(path, sizeof path, "%s/one.txt", tokenizer);
  gd_log_set_sink(keep_silent, NULL);
  return gd_folder_make(tokenizer) != GD_OK || gd_file_write(path, "one", 3) != GD_OK;
}

static int teardown(void **state) {
  (void)state;
  gd_recorder_forget();
  return gd_folder_remove(base) == GD_OK ? 0 : 1;
}

static gd_status save(const char *where, int64_t step, int keep) {
  gd_checkpoint_writer *writer = NULL;
  int64_t published = -1;
  gd_spec spec;
  gd_mesh mesh;
  gd_config_defaults(&spec);
  spec.checkpoint.keep = keep;
  GD_TRY(gd_mesh_init(&mesh, 1, 1, 1, 1));
  gd_status status = gd_checkpoint_writer_open(NULL, where, &spec, &mesh, fixture_tensors, FIXTURE_TENSORS, tokenizer, &writer);
  if (status == GD_OK) status = fixture_save(writer, step, 2, &published);
  gd_checkpoint_writer_close(writer);
  return status == GD_OK && published != step ? gd_fail(GD_BUG, "published %d", (int)published) : status;
}

/* The step of what loads, every element of it right; -1: nothing, or not so. */
static int64_t loads(void) {
  gd_checkpoint *checkpoint = NULL;
  if (gd_checkpoint_open(NULL, state_folder, true, &checkpoint) != GD_OK || !checkpoint) return -1;
  int64_t step = fixture_holds(checkpoint) ? gd_checkpoint_state(checkpoint)->step : -1;
  gd_checkpoint_close(checkpoint);
  return step;
}

/* In a child, which may crash: 0 where all is well. */
static int start_again(const int64_t older[2], int64_t newer, bool reported) {
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) {
    alarm(LIMIT_S);
    int64_t step = loads();
    if (step != newer && (reported || (step != older[0] && step != older[1]))) _exit(WRONG);
    _exit(save(state_folder, 9, 1) == GD_OK && loads() == 9 ? 0 : NEXT_START);
  }
  int code = -1;
  assert_int_equal(waitpid(child, &code, 0), child);
  return code;
}

/* One save recorded, beside one or two older checkpoints, then crash states of it: half of them anywhere, half where names
 * change. */
static void crash(const char *what, const int64_t older[2], int64_t newer, int keep, int states) {
  gd_recorder_start(folder);
  gd_status status = save(folder, newer, keep);
  gd_recorder_stop();
  if (status != GD_OK) fail_msg("%s: %s", what, gd_error_text());
  int calls = gd_recorder_calls(), late = gd_recorder_first_rename();
  assert_true(late > 10 && late < calls);
  for (int i = 0; i < states; i++) {
    int first = i % 2 ? late : 0, at = first + i / 2 % (calls - first + 1);
    if (states < 2 * calls && i % 2 == 0) at = (int)((int64_t)i * calls / states);
    gd_recorder_crash(state_folder, at, i / 2 % 2 == 0, (uint64_t)i * 7919 + (uint64_t)newer);
    int code = start_again(older, newer, at == calls);
    trials++;
    if (code) {
      failures++;
      print_message("%s, state %d, before call %d of %d (%s): %s\n", what, i, at, calls, gd_recorder_name(at),
                    !WIFEXITED(code)             ? "the start crashed or hung"
                    : WEXITSTATUS(code) == WRONG ? "neither the older nor the new one loads whole"
                                                 : "the next save fails");
    }
    if (gd_folder_remove(state_folder) != GD_OK) fail_msg("%s", gd_error_text());
  }
}

/* Clopper and Pearson: 95 % of such counts come from a rate below this. */
static double bound95(int n, int bad) {
  double low = (double)bad / n, high = 1;
  for (int i = 0; i < 60; i++) {
    double p = (low + high) / 2, term = exp(n * log1p(-p)), sum = 0;
    for (int k = 0; k <= bad; k++) {
      sum += term;
      term *= (double)(n - k) / (k + 1) * p / (1 - p);
    }
    if (sum > 0.05)
      low = p;
    else
      high = p;
  }
  return high;
}

static void no_loss_of_power_costs_more_than_the_save(void **state) {
  (void)state;
  const char *text = getenv("STATES");
  int states = text ? atoi(text) : 80;
  fixture_best_step = -1;
  if (save(folder, 1, 1) != GD_OK) fail_msg("%s", gd_error_text());
  crash("a newer one, the older one goes", (int64_t[]){1, 1}, 2, 1, states);
  crash("the same step again", (int64_t[]){2, 2}, 2, 1, states);
  if (save(folder, 5, 9) != GD_OK) fail_msg("%s", gd_error_text());
  /* A run that was taken back to step 2 */
  crash("an earlier step, the later one is set aside", (int64_t[]){5, 2}, 3, 9, states);
  assert_int_equal(failures, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(no_loss_of_power_costs_more_than_the_save)};
  int bad = cmocka_run_group_tests(tests, setup, teardown);
  if (trials > 0)
    printf("{\"test\": \"crash_states\", \"trials\": %d, \"failures\": %d, \"bound95\": %.4f}\n", trials, failures,
           bound95(trials, failures));
  return bad;
}
