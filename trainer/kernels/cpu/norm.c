/* norm.c - layer and root-mean-square normalisation. Sums along a row are row sums of 128 lanes. */
#include "trainer/kernels/cpu/parallel.h"
#include "trainer/kernels/cpu/simd.h"
#include "trainer/kernels/cpu/table.h"

static float row_mean(const gd_norm_args *a, int64_t at) {
  row_sum sum = row_sum_zero();
  ROW_FOR_VECTORS(v, c, a->width)
  sum.lanes[v] = vf_add(sum.lanes[v], vf_load_as(a->dtype, a->x, at + c, vf_left(c, a->width)));
  return row_sum_total(sum) / (float)a->width;
}

/* 1 / sqrt(mean of (x - mean)^2 + epsilon). */
static float row_rstd(const gd_norm_args *a, int64_t at, float mean) {
  row_sum sum = row_sum_zero();
  vf middle = vf_set1(mean);
  ROW_FOR_VECTORS(v, c, a->width) {
    int n = vf_left(c, a->width);
    vf d = vf_first_n(vf_sub(vf_load_as(a->dtype, a->x, at + c, n), middle), vf_zero(), n);
    sum.lanes[v] = vf_fma(d, d, sum.lanes[v]);
  }
  return 1.0f / sqrtf(row_sum_total(sum) / (float)a->width + a->epsilon);
}

void GD_CPU(norm_forward_row)(const gd_norm_args *a, int64_t row) {
  int64_t at = row * a->width;
  float mean = a->kind == GD_NORM_LAYERNORM ? row_mean(a, at) : 0.0f;
  float rstd = row_rstd(a, at, mean);
  if (a->mean) a->mean[row] = mean;
  a->rstd[row] = rstd;
  vf middle = vf_set1(mean), scale = vf_set1(rstd);
  for (int64_t c = 0; c < a->width; c += VF_LANES) {
    int n = vf_left(c, a->width);
    vf x = vf_mul(vf_sub(vf_load_as(a->dtype, a->x, at + c, n), middle), scale);
    vf weight = vf_load_as(a->dtype, a->weight, c, n);
    vf y = a->bias ? vf_fma(x, weight, vf_load_as(a->dtype, a->bias, c, n)) : vf_mul(x, weight);
    vf_store_as(a->dtype, a->y, at + c, y, n);
  }
}

static gd_status norm_forward_run(const gd_norm_args *a, const gd_cpu_context *context) {
#pragma omp parallel num_threads(gd_parallel_threads(context->threads, a->rows * a->width))
  {
    int64_t first, end;
    gd_parallel_range(a->rows, 1, &first, &end);
    for (int64_t row = first; row < end; row++) GD_CPU(norm_forward_row)(a, row);
  }
  return GD_OK;
}
GD_CPU_KERNEL(norm_forward, gd_norm_args, args->y, (size_t)(args->rows * args->width) * gd_dtype_bytes(args->dtype))

/* dx = rstd (g - mean(g) - xhat mean(g xhat)) + dresidual, g = dy weight; rms: without mean(g). */
static void backward_row(const gd_norm_args *a, int64_t row) {
  int64_t at = row * a->width;
  vf middle = vf_set1(a->mean ? a->mean[row] : 0.0f), scale = vf_set1(a->rstd[row]);
  row_sum sum = row_sum_zero(), product = row_sum_zero();
  ROW_FOR_VECTORS(v, c, a->width) { /* tail lanes: g = 0 */
    int n = vf_left(c, a->width);
    vf g = vf_mul(vf_load_as(a->dtype, a->dy, at + c, n), vf_load_as(a->dtype, a->weight, c, n));
    vf x = vf_mul(vf_sub(vf_load_as(a->dtype, a->x, at + c, n), middle), scale);
    sum.lanes[v] = vf_add(sum.lanes[v], g);
    product.lanes[v] = vf_fma(g, vf_first_n(x, vf_zero(), n), product.lanes[v]);
  }
  vf g_mean = vf_set1(a->kind == GD_NORM_LAYERNORM ? row_sum_total(sum) / (float)a->width : 0.0f);
  vf gx_mean = vf_set1(row_sum_total(product) / (float)a->width);
  for (int64_t c = 0; c < a->width; c += VF_LANES) {
    int n = vf_left(c, a->width);
    vf g = vf_mul(vf_load_as(a->dtype, a->dy, at + c, n), vf_load_as(a->dtype, a->weight, c, n));
    vf x = vf_mul(vf_sub(vf_load_as(a->dtype, a->x, at + c, n), middle), scale);
    vf dx = vf_mul(scale, vf_fnma(x, gx_mean, vf_sub(g, g_mean)));
    if (a->dresidual) dx = vf_add(dx, vf_load_as(a->dtype, a->dresidual, at + c, n));
    vf_store_as(a->dtype, a->dx, at + c, dx, n);
  }
}

/* The leaves of dweight and dbias in columns [from, to): chains over the rows of the leaf, GD_ROWS_TOGETHER of them at a time,
 * so that rows are read along memory. */
static void backward_leaf(const gd_norm_args *a, int64_t leaf, int64_t from, int64_t to) {
  int64_t begin = leaf * a->leaf_rows, end = GD_LEAF_END(leaf, a->leaf_rows, a->rows);
  int64_t bytes = (int64_t)gd_dtype_bytes(a->dtype), ahead = GD_ROWS_TOGETHER * a->width * bytes;
  for (int64_t first = begin; first < end; first += GD_ROWS_TOGETHER) {
    int64_t rows = end - first < GD_ROWS_TOGETHER ? end - first : GD_ROWS_TOGETHER;
    for (int64_t c = from; c < to; c += VF_LANES) {
      int n = vf_left(c, to);
      int64_t sums = leaf * a->width + c;
      vf dweight = first == begin ? vf_zero() : vf_load_as(GD_FLOAT32, a->dweight_leaves, sums, n);
      vf dbias = first == begin || !a->dbias_leaves ? vf_zero() : vf_load_as(GD_FLOAT32, a->dbias_leaves, sums, n);
      for (int64_t row = first; row < first + rows; row++) {
        int64_t at = row * a->width + c;
        __builtin_prefetch((const char *)a->dy + at * bytes + ahead);
        __builtin_prefetch((const char *)a->x + at * bytes + ahead);
        vf dy = vf_load_as(a->dtype, a->dy, at, n);
        vf middle = vf_set1(a->mean ? a->mean[row] : 0.0f);
        vf x = vf_mul(vf_sub(vf_load_as(a->dtype, a->x, at, n), middle), vf_set1(a->rstd[row]));
        dweight = vf_fma(dy, x, dweight);
        dbias = vf_add(dbias, dy);
      }
      vf_store_as(GD_FLOAT32, a->dweight_leaves, sums, dweight, n);
      if (a->dbias_leaves) vf_store_as(GD_FLOAT32, a->dbias_leaves, sums, dbias, n);
    }
  }
}

static gd_status norm_backward_run(const gd_norm_args *a, const gd_cpu_context *context) {
  int64_t leaves = a->dweight_leaves ? GD_LEAVES(a->rows, a->leaf_rows) : 0;
  int64_t chunks = (a->width + GD_COLUMNS_TOGETHER - 1) / GD_COLUMNS_TOGETHER;
#pragma omp parallel num_threads(gd_parallel_threads(context->threads, a->rows * a->width))
  {
    int64_t first, end;
    gd_parallel_range(leaves * chunks, 1, &first, &end);
    for (int64_t item = first; item < end; item++) {
      int64_t from = item % chunks * GD_COLUMNS_TOGETHER, to = from + GD_COLUMNS_TOGETHER;
      backward_leaf(a, item / chunks, from, to < a->width ? to : a->width);
    }
#pragma omp barrier /* dx may be the memory of dy */
    gd_parallel_range(a->rows, 1, &first, &end);
    for (int64_t row = first; row < end; row++) backward_row(a, row);
  }
  return GD_OK;
}
GD_CPU_KERNEL(norm_backward, gd_norm_args, NULL, 0) /* dx may be dresidual */
