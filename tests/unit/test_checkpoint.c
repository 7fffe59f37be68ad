/* Checkpoints of one process: what is saved is loaded, bit for bit, whatever boxes wrote it and read it; damage is seen, set
 * aside and passed over; faults of the disk leave older checkpoints as they were. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <dirent.h>
#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/checkpoint/checkpoint.h"
#include "io/tokenizer/tokenizer.h"
#include "io/config/config.h"
#include "io/base/files.h"
#include "shard/base/log.h"

enum { TENSORS = 4, MOST_BOXES = 64 };

static const gd_tensor tensors[TENSORS] = {
    {"final_norm.weight", 1, 24, 1, false},
    {"layers.0.mlp.up.weight", 2, 96, 24, false},
    {"layers.0.mlp.up.bias", 1, 96, 1, false},
    {"token_embedding.weight", 2, 301, 24, false},
};
static gd_tensor sorted[TENSORS];
static char folder[64];
static float *values[TENSORS][GD_KINDS];
static char log_text[8192];

static void keep_log(void *context, gd_log_level level, const char *line) {
  (void)context;
  (void)level;
  size_t used = strlen(log_text);
  snprintf(log_text + used, sizeof log_text - used, "%s\n", line);
}

static int compare_names(const void *a, const void *b) {
  return strcmp(((const gd_tensor *)a)->name, ((const gd_tensor *)b)->name);
}

static int64_t elements(int t) {
  return sorted[t].rows * sorted[t].cols;
}

static int setup(void **state) {
  (void)state;
  strcpy(folder, "/tmp/gptdist-checkpoint-XXXXXX");
  if (!mkdtemp(folder)) return 1;
  memcpy(sorted, tensors, sizeof sorted);
  qsort(sorted, TENSORS, sizeof *sorted, compare_names);
  for (int t = 0; t < TENSORS; t++)
    for (int k = 0; k < GD_KINDS; k++) values[t][k] = malloc((size_t)elements(t) * sizeof(float));
  log_text[0] = 0;
  gd_log_set_sink(keep_log, NULL);
  return 0;
}

static int teardown(void **state) {
  (void)state;
  for (int t = 0; t < TENSORS; t++)
    for (int k = 0; k < GD_KINDS; k++) free(values[t][k]);
  return gd_folder_remove(folder) == GD_OK ? 0 : 1;
}

/* Bits that depend on step, tensor, kind and element, NaNs and denormals among them. */
static float value(int64_t step, int t, int k, int64_t e) {
  uint32_t bits = (uint32_t)(e * 2654435761u) ^ (uint32_t)(step * 40503) ^ (uint32_t)(t * 7919 + k * 104729);
  float result;
  memcpy(&result, &bits, sizeof result);
  return result;
}

static void fill(int64_t step) {
  for (int t = 0; t < TENSORS; t++)
    for (int k = 0; k < GD_KINDS; k++)
      for (int64_t e = 0; e < elements(t); e++) values[t][k][e] = value(step, t, k, e);
}

/* Every tensor of the first `kinds` kinds in `pieces` boxes of rows. */
static int32_t boxes_of(int kinds, int pieces, gd_checkpoint_box *boxes) {
  int32_t count = 0;
  for (int t = TENSORS - 1; t >= 0; t--)
    for (int k = 0; k < kinds; k++)
      for (int p = 0; p < pieces; p++) {
        int64_t first = sorted[t].rows * p / pieces, last = sorted[t].rows * (p + 1) / pieces;
        boxes[count++] = (gd_checkpoint_box){
            t, (gd_checkpoint_kind)k, {first, last - first, 0, sorted[t].cols}, values[t][k] + first * sorted[t].cols};
      }
  return count;
}

static gd_checkpoint_writer *open_writer(int keep, bool in_background) {
  gd_spec spec;
  gd_mesh mesh;
  gd_config_defaults(&spec);
  spec.checkpoint.keep = keep;
  spec.checkpoint.background = in_background;
  spec.optimizer.lr = 0.1f;
  strcpy(spec.run.directory, "runs/a \"quoted\" name: \xc3\xa9");
  assert_int_equal(gd_mesh_init(&mesh, 1, 1, 1, 1), GD_OK);
  gd_checkpoint_writer *writer = NULL;
  gd_status status = gd_checkpoint_writer_open(NULL, folder, &spec, &mesh, sorted, TENSORS, NULL, &writer);
  if (status != GD_OK) print_message("%s\n", gd_error_text());
  assert_int_equal(status, GD_OK);
  return writer;
}

static gd_run_state state_of(int64_t step) {
  return (gd_run_state){.step = step,
                        .tokens = step * 1000,
                        .draws = step * 8,
                        .applied_steps = step - 1,
                        .bad_steps = 1,
                        .best_validation = 1.0 / 3,
                        .best_step = 777,
                        .validated_step = 778,
                        .lr_factor = 1};
}

static gd_status save(gd_checkpoint_writer *writer, int64_t step, int kinds, int pieces) {
  gd_checkpoint_box boxes[MOST_BOXES];
  gd_run_state state = state_of(step);
  int64_t published = 0;
  fill(step);
  gd_status status = gd_checkpoint_save(writer, &state, boxes, boxes_of(kinds, pieces, boxes));
  if (status == GD_OK) status = gd_checkpoint_finish(writer, &published);
  if (status == GD_OK) assert_int_equal(published, step);
  return status;
}

static void save_steps(int64_t first, int64_t last, int keep) {
  gd_checkpoint_writer *writer = open_writer(keep, true);
  for (int64_t step = first; step <= last; step++) assert_int_equal(save(writer, step, 3, 2), GD_OK);
  gd_checkpoint_writer_close(writer);
}

/* The boxes of gd_checkpoint_read are columns here, rows were written. */
static void assert_holds(const gd_checkpoint *checkpoint, int64_t step) {
  assert_int_equal(gd_checkpoint_state(checkpoint)->step, step);
  for (int t = 0; t < TENSORS; t++)
    for (int k = 0; k < GD_KINDS; k++)
      for (int part = 0; part < 2; part++) {
        int64_t half = (sorted[t].cols + 1) / 2, col = part * half, cols = part ? sorted[t].cols - half : half;
        if (!cols) continue;
        gd_checkpoint_box box = {t, (gd_checkpoint_kind)k, {1, sorted[t].rows - 2, col, cols}, NULL};
        box.data = malloc((size_t)gd_box_elements(box.box) * sizeof(float));
        assert_int_equal(gd_checkpoint_read(checkpoint, sorted, &box, 1), GD_OK);
        for (int64_t r = 0; r < box.box.rows; r++)
          for (int64_t c = 0; c < cols; c++) {
            float expected = value(step, t, k, (r + 1) * sorted[t].cols + col + c);
            assert_memory_equal(&expected, &box.data[r * cols + c], sizeof expected);
          }
        free(box.data);
      }
}

static gd_checkpoint *open_newest(bool set_aside) {
  gd_checkpoint *checkpoint = NULL;
  gd_status status = gd_checkpoint_open(NULL, folder, set_aside, &checkpoint);
  if (status != GD_OK) print_message("%s\n", gd_error_text());
  assert_int_equal(status, GD_OK);
  assert_non_null(checkpoint);
  return checkpoint;
}

static bool exists(const char *name) {
  char path[256];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  return gd_file_exists(path) || gd_folder_exists(path);
}

static int leftovers(void) {
  int count = 0;
  DIR *entries = opendir(folder);
  for (struct dirent *entry; (entry = readdir(entries));) count += strstr(entry->d_name, ".tmp-") != NULL;
  closedir(entries);
  return count;
}

static void test_what_was_saved_is_loaded_bit_for_bit(void **state) {
  (void)state;
  save_steps(7, 7, 3);
  gd_checkpoint *checkpoint = open_newest(false);
  assert_holds(checkpoint, 7);
  const gd_run_state *run = gd_checkpoint_state(checkpoint);
  gd_run_state expected = state_of(7);
  assert_memory_equal(run, &expected, sizeof expected);
  const gd_spec *spec = gd_checkpoint_run_spec(checkpoint);
  gd_spec defaults;
  gd_config_defaults(&defaults);
  defaults.checkpoint.keep = 3;
  defaults.optimizer.lr = 0.1f;
  strcpy(defaults.run.directory, "runs/a \"quoted\" name: \xc3\xa9");
  defaults.checkpoint.background = true;
  assert_memory_equal(spec, &defaults, sizeof defaults);
  int32_t count = 0;
  uint32_t kinds = 0;
  assert_memory_equal(gd_checkpoint_tensors(checkpoint, &count, &kinds), sorted, sizeof sorted);
  assert_int_equal(count, TENSORS);
  assert_int_equal(kinds, 7);
  assert_int_equal(gd_checkpoint_mesh(checkpoint)->ranks, 1);
  gd_checkpoint_close(checkpoint);
  assert_int_equal(leftovers(), 0);
}

static void test_the_hash_does_not_depend_on_boxes_but_on_values_and_state(void **state) {
  (void)state;
  char first[65], second[65], third[65];
  gd_checkpoint_writer *writer = open_writer(9, false);
  assert_int_equal(save(writer, 5, 3, 1), GD_OK);
  gd_checkpoint *checkpoint = open_newest(false);
  assert_int_equal(gd_checkpoint_hash(checkpoint, first), GD_OK);
  gd_checkpoint_close(checkpoint);
  assert_int_equal(save(writer, 5, 3, 5), GD_OK); /* the same step again replaces the folder */
  checkpoint = open_newest(false);
  assert_int_equal(gd_checkpoint_hash(checkpoint, second), GD_OK);
  assert_int_equal(gd_checkpoint_manifest(checkpoint)->box_count, 60);
  gd_checkpoint_close(checkpoint);
  assert_string_equal(first, second);
  gd_checkpoint_box boxes[MOST_BOXES];
  gd_run_state other = state_of(5);
  other.bad_steps++;
  int64_t published;
  assert_int_equal(gd_checkpoint_save(writer, &other, boxes, boxes_of(3, 5, boxes)), GD_OK);
  assert_int_equal(gd_checkpoint_finish(writer, &published), GD_OK);
  checkpoint = open_newest(false);
  assert_int_equal(gd_checkpoint_hash(checkpoint, third), GD_OK);
  gd_checkpoint_close(checkpoint);
  assert_string_not_equal(first, third);
  gd_run_state waiting = state_of(5);
  waiting.wait++;
  assert_int_equal(gd_checkpoint_save(writer, &waiting, boxes, boxes_of(3, 5, boxes)), GD_OK);
  assert_int_equal(gd_checkpoint_finish(writer, &published), GD_OK);
  checkpoint = open_newest(false);
  assert_int_equal(gd_checkpoint_hash(checkpoint, third), GD_OK);
  gd_checkpoint_close(checkpoint);
  assert_string_not_equal(first, third);
  gd_checkpoint_writer_close(writer);
  assert_int_equal(leftovers(), 0);
}

static void test_the_newest_the_best_and_the_last_are_kept(void **state) {
  (void)state;
  gd_checkpoint_writer *writer = open_writer(2, true);
  for (int64_t step = 1; step <= 5; step++) {
    assert_int_equal(save(writer, step, 3, 1), GD_OK);
    if (step == 1 || step == 2) assert_int_equal(gd_checkpoint_mark_best(writer, step), GD_OK);
  }
  gd_checkpoint_writer_close(writer);
  assert_false(exists("step-00000001"));
  assert_true(exists("step-00000002"));
  assert_false(exists("step-00000003"));
  assert_true(exists("step-00000004"));
  assert_true(exists("step-00000005"));
  writer = open_writer(2, true);
  assert_int_equal(gd_checkpoint_mark_best(writer, 4), GD_OK); /* the best until now goes at once */
  gd_checkpoint_writer_close(writer);
  assert_false(exists("step-00000002"));
  assert_true(exists("step-00000004"));
  assert_int_equal(leftovers(), 0);
}

static void test_an_empty_folder_holds_no_checkpoint_and_that_is_no_fault(void **state) {
  (void)state;
  gd_checkpoint *checkpoint = (gd_checkpoint *)folder;
  assert_int_equal(gd_checkpoint_open(NULL, folder, true, &checkpoint), GD_OK);
  assert_null(checkpoint);
  assert_int_equal(gd_checkpoint_open(NULL, "/tmp/gptdist-there-is-no-such-folder", true, &checkpoint), GD_OK);
  assert_null(checkpoint);
}

static void test_another_model_is_refused_by_name_and_shape(void **state) {
  (void)state;
  save_steps(1, 1, 3);
  gd_checkpoint *checkpoint = open_newest(false);
  gd_tensor other[TENSORS];
  memcpy(other, sorted, sizeof other);
  float out[64];
  other[3].rows = 302;
  gd_checkpoint_box box = {3, GD_KIND_WEIGHTS, {0, 1, 0, 24}, out};
  assert_int_equal(gd_checkpoint_read(checkpoint, other, &box, 1), GD_BAD_DATA);
  assert_non_null(strstr(gd_error_text(), "token_embedding.weight is 301 x 24, this run expects 302 x 24"));
  strcpy(other[3].name, "head.weight");
  assert_int_equal(gd_checkpoint_read(checkpoint, other, &box, 1), GD_BAD_DATA);
  assert_non_null(strstr(gd_error_text(), "has no tensor head.weight"));
  gd_checkpoint_close(checkpoint);
}

static void test_weights_alone_can_be_saved_and_moments_are_missed_by_name(void **state) {
  (void)state;
  gd_checkpoint_writer *writer = open_writer(2, true);
  assert_int_equal(save(writer, 1, 1, 3), GD_OK);
  gd_checkpoint_writer_close(writer);
  gd_checkpoint *checkpoint = open_newest(false);
  float out[24];
  gd_checkpoint_box box = {0, GD_KIND_SECOND, {0, 1, 0, 1}, out};
  assert_int_equal(gd_checkpoint_read(checkpoint, sorted, &box, 1), GD_BAD_DATA);
  assert_non_null(strstr(gd_error_text(), "no second moments"));
  gd_checkpoint_close(checkpoint);
}

static void test_boxes_that_do_not_cover_the_model_are_our_bug_and_nothing_is_published(void **state) {
  (void)state;
  gd_checkpoint_writer *writer = open_writer(2, true);
  assert_int_equal(save(writer, 1, 3, 1), GD_OK);
  gd_checkpoint_box boxes[MOST_BOXES];
  gd_run_state run = state_of(2);
  int64_t published;
  int32_t count = boxes_of(3, 2, boxes);
  assert_int_equal(gd_checkpoint_save(writer, &run, boxes, count - 1), GD_OK);
  assert_int_equal(gd_checkpoint_finish(writer, &published), GD_BUG);
  assert_int_equal(published, -1);
  gd_checkpoint_writer_close(writer);
  assert_int_equal(leftovers(), 0);
  gd_checkpoint *checkpoint = open_newest(false);
  assert_holds(checkpoint, 1);
  gd_checkpoint_close(checkpoint);
}

/* ---- damage ---- */

static void damage(const char *name, long offset, bool truncate_it) {
  char path[256];
  snprintf(path, sizeof path, "%s/step-00000002/%s", folder, name);
  FILE *file = fopen(path, "r+b");
  assert_non_null(file);
  fseek(file, 0, SEEK_END);
  long size = ftell(file);
  if (offset < 0) offset += size;
  if (truncate_it) {
    assert_int_equal(truncate(path, offset), 0);
  } else {
    fseek(file, offset, SEEK_SET);
    int byte = fgetc(file);
    fseek(file, offset, SEEK_SET);
    fputc(byte ^ 0x10, file);
  }
  fclose(file);
}

static void assert_older_loads(const char *named) {
  gd_checkpoint *checkpoint = open_newest(true);
  assert_holds(checkpoint, 1);
  gd_checkpoint_close(checkpoint);
  assert_true(exists("step-00000002.bad"));
  assert_false(exists("step-00000002"));
  assert_non_null(strstr(log_text, "set aside as step-00000002.bad"));
  assert_non_null(strstr(log_text, named));
}

static void test_a_flipped_bit_anywhere_is_seen_and_the_older_one_loads(void **state) {
  static const struct {
    const char *name;
    long offset;
  } places[] = {{"MANIFEST.pb", 0}, {"MANIFEST.pb", 200}, {"MANIFEST.pb", -1},     {"SHA256SUMS", 3},    {"SHA256SUMS", 70},
                {"SHA256SUMS", -2}, {"rank-00000.h5", 9}, {"rank-00000.h5", 5000}, {"rank-00000.h5", -1}};
  for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
    save_steps(1, 2, 3);
    damage(places[i].name, places[i].offset, false);
    assert_older_loads(strncmp(places[i].name, "rank", 4) == 0 ? "rank-00000.h5: is damaged" : "SHA256SUMS");
    teardown(state);
    setup(state);
  }
}

static void test_truncated_and_missing_files_are_seen_and_the_older_one_loads(void **state) {
  static const char *const names[] = {"MANIFEST.pb", "SHA256SUMS", "rank-00000.h5"};
  for (size_t i = 0; i < 3; i++)
    for (int way = 0; way < 2; way++) {
      char path[256];
      save_steps(1, 2, 3);
      snprintf(path, sizeof path, "%s/step-00000002/%s", folder, names[i]);
      if (way == 0)
        damage(names[i], -40, true);
      else
        assert_int_equal(unlink(path), 0);
      assert_older_loads(way && i != 1 ? "is missing" : "step-00000002");
      teardown(state);
      setup(state);
    }
}

static void test_a_named_bad_checkpoint_is_refused_and_left_where_it_is(void **state) {
  (void)state;
  save_steps(1, 2, 3);
  damage("rank-00000.h5", 5000, false);
  char path[256];
  snprintf(path, sizeof path, "%s/step-00000002/", folder);
  gd_checkpoint *checkpoint = NULL;
  assert_int_equal(gd_checkpoint_open(NULL, path, true, &checkpoint), GD_BAD_DATA);
  assert_non_null(strstr(gd_error_text(), "rank-00000.h5: is damaged"));
  assert_null(checkpoint);
  assert_true(exists("step-00000002"));
  assert_int_equal(gd_checkpoint_open(NULL, folder, false, &checkpoint), GD_OK);
  assert_holds(checkpoint, 1);
  gd_checkpoint_close(checkpoint);
  assert_true(exists("step-00000002"));
}

static void test_a_run_whose_checkpoints_are_all_bad_does_not_silently_start_anew(void **state) {
  (void)state;
  save_steps(2, 2, 3);
  damage("rank-00000.h5", 5000, false);
  gd_checkpoint *checkpoint = NULL;
  assert_int_equal(gd_checkpoint_open(NULL, folder, true, &checkpoint), GD_BAD_DATA);
  assert_non_null(strstr(gd_error_text(), "no checkpoint in"));
  assert_true(exists("step-00000002.bad"));
  assert_int_equal(gd_checkpoint_open(NULL, folder, true, &checkpoint), GD_BAD_DATA);
  assert_non_null(strstr(gd_error_text(), "only damaged checkpoints"));
}

static void test_a_run_taken_back_does_not_find_the_later_steps_of_its_first_try(void **state) {
  (void)state;
  save_steps(1, 4, 9);
  save_steps(2, 2, 9); /* resumed from step 1 by name */
  gd_checkpoint *checkpoint = open_newest(true);
  assert_holds(checkpoint, 2);
  gd_checkpoint_close(checkpoint);
  assert_true(exists("step-00000003.old") && exists("step-00000004.old") && exists("step-00000001"));
  assert_non_null(strstr(log_text, "set aside as step-00000004.old"));
  assert_int_equal(leftovers(), 0);
}

/* ---- faults of the system ---- */

static void test_a_full_disk_ends_that_checkpoint_only(void **state) {
  (void)state;
  save_steps(1, 1, 3);
  pid_t child = fork();
  if (child == 0) {
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit limit = {20000, 20000};
    gd_checkpoint_writer *writer = open_writer(3, true);
    setrlimit(RLIMIT_FSIZE, &limit);
    gd_status status = save(writer, 2, 3, 2);
    bool named = strstr(gd_error_text(), "rank-00000.h5") != NULL && strstr(gd_error_text(), "step 2 was not written") != NULL;
    gd_checkpoint_writer_close(writer);
    _exit(status == GD_IO && named ? 0 : 1);
  }
  int code = -1;
  assert_int_equal(waitpid(child, &code, 0), child);
  assert_int_equal(code, 0);
  assert_int_equal(leftovers(), 0);
  gd_checkpoint *checkpoint = open_newest(false);
  assert_holds(checkpoint, 1);
  gd_checkpoint_close(checkpoint);
}

static void test_a_folder_that_cannot_be_made_is_named(void **state) {
  (void)state;
  char path[256];
  gd_spec spec;
  gd_mesh mesh;
  gd_checkpoint_writer *writer = NULL;
  gd_config_defaults(&spec);
  assert_int_equal(gd_mesh_init(&mesh, 1, 1, 1, 1), GD_OK);
  snprintf(path, sizeof path, "%s/file", folder);
  assert_int_equal(gd_file_write(path, "x", 1), GD_OK);
  snprintf(path, sizeof path, "%s/file/checkpoints", folder);
  assert_int_equal(gd_checkpoint_writer_open(NULL, path, &spec, &mesh, sorted, TENSORS, NULL, &writer), GD_IO);
  assert_non_null(strstr(gd_error_text(), "file"));
}

static void test_the_leftovers_of_killed_saves_are_removed_at_the_next_start(void **state) {
  (void)state;
  char path[256];
  snprintf(path, sizeof path, "%s/step-00000009.tmp-abc/tokenizer", folder);
  assert_int_equal(gd_folder_make(path), GD_OK);
  gd_checkpoint_writer_close(open_writer(3, true));
  assert_int_equal(leftovers(), 0);
}

static void test_the_tokenizer_travels_with_the_checkpoint(void **state) {
  (void)state;
  char source[256], path[300];
  gd_spec spec;
  gd_mesh mesh;
  gd_checkpoint_writer *writer = NULL;
  gd_config_defaults(&spec);
  assert_int_equal(gd_mesh_init(&mesh, 1, 1, 1, 1), GD_OK);
  snprintf(source, sizeof source, "%s/my-tokenizer", folder);
  assert_int_equal(gd_folder_make(source), GD_OK);
  snprintf(path, sizeof path, "%s/vocab.txt", source);
  assert_int_equal(gd_file_write(path, "abc", 3), GD_OK);
  assert_int_equal(gd_checkpoint_writer_open(NULL, folder, &spec, &mesh, sorted, TENSORS, source, &writer), GD_OK);
  assert_int_equal(save(writer, 1, 3, 1), GD_OK);
  assert_int_equal(save(writer, 2, 3, 1), GD_OK);
  gd_checkpoint_writer_close(writer);
  gd_checkpoint *checkpoint = open_newest(false);
  gd_bytes text = {0};
  snprintf(path, sizeof path, "%s/vocab.txt", gd_checkpoint_tokenizer(checkpoint));
  assert_int_equal(gd_file_read(path, 100, &text), GD_OK);
  assert_string_equal(text.bytes, "abc");
  gd_bytes_free(&text);
  gd_checkpoint_close(checkpoint);
  damage("tokenizer/vocab.txt", 1, false);
  assert_older_loads("vocab.txt: is damaged");
}

static void test_a_damaged_tokenizer_goes_into_no_checkpoint(void **state) {
  (void)state;
  char source[256], path[300], digest[GD_SHA256_HEX_BYTES];
  gd_spec spec;
  gd_mesh mesh;
  gd_tokenizer *tokenizer = NULL;
  gd_checkpoint_writer *writer = NULL;
  gd_config_defaults(&spec);
  assert_int_equal(gd_mesh_init(&mesh, 1, 1, 1, 1), GD_OK);
  snprintf(source, sizeof source, "%s/my-tokenizer", folder);
  assert_int_equal(gd_tokenizer_from_characters("abc", 3, &tokenizer), GD_OK);
  assert_int_equal(gd_tokenizer_save(tokenizer, source), GD_OK);
  snprintf(digest, sizeof digest, "%s", gd_tokenizer_digest(tokenizer));
  gd_tokenizer_close(tokenizer);
  assert_int_equal(gd_checkpoint_writer_open(NULL, folder, &spec, &mesh, sorted, TENSORS, source, &writer), GD_OK);
  gd_checkpoint_writer_set_tokenizer(writer, digest);
  assert_int_equal(save(writer, 1, 3, 1), GD_OK);
  snprintf(path, sizeof path, "%s/chars.txt", source); /* turned after the start */
  assert_int_equal(gd_file_write(path, "abd", 3), GD_OK);
  assert_int_equal(save(writer, 2, 3, 1), GD_BAD_DATA);
  assert_non_null(strstr(gd_error_text(), "tokenizer/chars.txt is damaged"));
  assert_non_null(strstr(gd_error_text(), "copied from "));
  assert_non_null(strstr(gd_error_text(), source));
  /* whole, but another's */
  assert_int_equal(gd_tokenizer_from_characters("abd", 3, &tokenizer), GD_OK);
  assert_int_equal(gd_tokenizer_save(tokenizer, source), GD_OK);
  gd_tokenizer_close(tokenizer);
  assert_int_equal(save(writer, 2, 3, 1), GD_BAD_DATA);
  assert_non_null(strstr(gd_error_text(), "is another tokenizer"));
  gd_checkpoint_writer_close(writer);
  assert_true(exists("step-00000001") && !exists("step-00000002"));
}

static void test_a_folder_that_holds_another_step_than_its_name_says_is_refused(void **state) {
  (void)state;
  char from[256], to[256];
  gd_checkpoint *checkpoint = NULL;
  save_steps(1, 2, 5);
  snprintf(from, sizeof from, "%s/step-00000001", folder);
  snprintf(to, sizeof to, "%s/step-00000030", folder);
  assert_int_equal(rename(from, to), 0);
  assert_int_equal(gd_checkpoint_open(NULL, to, false, &checkpoint), GD_BAD_DATA);
  assert_non_null(strstr(gd_error_text(), "step-00000030: is named after step 30, but its MANIFEST.pb says step 1"));
  assert_int_equal(gd_checkpoint_peek(to, false, &checkpoint), GD_BAD_DATA);
  checkpoint = open_newest(true); /* the newest by name is passed over */
  assert_holds(checkpoint, 2);
  gd_checkpoint_close(checkpoint);
  assert_true(exists("step-00000030.bad") && !exists("step-00000030"));
  /* a copy that bears no step's name is what its manifest says */
  snprintf(from, sizeof from, "%s/step-00000002", folder);
  snprintf(to, sizeof to, "%s/final", folder);
  assert_int_equal(rename(from, to), 0);
  assert_int_equal(gd_checkpoint_open(NULL, to, false, &checkpoint), GD_OK);
  assert_holds(checkpoint, 2);
  gd_checkpoint_close(checkpoint);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
  const struct CMUnitTest tests[] = {
      TEST(test_what_was_saved_is_loaded_bit_for_bit),
      TEST(test_the_hash_does_not_depend_on_boxes_but_on_values_and_state),
      TEST(test_the_newest_the_best_and_the_last_are_kept),
      TEST(test_an_empty_folder_holds_no_checkpoint_and_that_is_no_fault),
      TEST(test_another_model_is_refused_by_name_and_shape),
      TEST(test_weights_alone_can_be_saved_and_moments_are_missed_by_name),
      TEST(test_boxes_that_do_not_cover_the_model_are_our_bug_and_nothing_is_published),
      TEST(test_a_flipped_bit_anywhere_is_seen_and_the_older_one_loads),
      TEST(test_truncated_and_missing_files_are_seen_and_the_older_one_loads),
      TEST(test_a_named_bad_checkpoint_is_refused_and_left_where_it_is),
      TEST(test_a_run_whose_checkpoints_are_all_bad_does_not_silently_start_anew),
      TEST(test_a_run_taken_back_does_not_find_the_later_steps_of_its_first_try),
      TEST(test_a_full_disk_ends_that_checkpoint_only),
      TEST(test_a_folder_that_cannot_be_made_is_named),
      TEST(test_the_leftovers_of_killed_saves_are_removed_at_the_next_start),
      TEST(test_the_tokenizer_travels_with_the_checkpoint),
      TEST(test_a_damaged_tokenizer_goes_into_no_checkpoint),
      TEST(test_a_folder_that_holds_another_step_than_its_name_says_is_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
