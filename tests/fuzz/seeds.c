/* seeds.c - what each fuzzer begins with: small files as our own writers make them, or, where gptdist only reads a format, made
 * here by hand; where a reader has a limit, one that comes up to it. Nothing is stored. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "io/base/files.h"
#include "io/checkpoint/manifest.h"
#include "io/config/config.h"
#include "io/data/split.h"
#include "io/tokenizer/tokenizer.h"
#include "io/tokenizer/train.h"
#include "io/data/chat_template.h"
#include "tests/fuzz/fuzz.h"

static const char mark[] = "\n%%\n";
static const char sample[] =
    "In the beginning God created the heaven and the earth. The cat's 12 \xc3\xa9t\xc3\xa9s\n\n  \xe4\xb8\xad\xe6\x96\x87 the";

static void put(gd_bytes *out, const void *bytes, size_t count) {
  fuzz_must(gd_bytes_append(out, bytes, count));
}

static void put_file(gd_bytes *out, const char *folder, const char *name) {
  char path[GD_PATH_BYTES];
  fuzz_must(gd_path_join(path, sizeof path, folder, name));
  fuzz_must(gd_file_read(path, 1 << 20, out));
}

static void hand_on(gd_bytes *seed, fuzz_take *take, void *context) {
  take(context, seed->bytes ? seed->bytes : "", seed->count);
  gd_bytes_free(seed);
}

static void take_text(const char *text, fuzz_take *take, void *context) {
  take(context, text, strlen(text));
}

/* ---- run files: those that people copy, and all keys as they are written out ---- */

static void run_file(fuzz_take *take, void *context) {
  static char text[GD_CONFIG_TEXT_BYTES];
  static const char *const names[] = {"models/gpt2-124m.yaml", "runs/bible.yaml"};
  static gd_spec spec;
  gd_bytes seed = {0};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    put_file(&seed, GD_SOURCE_DIR "/cluster-configs", names[i]);
    hand_on(&seed, take, context);
  }
  fuzz_must(gd_config_load(NULL, NULL, 0, &spec, NULL));
  take(context, text, gd_config_write(&spec, text, sizeof text));
  fuzz_must(gd_bytes_printf(&seed, "finetune:\n  train: ["));
  for (int i = 0; i < GD_MAX_PATTERNS; i++) fuzz_must(gd_bytes_printf(&seed, "%sa%d", i ? "," : "", i));
  fuzz_must(gd_bytes_printf(&seed, "]\n"));
  hand_on(&seed, take, context);
  take_text(
      "include: [other.yaml]\nmodel: {layers: 2, heads: 2, width: 8}\ndata: {path: [{path: a, weight: 2}, b]}\n"
      "finetune: {train: [top:2, \"layers.*.norm1.*\"]}\noptimizer: {lr_scale: {\"final_norm.*\": 5, \"layers.0.*\": 0.1}}\n"
      "numerics: invariant\n%%\nmodel: &x\n  context: 16\n  dropout: 1e-1\nrun: {directory: \"a \\u00e9\", steps: 1000}\n",
      take, context);
}

/* ---- checkpoints ---- */

static void manifest(fuzz_take *take, void *context) {
  static gd_tensor tensors[] = {{.name = "final_norm.weight", .dims = 1, .rows = 8, .cols = 1},
                                {.name = "head.weight", .dims = 2, .rows = 16, .cols = 8}};
  static gd_manifest_file files[] = {{.name = "rank-00000.h5", .bytes = 4096}, {.name = "rank-00001.h5", .bytes = 4096}};
  static gd_manifest_file tokenizer = {.name = "gptdist-tokenizer.json", .bytes = 77};
  static gd_stored_box boxes[] = {{.box = {0, 8, 0, 1}},
                                  {.tensor = 1, .box = {0, 8, 0, 8}, .offset = 8},
                                  {.tensor = 1, .box = {8, 8, 0, 8}, .file = 1},
                                  {.kind = 1, .box = {0, 8, 0, 1}, .file = 1, .offset = 64},
                                  {.kind = 2, .box = {0, 8, 0, 1}, .file = 1, .offset = 72}};
  static gd_manifest made;
  made = (gd_manifest){
      .numbers_version = 7, .gptdist_version = "1.2.3", .host = "host", .isa = "generic", .hdf5_version = "1.10.8"};
  fuzz_must(gd_config_load(NULL, NULL, 0, &made.spec, NULL));
  fuzz_must(gd_mesh_init(&made.mesh, 2, 1, 1, 1));
  made.state = (gd_run_state){.step = 4,
                              .tokens = 1 << 20,
                              .draws = 64,
                              .applied_steps = 3,
                              .bad_steps = 1,
                              .best_step = -1,
                              .metric = GD_METRIC_MACRO_F1,
                              .wait = 2,
                              .lr_factor = 0.25};
  made.tensors = tensors;
  made.files = files;
  made.boxes = boxes;
  made.tokenizer = &tokenizer;
  made.tensor_count = made.file_count = made.tokenizer_count = 1;
  made.box_count = 1;
  for (int frozen = 0; frozen < 2; frozen++) { /* the smallest, and one with two files, moments, and a frozen tensor */
    gd_bytes seed = {0};
    fuzz_must(gd_manifest_encode(&made, &seed));
    hand_on(&seed, take, context);
    made.tensor_count = made.file_count = 2;
    made.box_count = 5;
    tensors[1].frozen = true;
  }
  tensors[1].frozen = false;
}

/* raw: as such a file is; else as tests/fuzz/safetensors.h makes one. */
static void put_safetensors(gd_bytes *out, const char *header, size_t data_bytes, bool raw) {
  uint64_t length = strlen(header);
  if (raw) put(out, &length, sizeof length);
  put(out, header, (size_t)length);
  if (!raw) put(out, "\n", 1);
  for (size_t i = 0; i < data_bytes; i++) put(out, &(char){(char)(i * 37)}, 1);
}

static void safetensors(fuzz_take *take, void *context) {
  for (int raw = 0; raw < 2; raw++) {
    gd_bytes seed = {0};
    put_safetensors(&seed,
                    "{\"__metadata__\":{\"format\":\"pt\"},\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
                    "\"b\":{\"dtype\":\"F16\",\"shape\":[6],\"data_offsets\":[24,36]},"
                    "\"c\":{\"dtype\":\"BF16\",\"shape\":[2,1],\"data_offsets\":[36,40]},"
                    "\"d\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[40,48]},"
                    "\"e\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1],\"data_offsets\":[48,49]}}   ",
                    49, raw);
    ;
    hand_on(&seed, take, context);
  }
}

static const char gpt2_config[] =
    "{\"architectures\":[\"GPT2LMHeadModel\"],\"vocab_size\":3,\"n_embd\":2,\"n_head\":1,\"n_layer\":1,\"n_positions\":4,"
    "\"n_inner\":null,\"activation_function\":\"gelu_new\",\"layer_norm_epsilon\":1e-05,\"tie_word_embeddings\":true}";
static const char llama_config[] =
    "{\"model_type\":\"llama\",\"hidden_act\":\"silu\",\"vocab_size\":3,\"hidden_size\":2,\"num_attention_heads\":1,"
    "\"num_key_value_heads\":1,\"num_hidden_layers\":1,\"intermediate_size\":2,\"max_position_embeddings\":4,"
    "\"rope_parameters\":{\"rope_type\":\"default\",\"rope_theta\":10000.0},\"rms_norm_eps\":1e-6}";

static const char qwen2_config[] =
    "{\"architectures\":[\"Qwen2ForCausalLM\"],\"vocab_size\":3,\"hidden_size\":2,\"num_attention_heads\":1,\"num_hidden_"
    "layers\":1,"
    "\"intermediate_size\":2,\"max_position_embeddings\":4,\"tie_word_embeddings\":true,\"use_sliding_window\":true,"
    "\"sliding_window\":4,\"layer_types\":[\"full_attention\"],\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8.0,"
    "\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,\"original_max_position_embeddings\":2}}";

/* Tensors of these names and shapes, one behind the other, float32. */
typedef struct named {
  const char *name;
  int rows, cols; /* cols 0: one dim */
} named;
static const named gpt2_tensors[] = {{"wte.weight", 3, 2},
                                     {"wpe.weight", 4, 2},
                                     {"h.0.ln_1.weight", 2, 0},
                                     {"h.0.ln_1.bias", 2, 0},
                                     {"h.0.attn.c_attn.weight", 2, 6},
                                     {"h.0.attn.c_attn.bias", 6, 0},
                                     {"h.0.attn.c_proj.weight", 2, 2},
                                     {"h.0.attn.c_proj.bias", 2, 0},
                                     {"h.0.ln_2.weight", 2, 0},
                                     {"h.0.ln_2.bias", 2, 0},
                                     {"h.0.mlp.c_fc.weight", 2, 8},
                                     {"h.0.mlp.c_fc.bias", 8, 0},
                                     {"h.0.mlp.c_proj.weight", 8, 2},
                                     {"h.0.mlp.c_proj.bias", 2, 0},
                                     {"ln_f.weight", 2, 0},
                                     {"ln_f.bias", 2, 0},
                                     {"lm_head.weight", 3, 2}};
static const named llama_tensors[] = {{"model.embed_tokens.weight", 3, 2},
                                      {"model.layers.0.input_layernorm.weight", 2, 0},
                                      {"model.layers.0.self_attn.q_proj.weight", 2, 2},
                                      {"model.layers.0.self_attn.k_proj.weight", 2, 2},
                                      {"model.layers.0.self_attn.v_proj.weight", 2, 2},
                                      {"model.layers.0.self_attn.o_proj.weight", 2, 2},
                                      {"model.layers.0.post_attention_layernorm.weight", 2, 0},
                                      {"model.layers.0.mlp.gate_proj.weight", 2, 2},
                                      {"model.layers.0.mlp.up_proj.weight", 2, 2},
                                      {"model.layers.0.mlp.down_proj.weight", 2, 2},
                                      {"model.norm.weight", 2, 0},
                                      {"lm_head.weight", 3, 2}};

static const named qwen2_tensors[] = {{"embed_tokens.weight", 3, 2},
                                      {"layers.0.input_layernorm.weight", 2, 0},
                                      {"layers.0.self_attn.q_proj.weight", 2, 2},
                                      {"layers.0.self_attn.q_proj.bias", 2, 0},
                                      {"layers.0.self_attn.k_proj.weight", 2, 2},
                                      {"layers.0.self_attn.k_proj.bias", 2, 0},
                                      {"layers.0.self_attn.v_proj.weight", 2, 2},
                                      {"layers.0.self_attn.v_proj.bias", 2, 0},
                                      {"layers.0.self_attn.o_proj.weight", 2, 2},
                                      {"layers.0.post_attention_layernorm.weight", 2, 0},
                                      {"layers.0.mlp.gate_proj.weight", 2, 2},
                                      {"layers.0.mlp.up_proj.weight", 2, 2},
                                      {"layers.0.mlp.down_proj.weight", 2, 2},
                                      {"norm.weight", 2, 0}};

static void put_model(gd_bytes *out, const named *tensors, size_t count) {
  gd_bytes header = {0};
  size_t at = 0;
  fuzz_must(gd_bytes_printf(&header, "{"));
  for (size_t i = 0; i < count; i++) {
    const named *t = &tensors[i];
    size_t bytes = 4 * (size_t)t->rows * (size_t)(t->cols ? t->cols : 1);
    fuzz_must(gd_bytes_printf(&header, "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[%d", i ? "," : "", t->name, t->rows));
    if (t->cols) fuzz_must(gd_bytes_printf(&header, ",%d", t->cols));
    fuzz_must(gd_bytes_printf(&header, "],\"data_offsets\":[%zu,%zu]}", at, at + bytes));
    at += bytes;
  }
  fuzz_must(gd_bytes_printf(&header, "}"));
  put_safetensors(out, header.bytes, at, false);
  gd_bytes_free(&header);
}

static void huggingface(fuzz_take *take, void *context) {
  gd_bytes seed = {0};
  put(&seed, gpt2_config, sizeof gpt2_config - 1);
  put(&seed, mark, sizeof mark - 1);
  put_model(&seed, gpt2_tensors, sizeof gpt2_tensors / sizeof *gpt2_tensors);
  hand_on(&seed, take, context);
  put(&seed, llama_config, sizeof llama_config - 1);
  static const char index[] =
      "\n%%\n{\"weight_map\":{\"model.norm.weight\":\"a.safetensors\",\"lm_head.weight\":\"a.safetensors\"}}\n%%\n";
  put(&seed, index, sizeof index - 1);
  put_model(&seed, llama_tensors, sizeof llama_tensors / sizeof *llama_tensors);
  hand_on(&seed, take, context);
  put(&seed, qwen2_config, sizeof qwen2_config - 1);
  put(&seed, mark, sizeof mark - 1);
  put_model(&seed, qwen2_tensors, sizeof qwen2_tensors / sizeof *qwen2_tensors);
  hand_on(&seed, take, context);
}

/* ---- tokenizers: gptdist-data train-tokenizer's files ---- */

static const char *trained(void) {
  static char folder[GD_PATH_BYTES], text[GD_PATH_BYTES];
  gd_tokenizer_train_report report;
  fuzz_must(gd_path_join(folder, sizeof folder, fuzz_folder(), "trained"));
  gd_bytes long_text = {0};
  for (int i = 0; i < 4; i++) put(&long_text, sample, sizeof sample - 1);
  fuzz_write("text.txt", long_text.bytes, long_text.count, text);
  gd_bytes_free(&long_text);
  const char *const inputs[] = {text};
  const gd_tokenizer_train_options options = {
      .inputs = inputs, .input_count = 1, .output = folder, .vocabulary = 280, .force = true};
  fuzz_must(gd_tokenizer_train(&options, &report));
  return folder;
}

static void tokenizer_gpt2(fuzz_take *take, void *context) {
  gd_bytes seed = {0};
  const char *folder = trained();
  put_file(&seed, folder, "vocab.json");
  put(&seed, mark, sizeof mark - 1);
  put_file(&seed, folder, "merges.txt");
  put(&seed, mark, sizeof mark - 1);
  put(&seed, sample, sizeof sample - 1);
  hand_on(&seed, take, context);
  take_text("{\"a\":0,\"b\":1,\"ab\":2,\"<|endoftext|>\":3,\"<unk>\":4}\n%%\n#version: 0.2\na b\n%%\nabba<|endoftext|>ab", take,
            context);
}

static void tokenizer_hf(fuzz_take *take, void *context) {
  gd_bytes seed = {0};
  put_file(&seed, trained(), "tokenizer.json");
  put(&seed, mark, sizeof mark - 1);
  put(&seed, sample, sizeof sample - 1);
  hand_on(&seed, take, context);
  take_text(
      "{\"added_tokens\":[{\"id\":3,\"content\":\"</s>\"},{\"id\":4,\"content\":\"<|begin_of_text|>\"}],\"normalizer\":null,"
      "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a+|\\\\s\"},"
      "\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}]},"
      "\"model\":{\"type\":\"BPE\",\"unk_token\":\"b\",\"ignore_merges\":true,\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},"
      "\"merges\":[\"a b\",[\"a\",\"b\"]]}}\n%%\naab ab</s>a",
      take, context);
  take_text(
      "{\"added_tokens\":[{\"id\":5,\"content\":\"<x>\",\"lstrip\":true,\"rstrip\":true},{\"id\":6,\"content\":\"aa\","
      "\"special\":"
      "false}],\"normalizer\":{\"type\":\"NFC\"},\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{"
      "\"SpecialToken\":{"
      "\"id\":\"<x>\"}}]},\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{"
      "\"Regex\":"
      "\"(?=a)|[^\\\\S1]\"},\"behavior\":\"MergedWithNext\"},{\"type\":\"Split\",\"pattern\":{\"String\":\"1\"},\"behavior\":"
      "\"Contiguous\",\"invert\":true},{\"type\":\"Digits\",\"individual_digits\":true},{\"type\":\"ByteLevel\"}]},"
      "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"1\":1,\"\u0120\":2,\"\u00c3\":3,\"\u0142\":4},\"merges\":[]}}\n%%\n"
      "{\"eos_token_id\":[5,1,99],\"eos_token\":{\"content\":\"<x>\"},\"bos_token\":\"aa\",\"add_bos_token\":true}\n%%\n"
      "a a <x> 11 aaa\xcc\x80",
      take, context);
  take_text(
      "{\"added_tokens\":[{\"id\":1,\"content\":\"<s>\"}],\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"\u2581\","
      "\"prepend_scheme\":\"first\",\"split\":true},\"model\":{\"type\":\"BPE\",\"byte_fallback\":true,\"fuse_unk\":true,"
      "\"unk_token\":\"<unk>\",\"ignore_merges\":true,\"vocab\":{\"<unk>\":0,\"<s>\":1,\"<0x61>\":2,\"\u2581\":3,\"b\":4,"
      "\"\u2581b\":5},\"merges\":[\"\u2581 b\"]}}\n%%\na b<s> bcc",
      take, context);
  take_text(
      "{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"\u2581\"},{\"type\":"
      "\"Replace\","
      "\"pattern\":{\"String\":\" \"},\"content\":\"\u2581\"}]},\"model\":{\"type\":\"BPE\",\"byte_fallback\":true,"
      "\"vocab\":{\"\u2581\":0,\"b\":1},\"merges\":[]}}\n%%\nb b",
      take, context);
}

static void tokenizer_tiktoken(fuzz_take *take, void *context) {
  static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  gd_bytes seed = {0};
  for (int i = 0; i < 256; i++) fuzz_must(gd_bytes_printf(&seed, "%c%c== %d\n", digits[i >> 2], digits[(i & 3) << 4], i));
  for (int i = 0; i < 341; i++) fuzz_must(gd_bytes_printf(&seed, "dGhl")); /* 1023 bytes, of 1024 */
  fuzz_must(gd_bytes_printf(&seed, " 258\n"));
  fuzz_must(gd_bytes_printf(&seed, "dGg= 256\r\ndGhl 257\n%%%%\n%s", sample)); /* th, the */
  hand_on(&seed, take, context);
}

static void tokenizer_llama2c(fuzz_take *take, void *context) {
  static const char *const texts[] = {"<unk>", "\n<s>\n", "\n</s>\n"}, *const more[] = {" ",  "t",   "h",    "e",
                                                                                        "th", "the", " the", "\xe4\xb8\xad"};
  gd_bytes seed = {0};
  int32_t length = 7;
  put(&seed, &length, sizeof length);
  for (int i = 0; i < 259 + 8; i++) {
    char byte[8];
    snprintf(byte, sizeof byte, "<0x%02X>", (i - 3) & 255);
    const char *text = i < 3 ? texts[i] : i < 259 ? byte : more[i - 259];
    float score = i < 259 ? 0 : (float)-i;
    length = (int32_t)strlen(text);
    put(&seed, &score, sizeof score);
    put(&seed, &length, sizeof length);
    put(&seed, text, strlen(text));
  }
  hand_on(&seed, take, context);
}

static void tokenizer_chars(fuzz_take *take, void *context) {
  take_text("\n abcde\xc3\xa9\xe4\xb8\xad\xf0\x9f\x98\x80\n%%\nabba \xe4\xb8\xad\xf0\x9f\x98\x80", take, context);
}

static void tokenizer_folder(fuzz_take *take, void *context) {
  char folder[GD_PATH_BYTES];
  fuzz_must(gd_path_join(folder, sizeof folder, fuzz_folder(), "saved"));
  for (int i = 0; i < 3; i++) {
    gd_tokenizer *tokenizer = NULL;
    gd_bytes seed = {0};
    fuzz_must(i == 1 ? gd_tokenizer_from_characters("a b", 3, &tokenizer) : gd_tokenizer_open("bytes", &tokenizer));
    bool known;
    if (i == 2) fuzz_must(gd_tokenizer_add(tokenizer, "<|im_end|>", &known));
    fuzz_must(gd_tokenizer_save(tokenizer, folder));
    gd_tokenizer_close(tokenizer);
    put_file(&seed, folder, "gptdist-tokenizer.json");
    if (i == 1) put(&seed, mark, sizeof mark - 1);
    if (i == 1) put_file(&seed, folder, "chars.txt");
    hand_on(&seed, take, context);
  }
  gd_bytes seed = {0};
  const char *bpe = trained();
  put_file(&seed, bpe, "gptdist-tokenizer.json");
  put(&seed, mark, sizeof mark - 1);
  put_file(&seed, bpe, "vocab.json");
  put(&seed, mark, sizeof mark - 1);
  put_file(&seed, bpe, "merges.txt");
  hand_on(&seed, take, context);
}

/* ---- JSON, texts, datasets ---- */

static void json(fuzz_take *take, void *context) {
  take_text("{\"a\": [1, -2.5e3, true, null, {}], \"b\\u0000\\\\\": \"\\ud83d\\ude00 \\u00e9\\n\", \"\": 9007199254740991}",
            take, context);
  take_text("[\"\xc3\xa9\\\"\", \"\", [[[]]], 1e400]", take, context);
}

static void chat_template(fuzz_take *take, void *context) {
  const char *name;
  take_text("{%- if a.b and not c -%} x {# y #}{{ 'it\\'s' + d|f('e') ~ \"\\n\" }}\n  {%+ endif %}\n", take, context);
  for (int32_t i = 0; (name = gd_template_known(i)); i++) {
    gd_template layout;
    gd_bytes text = {0};
    fuzz_must(gd_template_open(name, &layout));
    fuzz_must(gd_chat_template_write(&layout, i % 2 ? "<s>" : NULL, &text));
    hand_on(&text, take, context);
    gd_template_free(&layout);
  }
}

static void put_gzip(gd_bytes *out, const char *text) {
  unsigned char packed[1024];
  z_stream stream = {
      .next_in = (Bytef *)(uintptr_t)text, .avail_in = (uInt)strlen(text), .next_out = packed, .avail_out = sizeof packed};
  fuzz_check(deflateInit2(&stream, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK &&
                 deflate(&stream, Z_FINISH) == Z_STREAM_END,
             "cannot pack");
  put(out, packed, sizeof packed - stream.avail_out);
  deflateEnd(&stream);
}

static void put_zstd(gd_bytes *out, const char *text) {
  char packed[1024];
  size_t count = ZSTD_compress(packed, sizeof packed, text, strlen(text), 3);
  fuzz_check(!ZSTD_isError(count), "cannot pack");
  put(out, packed, count);
}

static void corpus(fuzz_take *take, void *context) {
  static const char *const texts[] = {
      "\x10One line\nAnother one\n<|endoftext|>\nA second text\r\n<|endoftext|>\r\n\xe4\xb8\xad\n\xe6\x96\x87\n",
      "\x01{\"text\": \"one \\u00e9\"}\n\n{\"id\": 1, \"text\": \"two\\n\"}\n",
      "\x02[{\"text\": \"one\"}, {\"text\": \"t}]wo\", \"x\": [1, {}]}]\n",
      "\x02{\"text\": \"one\"}\n{\"text\": \"two\"}",
      "\x03id,text\n1,\"a \"\"quoted\"\", text\nof two lines\"\r\n2,plain\n",
      "\x24one\ttwo\nthree\t\n"};
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    gd_bytes seed = {0};
    take_text(texts[i], take, context);
    put(&seed, texts[i], 1);
    put_gzip(&seed, texts[i] + 1);
    if (i % 2) put_gzip(&seed, texts[i] + 1); /* two members */
    hand_on(&seed, take, context);
    put(&seed, texts[i], 1);
    put_zstd(&seed, texts[i] + 1);
    hand_on(&seed, take, context);
  }
}

static void dataset(fuzz_take *take, void *context) {
  gd_token_shard_info info = {
      .tokenizer = "bytes", .tokenizer_digest = "0123", .vocabulary = 257, .eot = 256, .tokens = 40, .documents = 3};
  gd_split_entry entry = {.file = "00000.h5", .tokens = 40, .documents = 3};
  const int64_t positions[] = {0, 10, 31};
  int32_t ids[40];
  char folder[GD_PATH_BYTES], path[GD_PATH_BYTES];
  uint8_t digest[GD_SHA256_BYTES];
  gd_token_shard_writer *writer = NULL;
  gd_bytes seed = {0};
  for (int i = 0; i < 40; i++) ids[i] = i * 6;
  fuzz_must(gd_path_join(folder, sizeof folder, fuzz_folder(), "split"));
  fuzz_must(gd_folder_make(folder));
  fuzz_must(gd_path_join(path, sizeof path, folder, entry.file));
  fuzz_must(gd_token_shard_create(path, &info, &writer));
  fuzz_must(gd_token_shard_append(writer, ids, 40));
  fuzz_must(gd_token_shard_set_documents(writer, positions, 3));
  fuzz_must(gd_token_shard_finish(writer));
  fuzz_must(gd_sha256_file(path, digest, NULL));
  gd_sha256_hex(digest, entry.sha256);
  fuzz_must(gd_split_write_index(folder, &info, &(gd_data_task){0}, &entry, 1));
  put_file(&seed, folder, "index.json");
  put(&seed, mark, sizeof mark - 1);
  put_file(&seed, folder, entry.file);
  hand_on(&seed, take, context);
}

static void shard(fuzz_take *take, void *context) {
  static const unsigned char whole[] = {0, 0,  64, 20, 1, 5,  0, 3,  0, 0,  0,  1,  0,  2, 0,  3, 0,  4, 0,
                                        5, 0,  6,  0,  7, 0,  8, 0,  9, 0,  10, 0,  11, 0, 12, 0, 13, 0, 14,
                                        0, 15, 0,  16, 0, 17, 0, 18, 0, 19, 0,  20, 0,  0, 0,  5, 0,  9};
  unsigned char wide[sizeof whole];
  memcpy(wide, whole, sizeof whole);
  wide[4] = 128 | 17;
  wide[6] = 1;
  take(context, whole, sizeof whole);
  take(context, wide, sizeof wide);
}

static const struct {
  const char *target;
  void (*make)(fuzz_take *take, void *context);
} all[] = {{"run_file", run_file},
           {"manifest", manifest},
           {"safetensors", safetensors},
           {"huggingface", huggingface},
           {"tokenizer_gpt2", tokenizer_gpt2},
           {"tokenizer_hf", tokenizer_hf},
           {"tokenizer_tiktoken", tokenizer_tiktoken},
           {"tokenizer_llama2c", tokenizer_llama2c},
           {"tokenizer_chars", tokenizer_chars},
           {"tokenizer_folder", tokenizer_folder},
           {"json", json},
           {"chat_template", chat_template},
           {"corpus", corpus},
           {"dataset", dataset},
           {"shard", shard}};

void fuzz_seeds(const char *target, fuzz_take *take, void *context) {
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
    if (strcmp(all[i].target, target) != 0) continue;
    all[i].make(take, context);
    return;
  }
  fuzz_check(false, "a target without seeds: tests/fuzz/seeds.c");
}
