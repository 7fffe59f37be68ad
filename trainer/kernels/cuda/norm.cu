/* norm.cu - layer and root-mean-square normalisation: a warp a row; gradients of weight and bias a thread a column. */
#include "trainer/kernels/cuda/common.cuh"

template <typename T>
static __global__ void forward_rows(gd_norm_args a) {
  int64_t row = warp_row();
  if (row >= a.rows) return;
  const T *x = (const T *)a.x + row * a.width, *weight = (const T *)a.weight, *bias = (const T *)a.bias;
  T *y = (T *)a.y + row * a.width;
  float mean = 0.0f;
  if (a.kind == GD_NORM_LAYERNORM) {
    quad sum = {};
    for (int64_t c = row_start(); c < a.width; c += ROW_LANES) {
      quad q = load_quad(x, c, a.width);
      for (int i = 0; i < 4; i++) sum.x[i] += q.x[i];
    }
    mean = row_total(sum) / (float)a.width;
  }
  quad squares = {};
  for (int64_t c = row_start(); c < a.width; c += ROW_LANES) {
    quad q = load_quad(x, c, a.width);
    for (int i = 0; i < 4; i++) {
      float d = c + i < a.width ? q.x[i] - mean : 0.0f;
      squares.x[i] = fmaf(d, d, squares.x[i]);
    }
  }
  float rstd = 1.0f / sqrtf(row_total(squares) / (float)a.width + a.epsilon);
  if (row_start() == 0) {
    if (a.mean) a.mean[row] = mean;
    a.rstd[row] = rstd;
  }
  for (int64_t c = row_start(); c < a.width; c += ROW_LANES) {
    quad q = load_quad(x, c, a.width), w = load_quad(weight, c, a.width), shift = {};
    if (bias) shift = load_quad(bias, c, a.width);
    for (int i = 0; i < 4; i++) {
      float normal = (q.x[i] - mean) * rstd;
      q.x[i] = bias ? fmaf(normal, w.x[i], shift.x[i]) : normal * w.x[i];
    }
    store_quad(y, c, a.width, q);
  }
}

/* dx = rstd (g - mean(g) - xhat mean(g xhat)) + dresidual, g = dy weight; rms: without mean(g). dx may be dy or dresidual: a
 * thread writes the elements that it alone reads. */
template <typename T>
static __global__ void backward_rows(gd_norm_args a) {
  int64_t row = warp_row(), at = row * a.width;
  if (row >= a.rows) return;
  const T *x = (const T *)a.x + at, *weight = (const T *)a.weight, *dy = (const T *)a.dy + at;
  const T *dresidual = a.dresidual ? (const T *)a.dresidual + at : NULL;
  T *dx = (T *)a.dx + at;
  float mean = a.mean ? a.mean[row] : 0.0f, rstd = a.rstd[row];
  quad sum = {}, product = {};
  for (int64_t c = row_start(); c < a.width; c += ROW_LANES) {
    quad q = load_quad(x, c, a.width), w = load_quad(weight, c, a.width), d = load_quad(dy, c, a.width);
    for (int i = 0; i < 4; i++) {
      float g = d.x[i] * w.x[i]; /* +0 past the end */
      sum.x[i] += g;
      product.x[i] = fmaf(g, c + i < a.width ? (q.x[i] - mean) * rstd : 0.0f, product.x[i]);
    }
  }
  float g_mean = a.kind == GD_NORM_LAYERNORM ? row_total(sum) / (float)a.width : 0.0f;
  float gx_mean = row_total(product) / (float)a.width;
  for (int64_t c = row_start(); c < a.width; c += ROW_LANES) {
    quad q = load_quad(x, c, a.width), w = load_quad(weight, c, a.width), d = load_quad(dy, c, a.width), rest = {};
    if (dresidual) rest = load_quad(dresidual, c, a.width);
    for (int i = 0; i < 4; i++) {
      float g = d.x[i] * w.x[i], normal = (q.x[i] - mean) * rstd;
      q.x[i] = rstd * fmaf(-normal, gx_mean, g - g_mean);
      if (dresidual) q.x[i] += rest.x[i];
    }
    store_quad(dx, c, a.width, q);
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
  int64_t blocks = row_blocks(args->rows);
  GD_TRY(check_grid("norm_forward", blocks));
  cudaStream_t stream = enter(kernels);
  WITH_STORED(args->dtype, "norm_forward", forward_rows<T><<<(unsigned)blocks, FLAT_THREADS, 0, stream>>>(*args));
  return launched("norm_forward");
}

gd_status gd_cuda_norm_backward(gd_kernels *kernels, const gd_norm_args *args) {
  if (args->rows == 0) return GD_OK;
  cudaStream_t stream = enter(kernels);
  int64_t leaves = args->dweight_leaves ? GD_LEAVES(args->rows, args->leaf_rows) : 0;
  dim3 grid((unsigned)blocks_of(args->width, FLAT_THREADS), (unsigned)leaves);
  int64_t blocks = row_blocks(args->rows);
  GD_TRY(check_grid("norm_backward", blocks, leaves));
  /* First: dx may be the memory of dy. */
  if (leaves > 0) WITH_STORED(args->dtype, "norm_backward", backward_leaves<T><<<grid, FLAT_THREADS, 0, stream>>>(*args));
  GD_TRY(launched("norm_backward"));
  WITH_STORED(args->dtype, "norm_backward", backward_rows<T><<<(unsigned)blocks, FLAT_THREADS, 0, stream>>>(*args));
  return launched("norm_backward");
}
