/* ranks: 1 2 3 4 */
/* Checkpoints of many ranks: what N ranks save any number loads; one rank's fault is every rank's fault, told with that rank's
 * text, and costs no older checkpoint. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include "comm/session.h"
#include "io/checkpoint/checkpoint.h"
#include "io/config/config.h"
#include "io/base/files.h"
#include "shard/base/log.h"

enum { TENSORS = 2, ROWS = 130, COLS = 33, MOST_ELEMENTS = ROWS * COLS };

static const gd_tensor tensors[TENSORS] = {{"final_norm.weight", 1, COLS, 1, false},
                                           {"token_embedding.weight", 2, ROWS, COLS, false}};
static gd_session *session;
static int32_t rank, ranks;
static char folder[64], log_text[4096];
static float memory[TENSORS][GD_KINDS][MOST_ELEMENTS];

static void keep_log(void *context, gd_log_level level, const char *line) {
  (void)context;
  (void)level;
  size_t used = strlen(log_text);
  snprintf(log_text + used, sizeof log_text - used, "%s\n", line);
}

static int setup(void **state) {
  (void)state;
  strcpy(folder, "/tmp/gptdist-checkpoint-mpi-XXXXXX");
  log_text[0] = 0;
  if (rank == 0 && !mkdtemp(folder)) return 1;
  return gd_session_broadcast(session, folder, sizeof folder, 0) == GD_OK ? 0 : 1;
}

static int teardown(void **state) {
  (void)state;
  if (gd_session_barrier(session) != GD_OK) return 1;
  return rank || gd_folder_remove(folder) == GD_OK ? 0 : 1;
}

static float value(int64_t step, int t, int k, int64_t e) {
  return (float)step * 1000 + (float)(t * 100 + k * 10) + (float)e / 7;
}

/* Rank r of n holds every n-th row of the table in both halves of its columns; the vector is cut evenly. */
static int32_t boxes_of(int32_t r, int32_t n, int64_t step, gd_checkpoint_box *boxes) {
  int32_t count = 0;
  for (int k = 0; k < GD_KINDS; k++) {
    float *next = memory[1][k];
    int64_t first = COLS * r / n, last = COLS * (r + 1) / n;
    boxes[count++] = (gd_checkpoint_box){0, (gd_checkpoint_kind)k, {first, last - first, 0, 1}, memory[0][k]};
    for (int64_t row = r; row < ROWS; row += n)
      for (int half = 0; half < 2; half++) {
        gd_box box = {row, 1, half ? 20 : 0, half ? COLS - 20 : 20};
        boxes[count++] = (gd_checkpoint_box){1, (gd_checkpoint_kind)k, box, next};
        next += box.cols;
      }
  }
  if (step < 0) return count;
  for (int32_t i = 0; i < count; i++)
    for (int64_t e = 0; e < gd_box_elements(boxes[i].box); e++) {
      int64_t cols = boxes[i].box.cols, width = tensors[boxes[i].tensor].cols;
      int64_t element = (boxes[i].box.row + e / cols) * width + boxes[i].box.col + e % cols;
      boxes[i].data[e] = value(step, boxes[i].tensor, (int)boxes[i].kind, element);
    }
  return count;
}

static gd_status open_writer(gd_session *with, int32_t n, gd_checkpoint_writer **writer) {
  gd_spec spec;
  gd_mesh mesh;
  gd_config_defaults(&spec);
  spec.checkpoint.keep = 2;
  spec.checkpoint.background = true;
  assert_int_equal(gd_mesh_init(&mesh, n, 1, 1, 1), GD_OK);
  return gd_checkpoint_writer_open(with, folder, &spec, &mesh, tensors, TENSORS, NULL, writer);
}

static gd_status save(gd_checkpoint_writer *writer, int32_t r, int32_t n, int64_t step, int64_t *published) {
  static gd_checkpoint_box boxes[GD_KINDS * (2 * ROWS + 1)];
  gd_run_state state = {
      .step = step, .tokens = step * 10, .draws = step * 4, .applied_steps = step, .best_step = -1, .lr_factor = 1};
  int32_t count = boxes_of(r, n, step, boxes);
  gd_status status = gd_checkpoint_save(writer, &state, boxes, count);
  return status == GD_OK ? gd_checkpoint_finish(writer, published) : status;
}

static void save_steps(int64_t first, int64_t last) {
  gd_checkpoint_writer *writer = NULL;
  int64_t published;
  assert_int_equal(open_writer(session, ranks, &writer), GD_OK);
  for (int64_t step = first; step <= last; step++) {
    assert_int_equal(save(writer, rank, ranks, step, &published), GD_OK);
    assert_int_equal(published, step);
  }
  gd_checkpoint_writer_close(writer);
}

static gd_checkpoint *open_newest(gd_session *with, bool set_aside) {
  gd_checkpoint *checkpoint = NULL;
  gd_status status = gd_checkpoint_open(with, folder, set_aside, &checkpoint);
  if (status != GD_OK) print_message("%s\n", gd_error_text());
  assert_int_equal(status, GD_OK);
  assert_non_null(checkpoint);
  return checkpoint;
}

/* My share of the rows, as many ranks as there are now. */
static void assert_holds(const gd_checkpoint *checkpoint, int64_t step) {
  static float got[MOST_ELEMENTS];
  int64_t first = ROWS * rank / ranks, last = ROWS * (rank + 1) / ranks;
  for (int k = 0; k < GD_KINDS; k++) {
    gd_checkpoint_box box = {1, (gd_checkpoint_kind)k, {first, last - first, 0, COLS}, got};
    assert_int_equal(gd_checkpoint_read(checkpoint, tensors, &box, 1), GD_OK);
    for (int64_t e = 0; e < gd_box_elements(box.box); e++) assert_true(got[e] == value(step, 1, k, first * COLS + e));
  }
  assert_int_equal(gd_checkpoint_state(checkpoint)->step, step);
}

static void test_what_all_ranks_save_all_ranks_load_and_the_hash_knows_no_ranks(void **state) {
  (void)state;
  char many[65], one[65];
  save_steps(3, 3);
  gd_checkpoint *checkpoint = open_newest(session, false);
  assert_int_equal(gd_checkpoint_mesh(checkpoint)->ranks, ranks);
  assert_holds(checkpoint, 3);
  assert_int_equal(gd_checkpoint_hash(checkpoint, many), GD_OK);
  gd_checkpoint_close(checkpoint);
  assert_int_equal(gd_session_barrier(session), GD_OK);
  if (rank == 0) { /* the same by one process without a session, over it */
    gd_checkpoint_writer *writer = NULL;
    int64_t published;
    assert_int_equal(open_writer(NULL, 1, &writer), GD_OK);
    assert_int_equal(save(writer, 0, 1, 3, &published), GD_OK);
    gd_checkpoint_writer_close(writer);
  }
  assert_int_equal(gd_session_barrier(session), GD_OK);
  checkpoint = open_newest(session, false);
  assert_int_equal(gd_checkpoint_mesh(checkpoint)->ranks, 1);
  assert_holds(checkpoint, 3);
  assert_int_equal(gd_checkpoint_hash(checkpoint, one), GD_OK);
  gd_checkpoint_close(checkpoint);
  assert_string_equal(many, one);
}

static void test_a_full_disk_on_one_rank_is_every_ranks_fault_and_the_older_one_loads(void **state) {
  (void)state;
  save_steps(1, 1);
  gd_checkpoint_writer *writer = NULL;
  int64_t published = 0;
  int32_t sick = ranks - 1;
  struct rlimit before, limit;
  assert_int_equal(open_writer(session, ranks, &writer), GD_OK);
  signal(SIGXFSZ, SIG_IGN);
  assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
  limit = (struct rlimit){3000, before.rlim_max};
  if (rank == sick) assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
  gd_status status = save(writer, rank, ranks, 2, &published);
  if (rank == sick) assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
  char name[32];
  snprintf(name, sizeof name, "rank-%05d.h5", sick);
  assert_int_equal(status, GD_IO);
  assert_int_equal(published, -1);
  assert_non_null(strstr(gd_error_text(), name));
  assert_int_equal(save(writer, rank, ranks, 4, &published), GD_OK); /* the next one works again */
  gd_checkpoint_writer_close(writer);
  gd_checkpoint *checkpoint = open_newest(session, false);
  assert_holds(checkpoint, 4);
  gd_checkpoint_close(checkpoint);
  int left = 0;
  DIR *entries = opendir(folder);
  for (struct dirent *entry; (entry = readdir(entries));) left += strstr(entry->d_name, ".tmp-") != NULL;
  closedir(entries);
  assert_int_equal(left, 0);
}

static void test_a_damaged_file_of_one_rank_is_seen_by_all_and_the_older_one_loads(void **state) {
  (void)state;
  char path[256];
  save_steps(1, 2);
  if (rank == 0) {
    snprintf(path, sizeof path, "%s/step-00000002/rank-%05d.h5", folder, ranks - 1);
    FILE *file = fopen(path, "r+b");
    fseek(file, 3000, SEEK_SET);
    int byte = fgetc(file);
    fseek(file, 3000, SEEK_SET);
    fputc(byte ^ 1, file);
    fclose(file);
  }
  assert_int_equal(gd_session_barrier(session), GD_OK);
  gd_checkpoint *checkpoint = open_newest(session, true);
  assert_holds(checkpoint, 1);
  gd_checkpoint_close(checkpoint);
  snprintf(path, sizeof path, "%s/step-00000002.bad", folder);
  assert_true(gd_folder_exists(path));
  snprintf(path, sizeof path, "rank-%05d.h5: is damaged", ranks - 1);
  if (rank == 0)
    assert_non_null(strstr(log_text, path));
  else
    assert_string_equal(log_text, ""); /* told once, not once a rank */
}

static void test_an_empty_folder_is_empty_for_all(void **state) {
  (void)state;
  gd_checkpoint *checkpoint = (gd_checkpoint *)folder;
  assert_int_equal(gd_checkpoint_open(session, folder, true, &checkpoint), GD_OK);
  assert_null(checkpoint);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
  const struct CMUnitTest tests[] = {
      TEST(test_what_all_ranks_save_all_ranks_load_and_the_hash_knows_no_ranks),
      TEST(test_a_full_disk_on_one_rank_is_every_ranks_fault_and_the_older_one_loads),
      TEST(test_a_damaged_file_of_one_rank_is_seen_by_all_and_the_older_one_loads),
      TEST(test_an_empty_folder_is_empty_for_all),
  };
  if (gd_session_open(&session) != GD_OK) {
    fprintf(stderr, "%s\n", gd_error_text());
    return 1;
  }
  rank = gd_session_rank(session);
  ranks = gd_session_ranks(session);
  gd_log_set_sink(keep_log, NULL);
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  gd_session_close(session);
  return failed;
}
