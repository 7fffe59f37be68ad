/* ranks: 1 2 */
/* A step's batch is not overwritten before the device has copied it, though the host is two steps ahead: on the lazy device,
 * whose copies run when they are waited for, the losses are those of steps that were waited for one by one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/mpi/trained.h"

enum { STEPS = 6 };

/* As far ahead as gd_step_batch allows, or one step at a time. */
static void train(bool ahead, double losses[STEPS]) {
  static trained t;
  open_trained_as(&t,
                  "model: {layers: 1, heads: 4, width: 32, context: 16, vocabulary: 61}\nbatch: {global: 4, micro: 1}\n"
                  "run: {threads: 1}\n",
                  NULL, 0);
  gd_batch own = t.batch;
  for (int64_t number = 0; number < STEPS; number++) {
    gd_batch *batch;
    gd_step_result result;
    good(gd_step_batch(&t.step, number, &batch));
    assert_int_equal(batch->sequences, own.sequences);
    assert_int_equal(batch->length, LENGTH);
    t.batch = *batch;
    fill_batch(&t, number); /* the step before the last one was not read yet */
    if (number >= GD_FLAGS_AHEAD) {
      good(gd_step_read(&t.step, number - GD_FLAGS_AHEAD, &result));
      losses[number - GD_FLAGS_AHEAD] = result.verdict.loss_sum;
    }
    good(gd_step_run(&t.step, number, batch, 1e-2f));
    if (!ahead) good(gd_step_wait(&t.step));
  }
  for (int64_t number = STEPS - GD_FLAGS_AHEAD; number < STEPS; number++) {
    gd_step_result result;
    good(gd_step_read(&t.step, number, &result));
    losses[number] = result.verdict.loss_sum;
  }
  t.batch = own;
  close_trained(&t);
}

static void a_batch_stays_until_it_was_copied(void **state) {
  (void)state;
  double one_by_one[STEPS], ahead[STEPS];
  train(false, one_by_one);
  train(true, ahead);
  for (int i = 0; i < STEPS; i++) assert_true(ahead[i] == one_by_one[i]);
  assert_true(ahead[0] > 0 && ahead[0] != ahead[1]);
}

static int open_lazy_session(void **state) {
  (void)state;
  gd_spec spec;
  gd_config_defaults(&spec);
  spec.run.device = GD_DEVICE_LAZY;
  return gd_session_open(&session) == GD_OK && gd_session_open_device(session, &spec, &device) == GD_OK ? 0 : -1;
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(a_batch_stays_until_it_was_copied)};
  return cmocka_run_group_tests(tests, open_lazy_session, close_session);
}
