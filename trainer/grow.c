/* grow.c - rows of the token table and the head for tokens that the source did not have. */
#include "trainer/grow.h"

#include <stdlib.h>
#include <string.h>

#include "shard/base/progress.h"

enum { SLAB_ELEMS = 1 << 20 };

/* A part of one tensor of the source, as the source has it. */
static gd_status read_part(const gd_weight_source *source, const gd_tensor *tensor, gd_box box, float *out) {
  gd_owned_box wanted = {.tensor = 0, .box = box};
  return gd_weight_source_read((void *)(uintptr_t)source, tensor, &wanted, 1, &out);
}

/* mean[cols] of all rows of the source's tensor, in columns [col, col + cols). */
static gd_status read_mean(const gd_weight_source *source, const gd_tensor *tensor, int64_t col, int64_t cols, float *mean) {
  int64_t step = SLAB_ELEMS / cols > 0 ? SLAB_ELEMS / cols : 1;
  if (step > tensor->rows) step = tensor->rows;
  double *sums = calloc((size_t)cols, sizeof *sums);
  float *slab = malloc((size_t)(step * cols) * sizeof *slab);
  gd_status status = sums && slab ? GD_OK : gd_fail(GD_NO_MEMORY, "no memory for rows of %s", tensor->name);
  for (int64_t row = 0; status == GD_OK && row < tensor->rows; row += step) {
    int64_t rows = tensor->rows - row < step ? tensor->rows - row : step;
    status = read_part(source, tensor, (gd_box){row, rows, col, cols}, slab);
    for (int64_t r = 0; status == GD_OK && r < rows; r++)
      for (int64_t c = 0; c < cols; c++) sums[c] += (double)slab[r * cols + c];
    gd_progress();
  }
  for (int64_t c = 0; status == GD_OK && c < cols; c++) mean[c] = (float)(sums[c] / (double)tensor->rows);
  free(sums);
  free(slab);
  return status;
}

/* A box of a table: rows of the source as they are, those behind them its mean. */
static gd_status read_table(const gd_weight_source *source, const gd_tensor *tensor, gd_box box, float *out) {
  int64_t old = tensor->rows - box.row < box.rows ? tensor->rows - box.row : box.rows;
  if (old < 0) old = 0;
  gd_box part = {box.row, old, box.col, box.cols};
  if (old) GD_TRY(read_part(source, tensor, part, out));
  if (old == box.rows) return GD_OK;
  float *mean = out + old * box.cols;
  GD_TRY(read_mean(source, tensor, box.col, box.cols, mean));
  for (int64_t r = old + 1; r < box.rows; r++) memcpy(out + r * box.cols, mean, (size_t)box.cols * sizeof *mean);
  return GD_OK;
}

gd_status gd_grown_read(const gd_weight_source *source, int64_t rows, const gd_tensor *tensors, const gd_owned_box *boxes,
                        int32_t count, float *const *data) {
  for (int32_t i = 0; i < count; i++) {
    gd_tensor tensor = tensors[boxes[i].tensor];
    bool table = strcmp(tensor.name, "token_embedding.weight") == 0 || strcmp(tensor.name, "head.weight") == 0;
    if (table) tensor.rows = rows;
    GD_TRY(table ? read_table(source, &tensor, boxes[i].box, data[i]) : read_part(source, &tensor, boxes[i].box, data[i]));
  }
  return GD_OK;
}
