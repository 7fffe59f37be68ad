/* norm.h - the sum of the squares of all gradients, as messages and additions of one rank.
 *
 * The sum of a parameter is the canonical tree over its units (blocks in order, the units of a block in order), in double. A
 * rank's piece of a bucket meets a parameter in neighbouring units, so it holds complete nodes of that tree, a short list of
 * them, which travel in place of the units. What all tensor ranks hold alike (GD_CUT_NONE) is counted on tensor rank 0 alone.
 *
 * N = 2^a m data ranks (m odd). The m ranks whose low a bits are the same have neighbouring pieces (gd_deal_piece) and send
 * their lists to each other; then, for bit a - 1 to 0, a rank swaps its whole list with that of rank xor 2^bit, whose pieces
 * are the neighbours of its own: the stages of shard/exchange.h from the end. After each stage the nodes that are halves of a
 * larger one are added, so that a list stays short. In the end the tensor ranks send theirs to each other and every rank
 * finishes every tree: the same additions, the same bits on all of them.
 *
 * Nodes are numbered as they lie in one array of doubles: first those made of my units, then, stage by stage, what is received
 * and what is summed. Lists have the parameters in name order, the nodes of a parameter in the order of its units.
 */
#ifndef GD_SHARD_NORM_H
#define GD_SHARD_NORM_H

#include "shard/layout.h"

enum { GD_NORM_STAGES = 33 };

typedef struct gd_norm_message {
  bool send;
  int32_t peer; /* a rank along the stage's axis */
  int32_t first_node, nodes;
} gd_norm_message;

/* Messages that travel together, then sums[i] = TREE over parts first[i] to first[i + 1] - 1; part k is node from[k] and begins
 * at leaf leaf[k] of its parameter's tree. */
typedef struct gd_norm_stage {
  gd_axis axis;
  int32_t first_message, messages;
  int32_t first_node, sums;  /* the nodes that are written */
  int32_t parts;             /* each node of the lists goes into one sum */
  int32_t first, from, leaf; /* where these begin in index: [sums + 1], [parts], [parts] */
} gd_norm_stage;

/* How much of everything there is. */
typedef struct gd_norm_size {
  int64_t parameters; /* those that are trained: frozen ones have no gradient */
  int64_t nodes, indices;
  int64_t data_nodes, tensor_nodes; /* sent over the two axes */
  int64_t data_messages, tensor_messages;
} gd_norm_size;

typedef struct gd_norm_table {
  gd_norm_size size;
  int32_t units, my_nodes;        /* units of my pieces; what parameters have of them are the nodes [0, my_nodes) */
  int32_t unit_first, unit_count; /* where these begin in index: the first unit of each of my nodes, and how many it has */
  int32_t roots;                  /* the first of the roots: a node for each of size.parameters, in name order */
  int32_t stages;
  gd_norm_stage stage[GD_NORM_STAGES];
  gd_norm_message *message;
  int32_t *index; /* [size.indices] */
} gd_norm_table;

/* Units of my pieces are numbered as they lie behind each other, bucket by bucket. A model has less than 2^31 units on a rank
 * and in a parameter. Local. GD_NO_MEMORY. */
GD_CHECKED gd_status gd_norm_table_create(const gd_layout *layout, gd_norm_table *out);
void gd_norm_table_free(gd_norm_table *table);
/* The sizes alone: no memory, no list is written. Local. */
void gd_norm_count(const gd_layout *layout, gd_norm_size *out);

#endif
