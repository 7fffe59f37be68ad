/* reduce_gradients.c - the sum of gradients over the data axis: every rank holds complete nodes of the tree over the global
 * batch's time blocks (one, unless its share is no aligned power of two); each bucket's piece d of every node goes to data rank
 * d, which finishes the tree. The exchange of a bucket runs beside the backward of the next one. */
#include <stdlib.h>
#include <string.h>

#include "shard/deal.h"
#include "trainer/reduce.h"

static gd_status find_nodes(gd_gradient_reducer *reducer) {
  int32_t data = reducer->model->data->size;
  gd_tree_node share[GD_TREE_MAX_NODES];
  reducer->first_node = calloc((size_t)data + 1, sizeof *reducer->first_node);
  if (!reducer->first_node) return gd_fail(GD_NO_MEMORY, "no memory for the tree of %d data ranks", data);
  for (int32_t d = 0; d < data; d++) {
    int count = gd_deal_sums(&reducer->model->layout.spec, data, d, share);
    reducer->first_node[d + 1] = reducer->first_node[d] + count;
    if (count > reducer->most_nodes) reducer->most_nodes = count;
  }
  reducer->nodes = reducer->first_node[data];
  gd_tree_node *nodes = malloc((size_t)reducer->nodes * sizeof *nodes);
  reducer->adds = malloc((size_t)reducer->nodes * sizeof *reducer->adds);
  if (!nodes || !reducer->adds) {
    free(nodes);
    return gd_fail(GD_NO_MEMORY, "no memory for the tree of %d nodes", reducer->nodes);
  }
  for (int32_t d = 0; d < data; d++) {
    int count = gd_deal_sums(&reducer->model->layout.spec, data, d, share);
    memcpy(nodes + reducer->first_node[d], share, (size_t)count * sizeof *nodes);
  }
  reducer->add_count = gd_tree_finish(nodes, reducer->nodes, reducer->adds);
  reducer->even = true;
  for (int32_t i = 1; i < reducer->nodes; i++) reducer->even = reducer->even && nodes[i].count == nodes[0].count;
  free(nodes);
  return GD_OK;
}

gd_status gd_gradient_reducer_open(gd_model *model, gd_gradient_reducer *out) {
  const gd_device_ops *ops = model->device->ops;
  size_t data = (size_t)model->data->size;
  memset(out, 0, sizeof *out);
  out->model = model;
  out->pending = -1;
  GD_TRY(find_nodes(out));
  out->send_sizes = calloc(4 * data, sizeof *out->send_sizes);
  if (!out->send_sizes) return gd_fail(GD_NO_MEMORY, "no memory for the sizes of %zu data ranks", data);
  out->send_offsets = out->send_sizes + data;
  out->receive_sizes = out->send_sizes + 2 * data;
  out->receive_offsets = out->send_sizes + 3 * data;
  GD_TRY(ops->event_create(model->device, &out->computed));
  GD_TRY(ops->event_create(model->device, &out->exchanged));
  return gd_model_take(model, GD_M_EXCHANGE, false, &out->received);
}

void gd_gradient_reducer_close(gd_gradient_reducer *reducer) {
  if (!reducer->model) return;
  const gd_device_ops *ops = reducer->model->device->ops;
  if (reducer->computed) ops->event_destroy(reducer->computed);
  if (reducer->exchanged) ops->event_destroy(reducer->exchanged);
  gd_model_give(reducer->model, GD_M_EXCHANGE, reducer->received);
  free(reducer->first_node);
  free(reducer->adds);
  free(reducer->send_sizes);
  memset(reducer, 0, sizeof *reducer);
}

/* One data rank: the spine of my own nodes. The first node's slot is always 0. */
static gd_status finish_alone(gd_gradient_reducer *reducer, int32_t bucket) {
  gd_model *model = reducer->model;
  const gd_bucket *b = &model->layout.buckets[bucket];
  for (int32_t i = 0; i < reducer->add_count; i++) {
    float *to = model->gradients + reducer->my_slots[reducer->adds[i].to] * model->layout.gradient_elems + b->offset;
    const float *from = model->gradients + reducer->my_slots[reducer->adds[i].from] * model->layout.gradient_elems + b->offset;
    GD_TRY(model->kernels.ops->add(&model->kernels, to, from, b->elements));
  }
  return GD_OK;
}

/* Sums the received nodes into my piece of slot 0. */
static gd_status finish_pending(gd_gradient_reducer *reducer) {
  gd_model *model = reducer->model;
  const gd_device_ops *ops = model->device->ops;
  if (reducer->pending < 0) return GD_OK;
  gd_range mine = gd_layout_piece(&model->layout, reducer->pending, model->data->rank);
  int64_t piece = mine.elements;
  reducer->pending = -1;
  GD_TRY(ops->stream_wait(model->device->compute, reducer->exchanged));
  gd_tree_sum tree = {
      .leaves = reducer->nodes, .elements = piece, .dtype = GD_FLOAT32, .in = reducer->received, .leaf_stride = piece};
  tree.out = model->gradients + mine.offset;
  if (!reducer->even) {
    for (int32_t i = 0; i < reducer->add_count; i++)
      GD_TRY(model->kernels.ops->add(&model->kernels, reducer->received + reducer->adds[i].to * piece,
                                     reducer->received + reducer->adds[i].from * piece, piece));
    tree.leaves = 1;
  }
  return model->kernels.ops->tree_sum(&model->kernels, &tree);
}

gd_status gd_gradient_reduce_start(gd_gradient_reducer *reducer, int32_t bucket, const gd_tree_counter *counter) {
  gd_model *model = reducer->model;
  const gd_device_ops *ops = model->device->ops;
  int32_t data = model->data->size;
  reducer->my_nodes = counter->count;
  memcpy(reducer->my_slots, counter->slots, sizeof counter->slots);
  if (data == 1) return finish_alone(reducer, bucket);
  GD_TRY(finish_pending(reducer));
  const gd_bucket *b = &model->layout.buckets[bucket];
  size_t bytes = (size_t)b->piece * sizeof(float);
  GD_TRY(ops->event_record(reducer->computed, model->device->compute));
  GD_TRY(ops->stream_wait(model->device->communication, reducer->computed));
  for (int32_t round = 0; round < reducer->most_nodes; round++) {
    bool sending = round < reducer->my_nodes;
    for (int32_t d = 0; d < data; d++) {
      bool has = reducer->first_node[d] + round < reducer->first_node[d + 1];
      reducer->send_sizes[d] = sending ? bytes : 0;
      reducer->send_offsets[d] = (size_t)d * bytes;
      reducer->receive_sizes[d] = has ? bytes : 0;
      reducer->receive_offsets[d] = (size_t)(reducer->first_node[d] + (has ? round : 0)) * bytes;
    }
    const float *send = model->gradients + reducer->my_slots[sending ? round : 0] * model->layout.gradient_elems + b->offset;
    GD_TRY(model->data->ops->all_to_all_uneven(model->data, model->device->communication, send, reducer->send_sizes,
                                               reducer->send_offsets, reducer->received, reducer->receive_sizes,
                                               reducer->receive_offsets));
  }
  reducer->pending = bucket;
  return ops->event_record(reducer->exchanged, model->device->communication);
}

gd_status gd_gradient_reduce_finish(gd_gradient_reducer *reducer) {
  gd_model *model = reducer->model;
  const gd_layout *layout = &model->layout;
  GD_TRY(finish_pending(reducer));
  if (layout->tied_head_bucket >= 0) {
    gd_range table = gd_layout_piece(layout, 0, model->data->rank);
    gd_range head = gd_layout_piece(layout, layout->tied_head_bucket, model->data->rank);
    GD_TRY(model->kernels.ops->add(&model->kernels, model->gradients + table.offset, model->gradients + head.offset,
                                   table.elements));
  }
  if (layout->spec.parallel.zero >= 1 || model->data->size == 1) return GD_OK;
  for (int32_t i = 0; i < layout->bucket_count; i++) {
    const gd_bucket *b = &layout->buckets[i];
    gd_range mine = gd_layout_piece(layout, i, model->data->rank);
    GD_TRY(model->data->ops->all_gather(model->data, model->device->compute, model->gradients + mine.offset,
                                        model->gradients + b->offset, (size_t)mine.elements * sizeof(float)));
  }
  return GD_OK;
}
