/* What a specification comes to, by hand: parameters, padded vocabulary, operations a token. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "io/config/config.h"
#include "shard/cost.h"
#include "shard/layout.h"
#include "shard/mesh.h"
#include "tests/small_spec.h"

static gd_spec load(const char *text) {
  static gd_spec spec;
  if (gd_config_load_text("shape", text, strlen(text), 0, 0, &spec, 0) != GD_OK || gd_spec_resolve(&spec, 1) != GD_OK)
    fail_msg("%s", gd_error_text());
  return spec;
}

static const char gpt2[] =
    "model: {layers: 12, heads: 12, width: 768, context: 1024, vocabulary: 50257}\n"
    "batch: {global: 1}\n";
static const char llama[] =
    "model: {layers: 3, heads: 6, kv_heads: 2, head_size: 10, width: 50, ffn: 70, context: 128, vocabulary: 1000,\n"
    "        norm: rmsnorm, activation: swiglu, position: rotary, bias: false, tied_head: false}\n"
    "batch: {global: 1, sequence: 64}\n";

/* GPT-2's published 124,439,808; the other shape term by term. */
static void parameters_are_counted_once(void **state) {
  (void)state;
  gd_spec spec = load(gpt2);
  assert_int_equal(gd_spec_parameters(&spec), 124439808);
  spec = load(llama);
  int64_t attention = 50 * 60 + 2 * 50 * 20 + 60 * 50, mlp = 3 * 50 * 70, norms = 2 * 50;
  assert_int_equal(gd_spec_parameters(&spec), 3 * (attention + mlp + norms) + 2 * 1000 * 50 + 50);
}

/* Every tensor of the layout, counted: the same number another way. */
static void the_layout_has_as_many_elements(void **state) {
  (void)state;
  const char *shapes[] = {gpt2, llama};
  for (int i = 0; i < 16; i++) {
    gd_spec spec = load(shapes[i % 2]);
    spec.model.bias = (gd_bias)(i / 2); /* every set of them */
    gd_mesh mesh;
    gd_layout layout;
    int64_t elements = 0;
    assert_int_equal(gd_mesh_init(&mesh, 1, 1, 1, 1), GD_OK);
    assert_int_equal(gd_layout_create(&spec, &mesh, 0, &layout), GD_OK);
    for (int32_t t = 0; t < layout.tensor_count; t++) elements += layout.tensors[t].rows * layout.tensors[t].cols;
    assert_int_equal(elements, gd_spec_parameters(&spec));
    gd_layout_free(&layout);
  }
}

/* Which layers have biases, by the names that are there. */
static void biases_are_where_the_key_says(void **state) {
  (void)state;
  static const struct {
    gd_bias bias;
    const char *there, *missing;
  } cases[] = {{GD_BIAS_QKV, "layers.0.attention.key.bias", "layers.0.attention.projection.bias"},
               {GD_BIAS_PROJECTION, "layers.0.attention.projection.bias", "layers.0.attention.query.bias"},
               {GD_BIAS_MLP, "layers.0.mlp.gate.bias", "layers.0.attention.value.bias"},
               {GD_BIAS_QKV | GD_BIAS_PROJECTION, "layers.0.attention.value.bias", "layers.0.mlp.down.bias"}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    gd_spec spec = load(llama);
    gd_mesh mesh;
    gd_layout layout;
    bool there = false, missing = true;
    spec.model.bias = cases[i].bias;
    assert_int_equal(gd_mesh_init(&mesh, 1, 1, 1, 1), GD_OK);
    assert_int_equal(gd_layout_create(&spec, &mesh, 0, &layout), GD_OK);
    for (int32_t t = 0; t < layout.tensor_count; t++) {
      there = there || strcmp(layout.tensors[t].name, cases[i].there) == 0;
      missing = missing && strcmp(layout.tensors[t].name, cases[i].missing) != 0;
    }
    assert_true(there && missing);
    gd_layout_free(&layout);
  }
}

static void rotary_kinds_that_make_no_sense_are_refused(void **state) {
  (void)state;
  gd_spec spec = load(gpt2);
  spec.model.rope.kind = GD_ROPE_LINEAR;
  assert_int_equal(gd_spec_resolve(&spec, 1), GD_USAGE);
  assert_non_null(strstr(gd_error_text(), "model.rope_kind: only rotary positions have one"));
  spec = load(llama);
  spec.model.rope = (gd_rope){GD_ROPE_LLAMA3, 8, 4, 4, 64};
  assert_int_equal(gd_spec_resolve(&spec, 1), GD_USAGE);
  assert_non_null(strstr(gd_error_text(), "model.rope_high: found 4, expected more than model.rope_low 4"));
}

static void the_vocabulary_is_padded_to_sixteen_a_block(void **state) {
  (void)state;
  const struct {
    int32_t vocabulary, blocks, padded;
  } cases[] = {{61, 1, 64}, {64, 1, 64}, {65, 1, 80}, {1, 1, 16}, {50257, 4, 50304}, {128, 4, 128}, {129, 8, 256}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    gd_spec spec = load(gpt2);
    spec.model.vocabulary = cases[i].vocabulary;
    spec.parallel.blocks = cases[i].blocks;
    assert_int_equal(gd_spec_padded_vocabulary(&spec), cases[i].padded);
  }
}

static double counted(const gd_spec *spec, double (*count)(const gd_layout *layout)) {
  gd_mesh mesh;
  gd_layout layout;
  assert_int_equal(gd_mesh_init(&mesh, 1, 1, 1, 1), GD_OK);
  assert_int_equal(gd_layout_create(spec, &mesh, 0, &layout), GD_OK);
  double found = count(&layout);
  gd_layout_free(&layout);
  return found;
}

static double operations(const gd_spec *spec) {
  return counted(spec, gd_cost_flops_per_token);
}

static double causal_operations(const gd_spec *spec) {
  return counted(spec, gd_cost_causal_flops_per_token);
}

/* 6 operations a token and matrix element (two forward, four backward), head included, look-up not; attention's two products of
 * T x D a head are 12 L H D T. */
static void operations_of_a_token(void **state) {
  (void)state;
  gd_spec spec = load(gpt2);
  assert_true(operations(&spec) == 6.0 * (12 * 12 * 768.0 * 768 + 50257 * 768.0) + 12.0 * 12 * 768 * 1024);
  spec = load(llama);
  double attention = 50 * 60 + 2 * 50 * 20 + 60 * 50, mlp = 3 * 50 * 70;
  assert_true(operations(&spec) == 6.0 * (3 * (attention + mlp) + 1000 * 50) + 12.0 * 3 * 60 * 64);
  assert_true(causal_operations(&spec) == 6.0 * (3 * (attention + mlp) + 1000 * 50) + 6.0 * 3 * 60 * 65);
}

/* What is frozen has no product for its gradient, and what is below the lowest layer that learns only its forward one. */
static void operations_of_a_part(void **state) {
  (void)state;
  double layer = 50 * 60 + 2 * 50 * 20 + 60 * 50 + 3 * 50 * 70, head = 1000 * 50, attention = 4.0 * 60 * 64;
  gd_spec spec = load(llama);
  train_also(&spec, "head.*");
  assert_true(operations(&spec) == 2.0 * 3 * layer + 4.0 * head + 3 * attention);
  train_also(&spec, "final_norm.*");
  assert_true(operations(&spec) == 2.0 * 3 * layer + 6.0 * head + 3 * attention);
  spec = load(llama);
  train_also(&spec, "top:1");
  assert_true(operations(&spec) == 2.0 * 2 * layer + 6.0 * layer + 6.0 * head + (3 + 2) * attention);
  spec = load(llama);
  train_also(&spec, "token_embedding.*");
  assert_true(operations(&spec) == 4.0 * 3 * layer + 4.0 * head + 9 * attention);
}

/* An R that does not divide the sequence is refused with one that does; the spec as advised is taken. */
static void a_sequence_that_blocks_do_not_divide_names_what_would(void **state) {
  (void)state;
  const struct {
    int32_t ranks, tensor, blocks, sequence;
    const char *message; /* NULL: taken */
  } cases[] = {
      {1, 1, 4, 33,
       "batch.sequence: found 33, numerics: invariant needs a multiple of parallel.blocks 4; set parallel.blocks to 1 (the "
       "largest that divides it), or batch.sequence to 32"},
      {1, 1, 4, 34,
       "batch.sequence: found 34, numerics: invariant needs a multiple of parallel.blocks 4; set parallel.blocks to 2 (the "
       "largest that divides it), or batch.sequence to 32"},
      {1, 1, 4, 3,
       "batch.sequence: found 3, numerics: invariant needs a multiple of parallel.blocks 4; set parallel.blocks to 1 (the "
       "largest that divides it)"},
      {2, 2, 4, 33,
       "batch.sequence: found 33, numerics: invariant needs a multiple of parallel.blocks 4, and 1, the largest that divides "
       "it, is no multiple of parallel.tensor 2; set parallel.tensor and parallel.blocks to 1, or batch.sequence to 32"},
      {1, 1, 1, 33, 0},
      {1, 1, 2, 34, 0},
      {2, 2, 4, 32, 0},
      {1, 1, 0, 33, 0}, /* not set: chosen */
      {1, 1, 0, 34, 0},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    gd_spec spec = load(gpt2);
    spec.numerics = GD_NUMERICS_INVARIANT;
    spec.batch.global = spec.batch.micro = 2;
    if (cases[i].ranks == 2) spec.batch.micro = 1;
    spec.parallel.tensor = cases[i].tensor;
    spec.parallel.blocks = cases[i].blocks;
    spec.batch.sequence = cases[i].sequence;
    gd_status status = gd_spec_resolve(&spec, cases[i].ranks);
    if (cases[i].message) {
      assert_int_equal(status, GD_USAGE);
      assert_string_equal(gd_error_text(), cases[i].message);
    } else if (status != GD_OK) {
      fail_msg("%s", gd_error_text());
    } else {
      assert_int_equal(spec.batch.sequence % spec.parallel.blocks, 0);
    }
  }
}

/* K: the largest of 8, 4, 2, 1 with whole leaves of at least 256 tokens; one that is set is checked. */
static void time_blocks_are_as_long_as_a_chain(void **state) {
  (void)state;
  const struct {
    gd_numerics numerics;
    int32_t blocks, asked, sequence, chosen;
    const char *message; /* NULL: taken */
  } cases[] = {
      {GD_NUMERICS_INVARIANT, 4, 0, 256, 1, 0},
      {GD_NUMERICS_INVARIANT, 4, 0, 511, 0, "batch.sequence: found 511"},
      {GD_NUMERICS_INVARIANT, 4, 0, 512, 2, 0},
      {GD_NUMERICS_INVARIANT, 4, 0, 1024, 4, 0},
      {GD_NUMERICS_INVARIANT, 4, 0, 1028, 1, 0}, /* 1028 = 4 * 257 */
      {GD_NUMERICS_INVARIANT, 4, 0, 2048, 8, 0},
      {GD_NUMERICS_INVARIANT, 1, 0, 1028, 4, 0},
      {GD_NUMERICS_INVARIANT, 4, 0, 65536, 8, 0},
      {GD_NUMERICS_INVARIANT, 4, 16, 64, 16, 0},
      {GD_NUMERICS_INVARIANT, 4, 3, 64, 0, "parallel.time_blocks: found 3, expected a power of two"},
      {GD_NUMERICS_INVARIANT, 4, 32, 64, 0,
       "parallel.time_blocks: found 32, but 32 x parallel.blocks 4 does not divide batch.sequence 64"},
      {GD_NUMERICS_FAST, 0, 0, 2048, 1, 0},
      {GD_NUMERICS_FAST, 0, 1, 2048, 1, 0},
      {GD_NUMERICS_FAST, 0, 2, 2048, 0, "parallel.time_blocks: found 2, but numerics: fast does not cut sequences"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    gd_spec spec = load(gpt2);
    spec.numerics = cases[i].numerics;
    spec.model.context = 65536;
    spec.batch.global = spec.batch.micro = 2;
    spec.parallel.blocks = cases[i].blocks;
    spec.parallel.time_blocks = cases[i].asked;
    spec.batch.sequence = cases[i].sequence;
    gd_status status = gd_spec_resolve(&spec, 1);
    if (cases[i].message) {
      assert_int_equal(status, GD_USAGE);
      if (strncmp(gd_error_text(), cases[i].message, strlen(cases[i].message)) != 0) fail_msg("%s", gd_error_text());
    } else if (status != GD_OK) {
      fail_msg("case %zu: %s", i, gd_error_text());
    } else {
      assert_int_equal(spec.parallel.time_blocks, cases[i].chosen);
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(parameters_are_counted_once),
      cmocka_unit_test(biases_are_where_the_key_says),
      cmocka_unit_test(rotary_kinds_that_make_no_sense_are_refused),
      cmocka_unit_test(the_layout_has_as_many_elements),
      cmocka_unit_test(the_vocabulary_is_padded_to_sixteen_a_block),
      cmocka_unit_test(operations_of_a_token),
      cmocka_unit_test(operations_of_a_part),
      cmocka_unit_test(a_sequence_that_blocks_do_not_divide_names_what_would),
      cmocka_unit_test(time_blocks_are_as_long_as_a_chain),
  };
  return cmocka_run_group_tests(tests, 0, 0);
}
