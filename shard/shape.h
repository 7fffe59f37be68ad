/* shape.h - the sizes that a model's tensors are made of, derived from the spec once; layers and the table of activations read
 * them here. Capital letters are those of the shapes in layout.h. A micro-batch brings its own B. */
#ifndef GD_SHARD_SHAPE_H
#define GD_SHARD_SHAPE_H

#include "shard/spec.h"

typedef struct gd_shape {
  gd_dtype dtype;      /* of stored values */
  size_t bytes;        /* of one of them */
  int64_t sequence;    /* T */
  int64_t width;       /* C */
  int64_t vocabulary;  /* V, without padding */
  int32_t layers;      /* L */
  int32_t all_blocks;  /* R */
  int32_t blocks;      /* of them on this rank */
  int32_t first_block; /* of this rank */
  int32_t time_blocks; /* K */
  int64_t time_block;  /* tokens of one of them: T/K */
  /* Of one block, an R-th of the model: */
  int32_t heads, kv_heads;  /* H/R, Hkv/R */
  int32_t head_size;        /* D */
  int64_t q, kv, qkv;       /* elements of a row: queries; keys alone, values as many; queries, keys and values */
  int64_t ffn;              /* F/R */
  int64_t up;               /* elements of a row that the first product of the mlp gives: F/R, or gate and up */
  int64_t block_vocabulary; /* with padding */
  /* Of a classifier. Its rows are the last rows of the documents, chunk by chunk; empty places are zeros. */
  int64_t classes, label_columns; /* outputs; numbers that say a document's label */
  int64_t class_stride;           /* distance of two rows of logits, elements */
  int64_t chunks, chunk;          /* K R of a sequence: T/(K R) rows, which one tensor rank has */
  int64_t chunk_documents;        /* most of them in a chunk */
} gd_shape;

/* spec must be resolved; tensor_rank of tensor_ranks. Local. */
gd_shape gd_shape_of(const gd_spec *spec, int32_t tensor_rank, int32_t tensor_ranks);

#endif
