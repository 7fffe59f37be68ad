/* snapshot.c - my pieces of weights and moments to host memory and back. */
#include "trainer/snapshot.h"

#include <stdlib.h>
#include <string.h>

static gd_status make_boxes(gd_snapshot *snapshot) {
  const gd_model *model = snapshot->optimizer->model;
  const gd_layout *layout = &model->layout;
  gd_owned_box *owned;
  int32_t count, bucket = 0;
  int64_t before = 0; /* pieces of earlier buckets */
  GD_TRY(gd_layout_owned(layout, GD_OWN_SAVED, &owned, &count));
  snapshot->boxes = calloc((size_t)(count * snapshot->kinds) + 1, sizeof *snapshot->boxes);
  if (!snapshot->boxes) {
    free(owned);
    return gd_fail(GD_NO_MEMORY, "no memory for %d boxes", count);
  }
  for (int32_t i = 0; i < count; i++) {
    while (bucket < owned[i].bucket) before += layout->buckets[bucket++].piece;
    int64_t inside = owned[i].offset - gd_layout_piece(layout, bucket, model->data->rank).offset;
    for (int32_t kind = 0; kind < snapshot->kinds; kind++) {
      float *data = snapshot->memory + kind * snapshot->elements + before + inside;
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
  out->elements = gd_layout_piece_units(&model->layout) * GD_UNIT_ELEMS;
  GD_TRY(gd_model_take(model, GD_M_HOST_SNAPSHOT, false, &out->memory));
  return make_boxes(out);
}

void gd_snapshot_close(gd_snapshot *snapshot) {
  if (snapshot->optimizer) gd_model_give(snapshot->optimizer->model, GD_M_HOST_SNAPSHOT, snapshot->memory);
  free(snapshot->boxes);
  memset(snapshot, 0, sizeof *snapshot);
}

gd_status gd_snapshot_take(gd_snapshot *snapshot) {
  gd_optimizer *optimizer = snapshot->optimizer;
  gd_model *model = optimizer->model;
  gd_device *device = model->device;
  int64_t before = 0;
  for (int32_t i = 0; i < model->layout.bucket_count; i++) {
    gd_range mine = gd_layout_piece(&model->layout, i, model->data->rank);
    int64_t state = gd_layout_state(&model->layout, i, mine.offset);
    const float *from[3] = {gd_optimizer_weights(optimizer, i, mine.offset), optimizer->first + state,
                            optimizer->second ? optimizer->second + state : 0};
    for (int32_t kind = 0; kind < snapshot->kinds; kind++)
      GD_TRY(device->ops->copy(device->compute, snapshot->memory + kind * snapshot->elements + before, from[kind],
                               (size_t)mine.elements * sizeof(float), GD_COPY_DEVICE_TO_HOST));
    before += mine.elements;
  }
  return device->ops->stream_sync(device->compute);
}

/* One kind of the state: read into host memory laid out as the state, then copied over. */
static gd_status restore_kind(gd_optimizer *optimizer, const gd_checkpoint *checkpoint, const gd_owned_box *owned,
                              int32_t count, gd_checkpoint_kind kind, float *host, gd_checkpoint_box *boxes, float *to) {
  gd_model *model = optimizer->model;
  gd_device *device = model->device;
  size_t bytes = (size_t)model->layout.state_elems * sizeof(float);
  memset(host, 0, bytes);
  for (int32_t i = 0; i < count; i++)
    boxes[i] = (gd_checkpoint_box){owned[i].tensor, kind, owned[i].box,
                                   host + gd_layout_state(&model->layout, owned[i].bucket, owned[i].offset)};
  GD_TRY(gd_checkpoint_read(checkpoint, model->layout.tensors, boxes, count));
  GD_TRY(device->ops->copy(device->compute, to, host, bytes, GD_COPY_HOST_TO_DEVICE));
  return device->ops->stream_sync(device->compute);
}

gd_status gd_snapshot_restore(gd_optimizer *optimizer, const gd_checkpoint *checkpoint) {
  const gd_layout *layout = &optimizer->model->layout;
  float *targets[GD_KINDS] = {optimizer->master, optimizer->first, optimizer->second};
  gd_owned_box *owned;
  int32_t count;
  GD_TRY(gd_layout_owned(layout, GD_OWN_STATE, &owned, &count));
  float *host = malloc((size_t)layout->state_elems * sizeof *host);
  gd_checkpoint_box *boxes = calloc((size_t)count + 1, sizeof *boxes);
  gd_status status = GD_OK;
  if (!host || !boxes)
    status = gd_fail(GD_NO_MEMORY, "no host memory for the optimizer's state (%lld values)", (long long)layout->state_elems);
  for (int32_t kind = 0; kind < GD_KINDS && status == GD_OK; kind++)
    if (targets[kind])
      status = restore_kind(optimizer, checkpoint, owned, count, (gd_checkpoint_kind)kind, host, boxes, targets[kind]);
  free(host), free(boxes), free(owned);
  return status;
}
