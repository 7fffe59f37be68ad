/* flags.c - asks, sends, and takes the largest. */
#include "trainer/flags.h"

#include <string.h>

enum { DIGIT_BITS = 20 };

_Static_assert(GD_FLAG_WORDS == 4 && GD_FLAGS_AHEAD == 2, "the plan counts them (shard/memory.c)");

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

enum { CALLS = GD_FLAGS, BAD, BYTES = GD_FLAG_WORDS * sizeof(int64_t) };

gd_status gd_flags_put(gd_flags *flags, int32_t place, int64_t **bad) {
  gd_model *model = flags->model;
  int64_t *host = flags->host + place * GD_FLAG_WORDS, *device = flags->device + place * GD_FLAG_WORDS;
  int32_t mine[GD_FLAGS] = {0};
  if (flags->ask) flags->ask(flags->context, mine);
  for (int i = 0; i < GD_FLAGS; i++) {
    if (mine[i] < 0 || mine[i] > GD_FLAG_LARGEST) return gd_fail(GD_BUG, "flag %d of a vote is %d", i, (int)mine[i]);
    host[i] = mine[i] ? INT64_C(1) << (DIGIT_BITS * (mine[i] - 1)) : 0;
  }
  host[CALLS] = gd_session_calls_digest(model->session);
  host[BAD] = 0;
  *bad = NULL;
  if (model->world->size == 1) return GD_OK;
  *bad = device + BAD;
  return model->device->ops->copy(model->device->compute, device, host, BYTES, GD_COPY_HOST_TO_DEVICE);
}

gd_status gd_flags_agree(gd_flags *flags, int32_t place, const int64_t **calls) {
  gd_model *model = flags->model;
  gd_stream *stream = model->device->compute;
  int64_t *host = flags->host + place * GD_FLAG_WORDS, *device = flags->device + place * GD_FLAG_WORDS;
  *calls = NULL;
  if (model->world->size == 1) return GD_OK;
  *calls = device + CALLS;
  GD_TRY(model->world->ops->all_reduce(model->world, stream, device, GD_FLAG_WORDS, GD_INT64, GD_SUM));
  return model->device->ops->copy(stream, host, device, BYTES, GD_COPY_DEVICE_TO_HOST);
}

gd_status gd_flags_read(const gd_flags *flags, int32_t place, int32_t out[GD_FLAGS]) {
  const int64_t *host = flags->host + place * GD_FLAG_WORDS;
  for (int i = 0; i < GD_FLAGS; i++) {
    out[i] = GD_FLAG_LARGEST;
    while (out[i] > 0 && host[i] >> (DIGIT_BITS * (out[i] - 1)) == 0) out[i]--;
  }
  return gd_session_check_calls(flags->model->session, host[CALLS]);
}
