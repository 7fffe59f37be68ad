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
  spec.model.bias = llama ? GD_BIAS_NONE : GD_BIAS_ALL;
  spec.model.tied_head = !llama;
  spec.model.init_std = 0.02f;
  spec.parallel = (gd_parallel_spec){.tensor = tensor_ranks, .pipeline = 1, .context = 1, .zero = zero};
  spec.batch.global = 24;
  spec.numerics = GD_NUMERICS_INVARIANT;
  return spec;
}

/* Adds a pattern to finetune.train. */
static inline void train_also(gd_spec *spec, const char *pattern) {
  gd_patterns *train = &spec->finetune.train;
  memcpy(train->text[train->count++], pattern, strlen(pattern));
}

/* Adds one to optimizer.lr_scale. */
static inline void scale_also(gd_spec *spec, const char *pattern, float factor) {
  gd_patterns *scale = &spec->optimizer.lr_scale;
  scale->value[scale->count] = factor;
  memcpy(scale->text[scale->count++], pattern, strlen(pattern));
}

/* Parts of a model of two layers or more that may learn; "" ends a list. What stands behind it: the lowest layer that backward
 * goes through, and whether it is of a model with positions and biases, or with a head of its own, alone. */
typedef struct trained_part {
  const char *patterns[3];
  int32_t lowest; /* -1: L */
  bool gpt2, llama;
} trained_part;

static const trained_part trained_parts[] = {
    {{"head", "", ""}, 0, true, false}, /* the tied head is the token table */
    {{"head", "", ""}, -1, false, true},
    {{"head.*", "", ""}, -1, false, true},
    {{"final_norm.weight", "", ""}, -1, true, true},
    {{"top:1", "", ""}, 1, false, true},
    {{"layers.1.*", "final_norm.*", ""}, 1, true, true},
    {{"layers.1.mlp.*", "layers.0.norm2.*", ""}, 0, true, true},
    {{"layers.*.bias", "final_norm.bias", ""}, 0, true, false},
    {{"token_embedding.*", "", ""}, 0, true, true},
    {{"position_embedding.*", "layers.1.attention.projection.*", ""}, 0, true, false},
};
enum { TRAINED_PARTS = sizeof trained_parts / sizeof *trained_parts };

/* Sets finetune.train; false where the part is not one of such a model. */
static inline bool train_part(gd_spec *spec, int part, bool llama) {
  const trained_part *p = &trained_parts[part];
  memset(&spec->finetune.train, 0, sizeof spec->finetune.train);
  for (int i = 0; p->patterns[i][0]; i++) train_also(spec, p->patterns[i]);
  return llama ? p->llama : p->gpt2;
}

#endif
