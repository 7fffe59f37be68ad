/* reduce.h - every sum across ranks: an exchange of complete tree nodes and a sum kernel in the tree's order, in both modes of
 * `numerics`. In invariant the nodes are the same on every layout, so the bits do not depend on how many ranks held the
 * terms. */
#ifndef GD_TRAINER_REDUCE_H
#define GD_TRAINER_REDUCE_H

#include "shard/exchange.h"
#include "trainer/arenas.h"

/* partial[rows][C] float32 of every tensor rank -> *sum = [rows_here][C], the rows of this rank (inference: all rows). The sum
 * stands in the workspace until the next call. partial is GD_W_PARTIAL. Collective over tensor. */
GD_CHECKED gd_status gd_reduce_rows(gd_model *model, const gd_micro *micro, float **sum);
/* The same, rounded into out[rows_here][C] stored. Collective over tensor. */
GD_CHECKED gd_status gd_reduce_rows_rounded(gd_model *model, const gd_micro *micro, void *out);

/* local[rows_here][C] stored of every tensor rank -> *gathered = [rows][C]: `local` itself where the tensor axis is 1 or rows
 * are not cut. buffer: GD_W_GATHERED or GD_W_GATHERED_GRADIENT. Collective over tensor. */
GD_CHECKED gd_status gd_reduce_gather(gd_model *model, const gd_micro *micro, const void *local, gd_activation_id buffer,
                                      const void **gathered);

/* The gradient of a vector that every tensor rank holds: this rank wrote its leaves [leaf][width] of `rows_here` rows at
 * gd_reduce_my_leaves; sums all ranks' into the micro-batch's slots, the same on every tensor rank. Collective over tensor. */
float *gd_reduce_my_leaves(gd_model *model, const gd_micro *micro, gd_activation_id buffer, int64_t width);
GD_CHECKED gd_status gd_reduce_vector(gd_model *model, const gd_micro *micro, gd_activation_id buffer, int32_t parameter,
                                      int64_t width);
/* The same for leaves that cover all rows on this rank (biases of column-parallel layers); block of the parameter. Local. */
GD_CHECKED gd_status gd_reduce_local_vector(gd_model *model, const gd_micro *micro, const float *leaves, int32_t parameter,
                                            int32_t block, int64_t width);

/* The same for leaves [time block][width], a leaf each, that every tensor rank has of the whole micro-batch. Local. */
GD_CHECKED gd_status gd_reduce_time_blocks(gd_model *model, const gd_micro *micro, const float *leaves, int32_t parameter,
                                           int64_t width);

/* ---- gradients over the data axis ---- */

typedef struct gd_gradient_reducer {
  gd_model *model;
  gd_stream *stream;   /* where it sums: the communication stream, or, on one data rank, the compute stream */
  gd_kernels beside;   /* the model's, on the communication stream */
  gd_kernels *kernels; /* those of `stream`: beside, or the model's own */
  gd_exchange exchange;
  float *received;      /* nodes of other ranks; where the group adds, a piece that makes room */
  gd_message *messages; /* of the longest stage */
  bool adds;            /* fast, and the group adds on its way: a reduce_scatter in place of the exchange */
  gd_tree_add *moves;   /* of pieces, around that: to := from, places in a bucket */
  int32_t move_count;
} gd_gradient_reducer;

/* Who swaps what with whom, and the memory for what is received (none on one data rank). Local. */
GD_CHECKED gd_status gd_gradient_reducer_open(gd_model *model, gd_gradient_reducer *out);
void gd_gradient_reducer_close(gd_gradient_reducer *reducer);
/* Enqueues the sum of a whole gradient bucket on the reducer's stream, into slot 0: of my piece (ZeRO 1), of everything (ZeRO
 * 0). The slots of my sums as the counter left them. The token table's, which comes after the tied head's, takes that one in.
 * Collective over data. */
GD_CHECKED gd_status gd_gradient_reduce(gd_gradient_reducer *reducer, int32_t bucket, const gd_tree_counter *counter);

/* The pieces of a bucket from their data ranks to all of them, in place: `whole` holds its elements, of `bytes` each.
 * Collective over data. */
GD_CHECKED gd_status gd_reduce_gather_pieces(gd_model *model, gd_stream *stream, int32_t bucket, void *whole, size_t bytes);

#endif
