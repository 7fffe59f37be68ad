/* tree.c - the arithmetic of the summation tree over index ranges; no values are added here. */
#include "shard/tree.h"

/* The largest aligned power-of-two range that starts at `first` and does not pass `end`. */
static int64_t node_length(int64_t first, int64_t end) {
  int64_t length = 1;
  while ((first & (2 * length - 1)) == 0 && first + 2 * length <= end) length *= 2;
  return length;
}

int gd_tree_nodes(int64_t first, int64_t end, gd_tree_node nodes[GD_TREE_MAX_NODES]) {
  int count = 0;
  while (first < end) {
    int64_t length = node_length(first, end);
    nodes[count++] = (gd_tree_node){first, length};
    first += length;
  }
  return count;
}

/* The boundary in the range that divides by the largest power of two: nodes grow up to it and shrink behind it, one a bit of
 * either length. */
int gd_tree_node_count(int64_t first, int64_t end) {
  if (first == end) return 0;
  int level = 63 - __builtin_clzll((uint64_t)(first ^ end));
  int64_t middle = (int64_t)((uint64_t)end >> level << level);
  return __builtin_popcountll((uint64_t)(middle - first)) + __builtin_popcountll((uint64_t)(end - middle));
}

static int siblings(gd_tree_node left, gd_tree_node right) {
  return left.count == right.count && left.first + left.count == right.first && (left.first & (2 * left.count - 1)) == 0;
}

/* Enters a node, built in `buffer`, on a stack of complete ones; siblings merge at once. Writes the merges, returns their
 * number. */
static int push(gd_tree_node *nodes, int32_t *buffers, int32_t *depth, gd_tree_node node, int32_t buffer, gd_tree_add *adds) {
  int added = 0;
  nodes[*depth] = node;
  buffers[(*depth)++] = buffer;
  while (*depth > 1 && siblings(nodes[*depth - 2], nodes[*depth - 1])) {
    adds[added++] = (gd_tree_add){buffers[*depth - 2], buffers[*depth - 1]};
    nodes[*depth - 2].count *= 2;
    --*depth;
  }
  return added;
}

int gd_tree_finish(const gd_tree_node *nodes, int count, gd_tree_add *adds) {
  gd_tree_node stack[GD_TREE_MAX_NODES];
  int32_t buffers[GD_TREE_MAX_NODES], depth = 0;
  int added = 0;
  for (int i = 0; i < count; i++) added += push(stack, buffers, &depth, nodes[i], i, adds + added);
  for (; depth > 1; depth--) adds[added++] = (gd_tree_add){buffers[depth - 2], buffers[depth - 1]}; /* the right spine */
  return added;
}

void gd_tree_counter_reset(gd_tree_counter *counter) {
  counter->count = 0;
  counter->used = 0;
}

int32_t gd_tree_counter_take(gd_tree_counter *counter) {
  int32_t slot = 0;
  while (counter->used >> slot & 1u) slot++;
  counter->used |= (uint64_t)1 << slot;
  return slot;
}

int gd_tree_counter_push(gd_tree_counter *counter, gd_tree_node node, int32_t slot, gd_tree_add adds[GD_TREE_LEVELS]) {
  int added = push(counter->nodes, counter->slots, &counter->count, node, slot, adds);
  for (int i = 0; i < added; i++) counter->used &= ~((uint64_t)1 << adds[i].from);
  return added;
}

int32_t gd_tree_counter_slots(int64_t first, int64_t end, int64_t step) {
  gd_tree_counter counter;
  gd_tree_add adds[GD_TREE_LEVELS];
  gd_tree_node nodes[GD_TREE_MAX_NODES];
  int32_t most = 0;
  gd_tree_counter_reset(&counter);
  for (int64_t at = first; at < end; at += step) {
    int64_t stop = at + step < end ? at + step : end;
    int count = gd_tree_nodes(at, stop, nodes);
    int32_t slots[GD_TREE_MAX_NODES];
    /* A micro-batch builds all its nodes before any is merged. */
    for (int i = 0; i < count; i++) {
      slots[i] = gd_tree_counter_take(&counter);
      if (slots[i] + 1 > most) most = slots[i] + 1;
    }
    for (int i = 0; i < count; i++) gd_tree_counter_push(&counter, nodes[i], slots[i], adds);
  }
  return most;
}
