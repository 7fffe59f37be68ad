/* flags.c - asks, sends, and takes the largest. */
#include "trainer/flags.h"

#include <string.h>

_Static_assert(GD_FLAGS == 2 && GD_FLAGS_AHEAD == 2, "the plan counts them (shard/memory.c)");

gd_status gd_flags_open(gd_model *model, gd_flags_ask *ask, void *context, gd_flags *out) {
  *out = (gd_flags){.model = model, .ask = ask, .context = context};
  GD_TRY(gd_model_take(model, GD_M_FLAGS, false, &out->device));
  return gd_model_take(model, GD_M_HOST_FLAGS, false, &out->host);
}

void gd_flags_close(gd_flags *flags) {
  if (!flags->model) return;
  gd_model_give(flags->model, GD_M_FLAGS, flags->device);
  gd_model_give(flags->model, GD_M_HOST_FLAGS, flags->host);
  memset(flags, 0, sizeof *flags);
}

gd_status gd_flags_agree(gd_flags *flags, int32_t place) {
  gd_model *model = flags->model;
  const gd_device_ops *ops = model->device->ops;
  gd_stream *stream = model->device->compute;
  int32_t *host = flags->host + place * GD_FLAGS, *device = flags->device + place * GD_FLAGS;
  size_t bytes = GD_FLAGS * sizeof *host;
  memset(host, 0, bytes);
  if (flags->ask) flags->ask(flags->context, host);
  if (model->world->size == 1) return GD_OK;
  GD_TRY(ops->copy(stream, device, host, bytes, GD_COPY_HOST_TO_DEVICE));
  GD_TRY(model->world->ops->all_reduce(model->world, stream, device, GD_FLAGS, GD_INT32, GD_MAX));
  return ops->copy(stream, host, device, bytes, GD_COPY_DEVICE_TO_HOST);
}
