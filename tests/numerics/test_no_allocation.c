/* Nothing is allocated after the first step: neither device memory nor, on one rank, a byte of the heap. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "io/config/config.h"
#include "tests/sanitized.h"
#include "trainer/step.h"
#include "trainer/weights.h"

static _Atomic int64_t heap_calls, device_calls;

#ifndef SANITIZED
/* The C library's own entry points, counted: these definitions come before the library's. */
void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *pointer, size_t bytes);
void *malloc(size_t bytes) {
  heap_calls++;
  return __libc_malloc(bytes);
}
void *calloc(size_t count, size_t bytes) {
  heap_calls++;
  return __libc_calloc(count, bytes);
}
void *realloc(void *pointer, size_t bytes) {
  heap_calls++;
  return __libc_realloc(pointer, bytes);
}
#endif

static const gd_device_ops *real_ops;
static gd_status counted_alloc(gd_device *device, size_t bytes, void **out) {
  device_calls++;
  return real_ops->alloc(device, bytes, out);
}
static gd_status counted_alloc_host(gd_device *device, size_t bytes, void **out) {
  device_calls++;
  return real_ops->alloc_host(device, bytes, out);
}

static void good(gd_status status) {
  if (status != GD_OK) fail_msg("%s", gd_error_text());
}

static void run(const char *numerics, const char *dtype) {
  static const char shape[] =
      "run: {steps: 5, threads: 2}\n"
      "model: {layers: 2, heads: 4, width: 32, context: 16, vocabulary: 61, dropout: 0.1}\n"
      "batch: {global: 6, micro: 2}\n";
  const gd_config_override overrides[] = {{"--set", "numerics", numerics}, {"--set", "precision.dtype", dtype}};
  gd_spec spec;
  gd_session *session;
  gd_device *device;
  gd_device_ops counted;
  gd_mesh mesh;
  gd_model model;
  gd_optimizer optimizer;
  gd_step step;
  gd_batch batch;
  gd_step_result result;
  good(gd_config_load_text("shape", shape, sizeof shape - 1, overrides, 2, &spec, 0));
  spec.run.device = GD_DEVICE_CPU;
  good(gd_spec_resolve(&spec, 1));
  good(gd_session_open(&session));
  good(gd_session_open_device(session, &spec, &device));
  real_ops = device->ops;
  counted = *real_ops;
  counted.alloc = counted_alloc;
  counted.alloc_host = counted_alloc_host;
  device->ops = &counted;
  good(gd_mesh_init(&mesh, 1, 1, 1, 1));
  good(gd_model_open(session, device, &spec, &mesh, false, 0, &model));
  good(gd_model_read_weights(&model, gd_model_random_weights, &model));
  good(gd_optimizer_open(&model, &optimizer));
  good(gd_step_open(&model, &optimizer, NULL, NULL, &step));
  good(gd_batch_open(6, 16, &batch));
  for (int i = 0; i < 6 * 16; i++) {
    batch.tokens[i] = i * 7 % 61;
    batch.targets[i] = (i + 1) * 7 % 61;
    batch.weights[i] = 1;
  }
  assert_true(device_calls > 0); /* else nothing was counted */
#ifndef SANITIZED
  assert_true(heap_calls > 0);
#endif
  good(gd_step_run(&step, 0, &batch, 1e-3f));
  good(gd_step_read(&step, 0, &result));
  int64_t heap = heap_calls, memory = device_calls;
  for (int s = 1; s < 5; s++) {
    good(gd_step_run(&step, s, &batch, 1e-3f));
    good(gd_step_read(&step, s, &result));
  }
  assert_int_equal(result.verdict.applied_steps, 5);
  assert_int_equal(device_calls - memory, 0);
  assert_int_equal(heap_calls - heap, 0);
  gd_batch_close(&batch);
  gd_step_close(&step);
  gd_optimizer_close(&optimizer);
  gd_model_close(&model);
  device->ops = real_ops;
  gd_session_close(session);
}

static void fast_allocates_nothing(void **state) {
  (void)state;
  run("fast", "fp32");
}
static void invariant_allocates_nothing(void **state) {
  (void)state;
  run("invariant", "fp32");
}
static void bfloat16_allocates_nothing(void **state) {
  (void)state;
  run("invariant", "bf16");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(fast_allocates_nothing),
      cmocka_unit_test(invariant_allocates_nothing),
      cmocka_unit_test(bfloat16_allocates_nothing),
  };
  return cmocka_run_group_tests(tests, 0, 0);
}
