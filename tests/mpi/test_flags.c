/* ranks: 1 2 4 */
/* What one rank alone asks for in a step's vote, every rank reads with its verdict, also where two steps are enqueued. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/mpi/trained.h"

static int32_t asked;

/* The last rank wants to stop in the second vote; the first one is saving in the first. */
static void ask(void *context, int32_t flags[GD_FLAGS]) {
  (void)context;
  int32_t rank = gd_session_rank(session), ranks = gd_session_ranks(session);
  flags[GD_FLAG_STOP] = rank == ranks - 1 && asked == 1 ? 3 : 0;
  flags[GD_FLAG_SAVING] = rank == 0 && asked == 0;
  asked++;
}

static void every_rank_reads_what_one_asked(void **state) {
  (void)state;
  static trained t;
  gd_step_result result;
  open_trained_as(&t,
                  "model: {layers: 1, heads: 4, width: 32, context: 16, vocabulary: 61}\nbatch: {global: 4}\n"
                  "run: {threads: 1}\n",
                  NULL, 0);
  gd_step_close(&t.step);
  good(gd_step_open(&t.model, &t.optimizer, ask, NULL, &t.step));
  for (int64_t number = 0; number < GD_FLAGS_AHEAD; number++) {
    fill_batch(&t, number);
    good(gd_step_run(&t.step, number, &t.batch, 1e-3f));
  }
  for (int64_t number = 0; number < GD_FLAGS_AHEAD; number++) {
    good(gd_step_read(&t.step, number, &result));
    assert_int_equal(result.verdict.applied_steps, number + 1);
    assert_int_equal(result.flags[GD_FLAG_STOP], number == 1 ? 3 : 0);
    assert_int_equal(result.flags[GD_FLAG_SAVING], number == 0);
  }
  close_trained(&t);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(every_rank_reads_what_one_asked)};
  return cmocka_run_group_tests(tests, open_session, close_session);
}
