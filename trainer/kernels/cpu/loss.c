/* loss.c - softmax cross entropy over a vocabulary cut into blocks, in four passes over rows of logits. */
#include "trainer/kernels/cpu/math.h"
#include "trainer/kernels/cpu/parallel.h"
#include "trainer/kernels/cpu/table.h"
#include "trainer/kernels/cpu/tree_stack.h"

/* The target's column in this block, or -1. */
static int64_t target_column(const gd_loss *a, int64_t row) {
  int64_t column = (int64_t)a->targets[row] - a->first_column;
  return column >= 0 && column < a->valid_columns ? column : -1;
}

/* A NaN is passed over, in whatever order the others come: it shows in the sum of exponentials. The lanes are those of a row
 * sum: one register would wait for itself. */
static void max_row(const gd_loss *a, int64_t row, float *e) {
  (void)e;
  const float *logits = a->logits + row * a->ld;
  const int64_t columns = a->valid_columns;
  vf least = vf_set1(-INFINITY);
  row_sum largest = {{least, least, least, least, least, least, least, least}};
  ROW_FOR_VECTORS(v, c, n, columns)
  largest.lanes[v] = vf_max(vf_first_n(vf_load_as(GD_FLOAT32, logits, c, n), least, n), largest.lanes[v]);
  for (int v = 1; v < ROW_VECTORS; v++) largest.lanes[0] = vf_max(largest.lanes[v], largest.lanes[0]);
  float block = vf_hmax(largest.lanes[0]) + 0.0f; /* a zero is +0, whichever came first */
  a->row_max[row] = block > a->row_max[row] ? block : a->row_max[row];
}

/* The exponentials go to e, which may be the logits. The next row, which is in no cache, is fetched meanwhile: half of its
 * lines here, the others in gradient_row. */
static ALWAYS_INLINE void exponentials(const gd_loss *a, int64_t row, float *e, const bool smooth) {
  const float *logits = a->logits + row * a->ld, *next = logits + a->ld;
  const int64_t columns = a->valid_columns, target = target_column(a, row);
  float its = target >= 0 ? logits[target] - a->row_max[row] : 0.0f;
  row_sum sum = row_sum_zero(), all = row_sum_zero();
  vf largest = vf_set1(a->row_max[row]);
  ROW_FOR_VECTORS(v, c, n, columns) {
    if (v % 2 == 0) __builtin_prefetch(next + c, 0, 2);
    vf x = vf_sub(vf_load_as(GD_FLOAT32, logits, c, n), largest), power = vf_exp(x);
    if (smooth) all.lanes[v] = vf_add(all.lanes[v], vf_first_n(x, vf_zero(), n));
    vf_store_as(GD_FLOAT32, e, c, power, n);
    sum.lanes[v] = vf_add(sum.lanes[v], vf_first_n(power, vf_zero(), n));
  }
  a->block_sum[row] = row_sum_total(sum);
  if (smooth) {
    float share = (1.0f - a->smoothing) * its, spread = a->spread * row_sum_total(all);
    its = share + spread;
  }
  a->block_target[row] = its;
}

/* e: where the row's exponentials are, NULL: in the place of its logits. */
static void exponentials_row(const gd_loss *a, int64_t row, float *e) {
  if (!e) e = a->logits + row * a->ld;
  if (a->smoothing > 0.0f) {
    exponentials(a, row, e, true);
  } else {
    exponentials(a, row, e, false);
  }
}

/* From the exponentials e. dlogits may be their memory, also when it is narrower: a store never passes the loads. */
static ALWAYS_INLINE void gradient(const gd_loss *a, int64_t row, const float *e, const gd_dtype dtype) {
  const float *next = a->logits + (row + 1) * a->ld;
  const int64_t columns = a->valid_columns, at = row * a->dld, target = target_column(a, row);
  void *to = a->dlogits;
  vf sum = vf_set1(a->row_sum[row]), weight = vf_set1(a->weights[row]), spread = vf_set1(a->spread);
  int64_t its = target < 0 ? 0 : target / VF_LANES * VF_LANES; /* the vector of the target */
  vf lanes = vf_load_n(e + its, target < 0 ? 0 : vf_left(its, columns));
  for (int64_t c = 0; c < columns; c += VF_LANES) {
    int n = vf_left(c, columns);
    if (c / VF_LANES % 2) __builtin_prefetch(next + c, 0, 2);
    vf_store_as(dtype, to, at + c, vf_mul(vf_sub(vf_div(vf_load_as(GD_FLOAT32, e, c, n), sum), spread), weight), n);
  }
  if (target >= 0) {
    float p[VF_LANES];
    vf_store(p, vf_sub(vf_div(lanes, sum), spread));
    p[target - its] -= 1.0f - a->smoothing;
    vf_store_as(dtype, to, at + its, vf_mul(vf_load(p), weight), vf_left(its, columns));
  }
  for (int64_t c = columns > 0 ? columns : 0; c < a->columns; c += VF_LANES)
    vf_store_as(dtype, to, at + c, vf_zero(), vf_left(c, a->columns));
}

static void gradient_row(const gd_loss *a, int64_t row, float *e) {
  if (!e) e = a->logits + row * a->ld;
  if (a->dtype == GD_BFLOAT16) {
    gradient(a, row, e, GD_BFLOAT16);
  } else {
    gradient(a, row, e, GD_FLOAT32);
  }
}

static float tree_of_blocks(const float *leaves, int64_t stride, int32_t blocks) {
  vf stack[TREE_STACK_DEPTH];
  float lanes[VF_LANES];
  int depth = 0;
  for (int32_t block = 0; block < blocks; block++) tree_push(stack, &depth, block, vf_set1(leaves[block * stride]));
  vf_store(lanes, tree_root(stack, depth));
  return lanes[0];
}

/* A row while it is in the cache. */
static void whole_row(const gd_loss *a, int64_t row, float *e) {
  a->row_max[row] = GD_LOSS_LEAST;
  for (int32_t block = 0; block < a->blocks; block++) {
    gd_loss part = gd_loss_block(a, block);
    max_row(&part, row, NULL);
  }
  for (int32_t block = 0; block < a->blocks; block++) {
    gd_loss part = gd_loss_block(a, block);
    exponentials_row(&part, row, e ? e + block * a->columns : NULL);
  }
  a->row_sum[row] = tree_of_blocks(a->block_sum + row, a->rows, a->blocks);
  a->row_target[row] = tree_of_blocks(a->block_target + row, a->rows, a->blocks);
  for (int32_t block = 0; block < a->blocks && a->dlogits; block++) {
    gd_loss part = gd_loss_block(a, block);
    gradient_row(&part, row, e ? e + block * a->columns : NULL);
  }
}

/* apart: exponentials live in scratch memory. */
static gd_status run(const gd_loss *a, const gd_cpu_context *context, void (*row_kernel)(const gd_loss *, int64_t, float *),
                     bool apart) {
#pragma omp parallel num_threads(gd_parallel_threads(context->threads, a->rows * a->columns))
  {
    int64_t first, end;
    float *e = apart ? gd_cpu_scratch(context, omp_get_thread_num()) : NULL;
    gd_parallel_range(a->rows, 1, &first, &end);
    for (int64_t row = first; row < end; row++) row_kernel(a, row, e);
  }
  return GD_OK;
}

static gd_status loss_max_run(const gd_loss *a, const gd_cpu_context *context) {
  return run(a, context, max_row, false);
}
static gd_status loss_exponentials_run(const gd_loss *a, const gd_cpu_context *context) {
  return run(a, context, exponentials_row, false);
}
static gd_status loss_gradient_run(const gd_loss *a, const gd_cpu_context *context) {
  return run(a, context, gradient_row, false);
}

static gd_status loss_rows_run(const gd_loss *a, const gd_cpu_context *context) {
  (void)context;
  for (int64_t row = 0; row < a->rows; row += VF_LANES) {
    int n = vf_left(row, a->rows);
    vf loss = vf_sub(vf_log(vf_load_as(GD_FLOAT32, a->row_sum, row, n)), vf_load_as(GD_FLOAT32, a->row_target, row, n));
    vf_store_as(GD_FLOAT32, a->row_loss, row, vf_mul(vf_load_as(GD_FLOAT32, a->weights, row, n), loss), n);
  }
  return GD_OK;
}

/* A gradient in bfloat16 takes half of its logits' lines: exponentials in the others would all be written to memory. */
static gd_status loss_whole_run(const gd_loss *a, const gd_cpu_context *context) {
  bool fits = a->blocks * a->columns * (int64_t)sizeof(float) <= GD_CPU_SCRATCH_BYTES;
  GD_TRY(run(a, context, whole_row, fits && a->dtype == GD_BFLOAT16));
  return loss_rows_run(a, context);
}

static gd_status loss_sums_run(const gd_loss_sums *a, const gd_cpu_context *context) {
  (void)context;
  for (int64_t s = 0; s < a->sequences; s++) {
    float loss = 0.0f, weight = 0.0f;
    for (int64_t t = 0; t < a->length; t++) {
      loss += a->row_loss[s * a->length + t];
      weight += a->weights[s * a->length + t];
    }
    a->sums[2 * s] = loss;
    a->sums[2 * s + 1] = weight;
  }
  return GD_OK;
}

static void label_loss_row(const gd_label_loss_args *a, int64_t row) {
  float weight = a->weights[row] / (float)a->columns;
  vf keep = vf_set1(1.0f - a->smoothing), half = vf_set1(0.5f * a->smoothing), w = vf_set1(weight), one = vf_set1(1.0f);
  row_sum sum = row_sum_zero();
  ROW_FOR_VECTORS(v, c, n, a->columns) {
    vf z = vf_load_as(GD_FLOAT32, a->logits, row * a->ld + c, n);
    vf y = vf_add(vf_mul(vf_load_as(GD_FLOAT32, a->labels, row * a->columns + c, n), keep), half);
    vf e = vf_exp(vf_sub(vf_zero(), vf_max(z, vf_neg(z))));
    vf loss = vf_add(vf_sub(vf_max(z, vf_zero()), vf_mul(z, y)), vf_log(vf_add(one, e)));
    sum.lanes[v] = vf_add(sum.lanes[v], vf_first_n(loss, vf_zero(), n));
  }
  a->row_loss[row] = weight * row_sum_total(sum);
  /* In ascending order: a store of narrower elements over the logits never passes the loads. */
  for (int64_t c = 0; a->dlogits && c < a->columns; c += VF_LANES) {
    int n = vf_left(c, a->columns);
    vf z = vf_load_as(GD_FLOAT32, a->logits, row * a->ld + c, n);
    vf y = vf_add(vf_mul(vf_load_as(GD_FLOAT32, a->labels, row * a->columns + c, n), keep), half);
    vf p = vf_div(one, vf_add(one, vf_exp(vf_neg(z))));
    vf_store_as(a->dtype, a->dlogits, row * a->dld + c, vf_mul(vf_sub(p, y), w), n);
  }
}

static gd_status label_loss_run(const gd_label_loss_args *a, const gd_cpu_context *context) {
#pragma omp parallel num_threads(gd_parallel_threads(context->threads, a->rows * a->columns))
  {
    int64_t first, end;
    gd_parallel_range(a->rows, 1, &first, &end);
    for (int64_t row = first; row < end; row++) label_loss_row(a, row);
  }
  return GD_OK;
}

GD_CPU_KERNEL(loss_max, gd_loss, NULL, 0)
GD_CPU_KERNEL(loss_exponentials, gd_loss, args->block_sum, args->rows * 4)
GD_CPU_KERNEL(loss_gradient, gd_loss, NULL, 0) /* dlogits may be logits */
GD_CPU_KERNEL(loss_rows, gd_loss, args->row_loss, args->rows * 4)
GD_CPU_KERNEL(loss_whole, gd_loss, args->row_loss, args->rows * 4)
GD_CPU_KERNEL(loss_sums, gd_loss_sums, args->sums, args->sequences * 8)
GD_CPU_KERNEL(label_loss, gd_label_loss_args, args->row_loss, args->rows * 4)
