/* attention_backward.cuh - what the backward attention kernels share: a weight and its gradient, the leaves of dk and dv and
 * the tree over them, whose nodes wait in scratch memory. */
#ifndef GD_TRAINER_KERNELS_CUDA_ATTENTION_BACKWARD_CUH
#define GD_TRAINER_KERNELS_CUDA_ATTENTION_BACKWARD_CUH

#include "trainer/kernels/cuda/attention.cuh"

/* ---- weights and their gradients ---- */

/* A row of a tile and what forward left of it. */
typedef struct backward_row {
  row_view view;
  float lse, delta;
} backward_row;

__device__ __forceinline__ backward_row row_of(const gd_attention &a, int64_t sequence, int64_t query, int64_t head,
                                               bool there) {
  backward_row row = {{0, -1, 0, 0}, 0.0f, 0.0f};
  if (!there || query >= a.query_length) return row;
  int64_t at = (sequence * a.heads + head) * a.query_length + query;
  row.view = view_of(a, sequence, query, head);
  row.lse = a.lse[at];
  row.delta = a.delta[at];
  return row;
}

/* score: q k -> P after dropout; dscore: dP -> dS = P (dP - delta), of one row and key. */
__device__ __forceinline__ void gradients_of(const gd_attention &a, const weight_dropout &dropout, const backward_row &row,
                                             int32_t key, float *score, float *dscore) {
  if (!sees(row.view, key)) {
    *score = *dscore = 0.0f;
    return;
  }
  float weight = vf_exp(vf_sub(vf_mul(*score, a.scale), row.lse)), used = weight, dweight = *dscore;
  if (a.dropout > 0.0f) {
    float factor = dropout_factor(a, dropout, row.view.random + key);
    used = vf_mul(weight, factor);
    dweight = vf_mul(dweight, factor);
  }
  *score = used;
  *dscore = vf_mul(weight, vf_sub(dweight, row.delta));
}

/* ---- leaves of dk and dv ---- */

/* Numbers of leaves: time block, query block in it and head of the group as the digits of one number, each with room up to a
 * power of two, so that one tree over them is the three nested ones. */
typedef struct leaf_numbers {
  int64_t time_block, query_block; /* rows */
  int64_t blocks, heads;           /* room for them */
} leaf_numbers;

static inline int64_t power_of_two_from(int64_t n) {
  int64_t power = 1;
  while (power < n) power *= 2;
  return power;
}

static inline leaf_numbers leaf_numbers_of(const gd_attention *a) {
  leaf_numbers n = {a->time_block > 0 ? a->time_block : INT32_MAX, 0, 0, 0};
  n.query_block = a->query_block > 0 && a->query_block < n.time_block ? a->query_block : n.time_block;
  n.blocks = power_of_two_from((n.time_block + n.query_block - 1) / n.query_block);
  n.heads = power_of_two_from(a->heads / a->kv_heads);
  return n;
}

/* The leaf of a position, for the first head of the group. */
__host__ __device__ __forceinline__ int64_t leaf_number(const leaf_numbers &n, int64_t position) {
  return (position / n.time_block * n.blocks + position % n.time_block / n.query_block) * n.heads;
}

/* The end of the rows that are one leaf with row `query`. */
__device__ __forceinline__ int64_t leaf_end(const gd_attention &a, const leaf_numbers &n, int64_t query) {
  int64_t leaf = leaf_number(n, query_position(a, query)), end = query + 1;
  if (!a.positions) {
    int64_t inside = query_position(a, query) % n.time_block, left = n.query_block - inside % n.query_block;
    end = query + (left < n.time_block - inside ? left : n.time_block - inside);
  }
  while (a.positions && end < a.query_length && leaf_number(n, query_position(a, end)) == leaf) end++;
  return end < a.query_length ? end : a.query_length;
}

/* The nodes that wait, each SUMS numbers of every thread: those of node i in slot i. */
template <int SUMS, int THREADS>
struct node_stack {
  enum { BYTES = SUMS * THREADS * (int)sizeof(float) }; /* of a slot */
  float *memory;                                        /* [slots][SUMS][THREADS] */
  int depth;
  int64_t leaf[TREE_DEPTH]; /* any leaf of the node */

  __device__ __forceinline__ float *at(int slot, int sum) const {
    return memory + ((int64_t)slot * SUMS + sum) * THREADS + threadIdx.x;
  }
  __device__ __forceinline__ void merge() {
    depth--;
    for (int i = 0; i < SUMS; i++) *at(depth - 1, i) = *at(depth - 1, i) + *at(depth, i);
  }
  /* Leaf `next` is above all that entered; dk and dv: SUMS / 2 numbers each. */
  __device__ __forceinline__ void enter(int64_t next, const float *dk, const float *dv) {
    while (depth > 1 && (leaf[depth - 2] ^ leaf[depth - 1]) < (leaf[depth - 1] ^ next)) merge();
#pragma unroll
    for (int i = 0; i < SUMS / 2; i++) {
      *at(depth, i) = dk[i];
      *at(depth, SUMS / 2 + i) = dv[i];
    }
    leaf[depth++] = next;
  }
};

/* Item blockIdx.x + first: (sequence, key/value head, key tile, part of the head's columns). */
typedef struct key_items {
  int64_t first, tiles, parts;
  int64_t slots;  /* nodes a block may keep */
  float *scratch; /* a stack a block of the launch */
} key_items;

/* Nodes that a tree over the rows' leaves holds at most: one a level, and one to build in. */
static inline int64_t slots_needed(const gd_attention *a, const leaf_numbers *n) {
  int64_t slots = 3,
          last = leaf_number(*n, a->positions ? INT32_MAX : (int64_t)a->query_start + a->query_length - 1) + n->heads - 1;
  for (; last > 0; last /= 2) slots++;
  return slots < TREE_DEPTH ? slots : (int64_t)TREE_DEPTH;
}

/* launch(items, blocks) for as many of `count` items at a time as have room for their nodes of `bytes` each. */
template <typename F>
static inline gd_status for_key_items(key_items items, int64_t count, int64_t bytes, const gd_cuda_state *state, F launch) {
  int64_t at_once = (int64_t)state->scratch_bytes / (items.slots * bytes);
  if (at_once < 1) return gd_fail(GD_BUG, "attention: %lld nodes of a tree do not fit scratch memory", (long long)items.slots);
  for (; items.first < count; items.first += at_once) {
    GD_TRY(launch(items, (unsigned)(count - items.first < at_once ? count - items.first : at_once)));
  }
  return GD_OK;
}

#endif
