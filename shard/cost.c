/* cost.c - the operations and the traffic of a step, from the layout. */
#include "shard/cost.h"

#include <string.h>

#include "shard/exchange.h"
#include "shard/norm.h"

static int64_t piece_elements(const gd_layout *layout, int32_t buckets) {
  int64_t elements = 0;
  for (int32_t i = 0; i < buckets; i++) elements += layout->buckets[i].piece;
  return elements;
}

/* Sums of gradients on their way to the owners of their pieces; updated parameters (ZeRO 1) or summed gradients (ZeRO 0) of my
 * pieces to everyone; the losses of my sequences. */
static int64_t data_traffic(const gd_layout *layout) {
  const gd_spec *spec = &layout->spec;
  int32_t data = layout->mesh.size[GD_AXIS_DATA], rank = layout->coordinates[GD_AXIS_DATA];
  int64_t sent, received, others = data - 1,
                          element = spec->parallel.zero >= 1 ? (int64_t)gd_dtype_bytes(spec->precision.dtype) : 4;
  gd_exchange_count(spec, data, rank, &sent, &received);
  return sent * piece_elements(layout, layout->gradient_bucket_count) * 4 +
         others * piece_elements(layout, layout->bucket_count) * element +
         others * 2 * gd_deal_share(spec, data, rank).sequences * 4;
}

/* The forward, loss and backward pass of `rows` rows, of which `some` lie here between the products. */
static int64_t tensor_traffic_of(const gd_layout *layout, int64_t rows, int64_t some) {
  const gd_model_spec *m = &layout->spec.model;
  const gd_shape *s = &layout->shape;
  int64_t others = layout->mesh.size[GD_AXIS_TENSOR] - 1, layers = s->layers, norm = m->norm == GD_NORM_LAYERNORM ? 2 : 1;
  /* Two branches a layer: forward a gather of stored rows and an exchange of float32 sums; backward a gather of gradients, a
   * gather of the norm's output once more, an exchange of sums. The embedding sums, and gathers its gradient; the head gathers
   * its input, and sums its gradient. */
  int64_t activations = some * s->width * ((6 * layers + 2) * (int64_t)s->bytes + (4 * layers + 2) * 4);
  /* Norms' weights and biases, biases of row-parallel products. */
  int64_t vectors = layers * (2 * norm + (m->bias ? 2 : 0)) + norm;
  /* Largest logits; sums of exponentials and target logits of the blocks here. */
  int64_t loss = rows * 4 + 2 * s->blocks * rows * 4;
  return others * (activations + vectors * gd_layout_leaves(layout, some) * s->width * 4 + loss);
}

static int64_t tensor_traffic(const gd_layout *layout) {
  const gd_spec *spec = &layout->spec;
  int32_t data = layout->mesh.size[GD_AXIS_DATA], rank = layout->coordinates[GD_AXIS_DATA];
  int64_t bytes = 0;
  for (int32_t i = 0; i < gd_deal_rounds(spec, data); i++) {
    int64_t rows = gd_deal_round(spec, data, rank, i).sequences * (int64_t)spec->batch.sequence;
    bytes += tensor_traffic_of(layout, rows, rows / layout->mesh.size[GD_AXIS_TENSOR]);
  }
  return bytes;
}

void gd_cost_of(const gd_layout *layout, gd_cost *out) {
  const gd_spec *spec = &layout->spec;
  int64_t moments = spec->optimizer.kind == GD_OPTIMIZER_ADAMW ? 2 : 1;
  gd_norm_size norm;
  gd_norm_count(layout, &norm);
  memset(out, 0, sizeof *out);
  out->checkpoint_bytes = (1 + moments) * gd_spec_parameters(spec) * 4;
  out->step_tokens = (int64_t)spec->batch.global * spec->batch.sequence;
  out->step_flops = gd_spec_flops_per_token(spec) * (double)out->step_tokens;
  out->data_traffic_bytes = data_traffic(layout) + norm.data_nodes * 8;
  out->tensor_traffic_bytes = tensor_traffic(layout) + norm.tensor_nodes * 8;
}
