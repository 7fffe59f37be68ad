/* ranks: 1 2 4 */
/* In how many strips the head takes a micro-batch changes no bit: losses, what a validation sees of them, all gradients that
 * the head gives, and whole steps, against one strip, by ==; what it sends stays what shard/cost.c says; and it keeps to the
 * workspace that was planned for such strips, whose buffers of sums it all needs. Neither does it change a bit that rows
 * without a target are left out, whose products are counted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "shard/cost.h"
#include "shard/deal.h"
#include "tests/mpi/trained.h"
#include "trainer/model.h"

enum { GUARD_BYTES = 256, FILLER = 0xFF /* NaNs */ };

/* 7 sequences a data rank in micro-batches of 3, 3 and 1. A time block has 4 tokens; the head's workspace is larger than a
 * layer's, so its end is that of all workspace. */
static const char shape[] =
    "model: {layers: 1, heads: 4, width: 32, context: 16, vocabulary: 500, init_std: 0.2}\n"
    "run: {threads: 1, seed: 3, device: cpu}\n"
    "batch: {micro: 3}\n";

/* A model whose head takes strips of head_rows, in workspace of its own between two guards. */
typedef struct strips {
  trained t;
  char *planned, *memory;        /* the model's own workspace; ours */
  bool blind;                    /* the head is not told which rows have a target */
  const gd_kernels_ops *counted; /* what the head's kernels are, or NULL: the model's own */
} strips;

static void open_strips(strips *s, const gd_config_override *overrides, int count, int64_t head_rows) {
  memset(s, 0, sizeof *s);
  open_trained_as(&s->t, shape, overrides, count);
  gd_model *model = &s->t.model;
  gd_layout_activations(&model->layout, s->t.spec.batch.micro, true, head_rows, &model->activations);
  size_t bytes = (size_t)model->activations.workspace_bytes + 2 * GUARD_BYTES;
  good(device->ops->alloc(device, bytes, (void **)&s->memory));
  memset(s->memory, FILLER, bytes);
  s->planned = model->workspace;
  model->workspace = s->memory + GUARD_BYTES;
  for (int32_t i = 0; i < s->t.batch.sequences * LENGTH; i++) {
    int32_t at = model->data->rank * s->t.batch.sequences * LENGTH + i;
    s->t.batch.tokens[i] = at * 37 % 500;
    s->t.batch.targets[i] = at * 91 % 500;
    s->t.batch.weights[i] = at % 11 ? 1.0f : 0.0f;
    s->t.batch.document_starts[i] = 0;
  }
}

static void close_strips(strips *s) {
  int64_t workspace = s->t.model.activations.workspace_bytes;
  for (int i = 0; i < GUARD_BYTES; i++)
    if ((unsigned char)s->memory[i] != FILLER || (unsigned char)s->memory[GUARD_BYTES + workspace + i] != FILLER)
      fail_msg("strips of %lld rows wrote beside the workspace", (long long)s->t.model.activations.head_rows);
  s->t.model.workspace = s->planned;
  device->ops->free(device, s->memory);
  close_trained(&s->t);
}

/* What a run gives, one array behind the other. */
typedef struct record {
  char *bytes;
  size_t count, capacity;
} record;

static void keep(record *r, const void *from, size_t bytes) {
  if (r->count + bytes > r->capacity) {
    r->capacity = 2 * (r->count + bytes);
    r->bytes = realloc(r->bytes, r->capacity);
    assert_non_null(r->bytes);
  }
  memcpy(r->bytes + r->count, from, bytes);
  r->count += bytes;
}

/* Micro-batch `round` of the share, its gradients in slots 0, 1, ... */
static gd_micro micro_of(strips *s, int32_t round) {
  const gd_model *model = &s->t.model;
  gd_deal mine = gd_deal_round(&s->t.spec, model->data->size, model->data->rank, round);
  gd_micro micro = gd_model_micro(model, mine.sequences, mine.first_sequence, 0);
  int64_t row = round * s->t.spec.batch.micro * LENGTH;
  micro.node_count = 1;
  micro.nodes[0] = (gd_tree_node){0, micro.sequences};
  if (s->t.spec.numerics == GD_NUMERICS_INVARIANT) micro.node_count = gd_deal_nodes(&s->t.spec, mine, micro.nodes);
  int64_t first = micro.nodes[0].first;
  for (int32_t i = 0; i < micro.node_count; i++) {
    micro.nodes[i].first -= first;
    micro.slots[i] = i;
  }
  micro.accumulate = s->t.spec.numerics == GD_NUMERICS_FAST && round > 0;
  good(gd_model_load_batch(&s->t.model, &micro, &s->t.batch, NULL, row / LENGTH));
  if (s->blind) micro.target_weights = NULL;
  return micro;
}

/* The head alone, once for validation and once with gradients, micro-batch after micro-batch. */
static void run_head(strips *s, record *out) {
  gd_model *model = &s->t.model;
  float sums[2 * 24];
  for (int32_t round = 0; round < gd_deal_rounds(&s->t.spec, model->data->size); round++) {
    gd_micro micro = micro_of(s, round);
    good(gd_model_forward(model, &micro, 0, 1));
    for (int gradient = 0; gradient < 2; gradient++) {
      const gd_kernels_ops *own = model->kernels.ops;
      if (s->counted) model->kernels.ops = s->counted;
      good(gd_model_loss(model, &micro, sums, gradient));
      model->kernels.ops = own;
      keep(out, sums, 2 * (size_t)micro.sequences * sizeof *sums);
    }
    keep(out, gd_model_workspace(model, GD_W_DRESIDUAL),
         (size_t)(micro.rows_here * model->layout.shape.width) * model->layout.shape.bytes);
    for (int32_t i = 0; i < micro.node_count; i++)
      keep(out, model->gradients + micro.slots[i] * model->layout.gradient_elems,
           (size_t)model->layout.gradient_elems * sizeof(float));
  }
}

static int64_t sent_over_tensor(gd_group *group) {
  int64_t calls, bytes = 0, sent[8];
  gd_group_take_traffic(group, &calls, sent, NULL);
  for (int32_t r = 0; r < group->size; r++) bytes += sent[r];
  return bytes;
}

/* Whole steps. */
static void run_steps(strips *s, record *out) {
  gd_model *model = &s->t.model;
  gd_verdict verdict;
  gd_cost cost;
  gd_cost_of(&model->layout, &cost);
  for (int64_t number = 0; number < 2; number++) {
    (void)sent_over_tensor(model->tensor);
    good(gd_step_run(&s->t.step, number, &s->t.batch, 1e-2f));
    verdict = verdict_of(&s->t, number);
    assert_int_equal(sent_over_tensor(model->tensor), cost.tensor_traffic_bytes);
    assert_int_equal(verdict.apply, 1);
    keep(out, &verdict.loss_sum, sizeof verdict.loss_sum);
    keep(out, &verdict.gradient_norm, sizeof verdict.gradient_norm);
  }
  keep(out, model->parameters, (size_t)model->layout.arena_elems * model->layout.shape.bytes);
}

/* The last buffer of sums of strips was written. */
static void check_sums_are_used(const gd_model *model) {
  const gd_activation_entry *e = &model->activations.entries[GD_W_HEAD_SUMS];
  const gd_parameter *head = &model->layout.parameters[model->layout.head];
  if (e->elements == 0) return;
  const float *last = gd_model_workspace_float(model, GD_W_HEAD_SUMS) + e->elements - head->block_elems;
  if (last[head->block_rows * head->block_cols - 1] != last[head->block_rows * head->block_cols - 1])
    fail_msg("strips of %lld rows have a buffer of sums that nothing uses", (long long)model->activations.head_rows);
}

static void run_all(const gd_config_override *overrides, int count, int64_t head_rows, record *out) {
  static strips s;
  out->count = 0;
  open_strips(&s, overrides, count, head_rows);
  run_head(&s, out);
  close_strips(&s);
  open_strips(&s, overrides, count, head_rows);
  run_steps(&s, out);
  if (s.t.model.data->rank == 0) check_sums_are_used(&s.t.model); /* its share begins with a whole node */
  close_strips(&s);
}

/* fast: 48 rows in one strip, or in several of which the last is shorter; invariant: the nodes of a micro-batch have 32 rows
 * and 16 at most. The first is the run that the others are compared with. */
static const int64_t fast_rows[] = {48, 32, 14, 10, 2}, invariant_rows[] = {32, 16, 8, 4};

/* What both tests try: numerics, tensor ranks, a tied head, precision, by the bits of a number. */
typedef struct variant {
  bool invariant, tied;
  int32_t tensor;
  char axis[16], global[16];
  gd_config_override overrides[8];
  int count;
} variant;

/* sequences: of a data rank in a step. false: the ranks do not part into as many tensor ranks. */
static bool variant_of(int number, int32_t sequences, variant *out) {
  int32_t ranks = gd_session_ranks(session);
  *out = (variant){.invariant = number & 1, .tied = number & 4, .tensor = number & 2 ? 2 : 1};
  if (ranks % out->tensor) return false;
  snprintf(out->axis, sizeof out->axis, "%d", out->tensor);
  snprintf(out->global, sizeof out->global, "%d", sequences * (ranks / out->tensor));
  const gd_config_override overrides[] = {
      {"--set", "numerics", out->invariant ? "invariant" : "fast"},
      {"--set", "parallel.tensor", out->axis},
      {"--set", "model.tied_head", out->tied ? "true" : "false"},
      {"--set", "precision.dtype", number & 8 ? "bf16" : "fp32"},
      {"--set", "batch.global", out->global},
  };
  out->count = sizeof overrides / sizeof *overrides;
  memcpy(out->overrides, overrides, sizeof overrides);
  return true;
}

static void set(variant *v, const char *key, const char *value) {
  v->overrides[v->count++] = (gd_config_override){"--set", key, value};
}

static void strips_change_no_bit(void **state) {
  (void)state;
  record whole = {0}, cut = {0};
  variant v;
  for (int number = 0; number < 16; number++) {
    if (!variant_of(number, 7, &v)) continue;
    if (v.invariant) set(&v, "parallel.blocks", "4"), set(&v, "parallel.time_blocks", "4");
    const int64_t *rows = v.invariant ? invariant_rows : fast_rows;
    int sizes = v.invariant ? sizeof invariant_rows / sizeof *rows : sizeof fast_rows / sizeof *rows;
    run_all(v.overrides, v.count, rows[0], &whole);
    for (int i = 1; i < sizes; i++) {
      run_all(v.overrides, v.count, rows[i], &cut);
      assert_int_equal(cut.count, whole.count);
      if (memcmp(cut.bytes, whole.bytes, whole.count) != 0)
        fail_msg("%s, tensor %d, %s, %s: strips of %lld rows give other bits than one", v.overrides[0].value, v.tensor,
                 v.tied ? "tied" : "not tied", v.overrides[3].value, (long long)rows[i]);
    }
  }
  free(whole.bytes), free(cut.bytes);
}

/* Rows of products since it was set to 0, for each block of the head. */
static int64_t product_rows;
static gd_status (*matmul)(gd_kernels *, const gd_matmul *);

static gd_status counted_matmul(gd_kernels *kernels, const gd_matmul *a) {
  product_rows += a->form == GD_MATMUL_TN ? a->k * a->leaves : a->m * (a->form == GD_MATMUL_NN ? a->leaves : 1);
  return matmul(kernels, a);
}

enum { ROWS = 384, PATTERNS = 7 };

/* Micro-batches of 24 sequences, 384 rows, in strips of at most 128, of which the tree has 256 and 128. Targets in rows [from,
 * to) of each, and of those the rows that are computed in validation and in `fast`, and in `invariant`. */
typedef struct pattern {
  int32_t targets[2][2], fast, invariant;
} pattern;
static const pattern patterns[PATTERNS] = {
    {{{0, 384}, {0, 0}}, 384, 384},    {{{40, 70}, {0, 0}}, 48, 128}, /* what is before and behind is left out */
    {{{3, 16}, {80, 81}}, 32, 128},                                   /* 64 rows between */
    {{{3, 17}, {80, 81}}, 96, 128},                                   /* 48 */
    {{{40, 70}, {383, 384}}, 64, 256},                                /* the second node */
    {{{100, 200}, {0, 0}}, 112, 256},  {{{0, 0}, {0, 0}}, 0, 0},
};

static bool has_target(const pattern *p, int32_t row) {
  return (row >= p->targets[0][0] && row < p->targets[0][1]) || (row >= p->targets[1][0] && row < p->targets[1][1]);
}

/* Two micro-batches, of pattern `number` and of the next one; blind: the head is not told of them. */
static void run_patterns(const gd_config_override *overrides, int count, int number, bool blind, record *out) {
  static strips s;
  const pattern *two[] = {&patterns[number], &patterns[(number + 1) % PATTERNS]};
  int64_t wanted = 0;
  out->count = 0;
  open_strips(&s, overrides, count, 128);
  s.blind = blind;
  gd_model *model = &s.t.model;
  gd_kernels_ops counting = *model->kernels.ops;
  matmul = counting.matmul;
  counting.matmul = counted_matmul;
  s.counted = &counting;
  for (int32_t i = 0; i < s.t.batch.sequences * LENGTH; i++) s.t.batch.weights[i] = has_target(two[i / ROWS], i % ROWS);
  for (int i = 0; i < 2; i++) {
    int32_t thrice = s.t.spec.numerics == GD_NUMERICS_INVARIANT ? two[i]->invariant : two[i]->fast;
    wanted += model->layout.shape.blocks * (blind ? 4 * ROWS : two[i]->fast + 3 * thrice);
  }
  product_rows = 0;
  run_head(&s, out);
  if (product_rows != wanted)
    fail_msg("%s, patterns from %d on: products of %lld rows, expected %lld", overrides[0].value, number,
             (long long)product_rows, (long long)wanted);
  close_strips(&s);
}

static void rows_without_targets_are_left_out(void **state) {
  (void)state;
  record all = {0}, some = {0};
  variant v;
  for (int number = 0; number < 16; number++) {
    if (!variant_of(number, 48, &v)) continue;
    set(&v, "optimizer.label_smoothing", v.tied ? "0.1" : "0");
    set(&v, "batch.micro", "24");
    for (int i = 0; i < PATTERNS; i++) {
      run_patterns(v.overrides, v.count, i, true, &all);
      run_patterns(v.overrides, v.count, i, false, &some);
      assert_int_equal(some.count, all.count);
      if (memcmp(some.bytes, all.bytes, all.count) != 0)
        fail_msg("%s, tensor %d, %s, %s: other bits without the rows that have no target, patterns from %d on",
                 v.overrides[0].value, v.tensor, v.tied ? "tied" : "not tied", v.overrides[3].value, i);
    }
  }
  free(all.bytes), free(some.bytes);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(strips_change_no_bit),
                                     cmocka_unit_test(rows_without_targets_are_left_out)};
  return cmocka_run_group_tests(tests, open_session, close_session);
}
