/* trained.h - what tests of whole steps share: a session on the CPU, a small model with optimizer, step and batch in it.
 * Include it after <cmocka.h>. */
#ifndef GD_TESTS_MPI_TRAINED_H
#define GD_TESTS_MPI_TRAINED_H

#include <string.h>

#include "io/config/config.h"
#include "trainer/step.h"
#include "trainer/weights.h"

enum { LENGTH = 16, VOCABULARY = 61 };

static gd_session *session;
static gd_device *device;
static gd_pass_order pass_order; /* of the models that are opened */

typedef struct trained {
  gd_spec spec;
  gd_mesh mesh;
  gd_model model;
  gd_optimizer optimizer;
  gd_step step;
  gd_batch batch; /* this data rank's share of the global batch */
} trained;

static inline void good(gd_status status) {
  if (status != GD_OK) fail_msg("%s", gd_error_text());
}

/* A run file's text and overrides of it, on all ranks of the job; initial weights. */
static inline void open_trained_as(trained *t, const char *text, const gd_config_override *overrides, int count) {
  int32_t ranks = gd_session_ranks(session);
  good(gd_config_load_text("shape", text, strlen(text), overrides, count, &t->spec, 0));
  t->spec.parallel.passes = pass_order;
  good(gd_spec_resolve(&t->spec, ranks));
  good(gd_mesh_init(&t->mesh, ranks, t->spec.parallel.tensor, 1, 1));
  good(gd_model_open(session, device, &t->spec, &t->mesh, false, 0, &t->model));
  good(gd_model_read_weights(&t->model, gd_model_random_weights, &t->model));
  good(gd_optimizer_open(&t->model, &t->optimizer));
  good(gd_step_open(&t->model, &t->optimizer, NULL, NULL, &t->step));
  good(gd_batch_open(t->spec.batch.global / t->model.data->size, LENGTH, &t->batch));
}

static inline void close_trained(trained *t) {
  gd_batch_close(&t->batch);
  gd_step_close(&t->step);
  gd_optimizer_close(&t->optimizer);
  gd_model_close(&t->model);
}

/* Step `number`'s tokens, other ones in each sequence. */
static inline void fill_batch(trained *t, int64_t number) {
  int32_t first = t->model.data->rank * t->batch.sequences * LENGTH + (int32_t)number * 1000;
  for (int32_t i = 0; i < t->batch.sequences * LENGTH; i++) {
    t->batch.tokens[i] = (first + i) * 37 % VOCABULARY;
    t->batch.targets[i] = (first + i + 1) * 37 % VOCABULARY;
    t->batch.weights[i] = 1;
    t->batch.document_starts[i] = 0;
    t->batch.positions[i] = i % LENGTH;
  }
}

/* What step `number` came to, once all of it has passed. */
static inline gd_verdict verdict_of(trained *t, int64_t number) {
  gd_step_result result;
  good(gd_step_read(&t->step, number, &result));
  good(gd_step_wait(&t->step));
  return result.verdict;
}

static inline int open_session(void **state) {
  (void)state;
  gd_spec spec;
  gd_config_defaults(&spec);
  spec.run.device = GD_DEVICE_CPU;
  if (gd_session_open(&session) != GD_OK || gd_session_open_device(session, &spec, &device) != GD_OK) {
    print_error("%s\n", gd_error_text());
    return -1;
  }
  return 0;
}

static inline int close_session(void **state) {
  (void)state;
  gd_session_close(session);
  return 0;
}

#endif
