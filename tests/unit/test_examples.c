/* Datasets of a task: targets, labels, label map and template come back; what does not fit together is named. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs the four above */
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/base/files.h"
#include "io/data/split.h"

enum { DOCUMENTS = 25, SHARD_DOCUMENTS = 10, LONGEST = 7 };

static char folder[] = "/tmp/gptdist-test-XXXXXX";
static char *two_labels[] = {"ham", "spam \"x\"\n"};
static const gd_task single = {.kind = GD_TASK_CLASSIFICATION, .label_count = 2, .labels = two_labels, .longest = LONGEST};
static const gd_task multiple = {
    .kind = GD_TASK_CLASSIFICATION, .multiple = true, .label_count = 2, .labels = two_labels, .longest = LONGEST};
static const gd_task answers = {.kind = GD_TASK_SFT, .layout = "{\"begin\":\"\"}", .longest = LONGEST};

static void ok(gd_status status) {
  if (status != GD_OK) fail_msg("%s", gd_error_text());
}

static int make_folder(void **state) {
  (void)state;
  return mkdtemp(folder) ? 0 : 1;
}

static int remove_folder(void **state) {
  (void)state;
  return gd_folder_remove(folder) == GD_OK ? 0 : 1;
}

/* What documents hold: 1 to 7 tokens, ids by their place in the stream. */
static int64_t length_of(int64_t document) {
  return 1 + document * 5 % LONGEST;
}
static int32_t id_of(int64_t token) {
  return (int32_t)(token * 7 % 1000);
}
static uint8_t target_of(int64_t token) {
  return token % 3 == 1;
}
static float label_of(int64_t document, int32_t column) {
  return (float)((document + column) % 2);
}

/* What a test spoils before it is written. */
typedef struct spoilt {
  uint8_t target;    /* of token 4; 0: as it should be */
  float label;       /* of document 3; 0: as it should be */
  int64_t first;     /* where the first document of each shard begins */
  bool empty;        /* document 2 begins where document 1 does */
  int32_t columns;   /* of the shards; 0: as the task has them */
  bool plain_shards; /* version 1 */
} spoilt;

static void write_shard(const char *split, const gd_task *task, const spoilt *wrong, int64_t first, gd_split_entry *entry,
                        gd_token_shard_info *info, int64_t *token) {
  char file[300];
  uint8_t digest[GD_SHA256_BYTES];
  gd_token_shard_writer *writer;
  int64_t positions[SHARD_DOCUMENTS], count = DOCUMENTS - first < SHARD_DOCUMENTS ? DOCUMENTS - first : SHARD_DOCUMENTS;
  int32_t columns = wrong->columns ? wrong->columns : gd_task_columns(task);
  float labels[SHARD_DOCUMENTS * 4];
  info->tokens = 0;
  info->columns = columns;
  info->examples = !wrong->plain_shards;
  for (int64_t d = 0; d < count; d++) {
    positions[d] = info->tokens;
    for (int32_t k = 0; k < columns; k++) labels[d * columns + k] = label_of(first + d, k);
    if (wrong->label != 0 && first + d == 3) labels[d * columns] = wrong->label;
    info->tokens += length_of(first + d);
  }
  positions[0] = wrong->first;
  if (wrong->empty) positions[2] = positions[1];
  snprintf(file, sizeof file, "%s/%.31s", split, entry->file);
  ok(gd_token_shard_create(file, info, &writer));
  for (int64_t end = *token + info->tokens; *token < end; ++*token) {
    uint8_t target = wrong->target && *token == 4 ? wrong->target : target_of(*token);
    ok(gd_token_shard_append(writer, &(int32_t){id_of(*token)}, 1));
    if (info->examples) ok(gd_token_shard_append_targets(writer, &target, 1));
  }
  if (info->examples) ok(gd_token_shard_set_labels(writer, labels, count));
  ok(gd_token_shard_set_documents(writer, positions, count));
  ok(gd_token_shard_finish(writer));
  ok(gd_sha256_file(file, digest, NULL));
  gd_sha256_hex(digest, entry->sha256);
  entry->tokens = info->tokens;
  entry->documents = count;
}

static void write_split(const char *name, const gd_task *task, spoilt wrong, char split[300]) {
  gd_split_entry entries[3] = {{{0}, 0, 0, {0}}};
  gd_token_shard_info info = {.tokenizer = "test", .tokenizer_digest = "0123", .vocabulary = 1000, .eot = -1};
  int64_t token = 0;
  snprintf(split, 300, "%s/%s", folder, name);
  ok(gd_folder_make(split));
  for (int k = 0; k < 3; k++) {
    snprintf(entries[k].file, sizeof entries[k].file, "%05d.h5", k);
    write_shard(split, task, &wrong, k * SHARD_DOCUMENTS, &entries[k], &info, &token);
  }
  info.tokens = token;
  info.documents = DOCUMENTS;
  ok(gd_split_write_index(split, &info, task, entries, 3));
}

static void check_split(const char *name, const gd_task *task) {
  char path[300];
  gd_split *split;
  int64_t starts[DOCUMENTS + 1], token = 0;
  write_split(name, task, (spoilt){0}, path);
  ok(gd_split_open(path, &split));
  assert_true(gd_task_equal(gd_split_task(split), task));
  assert_int_equal(gd_split_task(split)->longest, LONGEST);
  ok(gd_split_documents(split, starts));
  for (int64_t d = 0; d < DOCUMENTS; token += length_of(d++)) {
    float labels[4] = {-1, -1, -1, -1};
    assert_int_equal(starts[d], token);
    if (gd_task_columns(task)) ok(gd_split_labels(split, d, labels));
    for (int32_t k = 0; k < gd_task_columns(task); k++) assert_true(labels[k] == label_of(d, k));
    assert_true(labels[gd_task_columns(task)] == -1.0f);
  }
  assert_int_equal(starts[DOCUMENTS], token);
  uint8_t targets[200];
  ok(gd_split_targets(split, 3, token - 3, targets)); /* through all shards */
  for (int64_t t = 3; t < token; t++) assert_int_equal(targets[t - 3], target_of(t));
  ok(gd_split_verify(split));
  gd_split_close(split);
}

static void targets_and_labels_come_back(void **state) {
  (void)state;
  check_split("single", &single);
  check_split("multiple", &multiple);
  check_split("answers", &answers);
}

static void expect_fault(const gd_task *task, spoilt wrong, const char *text) {
  char path[300];
  gd_split *split = NULL;
  write_split("wrong", task, wrong, path);
  gd_status status = gd_split_open(path, &split);
  if (status == GD_OK) status = gd_split_verify(split);
  if (status != GD_BAD_DATA || !strstr(gd_error_text(), text) || !strstr(gd_error_text(), "wrong/"))
    fail_msg("status %d, text \"%s\", expected \"%s\"", (int)status, gd_error_text(), text);
  gd_split_close(split);
}

static void what_does_not_fit_together_is_named(void **state) {
  (void)state;
  expect_fault(&single, (spoilt){.target = 2}, "00000.h5: target 4 is 2, expected 0 or 1");
  expect_fault(&single, (spoilt){.label = NAN}, "00000.h5: a label of document 3 is not a finite number");
  expect_fault(&single, (spoilt){.label = 2}, "document 3 has the label 2, expected a whole number below 2");
  expect_fault(&single, (spoilt){.label = 0.5f}, "document 3 has the label 0.5, expected a whole number below 2");
  expect_fault(&multiple, (spoilt){.label = -1}, "document 3 has the label -1, expected 0 to 1");
  expect_fault(&single, (spoilt){.first = 1}, "00000.h5: its first token belongs to no document");
  expect_fault(&single, (spoilt){.empty = true}, "document 1 of the split has no tokens");
  expect_fault(&single, (spoilt){.columns = 3}, "00000.h5: holds examples with 3 columns of labels, ");
  expect_fault(&answers, (spoilt){.plain_shards = true}, "00000.h5: holds plain text with 0 columns of labels, ");
  gd_task longer = single;
  longer.longest = LONGEST + 1;
  expect_fault(&longer, (spoilt){0}, "\"longest\" is 8, but the longest document has 7 tokens");
}

/* An index as somebody else might write it. */
static void expect_task_fault(const char *json, const char *text) {
  gd_json *root;
  gd_task task;
  ok(gd_json_parse(json, strlen(json), "x", 1, &root));
  gd_status status = gd_task_read(root, "index.json", &task);
  if (status != GD_BAD_DATA || !strstr(gd_error_text(), text))
    fail_msg("status %d, text \"%s\", expected \"%s\"", (int)status, gd_error_text(), text);
  gd_task_free(&task);
  gd_json_free(root);
}

static void an_index_that_names_no_task_is_refused(void **state) {
  (void)state;
  expect_task_fault("{}", "\"task\" is \"\", expected classification or sft");
  expect_task_fault("{\"task\": \"lm\"}", "\"task\" is \"lm\", expected classification or sft");
  expect_task_fault("{\"task\": \"sft\"}", "\"longest\" is missing or no number");
  expect_task_fault("{\"task\": \"sft\", \"longest\": 3}", "\"template\" is missing or no table");
  expect_task_fault("{\"task\": \"classification\", \"longest\": 3}", "\"label_kind\" is missing");
  expect_task_fault("{\"task\": \"classification\", \"longest\": 3, \"label_kind\": \"single\", \"labels\": [\"a\"]}",
                    "\"labels\" lists 1 labels, expected 2 to");
  expect_task_fault("{\"task\": \"classification\", \"longest\": 3, \"label_kind\": \"single\", \"labels\": [\"a\", \"a\"]}",
                    "entry 1 of \"labels\" is empty, no text, or stands there twice");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(targets_and_labels_come_back),
      cmocka_unit_test(what_does_not_fit_together_is_named),
      cmocka_unit_test(an_index_that_names_no_task_is_refused),
  };
  return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
