/* reduce_gradients.c - the sum of gradients over the data axis, on the communication stream, beside the backward of the buckets
 * that follow: walks the stages of shard/exchange.h for each bucket, messages and additions, or in `fast` leaves it to a group
 * that adds on its way. */
#include <stdlib.h>
#include <string.h>

#include "trainer/reduce.h"

/* Piece `piece` of a bucket in a buffer of the exchange: in the slot of one of my sums, or among what was received. */
static float *place(const gd_gradient_reducer *reducer, int32_t index, const gd_tree_counter *counter, int32_t buffer,
                    int32_t piece) {
  const gd_bucket *bucket = &reducer->model->layout.buckets[index];
  const gd_exchange_buffer *b = &reducer->exchange.buffer[buffer];
  if (b->sum < 0) return reducer->received + (b->at + piece - b->first_piece) * bucket->piece;
  return gd_model_bucket_gradient(reducer->model, counter->slots[b->sum], index) + piece * bucket->piece;
}

static gd_status run_stage(gd_gradient_reducer *reducer, int32_t bucket, const gd_tree_counter *counter,
                           const gd_exchange_stage *stage) {
  const gd_exchange *exchange = &reducer->exchange;
  gd_group *data = reducer->model->data;
  int64_t piece = reducer->model->layout.buckets[bucket].piece;
  for (int32_t i = 0; i < stage->messages; i++) {
    const gd_exchange_message *m = &exchange->message[stage->first_message + i];
    reducer->messages[i] = (gd_message){m->send ? GD_SEND : GD_RECEIVE, m->peer, 0, 0};
    reducer->messages[i].buffer = place(reducer, bucket, counter, m->buffer, m->first_piece);
    reducer->messages[i].bytes = (size_t)(m->pieces * piece) * sizeof(float);
  }
  if (stage->messages) GD_TRY(data->ops->exchange(data, reducer->stream, reducer->messages, stage->messages));
  for (int32_t i = 0; i < stage->adds; i++) {
    gd_tree_add add = exchange->add[stage->first_add + i];
    GD_TRY(reducer->kernels->ops->add(reducer->kernels, place(reducer, bucket, counter, add.to, stage->first_piece),
                                      place(reducer, bucket, counter, add.from, stage->first_piece), stage->pieces * piece));
  }
  return GD_OK;
}

static gd_status move_piece(gd_gradient_reducer *reducer, int32_t bucket, float *to, const float *from) {
  size_t bytes = (size_t)reducer->model->layout.buckets[bucket].piece * sizeof(float);
  if (to == from) return GD_OK;
  return reducer->model->device->ops->copy(reducer->stream, to, from, bytes, GD_COPY_DEVICE_TO_DEVICE);
}

/* Where pieces lie while a bucket's places change; -1: the received memory. */
static float *place_of(const gd_gradient_reducer *reducer, int32_t bucket, float *whole, int32_t at) {
  return at < 0 ? reducer->received : whole + at * reducer->model->layout.buckets[bucket].piece;
}

/* The group gives rank r the r-th part of the bucket, and r's own is another piece where halves would be swapped
 * (gd_deal_piece): pieces change places before, and back behind it, for what no gradient ever writes is zero and stays it. */
static gd_status scatter(gd_gradient_reducer *reducer, int32_t bucket, float *whole, const float **out) {
  gd_group *data = reducer->model->data;
  float *mine = place_of(reducer, bucket, whole, data->rank);
  size_t elements = (size_t)reducer->model->layout.buckets[bucket].piece;
  for (int32_t i = 0; i < reducer->move_count; i++) {
    gd_tree_add m = reducer->moves[i];
    GD_TRY(move_piece(reducer, bucket, place_of(reducer, bucket, whole, m.to), place_of(reducer, bucket, whole, m.from)));
  }
  GD_TRY(data->ops->reduce_scatter(data, reducer->stream, whole, mine, elements, GD_FLOAT32, GD_SUM));
  for (int32_t i = reducer->move_count - 1; i >= 0; i--) {
    gd_tree_add m = reducer->moves[i];
    GD_TRY(move_piece(reducer, bucket, place_of(reducer, bucket, whole, m.from), place_of(reducer, bucket, whole, m.to)));
  }
  *out = place_of(reducer, bucket, whole, gd_deal_piece(data->size, data->rank));
  return GD_OK;
}

/* How pieces change places so that rank r's is the r-th: in cycles, each from its lowest rank on. */
static gd_status find_moves(gd_gradient_reducer *reducer, int32_t ranks) {
  reducer->moves = calloc(2 * (size_t)ranks, sizeof *reducer->moves);
  if (!reducer->moves) return gd_fail(GD_NO_MEMORY, "no memory for the places of %d pieces", ranks);
  for (int32_t r = 0; r < ranks; r++) {
    int32_t lowest = gd_deal_piece(ranks, r), at = r;
    while (lowest > r) lowest = gd_deal_piece(ranks, lowest);
    if (lowest < r || gd_deal_piece(ranks, r) == r) continue;
    reducer->moves[reducer->move_count++] = (gd_tree_add){.to = -1, .from = r};
    for (int32_t next = gd_deal_piece(ranks, r); next != r; at = next, next = gd_deal_piece(ranks, at))
      reducer->moves[reducer->move_count++] = (gd_tree_add){.to = at, .from = next};
    reducer->moves[reducer->move_count++] = (gd_tree_add){.to = at, .from = -1};
  }
  return GD_OK;
}

gd_status gd_gradient_reducer_open(gd_model *model, gd_gradient_reducer *out) {
  memset(out, 0, sizeof *out);
  out->model = model;
  /* One rank has nothing to wait for. Else one thread sums beside those that compute. */
  out->stream = model->data->size > 1 ? model->device->communication : model->device->compute;
  out->beside = model->kernels;
  out->beside.stream = out->stream;
  out->beside.threads = 1;
  out->kernels = model->data->size > 1 ? &out->beside : &model->kernels;
  out->adds = model->data->adds && model->layout.spec.numerics == GD_NUMERICS_FAST;
  if (out->adds) GD_TRY(find_moves(out, model->data->size));
  GD_TRY(gd_exchange_create(&model->layout.spec, model->data->size, model->data->rank, &out->exchange));
  int32_t most = 0;
  for (int32_t i = 0; i < out->exchange.stages; i++)
    if (out->exchange.stage[i].messages > most) most = out->exchange.stage[i].messages;
  out->messages = calloc((size_t)most + 1, sizeof *out->messages);
  if (!out->messages) return gd_fail(GD_NO_MEMORY, "no memory for a list of %d messages", most);
  return gd_model_take(model, GD_M_EXCHANGE, false, &out->received);
}

void gd_gradient_reducer_close(gd_gradient_reducer *reducer) {
  if (!reducer->model) return;
  gd_model_give(reducer->model, GD_M_EXCHANGE, reducer->received);
  gd_exchange_free(&reducer->exchange);
  free(reducer->messages);
  free(reducer->moves);
  memset(reducer, 0, sizeof *reducer);
}

/* By the stages of the exchange. */
static gd_status exchange_all(gd_gradient_reducer *reducer, int32_t bucket, const gd_tree_counter *counter, const float **out) {
  const gd_exchange *exchange = &reducer->exchange;
  for (int32_t i = 0; i < exchange->stages; i++) GD_TRY(run_stage(reducer, bucket, counter, &exchange->stage[i]));
  *out = place(reducer, bucket, counter, exchange->result, exchange->stage[exchange->stages - 1].first_piece);
  return GD_OK;
}

gd_status gd_reduce_gather_pieces(gd_model *model, gd_stream *stream, int32_t bucket, void *whole, size_t bytes) {
  size_t *sizes = model->piece_sizes, *offsets = model->piece_offsets;
  for (int32_t d = 0; d < model->data->size; d++) {
    gd_range piece = gd_layout_piece(&model->layout, bucket, d);
    sizes[d] = (size_t)piece.elements * bytes;
    offsets[d] = (size_t)piece.offset * bytes;
  }
  return model->data->ops->all_gather_uneven(model->data, stream, (char *)whole + offsets[model->data->rank], whole, sizes,
                                             offsets);
}

gd_status gd_gradient_reduce(gd_gradient_reducer *reducer, int32_t bucket, const gd_tree_counter *counter) {
  gd_model *model = reducer->model;
  const gd_layout *layout = &model->layout;
  const float *from = NULL;
  GD_TRY(reducer->adds ? scatter(reducer, bucket, gd_model_bucket_gradient(model, 0, bucket), &from)
                       : exchange_all(reducer, bucket, counter, &from));
  /* Everybody finds the sum in slot 0. */
  gd_range mine = gd_layout_piece(layout, bucket, model->data->rank);
  float *to = gd_model_bucket_gradient(model, 0, bucket) + mine.offset;
  GD_TRY(move_piece(reducer, bucket, to, from));
  if (bucket == layout->tied_head_bucket) return GD_OK; /* the token table takes it in */
  if (bucket == 0 && layout->tied_head_bucket >= 0) {
    const float *head = gd_model_bucket_gradient(model, 0, layout->tied_head_bucket) + mine.offset;
    GD_TRY(reducer->kernels->ops->add(reducer->kernels, to, head, mine.elements));
  }
  if (layout->spec.parallel.zero > 0 || model->data->size == 1) return GD_OK;
  return gd_reduce_gather_pieces(model, reducer->stream, bucket, gd_model_bucket_gradient(model, 0, bucket), sizeof(float));
}
