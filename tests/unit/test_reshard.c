/* The copy list: every wanted element once, whatever the boxes; and what is not covered is said. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "shard/base/rng.h"
#include "shard/reshard.h"

enum { ROWS = 37, COLS = 23, MOST = 512 };

static gd_tensor tensors[2] = {{"a.weight", 2, ROWS, COLS, false}, {"b.bias", 1, 300, 1, false}};

/* Cuts a box at random places until pieces are small; appends them. */
static void cut(gd_rng *rng, uint64_t *counter, gd_stored_box part, int depth, gd_stored_box *out, int32_t *count) {
  uint32_t word = gd_rng_word(rng, (*counter)++);
  if (depth == 0 || word % 7 == 0 || gd_box_elements(part.box) < 4) {
    out[(*count)++] = part;
    return;
  }
  gd_stored_box first = part, second = part;
  if ((word & 8 && part.box.rows > 1) || part.box.cols == 1) {
    first.box.rows = 1 + word / 16 % (part.box.rows - 1);
    second.box.row += first.box.rows;
    second.box.rows -= first.box.rows;
  } else {
    first.box.cols = 1 + word / 16 % (part.box.cols - 1);
    second.box.col += first.box.cols;
    second.box.cols -= first.box.cols;
  }
  cut(rng, counter, first, depth - 1, out, count);
  cut(rng, counter, second, depth - 1, out, count);
}

static int32_t cut_all(gd_rng *rng, uint64_t *counter, gd_stored_box *out) {
  int32_t count = 0;
  for (int32_t t = 0; t < 2; t++)
    for (int32_t kind = 0; kind < 3; kind++) {
      gd_stored_box whole = {.tensor = t, .kind = kind, .box = {0, tensors[t].rows, 0, tensors[t].cols}};
      cut(rng, counter, whole, 6, out, &count);
    }
  for (int32_t i = 0; i < count; i++) {
    out[i].file = (int32_t)(gd_rng_word(rng, (*counter)++) % 3);
    out[i].offset = i * 1000;
  }
  return count;
}

static void test_every_wanted_element_is_copied_exactly_once(void **state) {
  (void)state;
  uint64_t counter = 0;
  for (uint64_t trial = 0; trial < 50; trial++) {
    gd_rng rng = gd_rng_make(trial, GD_RNG_DATA, 0, 0, 0);
    gd_stored_box stored[MOST], wanted[MOST];
    int32_t count = cut_all(&rng, &counter, stored), wanted_count = cut_all(&rng, &counter, wanted), *index = NULL;
    uint32_t kinds[2];
    assert_int_equal(gd_reshard_index(stored, count, &index), GD_OK);
    assert_int_equal(gd_reshard_check_cover(tensors, 2, stored, count, index, kinds), GD_OK);
    assert_int_equal(kinds[0], 7);
    assert_int_equal(kinds[1], 7);
    gd_copy *copies = NULL;
    int64_t copy_count = 0;
    assert_int_equal(gd_reshard_plan(tensors, stored, count, index, wanted, wanted_count, &copies, &copy_count), GD_OK);
    static uint8_t hits[2][3][ROWS * COLS];
    memset(hits, 0, sizeof hits);
    for (int64_t c = 0; c < copy_count; c++) {
      const gd_stored_box *from = &stored[copies[c].source], *to = &wanted[copies[c].target];
      gd_box common;
      assert_int_equal(from->tensor, to->tensor);
      assert_int_equal(from->kind, to->kind);
      assert_true(gd_box_intersect(from->box, to->box, &common));
      assert_memory_equal(&common, &copies[c].box, sizeof common);
      for (int64_t r = common.row; r < common.row + common.rows; r++)
        for (int64_t k = common.col; k < common.col + common.cols; k++)
          hits[to->tensor][to->kind][r * tensors[to->tensor].cols + k]++;
      if (c) assert_true(stored[copies[c - 1].source].file <= from->file);
    }
    for (int t = 0; t < 2; t++)
      for (int k = 0; k < 3; k++)
        for (int64_t e = 0; e < tensors[t].rows * tensors[t].cols; e++) assert_int_equal(hits[t][k][e], 1);
    free(copies);
    free(index);
  }
}

static gd_status cover(gd_stored_box *stored, int32_t count) {
  int32_t *index = NULL;
  assert_int_equal(gd_reshard_index(stored, count, &index), GD_OK);
  gd_status status = gd_reshard_check_cover(tensors, 2, stored, count, index, NULL);
  free(index);
  return status;
}

static void test_a_hole_and_an_overlap_are_named(void **state) {
  (void)state;
  gd_stored_box hole[] = {{.box = {0, 10, 0, COLS}}, {.box = {11, ROWS - 11, 0, COLS}}};
  assert_int_equal(cover(hole, 2), GD_BAD_DATA);
  assert_non_null(strstr(gd_error_text(), "a.weight"));
  gd_stored_box twice[] = {{.box = {0, 20, 0, COLS}}, {.box = {19, ROWS - 19, 0, 3}}};
  assert_int_equal(cover(twice, 2), GD_BAD_DATA);
  assert_non_null(strstr(gd_error_text(), "row 19, column 0 is stored twice"));
  gd_stored_box outside[] = {{.box = {0, ROWS + 1, 0, COLS}}};
  assert_int_equal(cover(outside, 1), GD_BAD_DATA);
}

static void test_a_wanted_box_that_is_not_stored_is_named(void **state) {
  (void)state;
  gd_stored_box stored[] = {{.box = {0, ROWS, 0, COLS}}}, wanted[] = {{.tensor = 1, .box = {5, 5, 0, 1}}};
  int32_t *index = NULL;
  gd_copy *copies = NULL;
  int64_t copy_count = 0;
  assert_int_equal(gd_reshard_index(stored, 1, &index), GD_OK);
  assert_int_equal(gd_reshard_plan(tensors, stored, 1, index, wanted, 1, &copies, &copy_count), GD_BAD_DATA);
  assert_non_null(strstr(gd_error_text(), "b.bias: 0 of 5"));
  free(index);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_every_wanted_element_is_copied_exactly_once),
      cmocka_unit_test(test_a_hole_and_an_overlap_are_named),
      cmocka_unit_test(test_a_wanted_box_that_is_not_stored_is_named),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
