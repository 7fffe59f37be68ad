/* The run file: what it accepts, what it says when it does not, and that a spec survives its way through text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/config_text.h"

static void every_default_is_valid_for_its_own_key(void **state) {
  (void)state;
  const gd_config_key *keys;
  int n = gd_config_keys(&keys);
  for (int i = 0; i < n; i++) {
    if (gd_config_set(&keys[i], keys[i].preset, keys[i].name, &spec) != GD_OK) fail_msg("%s", gd_error_text());
  }
}

static void aliases_name_existing_keys_and_valid_values(void **state) {
  (void)state;
  const gd_config_alias *aliases;
  int n = gd_config_aliases(&aliases);
  for (int i = 0; i < n; i++) {
    const gd_config_key *key = gd_config_find(aliases[i].key);
    if (!key) fail_msg("%s -> %s", aliases[i].option, aliases[i].key);
    if (aliases[i].value) assert_int_equal(gd_config_set(key, aliases[i].value, "alias", &spec), GD_OK);
  }
}

static void defaults_are_gpt2_124m(void **state) {
  (void)state;
  assert_int_equal(gd_config_load(0, 0, 0, &spec, &origins), GD_OK);
  assert_int_equal(spec.model.layers, 12);
  assert_int_equal(spec.model.width, 768);
  assert_int_equal(spec.model.context, 1024);
  assert_true(spec.model.bias && spec.model.tied_head);
  assert_true(spec.optimizer.lr == 6e-4f && spec.optimizer.beta2 == 0.95f);
  assert_int_equal(spec.run.watchdog_s, -1);
  assert_int_equal(spec.data.sources, 0);
  assert_string_equal(gd_config_origin(&origins, "model.layers"), "default");
}

static void values_and_their_lines_are_taken_from_the_file(void **state) {
  (void)state;
  accepts(
      "run: {seed: 18446744073709551615, steps: 7}\nmodel:\n  layers: 6\n  position: rotary\n  bias: false\nnumerics: "
      "invariant\n"
      "optimizer:\n  lr: 1e-3\nprecision:\n  dtype: bfloat16\ndata:\n  path: some/where\n");
  assert_true(spec.run.seed == UINT64_MAX);
  assert_int_equal(spec.run.steps, 7);
  assert_int_equal(spec.model.layers, 6);
  assert_int_equal(spec.model.position, GD_POSITION_ROTARY);
  assert_false(spec.model.bias);
  assert_int_equal(spec.numerics, GD_NUMERICS_INVARIANT);
  assert_true(spec.optimizer.lr == 1e-3f);
  assert_int_equal(spec.precision.dtype, GD_BFLOAT16);
  assert_int_equal(spec.data.sources, 1);
  assert_string_equal(spec.data.path[0], "some/where");
  assert_true(spec.data.weight[0] == 1.0f);
  assert_string_equal(gd_config_origin(&origins, "model.position"), "run.yaml:4");
  assert_string_equal(gd_config_origin(&origins, "numerics"), "run.yaml:6");
}

static void data_path_may_be_a_weighted_list(void **state) {
  (void)state;
  accepts("data:\n  path:\n    - a\n    - {path: b, weight: 2.5}\n    - path: c\n");
  assert_int_equal(spec.data.sources, 3);
  assert_string_equal(spec.data.path[1], "b");
  assert_true(spec.data.weight[1] == 2.5f && spec.data.weight[2] == 1.0f);
  gd_config_override override = {"--set", "data.path", "[{path: x, weight: 3}, y]"};
  assert_int_equal(gd_config_load(0, &override, 1, &spec, 0), GD_OK);
  assert_int_equal(spec.data.sources, 2);
  assert_true(spec.data.weight[0] == 3.0f);
  assert_string_equal(spec.data.path[1], "y");
}

static void a_later_override_wins_and_is_named(void **state) {
  (void)state;
  const char *text = "optimizer:\n  lr: 1e-3\n";
  gd_config_override overrides[] = {{"--set", "optimizer.lr", "2e-3"}, {"--lr", "optimizer.lr", "3e-3"}};
  assert_int_equal(gd_config_load_text("run.yaml", text, strlen(text), overrides, 2, &spec, &origins), GD_OK);
  assert_true(spec.optimizer.lr == 3e-3f);
  assert_string_equal(gd_config_origin(&origins, "optimizer.lr"), "--lr");
}

static void times_take_units(void **state) {
  (void)state;
  accepts("run:\n  max_time_s: 2h\n  watchdog_s: 90\n");
  assert_int_equal(spec.run.max_time_s, 7200);
  assert_int_equal(spec.run.watchdog_s, 90);
  refuses("run:\n  steps: 2h\n", "run.yaml:2: run.steps: found \"2h\", expected an integer from 1 to 4294967295 (steps)");
}

static void unknown_keys_name_the_nearest(void **state) {
  (void)state;
  refuses("optimizer:\n  lrr: 1\n", "run.yaml:2: optimizer.lrr: unknown key; did you mean \"optimizer.lr\"?");
  refuses("model:\n  layres: 1\n", "run.yaml:2: model.layres: unknown key; did you mean \"model.layers\"?");
  refuses("model:\n  warmup_steps: 1\n",
          "run.yaml:2: model.warmup_steps: unknown key; did you mean \"schedule.warmup_steps\"?");
  refuses("batch:\n  micro_batch_size: 1\n", "run.yaml:2: batch.micro_batch_size: unknown key; did you mean \"batch.micro\"?");
  refuses("optimzer:\n  lr: 1\n", "run.yaml:1: optimzer: unknown section; did you mean \"optimizer\"?");
  refuses("layers: 3\n", "run.yaml:1: layers: unknown key; did you mean \"model.layers\"?");
  refuses("model:\n  zzzzzz: 3\n", "run.yaml:2: model.zzzzzz: unknown key; --help-config lists all keys");
  refuses("numeric: fast\n", "run.yaml:1: numeric: unknown section; did you mean \"numerics\"?");
}

static void wrong_values_say_what_was_expected(void **state) {
  (void)state;
  refuses("model:\n  layers: many\n", "run.yaml:2: model.layers: found \"many\", expected an integer from 1 to 65535");
  refuses("model:\n  layers: 1.5\n", "run.yaml:2: model.layers: found \"1.5\", expected an integer from 1 to 65535");
  refuses("model:\n  layers: 0\n", "run.yaml:2: model.layers: found \"0\", expected an integer from 1 to 65535");
  refuses("model:\n  layers: 99999999999999999999\n",
          "run.yaml:2: model.layers: found \"99999999999999999999\", expected an integer from 1 to 65535");
  refuses("model:\n  layers:\n", "run.yaml:2: model.layers: found no value, expected an integer from 1 to 65535");
  refuses("model:\n  layers: [1, 2]\n", "run.yaml:2: model.layers: found a list, expected a single value");
  refuses("model:\n  bias: yes\n", "run.yaml:2: model.bias: found \"yes\", expected one of true, false, qkv, attention, mlp");
  refuses("model:\n  dropout: 1\n", "run.yaml:2: model.dropout: found \"1\", expected a number from 0 to below 1");
  refuses("model:\n  dropout: nan\n", "run.yaml:2: model.dropout: found \"nan\", expected a number from 0 to below 1");
  refuses("model:\n  dropout: 0x1p-2\n", "run.yaml:2: model.dropout: found \"0x1p-2\", expected a number from 0 to below 1");
  refuses("optimizer:\n  epsilon: 0\n", "run.yaml:2: optimizer.epsilon: found \"0\", expected a number above 0, at most 1");
  refuses("run:\n  seed: -1\n", "run.yaml:2: run.seed: found \"-1\", expected an integer from 0 to 18446744073709551615");
  refuses("optimizer:\n  kind: adam\n",
          "run.yaml:2: optimizer.kind: found \"adam\", expected one of adamw, sgd; did you mean \"adamw\"?");
  refuses("numerics: {a: 1}\n", "run.yaml:1: numerics: found a section, expected a single value");
  refuses("model: 12\n", "run.yaml:1: model: found a value, expected a section (keys below it, indented)");
  refuses("data:\n  path:\n    - {path: a, weight: -1}\n",
          "run.yaml:3: data.path: weight: found \"-1\", expected a number above 0, at most 1e9");
  refuses("data:\n  path:\n    - {paht: a}\n", "run.yaml:3: data.path: \"paht\": unknown key, expected path or weight");
}

static void override_errors_name_the_option(void **state) {
  (void)state;
  refuses_override("--set", "batch.global", "lots",
                   "--set batch.global: found \"lots\", expected an integer from 1 to 1048576 (sequences)");
  refuses_override("--lr", "optimizer.lr", "fast", "--lr (optimizer.lr): found \"fast\", expected a number from 0 to 1000");
  refuses_override("--set", "model.layer", "3", "--set: model.layer: unknown key; did you mean \"model.layers\"?");
  refuses_override("--set", "run.directory", "a\nb",
                   "--set run.directory: found a control character (0x0a), expected plain text");
  refuses_override("--set", "run.directory", "a\xff",
                   "--set run.directory: found bytes that are not UTF-8, expected UTF-8 text");
}

static void broken_files_name_the_line(void **state) {
  (void)state;
  refuses("", "run.yaml: the file is empty, expected sections (run, model, data, ...)");
  refuses("# only a comment\n", "run.yaml: the file is empty, expected sections (run, model, data, ...)");
  refuses("just words\n", "run.yaml:1: found a value, expected sections (run, model, data, ...)");
  refuses("model:\n\tlayers: 3\n", "run.yaml:2: found a tab, expected spaces (YAML indents with spaces only)");
  refuses("model:\n  layers: 3\n  layers: 4\n", "run.yaml:3: model.layers: found twice, expected once (first on line 2)");
  refuses("model:\n  layers: 3\nrun:\n  seed: 1\nmodel:\n  heads: 4\n",
          "run.yaml:5: model: found twice, expected once (first on line 1)");
  refuses("run:\n  seed: 1\n---\nrun:\n  seed: 2\n", "run.yaml:4: found a second document, expected one");
  assert_int_equal(load("model: {layers: 3\nrun:\n"), GD_USAGE);
  assert_non_null(strstr(gd_error_text(), "run.yaml:"));
  assert_non_null(strstr(gd_error_text(), "not valid YAML"));
  assert_int_equal(load("run:\n  seed: \xff\n"), GD_USAGE);
  assert_non_null(strstr(gd_error_text(), "run.yaml:2: not valid YAML"));
  assert_int_equal(gd_config_load("/nonexistent/run.yaml", 0, 0, &spec, 0), GD_USAGE);
  assert_string_equal(gd_error_text(), "/nonexistent/run.yaml: cannot read the run file: No such file or directory");
  assert_int_equal(gd_config_load("/tmp", 0, 0, &spec, 0), GD_USAGE);
  assert_string_equal(gd_error_text(), "/tmp: found a folder, expected a run file");
}

static void write_file(const char *path, const char *text) {
  FILE *file = fopen(path, "w");
  assert_non_null(file);
  fputs(text, file);
  assert_int_equal(fclose(file), 0);
}

static void the_including_file_wins(void **state) {
  (void)state;
  char folder[] = "/tmp/gd_config_XXXXXX", path[128], model[128], other[128], self[128];
  assert_non_null(mkdtemp(folder));
  snprintf(path, sizeof path, "%s/run.yaml", folder);
  snprintf(model, sizeof model, "%s/model.yaml", folder);
  snprintf(other, sizeof other, "%s/other.yaml", folder);
  snprintf(self, sizeof self, "%s/self.yaml", folder);
  write_file(model, "model:\n  layers: 3\n  heads: 5\n");
  write_file(other, "model:\n  heads: 6\n");
  write_file(path, "model:\n  layers: 4\ninclude: [model.yaml, other.yaml]\n");
  assert_int_equal(gd_config_load(path, 0, 0, &spec, &origins), GD_OK);
  assert_int_equal(spec.model.layers, 4);
  assert_int_equal(spec.model.heads, 6);
  char origin[160];
  snprintf(origin, sizeof origin, "%s:2", other);
  assert_string_equal(gd_config_origin(&origins, "model.heads"), origin);
  /* A map is one value: it is replaced, not merged. */
  write_file(model, "optimizer: {lr_scale: {\"a.*\": 1, \"b.*\": 2}}\n");
  write_file(path, "include: model.yaml\noptimizer: {lr_scale: {\"c.*\": 3}}\n");
  assert_int_equal(gd_config_load(path, 0, 0, &spec, &origins), GD_OK);
  static char scales[GD_CONFIG_VALUE_BYTES];
  assert_string_equal(gd_config_value(gd_config_find("optimizer.lr_scale"), &spec, scales, sizeof scales), "{\"c.*\": 3}");
  write_file(self, "include: self.yaml\n");
  assert_int_equal(gd_config_load(self, 0, 0, &spec, 0), GD_USAGE);
  assert_non_null(strstr(gd_error_text(), "include: more than 8 files deep (does a file include itself?)"));
  write_file(path, "include: missing.yaml\n");
  assert_int_equal(gd_config_load(path, 0, 0, &spec, 0), GD_USAGE);
  assert_non_null(strstr(gd_error_text(), "missing.yaml: cannot read the run file"));
  assert_non_null(strstr(gd_error_text(), "run.yaml:1"));
  remove(path), remove(model), remove(other), remove(self), rmdir(folder);
}

/* Small files that would take hours are refused at once: seven that include the next one 16 times each, and a map of so many
 * keys that comparing each with each does not end. */
static void a_small_file_asks_for_no_large_work(void **state) {
  (void)state;
  enum { FILES = 7, KEYS = 100000 };
  char folder[] = "/tmp/gd_config_XXXXXX", path[FILES][128], text[512];
  assert_non_null(mkdtemp(folder));
  for (int i = 0; i < FILES; i++) {
    snprintf(path[i], sizeof path[i], "%s/%d.yaml", folder, i);
    int length = snprintf(text, sizeof text, "include: [");
    for (int k = 0; k < 16; k++) length += snprintf(text + length, sizeof text - (size_t)length, "%d.yaml, ", i + 1);
    snprintf(text + length, sizeof text - (size_t)length, "]\n");
    write_file(path[i], i < FILES - 1 ? text : "model: {layers: 3}\n");
  }
  assert_int_equal(gd_config_load(path[0], 0, 0, &spec, 0), GD_USAGE);
  assert_non_null(strstr(gd_error_text(), "include: more than 64 files in all"));
  for (int i = 0; i < FILES; i++) remove(path[i]);
  rmdir(folder);
  char *many = malloc(KEYS * 10), *end = many;
  assert_non_null(many);
  end += sprintf(end, "model:\n");
  for (int i = 0; i < KEYS; i++) end += sprintf(end, " k%d: 1\n", i % 10000);
  refuses(many, "run.yaml:2: model: found more than 1024 keys, expected a run file");
  free(many);
}

static void a_written_file_loads_to_the_same_bytes(void **state) {
  (void)state;
  static gd_spec again;
  static char text[GD_CONFIG_TEXT_BYTES], text_again[GD_CONFIG_TEXT_BYTES];
  static const char *const files[] = {
      "run:\n  seed: 3\n", "run:\n  directory: \"a \\\"quoted\\\" \\\\ folder: # [x] {y} é\"\nmodel:\n  init_from: 'null'\n",
      "data:\n  path: [a, {path: \"b c\", weight: 0.1}]\noptimizer: {lr: 0.1234567, epsilon: 1e-30}\nnumerics: invariant\n",
      "run: {seed: 18446744073709551615}\nprecision: {dtype: bf16}\nmodel: {dropout: 0.1, tied_head: false}\n"};
  for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
    memset(&spec, 0x5a, sizeof spec); /* what was there before must not shine through */
    accepts(files[i]);
    size_t length = gd_config_write(&spec, text, sizeof text);
    assert_true(length < sizeof text);
    memset(&again, 0xa5, sizeof again);
    if (gd_config_load_text("config.yaml", text, length, 0, 0, &again, 0) != GD_OK) fail_msg("%s", gd_error_text());
    assert_memory_equal(&spec, &again, sizeof spec);
    gd_config_write(&again, text_again, sizeof text_again);
    assert_string_equal(text, text_again);
    assert_int_equal(gd_config_compare(&spec, &again, 0, 0), 0);
  }
  size_t whole = gd_config_write(&spec, 0, 0); /* measuring writes nothing */
  assert_true(whole == strlen(text));
}

static bool takes(const gd_config_key *key, const char *value) {
  gd_config_defaults(&spec);
  gd_status status = gd_config_set(key, value, key->name, &spec);
  if (status != GD_OK) {
    if (status != GD_USAGE || !strstr(gd_error_text(), "expected")) fail_msg("%s=%s: %s", key->name, value, gd_error_text());
    gd_error_clear();
    return false;
  }
  char text[64]; /* what was taken is what was said, not a part of its bits */
  gd_config_value(key, &spec, text, sizeof text);
  if (key->type != GD_KEY_FLOAT && strcmp(text, value) != 0) fail_msg("%s=%s became %s", key->name, value, text);
  return true;
}

/* Every number of the table: its bounds are taken, what lies beyond is not, and no high bit is dropped on the way. */
static void every_number_has_its_bounds(void **state) {
  (void)state;
  const gd_config_key *keys;
  int count = gd_config_keys(&keys), numbers = 0;
  for (int i = 0; i < count; i++) {
    const gd_config_key *key = &keys[i];
    char value[64];
    if (key->type == GD_KEY_INT32 || key->type == GD_KEY_INT64) {
      double low = key->minimum, high = key->maximum;
      const double good[] = {low, high}, bad[] = {low - 1, high + 1, low + 0x1p32, high + 0x1p32, low + 0x1p63, -low - 0x1p33};
      for (size_t k = 0; k < sizeof good / sizeof *good; k++) {
        snprintf(value, sizeof value, "%.0f", good[k]);
        if (!takes(key, value)) fail_msg("%s does not take %s", key->name, value);
      }
      for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        snprintf(value, sizeof value, "%.0f", bad[k]);
        if ((bad[k] < low || bad[k] > high) && takes(key, value)) fail_msg("%s takes %s", key->name, value);
      }
      numbers++;
    } else if (key->type == GD_KEY_FLOAT) {
      snprintf(value, sizeof value, "%.9g", key->minimum);
      if (takes(key, value) == key->minimum_open) fail_msg("%s and its lower bound %s", key->name, value);
      snprintf(value, sizeof value, "%.9g", key->maximum);
      if (takes(key, value) == key->maximum_open) fail_msg("%s and its upper bound %s", key->name, value);
      snprintf(value, sizeof value, "%.9g", key->maximum * 1.001 + 1);
      if (takes(key, value) || takes(key, "-1e-30") || takes(key, "1e39") || takes(key, "nan")) fail_msg("%s", key->name);
      numbers++;
    }
    bool text = key->type == GD_KEY_STRING || key->type == GD_KEY_SOURCES || key->type == GD_KEY_PATTERNS;
    if (!text && takes(key, "lots")) fail_msg("%s takes lots", key->name);
  }
  assert_true(numbers > 35);
}

static void numbers_and_truths_are_what_yaml_calls_so(void **state) {
  (void)state;
  accepts("run: {steps: 1e3, seed: 2e9}\nmodel: {bias: False, tied_head: TRUE}\nbatch: {global: 3.2e1}\n");
  assert_true(spec.run.steps == 1000 && spec.run.seed == 2000000000 && spec.batch.global == 32);
  assert_true(!spec.model.bias && spec.model.tied_head);
  refuses("run: {steps: 1.5}\n", "run.yaml:1: run.steps: found \"1.5\", expected an integer from 1 to 4294967295 (steps)");
  refuses("run: {steps: 1e30}\n", "run.yaml:1: run.steps: found \"1e30\", expected an integer from 1 to 4294967295 (steps)");
  refuses("model: {bias: yes}\n", "run.yaml:1: model.bias: found \"yes\", expected one of true, false, qkv, attention, mlp");
}

/* What stands behind one in YAML would be cut off where a C string ends. */
static void a_zero_byte_is_refused_wherever_text_is(void **state) {
  (void)state;
  static const struct {
    const char *text, *where;
  } texts[] = {
      {"run:\n  directory: \"a\\0b\"\n", "run.yaml:2: run.directory"},
      {"finetune:\n  train: \"head\\0b\"\n", "run.yaml:2: finetune.train"},
      {"finetune:\n  train: [\"head\\0b\"]\n", "run.yaml:2: finetune.train"},
      {"finetune:\n  train: [\"all\\0b\", head]\n", "run.yaml:2: finetune.train"},
      {"optimizer:\n  lr_scale: {\"a.*\\0b\": 1}\n", "run.yaml:2: optimizer.lr_scale"},
      {"optimizer:\n  lr_scale: {\"a.*\": \"1\\0b\"}\n", "run.yaml:2: optimizer.lr_scale"},
      {"data:\n  path: [\"a\\0b\"]\n", "run.yaml:2: data.path"},
      {"data:\n  path: [{path: \"a\\0b\"}]\n", "run.yaml:2: data.path"},
      {"data:\n  path: [{path: a, weight: \"1\\0b\"}]\n", "run.yaml:2: data.path"},
      {"numerics: fast\ninclude: \"a\\0b\"\n", "run.yaml:2: include"},
  };
  char message[160];
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    snprintf(message, sizeof message, "%s: found a zero byte, expected text without one", texts[i].where);
    refuses(texts[i].text, message);
  }
  refuses_override("--set", "finetune.train", "[\"head\\0b\"]",
                   "--set finetune.train: found a zero byte, expected text without one");
  refuses_override("--set", "optimizer.lr_scale", "{\"a\\0b\": 1}",
                   "--set optimizer.lr_scale: found a zero byte, expected text without one");
}

/* A key that nobody thought about would go on silently, or never. */
static void every_key_says_what_a_resumed_run_may_do_with_it(void **state) {
  (void)state;
  const gd_config_key *keys;
  int count = gd_config_keys(&keys), classes[GD_CHANGE_NEVER + 1] = {0};
  for (int i = 0; i < count; i++) {
    if (keys[i].change < GD_CHANGE_FREE || keys[i].change > GD_CHANGE_NEVER) fail_msg("%s has no class", keys[i].name);
    classes[keys[i].change]++;
    bool model = !strncmp(keys[i].name, "model.", 6), start = !strncmp(keys[i].name, "model.init", 10);
    if (model && !start && strcmp(keys[i].name, "model.dropout") != 0 && keys[i].change != GD_CHANGE_NEVER)
      fail_msg("%s may change", keys[i].name);
  }
  for (int c = GD_CHANGE_FREE; c <= GD_CHANGE_NEVER; c++) assert_true(classes[c] > 0);
}

static void canonical_blocks_count_between_invariant_runs_alone(void **state) {
  (void)state;
  static gd_spec then;
  gd_config_defaults(&then);
  spec = then;
  then.parallel.blocks = 4;
  spec.parallel.blocks = 2;
  assert_int_equal(gd_config_resume(&then, &spec, 0, "c"), GD_OK);
  then.numerics = spec.numerics = GD_NUMERICS_INVARIANT;
  assert_int_equal(gd_config_resume(&then, &spec, 0, "c"), GD_USAGE);
  assert_non_null(strstr(gd_error_text(), "parallel.blocks: found 2, expected 4 as in c"));
  gd_error_clear();
  assert_int_equal(gd_config_resume(&then, &spec, "run.seed,parallel.blocks", "c"), GD_OK);
  assert_int_equal(gd_config_resume(&then, &spec, "parallel.block,arallel.blocks", "c"), GD_USAGE);
  gd_error_clear();
  spec.parallel.blocks = 4;
  spec.parallel.time_blocks = 2;
  then.parallel.time_blocks = 4;
  assert_int_equal(gd_config_resume(&then, &spec, 0, "c"), GD_USAGE);
  assert_non_null(strstr(gd_error_text(), "parallel.time_blocks: found 2, expected 4 as in c"));
  gd_error_clear();
  then.batch.sequence = 512; /* K follows from T, which may be allowed to change */
  spec.batch.sequence = 256;
  assert_int_equal(gd_config_resume(&then, &spec, "batch.sequence", "c"), GD_OK);
  then.batch.sequence = 256;
  then.parallel.time_blocks = 0; /* saved before there were any */
  assert_int_equal(gd_config_resume(&then, &spec, 0, "c"), GD_OK);
}

static void count_difference(void *context, const gd_config_key *key, const char *a, const char *b) {
  snprintf(context, 128, "%s: %s, %s", key->name, a, b);
}

static void comparing_two_specs_names_key_and_values(void **state) {
  (void)state;
  static gd_spec other;
  char text[128] = "";
  accepts("model:\n  layers: 12\n");
  other = spec;
  other.model.layers = 6;
  assert_int_equal(gd_config_compare(&spec, &other, count_difference, text), 1);
  assert_string_equal(text, "model.layers: 12, 6");
}

/* A small generator, so that a failing text can be made again. */
static uint32_t draw(uint32_t below) {
  static uint64_t seed = 1;
  seed = seed * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(seed >> 33) % below;
}

static void no_text_is_taken_without_a_word(void **state) {
  (void)state;
  static const char start[] =
      "include: []\nrun: {seed: 3, directory: \"a\"}\nmodel:\n  layers: 6\n  bias: false # no\ndata:\n  path:\n"
      "    - {path: a, weight: 2}\n    - b\nnumerics: fast\noptimizer: {lr: &x 1e-3, min_lr: *x}\n";
  static const char pieces[] = "\t\n :{}[]-,&*!|>'\"%@`#~?0123456789.eE+abcrunmodel\x80\xff\xc3";
  accepts(start);
  int accepted = 0;
  for (int i = 0; i < 20000; i++) {
    char text[sizeof start + 8];
    size_t length = sizeof start - 1;
    memcpy(text, start, sizeof start);
    for (uint32_t edits = 1 + draw(4); edits; edits--) {
      size_t at = draw((uint32_t)length);
      uint32_t kind = draw(4);
      if (kind == 0) {
        memmove(text + at, text + at + 1, --length - at);
      } else if (kind == 1 && length < sizeof text) {
        memmove(text + at + 1, text + at, length++ - at);
      }
      text[at < length ? at : 0] = pieces[draw(sizeof pieces)]; /* the zero byte too */
    }
    if (draw(8) == 0) length = draw((uint32_t)length);
    gd_error_clear();
    gd_status status = gd_config_load_text("run.yaml", text, length, 0, 0, &spec, &origins);
    if (status != GD_OK && (status != GD_USAGE || !strstr(gd_error_text(), "run.yaml"))) {
      fail_msg("status %d, \"%s\" for\n%.*s", status, gd_error_text(), (int)length, text);
    }
    accepted += status == GD_OK;
  }
  assert_in_range(accepted, 100, 19000); /* neither all nor none: the mutations say something */
}

static void a_later_check_is_told_where_its_keys_came_from(void **state) {
  (void)state;
  gd_config_override override = {"--lr", "optimizer.lr", "1e-5"};
  const char *text = "batch:\n  global: 6\n";
  assert_int_equal(gd_config_load_text("run.yaml", text, strlen(text), &override, 1, &spec, &origins), GD_OK);
  gd_status status =
      gd_fail_user(GD_USAGE, "optimizer.min_lr: found 6e-05, expected at most optimizer.lr 1e-05; batch.global.");
  assert_int_equal(gd_config_explain(status, &origins), GD_USAGE);
  assert_string_equal(gd_error_text(),
                      "optimizer.min_lr: found 6e-05, expected at most optimizer.lr 1e-05; batch.global.\n"
                      "  batch.global: from run.yaml:2; optimizer.lr: from --lr; optimizer.min_lr: the default");
}

/* context: how often each key began a line */
static void count_key_line(void *context, const char *line) {
  int *counts = context;
  const gd_config_key *keys;
  int n = gd_config_keys(&keys);
  assert_true(strlen(line) < 511);
  assert_null(strchr(line, '\n'));
  for (int i = 0; i < n; i++) {
    size_t length = strlen(keys[i].name);
    counts[i] += strncmp(line, keys[i].name, length) == 0 && line[length] == ' ' && strstr(line, "; default ");
  }
}

static void help_has_one_entry_a_key(void **state) {
  (void)state;
  int counts[GD_CONFIG_MAX_KEYS] = {0};
  gd_config_print_help(count_key_line, counts);
  const gd_config_key *keys;
  int n = gd_config_keys(&keys);
  for (int i = 0; i < n; i++) {
    if (counts[i] != 1) fail_msg("%s: %d entries", keys[i].name, counts[i]);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_default_is_valid_for_its_own_key),
      cmocka_unit_test(aliases_name_existing_keys_and_valid_values),
      cmocka_unit_test(defaults_are_gpt2_124m),
      cmocka_unit_test(values_and_their_lines_are_taken_from_the_file),
      cmocka_unit_test(data_path_may_be_a_weighted_list),
      cmocka_unit_test(a_zero_byte_is_refused_wherever_text_is),
      cmocka_unit_test(a_later_override_wins_and_is_named),
      cmocka_unit_test(times_take_units),
      cmocka_unit_test(unknown_keys_name_the_nearest),
      cmocka_unit_test(wrong_values_say_what_was_expected),
      cmocka_unit_test(override_errors_name_the_option),
      cmocka_unit_test(broken_files_name_the_line),
      cmocka_unit_test(the_including_file_wins),
      cmocka_unit_test(a_written_file_loads_to_the_same_bytes),
      cmocka_unit_test(comparing_two_specs_names_key_and_values),
      cmocka_unit_test(every_number_has_its_bounds),
      cmocka_unit_test(numbers_and_truths_are_what_yaml_calls_so),
      cmocka_unit_test(every_key_says_what_a_resumed_run_may_do_with_it),
      cmocka_unit_test(canonical_blocks_count_between_invariant_runs_alone),
      cmocka_unit_test(no_text_is_taken_without_a_word),
      cmocka_unit_test(a_small_file_asks_for_no_large_work),
      cmocka_unit_test(a_later_check_is_told_where_its_keys_came_from),
      cmocka_unit_test(help_has_one_entry_a_key),
  };
  return cmocka_run_group_tests(tests, 0, 0);
}
