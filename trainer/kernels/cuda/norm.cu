/* norm.cu - layer and root-mean-square normalisation: a warp a row; backward, with leaves of weight and bias, a block a leaf,
 * whose warps take a row each and then all columns of these rows together, while they are in the cache. */
#include "trainer/kernels/cuda/norm.cuh"

template <typename T>
static __global__ void forward_rows(gd_norm_args a) {
  int64_t row = warp_row();
  if (row < a.rows) normalise_row<T>(a, row);
}

/* What a row's gradient takes of the whole row. */
typedef struct row_means {
  float mean, rstd, g, gx;
} row_means;

template <typename T>
__device__ __forceinline__ row_means means_of_row(const gd_norm_args &a, int64_t row) {
  const T *x = (const T *)a.x + row * a.width, *weight = (const T *)a.weight, *dy = (const T *)a.dy + row * a.width;
  row_means m = {a.mean ? a.mean[row] : 0.0f, a.rstd[row], 0.0f, 0.0f};
  quad sum = {}, product = {};
  for (int64_t c = row_start(); c < a.width; c += ROW_LANES) {
    quad q = load_quad(x, c, a.width), w = load_quad(weight, c, a.width), d = load_quad(dy, c, a.width);
    for (int i = 0; i < 4; i++) {
      float g = d.x[i] * w.x[i]; /* +0 past the end */
      sum.x[i] += g;
      product.x[i] = fmaf(g, c + i < a.width ? (q.x[i] - m.mean) * m.rstd : 0.0f, product.x[i]);
    }
  }
  if (a.kind == GD_NORM_LAYERNORM) m.g = row_total(sum) / (float)a.width;
  m.gx = row_total(product) / (float)a.width;
  return m;
}

/* Four columns of a row of dx; dx may be dy or dresidual: a thread writes the elements that it alone reads. */
template <typename T>
__device__ __forceinline__ void input_gradient(const gd_norm_args &a, const row_means &m, int64_t row, int64_t c, const quad &d,
                                               const quad &normal) {
  quad w = load_quad((const T *)a.weight, c, a.width), rest = {}, out;
  if (a.dresidual) rest = load_quad((const T *)a.dresidual + row * a.width, c, a.width);
  for (int i = 0; i < 4; i++) {
    float g = d.x[i] * w.x[i];
    out.x[i] = m.rstd * fmaf(-normal.x[i], m.gx, g - m.g);
    if (a.dresidual) out.x[i] += rest.x[i];
  }
  store_quad((T *)a.dx + row * a.width, c, a.width, out);
}

/* dx = rstd (g - mean(g) - xhat mean(g xhat)) + dresidual, g = dy weight; rms: without mean(g). */
template <typename T>
static __global__ void backward_rows(gd_norm_args a) {
  int64_t row = warp_row(), at = row * a.width;
  if (row >= a.rows) return;
  row_means m = means_of_row<T>(a, row);
  for (int64_t c = row_start(); c < a.width; c += ROW_LANES) {
    quad d = load_quad((const T *)a.dy + at, c, a.width), normal = load_quad((const T *)a.x + at, c, a.width);
    for (int i = 0; i < 4; i++) normal.x[i] = (normal.x[i] - m.mean) * m.rstd;
    input_gradient<T>(a, m, row, c, d, normal);
  }
}

/* Leaf blockIdx.y of dweight and dbias alone: chains over its rows. */
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

enum { LEAF_THREADS = 512, LEAF_ROWS = LEAF_THREADS / WARP /* that a block has at a time */ };

/* Leaf blockIdx.x: dx of its rows, and the chains of dweight and dbias over them, which wait in shared memory. */
template <typename T>
static __global__ void __launch_bounds__(LEAF_THREADS) backward_leaf(gd_norm_args a) {
  extern __shared__ float4 memory[]; /* float [2][columns, a multiple of 4] */
  __shared__ row_means means[LEAF_ROWS];
  int64_t leaf = blockIdx.x, end = GD_LEAF_END(leaf, a.leaf_rows, a.rows), columns = (a.width + 3) / 4 * 4;
  float *chains = (float *)memory;
  int warp = threadIdx.x / WARP;
  for (int64_t c = threadIdx.x; c < 2 * columns; c += LEAF_THREADS) chains[c] = 0.0f;
  for (int64_t first = leaf * a.leaf_rows; first < end; first += LEAF_ROWS) {
    int64_t rows = end - first < LEAF_ROWS ? end - first : LEAF_ROWS;
    __syncthreads(); /* what is written below was read above */
    if (warp < rows) {
      row_means m = means_of_row<T>(a, first + warp);
      if (row_start() == 0) means[warp] = m;
    }
    __syncthreads();
    for (int64_t c = 4 * (int64_t)threadIdx.x; c < a.width; c += 4 * LEAF_THREADS) {
      quad dweight = load_aligned(chains + c), dbias = load_aligned(chains + columns + c);
      for (int64_t r = 0; r < rows; r++) {
        row_means m = means[r];
        int64_t at = (first + r) * a.width;
        quad d = load_quad((const T *)a.dy + at, c, a.width), normal = load_quad((const T *)a.x + at, c, a.width);
        for (int i = 0; i < 4; i++) {
          normal.x[i] = (normal.x[i] - m.mean) * m.rstd;
          dweight.x[i] = fmaf(d.x[i], normal.x[i], dweight.x[i]);
          dbias.x[i] += d.x[i];
        }
        input_gradient<T>(a, m, first + r, c, d, normal);
      }
      store_aligned(chains + c, dweight);
      store_aligned(chains + columns + c, dbias);
    }
  }
  for (int64_t c = 4 * (int64_t)threadIdx.x; c < a.width; c += 4 * LEAF_THREADS) {
    store_quad(a.dweight_leaves + leaf * a.width, c, a.width, load_aligned(chains + c));
    if (a.dbias_leaves) store_quad(a.dbias_leaves + leaf * a.width, c, a.width, load_aligned(chains + columns + c));
  }
}

gd_status gd_cuda_norm_forward(gd_kernels *kernels, const gd_norm_args *args) {
  if (args->rows == 0) return GD_OK;
  int64_t blocks = row_blocks(args->rows);
  GD_TRY(check_grid("norm_forward", blocks));
  cudaStream_t stream = enter(kernels);
  WITH_STORED(args->dtype, "norm_forward", forward_rows<T><<<(unsigned)blocks, FLAT_THREADS, 0, stream>>>(*args));
  return launched("norm_forward");
}

/* The leaves, then dx, which may be the memory of dy: rows that are too wide for the chains of a block, or no leaves. */
static gd_status backward_apart(gd_kernels *kernels, const gd_norm_args *args, int64_t leaves) {
  cudaStream_t stream = enter(kernels);
  dim3 grid((unsigned)blocks_of(args->width, FLAT_THREADS), (unsigned)leaves);
  int64_t blocks = row_blocks(args->rows);
  GD_TRY(check_grid("norm_backward", blocks, leaves));
  if (leaves > 0) WITH_STORED(args->dtype, "norm_backward", backward_leaves<T><<<grid, FLAT_THREADS, 0, stream>>>(*args));
  GD_TRY(launched("norm_backward"));
  WITH_STORED(args->dtype, "norm_backward", backward_rows<T><<<(unsigned)blocks, FLAT_THREADS, 0, stream>>>(*args));
  return launched("norm_backward");
}

gd_status gd_cuda_norm_backward(gd_kernels *kernels, const gd_norm_args *args) {
  static const size_t most = 47 << 10; /* of shared memory, without asking for more */
  if (args->rows == 0) return GD_OK;
  int64_t leaves = args->dweight_leaves ? GD_LEAVES(args->rows, args->leaf_rows) : 0;
  size_t bytes = 2 * (size_t)((args->width + 3) / 4 * 4) * sizeof(float);
  if (leaves == 0 || bytes > most) return backward_apart(kernels, args, leaves);
  GD_TRY(check_grid("norm_backward", leaves));
  cudaStream_t stream = enter(kernels);
  WITH_STORED(args->dtype, "norm_backward", backward_leaf<T><<<(unsigned)leaves, LEAF_THREADS, bytes, stream>>>(*args));
  return launched("norm_backward");
}
