/* MANIFEST.pb gives back every key of the run file and every number of the run's state; another version is refused by its
 * number. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>

#include "io/checkpoint/manifest.h"
#include "io/config/config.h"
#include "shard/base/rng.h"

enum { TRIALS = 50 };

static gd_rng rng;
static uint64_t drawn;

static uint32_t draw(uint32_t below) {
  return gd_rng_word(&rng, drawn++) % below;
}

/* A value that the key may have, as text: random inside its bounds. */
static void value_of(const gd_config_key *key, char *out, size_t size) {
  double low = isfinite(key->minimum) ? key->minimum : -1e6, high = isfinite(key->maximum) ? key->maximum : 1e9;
  double share = (1 + draw(1000)) / 1002.0;
  int count = 0;
  switch (key->type) {
    case GD_KEY_BOOL: snprintf(out, size, "%s", draw(2) ? "true" : "false"); return;
    case GD_KEY_CHOICE:
      while (key->choices[count].name) count++;
      snprintf(out, size, "%s", key->choices[draw((uint32_t)count)].name);
      return;
    case GD_KEY_STRING: snprintf(out, size, "a \"quoted\": name, %u # \xc3\xa9", draw(1000000)); return;
    case GD_KEY_SOURCES: snprintf(out, size, "[{path: one-%u, weight: 2.5}, two]", draw(1000000)); return;
    case GD_KEY_PATTERNS: snprintf(out, size, "[\"layers.%u.*\", head, \"*.bias\"]", draw(100)); return;
    case GD_KEY_FACTORS: snprintf(out, size, "{\"layers.%u.*\": 0.5, \"[f-h]*\": %u}", draw(100), draw(100)); return;
    case GD_KEY_WEIGHTS: snprintf(out, size, "[%u.5, 2, 1e-3]", draw(100)); return;
    case GD_KEY_FLOAT: snprintf(out, size, "%.9g", low + (high - low) * share); return;
    default: snprintf(out, size, "%.0f", floor(low + (high - low) * share)); return;
  }
}

/* A manifest of one tensor, in the smallest valid form. */
static gd_tensor tensor = {.name = "final_norm.weight", .dims = 1, .rows = 8, .cols = 1};
static gd_manifest_file file = {.name = "rank-00000.h5", .bytes = 4096};
static gd_stored_box box = {.box = {0, 8, 0, 1}};

static void make(gd_manifest *manifest) {
  *manifest = (gd_manifest){.state = {.best_step = -1, .validated_step = -1, .lr_factor = 1},
                            .numbers_version = 7,
                            .gptdist_version = "1.2.3",
                            .host = "host",
                            .isa = "generic",
                            .hdf5_version = "1.10.8"};
  gd_config_defaults(&manifest->spec);
  assert_int_equal(gd_mesh_init(&manifest->mesh, 24, 2, 3, 1), GD_OK);
  manifest->tensors = &tensor;
  manifest->files = &file;
  manifest->boxes = &box;
  manifest->tensor_count = manifest->file_count = manifest->box_count = 1;
}

/* Two bytes of nothing would be 150 in memory. */
static void test_a_manifest_unpacks_to_no_more_than_one_of_its_size_does(void **state) {
  (void)state;
  enum { BOXES = 500000 };
  gd_manifest in, out;
  gd_bytes bytes = {0};
  make(&in);
  assert_int_equal(gd_manifest_encode(&in, &bytes), GD_OK);
  for (int i = 0; i < BOXES; i++) assert_int_equal(gd_bytes_append(&bytes, "\x4a\x00", 2), GD_OK); /* field 9, empty */
  assert_int_equal(gd_manifest_decode("MANIFEST.pb", bytes.bytes, bytes.count, &out), GD_BAD_DATA);
  assert_non_null(strstr(gd_error_text(), "MANIFEST.pb: found"));
  assert_non_null(strstr(gd_error_text(), "as no gptdist manifest does"));
  gd_bytes_free(&bytes);
  /* Full ones are far from that. */
  gd_tensor large = {.name = "x", .dims = 1, .rows = BOXES, .cols = 1};
  gd_manifest_file one = {.name = "r", .bytes = 4LL * BOXES};
  in.tensors = &large;
  in.files = &one;
  in.boxes = calloc(BOXES, sizeof *in.boxes);
  assert_non_null(in.boxes);
  for (int i = 0; i < BOXES; i++) in.boxes[i] = (gd_stored_box){.offset = i, .box = {i, 1, 0, 1}};
  in.box_count = BOXES;
  assert_int_equal(gd_manifest_encode(&in, &bytes), GD_OK);
  if (gd_manifest_decode("MANIFEST.pb", bytes.bytes, bytes.count, &out) != GD_OK) fail_msg("%s", gd_error_text());
  assert_int_equal(out.box_count, BOXES);
  free(in.boxes);
  gd_manifest_free(&out);
  gd_bytes_free(&bytes);
}

static void test_every_key_and_every_number_of_the_state_come_back(void **state) {
  (void)state;
  const gd_config_key *keys;
  int count = gd_config_keys(&keys), changed[GD_CONFIG_MAX_KEYS] = {0};
  rng = gd_rng_make(34, GD_RNG_DATA, 0, 0, 0);
  for (int trial = 0; trial < TRIALS; trial++) {
    gd_manifest in, out;
    gd_bytes bytes = {0};
    gd_spec defaults;
    char text[GD_CONFIG_TEXT_BYTES], other[GD_CONFIG_TEXT_BYTES];
    make(&in);
    gd_config_defaults(&defaults);
    for (int k = 0; k < count; k++) {
      value_of(&keys[k], text, sizeof text);
      if (gd_config_set(&keys[k], text, keys[k].name, &in.spec) != GD_OK) fail_msg("%s: %s", text, gd_error_text());
      gd_config_value(&keys[k], &in.spec, text, sizeof text);
      changed[k] += strcmp(text, gd_config_value(&keys[k], &defaults, other, sizeof other)) != 0;
    }
    in.state = (gd_run_state){.step = 1000 + draw(1000),
                              .tokens = (int64_t)draw(1000) << 40 | 77,
                              .draws = (int64_t)draw(1000) << 33 | 55,
                              .applied_steps = draw(1000),
                              .bad_steps = draw(1000),
                              .best_validation = 1.0 / (3 + draw(1000)),
                              .best_step = draw(1000),
                              .metric = draw(GD_METRICS),
                              .validated_step = draw(1000),
                              .wait = draw(10),
                              .lr_wait = draw(10),
                              .lr_factor = 1.0 / (1 + draw(10))};
    assert_int_equal(gd_manifest_encode(&in, &bytes), GD_OK);
    if (gd_manifest_decode("MANIFEST.pb", bytes.bytes, bytes.count, &out) != GD_OK) fail_msg("%s", gd_error_text());
    for (int k = 0; k < count; k++) {
      gd_config_value(&keys[k], &in.spec, text, sizeof text);
      if (strcmp(text, gd_config_value(&keys[k], &out.spec, other, sizeof other)) != 0)
        fail_msg("%s: saved \"%s\", loaded \"%s\"", keys[k].name, text, other);
    }
    assert_memory_equal(&in.spec, &out.spec, sizeof in.spec);
    assert_memory_equal(&in.state, &out.state, sizeof in.state);
    assert_memory_equal(in.mesh.size, out.mesh.size, sizeof in.mesh.size);
    assert_string_equal(in.gptdist_version, out.gptdist_version);
    assert_int_equal(out.numbers_version, 7);
    assert_string_equal(in.host, out.host);
    gd_manifest_free(&out);
    gd_bytes_free(&bytes);
  }
  for (int k = 0; k < count; k++)
    if (!changed[k]) fail_msg("%s never left its default", keys[k].name);
}

static void test_another_format_version_is_refused_by_its_number(void **state) {
  (void)state;
  gd_manifest in, out;
  gd_bytes bytes = {0};
  make(&in);
  assert_int_equal(gd_manifest_encode(&in, &bytes), GD_OK);
  assert_memory_equal(bytes.bytes, "\x08\x01", 2); /* field 1, version 1 */
  static const unsigned char versions[] = {0, 4, 99};
  for (size_t i = 0; i < sizeof versions; i++) {
    char wanted[96];
    bytes.bytes[1] = (char)versions[i];
    assert_int_equal(gd_manifest_decode("MANIFEST.pb", bytes.bytes, bytes.count, &out), GD_BAD_DATA);
    snprintf(wanted, sizeof wanted, "MANIFEST.pb: format version %u, this program reads versions 1 to 3", versions[i]);
    assert_non_null(strstr(gd_error_text(), wanted));
  }
  gd_bytes_free(&bytes);
}

/* Format 3 is of runs that would go on otherwise without it; what no older program wrote has the value of a run that waits for
 * nothing. */
static void test_a_run_state_that_waits_is_format_3_and_one_of_before_loads(void **state) {
  (void)state;
  enum { ADDED = 21 }; /* bytes */
  gd_manifest in, out;
  gd_bytes bytes = {0};
  make(&in);
  const gd_run_state waits[] = {{.lr_factor = 1, .metric = GD_METRIC_ACCURACY},
                                {.lr_factor = 1, .wait = 1},
                                {.lr_factor = 1, .lr_wait = 1},
                                {.lr_factor = 0.5}};
  for (size_t i = 0; i < sizeof waits / sizeof *waits; i++) {
    in.state = waits[i];
    bytes.count = 0;
    assert_int_equal(gd_manifest_encode(&in, &bytes), GD_OK);
    assert_memory_equal(bytes.bytes, "\x08\x03", 2);
    assert_int_equal(gd_manifest_decode("MANIFEST.pb", bytes.bytes, bytes.count, &out), GD_OK);
    assert_memory_equal(&in.state, &out.state, sizeof in.state);
    gd_manifest_free(&out);
  }
  make(&in);
  in.state.best_step = in.state.validated_step = 77;
  in.state.best_validation = 2;
  bytes.count = 0;
  assert_int_equal(gd_manifest_encode(&in, &bytes), GD_OK);
  assert_memory_equal(bytes.bytes, "\x08\x01", 2);
  /* Fields 8 to 12 are the last of the message in field 3, which begins behind two of one byte and five. */
  char *added = memmem(bytes.bytes, bytes.count, "\x42\x04loss", 6);
  assert_non_null(added);
  assert_int_equal(bytes.bytes[9], 0x1a);
  const int length = bytes.bytes[10];
  assert_int_equal(added + ADDED - (bytes.bytes + 11), length);
  memmove(added, added + ADDED, bytes.count - (size_t)(added + ADDED - bytes.bytes));
  bytes.count -= ADDED;
  bytes.bytes[10] = (char)(length - ADDED);
  if (gd_manifest_decode("MANIFEST.pb", bytes.bytes, bytes.count, &out) != GD_OK) fail_msg("%s", gd_error_text());
  assert_memory_equal(&in.state, &out.state, sizeof in.state);
  gd_manifest_free(&out);
  gd_bytes_free(&bytes);
}

/* Format 2 says which tensors are frozen; a manifest without any is written as format 1, which older programs read. */
static void test_frozen_tensors_have_weights_alone(void **state) {
  (void)state;
  gd_manifest in, out;
  gd_bytes bytes = {0};
  gd_tensor two[2] = {tensor, tensor};
  gd_stored_box boxes[4] = {box, box, box, box};
  make(&in);
  memcpy(two[0].name, "embedding", 10);
  two[0].frozen = true;
  boxes[1].tensor = boxes[2].tensor = boxes[3].tensor = 1;
  boxes[2].kind = 1;
  in.tensors = two;
  in.boxes = boxes;
  in.tensor_count = 2;
  in.box_count = 3;
  assert_int_equal(gd_manifest_encode(&in, &bytes), GD_OK);
  assert_memory_equal(bytes.bytes, "\x08\x02", 2);
  assert_int_equal(gd_manifest_decode("MANIFEST.pb", bytes.bytes, bytes.count, &out), GD_OK);
  assert_true(out.tensors[0].frozen && !out.tensors[1].frozen);
  assert_int_equal(out.kinds, 3);
  assert_int_equal(gd_manifest_kinds(&out, 0), 1);
  assert_int_equal(gd_manifest_kinds(&out, 1), 3);
  gd_manifest_free(&out);
  bytes.bytes[1] = 1;
  assert_int_equal(gd_manifest_decode("MANIFEST.pb", bytes.bytes, bytes.count, &out), GD_BAD_DATA);
  assert_non_null(strstr(gd_error_text(), "embedding is frozen, which format version 1 does not know"));

  /* Moments where there are none, and none where there are. */
  boxes[3].tensor = 0;
  boxes[3].kind = 1;
  in.box_count = 4;
  bytes.count = 0;
  assert_int_equal(gd_manifest_encode(&in, &bytes), GD_OK);
  assert_int_equal(gd_manifest_decode("MANIFEST.pb", bytes.bytes, bytes.count, &out), GD_BAD_DATA);
  assert_non_null(strstr(gd_error_text(), "embedding: is frozen, and moments of it are stored"));
  two[0].frozen = false;
  in.box_count = 3;
  bytes.count = 0;
  assert_int_equal(gd_manifest_encode(&in, &bytes), GD_OK);
  assert_int_equal(gd_manifest_decode("MANIFEST.pb", bytes.bytes, bytes.count, &out), GD_BAD_DATA);
  assert_non_null(strstr(gd_error_text(), "its weights or moments are not stored"));
  gd_bytes_free(&bytes);
}

/* Written before the field was there: it is the last one. */
static void test_a_manifest_without_a_version_of_the_numbers_has_the_first(void **state) {
  (void)state;
  gd_manifest in, out;
  gd_bytes bytes = {0};
  make(&in);
  assert_int_equal(gd_manifest_encode(&in, &bytes), GD_OK);
  assert_memory_equal(bytes.bytes + bytes.count - 2, "\x58\x07", 2); /* field 11 */
  assert_int_equal(gd_manifest_decode("MANIFEST.pb", bytes.bytes, bytes.count - 2, &out), GD_OK);
  assert_int_equal(out.numbers_version, 1);
  gd_manifest_free(&out);
  bytes.bytes[bytes.count - 1] = 0;
  assert_int_equal(gd_manifest_decode("MANIFEST.pb", bytes.bytes, bytes.count, &out), GD_BAD_DATA);
  assert_non_null(strstr(gd_error_text(), "numbers version 0"));
  gd_bytes_free(&bytes);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_a_manifest_unpacks_to_no_more_than_one_of_its_size_does),
      cmocka_unit_test(test_every_key_and_every_number_of_the_state_come_back),
      cmocka_unit_test(test_another_format_version_is_refused_by_its_number),
      cmocka_unit_test(test_a_run_state_that_waits_is_format_3_and_one_of_before_loads),
      cmocka_unit_test(test_frozen_tensors_have_weights_alone),
      cmocka_unit_test(test_a_manifest_without_a_version_of_the_numbers_has_the_first),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
