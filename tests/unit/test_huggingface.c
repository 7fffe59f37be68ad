/* Hugging Face model folders: real models come in with every element at its place, and what is not supported is named. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <unistd.h>

#include "io/config/config.h"
#include "io/base/files.h"
#include "io/checkpoint/huggingface.h"
#include "io/checkpoint/huggingface_config.h"
#include "io/checkpoint/safetensors.h"
#include "shard/base/log.h"
#include "shard/layout.h"

static char folder[GD_PATH_BYTES];

static int setup(void **state) {
  (void)state;
  strcpy(folder, "/tmp/gptdist-huggingface-XXXXXX");
  return mkdtemp(folder) ? 0 : 1;
}

static int teardown(void **state) {
  (void)state;
  return gd_folder_remove(folder) == GD_OK ? 0 : 1;
}

static void model_folder(const char *name, char out[GD_PATH_BYTES]) {
  snprintf(out, GD_PATH_BYTES, "%s/../shared/data/models/%s", GD_SOURCE_DIR, name);
  if (gd_folder_exists(out)) return;
  print_message("skipped: no ../shared/data\n");
  skip();
}

static gd_huggingface *open_model(const char *path) {
  gd_huggingface *model = NULL;
  gd_status status = gd_huggingface_open(path, &model);
  if (status != GD_OK) print_message("%s\n", gd_error_text());
  assert_int_equal(status, GD_OK);
  return model;
}

/* The tensors of the model's spec as the layout names them. */
static void layout_of(const gd_huggingface *model, gd_spec *spec, gd_layout *layout) {
  gd_mesh mesh;
  gd_config_defaults(spec);
  spec->model.head_size = 77; /* everything of the model is replaced */
  assert_int_equal(gd_huggingface_spec(model, spec), GD_OK);
  spec->batch.global = spec->batch.micro = 1;
  spec->run.steps = 10;
  assert_int_equal(gd_mesh_init(&mesh, 1, 1, 1, 1), GD_OK);
  gd_status status = gd_spec_resolve(spec, 1);
  if (status != GD_OK) print_message("%s\n", gd_error_text());
  assert_int_equal(status, GD_OK);
  assert_int_equal(gd_layout_create(spec, &mesh, 0, layout), GD_OK);
}

static int32_t index_of(const gd_layout *layout, const char *name) {
  for (int32_t t = 0; t < layout->tensor_count; t++)
    if (strcmp(layout->tensors[t].name, name) == 0) return t;
  fail_msg("no tensor %s", name);
  return -1;
}

static float *read_whole(const gd_huggingface *model, const gd_layout *layout, const char *name) {
  int32_t t = index_of(layout, name);
  gd_checkpoint_box box = {t, GD_KIND_WEIGHTS, {0, layout->tensors[t].rows, 0, layout->tensors[t].cols}, NULL};
  box.data = malloc((size_t)gd_box_elements(box.box) * sizeof *box.data);
  gd_status status = gd_huggingface_read(model, layout->tensors, &box, 1);
  if (status != GD_OK) print_message("%s\n", gd_error_text());
  assert_int_equal(status, GD_OK);
  return box.data;
}

static float *read_theirs(const char *path, const char *name, int64_t rows, int64_t cols) {
  char file_path[GD_PATH_BYTES];
  gd_safetensors *file = NULL;
  float *out = malloc((size_t)(rows * cols) * sizeof *out);
  assert_int_equal(gd_path_join(file_path, sizeof file_path, path, "model.safetensors"), GD_OK);
  assert_int_equal(gd_safetensors_open(file_path, &file), GD_OK);
  assert_int_equal(gd_safetensors_read(file, gd_safetensors_find(file, name), (gd_box){0, rows, 0, cols}, out), GD_OK);
  gd_safetensors_close(file);
  return out;
}

static void test_a_gpt2_model_comes_in_with_every_element_at_its_place(void **state) {
  (void)state;
  char path[GD_PATH_BYTES];
  gd_spec spec;
  gd_layout layout;
  model_folder("tiny_gpt2", path);
  gd_huggingface *model = open_model(path);
  layout_of(model, &spec, &layout);
  assert_int_equal(spec.model.layers, 1);
  assert_int_equal(spec.model.width, 2);
  assert_int_equal(spec.model.ffn, 8);
  assert_int_equal(spec.model.vocabulary, 21);
  assert_int_equal(spec.model.context, 1024);
  assert_true(spec.model.tied_head && spec.model.bias);
  assert_int_equal(spec.model.activation, GD_ACTIVATION_GELU_TANH);
  for (int32_t t = 0; t < layout.tensor_count; t++) free(read_whole(model, &layout, layout.tensors[t].name));
  float *fused = read_theirs(path, "h.0.attn.c_attn.weight", 2, 6), *bias = read_theirs(path, "h.0.attn.c_attn.bias", 6, 1);
  static const char *const parts[] = {"query", "key", "value"};
  for (int p = 0; p < 3; p++) {
    char name[64];
    snprintf(name, sizeof name, "layers.0.attention.%s.weight", parts[p]);
    float *ours = read_whole(model, &layout, name);
    for (int r = 0; r < 2; r++)
      for (int c = 0; c < 2; c++) assert_true(ours[r * 2 + c] == fused[c * 6 + p * 2 + r]);
    free(ours);
    snprintf(name, sizeof name, "layers.0.attention.%s.bias", parts[p]);
    ours = read_whole(model, &layout, name);
    assert_memory_equal(ours, bias + (ptrdiff_t)p * 2, 2 * sizeof *ours);
    free(ours);
  }
  float *down = read_theirs(path, "h.0.mlp.c_proj.weight", 8, 2),
        *ours = read_whole(model, &layout, "layers.0.mlp.down.weight");
  for (int r = 0; r < 2; r++)
    for (int c = 0; c < 8; c++) assert_true(ours[r * 8 + c] == down[c * 2 + r]);
  float part[6];
  gd_checkpoint_box box = {index_of(&layout, "layers.0.mlp.down.weight"), GD_KIND_WEIGHTS, {1, 1, 3, 4}, part};
  assert_int_equal(gd_huggingface_read(model, layout.tensors, &box, 1), GD_OK);
  assert_memory_equal(part, ours + 8 + 3, 4 * sizeof *part);
  free(fused), free(bias), free(down), free(ours);
  gd_layout_free(&layout);
  gd_huggingface_close(model);
}

static void test_a_llama_model_comes_in_and_its_table_equals_the_original_file(void **state) {
  (void)state;
  char path[GD_PATH_BYTES], original[GD_PATH_BYTES];
  gd_spec spec;
  gd_layout layout;
  model_folder("stories260K", path);
  gd_huggingface *model = open_model(path);
  layout_of(model, &spec, &layout);
  assert_int_equal(spec.model.kv_heads, 4);
  assert_int_equal(spec.model.head_size, 8);
  assert_int_equal(spec.model.ffn, 172);
  assert_true(spec.model.tied_head && !spec.model.bias);
  assert_int_equal(spec.model.norm, GD_NORM_RMSNORM);
  assert_int_equal(spec.model.activation, GD_ACTIVATION_SWIGLU);
  assert_int_equal(gd_spec_parameters(&spec), 260032);
  int64_t elements = 0;
  for (int32_t t = 0; t < layout.tensor_count; t++) {
    free(read_whole(model, &layout, layout.tensors[t].name));
    elements += layout.tensors[t].rows * layout.tensors[t].cols;
  }
  assert_int_equal(elements, 260032);
  gd_bytes bytes = {0};
  assert_int_equal(gd_path_join(original, sizeof original, path, "stories260K.bin"), GD_OK);
  assert_int_equal(gd_file_read(original, 1 << 24, &bytes), GD_OK);
  float *table = read_whole(model, &layout, "token_embedding.weight");
  assert_memory_equal(table, bytes.bytes + 7 * 4, 512 * 64 * sizeof *table);
  float *key = read_whole(model, &layout, "layers.4.attention.key.weight");
  float *theirs = read_theirs(path, "model.layers.4.self_attn.k_proj.weight", 32, 64);
  assert_memory_equal(key, theirs, 32 * 64 * sizeof *key);
  free(table), free(key), free(theirs);
  gd_bytes_free(&bytes);
  gd_layout_free(&layout);
  gd_huggingface_close(model);
}

/* ---- folders made here ---- */

static void write_text(const char *name, const char *text) {
  char path[GD_PATH_BYTES];
  assert_int_equal(gd_path_join(path, sizeof path, folder, name), GD_OK);
  assert_int_equal(gd_file_write(path, text, strlen(text)), GD_OK);
}

static void write_tensor_file(const char *name, const char *header, const float *data, size_t count) {
  char path[GD_PATH_BYTES];
  uint64_t length = strlen(header);
  assert_int_equal(gd_path_join(path, sizeof path, folder, name), GD_OK);
  FILE *file = fopen(path, "wb");
  fwrite(&length, 8, 1, file);
  fwrite(header, length, 1, file);
  fwrite(data, sizeof *data, count, file);
  fclose(file);
}

static const char llama_config[] =
    "{\"architectures\":[\"LlamaForCausalLM\"],\"hidden_size\":4,\"intermediate_size\":8,\"num_attention_heads\":2,"
    "\"num_hidden_layers\":1,\"vocab_size\":3%s}";

static void test_shards_of_an_index_are_found_and_missing_tensors_named(void **state) {
  (void)state;
  float table[12], norm[4] = {1, 2, 3, 4};
  char config[512];
  for (int i = 0; i < 12; i++) table[i] = (float)i;
  snprintf(config, sizeof config, llama_config, "");
  write_text("config.json", config);
  write_tensor_file("model-1.safetensors",
                    "{\"model.embed_tokens.weight\":{\"dtype\":\"F32\",\"shape\":[3,4],\"data_offsets\":[0,48]}}", table, 12);
  write_tensor_file("model-2.safetensors",
                    "{\"model.norm.weight\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]},"
                    "\"lm_head.weight\":{\"dtype\":\"F32\",\"shape\":[4,3],\"data_offsets\":[16,64]}}",
                    (float[16]){norm[0], norm[1], norm[2], norm[3]}, 16);
  write_text(
      "model.safetensors.index.json",
      "{\"weight_map\":{\"model.embed_tokens.weight\":\"model-1.safetensors\",\"model.norm.weight\":\"model-2.safetensors\","
      "\"lm_head.weight\":\"model-2.safetensors\"}}");
  gd_huggingface *model = open_model(folder);
  gd_spec spec;
  gd_layout layout;
  layout_of(model, &spec, &layout);
  assert_false(spec.model.tied_head);
  float *ours = read_whole(model, &layout, "final_norm.weight");
  assert_memory_equal(ours, norm, sizeof norm);
  free(ours);
  float out[64];
  gd_checkpoint_box box = {index_of(&layout, "head.weight"), GD_KIND_WEIGHTS, {0, 3, 0, 4}, out};
  assert_int_equal(gd_huggingface_read(model, layout.tensors, &box, 1), GD_BAD_DATA);
  assert_non_null(strstr(gd_error_text(), "lm_head.weight is 4 x 3, config.json makes it 3 x 4"));
  box = (gd_checkpoint_box){index_of(&layout, "layers.0.mlp.gate.weight"), GD_KIND_WEIGHTS, {0, 8, 0, 4}, out};
  assert_int_equal(gd_huggingface_read(model, layout.tensors, &box, 1), GD_BAD_DATA);
  assert_non_null(strstr(gd_error_text(), "has no tensor model.layers.0.mlp.gate_proj.weight (for layers.0.mlp.gate.weight)"));
  box.kind = GD_KIND_FIRST;
  assert_int_equal(gd_huggingface_read(model, layout.tensors, &box, 1), GD_BAD_DATA);
  gd_layout_free(&layout);
  gd_huggingface_close(model);
}

static void test_what_is_not_supported_is_named_with_its_key(void **state) {
  (void)state;
  static const struct {
    const char *config, *text;
  } cases[] = {
      {"{\"architectures\":[\"MambaForCausalLM\"]}", "architectures: found \"MambaForCausalLM\""},
      {"{\"model_type\":\"bert\"}", "found \"bert\""},
      {"[]", "no JSON object"},
      {"{\"architectures\":[\"GPT2Model\"],\"n_embd\":4,\"n_head\":2,\"n_layer\":1,\"vocab_size\":3,\"activation_function\":"
       "\"relu\"}",
       "activation_function: found \"relu\""},
      {"{\"architectures\":[\"GPT2Model\"],\"n_embd\":4,\"n_head\":2,\"n_layer\":1}", "vocab_size is missing"},
      {"{\"architectures\":[\"GPT2Model\"],\"n_embd\":4,\"n_head\":3,\"n_layer\":1,\"vocab_size\":3}",
       "not a multiple of 3 heads"},
      {"{\"architectures\":[\"GPT2Model\"],\"n_embd\":4,\"n_head\":2,\"n_layer\":1,\"vocab_size\":3,"
       "\"scale_attn_by_inverse_layer_idx\":true}",
       "scale_attn_by_inverse_layer_idx: found true"},
      {"{\"architectures\":[\"LlamaForCausalLM\"],\"hidden_size\":-4}", "vocab_size is missing"},
  };
  static const char *const more[][2] = {
      {",\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":2.0}",
       "rope_scaling: found the rotary kind \"dynamic\", expected default, linear or llama3"},
      {",\"rope_parameters\":{\"rope_type\":\"yarn\"}", "rope_parameters: found the rotary kind \"yarn\""},
      {",\"rope_scaling\":{}", "rope_scaling: found the rotary kind \"(none)\""},
      {",\"rope_scaling\":{\"type\":\"linear\",\"factor\":0.5}", "rope_scaling: factor: expected a number from 1"},
      {",\"rope_scaling\":{\"rope_type\":\"llama3\"}", "rope_scaling: factor: expected a number from 1"},
      {",\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":4,\"high_freq_factor\":4}",
       "high_freq_factor: found 4, expected more than low_freq_factor 4"},
      {",\"rope_parameters\":{\"rope_type\":\"default\",\"partial_rotary_factor\":0.5}",
       "partial_rotary_factor: found 0.5, only 1"},
      {",\"hidden_act\":\"gelu\"", "hidden_act: found \"gelu\""},
      {",\"num_key_value_heads\":3", "3 key/value heads do not divide 2"},
      {",\"rms_norm_eps\":\"tiny\"", "rms_norm_eps: expected a positive number"},
      {"", "found neither model.safetensors nor"},
  };
  static const char mistral[] =
      "{\"architectures\":[\"MistralForCausalLM\"],\"hidden_size\":4,\"intermediate_size\":8,"
      "\"num_attention_heads\":2,\"num_hidden_layers\":1,\"vocab_size\":3,"
      "\"max_position_embeddings\":64,\"sliding_window\":16}";
  static const char qwen2[] =
      "{\"architectures\":[\"Qwen2ForCausalLM\"],\"hidden_size\":4,\"intermediate_size\":8,"
      "\"num_attention_heads\":2,\"num_hidden_layers\":1,\"vocab_size\":3,"
      "\"use_sliding_window\":true,\"layer_types\":[\"sliding_attention\"]}";
  gd_huggingface *model = NULL;
  assert_int_equal(gd_huggingface_open(folder, &model), GD_USAGE);
  write_text("config.json", mistral);
  assert_int_equal(gd_huggingface_open(folder, &model), GD_BAD_DATA);
  assert_non_null(strstr(gd_error_text(), "sliding_window: found 16, expected null or at least the context of 64"));
  write_text("config.json", qwen2);
  assert_int_equal(gd_huggingface_open(folder, &model), GD_BAD_DATA);
  assert_non_null(strstr(gd_error_text(), "layer_types: found \"sliding_attention\""));
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    write_text("config.json", cases[i].config);
    assert_int_equal(gd_huggingface_open(folder, &model), GD_BAD_DATA);
    if (!strstr(gd_error_text(), cases[i].text)) fail_msg("\"%s\" is not in \"%s\"", cases[i].text, gd_error_text());
  }
  for (size_t i = 0; i < sizeof more / sizeof *more; i++) {
    char config[512];
    snprintf(config, sizeof config, llama_config, more[i][0]);
    write_text("config.json", config);
    assert_int_equal(gd_huggingface_open(folder, &model), GD_BAD_DATA);
    if (!strstr(gd_error_text(), more[i][1])) fail_msg("\"%s\" is not in \"%s\"", more[i][1], gd_error_text());
  }
}

/* A folder of the tensors of `names` ("NAME ROWS COLS", COLS 0: a vector), which count on from 1; two that must be equal: "=".
 */
static void write_folder(const char *config, const char *const *names) {
  static float data[4096];
  gd_bytes header = {0};
  int64_t elements = 0, table = 0;
  write_text("config.json", config);
  for (; *names; names++) {
    char name[100], equal[2] = "";
    int rows, cols;
    assert_true(sscanf(*names, "%99s %d %d %1s", name, &rows, &cols, equal) >= 3);
    int64_t count = (int64_t)rows * (cols ? cols : 1);
    if (strstr(name, "embed_tokens") || strstr(name, "wte")) table = elements;
    for (int64_t i = 0; i < count; i++) data[elements + i] = *equal ? data[table + i] : (float)(elements + i + 1);
    assert_int_equal(gd_bytes_printf(&header, "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[%d", elements ? "," : "{", name, rows),
                     GD_OK);
    if (cols) assert_int_equal(gd_bytes_printf(&header, ",%d", cols), GD_OK);
    assert_int_equal(gd_bytes_printf(&header, "],\"data_offsets\":[%d,%d]}", (int)elements * 4, (int)(elements + count) * 4),
                     GD_OK);
    elements += count;
  }
  assert_int_equal(gd_bytes_append(&header, "}", 1), GD_OK);
  write_tensor_file("model.safetensors", header.bytes, data, (size_t)elements);
  gd_bytes_free(&header);
}

static const char gpt2_config[] =
    "{\"architectures\":[\"GPT2LMHeadModel\"],\"n_embd\":4,\"n_head\":2,\"n_layer\":1,"
    "\"vocab_size\":3%s}";

static int warnings;

static void count_warnings(void *context, gd_log_level level, const char *line) {
  (void)context;
  warnings += level == GD_LOG_WARNING && strstr(line, "lm_head.weight is not the token embedding");
}

static void test_a_head_that_is_not_the_embedding_is_used_whatever_the_config_says(void **state) {
  (void)state;
  static const char tie[] = ",\"tie_word_embeddings\":true", untie[] = ",\"tie_word_embeddings\":false";
  static const struct {
    const char *config, *more, *table, *head;
    bool tied, warned;
  } cases[] = {
      {gpt2_config, "", "wte.weight 3 4", "lm_head.weight 3 4", false, true},
      {gpt2_config, tie, "transformer.wte.weight 3 4", "lm_head.weight 3 4", false, true},
      {gpt2_config, untie, "wte.weight 3 4", "lm_head.weight 3 4", false, false},
      {gpt2_config, "", "wte.weight 3 4", "lm_head.weight 3 4 =", true, false},
      {gpt2_config, untie, "wte.weight 3 4", "lm_head.weight 3 4 =", false, false},
      {gpt2_config, "", "wte.weight 3 4", NULL, true, false},
      {llama_config, "", "model.embed_tokens.weight 3 4", "lm_head.weight 3 4", false, false},
      {llama_config, tie, "model.embed_tokens.weight 3 4", "lm_head.weight 3 4", false, true},
      {llama_config, tie, "model.embed_tokens.weight 3 4", "lm_head.weight 3 4 =", true, false},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char config[512];
    gd_spec spec;
    gd_layout layout;
    snprintf(config, sizeof config, cases[i].config, cases[i].more);
    write_folder(config, (const char *const[]){cases[i].table, cases[i].head, NULL});
    warnings = 0;
    gd_log_set_sink(count_warnings, NULL);
    gd_huggingface *model = open_model(folder);
    layout_of(model, &spec, &layout);
    gd_log_set_sink(NULL, NULL);
    if (spec.model.tied_head != cases[i].tied || warnings != cases[i].warned) fail_msg("case %zu", i);
    if (!spec.model.tied_head) {
      float *head = read_whole(model, &layout, "head.weight");
      for (int k = 0; k < 12; k++) assert_true(head[k] == (float)(k + (strchr(cases[i].head, '=') ? 1 : 13)));
      free(head);
    }
    gd_layout_free(&layout);
    gd_huggingface_close(model);
  }
}

static void test_one_other_element_is_another_head(void **state) {
  (void)state;
  char config[512], path[GD_PATH_BYTES];
  gd_spec spec;
  snprintf(config, sizeof config, gpt2_config, "");
  assert_int_equal(gd_path_join(path, sizeof path, folder, "model.safetensors"), GD_OK);
  write_folder(config, (const char *const[]){"wte.weight 3 4", "lm_head.weight 3 4 =", NULL});
  FILE *file = fopen(path, "r+b");
  assert_int_equal(fseek(file, -4, SEEK_END), 0);
  fwrite(&(float){12.5f}, 4, 1, file);
  fclose(file);
  gd_huggingface *model = open_model(folder);
  gd_config_defaults(&spec);
  assert_int_equal(gd_huggingface_spec(model, &spec), GD_OK);
  assert_false(spec.model.tied_head);
  gd_huggingface_close(model);
}

static void test_a_tensor_without_use_is_refused_by_name(void **state) {
  (void)state;
  static const struct {
    const char *config, *table, *other; /* NULL text below: fine */
    const char *text;
  } cases[] = {
      {gpt2_config, "wte.weight 3 4", "h.0.attn.bias 1 1", NULL},
      {gpt2_config, "transformer.wte.weight 3 4", "transformer.h.0.attn.masked_bias 1 0", NULL},
      {llama_config, "model.embed_tokens.weight 3 4", "model.layers.0.self_attn.rotary_emb.inv_freq 1 0", NULL},
      {llama_config, "model.embed_tokens.weight 3 4", "model.rotary_emb.inv_freq 1 0", NULL},
      {gpt2_config, "wte.weight 3 4", "score.weight 2 4", "has no use for: score.weight"},
      {gpt2_config, "wte.weight 3 4", "h.1.ln_1.weight 4 0", "(layers 1) has no use for: h.1.ln_1.weight"},
      {gpt2_config, "wte.weight 3 4", "h.00.ln_1.weight 4 0", "has no use for: h.00.ln_1.weight"},
      {gpt2_config, "transformer.wte.weight 3 4", "wte.weight 3 4", "has no use for: wte.weight"},
      {gpt2_config, "wte.weight 3 4", "h.0.attn.biases 4 0", "has no use for: h.0.attn.biases"},
      {gpt2_config, "wte.weight 3 4", "h.0.crossattention.c_attn.weight 4 8", "h.0.crossattention.c_attn.weight"},
      {llama_config, "model.embed_tokens.weight 3 4", "model.layers.0.self_attn.q_proj.bias 4 0",
       "(layers 1, no bias) has no use for: model.layers.0.self_attn.q_proj.bias"},
      {llama_config, "model.embed_tokens.weight 3 4", "model.layers.0.self_attn.q_norm.weight 2 0", "q_norm.weight"},
      {llama_config, "model.embed_tokens.weight 3 4", "model.layers.0.attn.bias 1 1", "attn.bias"},
  };
  char config[512];
  gd_huggingface *model;
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    snprintf(config, sizeof config, cases[i].config, "");
    write_folder(config, (const char *const[]){cases[i].table, cases[i].other, NULL});
    gd_status status = gd_huggingface_open(folder, &model);
    if (status != (cases[i].text ? GD_BAD_DATA : GD_OK)) fail_msg("case %zu: status %d", i, (int)status);
    if (cases[i].text && !strstr(gd_error_text(), cases[i].text))
      fail_msg("\"%s\" is not in \"%s\"", cases[i].text, gd_error_text());
    gd_huggingface_close(model);
  }
  char names[20][32];
  const char *list[22] = {"wte.weight 3 4"};
  for (int i = 0; i < 20; i++) {
    snprintf(names[i], sizeof names[i], "extra%02d 1 1", i);
    list[i + 1] = names[i];
  }
  snprintf(config, sizeof config, gpt2_config, "");
  write_folder(config, list);
  assert_int_equal(gd_huggingface_open(folder, &model), GD_BAD_DATA);
  assert_non_null(strstr(gd_error_text(), "extra00, extra01, "));
  assert_non_null(strstr(gd_error_text(), "extra11 and 8 more"));
}

static void test_labels_without_names_are_as_many_as_the_config_says(void **state) {
  (void)state;
  static const struct {
    const char *text;
    int32_t count;
    const char *last;
  } cases[] = {{"", 2, "LABEL_1"},
               {",\"num_labels\":5", 5, "LABEL_4"},
               {",\"num_labels\":5,\"id2label\":{\"0\":\"a\",\"1\":\"b\",\"2\":\"c\"}", 3, "c"},
               {",\"num_labels\":0", 0, "num_labels: expected a positive whole number"},
               {",\"num_labels\":100000000", 0, "id2label, num_labels: expected 1 to "}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    gd_huggingface_config read = {0};
    char config[400];
    snprintf(
        config, sizeof config,
        "{\"architectures\":[\"GPT2ForSequenceClassification\"],\"n_embd\":4,\"n_head\":2,\"n_layer\":1,\"vocab_size\":3%s}",
        cases[i].text);
    write_text("config.json", config);
    assert_int_equal(gd_huggingface_config_read(folder, &read), cases[i].count ? GD_OK : GD_BAD_DATA);
    if (cases[i].count) {
      assert_int_equal(read.task.label_count, cases[i].count);
      assert_string_equal(read.task.labels[cases[i].count - 1], cases[i].last);
    } else if (!strstr(gd_error_text(), cases[i].last)) {
      fail_msg("\"%s\" is not in \"%s\"", cases[i].last, gd_error_text());
    }
    gd_huggingface_config_free(&read);
  }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
  const struct CMUnitTest tests[] = {
      TEST(test_a_gpt2_model_comes_in_with_every_element_at_its_place),
      TEST(test_a_llama_model_comes_in_and_its_table_equals_the_original_file),
      TEST(test_shards_of_an_index_are_found_and_missing_tensors_named),
      TEST(test_a_head_that_is_not_the_embedding_is_used_whatever_the_config_says),
      TEST(test_one_other_element_is_another_head),
      TEST(test_a_tensor_without_use_is_refused_by_name),
      TEST(test_what_is_not_supported_is_named_with_its_key),
      TEST(test_labels_without_names_are_as_many_as_the_config_says),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
