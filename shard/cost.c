/* cost.c - the operations and the traffic of a step, from the layout. */
#include "shard/cost.h"

#include <string.h>

void gd_cost_of(const gd_layout *layout, gd_cost *out) {
  const gd_spec *spec = &layout->spec;
  int64_t stored = (int64_t)gd_dtype_bytes(spec->precision.dtype);
  int64_t moments = spec->optimizer.kind == GD_OPTIMIZER_ADAMW ? 2 : 1;
  memset(out, 0, sizeof *out);
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
