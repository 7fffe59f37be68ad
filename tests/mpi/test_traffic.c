/* ranks: 1 2 3 4 8 */
/* What the groups of a training step sent is what shard/cost.c says, to the byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "shard/cost.h"
#include "tests/mpi/trained.h"

static int64_t sent_of(gd_group *group) {
  int64_t calls, bytes = 0, *sent = calloc((size_t)group->size, sizeof *sent);
  gd_group_take_traffic(group, &calls, sent, NULL);
  for (int32_t r = 0; r < group->size; r++) bytes += sent[r];
  free(sent);
  return bytes;
}

/* In this rank's first sequence `depth` documents end with chunk 3 (modulo their number), one row after the other; in each of
 * its other sequences one does, in the last row. */
static void fill_documents(trained *t, int32_t depth) {
  const gd_shape *s = &t->model.layout.shape;
  gd_batch_shape shape = {.sequences = t->batch.sequences, .length = LENGTH, .documents = LENGTH};
  shape.columns = (int32_t)s->label_columns;
  gd_batch_close(&t->batch);
  good(gd_batch_open_as(&shape, &t->batch));
  fill_batch(t, 0);
  for (int32_t i = 0; i < t->batch.sequences; i++) {
    int32_t *rows = t->batch.label_rows + i * LENGTH;
    int32_t many = i == 0 ? depth : 1, end = i == 0 ? (int32_t)((3 % s->chunks + 1) * s->chunk) : LENGTH;
    for (int32_t d = 0; d < many; d++) {
      rows[d] = end - many + d;
      t->batch.label_weights[i * LENGTH + d] = 1;
    }
  }
}

/* depth: of a classifier, 0: none. */
static void check_layout(const char *text, const gd_config_override *overrides, int count, int32_t depth) {
  static trained t;
  gd_cost cost;
  char where[256] = "";
  memset(&t, 0, sizeof t);
  open_trained_as(&t, text, overrides, count);
  for (int i = 0; i < count; i++)
    snprintf(where + strlen(where), sizeof where - strlen(where), "%s=%s ", overrides[i].key, overrides[i].value);
  gd_cost_of(&t.model.layout, &cost);
  fill_batch(&t, 0);
  if (depth) fill_documents(&t, depth);
  if (depth > 1) cost.tensor_traffic_bytes += (depth - 1) * cost.document_traffic_bytes;
  (void)sent_of(t.model.data), (void)sent_of(t.model.tensor), (void)sent_of(t.model.world);
  good(gd_step_run(&t.step, 0, &t.batch, 1e-3f));
  (void)verdict_of(&t, 0);
  int64_t data = sent_of(t.model.data), tensor = sent_of(t.model.tensor), world = sent_of(t.model.world);
  int64_t flags = GD_FLAG_WORDS * 8 * (gd_session_ranks(session) - 1); /* to all ranks go the flags of the vote alone */
  if (data != cost.data_traffic_bytes || tensor != cost.tensor_traffic_bytes || world != flags)
    fail_msg("%s: rank %d sent %lld, %lld, %lld bytes over data, tensor, world; planned %lld, %lld, %lld", where,
             t.model.world->rank, (long long)data, (long long)tensor, (long long)world, (long long)cost.data_traffic_bytes,
             (long long)cost.tensor_traffic_bytes, (long long)flags);
  close_trained(&t);
}

static const char gpt2[] =
    "model: {layers: 2, heads: 8, width: 32, context: 16, vocabulary: 61}\nbatch: {global: 24}\nrun: {threads: 1}\n";
static const char llama[] =
    "model: {layers: 3, heads: 8, width: 32, context: 16, vocabulary: 61, norm: rmsnorm, activation: swiglu,\n"
    "        position: rotary, bias: false, tied_head: false}\nbatch: {global: 24}\nrun: {threads: 1}\n";

static void a_step_sends_what_is_planned(void **state) {
  (void)state;
  int32_t ranks = gd_session_ranks(session);
  for (int32_t tensor = 1; tensor <= 4; tensor *= 2) {
    if (ranks % tensor) continue;
    for (int variant = 0; variant < 8; variant++) {
      char axis[16];
      snprintf(axis, sizeof axis, "%d", tensor);
      const gd_config_override overrides[] = {
          {"--set", "parallel.tensor", axis},
          {"--set", "parallel.zero", variant & 1 ? "1" : "0"},
          {"--set", "precision.dtype", variant & 1 ? "bf16" : "fp32"},
          {"--set", "numerics", variant & 2 ? "invariant" : "fast"},
          {"--set", "batch.micro", variant & 4 ? "2" : "0"},
      };
      check_layout(variant & 4 ? llama : gpt2, overrides, sizeof overrides / sizeof *overrides, 0);
    }
  }
}

/* Frozen buckets are neither summed nor gathered, and nothing goes back below the lowest layer that learns. */
static void a_step_of_a_part_sends_what_is_planned(void **state) {
  (void)state;
  static const char *const of_gpt2[] = {"head", "[layers.1.mlp.*, layers.0.norm2.*]", "[\"*.bias\"]", "[final_norm.bias]"};
  static const char *const of_llama[] = {"head", "top:1", "[head.*]", "[layers.1.attention.*, token_embedding.*]"};
  int32_t ranks = gd_session_ranks(session);
  for (int32_t tensor = 1; tensor <= 4; tensor *= 2) {
    if (ranks % tensor) continue;
    for (int variant = 0; variant < 16; variant++) {
      char axis[16];
      snprintf(axis, sizeof axis, "%d", tensor);
      const gd_config_override overrides[] = {
          {"--set", "parallel.tensor", axis},
          {"--set", "parallel.zero", variant & 1 ? "1" : "0"},
          {"--set", "precision.dtype", variant & 1 ? "bf16" : "fp32"},
          {"--set", "numerics", variant & 1 ? "invariant" : "fast"},
          {"--set", "batch.micro", variant & 2 ? "2" : "0"},
          {"--set", "finetune.train", (variant & 2 ? of_llama : of_gpt2)[variant / 4]},
      };
      check_layout(variant & 2 ? llama : gpt2, overrides, sizeof overrides / sizeof *overrides, 0);
    }
  }
}

/* A classifier gathers a place for each document of the fullest chunk, whatever micro-batch it is in. */
static void a_step_of_a_classifier_sends_what_is_planned(void **state) {
  (void)state;
  int32_t ranks = gd_session_ranks(session);
  for (int32_t tensor = 1; tensor <= 4; tensor *= 2) {
    if (ranks % tensor) continue;
    for (int variant = 0; variant < 16; variant++) {
      char axis[16];
      int32_t depth = variant & 8 ? variant & 4 ? 4 : 2 : 1;
      snprintf(axis, sizeof axis, "%d", tensor);
      const gd_config_override overrides[] = {
          {"--set", "parallel.tensor", axis},
          {"--set", "model.classes", "3"},
          {"--set", "finetune.loss", variant & 2 ? "sigmoid" : "softmax"},
          {"--set", "finetune.pack", depth > 1 ? "true" : "false"},
          {"--set", "precision.dtype", variant & 1 ? "bf16" : "fp32"},
          {"--set", "numerics", variant & 2 ? "invariant" : "fast"},
          {"--set", "batch.micro", variant & 4 ? "2" : "0"},
          {"--set", "finetune.train", variant & 1 ? "all" : "[classifier.*, \"*.bias\"]"},
      };
      check_layout(gpt2, overrides, sizeof overrides / sizeof *overrides, depth);
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(a_step_sends_what_is_planned),
                                     cmocka_unit_test(a_step_of_a_part_sends_what_is_planned),
                                     cmocka_unit_test(a_step_of_a_classifier_sends_what_is_planned)};
  return cmocka_run_group_tests(tests, open_session, close_session);
}
