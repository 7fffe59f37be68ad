/* optimizer.cu - the end of a step: norm of the gradient, the verdict, the update.
 *
 * The norm is the canonical tree over the units of each tensor in double. An even share of a complete node is a complete node
 * itself, so each thread builds one on its own and pairs of neighbours are added level by level: the same additions as one
 * thread pushing unit after unit. */
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

/* A block a node: as many threads as it has units, or all, each a run of neighbours. */
static __global__ void unit_nodes(gd_unit_nodes a) {
  __shared__ double sums[FLAT_THREADS];
  const float *units = a.sums + a.first[blockIdx.x];
  int32_t count = a.count[blockIdx.x], i = (int32_t)threadIdx.x, runs = count < FLAT_THREADS ? count : FLAT_THREADS;
  int64_t run = count / runs;
  if (i < runs) sums[i] = tree(units + i * run, 1, run);
  __syncthreads();
  for (int32_t pairs = runs / 2; pairs > 0; pairs /= 2) {
    double sum = i < pairs ? sums[2 * i] + sums[2 * i + 1] : 0.0;
    __syncthreads(); /* what is written below was read above */
    if (i < pairs) sums[i] = sum;
    __syncthreads();
  }
  if (i == 0) a.out[blockIdx.x] = sums[0];
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

/* One thread. */
static __global__ void decide(gd_vote a) {
  gd_verdict v = *a.verdict;
  v.loss_sum = tree(a.sequence_sums, 2, a.sequences);
  v.weight_sum = tree(a.sequence_sums + 1, 2, a.sequences);
  double squares = 0.0;
  for (int32_t t = 0; t < a.tensors; t++) squares += a.squares[t];
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

gd_status gd_cuda_vote(gd_kernels *kernels, const gd_vote *args) {
  decide<<<1, 1, 0, enter(kernels)>>>(*args);
  return launched("vote");
}

gd_status gd_cuda_update(gd_kernels *kernels, const gd_update *args) {
  int64_t blocks = blocks_of(args->elements, FLAT_THREADS);
  if (blocks == 0) return GD_OK;
  GD_TRY(check_grid("update", blocks));
  update_flat<<<(unsigned)blocks, FLAT_THREADS, 0, enter(kernels)>>>(*args);
  return launched("update");
}
