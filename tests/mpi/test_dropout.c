/* ranks: 1 2 4 */
/* Dropout in the whole model: backward multiplies by the masks of forward. The gradient of every tensor against central
 * differences of the loss with dropout on, fixed masks, on one rank, tensor parallel, and tensor x data. (The float64 reference
 * runs without dropout, and a comparison of layouts would not see a mask that is wrong on all of them.) Directions: along the
 * gradient itself, along random halves of it, and random ones. Forward has a mask of its own at every place, training only. */
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

enum { LAYERS = 2, STEP = 3, DIRECTIONS = 6, MOST_CALLS = 256 };

static const char gpt2[] =
    "model: {layers: 2, heads: 4, width: 32, context: 16, vocabulary: 61, dropout: 0.3, init_std: 0.15}\n"
    "run: {steps: 9, threads: 1, seed: 5, device: cpu}\n"
    "batch: {global: 4}\n"
    "parallel: {blocks: 2, zero: 0}\n"
    "numerics: invariant\n";
static const char llama[] =
    "model: {layers: 2, heads: 4, kv_heads: 2, head_size: 6, width: 24, ffn: 48, context: 16, vocabulary: 61, dropout: 0.3,\n"
    "        init_std: 0.15, norm: rmsnorm, activation: swiglu, position: rotary, bias: false, tied_head: false}\n"
    "run: {steps: 9, threads: 1, seed: 6, device: cpu}\n"
    "batch: {global: 4}\n"
    "parallel: {blocks: 2, zero: 0}\n"
    "numerics: invariant\n";

static void open_trained(trained *t, const char *shape, const char *micro) {
  const gd_config_override overrides[] = {{"--set", "parallel.tensor", gd_session_ranks(session) > 1 ? "2" : "1"},
                                          {"--set", "batch.micro", micro}};
  open_trained_as(t, shape, overrides, 2);
  fill_batch(t, 0);
}

/* A whole step that changes no weight: the sum of the losses, and the gradients in slot 0. */
static double run_step(trained *t) {
  good(gd_step_run(&t->step, STEP, &t->batch, 0.0f));
  gd_verdict verdict = verdict_of(t, STEP);
  assert_true(verdict.apply && verdict.weight_sum == 4 * LENGTH);
  return verdict.loss_sum;
}

/* Direction `kind` of a tensor's element, the same on every rank that holds it. */
static double direction(int kind, int32_t tensor, int64_t element, double gradient) {
  gd_rng rng = gd_rng_make(99, GD_RNG_SAMPLING, (uint32_t)kind, (uint32_t)tensor, 0);
  if (kind == 0) return gradient;
  if (kind < 4) return gd_rng_word(&rng, (uint64_t)element) & 1 ? gradient : 0;
  return (double)gd_rng_normal(&rng, (uint64_t)element);
}

/* Sum over all ranks. */
static double total(double mine) {
  double all[64], sum = 0;
  assert_true(gd_session_ranks(session) <= 64);
  good(gd_session_all_gather(session, &mine, all, sizeof mine));
  for (int32_t r = 0; r < gd_session_ranks(session); r++) sum += all[r];
  return sum;
}

/* along[arena] = the direction of one tensor, of length 1. Returns the gradient along it. */
static double make_direction(const trained *t, int kind, int32_t tensor, const float *gradient, float *along) {
  const gd_layout *layout = &t->model.layout;
  double squares = 0, product = 0;
  memset(along, 0, (size_t)layout->arena_elems * sizeof *along);
  for (int which = 0; which < 2; which++) { /* saved boxes hold each element once */
    gd_owned_box *boxes;
    int32_t count;
    good(gd_layout_owned(layout, which ? GD_OWN_SAVED : GD_OWN_ALL, &boxes, &count));
    for (int32_t i = 0; i < count; i++) {
      if (boxes[i].tensor != tensor) continue;
      const gd_box *box = &boxes[i].box;
      for (int64_t r = 0; r < box->rows; r++)
        for (int64_t c = 0; c < box->cols; c++) {
          int64_t at = layout->buckets[boxes[i].bucket].offset + boxes[i].offset + r * box->cols + c;
          int64_t element = (box->row + r) * layout->tensors[tensor].cols + box->col + c;
          double v = direction(kind, tensor, element, (double)gradient[at]);
          if (which == 0) along[at] = (float)v;
          if (which == 1) squares += v * v, product += v * (double)gradient[at];
        }
    }
    free(boxes);
  }
  squares = total(squares);
  product = total(product);
  if (!(squares > 0)) fail_msg("the gradient of %s is zero", layout->tensors[tensor].name);
  double length = sqrt(squares);
  for (int64_t i = 0; i < layout->arena_elems; i++) along[i] = (float)((double)along[i] / length);
  return product / length;
}

static double loss_at(trained *t, const float *weights, const float *along, double distance) {
  float *parameters = t->model.parameters;
  for (int64_t i = 0; i < t->model.layout.arena_elems; i++)
    parameters[i] = (float)((double)weights[i] + distance * (double)along[i]);
  return run_step(t);
}

/* (f(h) - f(-h)) / 2h, extrapolated from h and h / 2: the error is of fourth order. */
static double difference(trained *t, const float *weights, const float *along) {
  const double h = 0.04;
  double wide = (loss_at(t, weights, along, h) - loss_at(t, weights, along, -h)) / (2 * h);
  double narrow = (loss_at(t, weights, along, h / 2) - loss_at(t, weights, along, -h / 2)) / h;
  return (4 * narrow - wide) / 3;
}

static void check_gradients(const char *shape, const char *micro) {
  trained t;
  open_trained(&t, shape, micro);
  const gd_layout *layout = &t.model.layout;
  size_t bytes = (size_t)layout->arena_elems * sizeof(float);
  float *weights = malloc(bytes), *gradient = malloc(bytes), *along = malloc(bytes);
  assert_true(weights && gradient && along);
  run_step(&t);
  memcpy(weights, t.model.parameters, bytes);
  memcpy(gradient, t.model.gradients, bytes);
  double worst = 0;
  for (int32_t tensor = 0; tensor < layout->tensor_count; tensor++)
    for (int kind = 0; kind < DIRECTIONS; kind++) {
      double slope = make_direction(&t, kind, tensor, gradient, along);
      double found = difference(&t, weights, along), apart = fabs(found - slope);
      /* Loss sums in float32 carry about 2e-5 of noise, 5e-4 in the quotient; a wrong mask is 30 % of a slope apart. */
      double allowed = 2e-3 + 2e-3 * fabs(slope);
      if (apart / allowed > worst) worst = apart / allowed;
      if (!(apart <= allowed))
        fail_msg("%s, direction %d: the gradient says %.6g, the loss %.6g: %.3g apart, %.3g allowed",
                 layout->tensors[tensor].name, kind, slope, found, apart, allowed);
    }
  if (gd_session_rank(session) == 0) print_message("largest share of the tolerance used: %.3f\n", worst);
  free(weights), free(gradient), free(along);
  close_trained(&t);
}

static void gpt2_gradients_are_those_of_the_loss_with_dropout(void **state) {
  (void)state;
  check_gradients(gpt2, "1");
}
static void llama_gradients_are_those_of_the_loss_with_dropout(void **state) {
  (void)state;
  check_gradients(llama, "2");
}

/* ---- which masks forward uses ---- */

typedef struct mask_call {
  uint32_t stream[2];
  float dropout;
  int64_t first_row, first_head;
} mask_call;

static const gd_kernels_ops *real_ops;
static mask_call calls[MOST_CALLS];
static int call_count;

static gd_status seen_rows_finish(gd_kernels *kernels, const gd_rows_finish *a) {
  assert_true(call_count < MOST_CALLS);
  calls[call_count++] = (mask_call){{a->rng.stream[0], a->rng.stream[1]}, a->dropout, a->first_row, 0};
  return real_ops->rows_finish(kernels, a);
}
static gd_status seen_attention_forward(gd_kernels *kernels, const gd_attention *a) {
  assert_true(call_count < MOST_CALLS);
  assert_int_equal(a->all_heads, 4);
  assert_int_equal(a->query_total, LENGTH);
  assert_int_equal(a->key_total, LENGTH);
  calls[call_count++] =
      (mask_call){{a->rng.stream[0], a->rng.stream[1]}, a->dropout, a->first_sequence * LENGTH, a->first_head};
  return real_ops->attention_forward(kernels, a);
}

/* The next call is that site's in that layer. */
static void expect_mask(int *at, uint32_t site, uint32_t layer, float dropout, int64_t first_row, int64_t first_head) {
  assert_true(*at < call_count);
  const mask_call *c = &calls[(*at)++];
  assert_int_equal(c->stream[0], 2u << 24 | site << 16 | layer); /* purpose 2: dropout */
  assert_int_equal(c->stream[1], STEP);
  assert_true(c->dropout == dropout);
  assert_int_equal(c->first_row, first_row);
  assert_int_equal(c->first_head, first_head);
}

/* Embedding 1, attention 2, projection 3, down 4; rows and heads are counted over the global batch and all ranks. */
static void every_place_has_a_mask_of_its_own(void **state) {
  (void)state;
  trained t;
  open_trained(&t, gpt2, "2");
  gd_kernels_ops hooked = *(real_ops = t.model.kernels.ops);
  hooked.rows_finish = seen_rows_finish;
  hooked.attention_forward = seen_attention_forward;
  t.model.kernels.ops = &hooked;
  int32_t tensor = t.model.tensor->size, share = t.batch.sequences;
  for (int training = 1; training >= 0; training--) {
    call_count = 0;
    if (training) {
      run_step(&t);
    } else {
      for (int32_t first = 0; first < share; first += 2) {
        gd_micro micro = gd_model_micro(&t.model, 2, t.model.data->rank * share + first, STEP);
        good(gd_model_forward(&t.model, &micro, 0, t.model.layout.shape.layers));
      }
    }
    int at = 0;
    float p = training ? 0.3f : 0.0f;
    for (int32_t first = 0; first < share; first += 2) {
      int64_t sequence = (int64_t)t.model.data->rank * share + first;
      int64_t row = (sequence + t.model.tensor->rank * 2 / tensor) * LENGTH;
      expect_mask(&at, 1, 0, p, row, 0);
      for (uint32_t layer = 0; layer < LAYERS; layer++) {
        for (int32_t block = t.model.tensor->rank * 2 / tensor; block < (t.model.tensor->rank + 1) * 2 / tensor; block++)
          expect_mask(&at, 2, layer, p, sequence * LENGTH, 2 * block);
        expect_mask(&at, 3, layer, p, row, 0);
        expect_mask(&at, 4, layer, p, row, 0);
      }
    }
    assert_int_equal(at, call_count);
  }
  t.model.kernels.ops = real_ops;
  close_trained(&t);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(gpt2_gradients_are_those_of_the_loss_with_dropout),
      cmocka_unit_test(llama_gradients_are_those_of_the_loss_with_dropout),
      cmocka_unit_test(every_place_has_a_mask_of_its_own),
  };
  return cmocka_run_group_tests(tests, open_session, close_session);
}
