/* shape.c - sizes from the spec, in one place. */
#include "shard/shape.h"

#include "shard/base/round.h"

gd_shape gd_shape_of(const gd_spec *spec, int32_t tensor_rank, int32_t tensor_ranks) {
  const gd_model_spec *m = &spec->model;
  int32_t r = spec->parallel.blocks;
  gd_shape s = {.dtype = spec->precision.dtype, .bytes = gd_dtype_bytes(spec->precision.dtype)};
  s.sequence = spec->batch.sequence;
  s.width = m->width;
  s.vocabulary = m->vocabulary;
  s.layers = m->layers;
  s.all_blocks = r;
  s.time_blocks = spec->parallel.time_blocks;
  s.time_block = s.sequence / s.time_blocks;
  s.blocks = r / tensor_ranks;
  s.first_block = tensor_rank * s.blocks;
  s.heads = m->heads / r;
  s.kv_heads = m->kv_heads / r;
  s.head_size = m->head_size;
  s.q = (int64_t)s.heads * s.head_size;
  s.kv = (int64_t)s.kv_heads * s.head_size;
  s.qkv = s.q + 2 * s.kv;
  s.ffn = m->ffn / r;
  s.up = m->activation == GD_ACTIVATION_SWIGLU ? 2 * s.ffn : s.ffn;
  s.block_vocabulary = gd_spec_padded_vocabulary(spec) / r;
  s.classes = m->classes;
  s.label_columns = spec->finetune.loss == GD_LABEL_LOSS_SIGMOID ? s.classes : s.classes > 0;
  s.class_stride = gd_round_up(s.classes, 16);
  s.chunks = (int64_t)s.time_blocks * r;
  s.chunk = s.sequence / s.chunks;
  s.chunk_documents = spec->finetune.pack ? s.chunk : 1;
  return s;
}
