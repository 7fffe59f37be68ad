/* checkpoint_fixture.h - a small model's checkpoints for tests: every element is a function of step, tensor, kind and place, so
 * a test knows what must come back. */
#ifndef GD_TESTS_CHECKPOINT_FIXTURE_H
#define GD_TESTS_CHECKPOINT_FIXTURE_H

#include <stdlib.h>
#include <string.h>

#include "io/checkpoint/checkpoint.h"
#include "io/config/config.h"

#ifndef FIXTURE_ROWS
#define FIXTURE_ROWS 2000 /* of the largest tensor */
#endif
enum { FIXTURE_TENSORS = 3 };

static const gd_tensor fixture_tensors[FIXTURE_TENSORS] = {{"final_norm.weight", 1, 64, 1, false},
                                                           {"layers.0.mlp.up.weight", 2, 256, 64, false},
                                                           {"token_embedding.weight", 2, FIXTURE_ROWS, 64, false}};

static inline float fixture_value(int64_t step, int t, int k, int64_t e) {
  return (float)(step * 100 + t * 10 + k) + (float)(e % 9973) / 16384.0f;
}

/* Goes into the state of the saves that follow. */
static int64_t fixture_best_step = -1;

/* One save of `pieces` boxes a tensor and kind. published may be NULL: the save is started and not finished. */
static inline gd_status fixture_save(gd_checkpoint_writer *writer, int64_t step, int pieces, int64_t *published) {
  static float *memory[FIXTURE_TENSORS][GD_KINDS];
  static gd_checkpoint_box boxes[FIXTURE_TENSORS * GD_KINDS * 16];
  int32_t count = 0;
  for (int t = 0; t < FIXTURE_TENSORS; t++)
    for (int k = 0; k < GD_KINDS; k++) {
      int64_t rows = fixture_tensors[t].rows, cols = fixture_tensors[t].cols;
      if (!memory[t][k]) memory[t][k] = malloc((size_t)(rows * cols) * sizeof(float));
      for (int64_t e = 0; e < rows * cols; e++) memory[t][k][e] = fixture_value(step, t, k, e);
      for (int p = 0; p < pieces; p++) {
        int64_t first = rows * p / pieces, last = rows * (p + 1) / pieces;
        gd_box box = {first, last - first, 0, cols};
        boxes[count++] = (gd_checkpoint_box){t, (gd_checkpoint_kind)k, box, memory[t][k] + first * cols};
      }
    }
  gd_run_state state = {.step = step,
                        .tokens = step * 10,
                        .draws = step * 4,
                        .applied_steps = step,
                        .best_step = fixture_best_step,
                        .lr_factor = 1};
  gd_status status = gd_checkpoint_save(writer, &state, boxes, count);
  return status == GD_OK && published ? gd_checkpoint_finish(writer, published) : status;
}

static inline gd_status fixture_writer(const char *folder, int keep, gd_checkpoint_writer **out) {
  gd_spec spec;
  gd_mesh mesh;
  gd_config_defaults(&spec);
  spec.checkpoint.keep = keep;
  spec.checkpoint.background = true;
  GD_TRY(gd_mesh_init(&mesh, 1, 1, 1, 1));
  return gd_checkpoint_writer_open(NULL, folder, &spec, &mesh, fixture_tensors, FIXTURE_TENSORS, NULL, out);
}

/* Whether every element of the checkpoint is what its step says. */
static inline bool fixture_holds(const gd_checkpoint *checkpoint) {
  bool good = true;
  int64_t step = gd_checkpoint_state(checkpoint)->step;
  for (int t = 0; t < FIXTURE_TENSORS; t++)
    for (int k = 0; k < GD_KINDS; k++) {
      int64_t elements = fixture_tensors[t].rows * fixture_tensors[t].cols;
      gd_box box = {0, fixture_tensors[t].rows, 0, fixture_tensors[t].cols};
      float *data = malloc((size_t)elements * sizeof *data);
      gd_checkpoint_box wanted = {t, (gd_checkpoint_kind)k, box, data};
      good = good && data && gd_checkpoint_read(checkpoint, fixture_tensors, &wanted, 1) == GD_OK;
      for (int64_t e = 0; good && e < elements; e++) good = data[e] == fixture_value(step, t, k, e);
      free(data);
    }
  return good;
}

#endif
