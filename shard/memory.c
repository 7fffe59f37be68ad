/* memory.c - the one place that counts the bytes of a rank. */
#include "shard/memory.h"

#include <string.h>

#include "shard/exchange.h"
#include "shard/norm.h"

static const gd_memory names[GD_MEMORY_IDS] = {
    [GD_M_PARAMETERS] = {"parameters", GD_MEMORY_PARAMETERS, 0},
    [GD_M_GRADIENTS] = {"gradients", GD_MEMORY_GRADIENTS, 0},
    [GD_M_MASTER] = {"master weights", GD_MEMORY_OPTIMIZER, 0},
    [GD_M_FIRST] = {"first moments", GD_MEMORY_OPTIMIZER, 0},
    [GD_M_SECOND] = {"second moments", GD_MEMORY_OPTIMIZER, 0},
    [GD_M_DECAY] = {"weight decay", GD_MEMORY_OPTIMIZER, 0},
    [GD_M_ACTIVATIONS] = {"activations", GD_MEMORY_ACTIVATIONS, 0},
    [GD_M_WORKSPACE] = {"workspace", GD_MEMORY_WORKSPACE, 0},
    [GD_M_CACHE] = {"keys and values", GD_MEMORY_ACTIVATIONS, 0},
    [GD_M_EXCHANGE] = {"received gradients", GD_MEMORY_EXCHANGE, 0},
    [GD_M_UNIT_SUMS] = {"sums of units", GD_MEMORY_VOTE, 0},
    [GD_M_NODES] = {"nodes of the norm", GD_MEMORY_VOTE, 0},
    [GD_M_NODE_INDEX] = {"index of nodes", GD_MEMORY_VOTE, 0},
    [GD_M_SEQUENCE_SUMS] = {"sums of sequences", GD_MEMORY_VOTE, 0},
    [GD_M_ALL_SEQUENCE_SUMS] = {"sums of all sequences", GD_MEMORY_VOTE, 0},
    [GD_M_VALIDATION_SUMS] = {"sums of validation", GD_MEMORY_VOTE, 0},
    [GD_M_ALL_VALIDATION_SUMS] = {"sums of all validation", GD_MEMORY_VOTE, 0},
    [GD_M_VERDICT] = {"verdict", GD_MEMORY_VOTE, 0},
    [GD_M_FLAGS] = {"flags", GD_MEMORY_VOTE, 0},
    [GD_M_HOST_SNAPSHOT] = {"snapshot", GD_MEMORY_HOST, 0},
    [GD_M_HOST_VALIDATION] = {"validation on the host", GD_MEMORY_HOST, 0},
    [GD_M_HOST_VERDICT] = {"verdict on the host", GD_MEMORY_HOST, 0},
    [GD_M_HOST_FLAGS] = {"flags on the host", GD_MEMORY_HOST, 0},
    [GD_M_HOST_BATCHES] = {"batches on the host", GD_MEMORY_HOST, 0},
    [GD_M_HOST_VALIDATION_BATCH] = {"validation batch on the host", GD_MEMORY_HOST, 0},
    [GD_M_HOST_LABELS] = {"labels on the host", GD_MEMORY_HOST, 0},
    [GD_M_HOST_VALIDATION_LABELS] = {"validation labels on the host", GD_MEMORY_HOST, 0},
    [GD_M_HOST_VALIDATION_LOGITS] = {"validation logits on the host", GD_MEMORY_HOST, 0},
};

void gd_memory_of_training(const gd_layout *layout, gd_memory out[GD_MEMORY_IDS]) {
  const gd_spec *spec = &layout->spec;
  int32_t data = layout->mesh.size[GD_AXIS_DATA], rank = layout->coordinates[GD_AXIS_DATA];
  int64_t stored = (int64_t)gd_dtype_bytes(spec->precision.dtype), global = spec->batch.global;
  int64_t share = gd_deal_share(spec, data, rank).sequences, units = gd_layout_piece_units(layout), sent, received;
  bool adam = spec->optimizer.kind == GD_OPTIMIZER_ADAMW, validates = spec->validation.interval_steps > 0;
  gd_activations activations;
  gd_norm_size norm;
  gd_layout_activations(layout, spec->batch.micro, true, 0, &activations);
  gd_norm_count(layout, &norm);
  gd_exchange_count(spec, data, rank, &sent, &received);
  memcpy(out, names, sizeof names);
  out[GD_M_PARAMETERS].bytes = layout->arena_elems * stored;
  out[GD_M_GRADIENTS].bytes = gd_deal_slots(spec, data, rank, spec->batch.micro) * layout->gradient_elems * 4;
  out[GD_M_MASTER].bytes = spec->precision.dtype == GD_FLOAT32 ? 0 : layout->state_elems * 4;
  out[GD_M_FIRST].bytes = layout->state_elems * 4;
  out[GD_M_SECOND].bytes = adam ? layout->state_elems * 4 : 0;
  out[GD_M_DECAY].bytes = layout->state_elems / GD_UNIT_ELEMS;
  out[GD_M_ACTIVATIONS].bytes = activations.kept_bytes;
  out[GD_M_WORKSPACE].bytes = activations.workspace_bytes;
  out[GD_M_EXCHANGE].bytes = received * gd_layout_largest_piece(layout) * 4;
  out[GD_M_UNIT_SUMS].bytes = units * 4;
  out[GD_M_NODES].bytes = norm.nodes * 8;
  out[GD_M_NODE_INDEX].bytes = norm.indices * 4;
  out[GD_M_SEQUENCE_SUMS].bytes = 2 * share * 4;
  out[GD_M_ALL_SEQUENCE_SUMS].bytes = 2 * global * 4;
  out[GD_M_VALIDATION_SUMS].bytes = validates ? 2 * share * 4 : 0;
  out[GD_M_ALL_VALIDATION_SUMS].bytes = out[GD_M_HOST_VALIDATION].bytes = validates ? 2 * global * 4 : 0;
  out[GD_M_VERDICT].bytes = GD_VERDICT_BYTES;
  out[GD_M_HOST_VERDICT].bytes = 2 * GD_VERDICT_BYTES;
  out[GD_M_FLAGS].bytes = out[GD_M_HOST_FLAGS].bytes = 2 * 4 * 8;
  const gd_shape *s = &layout->shape;
  int64_t documents = s->classes ? (spec->finetune.pack ? s->sequence : 1) : 0; /* most of a sequence */
  int64_t batch = share * (5 * s->sequence + documents * (2 + s->label_columns)) * 4;
  int64_t rows = s->classes ? share * s->chunks * s->chunk_documents : 0, labels = rows * (4 + s->label_columns) * 4;
  out[GD_M_HOST_BATCHES].bytes = 2 * batch;
  out[GD_M_HOST_VALIDATION_BATCH].bytes = validates ? batch : 0;
  out[GD_M_HOST_LABELS].bytes = 2 * labels;
  out[GD_M_HOST_VALIDATION_LABELS].bytes = validates ? labels : 0;
  out[GD_M_HOST_VALIDATION_LOGITS].bytes = validates ? rows * s->class_stride * 4 : 0;
  out[GD_M_HOST_SNAPSHOT].bytes = (gd_layout_saved_units(layout) + (adam ? 2 : 1) * units) * GD_UNIT_ELEMS * 4;
}

/* What data ranks differ by: the sums that they hold and receive. */
static int64_t sums_of(const gd_layout *layout, int32_t data_rank) {
  const gd_spec *spec = &layout->spec;
  int32_t data = layout->mesh.size[GD_AXIS_DATA];
  int64_t sent, received;
  gd_exchange_count(spec, data, data_rank, &sent, &received);
  return gd_deal_slots(spec, data, data_rank, spec->batch.micro) * layout->gradient_elems +
         received * gd_layout_largest_piece(layout);
}

void gd_memory_of_largest(const gd_layout *layout, gd_memory out[GD_MEMORY_IDS]) {
  gd_layout largest = *layout; /* shares its tables */
  int64_t most = 0;
  for (int32_t d = 0; d < layout->mesh.size[GD_AXIS_DATA]; d++) {
    int64_t sums = sums_of(layout, d);
    if (sums <= most) continue;
    most = sums;
    largest.coordinates[GD_AXIS_DATA] = d;
  }
  gd_memory_of_training(&largest, out);
}

void gd_memory_of_inference(const gd_layout *layout, int32_t cache_slots, int32_t cache_tokens, gd_memory out[GD_MEMORY_IDS]) {
  const gd_shape *s = &layout->shape;
  gd_activations activations;
  gd_layout_activations(layout, 1, false, 0, &activations);
  memcpy(out, names, sizeof names);
  out[GD_M_PARAMETERS].bytes = layout->arena_elems * (int64_t)s->bytes;
  out[GD_M_ACTIVATIONS].bytes = activations.kept_bytes;
  out[GD_M_WORKSPACE].bytes = activations.workspace_bytes;
  int64_t token = (int64_t)s->layers * s->blocks * 2 * s->kv * (int64_t)s->bytes;
  out[GD_M_CACHE].bytes = cache_slots * token * cache_tokens;
}

const char *gd_memory_group_name(gd_memory_group group) {
  static const char *const texts[] = {"parameters", "gradients", "optimizer", "activations",
                                      "workspace",  "exchange",  "vote",      "host"};
  return texts[group];
}

int64_t gd_memory_group_bytes(const gd_memory memory[GD_MEMORY_IDS], gd_memory_group group) {
  int64_t bytes = 0;
  for (int i = 0; i < GD_MEMORY_IDS; i++)
    if (memory[i].group == group) bytes += memory[i].bytes;
  return bytes;
}

int64_t gd_memory_device_bytes(const gd_memory memory[GD_MEMORY_IDS]) {
  int64_t bytes = 0;
  for (int group = 0; group < GD_MEMORY_HOST; group++) bytes += gd_memory_group_bytes(memory, (gd_memory_group)group);
  return bytes;
}

void gd_memory_of_gpu(const gd_memory memory[GD_MEMORY_IDS], int32_t ranks, gd_gpu_memory *out) {
  static const int64_t context = (int64_t)600 << 20, nccl = (int64_t)400 << 20;
  *out = (gd_gpu_memory){.scratch = GD_GPU_SCRATCH_BYTES, .workspace = GD_GPU_WORKSPACE_BYTES};
  out->context_estimate = context + (ranks > 1 ? nccl : 0);
  out->total = gd_memory_device_bytes(memory) + out->scratch + out->workspace + out->context_estimate;
}
