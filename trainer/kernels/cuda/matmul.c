/* matmul.c - the matrix product: which kernel does it, leaves and the tree around them.
 *
 * `invariant` has kernels of our own: gemm.cu in float32, chain for chain the CPU's product, gemm_bf16.cu in bfloat16. `fast`
 * is cuBLASLt's; there an inner leaf is not cut (docs/rounding.md). A product of leaves writes them all to scratch memory in
 * one launch and a second one adds them in the tree's order. Where they do not fit, C is done in panels of rows, and the leaves
 * in nodes of the tree.
 */
#include "trainer/kernels/cuda/table.h"

enum { PANEL_ROWS = 128, PANEL_STEP = 16 }; /* fewer rows would waste the products; panels start aligned */

/* A panel of rows of C and how its leaves lie in scratch memory: [leaves of a node][rows][n], then [nodes][rows][n]. */
typedef struct panel {
  gd_kernels *kernels;
  const gd_matmul *args;
  bool own; /* gemm.cu, gemm_bf16.cu */
  int64_t first_row, rows;
  int64_t inner;         /* inner leaves of an outer one */
  int64_t leaves, nodes; /* outer leaves of a node */
  float *scratch;
} panel;

static const void *at(const void *base, gd_dtype dtype, int64_t elements) {
  return (const char *)base + elements * (int64_t)gd_dtype_bytes(dtype);
}

static gd_status run_gemm(gd_kernels *kernels, gd_dtype dtype, const gd_cuda_gemm *args) {
  return dtype == GD_FLOAT32 ? gd_cuda_gemm_run(kernels, args) : gd_cuda_gemm_bf16_run(kernels, args);
}

/* The products of outer leaves first to first + count. */
static gd_status multiply(const panel *p, int64_t first, int64_t count) {
  const gd_matmul *m = p->args;
  int64_t skipped = m->form == GD_MATMUL_TN ? p->first_row : p->first_row * m->lda;
  const void *a = at(m->a, m->dtype, first * m->a_leaf_stride + skipped), *b = at(m->b, m->dtype, first * m->b_leaf_stride);
  if (p->own) {
    const gd_cuda_gemm leaves = {.form = m->form,
                                 .m = p->rows,
                                 .n = m->n,
                                 .k = m->k,
                                 .k_leaf = p->inner > 1 ? m->k_leaf : m->k,
                                 .inner = p->inner,
                                 .leaves = count,
                                 .a = a,
                                 .lda = m->lda,
                                 .a_leaf_stride = m->a_leaf_stride,
                                 .b = b,
                                 .ldb = m->ldb,
                                 .b_leaf_stride = m->b_leaf_stride,
                                 .c_dtype = GD_FLOAT32,
                                 .c = p->scratch,
                                 .ldc = m->n,
                                 .c_leaf_stride = p->rows * m->n};
    return run_gemm(p->kernels, m->dtype, &leaves);
  }
  const gd_cuda_product leaves = {.form = m->form,
                                  .m = p->rows,
                                  .n = m->n,
                                  .k = m->k,
                                  .dtype = m->dtype,
                                  .c_dtype = GD_FLOAT32,
                                  .a = a,
                                  .lda = m->lda,
                                  .a_stride = m->a_leaf_stride,
                                  .b = b,
                                  .ldb = m->ldb,
                                  .b_stride = m->b_leaf_stride,
                                  .c = p->scratch,
                                  .ldc = m->n,
                                  .c_stride = p->rows * m->n,
                                  .batch = count};
  return gd_cuda_blas_run(p->kernels, &leaves);
}

/* The tree over `leaves` x `inner` sums from `sum` on into `to`, a float32 node, or into C. */
static gd_status add_up(const panel *p, const float *sum, int64_t leaves, int64_t inner, float *to) {
  const gd_matmul *m = p->args;
  gd_cuda_finish finish = {.rows = p->rows,
                           .columns = m->n,
                           .leaves = leaves,
                           .inner = inner,
                           .sum = sum,
                           .sum_ld = m->n,
                           .leaf_stride = p->rows * m->n,
                           .c_dtype = GD_FLOAT32,
                           .c = to,
                           .ldc = m->n};
  if (!to) {
    finish.c_dtype = m->c_dtype;
    finish.c = (char *)m->c + p->first_row * m->ldc * (int64_t)gd_dtype_bytes(m->c_dtype);
    finish.ldc = m->ldc;
    finish.bias_dtype = m->dtype;
    finish.bias = m->bias;
  }
  return gd_cuda_matmul_finish(p->kernels, &finish);
}

static gd_status run_panel(const panel *p) {
  float *nodes = p->scratch + p->leaves * p->inner * p->rows * p->args->n;
  for (int64_t node = 0; node < p->nodes; node++) {
    int64_t first = node * p->leaves, left = p->args->leaves - first, count = left < p->leaves ? left : p->leaves;
    GD_TRY(multiply(p, first, count));
    GD_TRY(add_up(p, p->scratch, count, p->inner, p->nodes > 1 ? nodes + node * p->rows * p->args->n : NULL));
  }
  return p->nodes > 1 ? add_up(p, nodes, p->nodes, 1, NULL) : GD_OK;
}

/* The largest power of two below `count`. */
static int64_t left_part(int64_t count) {
  int64_t half = 1;
  while (2 * half < count) half *= 2;
  return half;
}

static gd_status run_leaves(gd_kernels *kernels, const gd_matmul *m, bool own, int64_t inner) {
  const gd_cuda_state *state = gd_cuda_state_of(kernels);
  int64_t floats = (int64_t)(state->scratch_bytes / sizeof(float)) / m->n;
  panel p = {.kernels = kernels, .args = m, .own = own, .inner = inner, .scratch = (float *)state->scratch};
  p.leaves = m->leaves;
  p.nodes = 1;
  int64_t rows = floats / (p.leaves * inner), enough = m->m < PANEL_ROWS ? m->m : PANEL_ROWS;
  while (rows < enough && p.leaves > 1) {
    p.leaves = left_part(p.leaves);
    p.nodes = (m->leaves + p.leaves - 1) / p.leaves;
    rows = floats / (p.leaves * inner + p.nodes);
  }
  if (rows < m->m) rows -= rows % PANEL_STEP;
  if (rows < 1)
    return gd_fail(GD_USAGE, "a product with rows of %lld and %lld leaves needs more than %zu bytes of scratch memory",
                   (long long)m->n, (long long)(m->leaves * inner), state->scratch_bytes);
  for (p.first_row = 0; p.first_row < m->m; p.first_row += rows) {
    p.rows = m->m - p.first_row < rows ? m->m - p.first_row : rows;
    GD_TRY(run_panel(&p));
  }
  return GD_OK;
}

/* One chain, straight into C. */
static gd_status run_own(gd_kernels *kernels, const gd_matmul *m) {
  const gd_cuda_gemm one = {.form = m->form,
                            .m = m->m,
                            .n = m->n,
                            .k = m->k,
                            .k_leaf = m->k,
                            .inner = 1,
                            .leaves = 1,
                            .a = m->a,
                            .lda = m->lda,
                            .b = m->b,
                            .ldb = m->ldb,
                            .c_dtype = m->c_dtype,
                            .c = m->c,
                            .ldc = m->ldc,
                            .accumulate = m->accumulate,
                            .bias = m->bias};
  return run_gemm(kernels, m->dtype, &one);
}

static gd_cuda_product product_of(const gd_matmul *m) {
  gd_cuda_product one = {.form = m->form,
                         .m = m->m,
                         .n = m->n,
                         .k = m->k,
                         .dtype = m->dtype,
                         .c_dtype = m->c_dtype,
                         .a = m->a,
                         .lda = m->lda,
                         .b = m->b,
                         .ldb = m->ldb,
                         .c = m->c,
                         .ldc = m->ldc,
                         .beta = m->accumulate ? 1.0f : 0.0f,
                         .bias = m->c_dtype == m->dtype ? m->bias : NULL,
                         .batch = 1,
                         .end = m->end,
                         .kept = m->kept};
  return one;
}

/* The product adds the bias itself where C is stored; a float32 C of a bfloat16 product gets it afterwards, cuBLASLt has no
 * such pair. */
static gd_status run_blas(gd_kernels *kernels, const gd_matmul *m) {
  const gd_cuda_product one = product_of(m);
  GD_TRY(gd_cuda_blas_run(kernels, &one));
  if (m->bias == one.bias) return GD_OK;
  const gd_cuda_finish finish = {.rows = m->m,
                                 .columns = m->n,
                                 .leaves = 1,
                                 .inner = 1,
                                 .sum = (const float *)m->c,
                                 .sum_ld = m->ldc,
                                 .c_dtype = m->c_dtype,
                                 .c = m->c,
                                 .ldc = m->ldc,
                                 .bias_dtype = m->dtype,
                                 .bias = m->bias};
  return gd_cuda_matmul_finish(kernels, &finish);
}

/* A product with an end: in the library's epilogue, or as two calls. float32 is always two, for the library may evaluate tanh
 * to bfloat16's needs. */
static gd_status run_with_end(gd_kernels *kernels, const gd_matmul *m) {
  bool offered = kernels->fast && m->dtype == GD_BFLOAT16 && m->leaves == 1 && m->n % GD_CUDA_KEPT_STEP == 0;
  const gd_cuda_product one = product_of(m);
  if (offered) GD_TRY(gd_cuda_blas_offers(kernels, &one, &offered));
  if (offered) return gd_cuda_blas_run(kernels, &one);
  const gd_matmul alone = gd_matmul_alone(m);
  const gd_activation_args end = gd_matmul_activation(m);
  GD_TRY(gd_cuda_matmul_run(kernels, &alone));
  return m->end == GD_MATMUL_GELU ? gd_cuda_activation_forward(kernels, &end) : gd_cuda_activation_backward(kernels, &end);
}

gd_status gd_cuda_matmul_run(gd_kernels *kernels, const gd_matmul *args) {
  if (args->m == 0 || args->n == 0) return GD_OK;
  bool cut = args->k_leaf > 0 && args->k_leaf < args->k;
  if (args->k < 1 || args->leaves < 1 || (args->accumulate && (args->c_dtype != GD_FLOAT32 || args->leaves > 1 || cut)) ||
      (args->dtype != GD_FLOAT32 && args->dtype != GD_BFLOAT16) ||
      (args->c_dtype != GD_FLOAT32 && args->c_dtype != args->dtype) || !gd_matmul_end_fits(args))
    return gd_fail(GD_BUG, "matmul of %s into %s: k %lld, %lld leaves%s%s", gd_dtype_name(args->dtype),
                   gd_dtype_name(args->c_dtype), (long long)args->k, (long long)args->leaves,
                   args->accumulate ? ", accumulating" : "", args->end ? ", with GELU" : "");
  if (args->end) return run_with_end(kernels, args);
  bool own = !kernels->fast;
  int64_t inner = own && cut ? (args->k + args->k_leaf - 1) / args->k_leaf : 1;
  if (args->leaves > 1 || inner > 1) return run_leaves(kernels, args, own, inner);
  return own ? run_own(kernels, args) : run_blas(kernels, args);
}
