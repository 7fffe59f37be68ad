/* Token shards: what is written comes back; a damaged, foreign or wrong file is named with what was expected. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs the four above */
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/data/token_shard.h"
#include "tests/own_folder.h"

enum { VOCABULARY = 54321, TOKENS = 100001 };

static char path[300];

static int name_shard(void **state) {
  if (make_folder(state)) return 1;
  snprintf(path, sizeof path, "%s/shard.h5", folder);
  return 0;
}

static int32_t id_at(int64_t token, int32_t vocabulary) {
  return (int32_t)(token * 2654435761 % vocabulary);
}

static void write_shard(int32_t vocabulary, int64_t tokens) {
  gd_token_shard_info info = {
      .tokenizer = "test", .tokenizer_digest = "0123", .vocabulary = vocabulary, .eot = 5, .tokens = tokens};
  gd_token_shard_writer *writer;
  int32_t *ids = malloc((size_t)tokens * sizeof *ids + 1);
  int64_t positions[3000], documents = 0;
  for (int64_t i = 0; i < tokens; i++) ids[i] = id_at(i, vocabulary);
  for (int64_t at = 0; at < tokens && documents < 3000; at += 1 + documents % 60) positions[documents++] = at;
  ok(gd_token_shard_create(path, &info, &writer));
  ok(gd_token_shard_append(writer, ids, tokens / 3));
  ok(gd_token_shard_append(writer, ids + tokens / 3, tokens - tokens / 3));
  ok(gd_token_shard_set_documents(writer, positions, documents));
  ok(gd_token_shard_finish(writer));
  free(ids);
}

/* Opens the file as it is now: the digest is that of its present bytes. */
static gd_status open_now(gd_token_shard **out) {
  static gd_shard_check check;
  gd_shard_source source = {.path = path, .index = "index", .check = &check};
  uint8_t digest[GD_SHA256_BYTES];
  *out = NULL;
  check = (gd_shard_check){0};
  GD_TRY(gd_sha256_file(path, digest, NULL));
  gd_sha256_hex(digest, source.sha256);
  return gd_token_shard_open(&source, out);
}

static void check_round_trip(int32_t vocabulary) {
  write_shard(vocabulary, TOKENS);
  gd_token_shard *shard;
  ok(open_now(&shard));
  const gd_token_shard_info *info = gd_token_shard_get_info(shard);
  assert_string_equal(info->tokenizer, "test");
  assert_string_equal(info->tokenizer_digest, "0123");
  assert_int_equal(info->vocabulary, vocabulary);
  assert_int_equal(info->eot, 5);
  assert_int_equal(info->tokens, TOKENS);
  static const int64_t ranges[][2] = {{0, TOKENS}, {0, 1}, {TOKENS - 1, 1}, {16383, 2}, {16384, 16384}, {50, 0}};
  int32_t *ids = malloc(TOKENS * sizeof *ids);
  for (size_t k = 0; k < sizeof ranges / sizeof *ranges; k++) {
    ok(gd_token_shard_read(shard, ranges[k][0], ranges[k][1], ids));
    for (int64_t i = 0; i < ranges[k][1]; i++) assert_int_equal(ids[i], id_at(ranges[k][0] + i, vocabulary));
  }
  int64_t positions[3000], found;
  ok(gd_token_shard_documents(shard, 0, info->documents, positions));
  for (int64_t token = 0; token < TOKENS; token += 37) {
    int64_t wanted = 0;
    while (wanted < info->documents && positions[wanted] <= token) wanted++;
    ok(gd_token_shard_find_document(shard, token, &found));
    assert_int_equal(found, wanted);
  }
  assert_int_equal(gd_token_shard_read(shard, TOKENS - 1, 2, ids), GD_BUG);
  free(ids);
  gd_token_shard_close(shard);
}

static void small_and_large_vocabularies_come_back(void **state) {
  (void)state;
  check_round_trip(VOCABULARY); /* uint16 */
  check_round_trip(65536);
  check_round_trip(65537); /* uint32 */
  check_round_trip(1000000);
}

static void expect_fault(gd_status code, const char *text) {
  gd_token_shard *shard;
  gd_status status = open_now(&shard);
  if (status == GD_OK) {
    int32_t *ids = malloc(TOKENS * sizeof *ids);
    status = gd_token_shard_read(shard, 0, gd_token_shard_get_info(shard)->tokens, ids);
    free(ids);
    gd_token_shard_close(shard);
  }
  if (status != code || !strstr(gd_error_text(), text) || !strstr(gd_error_text(), path))
    fail_msg("status %d, text \"%s\", expected \"%s\"", (int)status, gd_error_text(), text);
}

/* Replaces bytes behind the first occurrence of `anchor` in the file (attributes lie open in it). */
static void patch(const char *anchor, const void *old, const void *new, size_t count) {
  gd_bytes file = {0};
  ok(gd_file_read(path, 1 << 24, &file));
  char *at = memmem(file.bytes, file.count, anchor, strlen(anchor));
  assert_non_null(at);
  at = memmem(at, file.count - (size_t)(at - file.bytes), old, count);
  assert_non_null(at);
  memcpy(at, new, count);
  ok(gd_file_write(path, file.bytes, file.count));
  gd_bytes_free(&file);
}

/* An attribute's message: its name padded to eight bytes, 16 of type, 8 of space, the value. */
static void patch_integer(const char *name, int64_t old, int64_t new) {
  gd_bytes file = {0};
  size_t length = strlen(name) + 1, behind = (length + 7) / 8 * 8 + 24;
  int patched = 0;
  ok(gd_file_read(path, 1 << 24, &file));
  for (size_t i = 0; i + behind + 8 <= file.count; i++) {
    if (memcmp(file.bytes + i, name, length) != 0 || memcmp(file.bytes + i + behind, &old, 8) != 0) continue;
    memcpy(file.bytes + i + behind, &new, 8);
    patched++;
  }
  assert_int_equal(patched, 1);
  ok(gd_file_write(path, file.bytes, file.count));
  gd_bytes_free(&file);
}

static void a_missing_file_is_named(void **state) {
  (void)state;
  unlink(path);
  expect_fault(GD_BAD_DATA, "cannot open");
}

static void a_file_that_is_no_shard_is_named(void **state) {
  (void)state;
  ok(gd_file_write(path, "not HDF5", 8));
  expect_fault(GD_BAD_DATA, "not a whole HDF5 file");
  write_shard(VOCABULARY, TOKENS);
  patch("format", "gptdist-tokens", "somebody-elses", 14);
  expect_fault(GD_BAD_DATA, "format is \"somebody-elses\", expected \"gptdist-tokens\"");
}

static void a_truncated_file_is_named(void **state) {
  (void)state;
  write_shard(VOCABULARY, TOKENS);
  assert_int_equal(truncate(path, 100000), 0);
  expect_fault(GD_BAD_DATA, "not a whole HDF5 file (truncated file");
}

static void another_version_is_named(void **state) {
  (void)state;
  write_shard(VOCABULARY, TOKENS);
  patch_integer("version", 1, 3);
  expect_fault(GD_BAD_DATA, "format version 3, this program reads versions 1 to 2");
}

static void sizes_that_do_not_agree_are_named(void **state) {
  (void)state;
  write_shard(VOCABULARY, TOKENS);
  patch_integer("tokens", TOKENS, TOKENS + 1);
  expect_fault(GD_BAD_DATA, "\"tokens\" has 100001 entries, expected 100002");
}

static void an_id_beyond_the_vocabulary_is_named_with_its_place(void **state) {
  (void)state;
  write_shard(VOCABULARY, TOKENS);
  patch_integer("vocabulary", VOCABULARY, 54320);
  int64_t first = 0;
  while (id_at(first, VOCABULARY) != 54320) first++;
  char text[100];
  snprintf(text, sizeof text, "token %lld is id 54320, expected an id below the vocabulary of 54320", (long long)first);
  expect_fault(GD_BAD_DATA, text);
}

static void a_changed_byte_fails_its_checksum(void **state) {
  (void)state;
  write_shard(VOCABULARY, TOKENS);
  uint16_t run[4], changed[4];
  for (int i = 0; i < 4; i++) run[i] = changed[i] = (uint16_t)id_at(40000 + i, VOCABULARY);
  changed[2] ^= 1;
  patch("", run, changed, sizeof run);
  expect_fault(GD_BAD_DATA, "Fletcher32");
}

static void a_full_disk_is_named_and_leaves_the_process_well(void **state) {
  (void)state;
  gd_token_shard_info info = {.tokenizer = "test", .tokenizer_digest = "0", .vocabulary = 100, .eot = -1, .tokens = 1 << 22};
  gd_token_shard_writer *writer;
  if (access("/dev/full", W_OK)) skip();
  int32_t *ids = calloc(1 << 22, sizeof *ids);
  gd_status status = gd_token_shard_create("/dev/full", &info, &writer);
  if (status == GD_OK) {
    int64_t zero = 0;
    status = gd_token_shard_append(writer, ids, 1 << 22);
    if (status == GD_OK) status = gd_token_shard_set_documents(writer, &zero, 1);
    if (status == GD_OK)
      status = gd_token_shard_finish(writer);
    else
      gd_token_shard_abandon(writer);
  }
  assert_int_equal(status, GD_IO);
  assert_non_null(strstr(gd_error_text(), "cannot write /dev/full"));
  free(ids);
  check_round_trip(VOCABULARY);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(small_and_large_vocabularies_come_back),
      cmocka_unit_test(a_missing_file_is_named),
      cmocka_unit_test(a_file_that_is_no_shard_is_named),
      cmocka_unit_test(a_truncated_file_is_named),
      cmocka_unit_test(another_version_is_named),
      cmocka_unit_test(sizes_that_do_not_agree_are_named),
      cmocka_unit_test(an_id_beyond_the_vocabulary_is_named_with_its_place),
      cmocka_unit_test(a_changed_byte_fails_its_checksum),
      cmocka_unit_test(a_full_disk_is_named_and_leaves_the_process_well),
  };
  return cmocka_run_group_tests(tests, name_shard, remove_folder);
}
