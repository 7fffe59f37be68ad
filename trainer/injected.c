/* injected.c - puts a NaN into a gradient, and turns a bit of a weight, where --inject asks for it. */
#include "trainer/injected.h"

#include <math.h>
#include <string.h>

gd_status gd_injected_check(const gd_layout *layout) {
  for (int32_t i = 0; i < gd_inject_count(); i++) {
    const gd_injection *f = gd_inject_at(i);
    bool found = !f->where[0] || (f->kind != GD_INJECT_NAN && f->kind != GD_INJECT_FLIP);
    for (int32_t k = 0; k < layout->tensor_count && !found; k++) found = !strcmp(layout->tensors[k].name, f->where);
    if (!found)
      return gd_fail_user(GD_USAGE,
                          "--inject %s: the model has no tensor \"%s\"; gptdist-ckpt inspect lists those of a checkpoint",
                          f->text, f->where);
  }
  return GD_OK;
}

/* A segment of that tensor ("": any) in a bucket on this rank, NULL: none. */
static const gd_segment *segment_in(const gd_layout *layout, int32_t bucket, const char *tensor) {
  for (int32_t k = 0; k < layout->segment_count; k++) {
    const gd_segment *s = &layout->segments[k];
    if (layout->parameters[s->parameter].bucket != bucket) continue;
    if (!*tensor || !strcmp(layout->tensors[s->tensor].name, tensor)) return s;
  }
  return NULL;
}

gd_status gd_injected_nan(const gd_gradient_reducer *reducer, int32_t bucket, const gd_tree_counter *counter, bool first) {
  static const float nan = NAN; /* stays until it was copied */
  gd_model *model = reducer->model;
  const gd_layout *layout = &model->layout;
  bool tied_head = bucket == layout->tied_head_bucket;
  for (int32_t i = 0; i < gd_inject_count(); i++) {
    const gd_injection *f = gd_inject_at(i);
    if (f->kind != GD_INJECT_NAN || (f->where[0] ? tied_head : !first)) continue;
    const gd_segment *s = segment_in(layout, tied_head ? 0 : bucket, f->where);
    if (!s || !gd_inject_strikes(i)) continue;
    float *at = gd_model_bucket_gradient(model, counter->slots[0], bucket) + s->offset;
    GD_TRY(model->device->ops->copy(reducer->stream, at, &nan, sizeof nan, GD_COPY_HOST_TO_DEVICE));
  }
  return GD_OK;
}

bool gd_injected_flips(void) {
  bool any = false;
  for (int32_t i = 0; i < gd_inject_count(); i++) any = any || gd_inject_at(i)->kind == GD_INJECT_FLIP;
  return any;
}

gd_status gd_injected_flip(gd_model *model) {
  const gd_layout *layout = &model->layout;
  const gd_device_ops *ops = model->device->ops;
  gd_stream *stream = model->device->compute;
  for (int32_t i = 0; i < gd_inject_count(); i++) {
    const gd_injection *f = gd_inject_at(i);
    const gd_segment *s = NULL;
    for (int32_t b = 0; f->kind == GD_INJECT_FLIP && b < layout->bucket_count && !s; b++) s = segment_in(layout, b, f->where);
    if (!s || !gd_inject_strikes(i)) continue;
    char *at =
        (char *)gd_model_bucket(model, layout->parameters[s->parameter].bucket) + (size_t)s->offset * layout->shape.bytes;
    uint8_t byte;
    GD_TRY(ops->copy(stream, &byte, at, 1, GD_COPY_DEVICE_TO_HOST));
    GD_TRY(ops->stream_sync(stream));
    byte ^= 1;
    GD_TRY(ops->copy(stream, at, &byte, 1, GD_COPY_HOST_TO_DEVICE));
    GD_TRY(ops->stream_sync(stream));
  }
  return GD_OK;
}
