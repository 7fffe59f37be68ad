/* huggingface_names.c - the names of their tensors, and which of them a model uses. */
#include "io/checkpoint/huggingface_names.h"

#include <stdio.h>
#include <string.h>

static const gd_huggingface_rule gpt2_layer[] = {
    {"norm1.weight", "ln_1.weight", false, 0, 1},
    {"norm1.bias", "ln_1.bias", false, 0, 1},
    {"attention.query.weight", "attn.c_attn.weight", true, 0, 3},
    {"attention.key.weight", "attn.c_attn.weight", true, 1, 3},
    {"attention.value.weight", "attn.c_attn.weight", true, 2, 3},
    {"attention.query.bias", "attn.c_attn.bias", false, 0, 3},
    {"attention.key.bias", "attn.c_attn.bias", false, 1, 3},
    {"attention.value.bias", "attn.c_attn.bias", false, 2, 3},
    {"attention.projection.weight", "attn.c_proj.weight", true, 0, 1},
    {"attention.projection.bias", "attn.c_proj.bias", false, 0, 1},
    {"norm2.weight", "ln_2.weight", false, 0, 1},
    {"norm2.bias", "ln_2.bias", false, 0, 1},
    {"mlp.up.weight", "mlp.c_fc.weight", true, 0, 1},
    {"mlp.up.bias", "mlp.c_fc.bias", false, 0, 1},
    {"mlp.down.weight", "mlp.c_proj.weight", true, 0, 1},
    {"mlp.down.bias", "mlp.c_proj.bias", false, 0, 1},
    {0},
};
static const gd_huggingface_rule gpt2_outside[] = {
    {"token_embedding.weight", "wte.weight", false, 0, 1},
    {"position_embedding.weight", "wpe.weight", false, 0, 1},
    {"final_norm.weight", "ln_f.weight", false, 0, 1},
    {"final_norm.bias", "ln_f.bias", false, 0, 1},
    {"head.weight", "lm_head.weight", false, 0, 1},
    {"classifier.weight", "score.weight", false, 0, 1},
    {0},
};
static const gd_huggingface_rule llama_layer[] = {
    {"norm1.weight", "input_layernorm.weight", false, 0, 1},
    {"attention.query.weight", "self_attn.q_proj.weight", false, 0, 1},
    {"attention.query.bias", "self_attn.q_proj.bias", false, 0, 1},
    {"attention.key.weight", "self_attn.k_proj.weight", false, 0, 1},
    {"attention.key.bias", "self_attn.k_proj.bias", false, 0, 1},
    {"attention.value.weight", "self_attn.v_proj.weight", false, 0, 1},
    {"attention.value.bias", "self_attn.v_proj.bias", false, 0, 1},
    {"attention.projection.weight", "self_attn.o_proj.weight", false, 0, 1},
    {"attention.projection.bias", "self_attn.o_proj.bias", false, 0, 1},
    {"norm2.weight", "post_attention_layernorm.weight", false, 0, 1},
    {"mlp.gate.weight", "mlp.gate_proj.weight", false, 0, 1},
    {"mlp.gate.bias", "mlp.gate_proj.bias", false, 0, 1},
    {"mlp.up.weight", "mlp.up_proj.weight", false, 0, 1},
    {"mlp.up.bias", "mlp.up_proj.bias", false, 0, 1},
    {"mlp.down.weight", "mlp.down_proj.weight", false, 0, 1},
    {"mlp.down.bias", "mlp.down_proj.bias", false, 0, 1},
    {0},
};
static const gd_huggingface_rule llama_outside[] = {
    {"token_embedding.weight", "embed_tokens.weight", false, 0, 1},
    {"final_norm.weight", "norm.weight", false, 0, 1},
    {"head.weight", "lm_head.weight", false, 0, 1},
    {"classifier.weight", "score.weight", false, 0, 1},
    {0},
};

/* Fixed tables that are computed here: attention masks of GPT-2, rotary frequencies of Llama. */
static const char *const gpt2_harmless[] = {"attn.bias", "attn.masked_bias", 0};
static const char *const llama_harmless[] = {"self_attn.rotary_emb.inv_freq", "rotary_emb.inv_freq", 0};

const gd_huggingface_rule *gd_huggingface_rules(const gd_huggingface_config *config, bool inside) {
  if (inside) return config->llama ? llama_layer : gpt2_layer;
  return config->llama ? llama_outside : gpt2_outside;
}

/* The head and the classifier stand beside the model, not in it. */
static bool is_beside(const char *ours) {
  return strcmp(ours, "head.weight") == 0 || strcmp(ours, "classifier.weight") == 0;
}

const gd_huggingface_rule *gd_huggingface_translate(const gd_huggingface_config *config, const char *prefix, const char *ours,
                                                    char theirs[GD_HUGGINGFACE_NAME_BYTES]) {
  bool llama = config->llama;
  int layer = 0, length = 0;
  bool inside = sscanf(ours, "layers.%d.%n", &layer, &length) == 1 && length > 0;
  const gd_huggingface_rule *rules = gd_huggingface_rules(config, inside);
  for (; rules->ours; rules++) {
    if (strcmp(rules->ours, inside ? ours + length : ours) != 0) continue;
    if (inside)
      snprintf(theirs, GD_HUGGINGFACE_NAME_BYTES, "%s%s.%d.%s", prefix, llama ? "layers" : "h", layer, rules->theirs);
    else
      snprintf(theirs, GD_HUGGINGFACE_NAME_BYTES, "%s%s", is_beside(ours) ? "" : prefix, rules->theirs);
    return rules;
  }
  return 0;
}

/* Whether the model has a tensor of ours: which linear layers have biases goes by model.bias. */
static bool has(const gd_model_spec *model, const char *ours) {
  static const struct {
    const char *layer;
    gd_bias bias;
  } biases[] = {{"attention.projection.", GD_BIAS_PROJECTION}, {"attention.", GD_BIAS_QKV}, {"mlp.", GD_BIAS_MLP}};
  size_t length = strlen(ours);
  if (length < 5 || strcmp(ours + length - 5, ".bias") != 0) return true;
  for (size_t i = 0; i < sizeof biases / sizeof *biases; i++)
    if (strncmp(ours, biases[i].layer, strlen(biases[i].layer)) == 0) return model->bias & biases[i].bias;
  return model->norm == GD_NORM_LAYERNORM;
}

bool gd_huggingface_uses(const gd_huggingface_config *config, const char *prefix, const char *theirs) {
  bool llama = config->llama;
  if (strcmp(theirs, "lm_head.weight") == 0) return !config->model.classes; /* the head, or the same as the embedding */
  if (strcmp(theirs, "score.weight") == 0) return config->model.classes > 0;
  if (strncmp(theirs, prefix, strlen(prefix)) != 0) return false;
  const char *rest = theirs + strlen(prefix);
  int layer = 0, length = 0;
  bool inside = sscanf(rest, llama ? "layers.%d.%n" : "h.%d.%n", &layer, &length) == 1 && length > 0;
  if (inside) {
    char plain[32]; /* no "h.01." */
    snprintf(plain, sizeof plain, "%s.%d.", llama ? "layers" : "h", layer);
    if (layer < 0 || layer >= config->model.layers || strncmp(rest, plain, strlen(plain)) != 0) return false;
    rest += length;
  }
  for (const char *const *name = llama ? llama_harmless : gpt2_harmless; *name; name++)
    if (strcmp(*name, rest) == 0) return true;
  const gd_huggingface_rule *rules = gd_huggingface_rules(config, inside);
  for (; rules->ours; rules++)
    if (strcmp(rules->theirs, rest) == 0 && strcmp(rules->ours, "head.weight") != 0) return has(&config->model, rules->ours);
  return false;
}
