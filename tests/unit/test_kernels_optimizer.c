/* The end of a step: squares of units, the verdict, AdamW and SGD; and which table a processor gets. */
#include "kernels_common.h"
#include "shard/tree.h"

static void unit_squares_use_one_fixed_order(void **state) {
  (void)state;
  enum { UNITS = 40 };
  random_state = 71;
  tensor g = tensor_random(GD_FLOAT32, UNITS * GD_UNIT_ELEMS, 1.0f);
  for (int isa = 0; isa < ISAS; isa++) {
    gd_kernels kernels;
    float sums[UNITS];
    if (!open_isa(isa_names[isa], 3, &kernels)) continue;
    gd_unit_squares args = {.units = UNITS, .gradient = g.data, .sums = sums};
    assert_int_equal(kernels.ops->unit_squares(&kernels, &args), GD_OK);
    for (int u = 0; u < UNITS; u++) {
      const float *x = g.values + u * GD_UNIT_ELEMS;
      assert_true(sums[u] == row_sum_of(x, x, GD_UNIT_ELEMS));
    }
    gd_kernels_close(&kernels);
  }
  tensor_free(&g);
}

/* The definition: a range splits at the largest power of two below its length. */
static double tree_by_definition(const float *leaves, int64_t n) {
  if (n == 1) return (double)leaves[0];
  int64_t half = 1;
  while (2 * half < n) half *= 2;
  return tree_by_definition(leaves, half) + tree_by_definition(leaves + half, n - half);
}

/* Units cut into `cuts` runs, which lie in memory from the last to the first, as do their nodes: the sum over all nodes is the
 * tree over all units. */
static bool nodes_sum_to_the_tree(gd_kernels *kernels, const float *units, int32_t count, int32_t cuts) {
  enum { MOST_UNITS = 3000, MOST_NODES = 1000 };
  static float sums[MOST_UNITS];
  static double nodes[MOST_NODES + 1];
  static int32_t first[MOST_NODES], counts[MOST_NODES], from[MOST_NODES], leaf[MOST_NODES];
  int32_t parts = 0;
  for (int32_t cut = 0; cut < cuts; cut++) {
    int32_t start = (int32_t)((int64_t)count * cut / cuts), end = (int32_t)((int64_t)count * (cut + 1) / cuts);
    gd_tree_node list[GD_TREE_MAX_NODES];
    int held = gd_tree_nodes(start, end, list);
    assert_true(count <= MOST_UNITS && parts + held <= MOST_NODES);
    memcpy(sums + count - end, units + start, (size_t)(end - start) * sizeof *sums);
    for (int i = 0; i < held; i++, parts++) {
      first[parts] = count - end + (int32_t)list[i].first - start;
      counts[parts] = (int32_t)list[i].count;
      leaf[parts] = (int32_t)list[i].first;
    }
  }
  for (int32_t i = 0; i < parts / 2; i++) { /* the last node comes first */
    int32_t other = parts - 1 - i, f = first[i], c = counts[i];
    first[i] = first[other], counts[i] = counts[other];
    first[other] = f, counts[other] = c;
  }
  for (int32_t i = 0; i < parts; i++) from[i] = parts - 1 - i;
  gd_unit_nodes made = {.nodes = parts, .units = count, .sums = sums, .first = first, .count = counts, .out = nodes};
  assert_int_equal(kernels->ops->unit_nodes(kernels, &made), GD_OK);
  for (int32_t i = 0; i < parts; i++) assert_true(nodes[i] == tree_by_definition(sums + first[i], counts[i]));
  const int32_t whole[] = {0, parts};
  gd_node_sums all = {.sums = 1, .parts = parts, .first = whole, .from = from, .leaf = leaf, .nodes = nodes};
  all.out = nodes + parts;
  assert_int_equal(kernels->ops->node_sums(kernels, &all), GD_OK);
  return nodes[parts] == tree_by_definition(units, count);
}

static void any_cut_into_nodes_sums_to_the_tree_over_all_units(void **state) {
  (void)state;
  static float units[3000];
  random_state = 79;
  double chain = 0.0;
  for (int i = 0; i < 3000; i++) {
    units[i] = ldexpf(1.0f + random_float() / 2, (int)random_below(100) - 50); /* so far apart that doubles round */
    chain += (double)units[i];
  }
  assert_true(chain != tree_by_definition(units, 3000));
  const int32_t counts[] = {1, 2, 3, 5, 64, 100, 129, 1000, 3000};
  for (int isa = 0; isa < ISAS; isa++) {
    gd_kernels kernels;
    if (!open_isa(isa_names[isa], 2, &kernels)) continue;
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
      for (int32_t cuts = 1; cuts <= 64; cuts++)
        if (!nodes_sum_to_the_tree(&kernels, units, counts[c], cuts)) fail_msg("%d units in %d cuts", counts[c], cuts);
    gd_kernels_close(&kernels);
  }
}

static void one_value_that_is_not_finite_is_found(void **state) {
  (void)state;
  enum { MOST = 40000 };
  static float values[MOST];
  static const int64_t counts[] = {1, 5, 127, 128, 1024, 1025, 5000, MOST};
  static const float bad_values[] = {INFINITY, -INFINITY, NAN};
  random_state = 80;
  for (int i = 0; i < MOST; i++) values[i] = random_float() * 0x1.fffffep127f;
  for (int isa = 0; isa < ISAS; isa++) {
    gd_kernels kernels;
    if (!open_isa(isa_names[isa], 2, &kernels)) continue;
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
      int64_t count = counts[c], bad = 0;
      gd_finite args = {.elements = count, .values = values, .bad = &bad};
      if (count < MOST) values[count] = NAN; /* not looked at */
      assert_int_equal(kernels.ops->finite(&kernels, &args), GD_OK);
      assert_int_equal(bad, 0);
      values[count % MOST] = 0;
      for (int trial = 0; trial < 40; trial++) {
        int64_t at = trial == 0 ? 0 : trial == 1 ? count - 1 : random_below(count);
        float kept = values[at];
        values[at] = bad_values[trial % 3];
        bad = 0;
        assert_int_equal(kernels.ops->finite(&kernels, &args), GD_OK);
        assert_int_equal(bad, 1);
        values[at] = kept;
        assert_int_equal(kernels.ops->finite(&kernels, &args), GD_OK);
        assert_int_equal(bad, 1); /* stays */
      }
    }
    gd_kernels_close(&kernels);
  }
}

static gd_vote vote_args(const double *squares, const float *sequences, float clip, gd_verdict *verdict) {
  gd_vote args = {.squares = squares, .tensors = 3, .sequence_sums = sequences, .sequences = 3};
  args.clip = clip;
  args.beta1 = 0.9f;
  args.beta2 = 0.99f;
  args.verdict = verdict;
  return args;
}

static void the_verdict_scales_clips_and_counts(void **state) {
  (void)state;
  double tensors[] = {1e-3, 2.5, 0x1p60};
  float sequences[] = {10.5f, 4.0f, 20.25f, 8.0f, 0.125f, 1.0f};
  gd_kernels kernels = open_best(2);
  gd_verdict v = {.applied_steps = 6, .bad_steps = 2};
  gd_vote args = vote_args(tensors, sequences, 0.1f, &v);
  int64_t calls = INT64_C(1) << 40, bad = 0;
  args.calls = &calls;
  args.bad = &bad;
  assert_int_equal(kernels.ops->vote(&kernels, &args), GD_OK);
  double norm = sqrt((tensors[0] + tensors[1]) + tensors[2]) / 13.0;
  assert_int_equal(v.apply, 1);
  assert_true(v.loss_sum == 30.875 && v.weight_sum == 13.0 && v.gradient_norm == norm);
  assert_true(v.applied_steps == 7 && v.bad_steps == 0);
  assert_true(v.scale == (float)((double)0.1f / norm / 13.0));
  assert_true(v.bias1 == (float)(1.0 - pow((double)0.9f, 7.0)) && v.bias2 == (float)(1.0 - pow((double)0.99f, 7.0)));
  args.clip = 1e10f; /* a short gradient stays as it is */
  assert_int_equal(kernels.ops->vote(&kernels, &args), GD_OK);
  assert_true(v.scale == (float)(1.0 / 13.0));
  args.clip = 0.0f;
  assert_int_equal(kernels.ops->vote(&kernels, &args), GD_OK);
  assert_true(v.scale == (float)(1.0 / 13.0));
  gd_kernels_close(&kernels);
}

static void a_bad_loss_gradient_or_call_applies_nothing(void **state) {
  (void)state;
  gd_kernels kernels = open_best(1);
  for (int fault = 0; fault < 6; fault++) {
    int64_t calls = INT64_C(1) << (fault == 4 ? 39 : 40); /* the sum of digests: what lies above its 40 bits says nothing */
    double tensors[] = {1, 1, 1};
    float sequences[] = {1, 1, 1, 1, 1, 1};
    if (fault == 0) tensors[1] = INFINITY;
    if (fault == 1) tensors[2] = NAN;
    if (fault == 2) sequences[2] = NAN;
    if (fault == 3) sequences[1] = sequences[3] = sequences[5] = 0.0f; /* no target at all */
    gd_verdict v = {.applied_steps = 6, .bad_steps = 2};
    gd_vote args = vote_args(tensors, sequences, 1.0f, &v);
    int64_t bad = fault == 5; /* a rank has found one that the norm does not see */
    args.calls = &calls;
    args.bad = &bad;
    assert_int_equal(kernels.ops->vote(&kernels, &args), GD_OK);
    assert_true(fault != 5 || isnan(v.gradient_norm));
    assert_true(v.apply == 0 && v.applied_steps == 6 && v.bad_steps == 3);
    float p[GD_UNIT_ELEMS] = {5}, m[GD_UNIT_ELEMS] = {0}, s[GD_UNIT_ELEMS] = {0}, g[GD_UNIT_ELEMS] = {NAN};
    uint8_t decay[1] = {1};
    gd_update update = {.elements = GD_UNIT_ELEMS, .master = p, .first = m, .second = s, .gradient = g, .decay = decay};
    update.verdict = &v;
    update.lr = 1.0f;
    assert_int_equal(kernels.ops->update(&kernels, &update), GD_OK);
    assert_true(p[0] == 5.0f && m[0] == 0.0f && s[0] == 0.0f);
  }
  gd_kernels_close(&kernels);
}

enum { ELEMS = 3 * GD_UNIT_ELEMS };

typedef struct parameters {
  tensor p, m, v, g, copy;
} parameters;

static parameters new_parameters(void) {
  random_state = 73;
  parameters x = {tensor_random(GD_FLOAT32, ELEMS, 1.0f), tensor_random(GD_FLOAT32, ELEMS, 0.1f),
                  tensor_random(GD_FLOAT32, ELEMS, 0.1f), tensor_random(GD_FLOAT32, ELEMS, 5.0f),
                  tensor_new(GD_BFLOAT16, ELEMS)};
  for (int i = 0; i < ELEMS; i++) x.v.values[i] = fabsf(x.v.values[i]);
  tensor_write(&x.v);
  return x;
}

static void free_parameters(parameters *x) {
  tensor_free(&x->p);
  tensor_free(&x->m);
  tensor_free(&x->v);
  tensor_free(&x->g);
  tensor_free(&x->copy);
}

static const uint8_t decay_of_unit[3] = {1, 0, 1};
static const gd_verdict good = {.apply = 1, .applied_steps = 3, .scale = 0.125f, .bias1 = 0.271f, .bias2 = 0.029701f};

static gd_update update_args(parameters *x, gd_optimizer_kind kind) {
  gd_update a = {.kind = kind, .elements = ELEMS, .master = x->p.data, .parameter = x->copy.data, .dtype = GD_BFLOAT16};
  a.first = x->m.data;
  a.second = kind == GD_OPTIMIZER_ADAMW ? x->v.data : NULL;
  a.gradient = x->g.data;
  a.decay = decay_of_unit;
  a.verdict = &good;
  a.lr = 1e-2f;
  a.beta1 = 0.9f;
  a.beta2 = 0.99f;
  a.epsilon = 1e-8f;
  a.weight_decay = 0.1f;
  a.momentum = 0.9f;
  return a;
}

/* One step in double; updates *m and *v. */
static double reference_step(const gd_update *a, int i, double p, double g, double *m, double *v) {
  g *= (double)good.scale;
  if (decay_of_unit[i / GD_UNIT_ELEMS]) p -= (double)a->lr * (double)a->weight_decay * p;
  if (a->kind == GD_OPTIMIZER_SGD) {
    *m = (double)a->momentum * *m + g;
    return p - (double)a->lr * (a->nesterov ? g + (double)a->momentum * *m : *m);
  }
  *m = (double)a->beta1 * *m + (1.0 - (double)a->beta1) * g;
  *v = (double)a->beta2 * *v + (1.0 - (double)a->beta2) * g * g;
  return p - (double)a->lr * (*m / (double)good.bias1) / (sqrt(*v / (double)good.bias2) + (double)a->epsilon);
}

static void updates_match_double_and_have_the_same_bits_on_every_isa(void **state) {
  (void)state;
  for (int kind = 0; kind < 3; kind++) { /* AdamW, SGD, SGD with Nesterov's momentum */
    float bits[ELEMS];
    for (int isa = 0; isa < ISAS; isa++) {
      gd_kernels kernels;
      if (!open_isa(isa_names[isa], 1 + isa, &kernels)) continue;
      parameters x = new_parameters();
      gd_update a = update_args(&x, kind ? GD_OPTIMIZER_SGD : GD_OPTIMIZER_ADAMW);
      a.nesterov = kind == 2;
      assert_int_equal(kernels.ops->update(&kernels, &a), GD_OK);
      if (isa == 0) memcpy(bits, x.p.data, sizeof bits);
      assert_same_bits(bits, x.p.data, sizeof bits, "weights");
      for (int i = 0; i < ELEMS; i++) {
        double m = (double)x.m.values[i], v = (double)x.v.values[i];
        double p = reference_step(&a, i, (double)x.p.values[i], (double)x.g.values[i], &m, &v);
        assert_near(GD_FLOAT32, (double)((float *)x.p.data)[i], p, 1e-6, 1e-7, "weight", i);
        assert_near(GD_FLOAT32, (double)((float *)x.m.data)[i], m, 1e-6, 1e-7, "first moment", i);
        if (!kind) assert_near(GD_FLOAT32, (double)((float *)x.v.data)[i], v, 1e-6, 1e-9, "second moment", i);
        assert_int_equal(((gd_bfloat16 *)x.copy.data)[i], gd_bfloat16_from_float(((float *)x.p.data)[i]));
      }
      free_parameters(&x);
      gd_kernels_close(&kernels);
    }
  }
}

/* A flat piece of the parameters updates as it does within the whole. */
static void an_update_of_a_piece_has_the_bits_of_the_whole(void **state) {
  (void)state;
  gd_kernels kernels = open_best(2);
  parameters whole = new_parameters(), part = new_parameters();
  gd_update a = update_args(&whole, GD_OPTIMIZER_ADAMW), b = update_args(&part, GD_OPTIMIZER_ADAMW);
  b.elements = GD_UNIT_ELEMS;
  b.master += GD_UNIT_ELEMS;
  b.parameter = (gd_bfloat16 *)b.parameter + GD_UNIT_ELEMS;
  b.first += GD_UNIT_ELEMS;
  b.second += GD_UNIT_ELEMS;
  b.gradient += GD_UNIT_ELEMS;
  b.decay += 1;
  assert_int_equal(kernels.ops->update(&kernels, &a), GD_OK);
  assert_int_equal(kernels.ops->update(&kernels, &b), GD_OK);
  assert_same_bits(a.master + GD_UNIT_ELEMS, b.master, GD_UNIT_ELEMS * 4, "piece");
  assert_same_bits(part.p.values, part.p.data, GD_UNIT_ELEMS * 4, "what lies before the piece");
  free_parameters(&whole);
  free_parameters(&part);
  gd_kernels_close(&kernels);
}

static void the_environment_names_the_instruction_set_or_is_refused(void **state) {
  (void)state;
  gd_kernels kernels;
  assert_true(open_isa("generic", 1, &kernels));
  assert_string_equal(kernels.ops->name, "cpu-generic");
  assert_false(kernels.ops->bfloat16);
  gd_kernels_close(&kernels);
  setenv("GPTDIST_ISA", "avx1024", 1);
  assert_int_equal(gd_kernels_open(&test_device, NULL, 1, &kernels), GD_USAGE);
#if defined(__x86_64__)
  assert_non_null(strstr(gd_error_text(), "GPTDIST_ISA=avx1024: expected generic, avx2, avx512 or avx512bf16"));
#else
  assert_non_null(strstr(gd_error_text(), "GPTDIST_ISA=avx1024: expected generic"));
#endif
  gd_error_clear();
  unsetenv("GPTDIST_ISA");
}

static void the_measured_peak_is_zero_only_where_there_are_no_such_products(void **state) {
  (void)state;
  assert_true(gd_kernels_peak_flops(GD_FLOAT32, 1) > 1e6);
  setenv("GPTDIST_ISA", "generic", 1);
  assert_true(gd_kernels_peak_flops(GD_BFLOAT16, 1) == 0.0);
  unsetenv("GPTDIST_ISA");
}

static void a_gpu_is_known_by_its_name_or_not_at_all(void **state) {
  (void)state;
  static const struct {
    const char *name;
    double bfloat16, float32; /* TFLOP/s */
  } cases[] = {{"NVIDIA H100 80GB HBM3", 989.4, 66.9},
               {"NVIDIA H100 PCIe", 756.5, 51.2},
               {"NVIDIA H100 NVL", 835.5, 60},
               {"NVIDIA H200", 989.4, 66.9},
               {"NVIDIA H200 NVL", 835.5, 60},
               {"NVIDIA GH200 480GB", 989.4, 66.9},
               {"NVIDIA A100-SXM4-80GB", 312, 19.5},
               {"NVIDIA A100 80GB PCIe", 312, 19.5},
               {"A100-PCIE-40GB", 312, 19.5},
               {"NVIDIA L4", 121, 30.3},
               {"NVIDIA L40", 181, 90.5},
               {"NVIDIA L40S", 362, 91.6},
               {"NVIDIA A10", 125, 31.2},
               {"NVIDIA A10G", 0, 0},
               {"NVIDIA H100", 0, 0},
               {"NVIDIA H1000 HBM3", 0, 0},
               {"NVIDIA A100-SXM4-40GB MIG 1g.5gb", 0, 0},
               {"GRID A100-10C", 0, 0},
               {"GRID A100", 0, 0},
               {"NVIDIA L40S-48Q", 0, 0},
               {"NVIDIA A100-1-5CME", 0, 0},
               {"NVIDIA A40-8A", 0, 0},
               {"NVIDIA L4-4B", 0, 0},
               {"", 0, 0}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    assert_true(gd_gpu_peak_flops(cases[i].name, GD_BFLOAT16) == 1e12 * cases[i].bfloat16);
    assert_true(gd_gpu_peak_flops(cases[i].name, GD_FLOAT32) == 1e12 * cases[i].float32);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(unit_squares_use_one_fixed_order, open_test_device, close_test_device),
      cmocka_unit_test_setup_teardown(any_cut_into_nodes_sums_to_the_tree_over_all_units, open_test_device, close_test_device),
      cmocka_unit_test_setup_teardown(one_value_that_is_not_finite_is_found, open_test_device, close_test_device),
      cmocka_unit_test_setup_teardown(the_verdict_scales_clips_and_counts, open_test_device, close_test_device),
      cmocka_unit_test_setup_teardown(a_bad_loss_gradient_or_call_applies_nothing, open_test_device, close_test_device),
      cmocka_unit_test_setup_teardown(updates_match_double_and_have_the_same_bits_on_every_isa, open_test_device,
                                      close_test_device),
      cmocka_unit_test_setup_teardown(an_update_of_a_piece_has_the_bits_of_the_whole, open_test_device, close_test_device),
      cmocka_unit_test_setup_teardown(the_environment_names_the_instruction_set_or_is_refused, open_test_device,
                                      close_test_device),
      cmocka_unit_test(the_measured_peak_is_zero_only_where_there_are_no_such_products),
      cmocka_unit_test(a_gpu_is_known_by_its_name_or_not_at_all),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
