/* work.h - what one call of a kernel comes to, from its arguments alone: bytes that have to be moved, operations that have to
 * be done. Pure functions; no pointer is followed, only compared with NULL.
 *
 * Bytes: every tensor that the call reads or writes, once, as if no cache held it. Operations: additions, multiplications,
 * divisions and comparisons of floats, a fused multiply-add being two, and each exponential, logarithm, square root and error
 * function being one. Products are counted as the figure in metrics.jsonl counts them, and attention by the keys that a query
 * sees; multiplications and additions of the products alone: what they add behind them (leaves of a tree, a bias, a softmax) is
 * left out. What a row or a head does once is left out too, and so are random numbers and angles. */
#ifndef GD_TRAINER_KERNELS_WORK_H
#define GD_TRAINER_KERNELS_WORK_H

#include "trainer/kernels.h"

typedef struct gd_work {
  double bytes, operations;
} gd_work;

gd_work gd_work_matmul(const gd_matmul *a); /* 2 m n k of all leaves; of an end what it keeps or reads */
gd_work gd_work_norm_forward(const gd_norm_args *a);
gd_work gd_work_norm_backward(const gd_norm_args *a);
gd_work gd_work_tree_sum(const gd_tree_sum *a);
gd_work gd_work_column_sums(const gd_column_sums *a);
gd_work gd_work_activation_forward(const gd_activation_args *a);
gd_work gd_work_activation_backward(const gd_activation_args *a);
gd_work gd_work_rotary(const gd_rotary *a);
/* As if the row of every token were in a block here; backward: as if no token came twice. */
gd_work gd_work_embedding_forward(const gd_embedding *a);
gd_work gd_work_embedding_backward(const gd_embedding *a);
gd_work gd_work_rows_finish(const gd_rows_finish *a);
gd_work gd_work_dropout_backward(const gd_dropout_backward *a);
/* 4 D operations forward and 10 D backward (scores again, and four products) for each pair of a query and a key that it sees,
 * by query_start and prefix_length: positions and document starts are on the device. */
gd_work gd_work_attention_forward(const gd_attention *a);
gd_work gd_work_attention_backward(const gd_attention *a);
gd_work gd_work_cache_rows(const gd_cache_rows *a);
gd_work gd_work_loss_max(const gd_loss *a);
gd_work gd_work_loss_exponentials(const gd_loss *a);
gd_work gd_work_loss_gradient(const gd_loss *a);
gd_work gd_work_loss_rows(const gd_loss *a);
gd_work gd_work_loss_whole(const gd_loss *a);
gd_work gd_work_loss_sums(const gd_loss_sums *a);
gd_work gd_work_label_loss(const gd_label_loss_args *a);
gd_work gd_work_rows_pick(const gd_rows_pick *a);
gd_work gd_work_rows_put(const gd_rows_pick *a);
gd_work gd_work_unit_squares(const gd_unit_squares *a);
/* As if every unit was in a node. */
gd_work gd_work_unit_nodes(const gd_unit_nodes *a);
gd_work gd_work_node_sums(const gd_node_sums *a);
gd_work gd_work_finite(const gd_finite *a);
gd_work gd_work_vote(const gd_vote *a);
gd_work gd_work_update(const gd_update *a); /* as if the step is applied */
gd_work gd_work_convert(gd_dtype to_dtype, gd_dtype from_dtype, int64_t elements);
gd_work gd_work_add(int64_t elements);

#endif
