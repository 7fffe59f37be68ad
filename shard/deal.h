/* deal.h - who computes what of a step: the sequences of the global batch and the leaves of the gradients' tree, dealt to data
 * ranks and rounds (micro-batches). Pure functions of the spec; every rank knows every rank's part.
 *
 * Leaf s K + k is time block k of sequence s of the global batch; K is a power of two, so a run of whole sequences is the same
 * list of tree nodes whatever K is.
 */
#ifndef GD_SHARD_DEAL_H
#define GD_SHARD_DEAL_H

#include "shard/spec.h"
#include "shard/tree.h"

/* Neighbouring sequences of the global batch. */
typedef struct gd_deal {
  int64_t first_sequence;
  int32_t sequences;
} gd_deal;

/* All that data rank `data_rank` of `data_ranks` computes in a step. spec must be resolved. */
gd_deal gd_deal_share(const gd_spec *spec, int32_t data_ranks, int32_t data_rank);
/* Rounds in which a data rank goes through its share, batch.micro sequences at a time: the same number on all of them. */
int32_t gd_deal_rounds(const gd_spec *spec, int32_t data_ranks);
/* What it computes in one of them; the last may be smaller. */
gd_deal gd_deal_round(const gd_spec *spec, int32_t data_ranks, int32_t data_rank, int32_t round);

/* Which of a bucket's data_ranks pieces a data rank sums, saves and (ZeRO 1) updates: where the
 * exchange of halves ends (shard/exchange.h). For 2^a m ranks, m odd: the low a bits of the rank in reverse are the first
 * digit, the rest of it the second. */
int32_t gd_deal_piece(int32_t data_ranks, int32_t data_rank);

/* The complete nodes of the gradients' tree that a part is, in leaves. Returns their number. */
int gd_deal_nodes(const gd_spec *spec, gd_deal part, gd_tree_node nodes[GD_TREE_MAX_NODES]);
/* The sums that data rank `data_rank` holds when its rounds are through. invariant: the nodes of its share; fast: one running
 * sum, which counts as a leaf: {data_rank, 1}. Returns their number. */
int gd_deal_sums(const gd_spec *spec, int32_t data_ranks, int32_t data_rank, gd_tree_node nodes[GD_TREE_MAX_NODES]);
/* Gradient buffers that it needs: the levels of the binary counter over its rounds of `micro` sequences; fast: 1. */
int32_t gd_deal_slots(const gd_spec *spec, int32_t data_ranks, int32_t data_rank, int32_t micro);

#endif
