/* embedding.c - rows of the token table, and their gradient in canonical order: (token, row) pairs are sorted, so that each
 * table row is one run of rows in ascending order, and threads split the table. */
#include "trainer/kernels/cpu/parallel.h"
#include "trainer/kernels/cpu/table.h"
#include "trainer/kernels/cpu/tree_stack.h"

static gd_status embedding_forward_run(const gd_embedding *a, const gd_cpu_context *context) {
#pragma omp parallel num_threads(gd_parallel_threads(context->threads, a->rows * a->width))
  {
    int64_t first, end;
    gd_parallel_range(a->rows, 1, &first, &end);
    for (int64_t row = first; row < end; row++) {
      int64_t block = a->tokens[row] / a->block_rows - a->first_block;
      bool here = a->tokens[row] >= 0 && block >= 0 && block < a->blocks;
      int64_t from = here ? block * a->block_stride + a->tokens[row] % a->block_rows * a->width : 0;
      for (int64_t c = 0; c < a->width; c += VF_LANES) {
        int n = vf_left(c, a->width);
        vf x = here ? vf_add(vf_load_as(a->dtype, a->weight, from + c, n), vf_zero()) : vf_zero();
        vf_store_as(GD_FLOAT32, a->out, row * a->width + c, x, n);
      }
    }
  }
  return GD_OK;
}
GD_CPU_KERNEL(embedding_forward, gd_embedding, args->out, args->rows * args->width * 4)

/* Merges sorted runs of `length` from `from` into runs twice as long in `to`. */
static void merge_runs(const uint64_t *from, uint64_t *to, int64_t count, int64_t length) {
  for (int64_t left = 0; left < count; left += 2 * length) {
    int64_t middle = left + length < count ? left + length : count;
    int64_t end = middle + length < count ? middle + length : count;
    for (int64_t i = left, j = middle, k = left; k < end; k++)
      to[k] = j >= end || (i < middle && from[i] < from[j]) ? from[i++] : from[j++];
  }
}

/* (token - first token here) << 32 | row of the rows whose token lies here, ascending, in *keys. Returns their number. */
static int64_t sorted_rows(const gd_embedding *a, uint64_t *first_buffer, uint64_t *second_buffer, uint64_t **keys) {
  int64_t count = 0, base = a->first_block * a->block_rows, here = a->blocks * a->block_rows;
  for (int64_t row = 0; row < a->rows; row++) {
    int64_t token = a->tokens[row] - base;
    if (token >= 0 && token < here) first_buffer[count++] = (uint64_t)token << 32 | (uint64_t)row;
  }
  uint64_t *from = first_buffer, *to = second_buffer;
  for (int64_t length = 1; length < count; length *= 2) {
    merge_runs(from, to, count, length);
    uint64_t *swap = from;
    from = to;
    to = swap;
  }
  *keys = from;
  return count;
}

/* One table row from its `count` rows of dx. */
static void gradient_row(const gd_embedding *a, float *gradient, const uint64_t *keys, int64_t count) {
  for (int64_t c = 0; c < a->width; c += VF_LANES) {
    int n = vf_left(c, a->width);
    vf chain = vf_zero();
    int64_t leaf = -1;
    vector_tree tree;
    tree.nodes.depth = 0;
    for (int64_t i = 0; i < count; i++) {
      int64_t row = (int64_t)(keys[i] & 0xffffffffu);
      if (row / a->leaf_rows != leaf) {
        if (leaf >= 0) vector_tree_push(&tree, leaf, chain);
        chain = vf_zero();
        leaf = row / a->leaf_rows;
      }
      chain = vf_add(chain, vf_load_as(a->dtype, a->dx, row * a->width + c, n));
    }
    if (count > 0) vector_tree_push(&tree, leaf, chain);
    vf sum = vector_tree_root(&tree);
    if (a->accumulate) sum = vf_add(vf_load_as(GD_FLOAT32, gradient, c, n), sum);
    vf_store_as(GD_FLOAT32, gradient, c, sum, n);
  }
}

static gd_status embedding_backward_run(const gd_embedding *a, const gd_cpu_context *context) {
  /* The first thread's scratch holds both buffers of the sort. */
  int64_t capacity = GD_CPU_SCRATCH_BYTES / 2 / (int64_t)sizeof(uint64_t);
  if (a->rows > capacity)
    return gd_fail(GD_USAGE, "a micro-batch of %lld tokens is too long for the embedding (most: %lld)", (long long)a->rows,
                   (long long)capacity);
  uint64_t *buffer = gd_cpu_scratch(context, 0), *keys;
  int64_t count = sorted_rows(a, buffer, buffer + capacity, &keys);
  int64_t table_rows = a->blocks * a->block_rows;
#pragma omp parallel num_threads(gd_parallel_threads(context->threads, table_rows * a->width))
  {
    int64_t first, end, at = 0;
    gd_parallel_range(table_rows, 1, &first, &end);
    for (int64_t high = count; at < high;) { /* the first key of this thread */
      int64_t middle = (at + high) / 2;
      if ((int64_t)(keys[middle] >> 32) < first) {
        at = middle + 1;
      } else {
        high = middle;
      }
    }
    for (int64_t row = first; row < end; row++) {
      int64_t stop = at;
      while (stop < count && (int64_t)(keys[stop] >> 32) == row) stop++;
      if (stop == at && a->accumulate) continue;
      gradient_row(a, a->gradient + row / a->block_rows * a->block_stride + row % a->block_rows * a->width, keys + at,
                   stop - at);
      at = stop;
    }
  }
  return GD_OK;
}
GD_CPU_KERNEL(embedding_backward, gd_embedding, NULL, 0)
