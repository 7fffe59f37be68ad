/* tree_stack.h - the canonical summation tree (shard/tree.h) over vectors, on a small stack: leaves enter in index order, equal
 * neighbours merge at once, and the right spine is added at the end. */
#ifndef GD_TRAINER_KERNELS_CPU_TREE_STACK_H
#define GD_TRAINER_KERNELS_CPU_TREE_STACK_H

#include "trainer/kernels/cpu/simd.h"

enum { TREE_STACK_DEPTH = 48 };

/* Enters leaf number `leaf`; the first one is 0. The number of trailing one bits of the index is the number of merges. */
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

/* The same tree where only some leaves are there: absent ones are skipped, the others keep their places, so that a sum over
 * part of the leaves is the node that the whole tree has (adding the absent ones' zeros would change nothing). */
typedef struct present_stack {
  int depth;
  int64_t leaf[TREE_STACK_DEPTH]; /* any leaf of the node */
  vf value[TREE_STACK_DEPTH];
} present_stack;

/* Leaves enter ascending. Nodes that meet below the level where the new leaf joins them are complete: a level is the highest
 * bit in which two leaf numbers differ, so a comparison of the differences will do. */
static inline void present_push(present_stack *s, int64_t leaf, vf value) {
  while (s->depth > 1) {
    uint64_t inside = (uint64_t)(s->leaf[s->depth - 2] ^ s->leaf[s->depth - 1]),
             outside = (uint64_t)(s->leaf[s->depth - 1] ^ leaf);
    if (__builtin_clzll(inside) <= __builtin_clzll(outside)) break;
    s->value[s->depth - 2] = vf_add(s->value[s->depth - 2], s->value[s->depth - 1]);
    s->depth--;
  }
  s->leaf[s->depth] = leaf;
  s->value[s->depth++] = value;
}

/* Needs at least one leaf. */
static inline vf present_root(const present_stack *s) {
  vf sum = s->value[s->depth - 1];
  for (int i = s->depth - 2; i >= 0; i--) sum = vf_add(s->value[i], sum);
  return sum;
}

#endif
