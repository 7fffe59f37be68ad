/* emulation.cu - just enough CUDA on the CPU to run the kernels of trainer/kernels/cuda where there is no GPU: it shows a wrong
 * index, a missing barrier that order of threads reveals, a wrong order of sums. It says nothing about speed, memory ordering
 * or what cuBLASLt really does.
 *
 * A thread is a coroutine. Threads and blocks run from the last to the first on purpose. A warp operation that a lane has left
 * before, a barrier that can never fill and a grid CUDA would refuse end the program. */
#include <cublasLt.h>
#include <cuda_runtime.h>
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>

extern "C" {
#include "comm/device_cuda.h"
#include "shard/base/dtype.h"
}

dim3 threadIdx, blockIdx;

/* ---- threads ---- */

enum { MAX_THREADS = 1024, STACK_BYTES = 65536, LANES = 32 };
enum thread_state { RUNS, AT_BARRIER, AT_WARP, ENDED };

static struct fiber {
  ucontext_t context;
  thread_state state;
  char *stack;
} fibers[MAX_THREADS];
static ucontext_t scheduler;
static int current, threads;
static const std::function<void()> *kernel;
static float shuffled[MAX_THREADS];
static bool votes[MAX_THREADS];

static void must(bool good, const char *what) {
  if (good) return;
  fprintf(stderr, "emulation: %s\n", what);
  abort();
}

static void thread_main() {
  (*kernel)();
  fibers[current].state = ENDED;
  swapcontext(&fibers[current].context, &scheduler);
}

static void stop_at(thread_state state) {
  fibers[current].state = state;
  swapcontext(&fibers[current].context, &scheduler);
}

void __syncthreads() {
  stop_at(AT_BARRIER);
}

float __shfl_xor_sync(unsigned mask, float value, int distance) {
  int me = current;
  must(mask == ~0u, "a partial warp");
  shuffled[me] = value;
  stop_at(AT_WARP);
  float result = shuffled[me ^ distance];
  stop_at(AT_WARP);
  return result;
}

unsigned __ballot_sync(unsigned mask, bool vote) {
  int first = current / LANES * LANES;
  unsigned result = 0;
  must(mask == ~0u, "a partial warp");
  votes[current] = vote;
  stop_at(AT_WARP);
  for (int i = 0; i < LANES; i++) result |= (unsigned)votes[first + i] << i;
  stop_at(AT_WARP);
  return result;
}

static int count(int first, int end, thread_state state) {
  int found = 0;
  for (int i = first; i < end; i++) found += fibers[i].state == state;
  return found;
}

static void go_on(int first, int end) {
  for (int i = first; i < end; i++)
    if (fibers[i].state != ENDED) fibers[i].state = RUNS;
}

/* Lets waiting warps or the whole block go on. */
static void release() {
  int ended = count(0, threads, ENDED);
  if (count(0, threads, AT_BARRIER) == threads - ended) {
    go_on(0, threads);
    return;
  }
  bool any = false;
  for (int first = 0; first < threads; first += LANES) {
    int waiting = count(first, first + LANES, AT_WARP);
    must(waiting == 0 || count(first, first + LANES, ENDED) == 0, "a lane left before a warp operation");
    if (waiting != LANES) continue;
    go_on(first, first + LANES);
    any = true;
  }
  must(any, "threads wait for each other in different places");
}

static void run_block() {
  for (int i = 0; i < threads; i++) {
    fiber *f = &fibers[i];
    if (!f->stack) f->stack = (char *)malloc(STACK_BYTES);
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack;
    f->context.uc_stack.ss_size = STACK_BYTES;
    makecontext(&f->context, thread_main, 0);
    f->state = RUNS;
  }
  while (count(0, threads, ENDED) < threads) {
    for (current = threads - 1; current >= 0; current--) {
      if (fibers[current].state != RUNS) continue;
      threadIdx.x = (unsigned)current;
      swapcontext(&scheduler, &fibers[current].context);
    }
    if (count(0, threads, ENDED) < threads) release();
  }
}

void emulate_launch(dim3 grid, dim3 block, const std::function<void()> &body) {
  must(block.x > 0 && block.x <= MAX_THREADS && block.y == 1 && block.z == 1, "the shape of a block");
  must(grid.x > 0 && grid.y > 0 && grid.x <= 0x7fffffff && grid.y <= 65535 && grid.z == 1, "the shape of a grid");
  threads = (int)block.x;
  kernel = &body;
  for (unsigned y = grid.y; y-- > 0;)
    for (unsigned x = grid.x; x-- > 0;) {
      blockIdx = dim3(x, y);
      threadIdx = dim3(0);
      if (threads == 1)
        body();
      else
        run_block();
    }
}

extern "C" {

/* ---- the runtime: everything succeeds at once ---- */

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
cudaError_t cudaDeviceGetAttribute(int *out, enum cudaDeviceAttr, int) {
  return *out = 0, cudaSuccess;
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
cudaError_t cudaMemGetInfo(size_t *available, size_t *total) {
  return *available = *total = (size_t)1 << 30, cudaSuccess;
}
cudaError_t cudaMalloc(void **out, size_t bytes) {
  *out = malloc(bytes);
  if (*out) memset(*out, 0xff, bytes); /* not a number, where a kernel reads what nobody wrote */
  return *out ? cudaSuccess : cudaErrorMemoryAllocation;
}
cudaError_t cudaFree(void *pointer) {
  return free(pointer), cudaSuccess;
}
cudaError_t cudaMallocHost(void **out, size_t bytes) {
  return cudaMalloc(out, bytes);
}
cudaError_t cudaFreeHost(void *pointer) {
  return cudaFree(pointer);
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t *out, unsigned, int) {
  return cudaMalloc((void **)out, 1);
}
cudaError_t cudaStreamSynchronize(cudaStream_t) {
  return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t) {
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  return cudaFree(stream);
}
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind, cudaStream_t) {
  return memmove(to, from, bytes), cudaSuccess;
}
cudaError_t cudaMemsetAsync(void *to, int byte, size_t bytes, cudaStream_t) {
  return memset(to, byte, bytes), cudaSuccess;
}
cudaError_t cudaLaunchHostFunc(cudaStream_t, void (*task)(void *), void *argument) {
  return task(argument), cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned) {
  return cudaMalloc((void **)out, 1);
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  return cudaFree(event);
}
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) {
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) {
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t) {
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t) {
  return cudaSuccess;
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

cublasStatus_t cublasLtMatmulDescInit(cublasLtMatmulDesc_t out, cublasComputeType_t, cudaDataType_t) {
  memset(out, 0, sizeof *out);
  out->epi = CUBLASLT_EPILOGUE_DEFAULT;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d, dattr name, const void *value, size_t bytes) {
  void *const fields[] = {&d->ta, &d->tb, &d->epi, &d->bias};
  memcpy(fields[name], value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutInit(cublasLtMatrixLayout_t l, cudaDataType_t type, uint64_t rows, uint64_t cols,
                                        int64_t ld) {
  must(ld >= (int64_t)rows, "a leading dimension below the number of rows");
  l->type = type;
  l->rows = rows;
  l->cols = cols;
  l->ld = ld;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceInit(cublasLtMatmulPreference_t) {
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t, cublasLtMatmulPreferenceAttributes_t,
                                                    const void *, size_t) {
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t *a, cattr name, void *out, size_t bytes,
                                                    size_t *written) {
  int value = name == CUBLASLT_ALGO_CONFIG_SPLITK_NUM ? a->splits : a->scheme;
  memcpy(out, &value, bytes);
  *written = bytes;
  return CUBLAS_STATUS_SUCCESS;
}

static bool fits(cublasLtMatmulDesc_t d, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t out) {
  uint64_t m = d->ta ? a->cols : a->rows, ka = d->ta ? a->rows : a->cols;
  uint64_t kb = d->tb ? b->cols : b->rows, n = d->tb ? b->rows : b->cols;
  bool bias = d->epi != CUBLASLT_EPILOGUE_BIAS || (d->bias && out->type == a->type);
  return m == out->rows && n == out->cols && ka == kb && a->type == b->type && bias;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t, cublasLtMatmulDesc_t d, cublasLtMatrixLayout_t a,
                                       cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t out,
                                       const cublasLtMatmulAlgo_t *, cublasLtMatmulHeuristicResult_t *result) {
  result->workspaceSize = 0;
  return fits(d, a, b, out) ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

/* Offers a split one and a reducing one first: both must be refused. */
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t d, cublasLtMatrixLayout_t a,
                                              cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t out,
                                              cublasLtMatmulPreference_t, int, cublasLtMatmulHeuristicResult_t *results,
                                              int *found) {
  must(fits(d, a, b, out), "the shapes of a product");
  static const cublasLtMatmulAlgo_t offers[] = {{4, 0}, {1, 2}, {1, 0}};
  for (int i = 0; i < 3; i++) {
    results[i].algo = offers[i];
    results[i].state = CUBLAS_STATUS_SUCCESS;
  }
  *found = 3;
  return CUBLAS_STATUS_SUCCESS;
}

static float element(const void *p, cudaDataType_t type, int64_t i) {
  return type == CUDA_R_32F ? ((const float *)p)[i] : gd_bfloat16_to_float(((const gd_bfloat16 *)p)[i]);
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t d, const void *alpha, const void *a,
                              cublasLtMatrixLayout_t la, const void *b, cublasLtMatrixLayout_t lb, const void *beta,
                              const void *c, cublasLtMatrixLayout_t lc, void *out, cublasLtMatrixLayout_t lout,
                              const cublasLtMatmulAlgo_t *algo, void *, size_t, cudaStream_t) {
  must(fits(d, la, lb, lout) && algo->splits == 1 && algo->scheme == 0, "a product that was not agreed");
  int64_t inner = (int64_t)(d->ta ? la->rows : la->cols);
  for (int64_t j = 0; j < (int64_t)lout->cols; j++)
    for (int64_t i = 0; i < (int64_t)lout->rows; i++) {
      float sum = 0;
      for (int64_t k = 0; k < inner; k++)
        sum = fmaf(element(a, la->type, d->ta ? k + i * la->ld : i + k * la->ld),
                   element(b, lb->type, d->tb ? j + k * lb->ld : k + j * lb->ld), sum);
      sum *= *(const float *)alpha;
      if (*(const float *)beta != 0) sum += *(const float *)beta * element(c, lc->type, i + j * lc->ld);
      if (d->epi == CUBLASLT_EPILOGUE_BIAS) sum += element(d->bias, la->type, i);
      if (lout->type == CUDA_R_32F)
        ((float *)out)[i + j * lout->ld] = sum;
      else
        ((gd_bfloat16 *)out)[i + j * lout->ld] = gd_bfloat16_from_float(sum);
    }
  return CUBLAS_STATUS_SUCCESS;
}

/* ---- no collectives here ---- */

const gd_collectives_ops gd_nccl_ops = {};
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
