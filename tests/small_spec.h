/* small_spec.h - what tests of layouts and plans share: a small model in one of the two usual shapes. */
#ifndef GD_TESTS_SMALL_SPEC_H
#define GD_TESTS_SMALL_SPEC_H

#include <string.h>

#include "shard/spec.h"

/* Two layers, four heads, width 32, 61 tokens, context 16; GPT-2's or Llama's choices; 24 sequences a step, invariant. Not
 * resolved. */
static inline gd_spec small_spec(bool llama, int32_t tensor_ranks, int32_t zero) {
  gd_spec spec;
  memset(&spec, 0, sizeof spec);
  spec.run.steps = 10;
  spec.model =
      (gd_model_spec){.layers = 2, .heads = 4, .kv_heads = llama ? 4 : 0, .width = 32, .vocabulary = 61, .context = 16};
  spec.model.norm = llama ? GD_NORM_RMSNORM : GD_NORM_LAYERNORM;
  spec.model.activation = llama ? GD_ACTIVATION_SWIGLU : GD_ACTIVATION_GELU_TANH;
  spec.model.position = llama ? GD_POSITION_ROTARY : GD_POSITION_LEARNED;
  spec.model.bias = !llama;
  spec.model.tied_head = !llama;
  spec.model.init_std = 0.02f;
  spec.parallel = (gd_parallel_spec){.tensor = tensor_ranks, .pipeline = 1, .context = 1, .zero = zero};
  spec.batch.global = 24;
  spec.numerics = GD_NUMERICS_INVARIANT;
  return spec;
}

#endif
