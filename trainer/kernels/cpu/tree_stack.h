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

#endif
