/* sums.c - sums in canonical order (tree_sum, column_sums) and the plain element-wise convert and add. */
#include "trainer/kernels/cpu/parallel.h"
#include "trainer/kernels/cpu/table.h"
#include "trainer/kernels/cpu/tree_stack.h"

/* Elements [first, end) of out. */
static void tree_sum_range(const gd_tree_sum *a, int64_t first, int64_t end) {
  vf stack[TREE_STACK_DEPTH];
  for (int64_t i = first; i < end; i += VF_LANES) {
    int n = vf_left(i, end), depth = 0;
    for (int64_t leaf = 0; leaf < a->leaves; leaf++)
      tree_push(stack, &depth, leaf, vf_load_as(a->dtype, a->in, leaf * a->leaf_stride + i, n));
    vf sum = tree_root(stack, depth);
    if (a->accumulate) sum = vf_add(vf_load_as(GD_FLOAT32, a->out, i, n), sum);
    vf_store_as(GD_FLOAT32, a->out, i, sum, n);
  }
}

static gd_status tree_sum_run(const gd_tree_sum *a, const gd_cpu_context *context) {
#pragma omp parallel num_threads(gd_parallel_threads(context->threads, a->leaves * a->elements))
  {
    int64_t first, end;
    gd_parallel_range(a->elements, GD_UNIT_ELEMS, &first, &end);
    tree_sum_range(a, first, end);
  }
  return GD_OK;
}
GD_CPU_KERNEL(tree_sum, gd_tree_sum, NULL, 0) /* out may be a leaf of in */

/* Columns [from, to) of a leaf: a chain down its rows, GD_ROWS_TOGETHER of them at a time, so that rows are read along memory.
 */
static void column_sums_leaf(const gd_column_sums *a, int64_t leaf, int64_t from, int64_t to) {
  int64_t begin = leaf * a->leaf_rows, end = GD_LEAF_END(leaf, a->leaf_rows, a->rows), ahead = GD_ROWS_TOGETHER * a->ld;
  int64_t bytes = (int64_t)gd_dtype_bytes(a->dtype);
  for (int64_t first = begin; first < end; first += GD_ROWS_TOGETHER) {
    int64_t rows = end - first < GD_ROWS_TOGETHER ? end - first : GD_ROWS_TOGETHER;
    for (int64_t c = from; c < to; c += VF_LANES) {
      int n = vf_left(c, to);
      vf sum = first == begin ? vf_zero() : vf_load_as(GD_FLOAT32, a->leaves, leaf * a->width + c, n);
      for (int64_t row = first; row < first + rows; row++) {
        __builtin_prefetch((const char *)a->x + (row * a->ld + c + ahead) * bytes);
        sum = vf_add(sum, vf_load_as(a->dtype, a->x, row * a->ld + c, n));
      }
      vf_store_as(GD_FLOAT32, a->leaves, leaf * a->width + c, sum, n);
    }
  }
}

static gd_status column_sums_run(const gd_column_sums *a, const gd_cpu_context *context) {
  int64_t leaves = GD_LEAVES(a->rows, a->leaf_rows), chunks = (a->width + GD_COLUMNS_TOGETHER - 1) / GD_COLUMNS_TOGETHER;
#pragma omp parallel num_threads(gd_parallel_threads(context->threads, a->rows * a->width))
  {
    int64_t first, end;
    gd_parallel_range(leaves * chunks, 1, &first, &end);
    for (int64_t item = first; item < end; item++) {
      int64_t from = item % chunks * GD_COLUMNS_TOGETHER, to = from + GD_COLUMNS_TOGETHER;
      column_sums_leaf(a, item / chunks, from, to < a->width ? to : a->width);
    }
  }
  return GD_OK;
}
GD_CPU_KERNEL(column_sums, gd_column_sums, args->leaves, GD_LEAVES(args->rows, args->leaf_rows) * args->width * 4)

typedef struct convert_args {
  gd_dtype to_dtype, from_dtype;
  void *to;
  const void *from;
  int64_t elements;
} convert_args;

static gd_status convert_flat_run(const convert_args *a, const gd_cpu_context *context) {
#pragma omp parallel num_threads(gd_parallel_threads(context->threads, a->elements))
  {
    int64_t first, end;
    gd_parallel_range(a->elements, GD_UNIT_ELEMS, &first, &end);
    for (int64_t i = first; i < end; i += VF_LANES) {
      int n = vf_left(i, end);
      vf_store_as(a->to_dtype, a->to, i, vf_load_as(a->from_dtype, a->from, i, n), n);
    }
  }
  return GD_OK;
}

static gd_status add_flat_run(const convert_args *a, const gd_cpu_context *context) {
  float *y = a->to;
  const float *x = a->from;
#pragma omp parallel num_threads(gd_parallel_threads(context->threads, a->elements))
  {
    int64_t first, end;
    gd_parallel_range(a->elements, GD_UNIT_ELEMS, &first, &end);
    for (int64_t i = first; i < end; i += VF_LANES) {
      int n = vf_left(i, end);
      vf sum = vf_add(vf_load_as(GD_FLOAT32, y, i, n), vf_load_as(GD_FLOAT32, x, i, n));
      vf_store_as(GD_FLOAT32, y, i, sum, n);
    }
  }
  return GD_OK;
}

/* These two slots take plain arguments; the kernels behind them take a struct. */
gd_status GD_CPU(convert_flat)(gd_kernels *kernels, const convert_args *args);
gd_status GD_CPU(add_flat)(gd_kernels *kernels, const convert_args *args);
GD_CPU_KERNEL(convert_flat, convert_args, args->to, (size_t)args->elements *gd_dtype_bytes(args->to_dtype))
GD_CPU_KERNEL(add_flat, convert_args, NULL, 0)

gd_status GD_CPU(convert)(gd_kernels *kernels, gd_dtype to_dtype, void *to, gd_dtype from_dtype, const void *from,
                          int64_t elements) {
  return GD_CPU(convert_flat)(kernels, &(convert_args){to_dtype, from_dtype, to, from, elements});
}

gd_status GD_CPU(add)(gd_kernels *kernels, float *y, const float *x, int64_t elements) {
  return GD_CPU(add_flat)(kernels, &(convert_args){GD_FLOAT32, GD_FLOAT32, y, x, elements});
}
