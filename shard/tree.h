/* tree.h - the canonical summation tree: a range of leaves splits at the largest power of two below its length. Its nodes
 * are aligned power-of-two ranges plus the right spine, so any contiguous range of leaves is a short list of complete nodes
 * (design section 3), and a binary counter builds it with one buffer a level. */
#ifndef GD_SHARD_TREE_H
#define GD_SHARD_TREE_H

#include <stdint.h>

enum { GD_TREE_LEVELS = 48, GD_TREE_MAX_NODES = 2 * GD_TREE_LEVELS };

typedef struct gd_tree_node {
  int64_t first, count; /* leaves first .. first + count - 1; count is a power of two that divides first */
} gd_tree_node;

/* The complete nodes that make up leaves [first, end), in leaf order. Returns their number. */
int gd_tree_nodes(int64_t first, int64_t end, gd_tree_node nodes[GD_TREE_MAX_NODES]);
/* Their number alone, in a few operations. */
int gd_tree_node_count(int64_t first, int64_t end);

/* One addition of a plan: buffer `to` := buffer `to` + buffer `from`; `from` is free afterwards. */
typedef struct gd_tree_add {
  int32_t to, from;
} gd_tree_add;

/* The additions that turn complete nodes (in leaf order, covering [0, leaves) without gaps) into the whole tree, result in
 * buffer 0 (node i is in buffer i). adds has room for count - 1. Returns their number. */
int gd_tree_finish(const gd_tree_node *nodes, int count, gd_tree_add *adds);

/* A binary counter over buffers ("slots"): nodes are pushed in leaf order; equal neighbours merge at once. Holds the slots
 * of the complete nodes seen so far. */
typedef struct gd_tree_counter {
  int32_t count;
  gd_tree_node nodes[GD_TREE_MAX_NODES];
  int32_t slots[GD_TREE_MAX_NODES];
  uint64_t used; /* slots in use */
} gd_tree_counter;

void gd_tree_counter_reset(gd_tree_counter *counter);
/* A free slot to build the next node in; < 64. */
int32_t gd_tree_counter_take(gd_tree_counter *counter);
/* Enters `node`, built in `slot`. Writes the merges to do now (to, from = slots) and returns their number. */
int gd_tree_counter_push(gd_tree_counter *counter, gd_tree_node node, int32_t slot, gd_tree_add adds[GD_TREE_LEVELS]);
/* Slots that pushing all nodes of [first, end) in pieces of `step` leaves needs at most. */
int32_t gd_tree_counter_slots(int64_t first, int64_t end, int64_t step);

#endif
