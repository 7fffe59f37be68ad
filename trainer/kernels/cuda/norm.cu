/* norm.cu - layer and root-mean-square normalisation: a block of threads a row; gradients of weight and bias a thread a column.
 */
#include "trainer/kernels/cuda/common.cuh"

template <typename T>
static __global__ void forward_rows(gd_norm_args a) {
  __shared__ float shared[ROW_THREADS / WARP];
  const T *x = (const T *)a.x + (int64_t)blockIdx.x * a.width, *weight = (const T *)a.weight, *bias = (const T *)a.bias;
  T *y = (T *)a.y + (int64_t)blockIdx.x * a.width;
  float mean = 0.0f, sum = 0.0f;
  if (a.kind == GD_NORM_LAYERNORM) {
    for (int64_t c = threadIdx.x; c < a.width; c += ROW_THREADS) sum += load(x, c);
    mean = row_sum(sum, shared) / (float)a.width;
  }
  sum = 0.0f;
  for (int64_t c = threadIdx.x; c < a.width; c += ROW_THREADS) {
    float d = load(x, c) - mean;
    sum = fmaf(d, d, sum);
  }
  float rstd = 1.0f / sqrtf(row_sum(sum, shared) / (float)a.width + a.epsilon);
  if (threadIdx.x == 0) {
    if (a.mean) a.mean[blockIdx.x] = mean;
    a.rstd[blockIdx.x] = rstd;
  }
  for (int64_t c = threadIdx.x; c < a.width; c += ROW_THREADS) {
    float normal = (load(x, c) - mean) * rstd, w = load(weight, c);
    store(y, c, bias ? fmaf(normal, w, load(bias, c)) : normal * w);
  }
}

/* dx = rstd (g - mean(g) - xhat mean(g xhat)) + dresidual, g = dy weight; rms: without mean(g). dx may be dy or dresidual: a
 * thread writes the elements that it alone reads. */
template <typename T>
static __global__ void backward_rows(gd_norm_args a) {
  __shared__ float shared[ROW_THREADS / WARP];
  int64_t at = (int64_t)blockIdx.x * a.width;
  const T *x = (const T *)a.x + at, *weight = (const T *)a.weight, *dy = (const T *)a.dy + at;
  const T *dresidual = a.dresidual ? (const T *)a.dresidual + at : NULL;
  T *dx = (T *)a.dx + at;
  float mean = a.mean ? a.mean[blockIdx.x] : 0.0f, rstd = a.rstd[blockIdx.x], sum = 0.0f, product = 0.0f;
  for (int64_t c = threadIdx.x; c < a.width; c += ROW_THREADS) {
    float g = load(dy, c) * load(weight, c);
    sum += g;
    product = fmaf(g, (load(x, c) - mean) * rstd, product);
  }
  float g_mean = a.kind == GD_NORM_LAYERNORM ? row_sum(sum, shared) / (float)a.width : 0.0f;
  float gx_mean = row_sum(product, shared) / (float)a.width;
  for (int64_t c = threadIdx.x; c < a.width; c += ROW_THREADS) {
    float g = load(dy, c) * load(weight, c), normal = (load(x, c) - mean) * rstd;
    float d = rstd * fmaf(-normal, gx_mean, g - g_mean);
    if (dresidual) d += load(dresidual, c);
    store(dx, c, d);
  }
}

/* Leaf blockIdx.y of dweight and dbias: chains over its rows. */
template <typename T>
static __global__ void backward_leaves(gd_norm_args a) {
  int64_t c = flat_index(), leaf = blockIdx.y;
  if (c >= a.width) return;
  const T *x = (const T *)a.x, *dy = (const T *)a.dy;
  float dweight = 0.0f, dbias = 0.0f;
  int64_t end = GD_LEAF_END(leaf, a.leaf_rows, a.rows);
  for (int64_t row = leaf * a.leaf_rows; row < end; row++) {
    float d = load(dy, row * a.width + c);
    float normal = (load(x, row * a.width + c) - (a.mean ? a.mean[row] : 0.0f)) * a.rstd[row];
    dweight = fmaf(d, normal, dweight);
    dbias += d;
  }
  a.dweight_leaves[leaf * a.width + c] = dweight;
  if (a.dbias_leaves) a.dbias_leaves[leaf * a.width + c] = dbias;
}

gd_status gd_cuda_norm_forward(gd_kernels *kernels, const gd_norm_args *args) {
  if (args->rows == 0) return GD_OK;
  GD_TRY(check_grid("norm_forward", args->rows));
  cudaStream_t stream = enter(kernels);
  WITH_STORED(args->dtype, "norm_forward", forward_rows<T><<<(unsigned)args->rows, ROW_THREADS, 0, stream>>>(*args));
  return launched("norm_forward");
}

gd_status gd_cuda_norm_backward(gd_kernels *kernels, const gd_norm_args *args) {
  if (args->rows == 0) return GD_OK;
  cudaStream_t stream = enter(kernels);
  int64_t leaves = args->dweight_leaves ? GD_LEAVES(args->rows, args->leaf_rows) : 0;
  dim3 grid((unsigned)blocks_of(args->width, FLAT_THREADS), (unsigned)leaves);
  GD_TRY(check_grid("norm_backward", args->rows, leaves));
  /* First: dx may be the memory of dy. */
  if (leaves > 0) WITH_STORED(args->dtype, "norm_backward", backward_leaves<T><<<grid, FLAT_THREADS, 0, stream>>>(*args));
  GD_TRY(launched("norm_backward"));
  WITH_STORED(args->dtype, "norm_backward", backward_rows<T><<<(unsigned)args->rows, ROW_THREADS, 0, stream>>>(*args));
  return launched("norm_backward");
}
