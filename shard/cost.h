/* cost.h - what a training run takes besides the memory of a rank (memory.h): bytes on disk, operations and traffic of a step.
 */
#ifndef GD_SHARD_COST_H
#define GD_SHARD_COST_H

#include "shard/layout.h"

typedef struct gd_cost {
  int64_t checkpoint_bytes; /* on disk, whole job, one checkpoint */
  int64_t step_tokens;      /* whole job */
  double step_flops;        /* whole job, forward and backward */
  /* sent by this rank a step, as comm/collectives.h counts what a call means */
  int64_t data_traffic_bytes;   /* over the data axis: gradients, parameters, losses, nodes of the gradient norm */
  int64_t tensor_traffic_bytes; /* over the tensor axis: rows of activations and partial sums, leaves of vectors, such nodes */
  /* of them, of a classifier: rows of documents, as if no chunk (T/(K R) rows) had more than one that ends in it. So much again
   * for each further one of the fullest chunk of the step's share, which the data decides where sequences are packed */
  int64_t document_traffic_bytes;
} gd_cost;

/* Floating point operations of forward and backward for one token. Where all is trained: 6 * matrix parameters + 12 * L * H * D
 * * T (Chowdhery et al. 2022, PaLM, appendix B), the embedding look-up not counted, the head counted. */
double gd_cost_flops_per_token(const gd_layout *layout);
/* Of them, the head's: a token that has no target needs none. 0: a classifier, whose head is counted by documents. */
double gd_cost_head_flops_per_token(const gd_layout *layout);
/* The same with the keys alone that a causal query sees: (T + 1) / 2 in place of T. */
double gd_cost_causal_flops_per_token(const gd_layout *layout);

/* Local; rank's layout of a training run. */
void gd_cost_of(const gd_layout *layout, gd_cost *out);

#endif
