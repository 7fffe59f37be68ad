/* What a specification comes to, by hand: parameters, padded vocabulary, operations a token. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "io/config/config.h"
#include "shard/mesh.h"
#include "shard/layout.h"

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
  for (int i = 0; i < 2; i++) {
    gd_spec spec = load(shapes[i]);
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

/* 6 operations a token and matrix element (two forward, four backward), head included, look-up not; attention's two products of
 * T x D a head are 12 L H D T. */
static void operations_of_a_token(void **state) {
  (void)state;
  gd_spec spec = load(gpt2);
  assert_true(gd_spec_flops_per_token(&spec) == 6.0 * (12 * 12 * 768.0 * 768 + 50257 * 768.0) + 12.0 * 12 * 768 * 1024);
  spec = load(llama);
  double attention = 50 * 60 + 2 * 50 * 20 + 60 * 50, mlp = 3 * 50 * 70;
  assert_true(gd_spec_flops_per_token(&spec) == 6.0 * (3 * (attention + mlp) + 1000 * 50) + 12.0 * 3 * 60 * 64);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(parameters_are_counted_once),
      cmocka_unit_test(the_layout_has_as_many_elements),
      cmocka_unit_test(the_vocabulary_is_padded_to_sixteen_a_block),
      cmocka_unit_test(operations_of_a_token),
  };
  return cmocka_run_group_tests(tests, 0, 0);
}
