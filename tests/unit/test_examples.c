/* Datasets of a task: targets, labels, label map and template come back, rows hold whole documents; what does not fit together
 * is named. */
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

#include "io/data/dataset.h"
#include "io/data/split.h"
#include "tests/own_folder.h"

enum { DOCUMENTS = 25, SHARD_DOCUMENTS = 10, LONGEST = 7 };

static char *two_labels[] = {"ham", "spam \"x\"\n"};
static const gd_data_task single = {.kind = GD_TASK_CLASSIFICATION, .label_count = 2, .labels = two_labels, .longest = LONGEST};
static const gd_data_task multiple = {
    .kind = GD_TASK_CLASSIFICATION, .multiple = true, .label_count = 2, .labels = two_labels, .longest = LONGEST};
static const gd_data_task answers = {.kind = GD_TASK_SFT, .layout = "{\"begin\":\"\"}", .longest = LONGEST};

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

static void write_shard(const char *split, const gd_data_task *task, const spoilt *wrong, int64_t first, gd_split_entry *entry,
                        gd_token_shard_info *info, int64_t *token) {
  char file[300];
  uint8_t digest[GD_SHA256_BYTES];
  gd_token_shard_writer *writer;
  int64_t positions[SHARD_DOCUMENTS], count = DOCUMENTS - first < SHARD_DOCUMENTS ? DOCUMENTS - first : SHARD_DOCUMENTS;
  int32_t columns = wrong->columns ? wrong->columns : gd_data_task_columns(task);
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

static void write_split(const char *name, const gd_data_task *task, spoilt wrong, char split[300]) {
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

static void check_split(const char *name, const gd_data_task *task) {
  char path[300];
  gd_split *split;
  int64_t starts[DOCUMENTS + 1], token = 0;
  write_split(name, task, (spoilt){0}, path);
  ok(gd_split_open(path, &split));
  assert_true(gd_data_task_equal(gd_split_task(split), task));
  assert_int_equal(gd_split_task(split)->longest, LONGEST);
  ok(gd_split_documents(split, starts));
  for (int64_t d = 0; d < DOCUMENTS; token += length_of(d++)) {
    float labels[4] = {-1, -1, -1, -1};
    assert_int_equal(starts[d], token);
    if (gd_data_task_columns(task)) ok(gd_split_labels(split, d, labels));
    for (int32_t k = 0; k < gd_data_task_columns(task); k++) assert_true(labels[k] == label_of(d, k));
    assert_true(labels[gd_data_task_columns(task)] == -1.0f);
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

static void expect_fault(const gd_data_task *task, spoilt wrong, const char *text) {
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
  gd_data_task longer = single;
  longer.longest = LONGEST + 1;
  expect_fault(&longer, (spoilt){0}, "\"longest\" is 8, but the longest document has 7 tokens");
}

/* An index as somebody else might write it. */
static void expect_task_fault(const char *json, const char *text) {
  gd_json *root;
  gd_data_task task;
  ok(gd_json_parse(json, strlen(json), "x", 1, &root));
  gd_status status = gd_data_task_read(root, "index.json", &task);
  if (status != GD_BAD_DATA || !strstr(gd_error_text(), text))
    fail_msg("status %d, text \"%s\", expected \"%s\"", (int)status, gd_error_text(), text);
  gd_data_task_free(&task);
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
  static const struct {
    const char *members, *text;
  } cuts[] = {{"\"max_tokens\": 4", "\"cut\" is missing or neither tail nor head"},
              {"\"max_tokens\": 4, \"cut\": \"middle\"", "\"cut\" is missing or neither tail nor head"},
              {"\"max_tokens\": 4, \"cut\": 1", "\"cut\" is missing or neither tail nor head"},
              {"\"cut\": \"tail\"", "\"max_tokens\" is missing or no number from \"longest\", 3, to 2147483647"},
              {"\"max_tokens\": 2, \"cut\": \"tail\"", "\"max_tokens\" is missing or no number from \"longest\", 3, to"},
              {"\"max_tokens\": \"4\", \"cut\": \"tail\"", "\"max_tokens\" is missing or no number"},
              {"\"max_tokens\": 2147483648, \"cut\": \"tail\"", "\"max_tokens\" is missing or no number"}};
  for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
    char json[300];
    snprintf(json, sizeof json,
             "{\"task\": \"classification\", \"longest\": 3, \"label_kind\": \"single\", \"labels\": [\"a\", \"b\"], %s}",
             cuts[i].members);
    expect_task_fault(json, cuts[i].text);
  }
}

/* What is written is read, and of an index without it nothing is known. */
static void how_texts_were_cut_comes_back(void **state) {
  (void)state;
  gd_data_task cut = single, back;
  cut.max_tokens = 7;
  for (int head = 0; head < 3; head++) {
    gd_bytes text = {0};
    gd_json *root;
    cut.cut_head = head == 1;
    if (head == 2) cut.max_tokens = 0;
    ok(gd_data_task_write(&cut, &text));
    text.bytes[0] = '{';
    ok(gd_bytes_append(&text, "}", 1));
    if (head == 2) assert_null(strstr(text.bytes, "max_tokens"));
    ok(gd_json_parse(text.bytes, text.count, "x", 1, &root));
    ok(gd_data_task_read(root, "index.json", &back));
    assert_int_equal(back.max_tokens, cut.max_tokens);
    assert_int_equal(back.cut_head, cut.cut_head);
    assert_true(gd_data_task_equal(&back, &single));
    gd_data_task_free(&back);
    gd_json_free(root);
    gd_bytes_free(&text);
  }
}

static void a_long_label_is_named_by_whole_characters(void **state) {
  (void)state;
  char names[GD_TASK_NAMES_BYTES], expected[64], label[64] = "x", other[] = "ham", *labels[] = {label, other};
  for (int i = 0; i < 21; i++) strcat(label, "\u00e9");
  const gd_data_task task = {.kind = GD_TASK_CLASSIFICATION, .labels = labels, .label_count = 2};
  const int64_t counts[2] = {0, 0};
  snprintf(expected, sizeof expected, "\"%.39s...\", \"ham\"", label);
  assert_int_equal(gd_data_task_unseen(&task, counts, 0, 2, names), 2);
  assert_string_equal(names, expected);
}

/* ---- rows ---- */

enum { T = 16 };

static gd_status open_at(const char *name, int32_t length, gd_sample_order order, bool pack, gd_dataset **out) {
  gd_data_spec spec = {.sources = 1, .weight = {1}, .prefetch = 2};
  snprintf(spec.path[0], GD_PATH_BYTES, "%s/%s", folder, name);
  return gd_dataset_open(&spec, length, order, 5, pack, out);
}

/* Counts each document of a draw's row into seen, and compares the row with what was written. */
static void check_row(gd_dataset *dataset, int64_t draw, const gd_data_task *task, int *seen) {
  static int64_t begins[DOCUMENTS + 1];
  gd_batch batch;
  gd_dataset_example examples[T];
  int32_t count, used = 0;
  for (int64_t d = 0; d < DOCUMENTS; d++) begins[d + 1] = begins[d] + length_of(d);
  gd_batch_shape shape = gd_dataset_batch_shape(dataset, 1);
  assert_true(shape.columns == gd_data_task_columns(task) && (shape.documents > 0) == (shape.columns > 0));
  ok(gd_batch_open_as(&shape, &batch));
  for (int t = 0; t < T; t++) batch.tokens[t] = batch.targets[t] = batch.document_starts[t] = 77;
  ok(gd_dataset_read(dataset, draw, 1, &batch, 0));
  ok(gd_dataset_examples(dataset, draw, examples, &count));
  for (int32_t i = 0; i < count; i++) {
    int64_t document = examples[i].document;
    float labels[4];
    assert_int_equal(examples[i].first, used);
    assert_int_equal(examples[i].count, length_of(document));
    seen[document]++;
    for (int32_t t = 0; t < examples[i].count; t++, used++) {
      int64_t token = begins[document] + t;
      bool target = t + 1 < examples[i].count && target_of(token + 1);
      assert_int_equal(batch.tokens[used], id_of(token));
      assert_int_equal(batch.document_starts[used], examples[i].first);
      assert_int_equal(batch.positions[used], t);
      assert_int_equal(batch.targets[used], target ? id_of(token + 1) : 0);
      assert_true(batch.weights[used] == (target ? 1.0f : 0.0f));
    }
    if (gd_data_task_columns(task)) ok(gd_dataset_labels(dataset, &examples[i], labels));
    for (int32_t k = 0; k < gd_data_task_columns(task); k++) {
      assert_true(labels[k] == label_of(document, k));
      assert_true(batch.labels[i * batch.columns + k] == labels[k] && batch.label_weights[i] == 1);
      assert_int_equal(batch.label_rows[i], used - 1);
    }
  }
  for (int32_t i = count; i < batch.documents; i++) assert_int_equal(batch.label_rows[i], -1);
  for (int32_t t = used; t < T; t++) { /* padding: no target, a document of its own */
    assert_true(batch.weights[t] == 0.0f);
    assert_int_equal(batch.document_starts[t], used);
    assert_int_equal(batch.tokens[t], 0);
  }
  gd_batch_close(&batch);
}

static void each_document_comes_once_an_epoch(void **state) {
  (void)state;
  static const gd_data_task *const tasks[] = {&single, &multiple, &answers};
  for (int k = 0; k < 6; k++) {
    char path[300];
    gd_dataset *dataset;
    gd_dataset_place place;
    write_split("rows/train", tasks[k / 2], (spoilt){0}, path);
    ok(open_at("rows", T, k % 2 ? GD_ORDER_SHUFFLED : GD_ORDER_SEQUENTIAL, k != 3, &dataset));
    assert_true(gd_data_task_equal(gd_dataset_task(dataset), tasks[k / 2]));
    if (k == 3) assert_int_equal(gd_dataset_windows(dataset), DOCUMENTS);
    int64_t draw = 0, moved = 0, before[DOCUMENTS] = {0};
    for (int64_t epoch = 0; epoch < 4; epoch++) {
      int seen[DOCUMENTS] = {0};
      for (;; draw++) {
        ok(gd_dataset_where(dataset, draw, &place));
        if (place.epoch != epoch) break;
        moved += epoch && place.token != before[place.window];
        before[place.window] = place.token;
        check_row(dataset, draw, tasks[k / 2], seen);
      }
      for (int d = 0; d < DOCUMENTS; d++) assert_int_equal(seen[d], 1);
      assert_int_equal(place.window, 0);
    }
    assert_true(k % 2 ? moved > 0 : moved == 0); /* an epoch has an order of its own */
    gd_dataset_close(dataset);
  }
}

static void a_document_weighs_what_its_label_weighs(void **state) {
  (void)state;
  char path[300];
  gd_dataset *dataset;
  gd_batch batch;
  int64_t counts[2], expected[2] = {0};
  write_split("rows/train", &single, (spoilt){0}, path);
  ok(open_at("rows", T, GD_ORDER_SHUFFLED, true, &dataset));
  ok(gd_dataset_label_counts(dataset, counts));
  for (int64_t d = 0; d < DOCUMENTS; d++) expected[(int)label_of(d, 0)]++;
  assert_true(counts[0] == expected[0] && counts[1] == expected[1] && counts[0] > 0 && counts[1] > 0);
  ok(gd_dataset_weigh_labels(dataset, (const float[]){0.25f, 3}));
  gd_batch_shape shape = gd_dataset_batch_shape(dataset, 8);
  ok(gd_batch_open_as(&shape, &batch));
  ok(gd_dataset_read(dataset, 0, 8, &batch, 0));
  for (int32_t i = 0; i < 8 * batch.documents; i++)
    if (batch.label_rows[i] >= 0) assert_true(batch.label_weights[i] == (batch.labels[i] > 0 ? 3 : 0.25f));
  gd_batch_close(&batch);
  gd_dataset_close(dataset);
}

/* A rank that begins in the middle, or reads the other way round, reads the same rows. */
static void rows_do_not_depend_on_who_reads_them(void **state) {
  (void)state;
  char path[300];
  gd_dataset *dataset, *again;
  gd_batch whole, parts;
  write_split("rows/train", &single, (spoilt){0}, path);
  ok(open_at("rows", T, GD_ORDER_SHUFFLED, true, &dataset));
  ok(open_at("rows", T, GD_ORDER_SHUFFLED, true, &again));
  ok(gd_batch_open(30, T, &whole));
  ok(gd_batch_open(30, T, &parts));
  ok(gd_dataset_read(dataset, 100, 30, &whole, 0)); /* several epochs */
  for (int32_t row = 29; row >= 0; row -= 3) ok(gd_dataset_read(again, 100 + row - 2, 3, &parts, row - 2));
  assert_memory_equal(whole.tokens, parts.tokens, 30 * T * sizeof *whole.tokens);
  assert_memory_equal(whole.document_starts, parts.document_starts, 30 * T * sizeof *whole.tokens);
  assert_memory_equal(whole.weights, parts.weights, 30 * T * sizeof *whole.weights);
  gd_batch_close(&whole);
  gd_batch_close(&parts);
  gd_dataset_close(dataset);
  gd_dataset_close(again);
}

static void validation_reads_each_document_once(void **state) {
  (void)state;
  char path[300];
  gd_dataset *dataset;
  gd_batch batch;
  int seen[DOCUMENTS] = {0};
  write_split("held", &single, (spoilt){0}, path);
  ok(gd_dataset_open_split(path, T, false, true, &dataset));
  for (int64_t draw = 0; draw < gd_dataset_windows(dataset) + 3; draw++) check_row(dataset, draw, &single, seen);
  for (int d = 0; d < DOCUMENTS; d++) assert_int_equal(seen[d], 1);
  ok(gd_batch_open(1, T, &batch));
  ok(gd_dataset_read(dataset, gd_dataset_windows(dataset), 1, &batch, 0)); /* behind the end */
  for (int t = 0; t < T; t++) assert_true(batch.weights[t] == 0.0f);
  gd_batch_close(&batch);
  gd_dataset_close(dataset);
}

static void expect_usage(gd_status status, const char *text) {
  if (status != GD_USAGE || !strstr(gd_error_text(), text))
    fail_msg("status %d, text \"%s\", expected \"%s\"", (int)status, gd_error_text(), text);
}

static void what_cannot_be_read_in_rows_is_refused(void **state) {
  (void)state;
  char path[300];
  gd_dataset *dataset;
  gd_data_spec spec = {.sources = 2, .weight = {1, 1}, .prefetch = 2};
  write_split("rows/train", &single, (spoilt){0}, path);
  write_split("others/train", &multiple, (spoilt){0}, path);
  expect_usage(open_at("rows", LONGEST - 1, GD_ORDER_SHUFFLED, true, &dataset),
               "its longest example has 7 tokens, expected at most the 6");
  ok(open_at("rows", LONGEST, GD_ORDER_SHUFFLED, true, &dataset));
  gd_dataset_close(dataset);
  expect_usage(open_at("rows", T, GD_ORDER_RANDOM_OFFSET, true, &dataset), "examples of a task, which have no random offsets");
  snprintf(spec.path[0], GD_PATH_BYTES, "%s/rows", folder);
  snprintf(spec.path[1], GD_PATH_BYTES, "%s/others", folder);
  expect_usage(gd_dataset_open(&spec, T, GD_ORDER_SHUFFLED, 1, true, &dataset), "is for another task (classification) than");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(targets_and_labels_come_back),
      cmocka_unit_test(what_does_not_fit_together_is_named),
      cmocka_unit_test(an_index_that_names_no_task_is_refused),
      cmocka_unit_test(how_texts_were_cut_comes_back),
      cmocka_unit_test(a_long_label_is_named_by_whole_characters),
      cmocka_unit_test(each_document_comes_once_an_epoch),
      cmocka_unit_test(a_document_weighs_what_its_label_weighs),
      cmocka_unit_test(rows_do_not_depend_on_who_reads_them),
      cmocka_unit_test(validation_reads_each_document_once),
      cmocka_unit_test(what_cannot_be_read_in_rows_is_refused),
  };
  return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
