/* ranks: 1 2 4 */
/* What a rank takes is what shard/memory.h says: every name, and nothing that has no name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "shard/memory.h"
#include "tests/mpi/trained.h"
#include "trainer/snapshot.h"

static const gd_device_ops *inner;
static int64_t device_bytes, host_bytes, pieces;

static gd_status counted_alloc(gd_device *on, size_t bytes, void **out) {
  device_bytes += (int64_t)bytes;
  pieces++;
  return inner->alloc(on, bytes, out);
}

static gd_status counted_alloc_host(gd_device *on, size_t bytes, void **out) {
  host_bytes += (int64_t)bytes;
  pieces++;
  return inner->alloc_host(on, bytes, out);
}

static void counted_free(gd_device *on, void *pointer) {
  pieces--;
  inner->free(on, pointer);
}

static void counted_free_host(gd_device *on, void *pointer) {
  pieces--;
  inner->free_host(on, pointer);
}

static void check_layout(const gd_config_override *overrides, int count) {
  static trained t;
  gd_snapshot snapshot;
  char where[256];
  device_bytes = host_bytes = pieces = 0;
  memset(&t, 0, sizeof t);
  open_trained_as(&t,
                  "model: {layers: 2, heads: 4, width: 32, context: 16, vocabulary: 61}\nbatch: {global: 4}\n"
                  "run: {threads: 1}\nvalidation: {interval_steps: 0}\n",
                  overrides, count);
  good(gd_snapshot_open(&t.optimizer, &snapshot));
  snprintf(where, sizeof where, "%s %s %s %s", overrides[0].value, overrides[1].value, overrides[2].value, overrides[3].value);
  for (int id = 0; id < GD_MEMORY_IDS; id++)
    if (t.model.taken[id] != (t.model.memory[id].bytes > 0))
      fail_msg("%s: %s: %s", where, t.model.memory[id].name, t.model.taken[id] ? "taken" : "not taken");
  if (device_bytes != gd_memory_device_bytes(t.model.memory) ||
      host_bytes != gd_memory_group_bytes(t.model.memory, GD_MEMORY_HOST))
    fail_msg("%s: %lld + %lld bytes taken, %lld + %lld planned", where, (long long)device_bytes, (long long)host_bytes,
             (long long)gd_memory_device_bytes(t.model.memory),
             (long long)gd_memory_group_bytes(t.model.memory, GD_MEMORY_HOST));
  gd_snapshot_close(&snapshot);
  close_trained(&t);
  assert_int_equal(pieces, 0);
}

static void what_is_taken_is_what_is_planned(void **state) {
  (void)state;
  static gd_device_ops counted;
  inner = device->ops;
  counted = *inner;
  counted.alloc = counted_alloc;
  counted.alloc_host = counted_alloc_host;
  counted.free = counted_free;
  counted.free_host = counted_free_host;
  device->ops = &counted;
  for (int variant = 0; variant < 16; variant++) {
    const gd_config_override overrides[] = {
        {"--set", "parallel.tensor", variant & 1 && gd_session_ranks(session) > 1 ? "2" : "1"},
        {"--set", "parallel.zero", variant & 2 ? "1" : "0"},
        {"--set", "precision.dtype", variant & 4 ? "bf16" : "fp32"},
        {"--set", "numerics", variant & 8 ? "invariant" : "fast"},
        {"--set", "optimizer.kind", variant & 2 ? "adamw" : "sgd"},
        {"--set", "model.tied_head", variant & 4 ? "true" : "false"},
        {"--set", "batch.micro", "1"},
    };
    check_layout(overrides, sizeof overrides / sizeof *overrides);
  }
  /* A part of the model learns. */
  static const char *const parts[] = {"head", "top:1", "[layers.1.mlp.*, layers.0.norm2.*]", "[token_embedding.*]",
                                      "[final_norm.weight]"};
  for (int variant = 0; variant < 80; variant++) {
    const gd_config_override overrides[] = {
        {"--set", "parallel.tensor", variant & 1 && gd_session_ranks(session) > 1 ? "2" : "1"},
        {"--set", "parallel.zero", variant & 2 ? "1" : "0"},
        {"--set", "precision.dtype", variant & 4 ? "bf16" : "fp32"},
        {"--set", "finetune.train", parts[variant / 16]},
        {"--set", "numerics", variant & 8 ? "invariant" : "fast"},
        {"--set", "optimizer.kind", variant & 8 ? "adamw" : "sgd"},
        {"--set", "model.tied_head", variant & 2 ? "true" : "false"},
        {"--set", "recompute.activation", variant & 4 ? "true" : "false"},
        {"--set", "batch.micro", "1"},
    };
    check_layout(overrides, sizeof overrides / sizeof *overrides);
  }
  device->ops = inner;
}

static void a_name_is_taken_once(void **state) {
  (void)state;
  static trained t;
  float *again;
  open_trained_as(
      &t, "model: {layers: 1, heads: 2, width: 16, context: 16, vocabulary: 61}\nbatch: {global: 4}\nrun: {threads: 1}\n", 0,
      0);
  assert_int_equal(gd_model_take(&t.model, GD_M_GRADIENTS, false, &again), GD_BUG);
  assert_string_equal(gd_error_text(), "gradients: taken twice");
  gd_error_clear();
  close_trained(&t);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_is_taken_is_what_is_planned),
      cmocka_unit_test(a_name_is_taken_once),
  };
  return cmocka_run_group_tests(tests, open_session, close_session);
}
