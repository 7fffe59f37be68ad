/* norm.c - layer and root-mean-square normalisation. Sums along a row are row sums of 128 lanes. */
#include "trainer/kernels/cpu/parallel.h"
#include "trainer/kernels/cpu/simd.h"
#include "trainer/kernels/cpu/table.h"

/* Rows go a few at a time through each pass: the sum over the lanes, the division and the root of one are long waits, behind
 * which the next ones hide. As many as stay in the first cache. dtype and layer are constants wherever this is inlined. */
enum { TOGETHER = 4, TOGETHER_WIDTH = 2048 };

static int64_t rows_together(int64_t width, int64_t left) {
  int64_t rows = width <= TOGETHER_WIDTH ? TOGETHER : 1;
  return rows < left ? rows : left;
}

/* What the next rows will read at an element comes to the cache while these are written. */
static ALWAYS_INLINE void fetch_next(const void *rows, int64_t at, int64_t width, const gd_dtype dtype) {
  __builtin_prefetch((const char *)rows + (at + rows_together(width, TOGETHER) * width) * (int64_t)gd_dtype_bytes(dtype));
}

static ALWAYS_INLINE float row_mean(const void *x, int64_t at, int64_t width, const gd_dtype dtype) {
  row_sum sum = row_sum_zero();
  ROW_FOR_VECTORS(v, c, n, width)
  sum.lanes[v] = vf_add(sum.lanes[v], vf_load_as(dtype, x, at + c, n));
  return row_sum_total(sum) / (float)width;
}

/* 1 / sqrt(mean of (x - mean)^2 + epsilon). */
static ALWAYS_INLINE float row_rstd(const void *x, int64_t at, int64_t width, const gd_dtype dtype, float mean, float epsilon) {
  row_sum sum = row_sum_zero();
  vf middle = vf_set1(mean);
  ROW_FOR_VECTORS(v, c, n, width) {
    vf d = vf_first_n(vf_sub(vf_load_as(dtype, x, at + c, n), middle), vf_zero(), n);
    sum.lanes[v] = vf_fma(d, d, sum.lanes[v]);
  }
  return 1.0f / sqrtf(row_sum_total(sum) / (float)width + epsilon);
}

static ALWAYS_INLINE void forward_rows(const gd_norm_args *args, int64_t first, int64_t rows, const gd_dtype dtype,
                                       const bool layer) {
  const gd_norm_args a = *args;
  float mean[TOGETHER] = {0}, rstd[TOGETHER];
  for (int64_t r = 0; r < rows && layer; r++) mean[r] = row_mean(a.x, (first + r) * a.width, a.width, dtype);
  for (int64_t r = 0; r < rows; r++) rstd[r] = row_rstd(a.x, (first + r) * a.width, a.width, dtype, mean[r], a.epsilon);
  for (int64_t r = 0; r < rows; r++) {
    int64_t at = (first + r) * a.width;
    vf middle = vf_set1(mean[r]), scale = vf_set1(rstd[r]);
    for (int64_t c = 0; c < a.width; c += VF_LANES) {
      int n = vf_left(c, a.width);
      fetch_next(a.x, at + c, a.width, dtype);
      vf x = vf_mul(vf_sub(vf_load_as(dtype, a.x, at + c, n), middle), scale);
      vf weight = vf_load_as(dtype, a.weight, c, n);
      vf y = a.bias ? vf_fma(x, weight, vf_load_as(dtype, a.bias, c, n)) : vf_mul(x, weight);
      vf_store_as(dtype, a.y, at + c, y, n);
    }
    if (a.mean) a.mean[first + r] = mean[r];
    a.rstd[first + r] = rstd[r];
  }
}

void GD_CPU(norm_forward_rows)(const gd_norm_args *a, int64_t first, int64_t end) {
  bool layer = a->kind == GD_NORM_LAYERNORM;
  for (int64_t row = first, rows; row < end; row += rows) {
    rows = rows_together(a->width, end - row);
    if (a->dtype == GD_BFLOAT16) {
      forward_rows(a, row, rows, GD_BFLOAT16, layer);
    } else {
      forward_rows(a, row, rows, GD_FLOAT32, layer);
    }
  }
}

static gd_status norm_forward_run(const gd_norm_args *a, const gd_cpu_context *context) {
#pragma omp parallel num_threads(gd_parallel_threads(context->threads, a->rows * a->width))
  {
    int64_t first, end;
    gd_parallel_range(a->rows, 1, &first, &end);
    GD_CPU(norm_forward_rows)(a, first, end);
  }
  return GD_OK;
}
GD_CPU_KERNEL(norm_forward, gd_norm_args, args->y, (size_t)(args->rows * args->width) * gd_dtype_bytes(args->dtype))

/* dx = rstd (g - mean(g) - xhat mean(g xhat)) + dresidual, g = dy weight; rms: without mean(g). */
static ALWAYS_INLINE void backward_rows(const gd_norm_args *args, int64_t first, int64_t rows, const gd_dtype dtype,
                                        const bool layer) {
  const gd_norm_args a = *args;
  float g_mean[TOGETHER] = {0}, gx_mean[TOGETHER];
  for (int64_t r = 0; r < rows; r++) {
    int64_t at = (first + r) * a.width;
    vf middle = vf_set1(a.mean ? a.mean[first + r] : 0.0f), scale = vf_set1(a.rstd[first + r]);
    row_sum sum = row_sum_zero(), product = row_sum_zero();
    ROW_FOR_VECTORS(v, c, n, a.width) { /* tail lanes: g = 0 */
      vf g = vf_mul(vf_load_as(dtype, a.dy, at + c, n), vf_load_as(dtype, a.weight, c, n));
      vf x = vf_mul(vf_sub(vf_load_as(dtype, a.x, at + c, n), middle), scale);
      if (layer) sum.lanes[v] = vf_add(sum.lanes[v], g);
      product.lanes[v] = vf_fma(g, vf_first_n(x, vf_zero(), n), product.lanes[v]);
    }
    if (layer) g_mean[r] = row_sum_total(sum) / (float)a.width;
    gx_mean[r] = row_sum_total(product) / (float)a.width;
  }
  for (int64_t r = 0; r < rows; r++) {
    int64_t at = (first + r) * a.width;
    vf middle = vf_set1(a.mean ? a.mean[first + r] : 0.0f), scale = vf_set1(a.rstd[first + r]);
    vf of_g = vf_set1(g_mean[r]), of_gx = vf_set1(gx_mean[r]);
    for (int64_t c = 0; c < a.width; c += VF_LANES) {
      int n = vf_left(c, a.width);
      fetch_next(a.x, at + c, a.width, dtype);
      fetch_next(a.dy, at + c, a.width, dtype);
      if (a.dresidual) fetch_next(a.dresidual, at + c, a.width, dtype);
      vf g = vf_mul(vf_load_as(dtype, a.dy, at + c, n), vf_load_as(dtype, a.weight, c, n));
      vf x = vf_mul(vf_sub(vf_load_as(dtype, a.x, at + c, n), middle), scale);
      vf dx = vf_mul(scale, vf_fnma(x, of_gx, vf_sub(g, of_g)));
      if (a.dresidual) dx = vf_add(dx, vf_load_as(dtype, a.dresidual, at + c, n));
      vf_store_as(dtype, a.dx, at + c, dx, n);
    }
  }
}

/* The leaves of dweight and dbias in columns [from, to): chains over the rows of the leaf, GD_ROWS_TOGETHER of them at a time,
 * so that rows are read along memory. */
static ALWAYS_INLINE void leaf_sums(const gd_norm_args *args, int64_t leaf, int64_t from, int64_t to, const gd_dtype dtype) {
  const gd_norm_args local = *args, *a = &local;
  int64_t begin = leaf * a->leaf_rows, end = GD_LEAF_END(leaf, a->leaf_rows, a->rows);
  int64_t bytes = (int64_t)gd_dtype_bytes(dtype), ahead = GD_ROWS_TOGETHER * a->width * bytes;
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
        vf dy = vf_load_as(dtype, a->dy, at, n);
        vf middle = vf_set1(a->mean ? a->mean[row] : 0.0f);
        vf x = vf_mul(vf_sub(vf_load_as(dtype, a->x, at, n), middle), vf_set1(a->rstd[row]));
        dweight = vf_fma(dy, x, dweight);
        dbias = vf_add(dbias, dy);
      }
      vf_store_as(GD_FLOAT32, a->dweight_leaves, sums, dweight, n);
      if (a->dbias_leaves) vf_store_as(GD_FLOAT32, a->dbias_leaves, sums, dbias, n);
    }
  }
}

static void backward_leaf(const gd_norm_args *a, int64_t leaf, int64_t from, int64_t to) {
  if (a->dtype == GD_BFLOAT16) {
    leaf_sums(a, leaf, from, to, GD_BFLOAT16);
  } else {
    leaf_sums(a, leaf, from, to, GD_FLOAT32);
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
    bool layer = a->kind == GD_NORM_LAYERNORM;
    for (int64_t row = first, rows; row < end; row += rows) {
      if (a->dtype == GD_BFLOAT16) {
        rows = rows_together(a->width, end - row);
        backward_rows(a, row, rows, GD_BFLOAT16, layer);
      } else {
        rows = 1; /* these wait for memory, not for sums */
        backward_rows(a, row, 1, GD_FLOAT32, layer);
      }
    }
  }
  return GD_OK;
}
GD_CPU_KERNEL(norm_backward, gd_norm_args, NULL, 0) /* dx may be dresidual */
