/* huggingface_config.c - config.json of a Hugging Face folder as numbers of ours. */
#include "io/checkpoint/huggingface_config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CONFIG_LIMIT = 16 << 20 };

static bool is_null(const gd_json *node) {
  double number;
  bool boolean;
  return !node || (!gd_json_string(node) && !gd_json_number(node, &number) && !gd_json_boolean(node, &boolean) &&
                   !gd_json_is_array(node) && !gd_json_is_object(node));
}

/* A positive whole number; `preset` where the key is missing or null, 0 = it must be there. */
static gd_status get_size(const char *path, const gd_json *root, const char *key, int32_t preset, int32_t *out) {
  const gd_json *node = gd_json_get(root, key);
  int64_t value = 0;
  *out = preset;
  if (is_null(node) && preset) return GD_OK;
  if (is_null(node)) return gd_fail_user(GD_BAD_DATA, "%s: %s is missing", path, key);
  if (!gd_json_integer(node, &value) || value < 1 || value > INT32_MAX / 4)
    return gd_fail_user(GD_BAD_DATA, "%s: %s: expected a positive whole number", path, key);
  *out = (int32_t)value;
  return GD_OK;
}

static gd_status get_number(const char *path, const gd_json *root, const char *key, float preset, float *out) {
  const gd_json *node = gd_json_get(root, key);
  double value = 0;
  *out = preset;
  if (is_null(node)) return GD_OK;
  if (!gd_json_number(node, &value) || !(value > 0) || value > 1e30)
    return gd_fail_user(GD_BAD_DATA, "%s: %s: expected a positive number", path, key);
  *out = (float)value;
  return GD_OK;
}

static gd_status get_boolean(const char *path, const gd_json *root, const char *key, bool preset, bool *out) {
  const gd_json *node = gd_json_get(root, key);
  *out = preset;
  if (is_null(node) || gd_json_boolean(node, out)) return GD_OK;
  return gd_fail_user(GD_BAD_DATA, "%s: %s: expected true or false", path, key);
}

/* A setting that must have the one value that is built. */
static gd_status require(const char *path, const gd_json *root, const char *key, bool preset, bool expected) {
  bool value;
  GD_TRY(get_boolean(path, root, key, preset, &value));
  if (value == expected) return GD_OK;
  return gd_fail_user(GD_BAD_DATA, "%s: %s: found %s, only %s is supported", path, key, value ? "true" : "false",
                      expected ? "true" : "false");
}

static gd_status read_gpt2(const char *path, const gd_json *root, gd_model_spec *m) {
  m->norm = GD_NORM_LAYERNORM;
  m->position = GD_POSITION_LEARNED;
  m->bias = GD_BIAS_ALL;
  m->rope_theta = 10000;
  m->rope = (gd_rope){.kind = GD_ROPE_PLAIN, .factor = 1, .low = 1, .high = 4, .original = 8192};
  GD_TRY(get_size(path, root, "vocab_size", 0, &m->vocabulary));
  GD_TRY(get_size(path, root, "n_embd", 0, &m->width));
  GD_TRY(get_size(path, root, "n_head", 0, &m->heads));
  GD_TRY(get_size(path, root, "n_layer", 0, &m->layers));
  GD_TRY(get_size(path, root, "n_positions", 1024, &m->context));
  GD_TRY(get_size(path, root, "n_inner", 4 * m->width, &m->ffn));
  GD_TRY(get_number(path, root, "layer_norm_epsilon", 1e-5f, &m->norm_epsilon));
  GD_TRY(get_boolean(path, root, "tie_word_embeddings", true, &m->tied_head));
  GD_TRY(require(path, root, "scale_attn_weights", true, true));
  GD_TRY(require(path, root, "scale_attn_by_inverse_layer_idx", false, false));
  GD_TRY(require(path, root, "add_cross_attention", false, false));
  m->kv_heads = m->heads;
  const char *activation = gd_json_string(gd_json_get(root, "activation_function"));
  if (!activation || strcmp(activation, "gelu_new") == 0 || strcmp(activation, "gelu_pytorch_tanh") == 0)
    m->activation = GD_ACTIVATION_GELU_TANH;
  else if (strcmp(activation, "gelu") == 0)
    m->activation = GD_ACTIVATION_GELU;
  else
    return gd_fail_user(GD_BAD_DATA, "%s: activation_function: found \"%.32s\", expected gelu_new, gelu_pytorch_tanh or gelu",
                        path, activation);
  return GD_OK;
}

static gd_status read_rope_kind(const char *path, const char *key, const gd_json *node, gd_rope *rope) {
  const char *type = gd_json_string(gd_json_get(node, "rope_type"));
  if (!type) type = gd_json_string(gd_json_get(node, "type"));
  if (type && strcmp(type, "default") == 0) return GD_OK;
  rope->kind = type && strcmp(type, "linear") == 0 ? GD_ROPE_LINEAR : GD_ROPE_LLAMA3;
  if (rope->kind == GD_ROPE_LLAMA3 && (!type || strcmp(type, "llama3") != 0))
    return gd_fail_user(GD_BAD_DATA, "%s: %s: found the rotary kind \"%.32s\", expected default, linear or llama3", path, key,
                        type ? type : "(none)");
  GD_TRY(get_number(path, node, "factor", 0, &rope->factor));
  if (!(rope->factor >= 1)) return gd_fail_user(GD_BAD_DATA, "%s: %s: factor: expected a number from 1", path, key);
  if (rope->kind == GD_ROPE_LINEAR) return GD_OK;
  GD_TRY(get_number(path, node, "low_freq_factor", rope->low, &rope->low));
  GD_TRY(get_number(path, node, "high_freq_factor", rope->high, &rope->high));
  GD_TRY(get_size(path, node, "original_max_position_embeddings", rope->original, &rope->original));
  if (rope->high > rope->low) return GD_OK;
  return gd_fail_user(GD_BAD_DATA, "%s: %s: high_freq_factor: found %g, expected more than low_freq_factor %g", path, key,
                      (double)rope->high, (double)rope->low);
}

/* Older files have rope_theta and rope_scaling, newer ones rope_parameters {rope_type, rope_theta}. */
static gd_status read_rope(const char *path, const gd_json *root, gd_model_spec *m) {
  static const char *const keys[] = {"rope_scaling", "rope_parameters"};
  GD_TRY(get_number(path, root, "rope_theta", 10000, &m->rope_theta));
  m->rope = (gd_rope){.kind = GD_ROPE_PLAIN, .factor = 1, .low = 1, .high = 4, .original = m->context};
  for (int i = 0; i < 2; i++) {
    const gd_json *node = gd_json_get(root, keys[i]);
    float share;
    if (is_null(node)) continue;
    GD_TRY(read_rope_kind(path, keys[i], node, &m->rope));
    GD_TRY(get_number(path, node, "rope_theta", m->rope_theta, &m->rope_theta));
    GD_TRY(get_number(path, node, "partial_rotary_factor", 1, &share));
    if (share != 1)
      return gd_fail_user(GD_BAD_DATA, "%s: %s: partial_rotary_factor: found %g, only 1 is supported", path, keys[i],
                          (double)share);
  }
  if (m->rope.kind == GD_ROPE_PLAIN) m->rope.original = 8192; /* as in a run file that does not name it */
  return GD_OK;
}

/* Attention to the last tokens alone. What is as wide as the context says nothing. */
static gd_status refuse_window(const char *path, const gd_json *root, const gd_model_spec *m) {
  int32_t window;
  GD_TRY(get_size(path, root, "sliding_window", m->context, &window));
  for (const gd_json *type = gd_json_first(gd_json_get(root, "layer_types")); type; type = gd_json_next(type)) {
    const char *text = gd_json_string(type);
    if (!text || strcmp(text, "full_attention") != 0)
      return gd_fail_user(GD_BAD_DATA, "%s: layer_types: found \"%.32s\", expected full_attention", path, text ? text : "");
  }
  if (window >= m->context) return GD_OK;
  return gd_fail_user(GD_BAD_DATA, "%s: sliding_window: found %d, expected null or at least the context of %d", path, window,
                      m->context);
}

static gd_status read_biases(const char *path, const gd_json *root, gd_family family, gd_model_spec *m) {
  bool attention = false, mlp = false, window = false;
  if (family == GD_FAMILY_LLAMA) {
    GD_TRY(get_boolean(path, root, "attention_bias", false, &attention));
    GD_TRY(get_boolean(path, root, "mlp_bias", false, &mlp));
  }
  int bias = (attention ? GD_BIAS_QKV | GD_BIAS_PROJECTION : 0) | (mlp ? GD_BIAS_MLP : 0);
  m->bias = family == GD_FAMILY_QWEN2 ? GD_BIAS_QKV : (gd_bias)bias;
  if (family == GD_FAMILY_QWEN2) GD_TRY(get_boolean(path, root, "use_sliding_window", false, &window));
  return window || family == GD_FAMILY_MISTRAL ? refuse_window(path, root, m) : GD_OK;
}

static gd_status read_llama(const char *path, const gd_json *root, gd_family family, gd_model_spec *m) {
  m->norm = GD_NORM_RMSNORM;
  m->position = GD_POSITION_ROTARY;
  m->activation = GD_ACTIVATION_SWIGLU;
  GD_TRY(get_size(path, root, "vocab_size", 0, &m->vocabulary));
  GD_TRY(get_size(path, root, "hidden_size", 0, &m->width));
  GD_TRY(get_size(path, root, "num_attention_heads", 0, &m->heads));
  GD_TRY(get_size(path, root, "num_key_value_heads", m->heads, &m->kv_heads));
  GD_TRY(get_size(path, root, "num_hidden_layers", 0, &m->layers));
  GD_TRY(get_size(path, root, "max_position_embeddings", 2048, &m->context));
  GD_TRY(get_size(path, root, "intermediate_size", 0, &m->ffn));
  GD_TRY(get_number(path, root, "rms_norm_eps", 1e-6f, &m->norm_epsilon));
  GD_TRY(get_boolean(path, root, "tie_word_embeddings", false, &m->tied_head));
  GD_TRY(read_biases(path, root, family, m));
  GD_TRY(read_rope(path, root, m));
  if (!is_null(gd_json_get(root, "head_dim"))) GD_TRY(get_size(path, root, "head_dim", 0, &m->head_size));
  const char *activation = gd_json_string(gd_json_get(root, "hidden_act"));
  if (activation && strcmp(activation, "silu") != 0)
    return gd_fail_user(GD_BAD_DATA, "%s: hidden_act: found \"%.32s\", expected silu", path, activation);
  return GD_OK;
}

/* model_type, and the classes without a head, with one, with a classifier */
static const struct architecture {
  const char *type, *inner, *causal, *classifier;
  gd_family family;
} architectures[] = {{"gpt2", "GPT2Model", "GPT2LMHeadModel", "GPT2ForSequenceClassification", GD_FAMILY_GPT2},
                     {"llama", "LlamaModel", "LlamaForCausalLM", "LlamaForSequenceClassification", GD_FAMILY_LLAMA},
                     {"mistral", "MistralModel", "MistralForCausalLM", "MistralForSequenceClassification", GD_FAMILY_MISTRAL},
                     {"qwen2", "Qwen2Model", "Qwen2ForCausalLM", "Qwen2ForSequenceClassification", GD_FAMILY_QWEN2}};

/* id2label: {"0": "ham", "1": "spam"}; left out: LABEL_0, LABEL_1 and so on, num_labels of them, or two. */
static gd_status read_labels(const char *path, const gd_json *root, gd_data_task *task) {
  const gd_json *map = gd_json_get(root, "id2label");
  char key[16], preset[24];
  int32_t count = 0;
  for (const gd_json *at = gd_json_first(map); at; at = gd_json_next(at)) count++;
  if (is_null(map)) GD_TRY(get_size(path, root, "num_labels", 2, &count));
  if (!count || count > GD_TASK_LABELS)
    return gd_fail_user(GD_BAD_DATA, "%s: id2label, num_labels: expected 1 to %d labels", path, GD_TASK_LABELS);
  task->labels = calloc((size_t)count, sizeof *task->labels);
  if (!task->labels) return gd_fail(GD_NO_MEMORY, "no memory for %d labels", count);
  for (int32_t i = 0; i < count; i++) {
    snprintf(key, sizeof key, "%d", i);
    snprintf(preset, sizeof preset, "LABEL_%d", i);
    const char *label = is_null(map) ? preset : gd_json_string(gd_json_get(map, key));
    if (!label || !label[0] || gd_data_task_find_label(task, label) >= 0)
      return gd_fail_user(GD_BAD_DATA, "%s: id2label: expected a label of its own for each of \"0\" to \"%d\"", path,
                          count - 1);
    task->labels[i] = strdup(label);
    if (!task->labels[i]) return gd_fail(GD_NO_MEMORY, "no memory for %d labels", count);
    task->label_count++;
  }
  return GD_OK;
}

static gd_status read_task(const char *path, const gd_json *root, gd_huggingface_config *out) {
  const char *type = gd_json_string(gd_json_get(root, "problem_type"));
  gd_data_task *task = &out->task;
  task->kind = GD_TASK_CLASSIFICATION;
  GD_TRY(read_labels(path, root, task));
  task->multiple = type && strcmp(type, "multi_label_classification") == 0;
  out->model.classes = task->label_count;
  bool known = task->multiple || (task->label_count > 1 && (!type || strcmp(type, "single_label_classification") == 0));
  if (known) return GD_OK;
  return gd_fail_user(GD_BAD_DATA,
                      "%s: problem_type: found \"%.32s\" with %d label%s, expected multi_label_classification, or "
                      "single_label_classification with two or more",
                      path, type ? type : "(none)", task->label_count, task->label_count == 1 ? "" : "s");
}

static gd_status find_architecture(const char *path, const gd_json *root, gd_huggingface_config *out) {
  const char *name = gd_json_string(gd_json_first(gd_json_get(root, "architectures")));
  const char *type = gd_json_string(gd_json_get(root, "model_type"));
  for (size_t i = 0; i < sizeof architectures / sizeof *architectures; i++) {
    const struct architecture *at = &architectures[i];
    bool classifier = name && strcmp(name, at->classifier) == 0;
    bool found = name ? classifier || strcmp(name, at->inner) == 0 || strcmp(name, at->causal) == 0
                      : type && strcmp(type, at->type) == 0;
    if (!found) continue;
    out->task.kind = classifier ? GD_TASK_CLASSIFICATION : GD_TASK_LM;
    out->family = at->family;
    out->llama = at->family != GD_FAMILY_GPT2;
    return GD_OK;
  }
  return gd_fail_user(GD_BAD_DATA,
                      "%s: architectures: found \"%.64s\", expected GPT2Model, LlamaModel, MistralModel or Qwen2Model, "
                      "GPT2LMHeadModel, LlamaForCausalLM, MistralForCausalLM or Qwen2ForCausalLM, or one of their "
                      "ForSequenceClassification",
                      path,
                      name   ? name
                      : type ? type
                             : "(none)");
}

static gd_status read_all(const char *path, const gd_json *root, gd_huggingface_config *out) {
  if (!gd_json_is_object(root)) return gd_fail_user(GD_BAD_DATA, "%s: is no JSON object", path);
  GD_TRY(find_architecture(path, root, out));
  gd_model_spec *m = &out->model;
  GD_TRY(out->llama ? read_llama(path, root, out->family, m) : read_gpt2(path, root, m));
  if (out->task.kind == GD_TASK_CLASSIFICATION) GD_TRY(read_task(path, root, out));
  if (!m->head_size && m->width % m->heads)
    return gd_fail_user(GD_BAD_DATA, "%s: a width of %d is not a multiple of %d heads", path, m->width, m->heads);
  if (!m->head_size) m->head_size = m->width / m->heads;
  if (m->kv_heads > m->heads || m->heads % m->kv_heads)
    return gd_fail_user(GD_BAD_DATA, "%s: %d key/value heads do not divide %d heads", path, m->kv_heads, m->heads);
  return GD_OK;
}

gd_status gd_huggingface_config_read(const char *folder, gd_huggingface_config *out) {
  char path[GD_PATH_BYTES];
  memset(out, 0, sizeof *out);
  GD_TRY(gd_path_join(path, sizeof path, folder, "config.json"));
  if (!gd_file_exists(path)) return gd_fail_user(GD_USAGE, "%s: not there: %s is no Hugging Face model folder", path, folder);
  gd_json *root = NULL;
  GD_TRY(gd_json_read(path, CONFIG_LIMIT, &root));
  gd_status status = read_all(path, root, out);
  gd_json_free(root);
  return status;
}

void gd_huggingface_config_free(gd_huggingface_config *config) {
  gd_data_task_free(&config->task);
}
