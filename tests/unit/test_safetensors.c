/* Safetensors files: every dtype that is read, boxes, and files that are not what they say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>
#include <unistd.h>

#include "io/base/files.h"
#include "io/checkpoint/safetensors.h"
#include "shard/base/rng.h"

enum { MUTATIONS = 4000 };

static char path[64];

static int setup(void **state) {
  (void)state;
  strcpy(path, "/tmp/gptdist-safetensors-XXXXXX");
  int file = mkstemp(path);
  if (file < 0) return 1;
  close(file);
  return 0;
}

static int teardown(void **state) {
  (void)state;
  return unlink(path);
}

static void put(const char *header, const void *data, size_t count) {
  FILE *file = fopen(path, "wb");
  uint64_t length = strlen(header);
  assert_non_null(file);
  fwrite(&length, 8, 1, file);
  fwrite(header, length, 1, file);
  if (count) fwrite(data, count, 1, file);
  fclose(file);
}

static void test_float32_float16_and_bfloat16_are_read_as_float32(void **state) {
  (void)state;
  struct {
    float f32[6];
    uint16_t f16[6], bf16[2];
  } data = {{1, -2, 3.5f, -0.0f, INFINITY, 1e-40f}, {0x3c00, 0xc000, 0x0001, 0x7bff, 0x8000, 0x7c00}, {0x3f80, 0xc049}};
  put("{\"__metadata__\":{\"format\":\"pt\"},\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
      "\"b\":{\"dtype\":\"F16\",\"shape\":[6],\"data_offsets\":[24,36]},"
      "\"c\":{\"dtype\":\"BF16\",\"shape\":[2,1],\"data_offsets\":[36,40]}}   ",
      &data, 40);
  gd_safetensors *file = NULL;
  int32_t count = 0;
  assert_int_equal(gd_safetensors_open(path, &file), GD_OK);
  const gd_safetensor *list = gd_safetensors_list(file, &count);
  assert_int_equal(count, 3);
  assert_string_equal(list[1].name, "b");
  assert_string_equal(list[2].dtype_name, "BF16");
  assert_null(gd_safetensors_find(file, "d"));
  float out[6];
  assert_int_equal(gd_safetensors_read(file, gd_safetensors_find(file, "a"), (gd_box){0, 2, 0, 3}, out), GD_OK);
  assert_memory_equal(out, data.f32, sizeof out);
  assert_int_equal(gd_safetensors_read(file, gd_safetensors_find(file, "a"), (gd_box){0, 2, 1, 1}, out), GD_OK);
  assert_true(out[0] == -2 && isinf(out[1]));
  const float halves[6] = {1, -2, 0x1p-24f, 65504, -0.0f, INFINITY};
  assert_int_equal(gd_safetensors_read(file, &list[1], (gd_box){0, 6, 0, 1}, out), GD_OK);
  assert_memory_equal(out, halves, sizeof halves);
  assert_int_equal(gd_safetensors_read(file, &list[2], (gd_box){1, 1, 0, 1}, out), GD_OK);
  assert_true(out[0] == -3.140625f);
  assert_int_equal(gd_safetensors_read(file, &list[2], (gd_box){1, 2, 0, 1}, out), GD_BAD_DATA);
  gd_safetensors_close(file);
}

/* All halves, infinities too, and the floats half way between two of them, which go to the even one. */
static void test_what_is_written_is_read_again_rounded_to_nearest_even(void **state) {
  (void)state;
  enum { HALVES = 1 << 15, FINITE = 0x7c00 };
  static float values[2 * HALVES], between[FINITE - 1], found[2 * HALVES];
  const gd_safetensor half = {.name = "h", .dtype = GD_SAFETENSORS_F16, .dims = 1, .shape = {2 * HALVES}};
  for (int i = 0; i < 2 * HALVES; i++) {
    int magnitude = i & 0x7fff, exponent = magnitude >> 10, fraction = magnitude & 0x3ff;
    double value = exponent == 0    ? fraction * 0x1p-24
                   : exponent == 31 ? (double)INFINITY
                                    : ldexp(1024 + fraction, exponent - 25);
    values[i] = (float)(i & 0x8000 ? -value : value);
  }
  for (int i = 0; i + 1 < FINITE; i++) between[i] = (float)(((double)values[i] + (double)values[i + 1]) / 2);
  const gd_safetensor list[] = {half,
                                {.name = "between", .dtype = GD_SAFETENSORS_F16, .dims = 1, .shape = {FINITE - 1}},
                                {.name = "brain", .dtype = GD_SAFETENSORS_BF16, .dims = 2, .shape = {2, HALVES}},
                                {.name = "plain", .dtype = GD_SAFETENSORS_F32, .dims = 2, .shape = {HALVES, 2}}};
  gd_safetensors_writer *writer;
  gd_safetensors *file;
  assert_int_equal(unlink(path), 0);
  assert_int_equal(gd_safetensors_create(path, list, 4, &writer), GD_OK);
  assert_int_equal(gd_safetensors_append(writer, values, 1000), GD_OK);
  assert_int_equal(gd_safetensors_append(writer, values + 1000, 2 * HALVES - 1000), GD_OK);
  assert_int_equal(gd_safetensors_append(writer, between, FINITE - 1), GD_OK);
  assert_int_equal(gd_safetensors_append(writer, values, 2 * HALVES), GD_OK);
  assert_int_equal(gd_safetensors_finish(writer), GD_BUG); /* the last is not there yet */
  assert_int_equal(gd_safetensors_append(writer, values, 2 * HALVES), GD_OK);
  assert_int_equal(gd_safetensors_finish(writer), GD_OK);
  gd_safetensors_writer_close(writer);
  assert_int_equal(gd_safetensors_open(path, &file), GD_OK);
  gd_box all = {0, 2 * HALVES, 0, 1};
  assert_int_equal(gd_safetensors_read(file, gd_safetensors_find(file, "h"), all, found), GD_OK);
  assert_memory_equal(found, values, sizeof values);
  assert_int_equal(gd_safetensors_read(file, gd_safetensors_find(file, "plain"), (gd_box){0, HALVES, 0, 2}, found), GD_OK);
  assert_memory_equal(found, values, sizeof values);
  all.rows = FINITE - 1;
  assert_int_equal(gd_safetensors_read(file, gd_safetensors_find(file, "between"), all, found), GD_OK);
  for (int i = 0; i + 1 < FINITE; i++) assert_true(found[i] == values[i + (i & 1)]);
  gd_safetensors_close(file);
}

static void test_a_value_that_the_dtype_cannot_hold_is_named(void **state) {
  (void)state;
  static const struct {
    gd_safetensors_dtype dtype;
    float value;
    gd_status status;
  } cases[] = {{GD_SAFETENSORS_F16, 65519, GD_OK},       {GD_SAFETENSORS_F16, 65520, GD_BAD_DATA},
               {GD_SAFETENSORS_F16, -1e9f, GD_BAD_DATA}, {GD_SAFETENSORS_F16, INFINITY, GD_OK},
               {GD_SAFETENSORS_BF16, 3.39e38f, GD_OK},   {GD_SAFETENSORS_BF16, 3.4e38f, GD_BAD_DATA},
               {GD_SAFETENSORS_F32, 3.4e38f, GD_OK}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    const gd_safetensor one = {.name = "layers.0.x", .dtype = cases[i].dtype, .dims = 1, .shape = {1}};
    gd_safetensors_writer *writer;
    assert_int_equal(unlink(path), 0);
    assert_int_equal(gd_safetensors_create(path, &one, 1, &writer), GD_OK);
    assert_int_equal(gd_safetensors_append(writer, &cases[i].value, 1), cases[i].status);
    if (cases[i].status != GD_OK) assert_non_null(strstr(gd_error_text(), "layers.0.x holds"));
    gd_safetensors_writer_close(writer);
  }
}

static void test_each_way_to_be_wrong_is_said(void **state) {
  (void)state;
  static const struct {
    const char *header, *text;
  } cases[] = {
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,12]}}", "outside the 8 bytes"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,0]}}", "outside the 8 bytes"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}", "takes 8 bytes, its shape and dtype make 12"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,8]}}", "takes 8 bytes, its shape and dtype make 4"},
      {"{\"a\":{\"dtype\":\"F31\",\"shape\":[2],\"data_offsets\":[0,8]}}", "unknown dtype F31"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", "its header describes 4"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", "a gap"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"F32\",\"shape\":[1],"
       "\"data_offsets\":[4,8]}}",
       "overlaps"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"a\":{\"dtype\":\"F32\",\"shape\":[1],"
       "\"data_offsets\":[4,8]}}",
       "there twice"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,8]}}", "impossible shape"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", "impossible shape"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,2],\"data_offsets\":[0,8]}}", "more than 8 dims"},
      {"{\"a\":7}", "no tensor"},
      {"[1,2]", "no JSON object"},
      {"{\"a\":", "JSON"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    gd_safetensors *file = NULL;
    put(cases[i].header, "\0\0\0\0\0\0\0\0", 8);
    assert_int_equal(gd_safetensors_open(path, &file), GD_BAD_DATA);
    if (!strstr(gd_error_text(), cases[i].text)) fail_msg("\"%s\" is not in \"%s\"", cases[i].text, gd_error_text());
    assert_non_null(strstr(gd_error_text(), path));
  }
  gd_safetensors *file = NULL;
  assert_int_equal(truncate(path, 5), 0);
  assert_int_equal(gd_safetensors_open(path, &file), GD_BAD_DATA);
  assert_int_equal(gd_file_write(path, "\xff\xff\xff\xff\xff\xff\xff\xff{}", 10), GD_OK);
  assert_int_equal(gd_safetensors_open(path, &file), GD_BAD_DATA);
  assert_non_null(strstr(gd_error_text(), "truncated"));
  assert_int_equal(gd_safetensors_open("/tmp/gptdist-no-such.safetensors", &file), GD_BAD_DATA);
}

static void test_random_damage_never_does_worse_than_bad_data(void **state) {
  (void)state;
  static const char header[] =
      "{\"wte.weight\":{\"dtype\":\"F32\",\"shape\":[4,2],\"data_offsets\":[0,32]},\"h.0.b\":{\"dtype\":\"BF16\",\"shape\":[3],"
      "\"data_offsets\":[32,38]},\"x\":{\"dtype\":\"F16\",\"shape\":[1,5],\"data_offsets\":[38,48]}}";
  static const char letters[] = "{}[]\",:0123456789-eE.\\u BFI";
  uint8_t data[48] = {0}, whole[8 + sizeof header - 1 + sizeof data], bytes[sizeof whole];
  float out[64];
  gd_rng rng = gd_rng_make(1, GD_RNG_DATA, 0, 0, 0);
  uint64_t counter = 0, length = sizeof header - 1;
  int good = 0;
  memcpy(whole, &length, 8);
  memcpy(whole + 8, header, length);
  memcpy(whole + 8 + length, data, sizeof data);
  for (int i = 0; i < MUTATIONS; i++) {
    size_t count = sizeof whole;
    memcpy(bytes, whole, count);
    for (uint32_t n = gd_rng_word(&rng, counter++) % 4; n != UINT32_MAX; n--) {
      uint32_t word = gd_rng_word(&rng, counter++), at = gd_rng_word(&rng, counter++) % (uint32_t)count;
      if (word % 3 == 0) bytes[at] ^= (uint8_t)(1u << (word / 3 % 8));
      if (word % 3 == 1) bytes[at] = (uint8_t)letters[word / 3 % (sizeof letters - 1)];
      if (word % 3 == 2 && word % 5 == 0) count = at + 1;
    }
    gd_safetensors *file = NULL;
    FILE *stream = fopen(path, "wb");
    fwrite(bytes, count, 1, stream);
    fclose(stream);
    gd_status status = gd_safetensors_open(path, &file);
    if (status != GD_OK) {
      assert_int_equal(status, GD_BAD_DATA);
      continue;
    }
    good++;
    int32_t tensors = 0;
    const gd_safetensor *list = gd_safetensors_list(file, &tensors);
    for (int32_t t = 0; t < tensors; t++) {
      int64_t cols = list[t].dims == 2 ? list[t].shape[1] : 1;
      if (list[t].dims < 1 || list[t].dims > 2) continue;
      status = gd_safetensors_read(file, &list[t], (gd_box){0, list[t].shape[0], 0, cols}, out);
      if (status != GD_OK) assert_int_equal(status, GD_BAD_DATA);
    }
    gd_safetensors_close(file);
  }
  assert_true(good > 100);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
  const struct CMUnitTest tests[] = {
      TEST(test_float32_float16_and_bfloat16_are_read_as_float32),
      TEST(test_what_is_written_is_read_again_rounded_to_nearest_even),
      TEST(test_a_value_that_the_dtype_cannot_hold_is_named),
      TEST(test_each_way_to_be_wrong_is_said),
      TEST(test_random_damage_never_does_worse_than_bad_data),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
