/* The command line: every program reads it the same way and answers a slip with the nearest valid option. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "launch/options.h"

static const char *resume;
static bool dry_run;
static int64_t count, seconds;
static double share;
static gd_option_texts stops;
static const gd_option options[] = {
    {"--resume", GD_OPTION_TEXT, &resume, "auto|none|DIR", "", 0, 0},
    {"--dry-run", GD_OPTION_FLAG, &dry_run, 0, "", 0, 0},
    {"-n", GD_OPTION_INTEGER, &count, "N", "", 1, 64},
    {"--max-wait", GD_OPTION_SECONDS, &seconds, "T", "", 0, 0},
    {"--share", GD_OPTION_NUMBER, &share, "X", "", 0, 1},
    {"--stop", GD_OPTION_TEXTS, &stops, "S", "", 0, 0},
    {0, 0, 0, 0, 0, 0, 0},
};
static gd_program program = {.name = "x", .purpose = "", .usage = "", .options = options, .takes_config = true};
static gd_command_line line;
static bool done;

/* words: separated by '|'. */
static gd_status parse(const char *words) {
  static char text[512];
  static char *argv[64];
  int argc = 1;
  snprintf(text, sizeof text, "%s", words);
  argv[0] = "x";
  for (char *word = strtok(text, "|"); word; word = strtok(0, "|")) argv[argc++] = word;
  resume = 0, dry_run = false, count = 0, seconds = 0, share = 0, stops.count = 0;
  return gd_options_parse(&program, argc, argv, &line, &done);
}

static void refuses(const char *words, const char *message) {
  gd_status status = parse(words);
  if (status != GD_USAGE || strcmp(gd_error_text(), message) != 0) {
    fail_msg("%s: status %d\nsaid     %s\nexpected %s", words, status, status ? gd_error_text() : "", message);
  }
}

static void both_ways_of_giving_a_value_work(void **state) {
  (void)state;
  assert_int_equal(parse("--resume|none|--dry-run|-n|4|--max-wait=2h|--share=0.5|--stop|a|--stop|b|--config|f.yaml|--json"),
                   GD_OK);
  assert_string_equal(resume, "none");
  assert_true(dry_run && line.json && !done);
  assert_int_equal(count, 4);
  assert_int_equal(seconds, 7200);
  assert_true(share == 0.5);
  assert_int_equal(stops.count, 2);
  assert_string_equal(line.config, "f.yaml");
}

static void keys_come_by_set_and_by_their_other_spellings(void **state) {
  (void)state;
  assert_int_equal(parse("--set|model.layers=3|--lr|1e-3|--min-lr=1e-4|--bf16|--set=data.path=a=b"), GD_OK);
  assert_int_equal(line.overrides, 5);
  gd_spec spec;
  if (gd_options_load(&line, false, &spec, 0) != GD_OK) fail_msg("%s", gd_error_text());
  assert_int_equal(spec.model.layers, 3);
  assert_true(spec.optimizer.lr == 1e-3f && spec.optimizer.min_lr == 1e-4f);
  assert_int_equal(spec.precision.dtype, GD_BFLOAT16);
  assert_string_equal(spec.data.path[0], "a=b");
}

static void slips_get_the_nearest_option(void **state) {
  (void)state;
  refuses("--resum|none", "--resum: unknown option; did you mean \"--resume\"?");
  refuses("--micro-batch-sise|4", "--micro-batch-sise: unknown option; did you mean \"--micro-batch-size\"?");
  refuses("--optimizer.lr=3", "--optimizer.lr: unknown option; did you mean \"--set optimizer.lr=...\"?");
  refuses("--frobnicate", "--frobnicate: unknown option; --help lists all options");
  refuses("--resume", "--resume: found nothing after it, expected a value");
  refuses("--dry-run=yes", "--dry-run: found the value \"yes\", expected none");
  refuses("-n|65", "-n: found \"65\", expected an integer from 1 to 64");
  refuses("-n|four", "-n: found \"four\", expected an integer from 1 to 64");
  refuses("--share|1.5", "--share: found \"1.5\", expected a number from 0 to 1");
  refuses("--max-wait|2x", "--max-wait: found \"2x\", expected a time (90, 30m, 2h, 1d)");
  refuses("--set|model.layers", "--set: found \"model.layers\", expected section.key=value");
  refuses("word", "\"word\": found a word that belongs to no option");
  assert_int_equal(parse("--lr|quick"), GD_OK);
  gd_spec spec;
  assert_int_equal(gd_options_load(&line, false, &spec, 0), GD_USAGE);
  assert_string_equal(gd_error_text(), "--lr (optimizer.lr): found \"quick\", expected a number from 0 to 1000");
  assert_int_equal(gd_options_load(&line, true, &spec, 0), GD_USAGE);
  assert_string_equal(gd_error_text(), "--config: found none, expected --config FILE (a run file)");
}

static void arguments_are_kept_in_order(void **state) {
  (void)state;
  program.takes_arguments = true;
  assert_int_equal(parse("a|--dry-run|b|--|--resume|c"), GD_OK);
  assert_int_equal(line.arguments, 4);
  assert_string_equal(line.argument[0], "a");
  assert_string_equal(line.argument[1], "b");
  assert_string_equal(line.argument[2], "--resume");
  assert_string_equal(line.argument[3], "c");
  assert_true(dry_run && !resume);
  program.takes_arguments = false;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(both_ways_of_giving_a_value_work),
      cmocka_unit_test(keys_come_by_set_and_by_their_other_spellings),
      cmocka_unit_test(slips_get_the_nearest_option),
      cmocka_unit_test(arguments_are_kept_in_order),
  };
  return cmocka_run_group_tests(tests, 0, 0);
}
