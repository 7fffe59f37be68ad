/* loss.cu - softmax cross entropy over a vocabulary cut into blocks, in four passes: a warp a row, the gradient a block of
 * threads; or in one, where shared memory holds a row of the whole vocabulary: a block a row. */
#include "trainer/kernels/cuda/common.cuh"
#include "trainer/kernels/cuda/math.cuh"

/* The target's column in this block, or -1. */
__device__ __forceinline__ int64_t target_column(const gd_loss *a, int64_t row) {
  int64_t column = (int64_t)a->targets[row] - a->first_column;
  return column >= 0 && column < a->valid_columns ? column : -1;
}

/* A NaN is passed over; it shows in the sum of exponentials. A zero is +0, whichever came first. */
static __global__ void max_rows(gd_loss a) {
  int64_t row = warp_row();
  if (row >= a.rows) return;
  const float *logits = a.logits + row * a.ld;
  float largest = -INFINITY;
  for (int64_t c = row_start(); c < a.valid_columns; c += ROW_LANES) {
    quad q = load_quad(logits, c, a.valid_columns);
    for (int i = 0; i < 4; i++)
      if (c + i < a.valid_columns) largest = vf_max(q.x[i], largest);
  }
  for (int distance = WARP / 2; distance > 0; distance /= 2)
    largest = vf_max(__shfl_xor_sync(0xffffffffu, largest, distance), largest);
  if (row_start() == 0) a.row_max[row] = vf_max(largest + 0.0f, a.row_max[row]);
}

static __global__ void exponentials(gd_loss a) {
  int64_t row = warp_row();
  if (row >= a.rows) return;
  int64_t target = target_column(&a, row);
  float *logits = a.logits + row * a.ld, largest = a.row_max[row];
  quad sum = {}, all = {}, its = {}; /* its: the target's, and zeros */
  for (int64_t c = row_start(); c < a.valid_columns; c += ROW_LANES) {
    quad q = load_quad(logits, c, a.valid_columns);
    for (int i = 0; i < 4; i++) {
      float x = q.x[i] - largest;
      if (c + i == target) its.x[i] = x;
      q.x[i] = vf_exp(x);
      if (c + i >= a.valid_columns) continue;
      sum.x[i] += q.x[i];
      all.x[i] += x;
    }
    store_quad(logits, c, a.valid_columns, q);
  }
  float total = row_total(sum), target_logit = row_total(its);
  if (a.smoothing > 0.0f) {
    float share = (1.0f - a.smoothing) * target_logit, spread = a.spread * row_total(all);
    target_logit = share + spread;
  }
  if (row_start() > 0) return;
  a.block_sum[row] = total;
  a.block_target[row] = target_logit;
}

/* dlogits may be the row's own memory, also when it is narrower: a chunk is read by all threads before any of it is written,
 * and its place when written ends below what later chunks read. */
template <typename T>
static __global__ void gradients(gd_loss a) {
  int64_t row = blockIdx.x, target = target_column(&a, row);
  const float *e = a.logits + row * a.ld;
  T *dlogits = (T *)a.dlogits + row * a.dld;
  float sum = a.row_sum[row], weight = a.weights[row];
  for (int64_t first = 0; first < a.columns; first += FLAT_THREADS) {
    int64_t c = first + threadIdx.x;
    float d = 0.0f;
    if (c < a.valid_columns) d = (e[c] / sum - a.spread - (c == target ? 1.0f - a.smoothing : 0.0f)) * weight;
    __syncthreads();
    if (c < a.columns) store(dlogits, c, d);
  }
}

static __global__ void row_losses(gd_loss a) {
  int64_t row = flat_index();
  if (row < a.rows) a.row_loss[row] = a.weights[row] * (vf_log(a.row_sum[row]) - a.row_target[row]);
}

enum { WHOLE_THREADS = 1024, WHOLE_WARPS = WHOLE_THREADS / WARP };

/* Of what the threads of a block have; the block waits for all before it goes on. */
__device__ __forceinline__ float largest_of_block(float largest) {
  __shared__ float of_warp[WHOLE_WARPS];
  for (int distance = WARP / 2; distance > 0; distance /= 2)
    largest = vf_max(__shfl_xor_sync(0xffffffffu, largest, distance), largest);
  if (threadIdx.x % WARP == 0) of_warp[threadIdx.x / WARP] = largest;
  __syncthreads();
  largest = of_warp[0];
  for (int warp = 1; warp < WHOLE_WARPS; warp++) largest = vf_max(of_warp[warp], largest);
  return largest;
}

/* The row's own block of the vocabulary is summed by one warp, in the lanes of a row sum. */
__device__ __forceinline__ float sum_of_held(const float *held, int64_t valid) {
  quad sum = {};
  for (int64_t c = row_start(); c < valid; c += ROW_LANES)
    for (int i = 0; i < 4; i++)
      if (c + i < valid) sum.x[i] += held[c + i];
  return row_total(sum);
}

/* A row's logits are read once, become exponentials where they are held, and leave as gradients. */
template <typename T>
static __global__ void __launch_bounds__(WHOLE_THREADS) whole_rows(gd_loss a) {
  extern __shared__ float held[];
  __shared__ float of_row[2]; /* the target's logit less the largest, the sum */
  int64_t row = blockIdx.x, target = (int64_t)a.targets[row] - a.first_column;
  float largest = GD_LOSS_LEAST;
  for (int64_t first = 0; first < a.valid_columns; first += a.columns) {
    const float *logits = a.logits + first / a.columns * a.block_stride + row * a.ld;
    int64_t valid = first + a.columns < a.valid_columns ? a.columns : a.valid_columns - first;
    for (int64_t c = threadIdx.x; c < valid; c += WHOLE_THREADS) {
      float x = logits[c];
      held[first + c] = x;
      largest = vf_max(x, largest);
    }
  }
  largest = largest_of_block(largest) + 0.0f;
  if (threadIdx.x == 0) of_row[0] = 0.0f;
  __syncthreads();
  for (int64_t c = threadIdx.x; c < a.valid_columns; c += WHOLE_THREADS) {
    float x = held[c] - largest;
    if (c == target) of_row[0] = x;
    held[c] = vf_exp(x);
  }
  __syncthreads();
  for (int64_t block = threadIdx.x / WARP; block < a.blocks; block += WHOLE_WARPS) {
    int64_t valid = a.valid_columns - block * a.columns;
    float sum = sum_of_held(held + block * a.columns, valid < a.columns ? valid : a.columns);
    if (row_start() == 0) a.block_sum[block * a.rows + row] = sum;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    float stack[TREE_DEPTH];
    int depth = 0;
    for (int64_t block = 0; block < a.blocks; block++) tree_push(stack, &depth, block, a.block_sum[block * a.rows + row]);
    of_row[1] = tree_root(stack, depth);
    a.row_max[row] = largest;
    a.row_sum[row] = of_row[1];
    a.row_target[row] = of_row[0];
    a.row_loss[row] = a.weights[row] * (vf_log(of_row[1]) - of_row[0]);
  }
  __syncthreads();
  if (!a.dlogits) return;
  float sum = of_row[1], weight = a.weights[row];
  for (int64_t block = 0; block < a.blocks; block++) {
    T *dlogits = (T *)a.dlogits + block * a.dblock_stride + row * a.dld;
    for (int64_t c = threadIdx.x; c < a.columns; c += WHOLE_THREADS) {
      int64_t at = block * a.columns + c;
      float d = at < a.valid_columns ? (held[at] / sum - (at == target ? 1.0f : 0.0f)) * weight : 0.0f;
      store(dlogits, c, d);
    }
  }
}

/* A block a sequence: all threads fetch, the first of two warps each add a chain, of losses and of weights. */
static __global__ void sequence_sums(gd_loss_sums a) {
  __shared__ float values[2][FLAT_THREADS];
  int64_t at = blockIdx.x * a.length;
  int thread = (int)threadIdx.x, which = thread / WARP;
  float sum = 0.0f;
  for (int64_t first = 0; first < a.length; first += FLAT_THREADS) {
    __syncthreads(); /* what is written below was read above */
    if (first + thread < a.length) {
      values[0][thread] = a.row_loss[at + first + thread];
      values[1][thread] = a.weights[at + first + thread];
    }
    __syncthreads();
    int count = a.length - first < FLAT_THREADS ? (int)(a.length - first) : FLAT_THREADS;
    for (int t = 0; t < count && thread % WARP == 0 && which < 2; t++) sum += values[which][t];
  }
  if (thread % WARP == 0 && which < 2) a.sums[2 * blockIdx.x + which] = sum;
}

/* A narrower gradient may go over the logits of its row: a warp has read its columns before it writes any. */
template <typename T>
static __global__ void label_losses(gd_label_loss_args a) {
  int64_t row = warp_row();
  if (row >= a.rows) return;
  const float *logits = a.logits + row * a.ld, *labels = a.labels + row * a.columns;
  T *dlogits = (T *)a.dlogits + row * a.dld;
  float weight = a.weights[row] / (float)a.columns, keep = 1.0f - a.smoothing, half = 0.5f * a.smoothing;
  quad sum = {};
  for (int64_t first = 0; first < a.columns; first += ROW_LANES) {
    int64_t c = first + row_start();
    quad q = load_quad(logits, c, a.columns);
    __syncwarp();
    for (int i = 0; i < 4; i++) {
      if (c + i >= a.columns) continue;
      float z = q.x[i], y = labels[c + i] * keep + half;
      float loss = vf_max(z, 0.0f) - z * y + vf_log(1.0f + vf_exp(0.0f - vf_max(z, -z)));
      sum.x[i] += loss;
      if (a.dlogits) store(dlogits, c + i, (1.0f / (1.0f + vf_exp(-z)) - y) * weight);
    }
  }
  float total = row_total(sum);
  if (row_start() == 0) a.row_loss[row] = weight * total;
}

gd_status gd_cuda_loss_max(gd_kernels *kernels, const gd_loss *args) {
  if (args->rows == 0) return GD_OK;
  int64_t blocks = row_blocks(args->rows);
  GD_TRY(check_grid("loss_max", blocks));
  max_rows<<<(unsigned)blocks, FLAT_THREADS, 0, enter(kernels)>>>(*args);
  return launched("loss_max");
}

gd_status gd_cuda_loss_exponentials(gd_kernels *kernels, const gd_loss *args) {
  if (args->rows == 0) return GD_OK;
  int64_t blocks = row_blocks(args->rows);
  GD_TRY(check_grid("loss_exponentials", blocks));
  exponentials<<<(unsigned)blocks, FLAT_THREADS, 0, enter(kernels)>>>(*args);
  return launched("loss_exponentials");
}

gd_status gd_cuda_loss_gradient(gd_kernels *kernels, const gd_loss *args) {
  if (args->rows == 0) return GD_OK;
  GD_TRY(check_grid("loss_gradient", args->rows));
  cudaStream_t stream = enter(kernels);
  WITH_STORED(args->dtype, "loss_gradient", gradients<T><<<(unsigned)args->rows, FLAT_THREADS, 0, stream>>>(*args));
  return launched("loss_gradient");
}

gd_status gd_cuda_loss_rows(gd_kernels *kernels, const gd_loss *args) {
  int64_t blocks = blocks_of(args->rows, FLAT_THREADS);
  if (blocks == 0) return GD_OK;
  GD_TRY(check_grid("loss_rows", blocks));
  row_losses<<<(unsigned)blocks, FLAT_THREADS, 0, enter(kernels)>>>(*args);
  return launched("loss_rows");
}

/* Where shared memory does not hold a row: the passes. */
static gd_status whole_in_passes(gd_kernels *kernels, const gd_loss *args) {
  cudaError_t error = cudaMemsetAsync(args->row_max, 0xFE, (size_t)args->rows * sizeof(float), enter(kernels));
  if (error != cudaSuccess) return gd_cuda_fault(error, "loss_whole");
  for (int32_t block = 0; block < args->blocks; block++) {
    gd_loss a = gd_loss_block(args, block);
    GD_TRY(gd_cuda_loss_max(kernels, &a));
  }
  for (int32_t block = 0; block < args->blocks; block++) {
    gd_loss a = gd_loss_block(args, block);
    GD_TRY(gd_cuda_loss_exponentials(kernels, &a));
  }
  gd_tree_sum tree = {};
  tree.leaves = args->blocks;
  tree.elements = tree.leaf_stride = args->rows;
  tree.dtype = GD_FLOAT32;
  tree.in = args->block_sum;
  tree.out = args->row_sum;
  GD_TRY(gd_cuda_tree_sum(kernels, &tree));
  tree.in = args->block_target;
  tree.out = args->row_target;
  GD_TRY(gd_cuda_tree_sum(kernels, &tree));
  GD_TRY(gd_cuda_loss_rows(kernels, args));
  for (int32_t block = 0; block < args->blocks && args->dlogits; block++) {
    gd_loss a = gd_loss_block(args, block);
    GD_TRY(gd_cuda_loss_gradient(kernels, &a));
  }
  return GD_OK;
}

template <typename T>
static gd_status whole_in_one(gd_kernels *kernels, const gd_loss *args, int bytes) {
  cudaStream_t stream = enter(kernels);
  cudaError_t error = cudaFuncSetAttribute(whole_rows<T>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (error != cudaSuccess) return gd_cuda_fault(error, "loss_whole");
  whole_rows<T><<<(unsigned)args->rows, WHOLE_THREADS, (size_t)bytes, stream>>>(*args);
  return launched("loss_whole");
}

gd_status gd_cuda_loss_whole(gd_kernels *kernels, const gd_loss *args) {
  static const int64_t beside = 1024; /* what the kernel has besides, and CUDA's own */
  int64_t bytes = args->valid_columns * (int64_t)sizeof(float);
  int ordinal = 0, most = 0;
  if (args->rows == 0) return GD_OK;
  gd_cuda_device_enter(kernels->device);
  cudaError_t error = cudaGetDevice(&ordinal);
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, ordinal);
  if (error != cudaSuccess) return gd_cuda_fault(error, "loss_whole");
  if (bytes == 0 || bytes + beside > most) return whole_in_passes(kernels, args);
  GD_TRY(check_grid("loss_whole", args->rows));
  gd_status status;
  WITH_STORED(args->dtype, "loss_whole", status = whole_in_one<T>(kernels, args, (int)bytes));
  return status;
}

gd_status gd_cuda_loss_sums(gd_kernels *kernels, const gd_loss_sums *args) {
  if (args->sequences == 0) return GD_OK;
  GD_TRY(check_grid("loss_sums", args->sequences));
  sequence_sums<<<(unsigned)args->sequences, FLAT_THREADS, 0, enter(kernels)>>>(*args);
  return launched("loss_sums");
}

gd_status gd_cuda_label_loss(gd_kernels *kernels, const gd_label_loss_args *args) {
  if (args->rows == 0) return GD_OK;
  int64_t blocks = row_blocks(args->rows);
  GD_TRY(check_grid("label_loss", blocks));
  cudaStream_t stream = enter(kernels);
  WITH_STORED(args->dtype, "label_loss", label_losses<T><<<(unsigned)blocks, FLAT_THREADS, 0, stream>>>(*args));
  return launched("label_loss");
}
