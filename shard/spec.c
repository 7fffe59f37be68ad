/* spec.c - derives what a run file leaves open and refuses what contradicts itself or is not built. */
#include "shard/spec.h"

#include <stdio.h>

static gd_status positive(const char *key, int64_t value) {
  if (value >= 1) return GD_OK;
  return gd_fail_user(GD_USAGE, "%s: found %lld, expected at least 1", key, (long long)value);
}

static gd_status check_rope(const gd_model_spec *model) {
  const gd_rope *rope = &model->rope;
  if (model->position == GD_POSITION_ROTARY && model->head_size % 2)
    return gd_fail_user(GD_USAGE, "model.head_size: found %d, rotary positions need an even one", model->head_size);
  if (rope->kind != GD_ROPE_PLAIN && model->position != GD_POSITION_ROTARY)
    return gd_fail_user(GD_USAGE, "model.rope_kind: only rotary positions have one, and model.position is learned");
  if (rope->kind == GD_ROPE_LLAMA3 && !(rope->high > rope->low))
    return gd_fail_user(GD_USAGE, "model.rope_high: found %g, expected more than model.rope_low %g", (double)rope->high,
                        (double)rope->low);
  return GD_OK;
}

gd_status gd_spec_resolve_model(gd_spec *spec) {
  gd_model_spec *model = &spec->model;
  GD_TRY(positive("model.layers", model->layers));
  GD_TRY(positive("model.heads", model->heads));
  GD_TRY(positive("model.width", model->width));
  GD_TRY(positive("model.context", model->context));
  GD_TRY(positive("model.vocabulary", model->vocabulary));
  if (!model->kv_heads) model->kv_heads = model->heads;
  if (!model->ffn) model->ffn = 4 * model->width;
  if (!model->head_size) {
    if (model->width % model->heads)
      return gd_fail_user(GD_USAGE,
                          "model.width %d is not a multiple of model.heads %d; change one of them or set model.head_size",
                          model->width, model->heads);
    model->head_size = model->width / model->heads;
  }
  if (model->head_size > GD_MAX_HEAD_SIZE)
    return gd_fail_user(GD_USAGE, "model.head_size: found %d, the attention kernels take at most %d", model->head_size,
                        GD_MAX_HEAD_SIZE);
  if (model->heads % model->kv_heads)
    return gd_fail_user(GD_USAGE, "model.kv_heads: found %d, expected a divisor of model.heads %d", model->kv_heads,
                        model->heads);
  GD_TRY(check_rope(model));
  if (!spec->parallel.blocks) spec->parallel.blocks = spec->parallel.tensor > 0 ? spec->parallel.tensor : 1;
  if (!spec->parallel.time_blocks) spec->parallel.time_blocks = 1;
  return GD_OK;
}

/* A block holds whole heads with their key/value heads and an equal share of the mlp. The vocabulary is padded, so it always
 * fits. */
static const char *blocks_misfit(const gd_spec *spec, int32_t blocks) {
  if (spec->model.heads % blocks) return "model.heads";
  if (spec->model.kv_heads % blocks) return "model.kv_heads";
  if (spec->model.ffn % blocks) return "model.ffn";
  return 0;
}

/* numerics: invariant cuts a sequence into R equal parts. Says which R or which length would do. */
static gd_status sequence_misfit(const gd_spec *spec) {
  int32_t sequence = spec->batch.sequence, blocks = spec->parallel.blocks, fits = blocks;
  while (blocks_misfit(spec, fits) || sequence % fits) fits /= 2; /* blocks is a power of two: ends at 1 */
  int32_t shorter = sequence / blocks * blocks;
  char length[64] = "";
  if (shorter) snprintf(length, sizeof length, ", or batch.sequence to %d", shorter);
  if (fits % spec->parallel.tensor == 0)
    return gd_fail_user(
        GD_USAGE,
        "batch.sequence: found %d, numerics: invariant needs a multiple of parallel.blocks %d; set parallel.blocks to %d (the "
        "largest that divides it)%s",
        sequence, blocks, fits, length);
  return gd_fail_user(
      GD_USAGE,
      "batch.sequence: found %d, numerics: invariant needs a multiple of parallel.blocks %d, and %d, the largest "
      "that divides it, is no multiple of parallel.tensor %d; set parallel.tensor and parallel.blocks to %d%s",
      sequence, blocks, fits, spec->parallel.tensor, fits, length);
}

static gd_status resolve_blocks(gd_spec *spec) {
  gd_parallel_spec *parallel = &spec->parallel;
  bool invariant = spec->numerics == GD_NUMERICS_INVARIANT;
  if (!parallel->blocks) {
    parallel->blocks = parallel->tensor;
    if (invariant) {
      parallel->blocks = 4;
      while (blocks_misfit(spec, parallel->blocks) || spec->batch.sequence % parallel->blocks) parallel->blocks /= 2;
      /* One that the job's own tensor axis can cut; a larger axis needs the key set, since R is part of the numbers. */
      if (parallel->blocks % parallel->tensor)
        return gd_fail_user(
            GD_USAGE,
            "parallel.tensor %d does not divide the %d canonical blocks that numerics: invariant derives for this model; "
            "set parallel.blocks to a power of two that %d divides (the same for every run to be compared)",
            parallel->tensor, parallel->blocks, parallel->tensor);
    }
  }
  const char *misfit = blocks_misfit(spec, parallel->blocks);
  if (misfit)
    return gd_fail_user(GD_USAGE, "%s is not a multiple of parallel.%s %d", misfit,
                        parallel->blocks == parallel->tensor ? "tensor" : "blocks", parallel->blocks);
  if (parallel->blocks % parallel->tensor)
    return gd_fail_user(GD_USAGE, "parallel.blocks: found %d, expected a multiple of parallel.tensor %d", parallel->blocks,
                        parallel->tensor);
  if (!invariant && parallel->blocks != parallel->tensor)
    return gd_fail_user(GD_USAGE,
                        "parallel.blocks: found %d, but numerics: fast has one block a tensor rank (%d); drop the key or set "
                        "numerics: invariant",
                        parallel->blocks, parallel->tensor);
  if (invariant && (parallel->blocks & (parallel->blocks - 1)))
    return gd_fail_user(GD_USAGE, "parallel.blocks: found %d, numerics: invariant needs a power of two", parallel->blocks);
  if (invariant && spec->batch.sequence % parallel->blocks) return sequence_misfit(spec);
  return GD_OK;
}

/* R is known. */
static gd_status resolve_time_blocks(gd_spec *spec) {
  enum { SHORTEST = 256 }; /* tokens: where a chain of a weight gradient is cut anyway */
  gd_parallel_spec *parallel = &spec->parallel;
  int64_t sequence = spec->batch.sequence, found = parallel->time_blocks;
  bool invariant = spec->numerics == GD_NUMERICS_INVARIANT;
  if (!found) {
    int32_t k = invariant ? 8 : 1;
    while (k > 1 && (sequence % ((int64_t)k * parallel->blocks) || sequence / k < SHORTEST)) k /= 2;
    parallel->time_blocks = k;
    return GD_OK;
  }
  if (!invariant && found != 1)
    return gd_fail_user(GD_USAGE,
                        "parallel.time_blocks: found %lld, but numerics: fast does not cut sequences; drop the key or set "
                        "numerics: invariant",
                        (long long)found);
  if (found & (found - 1))
    return gd_fail_user(GD_USAGE, "parallel.time_blocks: found %lld, expected a power of two", (long long)found);
  if (invariant && sequence % (found * parallel->blocks))
    return gd_fail_user(GD_USAGE,
                        "parallel.time_blocks: found %lld, but %lld x parallel.blocks %d does not divide batch.sequence %lld",
                        (long long)found, (long long)found, parallel->blocks, (long long)sequence);
  return GD_OK;
}

static gd_status resolve_batch(gd_spec *spec, int32_t data) {
  gd_batch_spec *batch = &spec->batch;
  GD_TRY(positive("batch.global", batch->global));
  if (!batch->sequence) batch->sequence = spec->model.context;
  if (batch->sequence > spec->model.context)
    return gd_fail_user(GD_USAGE, "batch.sequence: found %d, expected at most model.context %d", batch->sequence,
                        spec->model.context);
  if (spec->data.reset_positions && !spec->data.mask_documents)
    return gd_fail_user(GD_USAGE,
                        "data.reset_positions: needs data.mask_documents: true, or tokens would see others at their own place");
  if (batch->global % data)
    return gd_fail_user(
        GD_USAGE,
        "batch.global: found %d, expected a multiple of the %d data-parallel ranks (ranks / tensor / pipeline / context)",
        batch->global, data);
  if (!batch->micro) batch->micro = batch->global / data;
  if (batch->micro > batch->global / data)
    return gd_fail_user(
        GD_USAGE,
        "batch.micro: found %d, but each of the %d data-parallel ranks has only %d of the %d sequences of batch.global",
        batch->micro, data, batch->global / data, batch->global);
  if ((int64_t)batch->micro * batch->sequence > GD_MAX_MICRO_TOKENS)
    return gd_fail_user(
        GD_USAGE,
        "batch.micro: %d sequences of %d tokens are more than the %d tokens that a forward pass takes; lower batch.micro",
        batch->micro, batch->sequence, GD_MAX_MICRO_TOKENS);
  return GD_OK;
}

static gd_status resolve_schedule(gd_spec *spec) {
  gd_schedule_spec *schedule = &spec->schedule;
  GD_TRY(positive("run.steps", spec->run.steps));
  if (schedule->warmup_steps > spec->run.steps)
    return gd_fail_user(GD_USAGE, "schedule.warmup_steps: found %lld, but run.steps is only %lld",
                        (long long)schedule->warmup_steps, (long long)spec->run.steps);
  if (!schedule->decay_steps)
    schedule->decay_steps =
        schedule->kind == GD_SCHEDULE_WSD ? (spec->run.steps + 4) / 5 : spec->run.steps - schedule->warmup_steps;
  if (spec->optimizer.min_lr > spec->optimizer.lr)
    return gd_fail_user(GD_USAGE, "optimizer.min_lr: found %g, expected at most optimizer.lr %g",
                        (double)spec->optimizer.min_lr, (double)spec->optimizer.lr);
  if (spec->optimizer.nesterov && (spec->optimizer.kind != GD_OPTIMIZER_SGD || spec->optimizer.momentum <= 0))
    return gd_fail_user(GD_USAGE, "optimizer.nesterov: is of optimizer.kind sgd with a momentum above 0");
  return gd_spec_check_validated(spec, spec->validation.interval_steps > 0, "validation.interval_steps is 0");
}

gd_status gd_spec_check_validated(const gd_spec *spec, bool validated, const char *why) {
  if (validated || (!spec->validation.patience && spec->schedule.kind != GD_SCHEDULE_PLATEAU)) return GD_OK;
  return gd_fail_user(GD_USAGE, "%s: goes by validations, and there are none: %s",
                      spec->validation.patience ? "validation.patience" : "schedule.kind: plateau", why);
}

gd_status gd_spec_resolve(gd_spec *spec, int32_t ranks) {
  gd_parallel_spec *parallel = &spec->parallel;
  if (parallel->pipeline > 1 || parallel->context > 1)
    return gd_fail_user(GD_USAGE, "parallel.%s: found %d; this version has the data and tensor axes only (expected 1)",
                        parallel->pipeline > 1 ? "pipeline" : "context",
                        parallel->pipeline > 1 ? parallel->pipeline : parallel->context);
  if (parallel->zero > 1)
    return gd_fail_user(GD_USAGE, "parallel.zero: found %d; this version has ZeRO stages 0 and 1", parallel->zero);
  int32_t asked_blocks = parallel->blocks, asked_time_blocks = parallel->time_blocks;
  int64_t model_ranks = (int64_t)parallel->tensor * parallel->pipeline * parallel->context;
  if (parallel->tensor < 1 || ranks % model_ranks)
    return gd_fail_user(GD_USAGE, "parallel.tensor: found %d, expected a divisor of the %d ranks of this job", parallel->tensor,
                        ranks);
  int32_t data = (int32_t)(ranks / model_ranks);
  GD_TRY(gd_spec_resolve_model(spec));
  parallel->blocks = asked_blocks;
  parallel->time_blocks = asked_time_blocks;
  GD_TRY(resolve_batch(spec, data));
  GD_TRY(resolve_blocks(spec));
  GD_TRY(resolve_time_blocks(spec));
  if ((int64_t)spec->batch.sequence % parallel->tensor)
    return gd_fail_user(
        GD_USAGE, "batch.sequence: found %d, expected a multiple of parallel.tensor %d (norms are cut along the sequence)",
        spec->batch.sequence, parallel->tensor);
  return resolve_schedule(spec);
}

int64_t gd_spec_padded_vocabulary(const gd_spec *spec) {
  int64_t unit = 16 * (int64_t)spec->parallel.blocks;
  return (spec->model.vocabulary + unit - 1) / unit * unit;
}

/* Elements of the matrices that multiply activations in every layer, and of the vectors. */
static void layer_elements(const gd_model_spec *m, int64_t *matrices, int64_t *vectors) {
  int64_t c = m->width, q = (int64_t)m->heads * m->head_size, kv = (int64_t)m->kv_heads * m->head_size, f = m->ffn;
  bool gated = m->activation == GD_ACTIVATION_SWIGLU;
  *matrices = c * (q + 2 * kv) + q * c + c * f * (gated ? 3 : 2);
  *vectors = 2 * c * (m->norm == GD_NORM_LAYERNORM ? 2 : 1);
  if (m->bias & GD_BIAS_QKV) *vectors += q + 2 * kv;
  if (m->bias & GD_BIAS_PROJECTION) *vectors += c;
  if (m->bias & GD_BIAS_MLP) *vectors += f * (gated ? 2 : 1) + c;
}

int64_t gd_spec_parameters(const gd_spec *spec) {
  const gd_model_spec *m = &spec->model;
  int64_t matrices, vectors, table = (int64_t)m->vocabulary * m->width;
  layer_elements(m, &matrices, &vectors);
  int64_t total = m->layers * (matrices + vectors) + table;
  if (m->position == GD_POSITION_LEARNED) total += (int64_t)m->context * m->width;
  if (m->classes)
    total += (int64_t)m->classes * m->width;
  else if (!m->tied_head)
    total += table;
  return total + m->width * (m->norm == GD_NORM_LAYERNORM ? 2 : 1);
}
