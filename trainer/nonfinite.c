/* nonfinite.c - looks through each rank's own gradients for the first value that is not finite. */
#include "trainer/nonfinite.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NONE = INT32_MAX };

/* What a rank has found: the place in the backward pass (row of the reduction, then parameters from behind), NONE: nothing. */
typedef struct finding {
  int32_t row, behind;
  int32_t tensor;
  int32_t as_head, loss;
  char host[64];
} finding;

typedef struct search {
  finding first;
  int32_t rows;
  float *host;
} search;

static bool all_finite(const float *values, int64_t count) {
  for (int64_t i = 0; i < count; i++)
    if (!isfinite(values[i])) return false;
  return true;
}

static gd_status to_host(gd_model *model, gd_stream *stream, float *to, const float *from, int64_t count) {
  GD_TRY(model->device->ops->copy(stream, to, from, (size_t)count * sizeof *to, GD_COPY_DEVICE_TO_HOST));
  return model->device->ops->stream_sync(stream);
}

/* One of this rank's sums of a bucket. */
static void look_through(search *s, const gd_layout *layout, int32_t bucket) {
  bool head = bucket == layout->tied_head_bucket;
  for (int32_t i = layout->segment_count - 1; i >= 0; i--) {
    const gd_segment *segment = &layout->segments[i];
    if (layout->parameters[segment->parameter].bucket != (head ? 0 : bucket)) continue;
    int32_t behind = layout->parameter_count - segment->parameter;
    const finding *known = &s->first;
    bool later =
        known->row == s->rows && (behind > known->behind || (behind == known->behind && segment->tensor >= known->tensor));
    if (later || all_finite(s->host + segment->offset, gd_box_elements(segment->box))) continue;
    s->first.row = s->rows;
    s->first.behind = behind;
    s->first.tensor = segment->tensor;
    s->first.as_head = head;
  }
}

static gd_status look(void *context, gd_step *step, int32_t bucket) {
  search *s = context;
  gd_model *model = step->model;
  if (s->first.row < s->rows) return GD_OK;
  for (int32_t i = 0; i < step->counter.count; i++) {
    const float *gradient = gd_model_bucket_gradient(model, step->counter.slots[i], bucket);
    GD_TRY(to_host(model, step->reducer.stream, s->host, gradient, model->layout.buckets[bucket].elements));
    look_through(s, &model->layout, bucket);
  }
  s->rows++;
  return GD_OK;
}

static gd_status search_mine(gd_step *step, int64_t number, const gd_batch *share, search *s) {
  gd_model *model = step->model;
  const gd_layout *layout = &model->layout;
  int64_t most = 2 * share->sequences;
  for (int32_t i = 0; i < layout->gradient_bucket_count; i++)
    if (layout->buckets[i].elements > most) most = layout->buckets[i].elements;
  s->host = malloc((size_t)most * sizeof *s->host);
  if (!s->host) return gd_fail(GD_NO_MEMORY, "no memory to look at gradients");
  GD_TRY(gd_step_repeat(step, number, share, look, s));
  GD_TRY(to_host(model, model->device->compute, s->host, step->optimizer->sequence_sums, 2 * share->sequences));
  s->first.loss = !all_finite(s->host, 2 * share->sequences);
  return GD_OK;
}

static bool is_earlier(const finding *a, const finding *b) {
  if (a->row != b->row) return a->row < b->row;
  return a->behind != b->behind ? a->behind < b->behind : a->tensor < b->tensor;
}

static void tell(const gd_layout *layout, const finding *all, int32_t ranks, char text[GD_NONFINITE_BYTES]) {
  int32_t best = 0, loss = -1;
  for (int32_t r = ranks - 1; r >= 0; r--) loss = all[r].loss ? r : loss;
  for (int32_t r = 1; r < ranks; r++) best = is_earlier(&all[r], &all[best]) ? r : best;
  const finding *f = &all[best];
  if (f->row == NONE && loss < 0)
    snprintf(text, GD_NONFINITE_BYTES,
             "done again, the step is finite: a passing fault of a machine, or sums over ranks that overflow");
  else if (f->row == NONE)
    snprintf(text, GD_NONFINITE_BYTES, "the loss is not finite on rank %d (%s), every gradient is", loss, all[loss].host);
  else
    snprintf(text, GD_NONFINITE_BYTES,
             "of the gradients, from the last layer down, the first that is not finite is that of %s%s on rank %d (%s)%s",
             layout->tensors[f->tensor].name, f->as_head ? ", as the head," : "", best, f->host,
             loss < 0 ? "" : "; a loss is not finite, too");
}

gd_status gd_nonfinite_find(gd_step *step, int64_t number, const gd_batch *share, char text[GD_NONFINITE_BYTES]) {
  gd_session *session = step->model->session;
  int32_t ranks = gd_session_ranks(session);
  search mine = {.first = {.row = NONE}};
  snprintf(mine.first.host, sizeof mine.first.host, "%s", gd_session_host(session));
  finding *all = calloc((size_t)ranks, sizeof *all);
  gd_status status = all ? gd_step_wait(step) : gd_fail(GD_NO_MEMORY, "no memory for what %d ranks have found", ranks);
  if (status == GD_OK) status = search_mine(step, number, share, &mine);
  if (status == GD_OK) status = gd_session_all_gather(session, &mine.first, all, sizeof *all);
  if (status == GD_OK) tell(&step->model->layout, all, ranks, text);
  free(mine.host);
  free(all);
  return status;
}
