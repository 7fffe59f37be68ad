/* snapshot.c - my pieces of weights and moments to host memory and back. */
#include "trainer/snapshot.h"

#include <stdlib.h>
#include <string.h>

#include "trainer/weights.h"

/* Where a kind of a bucket begins in the snapshot's memory, `before` elements of saved pieces and `trained` of trained ones
 * after the kind's start. */
static float *place(const gd_snapshot *snapshot, int32_t kind, int64_t before, int64_t trained) {
  if (kind == 0) return snapshot->memory + before;
  return snapshot->memory + snapshot->elements + (kind - 1) * snapshot->trained_elements + trained;
}

static gd_status make_boxes(gd_snapshot *snapshot) {
  const gd_model *model = snapshot->optimizer->model;
  const gd_layout *layout = &model->layout;
  gd_owned_box *owned;
  int32_t count, bucket = 0;
  int64_t before = 0, trained = 0; /* pieces of earlier buckets */
  GD_TRY(gd_layout_owned(layout, GD_OWN_SAVED, &owned, &count));
  snapshot->boxes = calloc((size_t)(count * snapshot->kinds) + 1, sizeof *snapshot->boxes);
  if (!snapshot->boxes) {
    free(owned);
    return gd_fail(GD_NO_MEMORY, "no memory for %d boxes", count);
  }
  for (int32_t i = 0; i < count; i++) {
    for (; bucket < owned[i].bucket; bucket++) {
      before += layout->buckets[bucket].piece;
      if (layout->buckets[bucket].trained) trained += layout->buckets[bucket].piece;
    }
    int64_t inside = owned[i].offset - gd_layout_piece(layout, bucket, model->data->rank).offset;
    int32_t kinds = layout->buckets[bucket].trained ? snapshot->kinds : 1;
    for (int32_t kind = 0; kind < kinds; kind++) {
      float *data = place(snapshot, kind, before + inside, trained + inside);
      snapshot->boxes[snapshot->count++] = (gd_checkpoint_box){owned[i].tensor, (gd_checkpoint_kind)kind, owned[i].box, data};
    }
  }
  free(owned);
  return GD_OK;
}

gd_status gd_snapshot_open(gd_optimizer *optimizer, gd_snapshot *out) {
  gd_model *model = optimizer->model;
  memset(out, 0, sizeof *out);
  out->optimizer = optimizer;
  out->kinds = optimizer->second ? 3 : 2;
  out->elements = gd_layout_saved_units(&model->layout) * GD_UNIT_ELEMS;
  out->trained_elements = gd_layout_piece_units(&model->layout) * GD_UNIT_ELEMS;
  GD_TRY(gd_model_take(model, GD_M_HOST_SNAPSHOT, false, &out->memory));
  return make_boxes(out);
}

void gd_snapshot_close(gd_snapshot *snapshot) {
  if (snapshot->optimizer) gd_model_give(snapshot->optimizer->model, GD_M_HOST_SNAPSHOT, snapshot->memory);
  free(snapshot->boxes);
  memset(snapshot, 0, sizeof *snapshot);
}

/* Frozen weights have no master: what is stored is copied. bfloat16 comes into the second half of its place in float32 and is
 * widened when it has come. */
static gd_status copy_frozen(const gd_snapshot *snapshot, int32_t bucket, gd_range mine, float *to) {
  const gd_model *model = snapshot->optimizer->model;
  size_t bytes = model->layout.shape.bytes, count = (size_t)mine.elements;
  const char *from = (const char *)gd_model_bucket(model, bucket) + (size_t)mine.offset * bytes;
  char *end = (char *)(to + count);
  return model->device->ops->copy(model->device->compute, end - count * bytes, from, count * bytes, GD_COPY_DEVICE_TO_HOST);
}

static void widen(float *to, int64_t count) {
  const char *from = (const char *)to + (size_t)count * (sizeof(float) - sizeof(gd_bfloat16));
  for (int64_t i = 0; i < count; i++) {
    gd_bfloat16 stored;
    memcpy(&stored, from + (size_t)i * sizeof stored, sizeof stored);
    to[i] = gd_bfloat16_to_float(stored);
  }
}

/* A bucket that is trained: master, or what is stored in float32, and moments. */
static gd_status copy_trained(const gd_snapshot *snapshot, int32_t bucket, gd_range mine, int64_t before, int64_t trained) {
  const gd_optimizer *optimizer = snapshot->optimizer;
  gd_device *device = optimizer->model->device;
  int64_t state = gd_layout_state(&optimizer->model->layout, bucket, mine.offset);
  const float *from[3] = {gd_optimizer_weights(optimizer, bucket, mine.offset), optimizer->first + state,
                          optimizer->second ? optimizer->second + state : 0};
  for (int32_t kind = 0; kind < snapshot->kinds; kind++)
    GD_TRY(device->ops->copy(device->compute, place(snapshot, kind, before, trained), from[kind],
                             (size_t)mine.elements * sizeof(float), GD_COPY_DEVICE_TO_HOST));
  return GD_OK;
}

gd_status gd_snapshot_take(gd_snapshot *snapshot) {
  const gd_model *model = snapshot->optimizer->model;
  const gd_layout *layout = &model->layout;
  int64_t before = 0, trained = 0;
  for (int32_t i = 0; i < layout->bucket_count; i++) {
    gd_range mine = gd_layout_piece(layout, i, model->data->rank);
    GD_TRY(layout->buckets[i].trained ? copy_trained(snapshot, i, mine, before, trained)
                                      : copy_frozen(snapshot, i, mine, place(snapshot, 0, before, 0)));
    before += mine.elements;
    if (layout->buckets[i].trained) trained += mine.elements;
  }
  GD_TRY(model->device->ops->stream_sync(model->device->compute));
  before = 0;
  for (int32_t i = 0; layout->shape.dtype == GD_BFLOAT16 && i < layout->bucket_count; i++) {
    if (!layout->buckets[i].trained) widen(place(snapshot, 0, before, 0), layout->buckets[i].piece);
    before += layout->buckets[i].piece;
  }
  return GD_OK;
}

/* One kind of the state, of a checkpoint. */
typedef struct state_kind {
  const gd_checkpoint *checkpoint;
  const gd_layout *layout;
  gd_checkpoint_kind kind;
  float *to; /* [state_elems] on the device, zero where no box is */
} state_kind;

static gd_status read_state(void *context, const gd_tensor *tensors, const gd_owned_box *boxes, int32_t count,
                            float *const *data) {
  const state_kind *state = context;
  gd_checkpoint_box *wanted = calloc((size_t)count + 1, sizeof *wanted);
  if (!wanted) return gd_fail(GD_NO_MEMORY, "no memory for %d boxes", count);
  for (int32_t i = 0; i < count; i++) wanted[i] = (gd_checkpoint_box){boxes[i].tensor, state->kind, boxes[i].box, data[i]};
  gd_status status = gd_checkpoint_read(state->checkpoint, tensors, wanted, count);
  free(wanted);
  return status;
}

static void *place_state(void *target, const gd_owned_box *box) {
  const state_kind *state = target;
  return state->to + gd_layout_state(state->layout, box->bucket, box->offset);
}

gd_status gd_snapshot_restore(gd_optimizer *optimizer, const gd_checkpoint *checkpoint) {
  const gd_layout *layout = &optimizer->model->layout;
  float *targets[GD_KINDS] = {optimizer->master, optimizer->first, optimizer->second};
  gd_owned_box *owned;
  int32_t count;
  gd_status status = GD_OK;
  GD_TRY(gd_layout_owned(layout, GD_OWN_STATE, &owned, &count));
  for (int kind = 0; kind < GD_KINDS && status == GD_OK; kind++) {
    state_kind state = {checkpoint, layout, (gd_checkpoint_kind)kind, targets[kind]};
    const gd_parts parts = {optimizer->model->device, GD_FLOAT32, layout->tensors, read_state, &state, place_state, &state};
    if (state.to) status = gd_parts_read(&parts, owned, count);
  }
  free(owned);
  return status;
}
