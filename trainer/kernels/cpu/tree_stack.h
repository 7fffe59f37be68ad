/* tree_stack.h - the canonical summation tree (shard/tree.h) as its leaves come. Complete nodes wait on a stack, their sums in
 * buffers of the same index: vectors here, tiles of memory ("slots") in the product and in attention. Leaves may be absent: the
 * others keep their places, so that a sum over part of the leaves is the node that the whole tree has (adding the absent ones'
 * zeros would change nothing).
 */
#ifndef GD_TRAINER_KERNELS_CPU_TREE_STACK_H
#define GD_TRAINER_KERNELS_CPU_TREE_STACK_H

#include "trainer/kernels/cpu/simd.h"

enum { TREE_STACK_DEPTH = 48 };

typedef struct tree_stack {
  int depth;
  int64_t leaf[TREE_STACK_DEPTH]; /* any leaf of the node */
} tree_stack;

/* Whether the two nodes on top are the halves of one that is complete before leaf `next` (above all that entered) comes; then
 * buffer depth - 1 is added to buffer depth - 2 and the stack is one shorter. Leaf numbers part at a node of the level of the
 * highest bit in which they differ, so a comparison of the differences will do. */
static inline bool tree_closes(const tree_stack *t, int64_t next) {
  if (t->depth < 2) return false;
  int64_t below = t->leaf[t->depth - 2], top = t->leaf[t->depth - 1];
  return __builtin_clzll((uint64_t)(below ^ top)) > __builtin_clzll((uint64_t)(top ^ next));
}

/* Leaves enter ascending, when nothing closes before them, in buffer `depth`. */
static inline void tree_enter(tree_stack *t, int64_t leaf) {
  t->leaf[t->depth++] = leaf;
}

/* The tree over vectors. Start with nodes.depth = 0. */
typedef struct vector_tree {
  tree_stack nodes;
  vf sums[TREE_STACK_DEPTH];
} vector_tree;

static inline void vector_tree_merge(vector_tree *t) {
  int top = --t->nodes.depth;
  t->sums[top - 1] = vf_add(t->sums[top - 1], t->sums[top]);
}

static inline void vector_tree_push(vector_tree *t, int64_t leaf, vf value) {
  while (tree_closes(&t->nodes, leaf)) vector_tree_merge(t);
  t->sums[t->nodes.depth] = value;
  tree_enter(&t->nodes, leaf);
}

/* The whole tree; +0 for no leaves. */
static inline vf vector_tree_root(vector_tree *t) {
  while (t->nodes.depth > 1) vector_tree_merge(t);
  return t->nodes.depth ? t->sums[0] : vf_zero();
}

/* Where all leaves are there, the number of trailing one bits of a leaf's index is the number of merges that it ends: a loop
 * that walks the tree once a vector (tree_sum) is a fifth to a third faster without numbers on the stack. */
static inline void tree_push(vf *stack, int *depth, int64_t leaf, vf value) {
  for (; leaf & 1; leaf >>= 1) value = vf_add(stack[--*depth], value);
  stack[(*depth)++] = value;
}

/* The whole tree; +0 for no leaves. */
static inline vf tree_root(const vf *stack, int depth) {
  if (depth == 0) return vf_zero();
  vf sum = stack[--depth];
  while (depth > 0) sum = vf_add(stack[--depth], sum);
  return sum;
}

#endif
