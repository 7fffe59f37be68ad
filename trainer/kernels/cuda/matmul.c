/* matmul.c - matrix products through cuBLASLt, leaves and trees around them.
 *
 * Which bits an element gets must depend on its leaves only. So an algorithm is chosen once for (form, n, k, types, bias,
 * alignment), always as for REFERENCE_ROWS rows, without split-K and without a reduction scheme, and used for every number of
 * rows; a product with leaves writes each leaf's product to scratch and adds them in the order of the canonical tree. The CPU
 * starts an accumulating chain from C; here C is added to the finished chain, so the two device kinds differ in rounding.
 *
 * cuBLASLt counts columns first: row-major C [m][n] is its n x m matrix, B comes first and A second. */
#include <cublasLt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shard/memory.h"
#include "trainer/kernels/cuda/table.h"

enum { REFERENCE_ROWS = 1024, CACHE_ENTRIES = 1024, CACHE_PROBES = 16, CANDIDATES = 32, ALIGNED_BYTES = 16 };
static const size_t workspace_bytes = GD_GPU_WORKSPACE_BYTES;

/* Everything an algorithm may depend on; zeroed before it is filled, so that it compares as bytes. */
typedef struct key {
  int64_t n, k;
  int32_t form, dtype, c_dtype;
  int32_t bias;    /* 1: added by the product itself */
  int32_t aligned; /* 1: all operands and rows start at multiples of ALIGNED_BYTES */
} key;

typedef struct cached {
  bool used;
  key key;
  cublasLtMatmulAlgo_t algo;
} cached;

struct gd_cuda_matmul {
  cublasLtHandle_t handle;
  void *workspace;
  cached cache[CACHE_ENTRIES];
};

/* One plain product, C = A B + beta C (+ bias). */
typedef struct product {
  gd_matmul_form form;
  int64_t m, n, k;
  gd_dtype dtype, c_dtype;
  const void *a, *b;
  int64_t lda, ldb, ldc;
  void *c;
  float beta;
  const void *bias; /* [n] of dtype or NULL; only where c_dtype is dtype */
} product;

typedef struct layouts {
  cublasLtMatmulDescOpaque_t operation;
  cublasLtMatrixLayoutOpaque_t first, second, result; /* B, A, C */
} layouts;

static gd_status check(cublasStatus_t status, const char *what) {
  if (status == CUBLAS_STATUS_SUCCESS) return GD_OK;
  gd_status code = status == CUBLAS_STATUS_ALLOC_FAILED || status == CUBLAS_STATUS_EXECUTION_FAILED ||
                           status == CUBLAS_STATUS_NOT_INITIALIZED || status == CUBLAS_STATUS_INTERNAL_ERROR
                       ? GD_NO_MEMORY
                       : GD_BUG;
  return gd_fail(code, "matmul: %s: %s", what, cublasLtGetStatusString(status));
}

static cudaDataType_t type_of(gd_dtype dtype) {
  return dtype == GD_BFLOAT16 ? CUDA_R_16BF : CUDA_R_32F;
}

static gd_status describe(const product *p, layouts *out) {
  cublasOperation_t first = p->form == GD_MATMUL_NT ? CUBLAS_OP_T : CUBLAS_OP_N;
  cublasOperation_t second = p->form == GD_MATMUL_TN ? CUBLAS_OP_T : CUBLAS_OP_N;
  cudaDataType_t type = type_of(p->dtype), c_type = type_of(p->c_dtype);
  uint64_t m = (uint64_t)p->m, n = (uint64_t)p->n, k = (uint64_t)p->k;
  cublasLtMatmulDesc_t operation = &out->operation;
  /* Products of float32 are float32 products: no TF32. */
  GD_TRY(check(cublasLtMatmulDescInit(operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), "describe"));
  GD_TRY(check(cublasLtMatmulDescSetAttribute(operation, CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof first), "describe"));
  GD_TRY(check(cublasLtMatmulDescSetAttribute(operation, CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof second), "describe"));
  if (p->bias) {
    cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    GD_TRY(check(cublasLtMatmulDescSetAttribute(operation, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue),
                 "describe"));
    GD_TRY(check(cublasLtMatmulDescSetAttribute(operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p->bias, sizeof p->bias),
                 "describe"));
  }
  bool b_rows_are_n = p->form == GD_MATMUL_NT, a_rows_are_k = p->form == GD_MATMUL_TN;
  GD_TRY(check(cublasLtMatrixLayoutInit(&out->first, type, b_rows_are_n ? k : n, b_rows_are_n ? n : k, p->ldb), "describe"));
  GD_TRY(check(cublasLtMatrixLayoutInit(&out->second, type, a_rows_are_k ? m : k, a_rows_are_k ? k : m, p->lda), "describe"));
  return check(cublasLtMatrixLayoutInit(&out->result, c_type, n, m, p->ldc), "describe");
}

/* ---- the choice of an algorithm ---- */

static bool is_aligned(const void *pointer, int64_t ld, gd_dtype dtype) {
  return (uintptr_t)pointer % ALIGNED_BYTES == 0 && (size_t)ld * gd_dtype_bytes(dtype) % ALIGNED_BYTES == 0;
}

static key key_of(const product *p) {
  key result;
  memset(&result, 0, sizeof result);
  result.n = p->n;
  result.k = p->k;
  result.form = (int32_t)p->form;
  result.dtype = (int32_t)p->dtype;
  result.c_dtype = (int32_t)p->c_dtype;
  result.bias = p->bias != NULL;
  result.aligned = is_aligned(p->a, p->lda, p->dtype) && is_aligned(p->b, p->ldb, p->dtype) &&
                   is_aligned(p->c, p->ldc, p->c_dtype) && is_aligned(p->bias, 0, p->dtype);
  return result;
}

static int64_t row_length(int64_t elements, gd_dtype dtype, bool aligned) {
  int64_t step = aligned ? ALIGNED_BYTES / (int64_t)gd_dtype_bytes(dtype) : 1;
  return (elements + step - 1) / step * step;
}

/* The product that stands for all of its key: `rows` rows, dense operands. */
static product stand_in(const key *wanted, int64_t rows) {
  /* Of a bias only its alignment counts: nothing reads it. */
  _Alignas(ALIGNED_BYTES) static const unsigned char bias[2 * ALIGNED_BYTES];
  bool aligned = wanted->aligned != 0;
  gd_dtype dtype = (gd_dtype)wanted->dtype, c_dtype = (gd_dtype)wanted->c_dtype;
  product p = {
      .form = (gd_matmul_form)wanted->form, .m = rows, .n = wanted->n, .k = wanted->k, .dtype = dtype, .c_dtype = c_dtype};
  p.lda = row_length(p.form == GD_MATMUL_TN ? rows : p.k, dtype, aligned);
  p.ldb = row_length(p.form == GD_MATMUL_NT ? p.k : p.n, dtype, aligned);
  p.ldc = row_length(p.n, c_dtype, aligned);
  if (wanted->bias) p.bias = aligned ? bias : bias + gd_dtype_bytes(dtype);
  return p;
}

static gd_status prefer(const key *wanted, cublasLtMatmulPreferenceOpaque_t *out) {
  uint32_t none = CUBLASLT_REDUCTION_SCHEME_NONE;
  uint32_t ab = (uint32_t)(wanted->aligned ? ALIGNED_BYTES : gd_dtype_bytes((gd_dtype)wanted->dtype));
  uint32_t cd = (uint32_t)(wanted->aligned ? ALIGNED_BYTES : gd_dtype_bytes((gd_dtype)wanted->c_dtype));
  const struct {
    cublasLtMatmulPreferenceAttributes_t name;
    const void *value;
    size_t bytes;
  } settings[] = {
      {CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace_bytes, sizeof workspace_bytes},
      {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &none, sizeof none},
      {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &ab, sizeof ab},
      {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &ab, sizeof ab},
      {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &cd, sizeof cd},
      {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &cd, sizeof cd},
  };
  GD_TRY(check(cublasLtMatmulPreferenceInit(out), "prefer"));
  for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
    GD_TRY(check(cublasLtMatmulPreferenceSetAttribute(out, settings[i].name, settings[i].value, settings[i].bytes), "prefer"));
  return GD_OK;
}

/* One chain over k for each element: no split of the inner dimension. */
static bool is_whole(const cublasLtMatmulAlgo_t *algo) {
  int32_t splits = 0;
  uint32_t scheme = CUBLASLT_REDUCTION_SCHEME_NONE;
  size_t written = 0;
  if (cublasLtMatmulAlgoConfigGetAttribute(algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &splits, sizeof splits, &written) ==
          CUBLAS_STATUS_SUCCESS &&
      splits > 1)
    return false;
  if (cublasLtMatmulAlgoConfigGetAttribute(algo, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &scheme, sizeof scheme, &written) ==
          CUBLAS_STATUS_SUCCESS &&
      scheme != CUBLASLT_REDUCTION_SCHEME_NONE)
    return false;
  return true;
}

static bool serves(struct gd_cuda_matmul *own, const key *wanted, const cublasLtMatmulAlgo_t *algo, int64_t rows) {
  product p = stand_in(wanted, rows);
  layouts l;
  cublasLtMatmulHeuristicResult_t result;
  if (describe(&p, &l) != GD_OK) return false;
  return cublasLtMatmulAlgoCheck(own->handle, &l.operation, &l.first, &l.second, &l.result, &l.result, algo, &result) ==
             CUBLAS_STATUS_SUCCESS &&
         result.workspaceSize <= workspace_bytes;
}

/* The fastest candidate for the reference that serves few and many rows too; else the fastest for the reference. */
static gd_status choose(struct gd_cuda_matmul *own, const key *wanted, cublasLtMatmulAlgo_t *out) {
  static const int64_t rows[] = {1, 16, 256, 131072};
  cublasLtMatmulHeuristicResult_t candidates[CANDIDATES];
  cublasLtMatmulPreferenceOpaque_t preference;
  product p = stand_in(wanted, REFERENCE_ROWS);
  layouts l;
  int count = 0, chosen = -1;
  GD_TRY(describe(&p, &l));
  GD_TRY(prefer(wanted, &preference));
  GD_TRY(check(cublasLtMatmulAlgoGetHeuristic(own->handle, &l.operation, &l.first, &l.second, &l.result, &l.result, &preference,
                                              CANDIDATES, candidates, &count),
               "choose an algorithm"));
  for (int i = 0; i < count; i++) {
    if (candidates[i].state != CUBLAS_STATUS_SUCCESS || !is_whole(&candidates[i].algo)) continue;
    if (chosen < 0) chosen = i;
    bool all = true;
    for (size_t r = 0; r < sizeof rows / sizeof *rows && all; r++) all = serves(own, wanted, &candidates[i].algo, rows[r]);
    if (all) {
      chosen = i;
      break;
    }
  }
  if (chosen < 0)
    return gd_fail(GD_BUG, "matmul: no algorithm without split-K for n %lld, k %lld, %s (%d offered)", (long long)wanted->n,
                   (long long)wanted->k, gd_dtype_name((gd_dtype)wanted->dtype), count);
  *out = candidates[chosen].algo;
  return GD_OK;
}

static uint64_t hash_of(const key *wanted) {
  const unsigned char *bytes = (const unsigned char *)wanted;
  uint64_t hash = 14695981039346656037u; /* FNV-1a */
  for (size_t i = 0; i < sizeof *wanted; i++) hash = (hash ^ bytes[i]) * 1099511628211u;
  return hash;
}

/* A choice is a pure function of its key, so one that was pushed out and chosen again is the same. */
static gd_status find(struct gd_cuda_matmul *own, const product *p, const cublasLtMatmulAlgo_t **out) {
  key wanted = key_of(p);
  uint64_t hash = hash_of(&wanted);
  cached *place = NULL;
  for (uint64_t i = 0; i < CACHE_PROBES; i++) {
    cached *entry = &own->cache[(hash + i) % CACHE_ENTRIES];
    if (entry->used && memcmp(&entry->key, &wanted, sizeof wanted) == 0) {
      *out = &entry->algo;
      return GD_OK;
    }
    if (!entry->used && !place) place = entry;
  }
  if (!place) place = &own->cache[hash % CACHE_ENTRIES];
  place->used = false;
  GD_TRY(choose(own, &wanted, &place->algo));
  place->key = wanted;
  place->used = true;
  *out = &place->algo;
  return GD_OK;
}

static gd_status multiply(gd_kernels *kernels, const product *p) {
  static const float one = 1.0f;
  struct gd_cuda_matmul *own = gd_cuda_state_of(kernels)->matmul;
  const cublasLtMatmulAlgo_t *algo = NULL;
  layouts l;
  struct CUstream_st *stream = gd_cuda_stream_enter(kernels->stream);
  GD_TRY(find(own, p, &algo));
  GD_TRY(describe(p, &l));
  return check(cublasLtMatmul(own->handle, &l.operation, &one, p->b, &l.first, p->a, &l.second, &p->beta, p->c, &l.result, p->c,
                              &l.result, algo, own->workspace, workspace_bytes, stream),
               "enqueue");
}

/* ---- leaves ---- */

/* A panel of rows of C: partial sum s lies in scratch at s * rows * n. */
typedef struct panel {
  gd_kernels *kernels;
  const gd_matmul *args;
  int64_t first_row, rows, inner; /* inner leaves of an outer leaf */
  float *scratch;
} panel;

static const char *at(const void *base, gd_dtype dtype, int64_t elements) {
  return (const char *)base + elements * (int64_t)gd_dtype_bytes(dtype);
}

static float *slot_of(const panel *p, int slot) {
  return p->scratch + slot * p->rows * p->args->n;
}

static gd_status leaf(const panel *p, int64_t outer, int64_t inner, int slot) {
  const gd_matmul *m = p->args;
  int64_t step = m->k_leaf > 0 ? m->k_leaf : m->k, start = inner * step;
  int64_t a = outer * m->a_leaf_stride, b = outer * m->b_leaf_stride;
  a += m->form == GD_MATMUL_TN ? start * m->lda + p->first_row : start + p->first_row * m->lda;
  b += m->form == GD_MATMUL_NT ? start : start * m->ldb;
  const product one = {.form = m->form,
                       .m = p->rows,
                       .n = m->n,
                       .k = m->k - start < step ? m->k - start : step,
                       .dtype = m->dtype,
                       .c_dtype = GD_FLOAT32,
                       .a = at(m->a, m->dtype, a),
                       .lda = m->lda,
                       .b = at(m->b, m->dtype, b),
                       .ldb = m->ldb,
                       .c = slot_of(p, slot),
                       .ldc = m->n};
  return multiply(p->kernels, &one);
}

static int64_t left_part(int64_t count) {
  int64_t half = 1;
  while (2 * half < count) half *= 2;
  return half;
}

/* The tree over inner leaves [first, first + count) of an outer leaf, into `slot`; uses the slots above it. */
static gd_status inner_tree(const panel *p, int64_t outer, int64_t first, int64_t count, int slot) {
  if (count == 1) return leaf(p, outer, first, slot);
  int64_t left = left_part(count);
  GD_TRY(inner_tree(p, outer, first, left, slot));
  GD_TRY(inner_tree(p, outer, first + left, count - left, slot + 1));
  return gd_cuda_tree_add(p->kernels, slot_of(p, slot), slot_of(p, slot + 1), p->rows * p->args->n);
}

static gd_status outer_tree(const panel *p, int64_t first, int64_t count, int slot) {
  if (count == 1) return inner_tree(p, first, 0, p->inner, slot);
  int64_t left = left_part(count);
  GD_TRY(outer_tree(p, first, left, slot));
  GD_TRY(outer_tree(p, first + left, count - left, slot + 1));
  return gd_cuda_tree_add(p->kernels, slot_of(p, slot), slot_of(p, slot + 1), p->rows * p->args->n);
}

/* Levels below the root of a tree over `count` leaves: the slots its right spine takes besides the first. */
static int levels(int64_t count) {
  int result = 0;
  while (((int64_t)1 << result) < count) result++;
  return result;
}

static gd_status run_leaves(gd_kernels *kernels, const gd_matmul *m, int64_t inner) {
  const gd_cuda_state *state = gd_cuda_state_of(kernels);
  int64_t slots = levels(m->leaves) + levels(inner) + 1;
  int64_t rows = (int64_t)(state->scratch_bytes / sizeof(float)) / (slots * m->n);
  if (rows > ALIGNED_BYTES) rows -= rows % ALIGNED_BYTES; /* panels start aligned */
  if (rows < 1)
    return gd_fail(GD_USAGE, "a product with rows of %lld and %lld leaves needs more than %zu bytes of scratch",
                   (long long)m->n, (long long)(m->leaves * inner), state->scratch_bytes);
  for (int64_t first = 0; first < m->m; first += rows) {
    panel p = {kernels, m, first, m->m - first < rows ? m->m - first : rows, inner, (float *)state->scratch};
    GD_TRY(outer_tree(&p, 0, m->leaves, 0));
    const gd_cuda_finish finish = {.rows = p.rows,
                                   .columns = m->n,
                                   .sum = p.scratch,
                                   .sum_ld = m->n,
                                   .c_dtype = m->c_dtype,
                                   .c = (char *)m->c + first * m->ldc * (int64_t)gd_dtype_bytes(m->c_dtype),
                                   .ldc = m->ldc,
                                   .accumulate = m->accumulate,
                                   .bias_dtype = m->dtype,
                                   .bias = m->bias};
    GD_TRY(gd_cuda_matmul_finish(kernels, &finish));
  }
  return GD_OK;
}

/* One chain: straight into C. The product adds the bias itself where C is stored; a float32 C of a bfloat16 product gets it
 * afterwards, cuBLASLt has no such pair. */
static gd_status run_single(gd_kernels *kernels, const gd_matmul *m) {
  bool fused = m->bias && m->c_dtype == m->dtype;
  const product one = {.form = m->form,
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
                       .bias = fused ? m->bias : NULL};
  GD_TRY(multiply(kernels, &one));
  if (!m->bias || fused) return GD_OK;
  const gd_cuda_finish finish = {.rows = m->m,
                                 .columns = m->n,
                                 .sum = (const float *)m->c,
                                 .sum_ld = m->ldc,
                                 .c_dtype = m->c_dtype,
                                 .c = m->c,
                                 .ldc = m->ldc,
                                 .bias_dtype = m->dtype,
                                 .bias = m->bias};
  return gd_cuda_matmul_finish(kernels, &finish);
}

gd_status gd_cuda_matmul_run(gd_kernels *kernels, const gd_matmul *args) {
  if (args->m == 0 || args->n == 0) return GD_OK;
  if (args->k < 1 || args->leaves < 1 || (args->accumulate && args->c_dtype != GD_FLOAT32) ||
      (args->dtype != GD_FLOAT32 && args->dtype != GD_BFLOAT16) ||
      (args->c_dtype != GD_FLOAT32 && args->c_dtype != args->dtype))
    return gd_fail(GD_BUG, "matmul of %s into %s: k %lld, %lld leaves%s", gd_dtype_name(args->dtype),
                   gd_dtype_name(args->c_dtype), (long long)args->k, (long long)args->leaves,
                   args->accumulate ? ", accumulating" : "");
  int64_t inner = args->k_leaf > 0 ? (args->k + args->k_leaf - 1) / args->k_leaf : 1;
  if (args->leaves == 1 && inner == 1) return run_single(kernels, args);
  return run_leaves(kernels, args, inner);
}

gd_status gd_cuda_matmul_open(gd_kernels *kernels, struct gd_cuda_matmul **out) {
  gd_device *device = kernels->device;
  gd_cuda_device_enter(device);
  struct gd_cuda_matmul *own = calloc(1, sizeof *own);
  if (!own) return gd_fail(GD_NO_MEMORY, "out of memory for the matrix product");
  gd_status status = device->ops->alloc(device, workspace_bytes, &own->workspace);
  if (status == GD_OK) status = check(cublasLtCreate(&own->handle), "start cuBLASLt");
  if (status != GD_OK) {
    if (own->workspace) device->ops->free(device, own->workspace);
    free(own);
    return status;
  }
  *out = own;
  return GD_OK;
}

void gd_cuda_matmul_close(gd_kernels *kernels, struct gd_cuda_matmul *matmul) {
  if (!matmul) return;
  gd_device *device = kernels->device;
  gd_cuda_device_enter(device);
  (void)cublasLtDestroy(matmul->handle);
  device->ops->free(device, matmul->workspace);
  free(matmul);
}
