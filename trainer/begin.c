/* begin.c - reads the weights to begin with, box by box: tables that grow, a classifier that is put upon them or has more
 * labels. */
#include "trainer/begin.h"

#include <stdlib.h>
#include <string.h>

#include "shard/base/log.h"
#include "trainer/grow.h"
#include "trainer/source.h"
#include "trainer/weights.h"

/* Weights to begin with, and what the model has beside them. */
typedef struct origin {
  gd_weight_source weights;
  gd_model *model;
  int64_t rows;    /* of its token table */
  int32_t outputs; /* of its classifier, 0: it has none */
  int64_t *places; /* [classes] where its labels are not the data's: gd_data_task_match */
} origin;

/* Rows by label. The source's rows are read whole: those of the data's labels may lie anywhere among them. */
static gd_status read_labelled(origin *from, const gd_tensor *tensors, const gd_owned_box *box, float *data) {
  GD_TRY(gd_model_random_weights(from->model, tensors, box, 1, &data));
  const int64_t cols = box->box.cols;
  gd_tensor tensor = tensors[box->tensor];
  gd_owned_box all = {.tensor = 0, .box = {0, from->outputs, box->box.col, cols}};
  float *rows = malloc((size_t)(from->outputs * cols) * sizeof *rows);
  if (!rows) return gd_fail(GD_NO_MEMORY, "no memory for %d rows of %s", from->outputs, tensor.name);
  tensor.rows = from->outputs;
  gd_status status = gd_weight_source_read(&from->weights, &tensor, &all, 1, &rows);
  for (int64_t r = 0; status == GD_OK && r < box->box.rows; r++) {
    int64_t place = from->places[box->box.row + r];
    if (place) memcpy(data + r * cols, rows + (place - 1) * cols, (size_t)cols * sizeof *data);
  }
  free(rows);
  return status;
}

static gd_status read_weights(void *context, const gd_tensor *tensors, const gd_owned_box *boxes, int32_t count,
                              float *const *data) {
  origin *from = context;
  const gd_layout *layout = &from->model->layout;
  bool classifier = layout->spec.model.classes && count > 0 && boxes[0].parameter == layout->head; /* a bucket of its own */
  if (classifier && !from->outputs) return gd_model_random_weights(from->model, tensors, boxes, count, data);
  if (classifier && from->places) {
    for (int32_t i = 0; i < count; i++) GD_TRY(read_labelled(from, tensors, &boxes[i], data[i]));
    return GD_OK;
  }
  if (from->rows < layout->spec.model.vocabulary) return gd_grown_read(&from->weights, from->rows, tensors, boxes, count, data);
  return gd_weight_source_read(&from->weights, tensors, boxes, count, data);
}

static void tell_rows(const origin *from) {
  const gd_model_spec *model = &from->model->layout.spec.model;
  if (from->rows < model->vocabulary)
    gd_log(GD_LOG_INFO, "the %lld rows of %s for tokens get %lld more, which begin as their mean", (long long)from->rows,
           model->init_from, (long long)(model->vocabulary - from->rows));
}

/* `fresh` of the data's labels have no row to begin with; they are named. */
static void tell_labels(const origin *from, const gd_data_task *task, int32_t fresh, const char *names) {
  const int32_t kept = task->label_count - fresh;
  if (from->outputs && fresh) gd_log(GD_LOG_INFO, "classifier: %d labels kept, %d new: %s", kept, fresh, names);
  if (from->outputs && !fresh) gd_log(GD_LOG_INFO, "classifier: %d labels kept", kept);
}

static gd_status place_labels(origin *from, const gd_data_task *task, bool first) {
  const gd_data_task *own = gd_weight_source_task(&from->weights);
  char names[GD_TASK_NAMES_BYTES] = "";
  int32_t fresh = 0;
  if (from->outputs && !gd_data_task_equal(own, task)) {
    from->places = calloc((size_t)task->label_count, sizeof *from->places);
    if (!from->places) return gd_fail(GD_NO_MEMORY, "no memory for %d labels", task->label_count);
    gd_data_task_match(own, task, from->places);
    fresh = gd_data_task_unseen(task, from->places, 0, task->label_count, names);
  }
  if (first) tell_labels(from, task, fresh, names);
  return GD_OK;
}

gd_status gd_begin_weights(gd_session *session, gd_model *model, const gd_data_task *task, gd_base *base) {
  const char *path = model->layout.spec.model.init_from;
  if (!path[0]) return gd_model_read_weights(model, gd_model_random_weights, model);
  const bool first = gd_session_rank(session) == 0;
  origin from = {.model = model};
  gd_spec brought = model->layout.spec;
  GD_TRY(gd_weight_source_open(session, path, &from.weights));
  gd_status status = gd_weight_source_model(&from.weights, &brought);
  if (status == GD_OK) status = gd_weight_source_base(&from.weights, base);
  from.outputs = brought.model.classes;
  from.rows = brought.model.vocabulary;
  if (status == GD_OK && first) tell_rows(&from);
  if (status == GD_OK) status = place_labels(&from, task, first);
  if (status == GD_OK) status = gd_model_read_weights(model, read_weights, &from);
  gd_weight_source_close(&from.weights);
  free(from.places);
  return status;
}
