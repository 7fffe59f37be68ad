/* gptdist-ckpt: what it prints and the codes it leaves with. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/checkpoint_fixture.h"
#include "io/base/files.h"
#include "io/base/json.h"

static char folder[64], output[65536];

static int setup(void **state) {
  (void)state;
  strcpy(folder, "/tmp/gptdist-tool-XXXXXX");
  return mkdtemp(folder) ? 0 : 1;
}

static int teardown(void **state) {
  (void)state;
  return gd_folder_remove(folder) == GD_OK ? 0 : 1;
}

/* Output and errors together. Returns the exit code. */
static int tool(const char *format, ...) {
  char words[512], command[1024];
  va_list list;
  va_start(list, format);
  vsnprintf(words, sizeof words, format, list);
  va_end(list);
  snprintf(command, sizeof command, "'%s/bin/gptdist-ckpt' %s 2>&1", GD_BUILD_DIR, words);
  FILE *pipe = popen(command, "r");
  assert_non_null(pipe);
  size_t got = fread(output, 1, sizeof output - 1, pipe);
  output[got] = 0;
  int code = pclose(pipe);
  assert_true(WIFEXITED(code));
  return WEXITSTATUS(code);
}

static void assert_says(const char *text) {
  if (!strstr(output, text)) fail_msg("\"%s\" is not in \"%s\"", text, output);
}

static void make_run(const char *name, int64_t first, int64_t last, int pieces) {
  char path[128];
  int64_t published;
  gd_checkpoint_writer *writer = NULL;
  snprintf(path, sizeof path, "%s/%s/checkpoints", folder, name);
  assert_int_equal(fixture_writer(path, 9, &writer), GD_OK);
  for (int64_t step = first; step <= last; step++) assert_int_equal(fixture_save(writer, step, pieces, &published), GD_OK);
  gd_checkpoint_writer_close(writer);
}

static void flip(const char *name) {
  char path[256];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *file = fopen(path, "r+b");
  assert_non_null(file);
  fseek(file, 40000, SEEK_SET);
  int byte = fgetc(file);
  fseek(file, 40000, SEEK_SET);
  fputc(byte ^ 4, file);
  fclose(file);
}

static void test_inspect_tells_state_layout_files_and_tensors(void **state) {
  (void)state;
  make_run("a", 1, 2, 2);
  assert_int_equal(tool("inspect %s/a", folder), 0);
  assert_says("step-00000002");
  assert_says("tokens           20\n");
  assert_says("3 tensors of 144448 elements: weights, first and second moments");
  assert_says("layers.0.mlp.up.weight                           [256, 64]");
  assert_says("rank-00000.h5");
  assert_int_equal(tool("inspect %s/a/checkpoints/step-00000001 --json --settings", folder), 0);
  gd_json *root = NULL;
  int64_t step = 0;
  assert_int_equal(gd_json_parse(output, strlen(output), "output", 1, &root), GD_OK);
  assert_true(gd_json_integer(gd_json_get(root, "step"), &step) && step == 1);
  assert_non_null(gd_json_get(gd_json_get(root, "settings"), "model.layers"));
  assert_non_null(gd_json_get(gd_json_get(root, "tensors"), "final_norm.weight"));
  gd_json_free(root);
}

/* A manifest may come from anywhere. */
static void test_inspect_quotes_names(void **state) {
  (void)state;
  static const gd_tensor tensors[] = {{"a\"\\", 1, 2, 1, false}, {"b\"\\", 1, 2, 1, true}};
  float data[2] = {1, 2};
  char path[128];
  int64_t published;
  gd_spec spec;
  gd_mesh mesh;
  gd_checkpoint_writer *writer = NULL;
  gd_checkpoint_box boxes[4];
  gd_run_state at = {.step = 1, .best_step = -1, .lr_factor = 1};
  for (int i = 0; i < 4; i++) boxes[i] = (gd_checkpoint_box){i == 3, (gd_checkpoint_kind)(i % 3), {0, 2, 0, 1}, data};
  gd_config_defaults(&spec);
  assert_int_equal(gd_mesh_init(&mesh, 1, 1, 1, 1), GD_OK);
  snprintf(path, sizeof path, "%s/names/checkpoints", folder);
  assert_int_equal(gd_checkpoint_writer_open(NULL, path, &spec, &mesh, tensors, 2, NULL, &writer), GD_OK);
  assert_int_equal(gd_checkpoint_save(writer, &at, boxes, 4), GD_OK);
  assert_int_equal(gd_checkpoint_finish(writer, &published), GD_OK);
  gd_checkpoint_writer_close(writer);
  assert_int_equal(tool("inspect %s/names --json", folder), 0);
  gd_json *root = NULL;
  if (gd_json_parse(output, strlen(output), "output", 1, &root) != GD_OK) fail_msg("%s", gd_error_text());
  assert_non_null(gd_json_get(gd_json_get(root, "tensors"), "a\"\\"));
  assert_says("\"frozen\": [\"b\\\"\\\\\"]");
  gd_json_free(root);
}

static void test_the_hash_is_one_line_and_the_same_for_other_boxes(void **state) {
  (void)state;
  char first[128];
  make_run("a", 1, 1, 1);
  make_run("b", 1, 1, 5);
  make_run("c", 2, 2, 1);
  assert_int_equal(tool("hash %s/a", folder), 0);
  assert_int_equal(strlen(output), 65);
  strcpy(first, output);
  assert_int_equal(tool("hash %s/b/checkpoints", folder), 0);
  assert_string_equal(first, output);
  assert_int_equal(tool("hash %s/c", folder), 0);
  assert_string_not_equal(first, output);
  assert_int_equal(tool("hash --json %s/c", folder), 0);
  assert_says("\", \"step\": 2}");
}

static void test_diff_names_the_first_element_and_leaves_with_1(void **state) {
  (void)state;
  make_run("a", 1, 1, 1);
  make_run("b", 1, 1, 5);
  make_run("c", 2, 2, 1);
  assert_int_equal(tool("diff %s/a %s/b", folder, folder), 0);
  assert_says("equal: 9 tensors equal, 0 differences");
  assert_int_equal(tool("diff %s/a %s/c", folder, folder), 1);
  assert_says("step state: 1 and 2");
  assert_says("layers.0.mlp.up.weight first: 16384 of 16384 elements differ, by at most 100; first at [0, 0]: 111 and 211");
  assert_int_equal(tool("diff --json %s/a %s/c", folder, folder), 1);
  assert_says("{\"equal\": false, \"equal_tensors\": 0, \"differences\": 13}");
}

static void test_verify_finds_damage_and_leaves_with_65(void **state) {
  (void)state;
  make_run("a", 1, 3, 1);
  assert_int_equal(tool("verify %s/a", folder), 0);
  assert_says("step-00000003: whole\n");
  flip("a/checkpoints/step-00000002/rank-00000.h5");
  assert_int_equal(tool("verify %s/a", folder), 65);
  assert_says("step-00000001: whole\n");
  assert_says("step-00000002/rank-00000.h5: is damaged: SHA-256 is ");
  assert_says("1 of 3 checkpoints are damaged");
  assert_int_equal(tool("verify %s/a/checkpoints/step-00000002", folder), 65);
  assert_int_equal(tool("verify %s/a/checkpoints/step-00000003", folder), 0);
}

static void test_wrong_lines_are_explained(void **state) {
  (void)state;
  assert_int_equal(tool("hash %s", folder), 65);
  assert_says("found no checkpoint there");
  assert_int_equal(tool("hash"), 64);
  assert_says("hash: found 0 folders, expected 1");
  assert_int_equal(tool("frobnicate x"), 64);
  assert_says("frobnicate: unknown verb");
  assert_int_equal(tool("diff --jsno a b"), 64);
  assert_says("--json");
  assert_int_equal(tool("--help"), 0);
  assert_says("gptdist-ckpt");
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
  const struct CMUnitTest tests[] = {
      TEST(test_inspect_tells_state_layout_files_and_tensors),
      TEST(test_inspect_quotes_names),
      TEST(test_the_hash_is_one_line_and_the_same_for_other_boxes),
      TEST(test_diff_names_the_first_element_and_leaves_with_1),
      TEST(test_verify_finds_damage_and_leaves_with_65),
      TEST(test_wrong_lines_are_explained),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
