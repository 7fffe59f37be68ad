/* cost.c - what a layout takes, by the same tables that the trainer takes its memory from. */
#include "shard/cost.h"

#include <string.h>

#include "shard/deal.h"

static int64_t exchange_elements(const gd_layout *layout) {
  int32_t data = layout->mesh.size[GD_AXIS_DATA];
  int64_t nodes = 0;
  gd_tree_node list[GD_TREE_MAX_NODES];
  if (data == 1) return 0;
  for (int32_t d = 0; d < data; d++) nodes += gd_deal_sums(&layout->spec, data, d, list);
  return nodes * gd_layout_largest_piece(layout);
}

void gd_cost_of(const gd_layout *layout, gd_cost *out) {
  const gd_spec *spec = &layout->spec;
  gd_activations activations;
  int64_t stored = (int64_t)gd_dtype_bytes(spec->precision.dtype);
  int64_t moments = spec->optimizer.kind == GD_OPTIMIZER_ADAMW ? 2 : 1, masters = spec->precision.dtype == GD_FLOAT32 ? 0 : 1;
  memset(out, 0, sizeof *out);
  gd_layout_activations(layout, spec->batch.micro, true, &activations);
  out->gradient_slots =
      gd_deal_slots(spec, layout->mesh.size[GD_AXIS_DATA], layout->coordinates[GD_AXIS_DATA], spec->batch.micro);
  out->parameter_bytes = layout->arena_elems * stored;
  out->gradient_bytes = out->gradient_slots * layout->gradient_elems * 4;
  out->optimizer_bytes = (moments + masters) * layout->state_elems * 4;
  out->activation_bytes = activations.kept_bytes;
  out->workspace_bytes = activations.workspace_bytes;
  out->exchange_bytes = exchange_elements(layout) * 4;
  out->total_bytes = out->parameter_bytes + out->gradient_bytes + out->optimizer_bytes + out->activation_bytes +
                     out->workspace_bytes + out->exchange_bytes;
  out->snapshot_bytes = (1 + moments) * gd_layout_piece_units(layout) * GD_UNIT_ELEMS * 4;
  out->checkpoint_bytes = (1 + moments) * gd_spec_parameters(spec) * 4;
  out->step_tokens = (int64_t)spec->batch.global * spec->batch.sequence;
  out->step_flops = gd_spec_flops_per_token(spec) * (double)out->step_tokens;

  double data = layout->mesh.size[GD_AXIS_DATA], tensor = layout->mesh.size[GD_AXIS_TENSOR];
  double elements = (double)layout->gradient_elems, away = (data - 1) / data;
  /* Each piece of my gradients to its owner; then updated parameters (ZeRO 1) or summed gradients (ZeRO 0) to everyone. */
  out->data_traffic_bytes =
      elements * 4 * away + (double)layout->arena_elems * (spec->parallel.zero >= 1 ? (double)stored : 4.0) * away;
  /* Four row exchanges a layer forward and backward: a gather of stored rows and an exchange of float32 sums for each branch
   * and direction; backward gathers the norms' outputs again. Embedding and head add one branch. */
  double rows = (double)out->step_tokens / data * spec->model.width * (tensor - 1) / tensor;
  out->tensor_traffic_bytes = rows * (spec->model.layers + 0.5) * (4 * 4.0 + 6 * (double)stored);
}
