/* layers.h - the pieces of a transformer layer: forward and backward side by side in one file each. Functions take a model, a
 * micro-batch and a layer index, find their tensors in the model's arenas, and enqueue kernels and collectives on the compute
 * stream. Backward makes no gradient of a parameter that is frozen. */
#ifndef GD_TRAINER_LAYERS_LAYERS_H
#define GD_TRAINER_LAYERS_LAYERS_H

#include "trainer/arenas.h"
#include "trainer/labels.h"

/* ---- linear.c: the one place that multiplies by a weight ---- */

/* Column-parallel: y[block][rows][n] = x[rows][k] W_block[n][k]^T + bias_block, rounded to `y_dtype`. bias may be -1.
 * activated: as y, the tanh GELU of it in the same call (gd_matmul_end); NULL: not wanted. */
GD_CHECKED gd_status gd_linear_column_forward(gd_model *model, int32_t weight, int32_t bias, const void *x, int64_t rows,
                                              void *y, gd_dtype y_dtype, void *activated);
/* Row-parallel: partial[rows][n] = TREE over the blocks here of x[block][rows][k] W_block[n][k]^T, float32. */
GD_CHECKED gd_status gd_linear_row_forward(gd_model *model, int32_t weight, const void *x, int64_t rows, float *partial);
/* dx[rows][k] = TREE over the blocks here of dy[block][rows][n] W_block[n][k], rounded to dx_dtype: float32 where other ranks
 * have the rest of the sum; dy rows are dy_ld apart (0: dense). */
GD_CHECKED gd_status gd_linear_column_backward_input(gd_model *model, int32_t weight, const void *dy, int64_t rows,
                                                     int64_t dy_ld, void *dx, gd_dtype dx_dtype);
/* dx[block][rows][k] = dy[rows][n] W_block[n][k], stored; up: as dx, dx times the tanh GELU's derivative of it; NULL: none. */
GD_CHECKED gd_status gd_linear_row_backward_input(gd_model *model, int32_t weight, const void *dy, int64_t rows, void *up,
                                                  void *dx);
/* dW_block (+)= dy^T x over some rows, float32. Column: dy has blocks, x is shared; row: the reverse. */
typedef struct gd_weight_gradient {
  int32_t weight;
  const void *dy, *x; /* stored; the first of the rows */
  int64_t dy_ld;      /* distance of two rows of dy, elements; 0: dense */
  int64_t rows;       /* invariant: time blocks that are a complete node */
  int64_t block_rows; /* rows between two blocks of what has blocks */
  float *to;          /* [blocks][block_elems], as the parameter lies */
  bool accumulate;    /* fast: the chain goes on from what is there */
} gd_weight_gradient;
GD_CHECKED gd_status gd_linear_backward_weight_rows(gd_model *model, const gd_weight_gradient *gradient);
/* The same over all rows of the micro-batch, into its slots. */
GD_CHECKED gd_status gd_linear_backward_weight(gd_model *model, const gd_micro *micro, int32_t weight, const void *dy,
                                               const void *x);
/* Gradient of a column-parallel bias from dy[block][rows][n]. */
GD_CHECKED gd_status gd_linear_column_backward_bias(gd_model *model, const gd_micro *micro, int32_t bias, const void *dy);

/* ---- norm.c ---- */
/* A norm of the model: its parameters, and where its input, output, mean and 1/std are kept.
 *
 * It is made in the pass that makes its input, while a row is at hand (gd_finish_rows):
 *   residual[0]      by the embedding, with norm 1 of layer 0
 *   between[l]       by the projection of layer l, with its norm 2
 *   residual[l + 1]  by the mlp of layer l, with norm 1 of layer l + 1; residual[L] with the final norm
 * The outputs have the places and lifetimes that they had if the layer that reads them had made them: the norm's output of a
 * layer is read for the last time in its first product (or for that weight's gradient), so where all layers share one copy the
 * next one's is written behind that. What is left to who reads residual[l]: norm 1 where a call of gd_model_forward begins with
 * layer l > 0, for other micro-batches and stages come between; and the final norm of inference and classifiers, which norm the
 * rows that they want (gd_head_norms_all). */
typedef struct gd_norm_place {
  int32_t weight, bias;
  gd_activation_id x, y, mean, rstd;
  int32_t copy; /* as gd_model_kept */
} gd_norm_place;
gd_norm_place gd_norm1(const gd_model *model, int32_t layer);
gd_norm_place gd_norm2(const gd_model *model, int32_t layer);
gd_norm_place gd_final_norm(const gd_model *model);
GD_CHECKED gd_status gd_norm_layer_forward(gd_model *model, const gd_micro *micro, const gd_norm_place *norm);
/* rows_finish of the rows here, at the micro-batch's place and dropout; sum, rng and out, which is the norm's input, are given,
 * and what else there is to add. norm: made in the same pass; NULL: none. */
GD_CHECKED gd_status gd_finish_rows(gd_model *model, const gd_micro *micro, gd_rows_finish *finish, const gd_norm_place *norm);
/* DRESIDUAL = gradient through the norm of DNORM, plus dresidual (may be NULL; may be DRESIDUAL). */
GD_CHECKED gd_status gd_norm_layer_backward(gd_model *model, const gd_micro *micro, const gd_norm_place *norm,
                                            const void *dresidual);

/* ---- embedding.c attention.c mlp.c head.c ---- */
/* next: the norm that reads the residual made here, NULL: none is made. The layer's norm 1 is there before attention. */
GD_CHECKED gd_status gd_embedding_layer_forward(gd_model *model, const gd_micro *micro, const gd_norm_place *next);
GD_CHECKED gd_status gd_embedding_layer_backward(gd_model *model, const gd_micro *micro);
GD_CHECKED gd_status gd_attention_layer_forward(gd_model *model, const gd_micro *micro, int32_t layer);
GD_CHECKED gd_status gd_attention_layer_backward(gd_model *model, const gd_micro *micro, int32_t layer);
GD_CHECKED gd_status gd_mlp_layer_forward(gd_model *model, const gd_micro *micro, int32_t layer, const gd_norm_place *next);
GD_CHECKED gd_status gd_mlp_layer_backward(gd_model *model, const gd_micro *micro, int32_t layer);
/* sums[sequence][2] as gd_loss_sums, from the last residual; gradient: also the gradients of head and final norm, and
 * DRESIDUAL. In strips of at most activations.head_rows rows. */
GD_CHECKED gd_status gd_head_loss(gd_model *model, const gd_micro *micro, float *sums, bool gradient);
/* logits[rows][V] of the rows that micro->parts want, one part behind the other, host, when the compute stream has passed it;
 * inference only. */
GD_CHECKED gd_status gd_head_logits(gd_model *model, const gd_micro *micro, float *logits);

/* Whether the final norm is that of all rows of the last residual, and made with it. */
bool gd_head_norms_all(const gd_model *model);
/* Of both heads, inference: the rows of the last residual that micro->parts want become its first ones; *wanted: how many. */
GD_CHECKED gd_status gd_head_wanted(gd_model *model, const gd_micro *micro, int64_t *wanted);

/* ---- classifier.c, in the head's place ---- */

/* Tells a micro-batch where the places of its sequences are among those of the labels. */
void gd_classifier_place(const gd_model *model, gd_micro *micro, const gd_labels *labels, int64_t first);
/* Labels of as many sequences as the micro-batch has, from `first` on, into the activation arena; places them. Local; they may
 * be reused after the compute stream has passed. */
GD_CHECKED gd_status gd_classifier_load(gd_model *model, gd_micro *micro, const gd_labels *labels, int64_t first);
/* As gd_head_loss: sums[sequence][2], losses and weights of its documents. host_logits (NULL: not wanted):
 * [places][class_stride] of host memory, there when the stream has passed. */
GD_CHECKED gd_status gd_classifier_loss(gd_model *model, const gd_micro *micro, float *sums, float *host_logits, bool gradient);
/* As gd_head_logits: logits[rows][classes]. */
GD_CHECKED gd_status gd_classifier_logits(gd_model *model, const gd_micro *micro, float *logits);

/* residual_out = residual_in + dropout(row-parallel product + bias): the end of both branches of a layer; and the norm of it
 * that follows (NULL: none). */
GD_CHECKED gd_status gd_branch_forward(gd_model *model, const gd_micro *micro, int32_t weight, int32_t bias,
                                       gd_dropout_site site, int32_t layer, const void *x, const void *residual, void *out,
                                       const gd_norm_place *norm);
/* From DRESIDUAL: bias and weight gradients, and dx[block][rows][k] (up: gd_linear_row_backward_input). */
GD_CHECKED gd_status gd_branch_backward(gd_model *model, const gd_micro *micro, int32_t weight, int32_t bias,
                                        gd_dropout_site site, int32_t layer, const void *x, void *up, void *dx);
/* The start of both branches, backward: weight and bias gradients of a column-parallel linear whose input was norm y (here),
 * and the gradient of y in DNORM. */
GD_CHECKED gd_status gd_entry_backward(gd_model *model, const gd_micro *micro, int32_t weight, int32_t bias, const void *norm_y,
                                       const void *dy);

#endif
