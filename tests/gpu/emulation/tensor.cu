/* tensor.cu - what mma.cuh's functions do: products and loads of matrices by a warp, copies that take place when they are
 * waited for. Where elements lie is written down from the PTX ISA, not from trainer/kernels/cuda/mma.cuh. */
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <vector>

enum { LANES = 32, MAX_THREADS = 1024 };

/* What lanes show each other: two rounds by turns, as no lane is two operations ahead of another. */
static struct shown {
  uint32_t left[4], right[2];
  const void *row;
} rounds[2][MAX_THREADS];
static unsigned round_of[MAX_THREADS];

/* This lane's place in the round; the warp's begins at the lane 0 of the same. */
static shown *take_part(int thread) {
  return &rounds[round_of[thread]++ % 2][thread];
}

static float half_of(uint32_t both, int half) {
  return gd_bfloat16_to_float((uint16_t)(both >> 16 * half));
}

#if defined(__x86_64__) /* with the instruction where there is one: a call of fmaf takes ten times as long */
#define FUSED __attribute__((target_clones("arch=haswell", "default")))
#else
#define FUSED
#endif
FUSED static void add_chains(const float (*a)[16], const float (*b)[2], float *sums) {
  for (int k = 0; k < 16; k++)
    for (int i = 0; i < 4; i++) sums[i] = __builtin_fmaf(a[i / 2][k], b[k][i % 2], sums[i]);
}

void emulate_product(int line, const uint32_t *left, const uint32_t *right, float *sums) {
  int thread = emulate_thread(), lane = thread % LANES;
  shown *mine = take_part(thread), *warp = mine - lane;
  memcpy(mine->left, left, sizeof mine->left);
  memcpy(mine->right, right, sizeof mine->right);
  emulate_warp_barrier(line);
  float a[2][16], b[16][2];
  for (int k = 0; k < 16; k++) {
    int pair = k % 8 / 2, half = k % 2, high = k / 8;
    for (int r = 0; r < 2; r++) a[r][k] = half_of(warp[lane / 4 * 4 + pair].left[r + 2 * high], half);
    for (int c = 0; c < 2; c++) b[k][c] = half_of(warp[(lane % 4 * 2 + c) * 4 + pair].right[high], half);
  }
  add_chains(a, b, sums);
}

void emulate_load_matrices(int line, const void *row, bool transposed, uint32_t *to) {
  int thread = emulate_thread(), lane = thread % LANES;
  shown *mine = take_part(thread), *warp = mine - lane;
  emulate_must((uintptr_t)row % 16 == 0 && emulate_is_shared(row, 16), "a row of a matrix that is not in shared memory");
  mine->row = row;
  emulate_warp_barrier(line);
  for (int i = 0; i < 4; i++) {
    uint16_t pair[2];
    for (int h = 0; h < 2; h++) {
      int r = transposed ? lane % 4 * 2 + h : lane / 4, c = transposed ? lane / 4 : lane % 4 * 2 + h;
      memcpy(&pair[h], (const uint16_t *)warp[i * 8 + r].row + c, 2);
    }
    to[i] = pair[0] | (uint32_t)pair[1] << 16;
  }
}

/* ---- copies ---- */

struct copy {
  void *to;
  unsigned char data[16];
  int group;
};
static std::vector<copy> copies[MAX_THREADS];
static int groups[MAX_THREADS]; /* committed */

void emulate_copy(void *to, const void *from, const void *data) {
  emulate_must(((uintptr_t)to | (uintptr_t)from) % 16 == 0 && emulate_is_shared(to, 16), "a copy that is not aligned to 16");
  int thread = emulate_thread();
  copy c = {to, {}, groups[thread]};
  memcpy(c.data, data, sizeof c.data);
  memset(to, 0xff, sizeof c.data);
  copies[thread].push_back(c);
}

void emulate_copy_commit() {
  groups[emulate_thread()]++;
}

void emulate_copy_wait(int later) {
  int thread = emulate_thread(), end = groups[thread] - later;
  std::vector<copy> &waiting = copies[thread];
  size_t done = 0;
  for (; done < waiting.size() && waiting[done].group < end; done++)
    memcpy(waiting[done].to, waiting[done].data, sizeof waiting[done].data);
  waiting.erase(waiting.begin(), waiting.begin() + (long)done);
}

/* A thread has ended. */
void emulate_copies_end() {
  int thread = emulate_thread();
  emulate_must(copies[thread].empty(), "a copy that nobody waited for");
  groups[thread] = 0;
}
