/* cost.c - the operations and the traffic of a step, from the layout. */
#include "shard/cost.h"

#include <string.h>

#include "shard/exchange.h"
#include "shard/norm.h"

/* Of what is trained: frozen buckets stay where they are. */
static int64_t piece_elements(const gd_layout *layout, int32_t buckets) {
  int64_t elements = 0;
  for (int32_t i = 0; i < buckets; i++)
    if (layout->buckets[i].trained) elements += layout->buckets[i].piece;
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

/* How many of the `count` parameters learn. */
static int32_t trained_of(const gd_layout *layout, const int32_t *parameters, int count) {
  int32_t trained = 0;
  for (int i = 0; i < count; i++) trained += gd_layout_trains(layout, parameters[i]);
  return trained;
}

/* The forward, loss and backward pass of `rows` rows, of which `some` lie here between the products. */
static int64_t tensor_traffic_of(const gd_layout *layout, int64_t rows, int64_t some) {
  const gd_shape *s = &layout->shape;
  int64_t others = layout->mesh.size[GD_AXIS_TENSOR] - 1, layers = s->layers;
  const int32_t final[] = {layout->final_norm_weight, layout->final_norm_bias};
  /* Gathers of stored rows, exchanges of float32 sums, vectors (norms' weights and biases, biases of row-parallel products).
   * Forward: two branches a layer, a gather and an exchange each; the embedding sums, the head gathers its input. */
  int64_t stored = 2 * layers + 1, sums = 2 * layers + 1, vectors = trained_of(layout, final, 2);
  /* Backward: a branch gathers gradients, sums, and gathers its norm's output once more where its first weight learns. */
  for (int64_t l = layout->lowest_layer; l < layers; l++) {
    const gd_layer_parameters *p = &layout->layers[l];
    const int32_t weights[] = {p->qkv_weight, p->up_weight};
    const int32_t cut[] = {p->norm1_weight, p->norm1_bias, p->projection_bias, p->norm2_weight, p->norm2_bias, p->down_bias};
    stored += 2 + trained_of(layout, weights, 2);
    sums += 2;
    vectors += trained_of(layout, cut, 6);
  }
  if (layout->tables_trained) stored++; /* the embedding's gradient */
  if (s->classes) {                     /* its head gathers rows of documents, and nothing else */
    vectors -= trained_of(layout, final, 2);
    return others * (some * s->width * ((stored - 1) * (int64_t)s->bytes + sums * 4) +
                     vectors * gd_layout_leaves(layout, some) * s->width * 4);
  }
  if (layout->head_goes_back) sums++; /* the head's gradient */
  /* Largest logits; sums of exponentials and target logits of the blocks here; as if all rows had a target. */
  int64_t loss = rows * 4 + 2 * s->blocks * rows * 4;
  return others * (some * s->width * (stored * (int64_t)s->bytes + sums * 4) +
                   vectors * gd_layout_leaves(layout, some) * s->width * 4 + loss);
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

/* A classifier's head: the places of each chunk here, one a document, go to the other ranks. */
static int64_t document_traffic(const gd_layout *layout) {
  const gd_shape *s = &layout->shape;
  int32_t data = layout->mesh.size[GD_AXIS_DATA], tensor = layout->mesh.size[GD_AXIS_TENSOR];
  int64_t chunks = gd_deal_share(&layout->spec, data, layout->coordinates[GD_AXIS_DATA]).sequences * s->chunks / tensor;
  return s->classes ? (tensor - 1) * chunks * s->width * (int64_t)s->bytes : 0;
}

/* Each product with a weight comes forward, backward where something below it learns, and once more where itself it does. */
static double head_flops(const gd_layout *layout, double outputs) {
  return 2.0 * outputs * layout->spec.model.width * (1 + layout->head_goes_back + gd_layout_trains(layout, layout->head));
}

/* Each query with so many keys. */
static double flops_per_token(const gd_layout *layout, double keys) {
  const gd_model_spec *m = &layout->spec.model;
  double products = 0, attention = 4.0 * m->heads * m->head_size * keys;
  for (int32_t i = 0; i < layout->parameter_count; i++) {
    const gd_parameter *p = &layout->parameters[i];
    int32_t layer = layout->buckets[p->bucket].layer;
    if (!p->decay || i == layout->token_table || i == layout->position_table || i == layout->head) continue;
    products += (double)(p->all_blocks * p->block_rows * p->block_cols) * (1 + (layer >= layout->lowest_layer) + p->trained);
  }
  int32_t back = m->layers - layout->lowest_layer;
  double outputs = m->classes ? (double)m->classes / layout->spec.batch.sequence : m->vocabulary; /* a document a sequence */
  return 2.0 * products + head_flops(layout, outputs) + attention * (m->layers + 2.0 * back);
}

double gd_cost_head_flops_per_token(const gd_layout *layout) {
  return layout->spec.model.classes ? 0 : head_flops(layout, layout->spec.model.vocabulary);
}

double gd_cost_flops_per_token(const gd_layout *layout) {
  return flops_per_token(layout, (double)layout->spec.batch.sequence);
}

double gd_cost_causal_flops_per_token(const gd_layout *layout) {
  return flops_per_token(layout, ((double)layout->spec.batch.sequence + 1) / 2);
}

void gd_cost_of(const gd_layout *layout, gd_cost *out) {
  const gd_spec *spec = &layout->spec;
  int64_t moments = spec->optimizer.kind == GD_OPTIMIZER_ADAMW ? 2 : 1;
  gd_norm_size norm;
  gd_norm_count(layout, &norm);
  memset(out, 0, sizeof *out);
  out->checkpoint_bytes = (gd_spec_parameters(spec) + moments * layout->trained_elements) * 4;
  out->step_tokens = (int64_t)spec->batch.global * spec->batch.sequence;
  out->step_flops = gd_cost_flops_per_token(layout) * (double)out->step_tokens;
  out->data_traffic_bytes = data_traffic(layout) + norm.data_nodes * 8;
  out->document_traffic_bytes = document_traffic(layout);
  out->tensor_traffic_bytes = tensor_traffic(layout) + out->document_traffic_bytes + norm.tensor_nodes * 8;
}
