/* exchange.h - the sum of a bucket of gradients over the data axis, as messages and additions of one data rank.
 *
 * N = 2^a m data ranks (m odd) hold complete nodes of the tree over the global batch's leaves, neighbouring ranks neighbouring
 * ones. In stage k < a a rank swaps halves with rank xor 2^k (recursive halving: Thakur, Rabenseifner and Gropp 2005,
 * neighbours first): it keeps one half of the pieces it still works on, sends its nodes' other half and merges both ranks'
 * lists of nodes wherever they are halves of a larger node. So log2 N messages move what N - 1 did, the largest between
 * neighbours, and every sum is a node of the canonical tree. What m leaves over goes all to all; then the last additions end
 * the tree. Which piece a rank ends with: gd_deal_piece.
 */
#ifndef GD_SHARD_EXCHANGE_H
#define GD_SHARD_EXCHANGE_H

#include "shard/deal.h"

/* A node under way: one of my own sums (whole, in a gradient slot), or received for pieces [first_piece, ...). */
typedef struct gd_exchange_buffer {
  int32_t sum;         /* index of my sum, as gd_deal_sums lists them; -1: received */
  int32_t first_piece; /* received: the first piece that it holds ... */
  int64_t at;          /* ... and where, in pieces from the start of the received memory */
} gd_exchange_buffer;

typedef struct gd_exchange_message {
  bool send;
  int32_t peer, buffer;
  int32_t first_piece, pieces;
} gd_exchange_message;

/* Messages that travel together, then the additions that they allow, over the pieces that are kept. */
typedef struct gd_exchange_stage {
  int32_t first_piece, pieces; /* kept */
  int32_t first_message, messages;
  int32_t first_add, adds;
} gd_exchange_stage;

typedef struct gd_exchange {
  int32_t stages, buffers, messages, adds;
  gd_exchange_stage *stage;
  gd_exchange_buffer *buffer;
  gd_exchange_message *message;
  gd_tree_add *add;        /* of buffers: to := to + from */
  int32_t result;          /* the buffer that holds the root for my piece in the end */
  int64_t received_pieces; /* memory for what is received */
} gd_exchange;

/* Local. spec must be resolved. GD_NO_MEMORY. */
GD_CHECKED gd_status gd_exchange_create(const gd_spec *spec, int32_t data_ranks, int32_t data_rank, gd_exchange *out);
void gd_exchange_free(gd_exchange *exchange);
/* The pieces that are sent, and received_pieces, without the rest. Local. */
void gd_exchange_count(const gd_spec *spec, int32_t data_ranks, int32_t data_rank, int64_t *sent, int64_t *received);

#endif
