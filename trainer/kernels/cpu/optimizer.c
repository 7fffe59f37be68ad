/* optimizer.c - the end of a step: norm of the gradient, the verdict, the update. */
#include "trainer/kernels/cpu/math.h"
#include "trainer/kernels/cpu/parallel.h"
#include "trainer/kernels/cpu/table.h"
#include "trainer/kernels/cpu/tree_stack.h"

static gd_status unit_squares_run(const gd_unit_squares *a, const gd_cpu_context *context) {
#pragma omp parallel num_threads(gd_parallel_threads(context->threads, a->units *GD_UNIT_ELEMS))
  {
    int64_t first, end;
    gd_parallel_range(a->units, 1, &first, &end);
    for (int64_t unit = first; unit < end; unit++) {
      const float *g = a->gradient + unit * GD_UNIT_ELEMS;
      row_sum sum = row_sum_zero();
      ROW_FOR_VECTORS(v, i, n, GD_UNIT_ELEMS) {
        vf x = vf_load(g + i);
        sum.lanes[v] = vf_fma(x, x, sum.lanes[v]);
      }
      a->sums[unit] = row_sum_total(sum);
    }
  }
  return GD_OK;
}
GD_CPU_KERNEL(unit_squares, gd_unit_squares, args->sums, args->units * 4)

/* TREE over values[stride * i], i < count, in double. */
static double tree(const float *values, int64_t stride, int64_t count) {
  double sums[TREE_STACK_DEPTH] = {0.0};
  tree_stack nodes = {.depth = 0};
  for (int64_t i = 0; i < count; i++) {
    for (; tree_closes(&nodes, i); nodes.depth--) sums[nodes.depth - 2] += sums[nodes.depth - 1];
    sums[nodes.depth] = (double)values[stride * i];
    tree_enter(&nodes, i);
  }
  for (; nodes.depth > 1; nodes.depth--) sums[nodes.depth - 2] += sums[nodes.depth - 1];
  return sums[0];
}

/* This and what follows is cheap beside the squares (one number for 1024 elements), so one thread. */
static gd_status unit_nodes_run(const gd_unit_nodes *a, const gd_cpu_context *context) {
  (void)context;
  for (int64_t i = 0; i < a->nodes; i++) a->out[i] = tree(a->sums + a->first[i], 1, a->count[i]);
  return GD_OK;
}
GD_CPU_KERNEL(unit_nodes, gd_unit_nodes, args->out, args->nodes * 8)

static gd_status node_sums_run(const gd_node_sums *a, const gd_cpu_context *context) {
  (void)context;
  for (int64_t i = 0; i < a->sums; i++) {
    double sums[TREE_STACK_DEPTH] = {0.0};
    tree_stack nodes = {.depth = 0};
    for (int32_t k = a->first[i]; k < a->first[i + 1]; k++) {
      for (; tree_closes(&nodes, a->leaf[k]); nodes.depth--) sums[nodes.depth - 2] += sums[nodes.depth - 1];
      sums[nodes.depth] = a->nodes[a->from[k]];
      tree_enter(&nodes, a->leaf[k]);
    }
    for (; nodes.depth > 1; nodes.depth--) sums[nodes.depth - 2] += sums[nodes.depth - 1];
    a->out[i] = sums[0];
  }
  return GD_OK;
}
GD_CPU_KERNEL(node_sums, gd_node_sums, args->out, args->sums * 8)

/* x - x is 0, or NaN. */
static gd_status finite_run(const gd_finite *a, const gd_cpu_context *context) {
#pragma omp parallel num_threads(gd_parallel_threads(context->threads, a->elements))
  {
    int64_t first, end;
    gd_parallel_range(a->elements, GD_UNIT_ELEMS, &first, &end);
    row_sum sum = row_sum_zero();
    ROW_FOR_VECTORS(v, i, n, end - first) {
      vf x = vf_load_as(GD_FLOAT32, a->values + first, i, n);
      sum.lanes[v] = vf_add(sum.lanes[v], vf_sub(x, x));
    }
    if (isnan(row_sum_total(sum))) {
#pragma omp atomic write
      *a->bad = 1;
    }
  }
  return GD_OK;
}
GD_CPU_KERNEL(finite, gd_finite, NULL, 0)

static gd_status vote_run(const gd_vote *a, const gd_cpu_context *context) {
  (void)context;
  gd_verdict *v = a->verdict;
  v->loss_sum = tree(a->sequence_sums, 2, a->sequences);
  v->weight_sum = tree(a->sequence_sums + 1, 2, a->sequences);
  double squares = 0.0;
  for (int32_t t = 0; t < a->tensors; t++) squares += a->squares[t];
  v->gradient_norm = a->bad && *a->bad ? (double)NAN : v->weight_sum > 0.0 ? sqrt(squares) / v->weight_sum : 0.0;
  bool good = isfinite(v->loss_sum) && isfinite(v->gradient_norm) && v->weight_sum > 0.0;
  if (a->calls && (*a->calls & GD_CALLS_SUM_MASK)) good = false;
  v->apply = good;
  v->reserved = 0;
  v->scale = 0.0f;
  if (good) {
    double clip = a->clip > 0.0f && v->gradient_norm > (double)a->clip ? (double)a->clip / v->gradient_norm : 1.0;
    v->scale = (float)(clip / v->weight_sum);
    v->applied_steps++;
    v->bad_steps = 0;
  } else {
    v->bad_steps++;
  }
  v->bias1 = (float)(1.0 - float64_power((double)a->beta1, v->applied_steps));
  v->bias2 = (float)(1.0 - float64_power((double)a->beta2, v->applied_steps));
  return GD_OK;
}
GD_CPU_KERNEL(vote, gd_vote, NULL, 0)

/* What one update shares over all its elements. */
typedef struct factors {
  vf scale, lr, beta1, beta2, rest1, rest2, bias1, bias2, epsilon, momentum;
} factors;

static inline vf adamw(const factors *f, vf p, vf g, float *first, float *second) {
  vf m = vf_fma(f->beta1, vf_load(first), vf_mul(f->rest1, g));
  vf v = vf_fma(f->beta2, vf_load(second), vf_mul(f->rest2, vf_mul(g, g)));
  vf_store(first, m);
  vf_store(second, v);
  vf denominator = vf_add(vf_sqrt(vf_div(v, f->bias2)), f->epsilon);
  return vf_fnma(f->lr, vf_div(vf_div(m, f->bias1), denominator), p);
}

static inline vf sgd(const factors *f, vf p, vf g, float *first, bool nesterov) {
  if (first) {
    vf m = vf_fma(f->momentum, vf_load(first), g);
    vf_store(first, m);
    g = nesterov ? vf_fma(f->momentum, m, g) : m;
  }
  return vf_fnma(f->lr, g, p);
}

static void update_unit(const gd_update *a, const factors *f, int64_t unit) {
  vf shrink = vf_set1(a->decay && a->decay[unit] ? a->lr * a->weight_decay : 0.0f);
  for (int64_t i = unit * GD_UNIT_ELEMS; i < (unit + 1) * GD_UNIT_ELEMS; i += VF_LANES) {
    /* A gradient of -0 becomes +0. */
    vf g = vf_fma(vf_load(a->gradient + i), f->scale, vf_zero()), p = vf_load(a->master + i);
    p = vf_fnma(shrink, p, p); /* decoupled decay */
    p = a->kind == GD_OPTIMIZER_ADAMW ? adamw(f, p, g, a->first + i, a->second + i)
                                      : sgd(f, p, g, a->first ? a->first + i : NULL, a->nesterov);
    vf_store(a->master + i, p);
    if (a->parameter) vf_store_as(a->dtype, a->parameter, i, p, VF_LANES);
  }
}

static gd_status update_run(const gd_update *a, const gd_cpu_context *context) {
  const gd_verdict *v = a->verdict;
  if (!v->apply) return GD_OK;
  const factors f = {vf_set1(v->scale),        vf_set1(a->lr),           vf_set1(a->beta1), vf_set1(a->beta2),
                     vf_set1(1.0f - a->beta1), vf_set1(1.0f - a->beta2), vf_set1(v->bias1), vf_set1(v->bias2),
                     vf_set1(a->epsilon),      vf_set1(a->momentum)};
  int64_t units = a->elements / GD_UNIT_ELEMS;
#pragma omp parallel num_threads(gd_parallel_threads(context->threads, a->elements))
  {
    int64_t first, end;
    gd_parallel_range(units, 1, &first, &end);
    for (int64_t unit = first; unit < end; unit++) update_unit(a, &f, unit);
  }
  return GD_OK;
}
GD_CPU_KERNEL(update, gd_update, NULL, 0)
