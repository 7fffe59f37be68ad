/* huggingface_config_write.c - config.json and generation_config.json for a model of ours. Older and newer releases of
 * transformers have other keys for rotary positions and dtype: both are written. */
#include <stdio.h>
#include <string.h>

#include "io/checkpoint/huggingface_config.h"
#include "io/config/config.h"

/* The value as a run file has it: 1e-05, not 9.99999975e-06; and 8.0, not 8, where theirs are floats. */
static gd_status put_key(gd_bytes *out, const char *theirs, const char *ours, const gd_spec *spec) {
  char text[GD_CONFIG_VALUE_BYTES];
  const gd_config_key *key = gd_config_find(ours);
  (void)gd_config_value(key, spec, text, sizeof text);
  bool whole = key->type == GD_KEY_FLOAT && !strpbrk(text, ".e");
  return gd_bytes_printf(out, "  \"%s\": %s%s,\n", theirs, text, whole ? ".0" : "");
}

static gd_status put_keys(gd_bytes *out, const char *const (*keys)[2], const gd_spec *spec) {
  for (; (*keys)[0]; keys++) GD_TRY(put_key(out, (*keys)[0], (*keys)[1], spec));
  return GD_OK;
}

/* What of a shape no architecture of theirs has; NULL: nothing. */
static const char *misfit(const gd_model_spec *m, gd_family *family) {
  bool one_width = m->width % m->heads == 0;
  *family = m->norm != GD_NORM_RMSNORM ? GD_FAMILY_GPT2 : m->bias == GD_BIAS_QKV ? GD_FAMILY_QWEN2 : GD_FAMILY_LLAMA;
  if (*family != GD_FAMILY_GPT2) {
    if (m->position != GD_POSITION_ROTARY) return "model.norm rmsnorm without model.position rotary";
    if (m->activation != GD_ACTIVATION_SWIGLU) return "model.norm rmsnorm without model.activation swiglu";
    return one_width ? NULL : "a model.width that is no multiple of model.heads";
  }
  if (m->position != GD_POSITION_LEARNED) return "model.norm layernorm without model.position learned";
  if (m->activation == GD_ACTIVATION_SWIGLU) return "model.norm layernorm with model.activation swiglu";
  if (m->bias != GD_BIAS_ALL) return "model.norm layernorm without model.bias true";
  if (m->kv_heads != m->heads) return "model.norm layernorm with model.kv_heads other than model.heads";
  return one_width && m->head_size == m->width / m->heads ? NULL : "model.norm layernorm with a model.head_size of its own";
}

gd_status gd_huggingface_config_from(const gd_spec *spec, const gd_data_task *task, gd_huggingface_config *out) {
  memset(out, 0, sizeof *out);
  out->model = spec->model;
  const char *what = misfit(&out->model, &out->family);
  out->llama = out->family != GD_FAMILY_GPT2;
  if (!what && out->model.classes && task->kind != GD_TASK_CLASSIFICATION)
    return gd_fail_user(GD_BAD_DATA, "found a classifier without labels in its manifest");
  if (!what) return out->model.classes ? gd_data_task_copy(task, &out->task) : GD_OK;
  return gd_fail_user(GD_BAD_DATA,
                      "found a model that transformers has no architecture for (%s), expected the shape of GPT-2 (layernorm, "
                      "learned positions, gelu, biases) or Llama (rmsnorm, rotary positions, swiglu)",
                      what);
}

/* The labels by number; of two that share one output, the second is what it tells. */
static gd_status put_labels(gd_bytes *out, const gd_huggingface_config *config, bool by_name) {
  const gd_data_task *task = &config->task;
  int32_t classes = config->model.classes, first = task->label_count - classes;
  GD_TRY(gd_bytes_printf(out, "  \"%s\": {", by_name ? "label2id" : "id2label"));
  for (int32_t i = 0; i < classes; i++) {
    const char *label = task->labels[first + i];
    GD_TRY(gd_bytes_printf(out, i ? ", " : ""));
    if (!by_name) GD_TRY(gd_bytes_printf(out, "\"%d\": ", i));
    GD_TRY(gd_json_quote(out, label, strlen(label)));
    if (by_name) GD_TRY(gd_bytes_printf(out, ": %d", i));
  }
  return gd_bytes_printf(out, "},\n");
}

static gd_status put_architecture(gd_bytes *out, const gd_huggingface_config *config) {
  static const char *const classes[] = {"GPT2", "Llama", "Mistral", "Qwen2"}, *const types[] = {"gpt2", "llama", "mistral",
                                                                                                "qwen2"};
  bool classifier = config->model.classes > 0;
  const char *head = classifier ? "ForSequenceClassification" : config->llama ? "ForCausalLM" : "LMHeadModel";
  GD_TRY(gd_bytes_printf(out, "  \"architectures\": [\"%s%s\"],\n  \"model_type\": \"%s\",\n", classes[config->family], head,
                         types[config->family]));
  if (!classifier) return GD_OK;
  bool several = config->task.multiple || config->task.label_count != config->model.classes;
  GD_TRY(put_labels(out, config, false));
  GD_TRY(put_labels(out, config, true));
  return gd_bytes_printf(out, "  \"problem_type\": \"%s_label_classification\",\n", several ? "multi" : "single");
}

static gd_status put_gpt2(gd_bytes *out, const gd_spec *spec) {
  static const char *const keys[][2] = {
      {"vocab_size", "model.vocabulary"},
      {"n_positions", "model.context"},
      {"n_embd", "model.width"},
      {"n_layer", "model.layers"},
      {"n_head", "model.heads"},
      {"n_inner", "model.ffn"},
      {"resid_pdrop", "model.dropout"},
      {"embd_pdrop", "model.dropout"},
      {"attn_pdrop", "model.dropout"},
      {"layer_norm_epsilon", "model.norm_epsilon"},
      {NULL, NULL},
  };
  GD_TRY(put_keys(out, keys, spec));
  return gd_bytes_printf(out, "  \"activation_function\": \"%s\",\n",
                         spec->model.activation == GD_ACTIVATION_GELU ? "gelu" : "gelu_new");
}

/* {"rope_type": ..., and what the kind has}. theta: the base is among them. */
static gd_status put_rope(gd_bytes *out, const gd_spec *spec, bool theta) {
  static const char *const names[] = {"default", "linear", "llama3"};
  static const char *const linear[][2] = {{"factor", "model.rope_factor"}, {NULL, NULL}};
  static const char *const llama3[][2] = {{"factor", "model.rope_factor"},
                                          {"low_freq_factor", "model.rope_low"},
                                          {"high_freq_factor", "model.rope_high"},
                                          {"original_max_position_embeddings", "model.rope_original"},
                                          {NULL, NULL}};
  gd_rope_kind kind = spec->model.rope.kind;
  GD_TRY(gd_bytes_printf(out, "{\n"));
  if (theta) GD_TRY(put_key(out, "rope_theta", "model.rope_theta", spec));
  if (kind != GD_ROPE_PLAIN) GD_TRY(put_keys(out, kind == GD_ROPE_LINEAR ? linear : llama3, spec));
  return gd_bytes_printf(out, "  \"rope_type\": \"%s\"},\n", names[kind]);
}

static gd_status put_llama(gd_bytes *out, const gd_spec *spec, gd_family family) {
  static const char *const keys[][2] = {
      {"vocab_size", "model.vocabulary"},
      {"max_position_embeddings", "model.context"},
      {"hidden_size", "model.width"},
      {"intermediate_size", "model.ffn"},
      {"num_hidden_layers", "model.layers"},
      {"num_attention_heads", "model.heads"},
      {"num_key_value_heads", "model.kv_heads"},
      {"head_dim", "model.head_size"},
      {"rms_norm_eps", "model.norm_epsilon"},
      {"attention_dropout", "model.dropout"},
      {"rope_theta", "model.rope_theta"},
      {NULL, NULL},
  };
  const gd_model_spec *m = &spec->model;
  bool qwen2 = family == GD_FAMILY_QWEN2;
  GD_TRY(put_keys(out, keys, spec));
  GD_TRY(gd_bytes_printf(out, "  \"rope_scaling\": "));
  GD_TRY(m->rope.kind == GD_ROPE_PLAIN ? gd_bytes_printf(out, "null,\n") : put_rope(out, spec, false));
  GD_TRY(gd_bytes_printf(out, "  \"rope_parameters\": "));
  GD_TRY(put_rope(out, spec, true));
  GD_TRY(gd_bytes_printf(out, "  \"hidden_act\": \"silu\",\n"));
  if (qwen2) return gd_bytes_printf(out, "  \"use_sliding_window\": false,\n  \"sliding_window\": null,\n");
  return gd_bytes_printf(out, "  \"attention_bias\": %s,\n  \"mlp_bias\": %s,\n", m->bias & GD_BIAS_QKV ? "true" : "false",
                         m->bias & GD_BIAS_MLP ? "true" : "false");
}

static gd_status put_id(gd_bytes *out, const char *key, int32_t id) {
  return id < 0 ? gd_bytes_printf(out, "  \"%s\": null,\n", key) : gd_bytes_printf(out, "  \"%s\": %d,\n", key, id);
}

gd_status gd_huggingface_config_write(const gd_spec *spec, const gd_huggingface_config *config,
                                      const gd_huggingface_marks *marks, const char *dtype, gd_bytes *out) {
  GD_TRY(gd_bytes_printf(out, "{\n"));
  GD_TRY(put_architecture(out, config));
  GD_TRY(config->llama ? put_llama(out, spec, config->family) : put_gpt2(out, spec));
  GD_TRY(put_id(out, "bos_token_id", marks->begin));
  GD_TRY(put_id(out, "eos_token_id", marks->end_count ? marks->ends[0] : -1));
  /* What pads a batch: texts to be classified do not end with it. */
  if (config->model.classes) GD_TRY(put_id(out, "pad_token_id", marks->end_count ? marks->ends[0] : -1));
  return gd_bytes_printf(
      out, "  \"tie_word_embeddings\": %s,\n  \"torch_dtype\": \"%s\",\n  \"dtype\": \"%s\",\n  \"use_cache\": true\n}\n",
      spec->model.tied_head ? "true" : "false", dtype, dtype);
}

gd_status gd_huggingface_generation_write(const gd_huggingface_marks *marks, gd_bytes *out) {
  bool list = marks->end_count > 1;
  GD_TRY(gd_bytes_printf(out, "{\n"));
  GD_TRY(put_id(out, "bos_token_id", marks->begin));
  GD_TRY(gd_bytes_printf(out, "  \"eos_token_id\": %s", list ? "[" : marks->end_count ? "" : "null"));
  for (int32_t i = 0; i < marks->end_count; i++) GD_TRY(gd_bytes_printf(out, "%s%d", i ? ", " : "", marks->ends[i]));
  return gd_bytes_printf(out, "%s\n}\n", list ? "]" : "");
}
