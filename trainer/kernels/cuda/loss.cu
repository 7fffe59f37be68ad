/* loss.cu - softmax cross entropy over a vocabulary cut into blocks, in four passes; a block of threads a row. */
#include <math_constants.h>

#include "trainer/kernels/cuda/common.cuh"

/* The target's column in this block, or -1. */
__device__ __forceinline__ int64_t target_column(const gd_loss *a, int64_t row) {
  int64_t column = (int64_t)a->targets[row] - a->first_column;
  return column >= 0 && column < a->valid_columns ? column : -1;
}

static __global__ void max_rows(gd_loss a) {
  __shared__ float shared[ROW_THREADS / WARP];
  const float *logits = a.logits + (int64_t)blockIdx.x * a.ld;
  float largest = -CUDART_INF_F;
  for (int64_t c = threadIdx.x; c < a.valid_columns; c += ROW_THREADS) largest = fmaxf(largest, logits[c]);
  for (int distance = WARP / 2; distance > 0; distance /= 2)
    largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, distance));
  if (threadIdx.x % WARP == 0) shared[threadIdx.x / WARP] = largest;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int i = 1; i < ROW_THREADS / WARP; i++) largest = fmaxf(largest, shared[i]);
  a.row_max[blockIdx.x] = fmaxf(a.row_max[blockIdx.x], largest);
}

static __global__ void exponentials(gd_loss a) {
  __shared__ float shared[ROW_THREADS / WARP];
  int64_t row = blockIdx.x;
  float *logits = a.logits + row * a.ld, largest = a.row_max[row], sum = 0.0f;
  if (threadIdx.x == 0) {
    int64_t target = target_column(&a, row);
    a.block_target[row] = target >= 0 ? logits[target] - largest : 0.0f;
  }
  __syncthreads(); /* the target is read before it is overwritten */
  for (int64_t c = threadIdx.x; c < a.valid_columns; c += ROW_THREADS) {
    float e = expf(logits[c] - largest);
    logits[c] = e;
    sum += e;
  }
  sum = row_sum(sum, shared);
  if (threadIdx.x == 0) a.block_sum[row] = sum;
}

/* dlogits may be the row's own memory, also when it is narrower: a chunk is read by all threads before any of it is written,
 * and its place when written ends below what later chunks read. */
template <typename T>
static __global__ void gradients(gd_loss a) {
  int64_t row = blockIdx.x, target = target_column(&a, row);
  const float *e = a.logits + row * a.ld;
  T *dlogits = (T *)a.dlogits + row * a.dld;
  float sum = a.row_sum[row], weight = a.weights[row];
  for (int64_t first = 0; first < a.columns; first += ROW_THREADS) {
    int64_t c = first + threadIdx.x;
    float d = 0.0f;
    if (c < a.valid_columns) d = (e[c] / sum - (c == target ? 1.0f : 0.0f)) * weight;
    __syncthreads();
    if (c < a.columns) store(dlogits, c, d);
  }
}

static __global__ void row_losses(gd_loss a) {
  int64_t row = flat_index();
  if (row < a.rows) a.row_loss[row] = a.weights[row] * (logf(a.row_sum[row]) - a.row_target[row]);
}

/* Thread 2 s sums the losses of sequence s, thread 2 s + 1 its weights: a chain each. */
static __global__ void sequence_sums(gd_loss_sums a) {
  int64_t i = flat_index();
  if (i >= 2 * a.sequences) return;
  const float *values = (i % 2 ? a.weights : a.row_loss) + i / 2 * a.length;
  float sum = 0.0f;
  for (int64_t t = 0; t < a.length; t++) sum += values[t];
  a.sums[i] = sum;
}

gd_status gd_cuda_loss_max(gd_kernels *kernels, const gd_loss *args) {
  if (args->rows == 0) return GD_OK;
  GD_TRY(check_grid("loss_max", args->rows));
  max_rows<<<(unsigned)args->rows, ROW_THREADS, 0, enter(kernels)>>>(*args);
  return launched("loss_max");
}

gd_status gd_cuda_loss_exponentials(gd_kernels *kernels, const gd_loss *args) {
  if (args->rows == 0) return GD_OK;
  GD_TRY(check_grid("loss_exponentials", args->rows));
  exponentials<<<(unsigned)args->rows, ROW_THREADS, 0, enter(kernels)>>>(*args);
  return launched("loss_exponentials");
}

gd_status gd_cuda_loss_gradient(gd_kernels *kernels, const gd_loss *args) {
  if (args->rows == 0) return GD_OK;
  GD_TRY(check_grid("loss_gradient", args->rows));
  cudaStream_t stream = enter(kernels);
  WITH_STORED(args->dtype, "loss_gradient", gradients<T><<<(unsigned)args->rows, ROW_THREADS, 0, stream>>>(*args));
  return launched("loss_gradient");
}

gd_status gd_cuda_loss_rows(gd_kernels *kernels, const gd_loss *args) {
  int64_t blocks = blocks_of(args->rows, FLAT_THREADS);
  if (blocks == 0) return GD_OK;
  GD_TRY(check_grid("loss_rows", blocks));
  row_losses<<<(unsigned)blocks, FLAT_THREADS, 0, enter(kernels)>>>(*args);
  return launched("loss_rows");
}

gd_status gd_cuda_loss_sums(gd_kernels *kernels, const gd_loss_sums *args) {
  int64_t blocks = blocks_of(2 * args->sequences, FLAT_THREADS);
  if (blocks == 0) return GD_OK;
  GD_TRY(check_grid("loss_sums", blocks));
  sequence_sums<<<(unsigned)blocks, FLAT_THREADS, 0, enter(kernels)>>>(*args);
  return launched("loss_sums");
}
