/* emulation.cu - just enough of the CUDA runtime and of cuBLASLt on host memory to run the kernels of trainer/kernels/cuda
 * where there is no GPU. It says nothing about speed, memory ordering or what cuBLASLt really does. Threads: threads.cu. */
#include <cublasLt.h>
#include <cuda_runtime.h>
#include <stdio.h>
#include <stdlib.h>

extern "C" {
#include "comm/device_cuda.h"
#include "shard/base/dtype.h"
}

extern "C" {

/* ---- the runtime: everything succeeds. Memory, streams and events: streams.cu ---- */

cudaError_t cudaGetLastError(void) {
  return cudaSuccess;
}
const char *cudaGetErrorString(cudaError_t) {
  return "emulated error";
}
const char *cudaGetErrorName(cudaError_t) {
  return "emulated";
}
cudaError_t cudaSetDevice(int) {
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int *out) {
  return *out = 0, cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int *out, enum cudaDeviceAttr name, int) {
  return *out = name == cudaDevAttrMaxSharedMemoryPerBlockOptin ? 99 * 1024 : 0, cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int *out) {
  return *out = 1, cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *out) {
  return *out = 13000, cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int *out) {
  return *out = 13000, cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *out, int) {
  memset(out, 0, sizeof *out);
  strcpy(out->name, "emulated on the CPU");
  out->major = 9;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
  return *least = 0, *greatest = -5, cudaSuccess;
}

/* ---- cuBLASLt ---- */

cublasStatus_t cublasLtCreate(cublasLtHandle_t *out) {
  return *out = malloc(1), CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  return free(handle), CUBLAS_STATUS_SUCCESS;
}
const char *cublasLtGetStatusString(cublasStatus_t) {
  return "emulated status";
}

/* The size of an attribute is its type's, or it is refused. */
static cublasStatus_t set(void *field, size_t size, const void *value, size_t bytes) {
  if (!value || bytes != size) return CUBLAS_STATUS_INVALID_VALUE;
  return memcpy(field, value, bytes), CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescInit(cublasLtMatmulDesc_t out, cublasComputeType_t compute, cudaDataType_t scale) {
  if (compute != CUBLAS_COMPUTE_32F || scale != CUDA_R_32F) return CUBLAS_STATUS_INVALID_VALUE;
  memset(out, 0, sizeof *out);
  out->epi = CUBLASLT_EPILOGUE_DEFAULT;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t name, const void *value,
                                              size_t bytes) {
  switch (name) {
    case CUBLASLT_MATMUL_DESC_TRANSA: return set(&d->ta, sizeof d->ta, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB: return set(&d->tb, sizeof d->tb, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE: return set(&d->epi, sizeof d->epi, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: return set(&d->bias, sizeof d->bias, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER: return set(&d->aux, sizeof d->aux, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD: return set(&d->aux_ld, sizeof d->aux_ld, value, bytes);
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatrixLayoutInit(cublasLtMatrixLayout_t l, cudaDataType_t type, uint64_t rows, uint64_t cols,
                                        int64_t ld) {
  emulate_must(ld >= (int64_t)rows, "a leading dimension below the number of rows");
  l->type = type;
  l->rows = rows;
  l->cols = cols;
  l->ld = ld;
  l->batch = 1;
  l->stride = 0;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t l, lattr name, const void *value, size_t bytes) {
  if (name == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT) return set(&l->batch, sizeof l->batch, value, bytes);
  return set(&l->stride, sizeof l->stride, value, bytes);
}

cublasStatus_t cublasLtMatmulPreferenceInit(cublasLtMatmulPreference_t p) {
  memset(p, 0, sizeof *p);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p, cublasLtMatmulPreferenceAttributes_t name,
                                                    const void *value, size_t bytes) {
  if (name == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES) return set(&p->workspace, sizeof p->workspace, value, bytes);
  uint32_t *const fields[] = {&p->schemes, &p->a, &p->b, &p->c, &p->d};
  return set(fields[name - CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK], sizeof(uint32_t), value, bytes);
}

static bool adds_bias(cublasLtMatmulDesc_t d) {
  return d->epi == CUBLASLT_EPILOGUE_BIAS || d->epi == CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
}
static bool has_aux(cublasLtMatmulDesc_t d) {
  return d->epi == CUBLASLT_EPILOGUE_GELU_AUX || d->epi == CUBLASLT_EPILOGUE_GELU_AUX_BIAS || d->epi == CUBLASLT_EPILOGUE_DGELU;
}

/* What is wrong here is a fault of ours: as "not supported" it would go unseen. */
static void must_fit(cublasLtMatmulDesc_t d, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t out) {
  if (adds_bias(d)) emulate_must(d->bias && out->type == a->type, "an epilogue without its bias");
  if (!has_aux(d)) {
    emulate_must(!d->aux && !d->aux_ld, "an auxiliary matrix that nothing reads or writes");
    return;
  }
  emulate_must(d->aux && d->aux_ld >= (int64_t)out->rows && d->aux_ld % 8 == 0,
               "an auxiliary matrix that is not as it must be");
  emulate_must(out->type == CUDA_R_16BF && out->batch == 1, "an epilogue of another type, or of a batch");
}

static bool fits(cublasLtMatmulDesc_t d, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t out) {
  uint64_t m = d->ta ? a->cols : a->rows, ka = d->ta ? a->rows : a->cols;
  uint64_t kb = d->tb ? b->cols : b->rows, n = d->tb ? b->rows : b->cols;
  must_fit(d, a, out);
  return m == out->rows && n == out->cols && ka == kb && a->type == b->type && a->batch == out->batch && b->batch == out->batch;
}

/* The largest power of two up to 16 that divides the address. */
static uint32_t alignment_of(const void *pointer) {
  uintptr_t low = (uintptr_t)pointer & 15;
  return low ? (uint32_t)(low & -low) : 16;
}

/* Offers one that cannot be had first, then a split one; with an auxiliary matrix one of operands that are aligned alone. */
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t d, cublasLtMatrixLayout_t a,
                                              cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t out,
                                              cublasLtMatmulPreference_t p, int, cublasLtMatmulHeuristicResult_t *results,
                                              int *found) {
  emulate_must(fits(d, a, b, out), "the shapes of a product");
  emulate_must(p->schemes == CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE, "another reduction");
  *found = 0;
  if (d->epi != CUBLASLT_EPILOGUE_DEFAULT && d->epi != CUBLASLT_EPILOGUE_BIAS && !has_aux(d))
    return CUBLAS_STATUS_NOT_SUPPORTED;
  if (has_aux(d) && (p->a < 16 || p->b < 16 || p->d < 16 || alignment_of(d->aux) < 16)) return CUBLAS_STATUS_NOT_SUPPORTED;
  for (int i = 0; i < 3; i++) {
    results[i].algo = {i == 1 ? 4 : 1,       i > 0, p->a < p->b ? p->a : p->b, p->c < p->d ? p->c : p->d, alignment_of(d->bias),
                       alignment_of(d->aux), d->epi};
    results[i].state = i > 0 ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
    results[i].workspaceSize = 0;
  }
  *found = 3;
  return CUBLAS_STATUS_SUCCESS;
}

static double gelu_of(double x) {
  return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}
static double gelu_slope_of(double x) {
  double t = tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x));
  return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * sqrt(2 / M_PI) * (1 + 3 * 0.044715 * x * x);
}

/* What comes of a sum in float32; i, j: row and column. */
static float end_of(cublasLtMatmulDesc_t d, float sum, int64_t i, int64_t j) {
  if (!has_aux(d)) return sum;
  gd_bfloat16 *kept = (gd_bfloat16 *)d->aux + i + j * d->aux_ld;
  if (d->epi == CUBLASLT_EPILOGUE_DGELU) return (float)(sum * gelu_slope_of(gd_bfloat16_to_float(*kept)));
  *kept = gd_bfloat16_from_float(sum);
  return (float)gelu_of(sum);
}

static float element(const void *p, cudaDataType_t type, int64_t i) {
  return type == CUDA_R_32F ? ((const float *)p)[i] : gd_bfloat16_to_float(((const gd_bfloat16 *)p)[i]);
}

/* What a stream does of it: as it was when it was called. */
struct product {
  cublasLtMatmulDescOpaque_t d;
  cublasLtMatrixLayoutOpaque_t la, lb, lc, lout;
  cublasLtMatmulAlgo_t algo;
  float alpha, beta;
  const void *a, *b, *c;
  void *out;
};

static void run_product(product p) {
  int64_t inner = (int64_t)(p.d.ta ? p.la.rows : p.la.cols), part = (inner + p.algo.splits - 1) / p.algo.splits;
  for (int64_t batch = 0; batch < p.lout.batch; batch++)
    for (int64_t j = 0; j < (int64_t)p.lout.cols; j++)
      for (int64_t i = 0; i < (int64_t)p.lout.rows; i++) {
        int64_t at = batch * p.lout.stride + i + j * p.lout.ld;
        float sum = 0, chain = 0;
        for (int64_t k = 0; k < inner; k++) {
          chain = fmaf(element(p.a, p.la.type, batch * p.la.stride + (p.d.ta ? k + i * p.la.ld : i + k * p.la.ld)),
                       element(p.b, p.lb.type, batch * p.lb.stride + (p.d.tb ? j + k * p.lb.ld : k + j * p.lb.ld)), chain);
          if (k % part != part - 1 && k != inner - 1) continue;
          sum = k < part ? chain : sum + chain;
          chain = 0;
        }
        sum *= p.alpha;
        if (p.beta != 0) sum += p.beta * element(p.c, p.lc.type, batch * p.lc.stride + i + j * p.lc.ld);
        if (adds_bias(&p.d)) sum += element(p.d.bias, p.la.type, i);
        sum = end_of(&p.d, sum, i, j);
        if (p.lout.type == CUDA_R_32F)
          ((float *)p.out)[at] = sum;
        else
          ((gd_bfloat16 *)p.out)[at] = gd_bfloat16_from_float(sum);
      }
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t d, const void *alpha, const void *a,
                              cublasLtMatrixLayout_t la, const void *b, cublasLtMatrixLayout_t lb, const void *beta,
                              const void *c, cublasLtMatrixLayout_t lc, void *out, cublasLtMatrixLayout_t lout,
                              const cublasLtMatmulAlgo_t *algo, void *, size_t, cudaStream_t stream) {
  emulate_must(fits(d, la, lb, lout) && algo->allowed && algo->epi == d->epi, "a product that was not agreed");
  emulate_must(((uintptr_t)a | (uintptr_t)b) % algo->inputs == 0 && (uintptr_t)out % algo->outputs == 0 &&
                   (uintptr_t)d->bias % algo->bias == 0 && (uintptr_t)d->aux % algo->aux == 0,
               "an operand of a product that is not aligned as agreed");
  const product p = {*d, *la, *lb, *lc, *lout, *algo, *(const float *)alpha, *(const float *)beta, a, b, c, out};
  emulate_enqueue(stream, [=] { run_product(p); });
  return CUBLAS_STATUS_SUCCESS;
}

/* ---- no collectives here ---- */

const gd_collectives_ops gd_nccl_ops = {.name = "none"};
gd_status gd_nccl_version(int32_t *) {
  return gd_fail(GD_BUG, "not emulated");
}
gd_status gd_nccl_unique_id(gd_cuda_unique_id *) {
  return gd_fail(GD_BUG, "not emulated");
}
gd_status gd_nccl_world_group(gd_device *, int32_t, int32_t, const gd_cuda_unique_id *, gd_group **) {
  return gd_fail(GD_BUG, "not emulated");
}
gd_status gd_nccl_split_group(gd_group *, int32_t, int32_t, const char *, gd_group **) {
  return gd_fail(GD_BUG, "not emulated");
}
}
