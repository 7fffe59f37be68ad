/* ranks: 2 4 */
/* Steps of a small model in which all ranks make the same calls, and the digest says so; and, with arguments, the scenes of
 * tests/fault/test_desynchronised.sh: one rank makes one call otherwise in step 2.
 *   test_calls SCENE RANK TENSOR WATCHDOG_S */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "shard/base/log.h"
#include "tests/mpi/trained.h"

enum { BAD_STEP = 2, STEPS = 5 };

static const char gpt2[] =
    "model: {layers: 2, heads: 4, width: 32, context: 16, vocabulary: 61}\nbatch: {global: 8}\nrun: {threads: 1}\n"
    "parallel: {zero: 1}\n";

static void open_model(trained *t, const char *tensor) {
  const gd_config_override overrides[] = {{"--set", "parallel.tensor", tensor}};
  memset(t, 0, sizeof *t);
  open_trained_as(t, gpt2, overrides, 1);
}

static void healthy_ranks_make_the_same_calls(void **state) {
  (void)state;
  static trained t;
  const char *const tensor[] = {"1", "2"};
  for (int i = 0; i < 2; i++) {
    open_model(&t, tensor[i]);
    for (int64_t number = 0; number < STEPS; number++) {
      fill_batch(&t, number);
      good(gd_step_run(&t.step, number, &t.batch, 1e-3f));
      assert_int_equal(verdict_of(&t, number).applied_steps, number + 1);
    }
    int64_t mine = gd_session_calls_digest(session), all[8], sum = 0;
    good(gd_session_all_gather(session, &mine, all, sizeof mine));
    for (int32_t r = 0; r < gd_session_ranks(session); r++) sum += all[r];
    assert_true(mine != 0 && (sum & GD_CALLS_SUM_MASK) == 0);
    good(gd_session_check_calls(session, sum));
    close_trained(&t);
  }
}

/* ---- scenes ---- */

static trained t;
static const char *scene;
static bool armed; /* until the call was made */
static const gd_collectives_ops *true_ops;
static void *weights; /* rank 0: as they were before the step */

static bool now(const char *name) {
  bool it = armed && !strcmp(scene, name);
  if (it) armed = false;
  return it;
}

static gd_status bad_all_gather(gd_group *g, gd_stream *s, const void *send, void *recv, size_t bytes) {
  if (now("short-gather")) bytes /= 2;
  if (now("broadcast-instead")) return true_ops->broadcast(g, s, recv, bytes, 0);
  return true_ops->all_gather(g, s, send, recv, bytes);
}

static gd_status bad_all_gather_uneven(gd_group *g, gd_stream *s, const void *send, void *recv, const size_t *sizes,
                                       const size_t *offsets) {
  size_t other[8];
  memcpy(other, sizes, (size_t)g->size * sizeof *sizes);
  if (now("other-sizes")) other[g->rank] /= 2;
  return true_ops->all_gather_uneven(g, s, send, recv, other, offsets);
}

static gd_status bad_all_to_all(gd_group *g, gd_stream *s, const void *send, void *recv, size_t bytes) {
  if (now("gather-instead")) return true_ops->all_gather(g, s, send, recv, bytes);
  if (now("left-out")) return GD_OK;
  if (now("twice")) GD_TRY(true_ops->all_to_all(g, s, send, recv, bytes));
  if (now("short-all-to-all")) bytes /= 2;
  return true_ops->all_to_all(g, s, send, recv, bytes);
}

static gd_status bad_exchange(gd_group *g, gd_stream *s, const gd_message *messages, int32_t count) {
  gd_message list[64];
  memcpy(list, messages, (size_t)count * sizeof *list);
  int32_t sends = 0, receives = 0;
  while (sends < count && list[sends].direction != GD_SEND) sends++;
  while (receives < count && list[receives].direction != GD_RECEIVE) receives++;
  if (sends < count && now("short-message")) list[sends].bytes /= 2;
  if (sends < count && g->size > 2 && now("wrong-peer"))
    for (int32_t p = 0; p < g->size; p++)
      if (p != g->rank && p != messages[sends].peer) list[sends].peer = p;
  if (receives < count && now("no-receive")) {
    memmove(list + receives, list + receives + 1, (size_t)(count - receives - 1) * sizeof *list);
    count--;
  }
  return true_ops->exchange(g, s, list, count);
}

static gd_status bad_all_reduce(gd_group *g, gd_stream *s, void *buffer, size_t elements, gd_dtype dtype, gd_reduction op) {
  if (now("sum-for-max")) op = GD_SUM;
  if (now("max-for-sum")) op = GD_MAX;
  if (now("other-dtype")) dtype = GD_INT32;
  if (now("fewer-elements")) elements--;
  return true_ops->all_reduce(g, s, buffer, elements, dtype, op);
}

static void plant(gd_group *group) {
  static gd_collectives_ops bad;
  true_ops = group->ops;
  bad = *true_ops;
  bad.all_gather = bad_all_gather;
  bad.all_gather_uneven = bad_all_gather_uneven;
  bad.all_to_all = bad_all_to_all;
  bad.exchange = bad_exchange;
  bad.all_reduce = bad_all_reduce;
  group->ops = &bad;
  armed = true;
}

static void print_line(void *context, gd_log_level level, const char *line) {
  (void)context;
  if (level == GD_LOG_ERROR) fprintf(stderr, "LOG rank %d: %s\n", gd_session_rank(session), line);
}

static size_t weight_bytes(void) {
  return (size_t)t.model.memory[GD_M_PARAMETERS].bytes;
}

static void exit_hook(void *context, gd_status code, const char *text) {
  (void)context, (void)text;
  bool same = !memcmp(weights, gd_model_bucket(&t.model, 0), weight_bytes());
  fprintf(stderr, "HOOK code %d, weights %s\n", (int)code, same ? "as before" : "changed");
}

static void must(gd_status status) {
  if (status != GD_OK) gd_session_abort(session, status, gd_error_text());
}

static int play(char **arguments) {
  scene = arguments[1];
  bool culprit = gd_session_rank(session) == atoi(arguments[2]);
  gd_log_set_sink(print_line, NULL);
  gd_session_set_watchdog(session, atoi(arguments[4]));
  open_model(&t, arguments[3]);
  weights = malloc(weight_bytes());
  gd_session_set_exit_hook(session, exit_hook, NULL);
  gd_group *group = t.model.tensor->size > 1 ? t.model.tensor : t.model.data;
  if (!strcmp(scene, "max-for-sum")) group = t.model.world;
  for (int64_t number = 0; number < STEPS; number++) {
    fill_batch(&t, number);
    must(gd_step_wait(&t.step));
    memcpy(weights, gd_model_bucket(&t.model, 0), weight_bytes());
    if (culprit && number == BAD_STEP) plant(group);
    must(gd_step_run(&t.step, number, &t.batch, 1e-3f));
    gd_step_result result;
    must(gd_step_read(&t.step, number, &result));
  }
  if (culprit) fprintf(stderr, "%s\n", armed ? "NOTHING was planted" : "NOT found");
  gd_session_close(session);
  return 0;
}

static void ignore(int number) {
  (void)number;
}

int main(int count, char **arguments) {
  if (count == 5) {
    signal(SIGTERM, ignore); /* as gptdist-train, while rank 0 tells */
    return open_session(NULL) ? 1 : play(arguments);
  }
  const struct CMUnitTest tests[] = {cmocka_unit_test(healthy_ranks_make_the_same_calls)};
  return cmocka_run_group_tests(tests, open_session, close_session);
}
