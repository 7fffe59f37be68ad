/* Samples as pure functions of the draw: order, mixture, windows across shards, document starts, validation, prefetch. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs the four above */
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/data/dataset.h"
#include "io/data/order.h"
#include "io/data/split.h"
#include "tests/own_folder.h"

enum { VOCABULARY = 50000, T = 8 };

/* Stream position p of source s holds id s * 10000 + p; documents begin at the multiples of 5, but for 20 and 25. */
static bool begins(int64_t token) {
  return token % 5 == 0 && token != 20 && token != 25;
}

static void write_split(const char *name, int32_t source, int64_t tokens, int64_t shard_tokens) {
  char split[300], file[400];
  gd_split_entry entries[64] = {{{0}, 0, 0, {0}}};
  gd_token_shard_info info = {.tokenizer = "test", .tokenizer_digest = "0123", .vocabulary = VOCABULARY, .eot = -1};
  int32_t shards = 0;
  snprintf(split, sizeof split, "%s/%s", folder, name);
  ok(gd_folder_make(split));
  for (int64_t first = 0; first < tokens; first += shard_tokens) {
    gd_split_entry *entry = &entries[shards++];
    gd_token_shard_writer *writer;
    uint8_t digest[GD_SHA256_BYTES];
    int64_t positions[500], count = tokens - first < shard_tokens ? tokens - first : shard_tokens;
    info.tokens = entry->tokens = count;
    snprintf(entry->file, sizeof entry->file, "%05d.h5", shards - 1);
    snprintf(file, sizeof file, "%s/%.31s", split, entry->file);
    ok(gd_token_shard_create(file, &info, &writer));
    for (int64_t i = 0; i < count; i++) {
      int32_t id = source * 10000 + (int32_t)(first + i);
      ok(gd_token_shard_append(writer, &id, 1));
      if (begins(first + i)) positions[entry->documents++] = i;
    }
    ok(gd_token_shard_set_documents(writer, positions, entry->documents));
    ok(gd_token_shard_finish(writer));
    ok(gd_sha256_file(file, digest, NULL));
    gd_sha256_hex(digest, entry->sha256);
    info.documents += entry->documents;
  }
  info.tokens = tokens;
  ok(gd_split_write_index(split, &info, &(gd_data_task){0}, entries, shards));
}

static int write_splits(void **state) {
  if (make_folder(state)) return 1;
  write_split("a/train", 0, 203, 61);  /* 25 windows of 8 */
  write_split("b/train", 1, 90, 1000); /* 11 windows */
  write_split("a/validation", 2, 30, 7);
  write_split("c/train", 3, 203, 40); /* a document begins each shard */
  return 0;
}

static gd_data_spec spec_of(float a, float b) {
  gd_data_spec spec = {.sources = b > 0 ? 2 : 1, .weight = {a, b}, .prefetch = 2};
  snprintf(spec.path[0], GD_PATH_BYTES, "%s/a", folder);
  snprintf(spec.path[1], GD_PATH_BYTES, "%s/b", folder);
  return spec;
}

static gd_dataset *open_one(gd_sample_order order, uint64_t seed) {
  gd_data_spec spec = spec_of(1, 0);
  gd_dataset *dataset;
  ok(gd_dataset_open(&spec, T, order, seed, true, &dataset));
  return dataset;
}

/* Every row of every order is a run of neighbouring tokens with the next ones as targets. */
static int32_t check_row(const gd_batch *batch, int32_t row) {
  const int32_t *tokens = batch->tokens + row * T, *targets = batch->targets + row * T;
  for (int32_t t = 0; t < T; t++) {
    assert_int_equal(tokens[t], tokens[0] + t);
    assert_int_equal(targets[t], tokens[0] + t + 1);
    assert_true(batch->weights[row * T + t] == 1.0f);
  }
  assert_int_equal(batch->documents, 0);
  return tokens[0];
}

static int32_t first_token(gd_dataset *dataset, int64_t draw) {
  gd_batch batch;
  ok(gd_batch_open(1, T, &batch));
  ok(gd_dataset_read(dataset, draw, 1, &batch, 0));
  int32_t first = check_row(&batch, 0);
  gd_batch_close(&batch);
  return first;
}

static void a_permutation_holds_every_index_once(void **state) {
  (void)state;
  for (int64_t count = 1; count < 300; count += count < 40 ? 1 : 37) {
    gd_rng rng = gd_rng_make(11, GD_RNG_DATA, 0, 0, (uint64_t)count);
    uint8_t seen[300] = {0};
    for (int64_t i = 0; i < count; i++) {
      int64_t at = gd_order_permute(&rng, count, i);
      assert_in_range(at, 0, count - 1);
      assert_int_equal(seen[at]++, 0);
    }
  }
  gd_rng rng = gd_rng_make(11, GD_RNG_DATA, 0, 0, 0);
  int64_t huge = ((int64_t)1 << 50) + 12345; /* far windows are reached as fast as near ones */
  for (int64_t i = 0; i < 1000; i++) assert_in_range(gd_order_permute(&rng, huge, huge - 1 - i), 0, huge - 1);
}

static void shuffled_shows_every_window_once_an_epoch(void **state) {
  (void)state;
  gd_dataset *dataset = open_one(GD_ORDER_SHUFFLED, 1), *other = open_one(GD_ORDER_SHUFFLED, 2);
  int64_t windows = gd_dataset_windows(dataset);
  assert_int_equal(windows, 25);
  int same_epoch = 0, same_seed = 0, in_order = 0;
  for (int64_t epoch = 0; epoch < 3; epoch++) {
    uint8_t seen[25] = {0};
    for (int64_t i = 0; i < windows; i++) {
      int32_t first = first_token(dataset, epoch * windows + i);
      assert_int_equal(first % T, 0);
      assert_int_equal(seen[first / T]++, 0);
      same_epoch += first == first_token(dataset, (epoch + 1) * windows + i);
      same_seed += first == first_token(other, epoch * windows + i);
      in_order += first == (int32_t)i * T;
    }
  }
  /* one in 25 falls on the same place by chance: 3 of 75 expected */
  assert_in_range(same_epoch, 0, 12);
  assert_in_range(same_seed, 0, 12);
  assert_in_range(in_order, 0, 12);
  gd_dataset_close(dataset);
  gd_dataset_close(other);
}

static void sequential_goes_through_the_stream_and_wraps(void **state) {
  (void)state;
  gd_dataset *dataset = open_one(GD_ORDER_SEQUENTIAL, 1);
  for (int64_t draw = 0; draw < 60; draw++) assert_int_equal(first_token(dataset, draw), draw % 25 * T);
  gd_dataset_close(dataset);
}

static void random_offset_reaches_every_start(void **state) {
  (void)state;
  gd_dataset *dataset = open_one(GD_ORDER_RANDOM_OFFSET, 1);
  uint8_t seen[203] = {0};
  for (int64_t draw = 0; draw < 3000; draw++) {
    int32_t first = first_token(dataset, draw);
    assert_in_range(first, 0, 203 - T - 1);
    seen[first] = 1;
  }
  for (int i = 0; i < 203 - T; i++) assert_int_equal(seen[i], 1);
  gd_dataset_close(dataset);
}

static void a_draw_does_not_depend_on_how_it_is_read(void **state) {
  (void)state;
  gd_data_spec spec = spec_of(2, 1);
  gd_dataset *dataset, *again;
  gd_batch whole, parts;
  ok(gd_dataset_open(&spec, T, GD_ORDER_SHUFFLED, 5, true, &dataset));
  ok(gd_dataset_open(&spec, T, GD_ORDER_SHUFFLED, 5, true, &again));
  ok(gd_batch_open(12, T, &whole));
  ok(gd_batch_open(12, T, &parts));
  ok(gd_dataset_read(dataset, 100, 12, &whole, 0));
  for (int32_t row = 11; row >= 0; row -= 3) ok(gd_dataset_read(again, 100 + row - 2, 3, &parts, row - 2));
  assert_memory_equal(whole.tokens, parts.tokens, 12 * T * sizeof *whole.tokens);
  assert_string_equal(gd_dataset_digest(dataset), gd_dataset_digest(again));
  gd_batch_close(&whole);
  gd_batch_close(&parts);
  gd_dataset_close(dataset);
  gd_dataset_close(again);
}

static void a_mixture_keeps_its_weights_at_every_point(void **state) {
  (void)state;
  const float weights[4] = {0.5f, 0.3f, 0.15f, 0.05f};
  gd_mixture mixture;
  gd_mixture_make(&mixture, weights, 4);
  int64_t count[4] = {0};
  for (int64_t draw = 0; draw < 5000; draw++) {
    int32_t source;
    int64_t index;
    gd_mixture_place(&mixture, draw, &source, &index);
    assert_int_equal(index, count[source]++); /* each source's draws come in its own order, none left out */
    for (int k = 0; k < 4; k++) {
      double wanted = (double)weights[k] * (double)(draw + 1);
      if ((double)count[k] < wanted - 3 || (double)count[k] > wanted + 3)
        fail_msg("draw %lld: source %d has %lld, expected %g", (long long)draw, k, (long long)count[k], wanted);
    }
  }
}

static void a_mixture_shows_every_window_of_each_source(void **state) {
  (void)state;
  gd_data_spec spec = spec_of(25, 11);
  gd_dataset *dataset;
  ok(gd_dataset_open(&spec, T, GD_ORDER_SHUFFLED, 9, true, &dataset));
  uint8_t seen[2][25] = {{0}};
  for (int64_t draw = 0; draw < 72; draw++) {
    gd_dataset_place place;
    int32_t first = first_token(dataset, draw);
    ok(gd_dataset_where(dataset, draw, &place));
    assert_int_equal(first / 10000, place.source);
    assert_int_equal(first % 10000, place.token);
    seen[place.source][place.window]++;
  }
  for (int i = 0; i < 25; i++) assert_in_range(seen[0][i], 1, 3);
  for (int i = 0; i < 11; i++) assert_in_range(seen[1][i], 1, 3);
  gd_dataset_close(dataset);
}

/* The same folder twice is two sources: each has an order of its own, and shows every window once an epoch. */
static void two_equal_sources_have_two_orders(void **state) {
  (void)state;
  static const gd_sample_order orders[] = {GD_ORDER_SHUFFLED, GD_ORDER_RANDOM_OFFSET};
  for (int k = 0; k < 2; k++) {
    gd_data_spec spec = spec_of(1, 1);
    memcpy(spec.path[1], spec.path[0], GD_PATH_BYTES);
    gd_dataset *dataset;
    ok(gd_dataset_open(&spec, T, orders[k], 9, true, &dataset));
    assert_int_equal(gd_dataset_windows(dataset), 50);
    int32_t first[2][25] = {{0}}, count[2] = {0}, equal = 0;
    uint8_t seen[2][25] = {{0}};
    for (int64_t draw = 0; draw < 50; draw++) {
      gd_dataset_place place;
      ok(gd_dataset_where(dataset, draw, &place));
      assert_in_range(count[place.source], 0, 24);
      first[place.source][count[place.source]++] = first_token(dataset, draw);
      if (k == 0) assert_int_equal(seen[place.source][place.window]++, 0);
    }
    for (int i = 0; i < 25; i++) equal += first[0][i] == first[1][i];
    assert_in_range(equal, 0, 6); /* one of 25 by chance */
    gd_dataset_close(dataset);
  }
}

static void where_names_the_file_and_place(void **state) {
  (void)state;
  gd_dataset *dataset = open_one(GD_ORDER_SEQUENTIAL, 1);
  gd_dataset_place place;
  ok(gd_dataset_where(dataset, 25 + 9, &place)); /* epoch 1, window 9: token 72 of shards of 61 */
  assert_int_equal(place.epoch, 1);
  assert_int_equal(place.window, 9);
  assert_int_equal(place.token, 72);
  assert_int_equal(place.file_token, 11);
  assert_non_null(strstr(place.file, "a/train/00001.h5"));
  gd_dataset_close(dataset);
}

static void document_starts_follow_the_boundaries_across_shards(void **state) {
  (void)state;
  for (int aligned = 0; aligned < 2; aligned++) {
    gd_data_spec spec = spec_of(1, 0);
    spec.mask_documents = true;
    if (aligned) snprintf(spec.path[0], GD_PATH_BYTES, "%s/c", folder);
    gd_dataset *dataset;
    gd_batch batch;
    ok(gd_dataset_open(&spec, T, GD_ORDER_RANDOM_OFFSET, 3, true, &dataset));
    ok(gd_batch_open(1, T, &batch));
    for (int64_t draw = 0; draw < 1500; draw++) {
      ok(gd_dataset_read(dataset, draw, 1, &batch, 0));
      int32_t start = 0;
      for (int32_t t = 0; t < T; t++) {
        if (begins(batch.tokens[t] % 10000)) start = t;
        assert_int_equal(batch.document_starts[t], start);
      }
    }
    gd_batch_close(&batch);
    gd_dataset_close(dataset);
  }
}

static void validation_counts_every_target_once(void **state) {
  (void)state;
  gd_data_spec spec = spec_of(1, 0);
  gd_dataset *dataset;
  gd_batch batch;
  ok(gd_dataset_open_validation(&spec, T, true, &dataset));
  assert_int_equal(gd_dataset_tokens(dataset), 30);
  assert_int_equal(gd_dataset_windows(dataset), 4); /* 29 targets */
  ok(gd_batch_open(7, T, &batch));
  ok(gd_dataset_read(dataset, 0, 7, &batch, 0));
  uint8_t seen[30] = {0};
  for (int i = 0; i < 7 * T; i++) {
    if (batch.weights[i] == 0.0f) {
      assert_int_equal(batch.targets[i], 0);
      continue;
    }
    assert_int_equal(batch.targets[i], batch.tokens[i] + 1);
    assert_int_equal(seen[batch.targets[i] - 20000]++, 0);
    assert_int_equal(batch.tokens[i], 20000 + i); /* in stream order */
  }
  for (int i = 1; i < 30; i++) assert_int_equal(seen[i], 1);
  gd_batch_close(&batch);
  gd_dataset_close(dataset);
  snprintf(spec.path[0], GD_PATH_BYTES, "%s/b", folder);
  ok(gd_dataset_open_validation(&spec, T, true, &dataset));
  assert_null(dataset);
}

static void prefetch_gives_what_reading_gives(void **state) {
  (void)state;
  gd_dataset *dataset = open_one(GD_ORDER_SHUFFLED, 4);
  gd_batch ahead, direct;
  ok(gd_batch_open(3, T, &ahead));
  ok(gd_batch_open(3, T, &direct));
  const int64_t offsets[] = {1, 5, 9};
  for (int listed = 0; listed < 2; listed++) {
    gd_prefetch_plan plan = {
        .start_step = 7, .draws_per_step = 12, .count = 3, .first_offset = 4, .offsets = listed ? offsets : NULL, .depth = 2};
    gd_prefetch *prefetch;
    ok(gd_prefetch_open(dataset, &plan, &prefetch));
    for (int64_t step = 7; step < 30; step++) {
      ok(gd_prefetch_next(prefetch, &ahead));
      for (int32_t row = 0; row < 3; row++)
        ok(gd_dataset_read(dataset, step * 12 + (listed ? offsets[row] : 4 + row), 1, &direct, row));
      assert_memory_equal(ahead.tokens, direct.tokens, 3 * T * sizeof *ahead.tokens);
      assert_memory_equal(ahead.targets, direct.targets, 3 * T * sizeof *ahead.targets);
    }
    gd_prefetch_close(prefetch);
  }
  gd_batch_close(&ahead);
  gd_batch_close(&direct);
  gd_dataset_close(dataset);
}

static void a_fault_of_the_reader_thread_is_returned_by_next(void **state) {
  (void)state;
  write_split("lost/train", 0, 100, 50);
  gd_data_spec spec = spec_of(1, 0);
  char shard[300];
  snprintf(spec.path[0], GD_PATH_BYTES, "%s/lost", folder);
  snprintf(shard, sizeof shard, "%s/lost/train/00001.h5", folder);
  gd_dataset *dataset;
  gd_prefetch *prefetch;
  gd_batch batch;
  ok(gd_dataset_open(&spec, T, GD_ORDER_SEQUENTIAL, 1, true, &dataset));
  assert_int_equal(unlink(shard), 0);
  ok(gd_batch_open(1, T, &batch));
  const gd_prefetch_plan plan = {.draws_per_step = 1, .count = 1, .depth = 4};
  ok(gd_prefetch_open(dataset, &plan, &prefetch));
  gd_status status = GD_OK;
  int read = 0;
  while (status == GD_OK && read < 20) {
    status = gd_prefetch_next(prefetch, &batch);
    read += status == GD_OK;
  }
  assert_int_equal(read, 6); /* the batches before the fault are still given */
  assert_int_equal(status, GD_BAD_DATA);
  assert_non_null(strstr(gd_error_text(), "lost/train/00001.h5"));
  gd_prefetch_close(prefetch);
  gd_dataset_close(dataset);
  /* opening again finds it at once */
  assert_int_equal(gd_dataset_open(&spec, T, GD_ORDER_SEQUENTIAL, 1, true, &dataset), GD_BAD_DATA);
  assert_non_null(strstr(gd_error_text(), "00001.h5: the token shard is missing, expected by"));
  gd_batch_close(&batch);
}

static void wrong_folders_and_lengths_are_named(void **state) {
  (void)state;
  gd_data_spec spec = spec_of(1, 0);
  gd_dataset *dataset;
  assert_int_equal(gd_dataset_open(&spec, 203, GD_ORDER_SEQUENTIAL, 1, true, &dataset), GD_USAGE);
  assert_non_null(strstr(gd_error_text(), "holds 203 tokens, expected at least 204 for sequences of 203"));
  snprintf(spec.path[0], GD_PATH_BYTES, "/nowhere");
  assert_int_equal(gd_dataset_open(&spec, T, GD_ORDER_SEQUENTIAL, 1, true, &dataset), GD_USAGE);
  assert_non_null(strstr(gd_error_text(), "/nowhere: No such file or directory, expected a dataset"));
  snprintf(spec.path[0], GD_PATH_BYTES, "%s", folder);
  assert_int_equal(gd_dataset_open(&spec, T, GD_ORDER_SEQUENTIAL, 1, true, &dataset), GD_BAD_DATA);
  assert_non_null(strstr(gd_error_text(), "no train/ in it"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_permutation_holds_every_index_once),
      cmocka_unit_test(shuffled_shows_every_window_once_an_epoch),
      cmocka_unit_test(sequential_goes_through_the_stream_and_wraps),
      cmocka_unit_test(random_offset_reaches_every_start),
      cmocka_unit_test(a_draw_does_not_depend_on_how_it_is_read),
      cmocka_unit_test(a_mixture_keeps_its_weights_at_every_point),
      cmocka_unit_test(a_mixture_shows_every_window_of_each_source),
      cmocka_unit_test(two_equal_sources_have_two_orders),
      cmocka_unit_test(where_names_the_file_and_place),
      cmocka_unit_test(document_starts_follow_the_boundaries_across_shards),
      cmocka_unit_test(validation_counts_every_target_once),
      cmocka_unit_test(prefetch_gives_what_reading_gives),
      cmocka_unit_test(a_fault_of_the_reader_thread_is_returned_by_next),
      cmocka_unit_test(wrong_folders_and_lengths_are_named),
  };
  return cmocka_run_group_tests(tests, write_splits, remove_folder);
}
