/* weights.c - filling the parameter arena: initial values, or boxes read from a checkpoint or a model folder. */
#include <stdlib.h>
#include <string.h>

#include "shard/base/progress.h"

#include "trainer/weights.h"

enum { PART_BOXES = 256 };

/* FNV-1a: the rng's stream of a tensor comes from its name, so it does not depend on what else the model has. */
static uint32_t name_hash(const char *name) {
  uint32_t hash = 2166136261u;
  for (; *name; name++) hash = (hash ^ (uint8_t)*name) * 16777619u;
  return hash;
}

gd_status gd_model_random_weights(void *context, const gd_tensor *tensors, const gd_owned_box *boxes, int32_t count,
                                  float *const *data) {
  const gd_model *model = context;
  for (int32_t i = 0; i < count; i++) {
    const gd_tensor *tensor = &tensors[boxes[i].tensor];
    const gd_parameter *p = &model->layout.parameters[boxes[i].parameter];
    gd_rng rng = gd_rng_make(model->seed, GD_RNG_WEIGHTS, 0, 0, name_hash(tensor->name));
    gd_box box = boxes[i].box;
#pragma omp parallel for schedule(static) num_threads(model->kernels.threads)
    for (int64_t r = 0; r < box.rows; r++)
      for (int64_t c = 0; c < box.cols; c++) {
        uint64_t element = (uint64_t)((box.row + r) * tensor->cols + box.col + c);
        data[i][r * box.cols + c] = p->init_std > 0 ? p->init_std * gd_rng_normal(&rng, element) : p->init_value;
      }
    gd_progress();
  }
  return GD_OK;
}

/* Boxes that are read together, dense one after the other in `host`. */
typedef struct part {
  gd_owned_box boxes[PART_BOXES];
  float *data[PART_BOXES];
  int32_t count;
  int64_t elements;
  float *host;
} part;

/* What is stored takes no more room than what was read, and no place is overwritten before it was read. */
static void round_in_place(float *host, int64_t elements) {
  char *stored = (char *)host;
  for (int64_t i = 0; i < elements; i++) {
    gd_bfloat16 rounded = gd_bfloat16_from_float(host[i]);
    memcpy(stored + (size_t)i * sizeof rounded, &rounded, sizeof rounded);
  }
}

static gd_status read_part(const gd_parts *parts, part *p) {
  size_t stored = gd_dtype_bytes(parts->dtype);
  if (!p->count) return GD_OK;
  GD_TRY(parts->reader(parts->context, parts->tensors, p->boxes, p->count, p->data));
  gd_progress();
  if (parts->dtype == GD_BFLOAT16) round_in_place(p->host, p->elements);
  gd_status status = GD_OK, waited;
  for (int32_t i = 0; i < p->count && status == GD_OK; i++)
    status = parts->device->ops->copy(parts->device->compute, parts->place(parts->target, &p->boxes[i]),
                                      (char *)p->host + (size_t)(p->data[i] - p->host) * stored,
                                      (size_t)gd_box_elements(p->boxes[i].box) * stored, GD_COPY_HOST_TO_DEVICE);
  p->count = 0;
  p->elements = 0;
  waited = parts->device->ops->stream_sync(parts->device->compute); /* whatever was enqueued reads p->host */
  return status == GD_OK ? waited : status;
}

static gd_status read_all(const gd_parts *parts, const gd_owned_box *boxes, int32_t count, part *p, int64_t room) {
  for (int32_t i = 0; i < count; i++) {
    const gd_box whole = boxes[i].box;
    const int64_t most = whole.cols < room ? room / whole.cols : 1;
    for (int64_t row = 0, rows; row < whole.rows; row += rows) {
      rows = whole.rows - row < most ? whole.rows - row : most;
      if (p->count == PART_BOXES || p->elements + rows * whole.cols > room ||
          (p->count && p->boxes[0].bucket != boxes[i].bucket))
        GD_TRY(read_part(parts, p));
      gd_owned_box *next = &p->boxes[p->count];
      *next = boxes[i];
      next->box.row += row;
      next->box.rows = rows;
      next->offset += row * whole.cols;
      p->data[p->count++] = p->host + p->elements;
      p->elements += rows * whole.cols;
    }
  }
  return read_part(parts, p);
}

gd_status gd_parts_read(const gd_parts *parts, const gd_owned_box *boxes, int32_t count) {
  int64_t room = GD_PART_ELEMS;
  for (int32_t i = 0; i < count; i++)
    if (boxes[i].box.cols > room) room = boxes[i].box.cols;
  part *p = calloc(1, sizeof *p);
  gd_status status = GD_OK;
  if (p) p->host = malloc((size_t)room * sizeof *p->host);
  if (!p || !p->host) status = gd_fail(GD_NO_MEMORY, "no host memory to read %lld numbers", (long long)room);
  if (status == GD_OK) status = read_all(parts, boxes, count, p, room);
  if (p) free(p->host);
  free(p);
  return status;
}

static void *place_weights(void *target, const gd_owned_box *box) {
  const gd_model *model = target;
  return (char *)gd_model_bucket(model, box->bucket) + (size_t)box->offset * model->layout.shape.bytes;
}

gd_status gd_model_read_weights(gd_model *model, gd_weights_reader *reader, void *context) {
  const gd_layout *layout = &model->layout;
  const gd_parts parts = {model->device, layout->shape.dtype, layout->tensors, reader, context, place_weights, model};
  gd_owned_box *boxes;
  int32_t count;
  GD_TRY(gd_layout_owned(layout, GD_OWN_ALL, &boxes, &count));
  gd_status status = gd_parts_read(&parts, boxes, count);
  free(boxes);
  return status;
}
