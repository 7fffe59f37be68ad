/* Keys that name tensors by patterns: finetune.train, optimizer.lr_scale. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "tests/unit/config_text.h"

/* As the manifest and the resolved file have it. */
static void patterns_are(const char *key, const char *text) {
  static char found[GD_CONFIG_VALUE_BYTES], written[GD_CONFIG_TEXT_BYTES];
  assert_string_equal(gd_config_value(gd_config_find(key), &spec, found, sizeof found), text);
  gd_spec before = spec;
  size_t bytes = gd_config_write(&spec, written, sizeof written);
  assert_int_equal(gd_config_load_text("config.yaml", written, bytes, 0, 0, &spec, 0), GD_OK);
  assert_memory_equal(&spec, &before, sizeof spec);
  assert_int_equal(gd_config_set(gd_config_find(key), text, "manifest", &spec), GD_OK);
  assert_memory_equal(&spec, &before, sizeof spec);
}

static void patterns_are_a_word_or_a_list_or_a_map(void **state) {
  (void)state;
  accepts("model: {layers: 2}\n");
  patterns_are("finetune.train", "all");
  patterns_are("optimizer.lr_scale", "{}");
  accepts("finetune: {train: top:2}\n");
  patterns_are("finetune.train", "top:2");
  accepts("finetune: {train: all}\noptimizer: {lr_scale: }\n");
  patterns_are("finetune.train", "all");
  patterns_are("optimizer.lr_scale", "{}");
  accepts("finetune:\n  train: layers.[0-5].*\n");
  patterns_are("finetune.train", "[\"layers.[0-5].*\"]");
  accepts("finetune: {train: [\"*.bias\", head]}\noptimizer: {lr_scale: {\"head.*\": 5, layers.0.*: 0.1, \"*\": 0}}\n");
  patterns_are("finetune.train", "[\"*.bias\", \"head\"]");
  patterns_are("optimizer.lr_scale", "{\"head.*\": 5, \"layers.0.*\": 0.1, \"*\": 0}");
  gd_config_override overrides[] = {{"--set", "finetune.train", "[head, \"layers.11.*\"]"},
                                    {"--set", "optimizer.lr_scale", "{final_norm.*: 2.5}"}};
  assert_int_equal(gd_config_load(0, overrides, 2, &spec, 0), GD_OK);
  patterns_are("finetune.train", "[\"head\", \"layers.11.*\"]");
  patterns_are("optimizer.lr_scale", "{\"final_norm.*\": 2.5}");
  overrides[0].value = "*.weight";
  assert_int_equal(gd_config_load(0, overrides, 2, &spec, 0), GD_OK);
  patterns_are("finetune.train", "[\"*.weight\"]");
}

static void wrong_patterns_say_what_was_expected(void **state) {
  (void)state;
  static const char names[] = "expected a tensor name of at most 63 letters, with *, ? or [a-b]";
  char message[256], list[1024] = "[";
  refuses("finetune:\n  train: []\n",
          "run.yaml:2: finetune.train: found an empty list, expected at least one pattern: else everything would be frozen");
  refuses("finetune:\n  train:\n",
          "run.yaml:2: finetune.train: found no value, expected all, head, top:K, or a list of tensor names with * in them");
  refuses("finetune:\n  train: [all, head]\n",
          "run.yaml:2: finetune.train: found all beside other patterns, expected all alone");
  refuses("finetune:\n  train: [head, head]\n", "run.yaml:2: finetune.train: found head twice, expected it once");
  refuses("finetune:\n  train: [[head]]\n", "run.yaml:2: finetune.train: found a list inside the list, expected a tensor name");
  refuses("finetune:\n  train: {a: 1}\n", "run.yaml:2: finetune.train: found a section, expected a single value or a list");
  snprintf(message, sizeof message, "run.yaml:2: finetune.train: found \"a b\", %s", names);
  refuses("finetune:\n  train: [a b]\n", message);
  snprintf(message, sizeof message, "run.yaml:2: optimizer.lr_scale: found \"a,b\", %s", names);
  refuses("optimizer:\n  lr_scale: {\"a,b\": 1}\n", message);
  for (int i = 0; i <= GD_MAX_PATTERNS; i++) snprintf(list + strlen(list), sizeof list - strlen(list), "layers.%d.*, ", i);
  snprintf(list + strlen(list), sizeof list - strlen(list), "head]");
  refuses_override("--set", "finetune.train", list,
                   "--set finetune.train: found more than 24 patterns, expected at most so many; * stands for many names");
  refuses("optimizer:\n  lr_scale: 5\n",
          "run.yaml:2: optimizer.lr_scale: found \"5\", expected a map of tensor names to factors: {\"final_norm.*\": 5}");
  refuses("optimizer:\n  lr_scale: [1]\n",
          "run.yaml:2: optimizer.lr_scale: found a list, expected a map of tensor names to factors");
  static const char *const factors[] = {"-0.5", "nan", "inf", "1e7", "0x2", "fast", ""};
  for (size_t i = 0; i < sizeof factors / sizeof *factors; i++) {
    char text[128];
    snprintf(text, sizeof text, "optimizer:\n  lr_scale: {\"head.*\": \"%s\"}\n", factors[i]);
    snprintf(message, sizeof message, "run.yaml:2: optimizer.lr_scale: head.*: found \"%s\", expected a number from 0 to 1e+06",
             factors[i]);
    refuses(text, message);
  }
  refuses("optimizer:\n  lr_scale: {\"a.*\": 1, \"a.*\": 2}\n",
          "run.yaml:2: optimizer.lr_scale: found a.* twice, expected it once");
  refuses_override("--set", "optimizer.lr_scale", "{\"head.*\": 1",
                   "--set optimizer.lr_scale: not a valid map: did not find expected ',' or '}'");
  refuses_override("--set", "optimizer.lr_scale", "{\"*\": 5e5} x",
                   "--set optimizer.lr_scale: found more behind the map, expected its end");
  refuses_override("--set", "optimizer.lr_scale", "{\"*\": 5}\n--- {\"*\": 6}",
                   "--set optimizer.lr_scale: found more behind the map, expected its end");
  refuses_override("--set", "finetune.train", "[head] x", "--set finetune.train: found more behind the list, expected its end");
  refuses_override("--set", "data.path", "[a] b", "--set data.path: found more behind the list, expected its end");
  accepts("optimizer: {lr_scale: \"{'*': 5} # all\"}\n");
  patterns_are("optimizer.lr_scale", "{\"*\": 5}");
}

/* What learns is compared tensor by tensor, as the checkpoint has it. */
static void a_resumed_run_trains_the_same_tensors_in_whatever_words(void **state) {
  (void)state;
  static gd_spec then;
  gd_tensor saved[3] = {{"a.weight", 1, 4, 1, false}, {"b.weight", 1, 4, 1, true}, {"c.weight", 1, 4, 1, false}};
  gd_tensor here[3];
  memcpy(here, saved, sizeof saved);
  gd_config_defaults(&spec);
  assert_int_equal(gd_config_set(gd_config_find("finetune.train"), "[a.*, c.*]", "test", &spec), GD_OK);
  then = spec;
  assert_int_equal(gd_config_set(gd_config_find("finetune.train"), "[\"[ac]*\"]", "test", &spec), GD_OK);
  assert_int_equal(gd_config_resume(&then, &spec, 0, "C"), GD_OK);
  assert_int_equal(gd_config_resume_trained(&then, saved, 3, &spec, here, 3, "C"), GD_OK);
  here[2].frozen = true;
  assert_int_equal(gd_config_resume_trained(&then, saved, 3, &spec, here, 3, "C"), GD_USAGE);
  assert_string_equal(
      gd_error_text(),
      "finetune.train: found [\"[ac]*\"], expected [\"a.*\", \"c.*\"] as in C, whose weights and moments belong "
      "to that (c.weight learns there and is frozen here); choose another run.directory (model.init_from takes "
      "the weights alone), or --resume none");
  /* A checkpoint whose settings say the same and whose tensors do not. */
  here[1].frozen = false;
  assert_int_equal(gd_config_resume_trained(&then, saved, 3, &then, here, 3, "C"), GD_USAGE);
  assert_non_null(strstr(gd_error_text(), "(b.weight is frozen there and learns here)"));
  /* A name that one side lacks is another model's. */
  assert_int_equal(gd_config_resume_trained(&then, saved + 2, 1, &then, here, 1, "C"), GD_OK);
  gd_error_clear();
  assert_int_equal(gd_config_check_allowed("finetune.train"), GD_USAGE);
  assert_non_null(strstr(gd_error_text(), "finetune.train: a checkpoint has no meaning with another one"));
  gd_error_clear();
}

static void keep_factors_line(void *context, const char *line) {
  if (strncmp(line, "optimizer.lr_scale ", 19) == 0) snprintf(context, 128, "%s", line);
}

static void help_tells_the_range_of_factors(void **state) {
  (void)state;
  char line[128] = "";
  gd_config_print_help(keep_factors_line, line);
  assert_string_equal(line, "optimizer.lr_scale           map of numbers 0..1e+06; default {}");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(patterns_are_a_word_or_a_list_or_a_map),
      cmocka_unit_test(wrong_patterns_say_what_was_expected),
      cmocka_unit_test(a_resumed_run_trains_the_same_tensors_in_whatever_words),
      cmocka_unit_test(help_tells_the_range_of_factors),
  };
  return cmocka_run_group_tests(tests, 0, 0);
}
