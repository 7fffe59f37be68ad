/* optimizer.cu - the end of a step: norm of the gradient, the verdict, the update.
 *
 * Trees in double. Neighbours that meet level by level, the last one of an odd number going up as it is, are the canonical
 * tree; so are runs of leaves whose length is a power of two. So each thread of a block builds a run on its own and the runs are
 * added in pairs: the same additions as one thread pushing leaf after leaf. */
#include "trainer/kernels/cuda/common.cuh"
#include "trainer/kernels/cuda/math.cuh"

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

/* TREE over values[stride * i], i < count. One thread. */
static __device__ double tree(const float *values, int64_t stride, int64_t count) {
  double stack[TREE_DEPTH];
  int depth = 0;
  for (int64_t i = 0; i < count; i++) tree_push(stack, &depth, i, (double)values[stride * i]);
  return tree_root(stack, depth);
}

/* The same by the whole block, known to thread 0; sums: room for a number a thread. */
static __device__ double block_tree(const float *values, int64_t stride, int64_t count, double *sums) {
  int64_t run = 1, i = threadIdx.x;
  while (run * FLAT_THREADS < count) run *= 2;
  int64_t left = count - i * run, nodes = (count + run - 1) / run;
  if (left > 0) sums[i] = tree(values + stride * i * run, stride, left < run ? left : run);
  __syncthreads();
  for (; nodes > 1; nodes = (nodes + 1) / 2) {
    double sum = 2 * i < nodes ? sums[2 * i] : 0.0;
    if (2 * i + 1 < nodes) sum += sums[2 * i + 1];
    __syncthreads(); /* what is written below was read above */
    if (2 * i < nodes) sums[i] = sum;
    __syncthreads();
  }
  return count > 0 ? sums[0] : 0.0;
}

/* A block a node. */
static __global__ void unit_nodes(gd_unit_nodes a) {
  __shared__ double sums[FLAT_THREADS];
  double sum = block_tree(a.sums + a.first[blockIdx.x], 1, a.count[blockIdx.x], sums);
  if (threadIdx.x == 0) a.out[blockIdx.x] = sum;
}

/* A thread a sum. The smallest node that holds two leaves is told by the highest bit in which their numbers differ: the two parts
 * on top are halves of a complete node if they differ in a lower bit than the second of them and the part that comes. It is
 * never the same bit, so that comparing the differences will do. */
static __global__ void node_sums(gd_node_sums a) {
  int64_t i = flat_index();
  if (i >= a.sums) return;
  double sums[TREE_DEPTH];
  int32_t leaf[TREE_DEPTH], depth = 0;
  for (int32_t k = a.first[i]; k < a.first[i + 1]; k++) {
    for (; depth > 1 && (leaf[depth - 2] ^ leaf[depth - 1]) < (leaf[depth - 1] ^ a.leaf[k]); depth--)
      sums[depth - 2] += sums[depth - 1];
    sums[depth] = a.nodes[a.from[k]];
    leaf[depth++] = a.leaf[k];
  }
  a.out[i] = tree_root(sums, depth);
}

/* Whoever finds one writes the same. */
static __global__ void finite(gd_finite a) {
  int64_t i = flat_index();
  if (i < a.elements && !isfinite(a.values[i])) *a.bad = 1;
}

/* One block: all threads fetch and add trees, thread 0 adds the chain and decides. */
static __global__ void decide(gd_vote a) {
  __shared__ double sums[FLAT_THREADS];
  gd_verdict v = *a.verdict;
  int i = (int)threadIdx.x;
  v.loss_sum = block_tree(a.sequence_sums, 2, a.sequences, sums);
  v.weight_sum = block_tree(a.sequence_sums + 1, 2, a.sequences, sums);
  double squares = 0.0;
  for (int32_t first = 0; first < a.tensors; first += FLAT_THREADS) {
    int count = a.tensors - first < FLAT_THREADS ? a.tensors - first : FLAT_THREADS;
    __syncthreads(); /* what is written below was read above */
    if (i < count) sums[i] = a.squares[first + i];
    __syncthreads();
    for (int t = 0; t < count && i == 0; t++) squares += sums[t];
  }
  if (i > 0) return;
  v.gradient_norm = a.bad && *a.bad ? (double)NAN : v.weight_sum > 0.0 ? sqrt(squares) / v.weight_sum : 0.0;
  bool good = isfinite(v.loss_sum) && isfinite(v.gradient_norm) && v.weight_sum > 0.0;
  if (a.calls && (*a.calls & GD_CALLS_SUM_MASK)) good = false;
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
      float m = fmaf(a.momentum, a.first[i], g);
      a.first[i] = m;
      g = a.nesterov ? fmaf(a.momentum, m, g) : m;
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

gd_status gd_cuda_unit_nodes(gd_kernels *kernels, const gd_unit_nodes *args) {
  if (args->nodes == 0) return GD_OK;
  GD_TRY(check_grid("unit_nodes", args->nodes));
  unit_nodes<<<(unsigned)args->nodes, FLAT_THREADS, 0, enter(kernels)>>>(*args);
  return launched("unit_nodes");
}

gd_status gd_cuda_node_sums(gd_kernels *kernels, const gd_node_sums *args) {
  int64_t blocks = blocks_of(args->sums, FLAT_THREADS);
  if (blocks == 0) return GD_OK;
  GD_TRY(check_grid("node_sums", blocks));
  node_sums<<<(unsigned)blocks, FLAT_THREADS, 0, enter(kernels)>>>(*args);
  return launched("node_sums");
}

gd_status gd_cuda_finite(gd_kernels *kernels, const gd_finite *args) {
  int64_t blocks = blocks_of(args->elements, FLAT_THREADS);
  if (blocks == 0) return GD_OK;
  GD_TRY(check_grid("finite", blocks));
  finite<<<(unsigned)blocks, FLAT_THREADS, 0, enter(kernels)>>>(*args);
  return launched("finite");
}

gd_status gd_cuda_vote(gd_kernels *kernels, const gd_vote *args) {
  decide<<<1, FLAT_THREADS, 0, enter(kernels)>>>(*args);
  return launched("vote");
}

gd_status gd_cuda_update(gd_kernels *kernels, const gd_update *args) {
  int64_t blocks = blocks_of(args->elements, FLAT_THREADS);
  if (blocks == 0) return GD_OK;
  GD_TRY(check_grid("update", blocks));
  update_flat<<<(unsigned)blocks, FLAT_THREADS, 0, enter(kernels)>>>(*args);
  return launched("update");
}
