/* ranks: 1 2 4 */
/* A step that is not finite: every rank comes to the same verdict, whichever rank saw it; nothing of the state moves, it does
 * not count, and the steps after it are those of a run that never met it, bit for bit. ZeRO 0 and 1, tensor parallel, float32
 * and bfloat16. */
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
#include "trainer/nonfinite.h"

typedef enum bad_kind {
  BAD_LOSS,     /* a NaN in the loss of one sequence of the last rank */
  NO_TARGET,    /* no weight anywhere */
  BAD_GRADIENT, /* an infinity in the last rank's piece of the gradient alone */
  BAD_COPY,     /* a NaN in the last rank's copy of a gradient that others hold too and have already summed */
  FAULTS
} bad_kind;

static void open_trained(trained *t, const char *zero, const char *dtype) {
  static const char shape[] =
      "model: {layers: 1, heads: 4, width: 32, context: 16, vocabulary: 61, dropout: 0.1}\n"
      "run: {steps: 9, threads: 1, seed: 5, device: cpu}\n"
      "batch: {global: 4}\n"
      "numerics: invariant\n";
  const gd_config_override overrides[] = {{"--set", "parallel.tensor", gd_session_ranks(session) > 2 ? "2" : "1"},
                                          {"--set", "parallel.zero", zero},
                                          {"--set", "precision.dtype", dtype}};
  open_trained_as(t, shape, overrides, 3);
}

static const gd_kernels_ops *real_ops;
static bool poisoned;

static gd_status poisoned_squares(gd_kernels *kernels, const gd_unit_squares *a) {
  GD_TRY(real_ops->unit_squares(kernels, a));
  if (!poisoned) a->sums[a->units - 1] = INFINITY;
  poisoned = true;
  return GD_OK;
}

/* Of a parameter that tensor ranks hold alike, or of another data rank's piece: the norm is that of the others' copies. */
static trained *struck;
static gd_status poisoned_copy(gd_kernels *kernels, const gd_unit_squares *a) {
  const gd_layout *layout = &struck->model.layout;
  for (int32_t i = 0; i < layout->parameter_count && !poisoned; i++) {
    const gd_parameter *p = &layout->parameters[i];
    gd_range mine = gd_layout_piece(layout, p->bucket, struck->model.data->rank);
    gd_range updated = gd_layout_updated(layout, p->bucket);
    bool at_home = p->offset >= mine.offset && p->offset < mine.offset + mine.elements;
    bool here = p->offset >= updated.offset && p->offset < updated.offset + updated.elements;
    if (!here || (struck->model.tensor->size > 1 ? p->cut != GD_CUT_NONE : at_home)) continue;
    gd_model_bucket_gradient(&struck->model, 0, p->bucket)[p->offset] = NAN;
    poisoned = true;
  }
  return real_ops->unit_squares(kernels, a);
}

static gd_verdict run_step(trained *t, int64_t number, int fault) {
  bool mine = gd_session_rank(session) == gd_session_ranks(session) - 1;
  gd_kernels_ops hooked = *(real_ops = t->model.kernels.ops);
  fill_batch(t, number);
  if (fault == BAD_LOSS && t->model.data->rank == t->model.data->size - 1) t->batch.weights[LENGTH + 3] = NAN;
  if (fault == NO_TARGET) memset(t->batch.weights, 0, (size_t)t->batch.sequences * LENGTH * sizeof *t->batch.weights);
  hooked.unit_squares = fault == BAD_COPY ? poisoned_copy : poisoned_squares;
  poisoned = false;
  struck = t;
  if ((fault == BAD_GRADIENT || fault == BAD_COPY) && mine) t->model.kernels.ops = &hooked;
  good(gd_step_run(&t->step, number, &t->batch, 0.01f));
  t->model.kernels.ops = real_ops;
  assert_true(fault != BAD_COPY || !mine || poisoned);
  return verdict_of(t, number);
}

/* Parameters, masters and moments of this rank, one behind the other; the caller frees. */
static char *state_of(const trained *t, size_t *bytes) {
  size_t stored = (size_t)t->model.layout.arena_elems * gd_dtype_bytes(t->spec.precision.dtype);
  size_t state = (size_t)t->model.layout.state_elems * sizeof(float);
  const void *parts[] = {t->model.parameters, t->optimizer.master, t->optimizer.first, t->optimizer.second};
  char *out = calloc(1, stored + 3 * state);
  assert_non_null(out);
  *bytes = 0;
  for (int i = 0; i < 4; i++) {
    size_t part = i == 0 ? stored : state;
    if (!parts[i]) continue;
    memcpy(out + *bytes, parts[i], part);
    *bytes += part;
  }
  return out;
}

static void same_state(const trained *t, const char *before, bool expected) {
  size_t bytes;
  char *now = state_of(t, &bytes);
  assert_int_equal(memcmp(now, before, bytes) == 0, expected);
  free(now);
}

/* Every rank's verdict of the same step is the same, to the bit. */
static void all_agree(const gd_verdict *mine) {
  gd_verdict all[8];
  assert_true(gd_session_ranks(session) <= 8);
  good(gd_session_all_gather(session, mine, all, sizeof *mine));
  for (int32_t r = 0; r < gd_session_ranks(session); r++) assert_memory_equal(&all[r], mine, sizeof *mine);
}

/* "on rank R ", the first of the data rank that has the loss. */
static const char *loss_rank(const trained *t) {
  static char text[32];
  snprintf(text, sizeof text, "on rank %d ", (t->model.data->size - 1) * t->model.tensor->size);
  return text;
}

static void check(const char *zero, const char *dtype, int fault) {
  trained disturbed, calm;
  size_t bytes;
  open_trained(&disturbed, zero, dtype);
  open_trained(&calm, zero, dtype);
  gd_verdict v = run_step(&disturbed, 0, FAULTS);
  run_step(&calm, 0, FAULTS);
  assert_true(v.apply == 1 && v.applied_steps == 1 && v.bad_steps == 0);
  char *before = state_of(&disturbed, &bytes);
  for (int bad = 1; bad <= 2; bad++) {
    v = run_step(&disturbed, bad, fault);
    all_agree(&v);
    assert_true(v.apply == 0 && v.applied_steps == 1 && v.bad_steps == bad);
    same_state(&disturbed, before, true);
    if (fault == NO_TARGET) { /* and no NaN */
      assert_true(v.weight_sum == 0 && v.loss_sum == 0 && v.gradient_norm == 0 && v.scale == 0);
      continue;
    }
    assert_false(isfinite(fault == BAD_LOSS ? v.loss_sum : v.gradient_norm) != 0);
    /* Done again, a NaN of the batch is there again; the infinity that was put into a sum is not. */
    char text[GD_NONFINITE_BYTES];
    good(gd_nonfinite_find(&disturbed.step, bad, &disturbed.batch, text));
    assert_non_null(strstr(text, fault == BAD_LOSS ? "a loss is not finite, too" : "done again, the step is finite"));
    assert_true(fault != BAD_LOSS || strstr(text, loss_rank(&disturbed)));
    same_state(&disturbed, before, true);
  }
  v = run_step(&disturbed, 3, FAULTS);
  gd_verdict undisturbed = run_step(&calm, 3, FAULTS);
  all_agree(&v);
  assert_true(v.apply == 1 && v.applied_steps == 2 && v.bad_steps == 0);
  assert_memory_equal(&v, &undisturbed, sizeof v);
  same_state(&disturbed, before, false);
  free(before);
  before = state_of(&calm, &bytes);
  same_state(&disturbed, before, true);
  free(before);
  close_trained(&disturbed);
  close_trained(&calm);
}

static void a_step_with_a_bad_loss_changes_nothing(void **state) {
  (void)state;
  check("0", "fp32", BAD_LOSS);
  check("1", "bf16", BAD_LOSS);
}
static void a_step_with_a_bad_gradient_changes_nothing(void **state) {
  (void)state;
  check("1", "fp32", BAD_GRADIENT);
  check("0", "bf16", BAD_GRADIENT);
}
static void a_step_without_a_target_changes_nothing(void **state) {
  (void)state;
  check("1", "fp32", NO_TARGET);
  check("0", "bf16", NO_TARGET);
}

static void a_step_with_a_bad_copy_changes_nothing(void **state) {
  (void)state;
  if (gd_session_ranks(session) == 1) return; /* no copies */
  check("0", "fp32", BAD_COPY);
  check("0", "bf16", BAD_COPY);
  if (gd_session_ranks(session) > 2) check("1", "fp32", BAD_COPY);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_step_with_a_bad_loss_changes_nothing),
      cmocka_unit_test(a_step_with_a_bad_gradient_changes_nothing),
      cmocka_unit_test(a_step_with_a_bad_copy_changes_nothing),
      cmocka_unit_test(a_step_without_a_target_changes_nothing),
  };
  return cmocka_run_group_tests(tests, open_session, close_session);
}
