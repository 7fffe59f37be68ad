/* optimizer_cases.h - cases of check_kernels: norm of the gradients, the vote of a step and the update. */
#ifndef GD_TESTS_GPU_OPTIMIZER_CASES_H
#define GD_TESTS_GPU_OPTIMIZER_CASES_H

#include "shard/tree.h"
#include "tests/gpu/product_cases.h"

/* Nodes of 1 to 2048 units whose sums are so far apart that doubles round; then sums over all nodes of each cut, more of them
 * than a block has threads. variant: units. */
static void case_nodes(side *s, const setting *set) {
  enum { MOST = 4096, SUMS = 300, MOST_PARTS = 32 * SUMS };
  static const int32_t units_of[] = {1, 5, 300, MOST};
  static float units[MOST];
  static int32_t first[MOST_PARTS], count[MOST_PARTS], sums_first[SUMS + 1], from[MOST_PARTS], leaf[MOST_PARTS];
  int32_t total = units_of[set->variant], nodes = 0, parts = 0;
  gd_rng rng = gd_rng_make(7, GD_RNG_WEIGHTS, 2, 0, 0);
  for (int i = 0; i < total; i++) {
    uint32_t word = gd_rng_word(&rng, (uint64_t)i);
    units[i] = ldexpf(1.0f + (float)(word >> 8) * 0x1p-24f, (int)(word % 100) - 50);
  }
  for (int i = 0; i < SUMS; i++) {
    gd_tree_node list[GD_TREE_MAX_NODES];
    int32_t cut = (int32_t)((int64_t)total * i / SUMS);
    int held = gd_tree_nodes(0, cut, list);
    held += gd_tree_nodes(cut, total, list + held);
    sums_first[i] = parts;
    for (int k = 0; k < held; k++, parts++) {
      if (parts == MOST_PARTS) abort();
      from[parts] = nodes;
      leaf[parts] = first[nodes] = (int32_t)list[k].first;
      count[nodes++] = (int32_t)list[k].count;
    }
  }
  sums_first[SUMS] = parts;
  gd_unit_nodes made = {.nodes = nodes, .units = total};
  made.sums = upload(s, units, (size_t)total * sizeof *units);
  made.first = upload(s, first, (size_t)nodes * sizeof *first);
  made.count = upload(s, count, (size_t)nodes * sizeof *count);
  made.out = output(s, 2 * (nodes + SUMS), GD_FLOAT32);
  gpu_must(s->kernels.ops->unit_nodes(&s->kernels, &made));
  gd_node_sums sums = {.sums = SUMS, .parts = parts, .nodes = made.out, .out = made.out + nodes};
  sums.first = upload(s, sums_first, sizeof sums_first);
  sums.from = upload(s, from, (size_t)parts * sizeof *from);
  sums.leaf = upload(s, leaf, (size_t)parts * sizeof *leaf);
  gpu_must(s->kernels.ops->node_sums(&s->kernels, &sums));
  note_doubles(s, made.out, nodes + SUMS);
}

/* variant: where the one value is that is not finite, 0: nowhere. */
static void case_finite(side *s, const setting *set) {
  static const int64_t at[] = {0, 1, 255, 256, 700};
  static float values[700];
  gd_rng rng = gd_rng_make(9, GD_RNG_WEIGHTS, 2, 0, 0);
  for (int i = 0; i < 700; i++) values[i] = ldexpf(1.0f + gd_rng_uniform(&rng, (uint64_t)i), i % 254 - 127);
  if (at[set->variant]) values[at[set->variant] - 1] = set->variant % 2 ? NAN : INFINITY;
  int64_t bad = 0;
  gd_finite look = {.elements = 700, .values = upload(s, values, sizeof values), .bad = upload(s, &bad, sizeof bad)};
  gpu_must(s->kernels.ops->finite(&s->kernels, &look));
  gpu_must(s->device.ops->copy(s->kernels.stream, &bad, look.bad, sizeof bad, GD_COPY_DEVICE_TO_HOST));
  gpu_must(s->device.ops->stream_sync(s->kernels.stream));
  s->notes[s->note_count++] = (float)bad;
}

/* variant: lengths of sequences, and numbers of sequences and tensors, around what a block of threads holds. */
static void case_vote(side *s, const setting *set) {
  static const int32_t counts[] = {1, 3, 255, 256, 257, 700};
  int32_t count = counts[set->variant], sequences = 5;
  gd_loss_sums sums = {.sequences = sequences, .length = count, .sums = output(s, 2 * sequences, GD_FLOAT32)};
  sums.row_loss = input(s, 1, sequences * count, GD_FLOAT32, 4, 0);
  sums.weights = input(s, 2, sequences * count, GD_FLOAT32, 0.5f, 0.5f);
  gpu_must(s->kernels.ops->loss_sums(&s->kernels, &sums));
  note(s, sums.sums, 2 * sequences, GD_FLOAT32);
  double squares[700];
  gd_rng rng = gd_rng_make(8, GD_RNG_WEIGHTS, 2, 0, 0);
  for (int i = 0; i < count; i++) squares[i] = ldexp(1.0 + gd_rng_uniform(&rng, (uint64_t)i), (int)(i % 60) - 30);
  gd_verdict verdict;
  memset(&verdict, 0, sizeof verdict);
  gd_vote vote = {.tensors = count, .sequences = count, .beta1 = 0.9f, .beta2 = 0.95f};
  vote.squares = upload(s, squares, (size_t)count * sizeof *squares);
  vote.sequence_sums = input(s, 3, 2 * count, GD_FLOAT32, 1, 2);
  vote.verdict = upload(s, &verdict, sizeof verdict);
  gpu_must(s->kernels.ops->vote(&s->kernels, &vote));
  gpu_must(s->device.ops->copy(s->kernels.stream, &verdict, vote.verdict, sizeof verdict, GD_COPY_DEVICE_TO_HOST));
  gpu_must(s->device.ops->stream_sync(s->kernels.stream));
  note_double(s, verdict.loss_sum);
  note_double(s, verdict.weight_sum);
  note_double(s, verdict.gradient_norm);
}

/* variant: 0 AdamW, 1 SGD with momentum, 2 SGD without, 3 AdamW on a gradient that is not finite, 4 ranks have
 * made different calls, 5 a rank has found a value that is not finite, 6 SGD with Nesterov's momentum. */
static void case_optimizer(side *s, const setting *set) {
  enum { UNITS = 150, TENSORS = 4, ELEMENTS = UNITS * GD_UNIT_ELEMS };
  static const int32_t first[TENSORS] = {128, 0, 144, 148}, count[TENSORS] = {16, 128, 4, 2};
  uint8_t decay[UNITS];
  for (int i = 0; i < UNITS; i++) decay[i] = (uint8_t)(i % 2);
  gd_unit_squares squares = {.units = UNITS};
  squares.gradient = input(s, 1, ELEMENTS, GD_FLOAT32, 1, set->variant == 3 ? INFINITY : 0);
  squares.sums = output(s, UNITS, GD_FLOAT32);
  gpu_must(s->kernels.ops->unit_squares(&s->kernels, &squares));
  if (set->variant != 3) note(s, squares.sums, UNITS, GD_FLOAT32);
  gd_verdict verdict;
  memset(&verdict, 0, sizeof verdict);
  verdict.applied_steps = 4 + 1000 * set->variant;
  gd_unit_nodes nodes = {.nodes = TENSORS, .units = UNITS, .sums = squares.sums, .out = output(s, 2 * TENSORS, GD_FLOAT32)};
  nodes.first = upload(s, first, sizeof first);
  nodes.count = upload(s, count, sizeof count);
  gpu_must(s->kernels.ops->unit_nodes(&s->kernels, &nodes));
  gd_vote vote = {.squares = nodes.out, .tensors = TENSORS, .sequences = 5, .clip = 1, .beta1 = 0.9f, .beta2 = 0.95f};
  vote.sequence_sums = input(s, 2, 10, GD_FLOAT32, 1, 5);
  int64_t calls = INT64_C(1) << (set->variant == 4 ? 39 : 40);
  vote.calls = upload(s, &calls, sizeof calls);
  int64_t bad = set->variant == 5;
  vote.bad = upload(s, &bad, sizeof bad);
  vote.verdict = upload(s, &verdict, sizeof verdict);
  gpu_must(s->kernels.ops->vote(&s->kernels, &vote));
  gpu_must(s->device.ops->copy(s->kernels.stream, &verdict, vote.verdict, sizeof verdict, GD_COPY_DEVICE_TO_HOST));
  gpu_must(s->device.ops->stream_sync(s->kernels.stream));
  float told[] = {(float)verdict.apply, (float)verdict.applied_steps, (float)verdict.bad_steps, verdict.scale, verdict.bias1,
                  verdict.bias2};
  for (size_t i = 0; i < sizeof told / sizeof *told; i++) s->notes[s->note_count++] = told[i];
  note_double(s, verdict.loss_sum);
  note_double(s, verdict.weight_sum);
  if (verdict.apply) note_double(s, verdict.gradient_norm);
  bool adamw = set->variant == 0 || set->variant == 3;
  gd_update u = {.kind = adamw ? GD_OPTIMIZER_ADAMW : GD_OPTIMIZER_SGD, .elements = ELEMENTS, .dtype = set->dtype};
  u.master = input(s, 3, ELEMENTS, GD_FLOAT32, 1, 0);
  u.parameter = set->dtype == GD_BFLOAT16 ? output(s, ELEMENTS, set->dtype) : NULL;
  u.first = set->variant == 2 ? NULL : input(s, 4, ELEMENTS, GD_FLOAT32, 0.1f, 0);
  u.second = u.kind == GD_OPTIMIZER_ADAMW ? input(s, 5, ELEMENTS, GD_FLOAT32, 0.1f, 0.2f) : NULL;
  u.gradient = squares.gradient;
  u.decay = upload(s, decay, sizeof decay);
  u.verdict = vote.verdict;
  u.lr = 0.01f;
  u.beta1 = 0.9f;
  u.beta2 = 0.95f;
  u.epsilon = 1e-8f;
  u.weight_decay = 0.1f;
  u.momentum = 0.9f;
  u.nesterov = set->variant == 6;
  gpu_must(s->kernels.ops->update(&s->kernels, &u));
  note(s, u.master, ELEMENTS, GD_FLOAT32);
  if (u.parameter) note(s, u.parameter, ELEMENTS, set->dtype);
}

#endif
