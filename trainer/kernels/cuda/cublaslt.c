/* cublaslt.c - the plain products of numerics: fast through cuBLASLt, one or a batch of them.
 *
 * An algorithm is chosen once for everything that may matter to it (key): sizes, types, bias, end, alignment. The inner
 * dimension may be split, the parts being added in order in float32. `invariant` does not come here: nothing promises that the
 * bits of a row do not depend on the number of rows.
 *
 * cuBLASLt counts columns first: row-major C [m][n] is its n x m matrix, B comes first and A second. */
#include <cublasLt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shard/memory.h"
#include "trainer/kernels/cuda/table.h"

enum { CACHE_ENTRIES = 1024, CACHE_PROBES = 16, CANDIDATES = 8, ALIGNED_BYTES = 16 };
static const size_t workspace_bytes = GD_GPU_WORKSPACE_BYTES;

/* Everything an algorithm may depend on; zeroed before it is filled, so that it compares as bytes. */
typedef struct key {
  int64_t m, n, k, batch;
  int32_t form, dtype, c_dtype;
  int32_t bias; /* 1: added by the product itself */
  int32_t end;
  int32_t aligned; /* 1: all operands and rows start at multiples of ALIGNED_BYTES */
} key;

typedef struct cached {
  bool used;
  key key;
  bool offered; /* else the library has none */
  cublasLtMatmulAlgo_t algo;
} cached;

struct gd_cuda_blas {
  cublasLtHandle_t handle;
  void *workspace;
  cached cache[CACHE_ENTRIES];
};

typedef gd_cuda_product product;

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

static gd_status lay_out(cublasLtMatrixLayout_t out, gd_dtype dtype, int64_t rows, int64_t columns, int64_t ld, int64_t batch,
                         int64_t stride) {
  int32_t count = (int32_t)batch;
  GD_TRY(check(cublasLtMatrixLayoutInit(out, type_of(dtype), (uint64_t)rows, (uint64_t)columns, ld), "describe"));
  GD_TRY(check(cublasLtMatrixLayoutSetAttribute(out, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count), "describe"));
  return check(cublasLtMatrixLayoutSetAttribute(out, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride, sizeof stride),
               "describe");
}

/* GELU is the tanh form there. */
static cublasLtEpilogue_t epilogue_of(const product *p) {
  switch (p->end) {
    case GD_MATMUL_GELU: return p->bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX;
    case GD_MATMUL_DGELU: return CUBLASLT_EPILOGUE_DGELU;
    case GD_MATMUL_PLAIN: break;
  }
  return p->bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
}

static gd_status describe(const product *p, layouts *out) {
  cublasOperation_t first = p->form == GD_MATMUL_NT ? CUBLAS_OP_T : CUBLAS_OP_N;
  cublasOperation_t second = p->form == GD_MATMUL_TN ? CUBLAS_OP_T : CUBLAS_OP_N;
  cublasLtMatmulDesc_t operation = &out->operation;
  /* Products of float32 are float32 products: no TF32. */
  GD_TRY(check(cublasLtMatmulDescInit(operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), "describe"));
  const cublasLtEpilogue_t epilogue = epilogue_of(p);
  const struct {
    cublasLtMatmulDescAttributes_t name;
    const void *value;
    size_t bytes;
    bool wanted;
  } settings[] = {
      {CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof first, true},
      {CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof second, true},
      {CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue, true},
      {CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p->bias, sizeof p->bias, p->bias != NULL},
      {CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &p->kept, sizeof p->kept, p->end != GD_MATMUL_PLAIN},
      {CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, &p->n, sizeof p->n, p->end != GD_MATMUL_PLAIN},
  };
  for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
    if (settings[i].wanted)
      GD_TRY(
          check(cublasLtMatmulDescSetAttribute(operation, settings[i].name, settings[i].value, settings[i].bytes), "describe"));
  bool b_rows_are_n = p->form == GD_MATMUL_NT, a_rows_are_k = p->form == GD_MATMUL_TN;
  GD_TRY(lay_out(&out->first, p->dtype, b_rows_are_n ? p->k : p->n, b_rows_are_n ? p->n : p->k, p->ldb, p->batch, p->b_stride));
  GD_TRY(
      lay_out(&out->second, p->dtype, a_rows_are_k ? p->m : p->k, a_rows_are_k ? p->k : p->m, p->lda, p->batch, p->a_stride));
  return lay_out(&out->result, p->c_dtype, p->n, p->m, p->ldc, p->batch, p->c_stride);
}

/* ---- the choice of an algorithm ---- */

static bool rows_aligned(gd_dtype dtype, int64_t elements) {
  return (size_t)elements * gd_dtype_bytes(dtype) % ALIGNED_BYTES == 0;
}

static bool starts_aligned(const product *p) {
  const uintptr_t starts = (uintptr_t)p->a | (uintptr_t)p->b | (uintptr_t)p->c | (uintptr_t)p->bias | (uintptr_t)p->kept;
  return starts % ALIGNED_BYTES == 0 && rows_aligned(p->dtype, p->a_stride) && rows_aligned(p->dtype, p->b_stride) &&
         rows_aligned(p->c_dtype, p->c_stride);
}

static key key_of(const product *p) {
  key of;
  memset(&of, 0, sizeof of);
  of.m = p->m;
  of.n = p->n;
  of.k = p->k;
  of.batch = p->batch;
  of.form = (int32_t)p->form;
  of.dtype = (int32_t)p->dtype;
  of.c_dtype = (int32_t)p->c_dtype;
  of.bias = p->bias != NULL;
  of.end = (int32_t)p->end;
  of.aligned =
      rows_aligned(p->dtype, p->lda) && rows_aligned(p->dtype, p->ldb) && rows_aligned(p->c_dtype, p->ldc) && starts_aligned(p);
  return of;
}

static int64_t row_length(int64_t elements, gd_dtype dtype, bool aligned) {
  int64_t step = aligned ? ALIGNED_BYTES / (int64_t)gd_dtype_bytes(dtype) : 1;
  return (elements + step - 1) / step * step;
}

/* The product that stands for all of its key: dense operands. */
static product stand_in(const key *wanted) {
  /* Of what an epilogue takes only the alignment counts: nothing reads it. */
  _Alignas(ALIGNED_BYTES) static unsigned char place[2 * ALIGNED_BYTES];
  bool aligned = wanted->aligned != 0;
  gd_dtype dtype = (gd_dtype)wanted->dtype, c_dtype = (gd_dtype)wanted->c_dtype;
  void *taken = aligned ? place : place + gd_dtype_bytes(dtype);
  product p = {
      .form = (gd_matmul_form)wanted->form, .m = wanted->m, .n = wanted->n, .k = wanted->k, .dtype = dtype, .c_dtype = c_dtype};
  p.lda = row_length(p.form == GD_MATMUL_TN ? p.m : p.k, dtype, aligned);
  p.ldb = row_length(p.form == GD_MATMUL_NT ? p.k : p.n, dtype, aligned);
  p.ldc = row_length(p.n, c_dtype, aligned);
  p.batch = wanted->batch;
  p.a_stride = p.lda * (p.form == GD_MATMUL_TN ? p.k : p.m);
  p.b_stride = p.ldb * (p.form == GD_MATMUL_NT ? p.n : p.k);
  p.c_stride = p.ldc * p.m;
  if (wanted->bias) p.bias = taken;
  p.end = (gd_matmul_end)wanted->end;
  if (p.end) p.kept = taken;
  return p;
}

static gd_status prefer(const key *wanted, cublasLtMatmulPreferenceOpaque_t *out) {
  uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE; /* parts of a split in a workspace, added in float32 */
  uint32_t ab = (uint32_t)(wanted->aligned ? ALIGNED_BYTES : gd_dtype_bytes((gd_dtype)wanted->dtype));
  uint32_t cd = (uint32_t)(wanted->aligned ? ALIGNED_BYTES : gd_dtype_bytes((gd_dtype)wanted->c_dtype));
  const struct {
    cublasLtMatmulPreferenceAttributes_t name;
    const void *value;
    size_t bytes;
  } settings[] = {
      {CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace_bytes, sizeof workspace_bytes},
      {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes, sizeof schemes},
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

/* The fastest candidate for the sizes. */
static gd_status choose(struct gd_cuda_blas *own, const key *wanted, cached *out) {
  cublasLtMatmulHeuristicResult_t candidates[CANDIDATES];
  cublasLtMatmulPreferenceOpaque_t preference;
  product p = stand_in(wanted);
  layouts l;
  int count = 0, chosen = 0;
  GD_TRY(describe(&p, &l));
  GD_TRY(prefer(wanted, &preference));
  cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(own->handle, &l.operation, &l.first, &l.second, &l.result, &l.result,
                                                         &preference, CANDIDATES, candidates, &count);
  if (status == CUBLAS_STATUS_NOT_SUPPORTED)
    count = 0;
  else
    GD_TRY(check(status, "choose an algorithm"));
  while (chosen < count && candidates[chosen].state != CUBLAS_STATUS_SUCCESS) chosen++;
  out->offered = chosen < count;
  if (out->offered) out->algo = candidates[chosen].algo;
  return GD_OK;
}

static uint64_t hash_of(const key *wanted) {
  const unsigned char *bytes = (const unsigned char *)wanted;
  uint64_t hash = 14695981039346656037u; /* FNV-1a */
  for (size_t i = 0; i < sizeof *wanted; i++) hash = (hash ^ bytes[i]) * 1099511628211u;
  return hash;
}

/* A choice is a pure function of its key, so one that was pushed out and chosen again is the same. */
static gd_status find(struct gd_cuda_blas *own, const product *p, const cached **out) {
  key wanted = key_of(p);
  uint64_t hash = hash_of(&wanted);
  cached *place = NULL;
  for (uint64_t i = 0; i < CACHE_PROBES; i++) {
    cached *entry = &own->cache[(hash + i) % CACHE_ENTRIES];
    if (entry->used && memcmp(&entry->key, &wanted, sizeof wanted) == 0) {
      *out = entry;
      return GD_OK;
    }
    if (!entry->used && !place) place = entry;
  }
  if (!place) place = &own->cache[hash % CACHE_ENTRIES];
  place->used = false;
  GD_TRY(choose(own, &wanted, place));
  place->key = wanted;
  place->used = true;
  *out = place;
  return GD_OK;
}

gd_status gd_cuda_blas_offers(gd_kernels *kernels, const gd_cuda_product *p, bool *out) {
  const cached *choice;
  gd_cuda_device_enter(kernels->device);
  GD_TRY(find(gd_cuda_state_of(kernels)->blas, p, &choice));
  *out = choice->offered;
  return GD_OK;
}

gd_status gd_cuda_blas_run(gd_kernels *kernels, const gd_cuda_product *p) {
  static const float one = 1.0f;
  struct gd_cuda_blas *own = gd_cuda_state_of(kernels)->blas;
  const cached *choice;
  layouts l;
  struct CUstream_st *stream = gd_cuda_stream_enter(kernels->stream);
  GD_TRY(find(own, p, &choice));
  if (!choice->offered)
    return gd_fail(GD_BUG, "matmul: no algorithm for m %lld, n %lld, k %lld, %s", (long long)p->m, (long long)p->n,
                   (long long)p->k, gd_dtype_name(p->dtype));
  GD_TRY(describe(p, &l));
  return check(cublasLtMatmul(own->handle, &l.operation, &one, p->b, &l.first, p->a, &l.second, &p->beta, p->c, &l.result, p->c,
                              &l.result, &choice->algo, own->workspace, workspace_bytes, stream),
               "enqueue");
}

gd_status gd_cuda_blas_open(gd_kernels *kernels, struct gd_cuda_blas **out) {
  gd_device *device = kernels->device;
  gd_cuda_device_enter(device);
  struct gd_cuda_blas *own = calloc(1, sizeof *own);
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

void gd_cuda_blas_close(gd_kernels *kernels, struct gd_cuda_blas *blas) {
  if (!blas) return;
  gd_device *device = kernels->device;
  gd_cuda_device_enter(device);
  (void)cublasLtDestroy(blas->handle);
  device->ops->free(device, blas->workspace);
  free(blas);
}
