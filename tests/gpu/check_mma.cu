/* check_mma - the functions of trainer/kernels/cuda/mma.cuh against plain products: operands laid out by the formulas of the
 * PTX ISA ("Matrix Fragments for mma.m16n8k16 with floating point type"), operands loaded from shared memory in every way that
 * the kernels use, copies that are waited for in groups. Whole numbers: exact in any order of sums; then fractions within the
 * bound of docs/rounding.md. Exit 0: all agree, 77: no GPU. Also compiled by tests/gpu/emulation/build. */
#include <math.h>
#include <stdio.h>

#include "trainer/kernels/cuda/mma.cuh"

enum { M = 16, N = 16, K = 32, CHUNKS = 40 };

/* Element i of a register array of the left operand, of the right one, of the sums: row and column. */
__device__ static void place_left(int i, int *row, int *column) {
  int group = (int)threadIdx.x >> 2, in_group = (int)threadIdx.x % 4;
  *row = (0 <= i && i < 2) || (4 <= i && i < 6) ? group : group + 8;
  *column = i < 4 ? in_group * 2 + (i & 1) : in_group * 2 + (i & 1) + 8;
}
__device__ static void place_right(int i, int *row, int *column) {
  int group = (int)threadIdx.x >> 2, in_group = (int)threadIdx.x % 4;
  *row = i < 2 ? in_group * 2 + (i & 1) : in_group * 2 + (i & 1) + 8;
  *column = group;
}
__device__ static void place_sum(int i, int *row, int *column) {
  int group = (int)threadIdx.x >> 2, in_group = (int)threadIdx.x % 4;
  *row = i < 2 ? group : group + 8;
  *column = in_group * 2 + (i & 1);
}

/* c[16][16] = a[16][32] b[32][16], operands put into registers by the formulas. */
static __global__ void by_formula(const bf16 *a, const bf16 *b, float *c) {
  int row, column;
  for (int n = 0; n < N; n += 8) {
    mma_sums sums = {};
    for (int k = 0; k < K; k += 16) {
      bf16 left[8], right[4];
      uint32_t left_bits[4], right_bits[2];
      for (int i = 0; i < 8; i++) {
        place_left(i, &row, &column);
        left[i] = a[row * K + k + column];
      }
      for (int i = 0; i < 4; i++) {
        place_right(i, &row, &column);
        right[i] = b[(k + row) * N + n + column];
      }
      memcpy(left_bits, left, sizeof left);
      memcpy(right_bits, right, sizeof right);
      mma_add(left_bits, right_bits, &sums);
    }
    for (int i = 0; i < 4; i++) {
      place_sum(i, &row, &column);
      c[row * N + n + column] = sums.x[i];
    }
  }
}

/* The same through shared memory: a and b as they are, a_across [32][16] and b_across [16][32] their transposes. */
static __global__ void by_loads(const bf16 *a, const bf16 *a_across, const bf16 *b, const bf16 *b_across, float *c) {
  __shared__ uint4 tile_a[M * K / 8];
  __shared__ uint4 tile_a_across[M * K / 8];
  __shared__ uint4 tile_b[M * K / 8];
  __shared__ uint4 tile_b_across[M * K / 8];
  int lane = (int)threadIdx.x, row, column;
  for (int i = lane; i < M * K / 8; i += WARP) {
    copy_async(&tile_a[i], a + 8 * i, 16);
    copy_async(&tile_a_across[i], a_across + 8 * i, 16);
    copy_async(&tile_b[i], b + 8 * i, 16);
    copy_async(&tile_b_across[i], b_across + 8 * i, 16);
  }
  copy_commit();
  copy_wait<0>();
  __syncthreads();
  /* Rows of a pair of matrices first, then the next 8 columns; or the other way round. */
  int down = lane % 16, right = lane / 16, down_late = lane / 16 * 8 + lane % 8, right_early = lane / 8 % 2;
  for (int way = 0; way < 4; way++) {
    mma_sums sums[2] = {};
    for (int k = 0; k < K; k += 16) {
      uint32_t left[4], both[4];
      if (way & 1)
        mma_load_transposed(&tile_a_across[(k + down_late) * (M / 8) + right_early], left);
      else
        mma_load(&tile_a[down * (K / 8) + k / 8 + right], left);
      if (way & 2)
        mma_load(&tile_b_across[down_late * (K / 8) + k / 8 + right_early], both);
      else
        mma_load_transposed(&tile_b[(k + down) * (N / 8) + right], both);
      mma_add(left, both, &sums[0]);
      mma_add(left, both + 2, &sums[1]);
    }
    for (int i = 0; i < 8; i++) {
      place_sum(i % 4, &row, &column);
      c[(way * M + row) * N + i / 4 * 8 + column] = sums[i / 4].x[i % 4];
    }
  }
}

/* to[i] = chunk i of `from` without its last i % 9 elements, in three groups; seen[i]: the element 0 of chunk i that was there
 * when all groups but the last were waited for. */
static __global__ void copies(const bf16 *from, bf16 *to, bf16 *seen) {
  __shared__ uint4 chunks[CHUNKS];
  const bf16 *elements = (const bf16 *)chunks;
  if (threadIdx.x > 0) return;
  for (int group = 0; group < 3; group++) {
    for (int i = group; i < CHUNKS; i += 3) copy_async(&chunks[i], from + 8 * i, 16 - i % 9 * 2);
    copy_commit();
  }
  copy_wait<1>();
  for (int i = 0; i < CHUNKS; i++) seen[i] = elements[8 * i];
  copy_wait<0>();
  for (int i = 0; i < 8 * CHUNKS; i++) to[i] = elements[i];
}

static __global__ void pack(uint32_t *out) {
  out[threadIdx.x] = mma_pack(1.0f + 0x1p-8f * (float)threadIdx.x, -3.0f - 0x1p-7f * (float)threadIdx.x);
}

static void must(cudaError_t error) {
  if (error == cudaSuccess) return;
  printf("%s\n", cudaGetErrorString(error));
  exit(1);
}

static void *to_device(const void *host, size_t bytes) {
  void *device;
  must(cudaMalloc(&device, bytes));
  must(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, NULL));
  must(cudaStreamSynchronize(NULL));
  return device;
}

static void from_device(void *host, const void *device, size_t bytes) {
  must(cudaGetLastError());
  must(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, NULL));
  must(cudaStreamSynchronize(NULL));
}

static int check(const char *what, bool good) {
  printf("%-60s %s\n", what, good ? "ok" : "FAILED");
  return !good;
}

static int check_products(bool whole) {
  bf16 a[M * K], a_across[K * M], b[K * N], b_across[N * K];
  float plain[M * N], sizes[M * N], c[5 * M * N] = {};
  uint32_t random = 1;
  for (int i = 0; i < M * K + K * N; i++) {
    random = random * 1664525u + 1013904223u;
    int number = (int)(random >> 24) - 128;
    bf16 x = __float2bfloat16_rn(whole ? (float)(number % 16) : (float)number * 0x1.23p-7f);
    int j = i - M * K;
    if (j < 0)
      a[i] = a_across[i % K * M + i / K] = x;
    else
      b[j] = b_across[j % N * K + j / N] = x;
  }
  for (int r = 0; r < M; r++)
    for (int n = 0; n < N; n++) {
      float sum = 0, size = 0;
      for (int k = 0; k < K; k++) {
        sum = fmaf(__bfloat162float(a[r * K + k]), __bfloat162float(b[k * N + n]), sum);
        size += fabsf(__bfloat162float(a[r * K + k]) * __bfloat162float(b[k * N + n]));
      }
      plain[r * N + n] = sum;
      sizes[r * N + n] = size;
    }
  const bf16 *left = (const bf16 *)to_device(a, sizeof a), *left_across = (const bf16 *)to_device(a_across, sizeof a);
  const bf16 *right = (const bf16 *)to_device(b, sizeof b), *right_across = (const bf16 *)to_device(b_across, sizeof b);
  float *out = (float *)to_device(c, sizeof c);
  by_formula<<<1, WARP, 0, NULL>>>(left, right, out);
  by_loads<<<1, WARP, 0, NULL>>>(left, left_across, right, right_across, out + M * N);
  from_device(c, out, sizeof c);
#ifdef GD_TESTS_EMULATION_RUNTIME_H
  float bound = 0; /* the emulation's chain is this one */
#else
  float bound = whole ? 0 : 5.0f * K * 0x1p-24f;
#endif
  static const char *const ways[] = {"by the formulas", "loaded: A, B", "loaded: A transposed, B", "loaded: A, B transposed",
                                     "loaded: A transposed, B transposed"};
  int failed = 0;
  for (int way = 0; way < 5; way++) {
    bool good = true;
    for (int i = 0; i < M * N; i++) good = good && fabsf(c[way * M * N + i] - plain[i]) <= bound * sizes[i];
    char what[80];
    snprintf(what, sizeof what, "product of %s, %s", whole ? "whole numbers" : "fractions", ways[way]);
    failed += check(what, good);
  }
  const void *all[] = {left, left_across, right, right_across, out};
  for (int i = 0; i < 5; i++) must(cudaFree((void *)all[i]));
  return failed;
}

static int check_copies() {
  bf16 from[8 * CHUNKS], to[8 * CHUNKS] = {}, seen[CHUNKS] = {};
  for (int i = 0; i < 8 * CHUNKS; i++) from[i] = __float2bfloat16_rn((float)(i % 100 + 1));
  bf16 *source = (bf16 *)to_device(from, sizeof from), *out = (bf16 *)to_device(to, sizeof to);
  bf16 *early = (bf16 *)to_device(seen, sizeof seen);
  copies<<<1, WARP, 0, NULL>>>(source, out, early);
  from_device(to, out, sizeof to);
  from_device(seen, early, sizeof seen);
  bool good = true, waited = true, only = true;
  for (int i = 0; i < CHUNKS; i++) {
    for (int j = 0; j < 8; j++)
      good = good && __bfloat162float(to[8 * i + j]) == (j < 8 - i % 9 ? __bfloat162float(from[8 * i + j]) : 0.0f);
    float first = __bfloat162float(seen[i]), wanted = i % 9 < 8 ? __bfloat162float(from[8 * i]) : 0.0f;
    waited = waited && (i % 3 == 2 || first == wanted);
    only = only && (i % 3 < 2 || first != first);
  }
  int failed = check("copies of 0 to 16 bytes, the rest zeros", good) + check("all groups but the last waited for", waited);
#ifdef GD_TESTS_EMULATION_RUNTIME_H
  failed += check("the last group is not there before it is waited for", only);
#endif
  must(cudaFree(source));
  must(cudaFree(out));
  must(cudaFree(early));
  return failed;
}

static int check_pack() {
  uint32_t packed[WARP] = {};
  bool good = true;
  uint32_t *out = (uint32_t *)to_device(packed, sizeof packed);
  pack<<<1, WARP, 0, NULL>>>(out);
  from_device(packed, out, sizeof packed);
  for (int i = 0; i < WARP; i++) {
    bf16 pair[2] = {__float2bfloat16_rn(1.0f + 0x1p-8f * (float)i), __float2bfloat16_rn(-3.0f - 0x1p-7f * (float)i)};
    good = good && memcmp(pair, &packed[i], sizeof pair) == 0;
  }
  must(cudaFree(out));
  return check("two numbers in a register, rounded to nearest even", good);
}

int main() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) {
    printf("skipped: no GPU\n");
    return 77;
  }
  int failed = check_products(true) + check_products(false) + check_copies() + check_pack();
  printf("%s\n", failed ? "FAILED" : "all agree");
  return failed ? 1 : 0;
}
