/* gradient_norm.c - walks the stages of shard/norm.h on the compute stream: squares, nodes, messages, sums. */
#include "trainer/gradient_norm.h"

#include <stdlib.h>
#include <string.h>

gd_status gd_gradient_norm_open(gd_model *model, gd_gradient_norm *out) {
  memset(out, 0, sizeof *out);
  out->model = model;
  gd_norm_table *table = &out->table;
  GD_TRY(gd_norm_table_create(&model->layout, table));
  GD_TRY(gd_model_take(model, GD_M_UNIT_SUMS, true, &out->unit_sums));
  GD_TRY(gd_model_take(model, GD_M_NODES, true, &out->nodes));
  GD_TRY(gd_model_take_copy(model, GD_M_NODE_INDEX, table->index, &out->index));
  int64_t count = table->size.data_messages + table->size.tensor_messages;
  out->messages = calloc((size_t)count + 1, sizeof *out->messages);
  if (!out->messages) return gd_fail(GD_NO_MEMORY, "no memory for a list of %lld messages", (long long)count);
  for (int64_t i = 0; i < count; i++) {
    const gd_norm_message *m = &table->message[i];
    out->messages[i] = (gd_message){m->send ? GD_SEND : GD_RECEIVE, m->peer, out->nodes + m->first_node, 0};
    out->messages[i].bytes = (size_t)m->nodes * sizeof(double);
  }
  return GD_OK;
}

void gd_gradient_norm_close(gd_gradient_norm *norm) {
  if (!norm->model) return;
  gd_model_give(norm->model, GD_M_UNIT_SUMS, norm->unit_sums);
  gd_model_give(norm->model, GD_M_NODES, norm->nodes);
  gd_model_give(norm->model, GD_M_NODE_INDEX, norm->index);
  gd_norm_table_free(&norm->table);
  free(norm->messages);
  memset(norm, 0, sizeof *norm);
}

static gd_status square_units(const gd_gradient_norm *norm) {
  gd_model *model = norm->model;
  const gd_layout *layout = &model->layout;
  int64_t unit = 0;
  for (int32_t i = 0; i < layout->bucket_count; i++) {
    if (!layout->buckets[i].trained) continue;
    gd_range mine = gd_layout_piece(layout, i, model->data->rank);
    gd_unit_squares squares = {.units = mine.elements / GD_UNIT_ELEMS, .sums = norm->unit_sums + unit};
    squares.gradient = gd_model_bucket_gradient(model, 0, i) + mine.offset;
    GD_TRY(model->kernels.ops->unit_squares(&model->kernels, &squares));
    unit += squares.units;
  }
  return GD_OK;
}

static gd_status run_stage(const gd_gradient_norm *norm, const gd_norm_stage *stage) {
  gd_model *model = norm->model;
  gd_group *group = stage->axis == GD_AXIS_TENSOR ? model->tensor : model->data;
  if (stage->messages)
    GD_TRY(group->ops->exchange(group, model->device->compute, norm->messages + stage->first_message, stage->messages));
  gd_node_sums sums = {.sums = stage->sums, .parts = stage->parts, .nodes = norm->nodes};
  sums.first = norm->index + stage->first;
  sums.from = norm->index + stage->from;
  sums.leaf = norm->index + stage->leaf;
  sums.out = norm->nodes + stage->first_node;
  return model->kernels.ops->node_sums(&model->kernels, &sums);
}

gd_status gd_gradient_norm_run(gd_gradient_norm *norm, const double **squares) {
  gd_model *model = norm->model;
  const gd_norm_table *table = &norm->table;
  GD_TRY(square_units(norm));
  gd_unit_nodes mine = {.nodes = table->my_nodes, .units = table->units, .sums = norm->unit_sums, .out = norm->nodes};
  mine.first = norm->index + table->unit_first;
  mine.count = norm->index + table->unit_count;
  GD_TRY(model->kernels.ops->unit_nodes(&model->kernels, &mine));
  for (int32_t i = 0; i < table->stages; i++) GD_TRY(run_stage(norm, &table->stage[i]));
  *squares = norm->nodes + table->roots;
  return GD_OK;
}
