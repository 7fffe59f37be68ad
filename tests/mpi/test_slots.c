/* ranks: 1 2 4 */
/* Several micro-batches alive at once, each in its activation slot, and activations that are made anew in backward: the same
 * bits as one micro-batch at a time with all of them kept. So have layers that take turns with those of another micro-batch. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/mpi/trained.h"
#include "trainer/model.h"

enum { STEPS = 3 };

/* Losses and norms of the steps, then the weights; the caller frees. */
static char *run(const gd_config_override *overrides, int count, gd_pass_order order, int32_t slots, size_t *bytes) {
  static trained t;
  double told[2 * STEPS];
  memset(&t, 0, sizeof t);
  pass_order = order;
  open_trained_as(&t,
                  "model: {layers: 2, heads: 4, width: 32, context: 16, vocabulary: 61, dropout: 0.1, init_std: 0.1}\n"
                  "run: {threads: 1, seed: 5}\nbatch: {global: 28, micro: 3}\n",
                  overrides, count);
  pass_order = GD_PASSES_ONE_BY_ONE;
  assert_int_equal(t.step.plan.slots, slots);
  assert_int_equal(t.model.activations.slots, slots);
  for (int64_t number = 0; number < STEPS; number++) {
    fill_batch(&t, number);
    good(gd_step_run(&t.step, number, &t.batch, 1e-2f));
    gd_verdict verdict = verdict_of(&t, number);
    told[2 * number] = verdict.loss_sum;
    told[2 * number + 1] = verdict.gradient_norm;
  }
  size_t weights = (size_t)t.model.layout.arena_elems * t.model.layout.shape.bytes;
  *bytes = sizeof told + weights;
  char *out = malloc(*bytes);
  assert_non_null(out);
  memcpy(out, told, sizeof told);
  memcpy(out + sizeof told, t.model.parameters, weights);
  close_trained(&t);
  return out;
}

static void as_one_at_a_time(void **state) {
  (void)state;
  int32_t ranks = gd_session_ranks(session);
  for (int variant = 0; variant < 16; variant++) {
    int32_t tensor = variant & 1 && ranks > 1 ? 2 : 1, share = 28 / (ranks / tensor);
    const gd_config_override overrides[] = {
        {"--set", "parallel.tensor", tensor == 2 ? "2" : "1"},
        {"--set", "parallel.zero", variant & 2 ? "1" : "0"},
        {"--set", "numerics", variant & 4 ? "invariant" : "fast"},
        {"--set", "model.activation", variant & 8 ? "swiglu" : "gelu_tanh"},
        {"--set", "recompute.activation", "true"},
    };
    size_t bytes, same;
    char *kept = run(overrides, 4, GD_PASSES_ONE_BY_ONE, 1, &bytes);
    char *anew = run(overrides, 5, GD_PASSES_ONE_BY_ONE, 1, &same);
    char *together = run(overrides, 4, GD_PASSES_ALL_FORWARD, (share + 2) / 3, &same);
    char *both = run(overrides, 5, GD_PASSES_ALL_FORWARD, (share + 2) / 3, &same);
    assert_int_equal(same, bytes);
    if (memcmp(kept, anew, bytes) != 0) fail_msg("variant %d: recomputed activations give other bits", variant);
    if (memcmp(kept, together, bytes) != 0) fail_msg("variant %d: micro-batches in slots give other bits", variant);
    if (memcmp(kept, both, bytes) != 0) fail_msg("variant %d: recomputed activations of slots give other bits", variant);
    free(kept), free(anew), free(together), free(both);
  }
}

/* Losses of two micro-batches whose layers come `layers` at a time, in turns. */
static void losses_of_two(trained *t, int32_t layers, float *sums) {
  gd_micro micros[2];
  for (int32_t i = 0; i < 2; i++) {
    micros[i] = gd_model_micro(&t->model, 3, 3 * i, 0);
    micros[i].slot = i;
    good(gd_model_load_batch(&t->model, &micros[i], &t->batch, NULL, 3 * i));
  }
  for (int32_t layer = 0; layer < 4; layer += layers)
    for (int32_t i = 0; i < 2; i++) good(gd_model_forward(&t->model, &micros[i], layer, layers));
  for (int32_t i = 0; i < 2; i++) good(gd_model_loss(&t->model, &micros[i], sums + 6 * i, false));
}

static void layers_take_turns(void **state) {
  (void)state;
  static trained t;
  float whole[12], turns[12];
  for (int variant = 0; variant < 4; variant++) {
    const gd_config_override overrides[] = {
        {"--set", "parallel.tensor", variant & 1 && gd_session_ranks(session) > 1 ? "2" : "1"},
        {"--set", "finetune.train", variant & 2 ? "head" : "all"}, /* head: the layers of all share one norm output */
    };
    pass_order = GD_PASSES_ALL_FORWARD;
    memset(&t, 0, sizeof t);
    open_trained_as(&t,
                    "model: {layers: 4, heads: 4, width: 32, context: 16, vocabulary: 61, init_std: 0.1}\n"
                    "run: {threads: 1, seed: 5}\nbatch: {global: 24, micro: 3}\n",
                    overrides, 2);
    pass_order = GD_PASSES_ONE_BY_ONE;
    fill_batch(&t, 0);
    losses_of_two(&t, 1, turns);
    losses_of_two(&t, 4, whole);
    if (memcmp(whole, turns, sizeof whole) != 0) fail_msg("variant %d: layers that take turns give other losses", variant);
    close_trained(&t);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(as_one_at_a_time), cmocka_unit_test(layers_take_turns)};
  return cmocka_run_group_tests(tests, open_session, close_session);
}
