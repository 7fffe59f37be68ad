/* ranks: 1 2 4 */
/* Token shards are compared with their digests once a host, dealt over its ranks, before their first use or as the job starts;
 * a bad one ends all ranks alike. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs the four above */
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/base/files.h"
#include "io/data/dataset.h"
#include "io/data/split.h"
#include "shard/base/log.h"

enum { SHARDS = 12, SHARD_TOKENS = 5000, T = 8 };

static gd_session *session;
static int32_t rank, ranks;
static char folder[64] = "/tmp/gptdist-checks-XXXXXX", split[80];

static void ok(gd_status status) {
  if (status != GD_OK) fail_msg("rank %d: %s", rank, gd_error_text());
}

static void shard_path(int k, char out[128]) {
  snprintf(out, 128, "%s/%05d.h5", split, k);
}

/* Rank 0: token p of the stream has id p % 30000. */
static void write_split(void) {
  gd_split_entry entries[SHARDS] = {{{0}, 0, 0, {0}}};
  gd_token_shard_info info = {.tokenizer = "test", .tokenizer_digest = "0123", .vocabulary = 30000, .eot = -1};
  ok(gd_folder_make(split));
  for (int k = 0; k < SHARDS; k++) {
    char path[128];
    uint8_t digest[GD_SHA256_BYTES];
    gd_token_shard_writer *writer;
    int64_t none = 0;
    shard_path(k, path);
    info.tokens = entries[k].tokens = SHARD_TOKENS;
    ok(gd_token_shard_create(path, &info, &writer));
    for (int32_t i = 0; i < SHARD_TOKENS; i++) ok(gd_token_shard_append(writer, &(int32_t){(k * SHARD_TOKENS + i) % 30000}, 1));
    ok(gd_token_shard_set_documents(writer, &none, 0));
    ok(gd_token_shard_finish(writer));
    ok(gd_sha256_file(path, digest, NULL));
    gd_sha256_hex(digest, entries[k].sha256);
    snprintf(entries[k].file, sizeof entries[k].file, "%05d.h5", k);
  }
  info.tokens = SHARDS * SHARD_TOKENS;
  ok(gd_split_write_index(split, &info, &(gd_data_task){0}, entries, SHARDS));
}

/* One bit of a shard, rank 0; all go on together. */
static void turn_a_bit(int shard, off_t byte) {
  if (rank == 0) {
    char path[128], bits = 0;
    shard_path(shard, path);
    int file = open(path, O_RDWR);
    assert_true(file >= 0 && pread(file, &bits, 1, byte) == 1);
    bits ^= 8;
    assert_true(pwrite(file, &bits, 1, byte) == 1);
    close(file);
  }
  ok(gd_session_barrier(session));
}

static gd_dataset *open_dataset(void) {
  gd_dataset *dataset;
  ok(gd_dataset_open_split(split, T, false, true, &dataset));
  ok(gd_session_barrier(session));
  return dataset;
}

static void close_dataset(gd_dataset *dataset) {
  ok(gd_session_barrier(session));
  gd_dataset_close(dataset);
}

/* All windows, each rank from another place on. */
static gd_status read_all(gd_dataset *dataset) {
  gd_batch batch;
  int64_t windows = gd_dataset_windows(dataset);
  gd_status status = gd_batch_open(1, T, &batch);
  for (int64_t i = 0; i < windows && status == GD_OK; i++) {
    int64_t window = (i + windows * rank / ranks) % windows;
    status = gd_dataset_read(dataset, window, 1, &batch, 0);
    for (int32_t t = 0; t < T && status == GD_OK; t++)
      if (batch.tokens[t] != (window * T + t < SHARDS * SHARD_TOKENS ? (window * T + t) % 30000 : 0))
        status = gd_fail(GD_BUG, "window %d: another token", (int)window);
  }
  gd_batch_close(&batch);
  return status;
}

static void expect_cost(const gd_dataset *dataset, int64_t shards) {
  gd_dataset_checked checked;
  ok(gd_session_barrier(session));
  gd_dataset_get_checked(dataset, &checked);
  assert_int_equal(checked.shards, shards);
  assert_int_equal(checked.of, SHARDS);
  assert_true(shards == 0 || (checked.bytes > shards * SHARD_TOKENS && checked.seconds > 0));
  ok(gd_session_barrier(session));
}

static void every_shard_is_hashed_once_a_host_at_the_start(void **state) {
  (void)state;
  gd_dataset *dataset = open_dataset();
  ok(gd_dataset_check(session, &dataset, 1, 600));
  expect_cost(dataset, SHARDS);
  ok(read_all(dataset));
  expect_cost(dataset, SHARDS);
  close_dataset(dataset);
}

static void every_shard_is_hashed_once_a_host_before_its_first_use(void **state) {
  (void)state;
  gd_dataset *dataset = open_dataset(), *both[] = {NULL, dataset};
  ok(gd_dataset_check(session, both, 2, 0));
  expect_cost(dataset, 0);
  ok(read_all(dataset)); /* eight stay open: most are opened more than once */
  ok(read_all(dataset));
  expect_cost(dataset, SHARDS);
  close_dataset(dataset);
}

/* The place of the fault in the tokens, in HDF5's own tables, at the end. */
static void a_bad_shard_ends_all_ranks_alike(void **state) {
  (void)state;
  static const struct {
    int shard;
    off_t byte;
  } faults[] = {{0, 4055}, {SHARDS - 1, 1361}, {5, 9000}};
  for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
    for (int late = 0; late < 2; late++) {
      char path[128];
      shard_path(faults[i].shard, path);
      gd_dataset *dataset = open_dataset();
      turn_a_bit(faults[i].shard, faults[i].byte);
      gd_status status = gd_dataset_check(session, &dataset, 1, late ? 0 : 600);
      if (late) {
        ok(status);
        status = read_all(dataset);
      }
      assert_int_equal(status, GD_BAD_DATA); /* on every rank, whoever found it */
      assert_non_null(strstr(gd_error_text(), path));
      const char *first = strstr(gd_error_text(), "SHA-256 is "), *second = strstr(gd_error_text(), "index.json expects ");
      assert_true(first && second && strspn(first + 11, "0123456789abcdef") == 64);
      assert_int_equal(strspn(second + 19, "0123456789abcdef"), 64);
      close_dataset(dataset);
      turn_a_bit(faults[i].shard, faults[i].byte);
    }
  gd_dataset *dataset = open_dataset();
  ok(gd_dataset_check(session, &dataset, 1, 600));
  ok(read_all(dataset));
  close_dataset(dataset);
}

/* After the check: written to in place, or another file under the name. Touched and otherwise as it was: hashed again. */
static void a_shard_that_changes_later_is_found(void **state) {
  (void)state;
  char path[128], other[128];
  gd_dataset *dataset = open_dataset();
  ok(gd_dataset_check(session, &dataset, 1, 600));
  shard_path(3, path);
  ok(gd_session_barrier(session));
  if (rank == 0) assert_int_equal(utimensat(AT_FDCWD, path, (struct timespec[2]){{1, 0}, {1, 0}}, 0), 0);
  ok(gd_session_barrier(session));
  ok(read_all(dataset));
  expect_cost(dataset, SHARDS + 1);
  turn_a_bit(3, 9000);
  assert_int_equal(read_all(dataset), GD_BAD_DATA);
  assert_non_null(strstr(gd_error_text(), path));
  close_dataset(dataset);
  turn_a_bit(3, 9000);

  dataset = open_dataset();
  ok(gd_dataset_check(session, &dataset, 1, 600));
  shard_path(7, other);
  for (int back = 0; back < 2; back++) {
    if (rank == 0) assert_int_equal(renameat2(AT_FDCWD, path, AT_FDCWD, other, RENAME_EXCHANGE), 0);
    ok(gd_session_barrier(session));
    if (!back) assert_int_equal(read_all(dataset), GD_BAD_DATA);
    ok(gd_session_barrier(session));
  }
  ok(read_all(dataset));
  close_dataset(dataset);
}

/* Open all the while: the next read finds it, though HDF5 has those tokens in its cache. */
static void a_shard_that_changes_while_it_is_open_is_found_at_the_next_read(void **state) {
  (void)state;
  char path[128];
  gd_batch batch;
  gd_dataset *dataset = open_dataset();
  ok(gd_dataset_check(session, &dataset, 1, 600));
  ok(gd_batch_open(1, T, &batch));
  shard_path(0, path);
  ok(gd_dataset_read(dataset, 0, 1, &batch, 0));
  ok(gd_session_barrier(session));
  turn_a_bit(0, 9000);
  assert_int_equal(gd_dataset_read(dataset, 0, 1, &batch, 0), GD_BAD_DATA);
  assert_non_null(strstr(gd_error_text(), path));
  ok(gd_session_barrier(session));
  turn_a_bit(0, 9000);
  ok(gd_dataset_read(dataset, 0, 1, &batch, 0));
  gd_batch_close(&batch);
  close_dataset(dataset);
}

static int line_count;
static char last_line[400];
static void keep_line(void *context, gd_log_level level, const char *line) {
  (void)context;
  if (level != GD_LOG_INFO || !strstr(line, "SHA-256")) return;
  line_count++;
  snprintf(last_line, sizeof last_line, "%s", line);
}

static void rank_0_tells_the_cost_once(void **state) {
  (void)state;
  gd_dataset *dataset = open_dataset();
  line_count = 0;
  gd_log_set_sink(keep_line, NULL);
  ok(gd_dataset_check(session, &dataset, 1, 600));
  gd_log_set_sink(NULL, NULL);
  assert_int_equal(line_count, rank == 0);
  if (rank == 0) assert_non_null(strstr(last_line, "data: 12 of 12 token shards have the SHA-256 of their index, 0.000 GB"));
  close_dataset(dataset);
}

int main(void) {
  if (gd_session_open(&session) != GD_OK) return 1;
  rank = gd_session_rank(session);
  ranks = gd_session_ranks(session);
  if (rank == 0 && !mkdtemp(folder)) return 1;
  if (gd_session_broadcast(session, folder, sizeof folder, 0) != GD_OK) return 1;
  snprintf(split, sizeof split, "%s/train", folder);
  if (rank == 0) write_split();
  if (gd_session_barrier(session) != GD_OK) return 1;
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_shard_is_hashed_once_a_host_at_the_start),
      cmocka_unit_test(every_shard_is_hashed_once_a_host_before_its_first_use),
      cmocka_unit_test(a_bad_shard_ends_all_ranks_alike),
      cmocka_unit_test(a_shard_that_changes_later_is_found),
      cmocka_unit_test(a_shard_that_changes_while_it_is_open_is_found_at_the_next_read),
      cmocka_unit_test(rank_0_tells_the_cost_once),
  };
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  if (rank == 0 && gd_folder_remove(folder) != GD_OK) failed++;
  gd_session_close(session);
  return failed;
}
