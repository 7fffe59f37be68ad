/* metrics.jsonl and TensorBoard files of a run directory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <dirent.h>
#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "io/base/files.h"
#include "io/base/json.h"
#include "io/metrics/metrics.h"
#include "io/metrics/tensorboard.h"
#include "shard/base/log.h"

static char folder[64], metrics_path[128];

static int setup(void **state) {
  (void)state;
  strcpy(folder, "/tmp/gptdist-metrics-XXXXXX");
  if (!mkdtemp(folder)) return 1;
  snprintf(metrics_path, sizeof metrics_path, "%s/metrics.jsonl", folder);
  return 0;
}

static int teardown(void **state) {
  (void)state;
  return gd_folder_remove(folder) == GD_OK ? 0 : 1;
}

static float loss_of(int64_t step) {
  return 10.0f / (float)(step + 3);
}

static void write_steps(int64_t resumed, int64_t last, bool board) {
  gd_metrics *metrics = NULL;
  assert_int_equal(gd_metrics_open(folder, resumed, board, &metrics), GD_OK);
  if (resumed > 0 && resumed % 2 == 0) { /* a resumed run repeats the validation of the step it starts from */
    gd_metrics_line line = {
        .event = GD_METRICS_VALIDATION, .step = resumed, .tokens = resumed * 512, .loss = loss_of(resumed), .ms = 12.5};
    assert_int_equal(gd_metrics_write(metrics, &line), GD_OK);
  }
  for (int64_t step = resumed + 1; step <= last; step++) {
    gd_metrics_line line = {.event = GD_METRICS_TRAIN,
                            .step = step,
                            .tokens = step * 512,
                            .loss = loss_of(step),
                            .lr = 1e-3f,
                            .grad_norm = 1.0 / 3,
                            .ms = 12.5,
                            .tokens_per_s = 1e6,
                            .tflops = 0.25,
                            .mfu = NAN,
                            .memory_bytes = 1 << 30,
                            .skipped = step == 3};
    if (step == 3) line.loss = NAN;
    assert_int_equal(gd_metrics_write(metrics, &line), GD_OK);
    if (step % 2 == 0) {
      line.event = GD_METRICS_VALIDATION;
      assert_int_equal(gd_metrics_write(metrics, &line), GD_OK);
    }
  }
  gd_metrics_line profile = {.event = GD_METRICS_PROFILE, .step = last, .tokens = last * 512, .fields = ", \"steps\": 3"};
  assert_int_equal(gd_metrics_write(metrics, &profile), GD_OK);
  gd_metrics_line end = {.event = GD_METRICS_END, .step = last, .tokens = last * 512};
  assert_int_equal(gd_metrics_write(metrics, &end), GD_OK);
  gd_metrics_close(metrics);
}

static char *read_metrics(void) {
  gd_bytes text = {0};
  assert_int_equal(gd_file_read(metrics_path, 1 << 20, &text), GD_OK);
  return text.bytes;
}

static void test_a_line_holds_the_fields_in_order_and_floats_come_back_bit_for_bit(void **state) {
  (void)state;
  write_steps(0, 1, false);
  char *text = read_metrics();
  const char *expected =
      "{\"event\": \"train\", \"step\": 1, \"tokens\": 512, \"loss\": 2.5, \"lr\": 0.00100000005, \"grad_norm\": 0.333333333, "
      "\"ms\": 12.5, \"tokens_per_s\": 1000000, \"tflops\": 0.25, \"mfu\": null, \"memory_bytes\": 1073741824, \"skipped\": "
      "false}\n"
      "{\"event\": \"profile\", \"step\": 1, \"tokens\": 512, \"steps\": 3}\n"
      "{\"event\": \"end\", \"step\": 1, \"tokens\": 512}\n";
  assert_string_equal(text, expected);
  free(text);
  write_steps(0, 50, false);
  text = read_metrics();
  int seen = 0;
  for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
    gd_json *root = NULL;
    int64_t step = 0;
    double loss = 0;
    assert_int_equal(gd_json_parse(line, strlen(line), "line", 1, &root), GD_OK);
    if (gd_json_integer(gd_json_get(root, "step"), &step) && gd_json_number(gd_json_get(root, "loss"), &loss)) {
      float got = (float)loss, wanted = loss_of(step);
      assert_memory_equal(&got, &wanted, sizeof got);
      seen++;
    }
    gd_json_free(root);
  }
  assert_int_equal(seen, 49 + 25);
  free(text);
}

static void test_a_resumed_file_equals_that_of_a_run_never_interrupted(void **state) {
  (void)state;
  write_steps(0, 10, false);
  char *whole = read_metrics();
  write_steps(0, 8, false); /* killed after step 8, its last checkpoint at step 6 */
  FILE *file = fopen(metrics_path, "a");
  fputs("{\"event\": \"train\", \"step\": 9, \"tok", file);
  fclose(file);
  write_steps(6, 10, false);
  char *resumed = read_metrics();
  assert_string_equal(resumed, whole);
  free(whole);
  free(resumed);
}

static void test_a_run_that_goes_on_behind_its_end_tells_one_run(void **state) {
  (void)state;
  write_steps(0, 10, false);
  char *whole = read_metrics();
  write_steps(0, 6, false); /* ended at step 6, with its line of the end, and is given more steps */
  write_steps(6, 10, false);
  char *resumed = read_metrics();
  assert_string_equal(resumed, whole);
  free(resumed);
  /* A crash of the machine may take the last line's newline alone. */
  write_steps(0, 5, false);
  char *text = read_metrics();
  size_t count = (size_t)(strstr(text, "{\"event\": \"end\"") - text) - 1;
  assert_int_equal(gd_file_write(metrics_path, text, count), GD_OK);
  write_steps(5, 10, false);
  resumed = read_metrics();
  assert_string_equal(resumed, whole);
  free(text);
  free(whole);
  free(resumed);
}

static char said[512];
static void keep_warning(void *context, gd_log_level level, const char *line) {
  (void)context;
  if (level == GD_LOG_WARNING) snprintf(said, sizeof said, "%s", line);
}

/* Cuts the file back to `step`; the warning goes to `said`. */
static void reopen(int64_t step) {
  gd_metrics *metrics = NULL;
  said[0] = 0;
  gd_log_set_sink(keep_warning, NULL);
  assert_int_equal(gd_metrics_open(folder, step, false, &metrics), GD_OK);
  gd_log_set_sink(NULL, NULL);
  gd_metrics_close(metrics);
}

static void test_a_damaged_line_is_named_with_its_number(void **state) {
  (void)state;
  static const struct damage {
    const char *from, *to;
    int line; /* train 1, train 2, validation 2, train 3, train 4, ... */
  } damages[] = {{"{\"event\": \"train\", \"step\": 3,", "{\"event\": \"train\"- \"step\": 3,", 4},
                 {"\"event\": \"validation\", \"step\": 2", "\"event\": \"valida4ion\", \"step\": 2", 3},
                 {"\"train\", \"step\": 3", "\"train\", \"step\": 7", 4}, /* dropped for a step to come */
                 {"\"train\", \"step\": 5", "\"train\", \"step\": 1", 7},
                 {"\"train\", \"step\": 4", "\"train\", \"stap\": 4", 5}};
  for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
    char wanted[200];
    write_steps(0, 8, false);
    char *text = read_metrics(), *at = strstr(text, damages[i].from);
    assert_non_null(at);
    memcpy(at, damages[i].to, strlen(damages[i].to));
    assert_int_equal(gd_file_write(metrics_path, text, strlen(text)), GD_OK);
    free(text);
    reopen(6);
    snprintf(wanted, sizeof wanted, "%s:%d: is damaged", metrics_path, damages[i].line);
    if (!strstr(said, wanted) || !strstr(said, " 1 such line in all")) print_message("%zu: %s\n", i, said);
    assert_non_null(strstr(said, wanted));
    assert_non_null(strstr(said, " 1 such line in all"));
  }
  /* what a kill leaves is no damage */
  write_steps(0, 8, false);
  reopen(6);
  assert_string_equal(said, "");
  FILE *file = fopen(metrics_path, "a");
  fputs("{\"event\": \"train\", \"step\": 7, \"tok", file);
  fclose(file);
  reopen(6);
  assert_string_equal(said, "");
}

static void test_a_new_run_starts_with_an_empty_file(void **state) {
  (void)state;
  write_steps(0, 5, false);
  gd_metrics *metrics = NULL;
  assert_int_equal(gd_metrics_open(folder, 0, false, &metrics), GD_OK);
  gd_metrics_close(metrics);
  char *text = read_metrics();
  assert_string_equal(text ? text : "", "");
  free(text);
}

/* ---- TensorBoard ---- */

static uint64_t little_endian(const uint8_t *bytes, int count) {
  uint64_t value = 0;
  for (int i = count - 1; i >= 0; i--) value = value << 8 | bytes[i];
  return value;
}

static uint32_t unmask(uint32_t value) {
  uint32_t turned = value - 0xa282ead8u;
  return turned >> 17 | turned << 15;
}

static uint64_t varint(const uint8_t **at) {
  uint64_t value = 0;
  for (int shift = 0;; shift += 7) {
    uint8_t byte = *(*at)++;
    value |= (uint64_t)(byte & 0x7f) << shift;
    if (!(byte & 0x80)) return value;
  }
}

/* What a message says, read by hand: the step, and the value of one tag. */
static bool find_scalar(const uint8_t *at, const uint8_t *end, const char *tag, uint64_t *step, float *value) {
  bool found = false;
  while (at < end) {
    uint64_t key = varint(&at);
    if (key == (1 << 3 | 1)) {
      at += 8;
    } else if (key == (2 << 3 | 0)) {
      *step = varint(&at);
    } else {
      assert_int_equal(key & 7, 2);
      uint64_t length = varint(&at);
      const uint8_t *inner = at, *stop = at + length;
      at = stop;
      if (key >> 3 != 5) continue;
      while (inner < stop) {
        assert_int_equal(varint(&inner), 1 << 3 | 2);
        uint64_t size = varint(&inner);
        const uint8_t *next = inner + size;
        assert_int_equal(varint(&inner), 1 << 3 | 2);
        uint64_t letters = varint(&inner);
        bool same = letters == strlen(tag) && memcmp(inner, tag, letters) == 0;
        inner += letters;
        assert_int_equal(varint(&inner), 2 << 3 | 5);
        if (same) memcpy(value, inner, 4);
        found |= same;
        inner = next;
      }
    }
  }
  return found;
}

static void test_event_files_are_framed_and_hold_the_values(void **state) {
  (void)state;
  assert_int_equal(gd_crc32c("123456789", 9), 0xe3069283u); /* RFC 3720's check value */
  write_steps(0, 4, true);
  char path[512] = "";
  snprintf(path, sizeof path, "%s/tensorboard", folder);
  DIR *entries = opendir(path);
  assert_non_null(entries);
  for (struct dirent *entry; (entry = readdir(entries));)
    if (strncmp(entry->d_name, "events.out.tfevents.", 20) == 0)
      snprintf(path, sizeof path, "%s/tensorboard/%s", folder, entry->d_name);
  closedir(entries);
  gd_bytes bytes = {0};
  assert_int_equal(gd_file_read(path, 1 << 20, &bytes), GD_OK);
  int records = 0, losses = 0, validations = 0;
  for (size_t at = 0; at < bytes.count; records++) {
    const uint8_t *record = (const uint8_t *)bytes.bytes + at;
    uint64_t length = little_endian(record, 8), step = 0;
    float value = 0;
    assert_true(at + 16 + length <= bytes.count);
    assert_int_equal(unmask((uint32_t)little_endian(record + 8, 4)), gd_crc32c(record, 8));
    assert_int_equal(unmask((uint32_t)little_endian(record + 12 + length, 4)), gd_crc32c(record + 12, length));
    if (find_scalar(record + 12, record + 12 + length, "loss/train", &step, &value)) {
      losses++;
      float expected = loss_of((int64_t)step);
      if (step != 3) assert_memory_equal(&value, &expected, sizeof value);
      assert_int_equal(step, losses);
    }
    {
      static const struct {
        const char *tag;
        float value;
      } wanted[] = {
          {"optimizer/lr", 1e-3f}, {"optimizer/grad_norm", 1.0f / 3}, {"speed/tokens_per_s", 1e6f}, {"speed/tflops", 0.25f}};
      bool train = find_scalar(record + 12, record + 12 + length, "loss/train", &step, &value);
      for (size_t w = 0; train && w < sizeof wanted / sizeof *wanted; w++) {
        assert_true(find_scalar(record + 12, record + 12 + length, wanted[w].tag, &step, &value));
        assert_memory_equal(&value, &wanted[w].value, sizeof value); /* a NaN is equal to all for assert_float_equal */
      }
    }
    validations += find_scalar(record + 12, record + 12 + length, "loss/validation", &step, &value);
    at += 16 + length;
  }
  assert_int_equal(records, 2 + 4 + 2);
  assert_int_equal(losses, 4);
  assert_int_equal(validations, 2);
  gd_bytes_free(&bytes);
}

/* The one event file whose name is not `known`; its bytes. */
static gd_bytes other_board(const char *known, char name[256]) {
  char path[512];
  gd_bytes bytes = {0};
  name[0] = 0;
  snprintf(path, sizeof path, "%s/tensorboard", folder);
  DIR *entries = opendir(path);
  assert_non_null(entries);
  for (struct dirent *entry; (entry = readdir(entries));)
    if (strncmp(entry->d_name, "events.", 7) == 0 && strcmp(entry->d_name, known) != 0)
      snprintf(name, 256, "%s", entry->d_name);
  closedir(entries);
  snprintf(path, sizeof path, "%s/tensorboard/%s", folder, name);
  assert_int_equal(gd_file_read(path, 1 << 20, &bytes), GD_OK);
  return bytes;
}

static void test_a_resumed_run_tells_tensorboard_from_which_step_on_older_files_are_void(void **state) {
  (void)state;
  char first[256], second[256];
  write_steps(0, 6, true);
  gd_bytes bytes = other_board("", first);
  gd_bytes_free(&bytes);
  write_steps(4, 6, true);
  bytes = other_board(first, second);
  const uint8_t *record = (const uint8_t *)bytes.bytes;
  record += 16 + little_endian(record, 8); /* behind the file's version */
  const uint8_t *at = record + 12, *end = at + little_endian(record, 8);
  uint64_t step = 0, start = 0;
  while (at < end) {
    uint64_t key = varint(&at);
    if (key == (1 << 3 | 1)) {
      at += 8;
    } else if (key == (2 << 3 | 0)) {
      step = varint(&at);
    } else { /* session_log = 7 { status = 1: START = 1 } */
      assert_int_equal(key, 7 << 3 | 2);
      assert_int_equal(varint(&at), 2);
      assert_int_equal(varint(&at), 1 << 3 | 0);
      start = varint(&at);
    }
  }
  assert_int_equal(step, 5);
  assert_int_equal(start, 1);
  gd_bytes_free(&bytes);
}

/* ---- a full disk ---- */

static int said_warnings;
static char all_said[4096];
static void keep_all(void *context, gd_log_level level, const char *line) {
  (void)context;
  if (level != GD_LOG_WARNING) return;
  said_warnings++;
  size_t used = strlen(all_said);
  snprintf(all_said + used, sizeof all_said - used, "%s\n", line);
}

/* No file grows past `bytes`: what is beyond is refused, and a line over the edge goes in in part. */
static void limit_files(rlim_t bytes) {
  struct rlimit limit;
  assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
  limit.rlim_cur = bytes;
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void write_one(gd_metrics *metrics, int64_t step) {
  gd_metrics_line line = {.event = GD_METRICS_TRAIN, .step = step, .tokens = step * 512, .loss = loss_of(step)};
  assert_int_equal(gd_metrics_write(metrics, &line), GD_OK);
}

static void expect_steps(const char *text, const int64_t *steps, int count) {
  const char *at = text;
  for (int i = 0; i < count; i++) {
    char wanted[80];
    snprintf(wanted, sizeof wanted, "{\"event\": \"%s\", \"step\": %lld, ", steps[i] < 0 ? "lost" : "train",
             (long long)llabs(steps[i]));
    if (strncmp(at, wanted, strlen(wanted)) != 0) fail_msg("line %d: expected %s in\n%s", i + 1, wanted, text);
    at = strchr(at, '\n') + 1;
  }
  assert_string_equal(at, "");
}

/* The newest event file: every record whole, and the steps of "loss/train" in it. */
static void expect_board(const int64_t *steps, int count) {
  char name[256];
  gd_bytes bytes = other_board("", name);
  int found = 0;
  for (size_t at = 0; at < bytes.count;) {
    const uint8_t *record = (const uint8_t *)bytes.bytes + at;
    uint64_t length = little_endian(record, 8), step = 0;
    float value;
    assert_true(at + 16 + length <= bytes.count);
    assert_int_equal(unmask((uint32_t)little_endian(record + 12 + length, 4)), gd_crc32c(record + 12, length));
    if (find_scalar(record + 12, record + 12 + length, "loss/train", &step, &value)) {
      assert_true(found < count);
      assert_int_equal(step, steps[found++]);
    }
    at += 16 + length;
  }
  assert_int_equal(found, count);
  gd_bytes_free(&bytes);
}

/* Lines that the disk refuses are lost and counted, the first of an episode is told, no part of one stays, and the file says
 * itself where lines are missing. */
static void test_a_full_disk_loses_lines_and_says_how_many(void **state) {
  (void)state;
  gd_metrics *metrics = NULL;
  signal(SIGXFSZ, SIG_IGN);
  said_warnings = 0;
  all_said[0] = 0;
  gd_log_set_sink(keep_all, NULL);
  assert_int_equal(gd_metrics_open(folder, 0, true, &metrics), GD_OK);
  write_one(metrics, 1);
  char *begun = read_metrics();
  limit_files(strlen(begun) + 30);
  free(begun);
  write_one(metrics, 2); /* one too many for metrics.jsonl, in part */
  limit_files(20);
  for (int64_t step = 3; step <= 5; step++) write_one(metrics, step); /* nothing of these */
  assert_int_equal(said_warnings, 2);                                 /* once for each file */
  limit_files(RLIM_INFINITY);
  for (int64_t step = 6; step <= 7; step++) write_one(metrics, step);
  assert_int_equal(said_warnings, 4);
  limit_files(20);
  write_one(metrics, 8); /* lost to the end */
  gd_metrics_close(metrics);
  limit_files(RLIM_INFINITY);
  gd_log_set_sink(NULL, NULL);
  assert_int_equal(said_warnings, 8);
  assert_non_null(strstr(all_said, "metrics.jsonl: File too large; the run goes on"));
  assert_non_null(strstr(all_said, "metrics.jsonl can be written again: 4 lines were lost"));
  assert_non_null(strstr(all_said, "metrics.jsonl could not be written to the end: 1 line was lost"));
  assert_non_null(strstr(all_said, "tfevents"));
  char *text = read_metrics();
  expect_steps(text, (const int64_t[]){1, -6, 6, 7}, 4);
  assert_non_null(strstr(text, "{\"event\": \"lost\", \"step\": 6, \"tokens\": 3072, \"lines\": 4}\n"));
  free(text);
  reopen(7); /* the gap is no damage */
  assert_string_equal(said, "");
  text = read_metrics();
  expect_steps(text, (const int64_t[]){1, -6, 6, 7}, 4);
  free(text);
}

static void test_a_full_disk_leaves_event_files_whole(void **state) {
  (void)state;
  gd_metrics *metrics = NULL;
  char name[256];
  signal(SIGXFSZ, SIG_IGN);
  assert_int_equal(gd_metrics_open(folder, 0, true, &metrics), GD_OK);
  write_one(metrics, 1);
  gd_bytes bytes = other_board("", name);
  limit_files(bytes.count + 30);
  write_one(metrics, 2); /* in part */
  write_one(metrics, 3);
  limit_files(RLIM_INFINITY);
  write_one(metrics, 4);
  gd_metrics_close(metrics);
  expect_board((const int64_t[]){1, 4}, 2);
  gd_bytes_free(&bytes);
}

static void test_a_disk_that_is_full_as_they_are_opened_is_asked_again(void **state) {
  (void)state;
  gd_metrics *metrics = NULL;
  signal(SIGXFSZ, SIG_IGN);
  assert_int_equal(gd_metrics_open(folder, 0, false, &metrics), GD_OK);
  write_one(metrics, 1);
  gd_metrics_close(metrics);
  limit_files(10);
  all_said[0] = 0;
  gd_log_set_sink(keep_all, NULL);
  assert_int_equal(gd_metrics_open(folder, 1, true, &metrics), GD_OK);
  write_one(metrics, 2);
  write_one(metrics, 3);
  limit_files(RLIM_INFINITY);
  gd_log_set_sink(NULL, NULL);
  assert_non_null(strstr(all_said, "the run goes on without these metrics"));
  char *text = read_metrics();
  expect_steps(text, (const int64_t[]){1}, 1);
  free(text);
  nanosleep(&(struct timespec){.tv_sec = 1, .tv_nsec = 100000000}, NULL);
  write_one(metrics, 4);
  gd_metrics_close(metrics);
  text = read_metrics();
  expect_steps(text, (const int64_t[]){1, -4, 4}, 3);
  assert_non_null(strstr(text, "\"lines\": 2}\n"));
  free(text);
  expect_board((const int64_t[]){4}, 1);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
  const struct CMUnitTest tests[] = {
      TEST(test_a_line_holds_the_fields_in_order_and_floats_come_back_bit_for_bit),
      TEST(test_a_resumed_file_equals_that_of_a_run_never_interrupted),
      TEST(test_a_run_that_goes_on_behind_its_end_tells_one_run),
      TEST(test_a_damaged_line_is_named_with_its_number),
      TEST(test_a_new_run_starts_with_an_empty_file),
      TEST(test_a_full_disk_loses_lines_and_says_how_many),
      TEST(test_a_full_disk_leaves_event_files_whole),
      TEST(test_a_disk_that_is_full_as_they_are_opened_is_asked_again),
      TEST(test_event_files_are_framed_and_hold_the_values),
      TEST(test_a_resumed_run_tells_tensorboard_from_which_step_on_older_files_are_void),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
