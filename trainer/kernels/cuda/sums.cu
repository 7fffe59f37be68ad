/* sums.cu - sums in canonical order, a thread an element. */
#include "trainer/kernels/cuda/common.cuh"

template <typename T>
static __global__ void tree_sums(gd_tree_sum a) {
  int64_t i = flat_index();
  if (i >= a.elements) return;
  const T *in = (const T *)a.in;
  float stack[TREE_DEPTH];
  int depth = 0;
  for (int64_t leaf = 0; leaf < a.leaves; leaf++) tree_push(stack, &depth, leaf, load(in, leaf * a.leaf_stride + i));
  float sum = tree_root(stack, depth);
  a.out[i] = a.accumulate ? a.out[i] + sum : sum;
}

/* Leaf blockIdx.y: a chain over its rows. */
template <typename T>
static __global__ void sum_columns(gd_column_sums a) {
  int64_t c = flat_index(), leaf = blockIdx.y;
  if (c >= a.width) return;
  const T *x = (const T *)a.x;
  float sum = 0.0f;
  int64_t end = GD_LEAF_END(leaf, a.leaf_rows, a.rows);
  for (int64_t row = leaf * a.leaf_rows; row < end; row++) sum += load(x, row * a.ld + c);
  a.leaves[leaf * a.width + c] = sum;
}

static __global__ void add_flat(float *to, const float *from, int64_t elements) {
  int64_t i = flat_index();
  if (i < elements) to[i] = to[i] + from[i];
}

gd_status gd_cuda_tree_sum(gd_kernels *kernels, const gd_tree_sum *args) {
  if (args->elements == 0) return GD_OK;
  int64_t blocks = blocks_of(args->elements, FLAT_THREADS);
  GD_TRY(check_grid("tree_sum", blocks));
  cudaStream_t stream = enter(kernels);
  WITH_STORED(args->dtype, "tree_sum", tree_sums<T><<<(unsigned)blocks, FLAT_THREADS, 0, stream>>>(*args));
  return launched("tree_sum");
}

gd_status gd_cuda_column_sums(gd_kernels *kernels, const gd_column_sums *args) {
  int64_t leaves = GD_LEAVES(args->rows, args->leaf_rows);
  if (leaves == 0 || args->width == 0) return GD_OK;
  dim3 grid((unsigned)blocks_of(args->width, FLAT_THREADS), (unsigned)leaves);
  GD_TRY(check_grid("column_sums", 1, leaves));
  cudaStream_t stream = enter(kernels);
  WITH_STORED(args->dtype, "column_sums", sum_columns<T><<<grid, FLAT_THREADS, 0, stream>>>(*args));
  return launched("column_sums");
}

gd_status gd_cuda_add(gd_kernels *kernels, float *y, const float *x, int64_t elements) {
  if (elements == 0) return GD_OK;
  int64_t blocks = blocks_of(elements, FLAT_THREADS);
  GD_TRY(check_grid("add", blocks));
  add_flat<<<(unsigned)blocks, FLAT_THREADS, 0, enter(kernels)>>>(y, x, elements);
  return launched("add");
}
