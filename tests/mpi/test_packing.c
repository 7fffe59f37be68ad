/* ranks: 1 2 */
/* Documents packed into sequences against the same documents one a sequence: each token's loss within 1e-5, and all gradients,
 * the table of positions' too. Learned and rotary positions, float32, both modes, the tensor axis as long as there are ranks.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/mpi/trained.h"
#include "trainer/model.h"

enum { DOCUMENTS = 8, PACKED = 4 };
static const int32_t lengths[DOCUMENTS] = {5, 7, 3, 9, 6, 16, 2, 13}; /* of one row each: 15, 15, 16, 15 */
static const int32_t rows_of[DOCUMENTS] = {0, 0, 0, 1, 1, 2, 3, 3};

static void open_case(trained *t, const char *position, const char *numerics, const char *global) {
  static const char shape[] =
      "model: {layers: 2, heads: 4, width: 32, context: 16, vocabulary: 61, init_std: 0.2}\n"
      "run: {steps: 9, threads: 1, seed: 5, device: cpu}\n"
      "data: {mask_documents: true, reset_positions: true}\n";
  char ranks[16];
  snprintf(ranks, sizeof ranks, "%d", gd_session_ranks(session));
  const gd_config_override overrides[] = {{"--set", "parallel.tensor", ranks},
                                          {"--set", "model.position", position},
                                          {"--set", "numerics", numerics},
                                          {"--set", "batch.global", global}};
  open_trained_as(t, shape, overrides, 4);
}

/* Document d from `first` on of a sequence. Its last token has no target, and of one document the first half has none. */
static void put(gd_batch *batch, int32_t sequence, int32_t first, int32_t d) {
  for (int32_t i = 0; i < lengths[d]; i++) {
    int32_t at = sequence * LENGTH + first + i;
    batch->tokens[at] = (d * 17 + i * 29) % VOCABULARY;
    batch->targets[at] = (d * 17 + (i + 1) * 29) % VOCABULARY;
    batch->weights[at] = i + 1 < lengths[d] && !(d == 5 && i < 8);
    batch->document_starts[at] = first;
  }
}

/* begins[d]: the row of each document's first token. */
static void fill(trained *t, bool packed, int32_t *begins) {
  gd_batch *batch = &t->batch;
  int32_t used[DOCUMENTS] = {0};
  memset(batch->weights, 0, (size_t)batch->sequences * LENGTH * sizeof *batch->weights);
  for (int32_t d = 0; d < DOCUMENTS; d++) {
    int32_t sequence = packed ? rows_of[d] : d;
    put(batch, sequence, used[sequence], d);
    begins[d] = sequence * LENGTH + used[sequence];
    used[sequence] += lengths[d];
  }
  for (int32_t s = 0; s < batch->sequences; s++)
    for (int32_t i = used[s]; i < LENGTH; i++) {
      batch->tokens[s * LENGTH + i] = 0;
      batch->document_starts[s * LENGTH + i] = used[s];
    }
  for (int32_t i = 0; i < batch->sequences * LENGTH; i++) batch->positions[i] = i % LENGTH - batch->document_starts[i];
}

/* losses[row] of all tokens. */
static void row_losses(trained *t, float *losses) {
  gd_micro micro = gd_model_micro(&t->model, t->batch.sequences, 0, 0);
  float sums[2 * DOCUMENTS];
  good(gd_model_load_batch(&t->model, &micro, &t->batch, NULL, 0));
  good(gd_model_forward(&t->model, &micro, 0, t->spec.model.layers));
  good(gd_model_loss(&t->model, &micro, sums, false));
  memcpy(losses, gd_model_workspace(&t->model, GD_W_ROW_LOSS), (size_t)micro.rows * sizeof *losses);
}

static void check(const char *position, const char *numerics) {
  static trained packed, alone;
  int32_t packed_begins[DOCUMENTS], alone_begins[DOCUMENTS];
  float packed_losses[PACKED * LENGTH], alone_losses[DOCUMENTS * LENGTH];
  open_case(&packed, position, numerics, "4");
  open_case(&alone, position, numerics, "8");
  fill(&packed, true, packed_begins);
  fill(&alone, false, alone_begins);
  row_losses(&packed, packed_losses);
  row_losses(&alone, alone_losses);
  for (int32_t d = 0; d < DOCUMENTS; d++)
    for (int32_t i = 0; i < lengths[d]; i++) {
      float a = packed_losses[packed_begins[d] + i], b = alone_losses[alone_begins[d] + i];
      if (!(fabsf(a - b) <= 1e-5f))
        fail_msg("%s %s: document %d token %d: %.9g, alone %.9g", position, numerics, d, i, (double)a, (double)b);
    }
  good(gd_step_run(&packed.step, 0, &packed.batch, 0));
  good(gd_step_run(&alone.step, 0, &alone.batch, 0));
  gd_verdict v = verdict_of(&packed, 0), w = verdict_of(&alone, 0);
  assert_true(v.apply && w.apply && v.weight_sum == w.weight_sum && v.weight_sum == 61 - DOCUMENTS - 8);
  assert_true(fabs(v.loss_sum - w.loss_sum) <= 1e-5 * w.loss_sum);
  for (int64_t i = 0; i < packed.model.layout.gradient_elems; i++) {
    float a = packed.model.gradients[i], b = alone.model.gradients[i];
    if (!(fabsf(a - b) <= 2e-4f))
      fail_msg("%s %s: gradient %lld: %.9g, alone %.9g", position, numerics, (long long)i, (double)a, (double)b);
  }
  close_trained(&packed);
  close_trained(&alone);
}

static void packed_documents_are_those_alone_learned(void **state) {
  (void)state;
  check("learned", "invariant");
  check("learned", "fast");
}
static void packed_documents_are_those_alone_rotary(void **state) {
  (void)state;
  check("rotary", "invariant");
  check("rotary", "fast");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(packed_documents_are_those_alone_learned),
      cmocka_unit_test(packed_documents_are_those_alone_rotary),
  };
  return cmocka_run_group_tests(tests, open_session, close_session);
}
