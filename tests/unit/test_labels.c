/* Labels of a batch dealt to chunks, and answers counted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "trainer/scores/classification.h"
#include "trainer/labels.h"

enum { SEQUENCES = 2, T = 16, MOST = 8 };

/* Chunks of 4 rows, two a time block: the second of sequence 0 has two documents, which is the most. */
static void documents_are_dealt_to_chunks(void **state) {
  (void)state;
  static const int32_t ends[SEQUENCES][MOST] = {{3, 5, 7, -1, -1, -1, -1, -1}, {0, 15, -1, -1, -1, -1, -1, -1}};
  gd_shape shape = {.sequence = T, .classes = 3, .label_columns = 1, .chunks = 4, .chunk = 4, .chunk_documents = 4, .width = 8};
  shape.time_blocks = shape.all_blocks = 2;
  shape.time_block = 8;
  gd_batch batch;
  gd_labels labels;
  assert_int_equal(gd_batch_open_as(&(gd_batch_shape){SEQUENCES, T, MOST, 1}, &batch), GD_OK);
  memcpy(batch.label_rows, ends, sizeof ends);
  for (int i = 0; i < SEQUENCES * MOST; i++) {
    batch.labels[i] = (float)(i % 3);
    batch.label_weights[i] = (float)(i + 1);
  }
  void *memory = malloc((size_t)gd_labels_bytes(&shape, SEQUENCES));
  assert_non_null(memory);
  assert_int_equal(gd_labels_fill(&shape, false, &batch, memory, &labels), GD_OK);
  assert_int_equal(labels.depth, 2);
  static const int32_t given[] = {3, -1, 5, 7, -1, -1, -1, -1, 16, -1, -1, -1, -1, -1, 31, -1};
  static const int32_t rows[] = {3, 5, 7, -1, -1, -1, -1, -1, 16, -1, -1, -1, 31, -1, -1, -1};
  static const int32_t order[] = {0, 2, 3, -1, -1, -1, -1, -1, 8, -1, -1, -1, 14, -1, -1, -1};
  static const int32_t from[] = {0, 1, 2, -1, -1, -1, -1, -1, 8, -1, -1, -1, 9, -1, -1, -1};
  const int32_t *classes = labels.labels;
  for (int i = 0; i < 16; i++) {
    assert_int_equal(labels.given[i], given[i]);
    assert_int_equal(labels.rows[i], rows[i]);
    assert_int_equal(labels.order[i], order[i]);
    assert_true(labels.weights[i] == (float)(from[i] + 1));
    assert_int_equal(classes[i], from[i] < 0 ? 0 : from[i] % 3);
  }
  free(memory);
  gd_batch_close(&batch);
}

static void a_batch_of_another_shape_is_a_bug(void **state) {
  (void)state;
  const gd_shape shape = {.sequence = T, .classes = 3, .label_columns = 3, .chunks = 1, .chunk = T, .chunk_documents = T};
  gd_batch batch;
  gd_labels labels;
  static char memory[4096];
  assert_int_equal(gd_batch_open_as(&(gd_batch_shape){SEQUENCES, T, MOST, 1}, &batch), GD_OK);
  assert_int_equal(gd_labels_fill(&shape, true, &batch, memory, &labels), GD_BUG);
  gd_error_clear();
  gd_batch_close(&batch);
}

static void the_answer_is_the_first_largest_output(void **state) {
  (void)state;
  assert_int_equal(gd_class_answer((const float[]){1, 5, 5}, 3), 1);
  assert_int_equal(gd_class_answer((const float[]){1, -5, 0}, 3), 0);
  assert_int_equal(gd_class_answer((const float[]){0.1f}, 1), 1); /* one output for two labels */
  assert_int_equal(gd_class_answer((const float[]){0.0f}, 1), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(documents_are_dealt_to_chunks),
      cmocka_unit_test(a_batch_of_another_shape_is_a_bug),
      cmocka_unit_test(the_answer_is_the_first_largest_output),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
