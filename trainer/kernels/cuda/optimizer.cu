/* optimizer.cu - the end of a step: norm of the gradient, the verdict, the update.
 *
 * The norm is the canonical tree over the units of each tensor in double. A tree over an aligned run of 64 units is a node of
 * the whole tree, so a thread builds each run on its own and pairs of neighbours are added level by level: the same additions
 * as one thread pushing unit after unit. */
#include "trainer/kernels/cuda/common.cuh"
#include "trainer/kernels/cuda/math.cuh"

enum { RUN = 64 };

/* sums[unit] is a row sum of squares: a warp a unit. */
static __global__ void square_units(gd_unit_squares a) {
  int64_t unit = warp_row();
  if (unit >= a.units) return;
  const float *g = a.gradient + unit * GD_UNIT_ELEMS;
  quad sum = {};
#pragma unroll
  for (int64_t c = row_start(); c < GD_UNIT_ELEMS; c += ROW_LANES) {
    quad q = load_quad(g, c, GD_UNIT_ELEMS);
    for (int i = 0; i < 4; i++) sum.x[i] = fmaf(q.x[i], q.x[i], sum.x[i]);
  }
  float total = row_total(sum);
  if (row_start() == 0) a.sums[unit] = total;
}

/* TREE over values[stride * i], i < count, taken through order where there is one. One thread. */
static __device__ double tree(const float *values, const int32_t *order, int64_t stride, int64_t count) {
  double stack[TREE_DEPTH];
  int depth = 0;
  for (int64_t i = 0; i < count; i++) tree_push(stack, &depth, i, (double)values[stride * (order ? (int64_t)order[i] : i)]);
  return tree_root(stack, depth);
}

/* Where tensor t keeps the sums of its runs: before it lie at most first / RUN + t of them. */
__device__ __forceinline__ int64_t runs_at(const gd_vote *a, int32_t t) {
  return a->first[t] / RUN + t;
}

/* A block a tensor: the tree over its units, left in the first place of its runs. */
static __global__ void tensor_squares(gd_vote a, double *scratch) {
  int32_t t = (int32_t)blockIdx.x;
  const int32_t *order = a.order + a.first[t];
  int64_t units = a.first[t + 1] - a.first[t], runs = (units + RUN - 1) / RUN;
  double *sums = scratch + runs_at(&a, t);
  for (int64_t r = threadIdx.x; r < runs; r += FLAT_THREADS) {
    int64_t count = units - r * RUN < RUN ? units - r * RUN : RUN;
    sums[r] = tree(a.unit_sums, order + r * RUN, 1, count);
  }
  if (runs == 0 && threadIdx.x == 0) sums[0] = 0.0;
  __syncthreads();
  for (; runs > 1; runs = (runs + 1) / 2) {
    int64_t pairs = (runs + 1) / 2;
    for (int64_t first = 0; first < pairs; first += FLAT_THREADS) {
      int64_t i = first + threadIdx.x;
      double sum = 0.0;
      if (i < pairs) sum = 2 * i + 1 < runs ? sums[2 * i] + sums[2 * i + 1] : sums[2 * i];
      __syncthreads(); /* what is written below was read above, by this chunk or an earlier one */
      if (i < pairs) sums[i] = sum;
    }
    __syncthreads();
  }
}

/* One thread. */
static __global__ void decide(gd_vote a, const double *scratch) {
  gd_verdict v = *a.verdict;
  v.loss_sum = tree(a.sequence_sums, NULL, 2, a.sequences);
  v.weight_sum = tree(a.sequence_sums + 1, NULL, 2, a.sequences);
  double squares = 0.0;
  for (int32_t t = 0; t < a.tensors; t++) squares += scratch[runs_at(&a, t)];
  v.gradient_norm = sqrt(squares) / v.weight_sum;
  bool good = isfinite(v.loss_sum) && isfinite(v.gradient_norm) && v.weight_sum > 0.0;
  v.apply = good;
  v.reserved = 0;
  v.scale = 0.0f;
  if (good) {
    double clip = a.clip > 0.0f && v.gradient_norm > (double)a.clip ? (double)a.clip / v.gradient_norm : 1.0;
    v.scale = (float)(clip / v.weight_sum);
    v.applied_steps++;
    v.bad_steps = 0;
  } else {
    v.bad_steps++;
  }
  v.bias1 = (float)(1.0 - float64_power((double)a.beta1, v.applied_steps));
  v.bias2 = (float)(1.0 - float64_power((double)a.beta2, v.applied_steps));
  *a.verdict = v;
}

static __global__ void update_flat(gd_update a) {
  int64_t i = flat_index();
  if (i >= a.elements || !a.verdict->apply) return;
  float g = fmaf(a.gradient[i], a.verdict->scale, 0.0f), p = a.master[i]; /* -0 becomes +0 */
  float shrink = a.decay && a.decay[i / GD_UNIT_ELEMS] ? a.lr * a.weight_decay : 0.0f;
  p = fmaf(-shrink, p, p); /* decoupled decay */
  if (a.kind == GD_OPTIMIZER_ADAMW) {
    float m = fmaf(a.beta1, a.first[i], (1.0f - a.beta1) * g);
    float v = fmaf(a.beta2, a.second[i], (1.0f - a.beta2) * (g * g));
    a.first[i] = m;
    a.second[i] = v;
    float denominator = sqrtf(v / a.verdict->bias2) + a.epsilon;
    p = fmaf(-a.lr, m / a.verdict->bias1 / denominator, p);
  } else {
    if (a.first) {
      g = fmaf(a.momentum, a.first[i], g);
      a.first[i] = g;
    }
    p = fmaf(-a.lr, g, p);
  }
  a.master[i] = p;
  if (!a.parameter) return;
  if (a.dtype == GD_BFLOAT16)
    store((bf16 *)a.parameter, i, p);
  else
    store((float *)a.parameter, i, p);
}

gd_status gd_cuda_unit_squares(gd_kernels *kernels, const gd_unit_squares *args) {
  int64_t blocks = row_blocks(args->units);
  if (blocks == 0) return GD_OK;
  GD_TRY(check_grid("unit_squares", blocks));
  square_units<<<(unsigned)blocks, FLAT_THREADS, 0, enter(kernels)>>>(*args);
  return launched("unit_squares");
}

/* `first` lies on the device, so that the number of units is not known here; 128 MiB of scratch hold the runs of 10^12
 * elements. */
gd_status gd_cuda_vote(gd_kernels *kernels, const gd_vote *args) {
  double *scratch = (double *)gd_cuda_state_of(kernels)->scratch;
  cudaStream_t stream = enter(kernels);
  if (args->tensors > 0) tensor_squares<<<(unsigned)args->tensors, FLAT_THREADS, 0, stream>>>(*args, scratch);
  GD_TRY(launched("vote"));
  decide<<<1, 1, 0, stream>>>(*args, scratch);
  return launched("vote");
}

gd_status gd_cuda_update(gd_kernels *kernels, const gd_update *args) {
  int64_t blocks = blocks_of(args->elements, FLAT_THREADS);
  if (blocks == 0) return GD_OK;
  GD_TRY(check_grid("update", blocks));
  update_flat<<<(unsigned)blocks, FLAT_THREADS, 0, enter(kernels)>>>(*args);
  return launched("update");
}
