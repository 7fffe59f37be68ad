/* mma_tile.cuh - tiles of bfloat16 in shared memory as operands of mma.cuh's products: rows of COLUMNS elements in chunks of 8,
 * the chunks of a row in an order of its own, so that the 8 rows that a load takes at once lie in different banks. */
#ifndef GD_TRAINER_KERNELS_CUDA_MMA_TILE_CUH
#define GD_TRAINER_KERNELS_CUDA_MMA_TILE_CUH

#include "trainer/kernels/cuda/mma.cuh"

enum { MMA = 16, CHUNK8 = 8, CHUNK_BYTES = 16 };

/* Which uint4 of a tile holds chunk `chunk` of row `row`. COLUMNS: 32 or a multiple of 64. */
template <int COLUMNS>
__device__ __forceinline__ int tile_at(int row, int chunk) {
  return row * (COLUMNS / CHUNK8) + (COLUMNS >= 64 ? chunk ^ (row & 7) : chunk ^ (row / 2 & 3));
}

/* The chunk at `to` becomes the first `left` of the 8 elements at `from` (none where left <= 0), then zeros. wide: from is
 * aligned to 16 bytes. Whole after copy_commit, copy_wait and a barrier. */
__device__ __forceinline__ void tile_copy(uint4 *to, const bf16 *from, int64_t left, bool wide) {
  int count = left < 0 ? 0 : left < CHUNK8 ? (int)left : (int)CHUNK8;
  if (wide) {
    copy_async(to, from, count * (int)sizeof(bf16));
    return;
  }
  bf16 chunk[CHUNK8];
#pragma unroll
  for (int i = 0; i < CHUNK8; i++) chunk[i] = i < count ? from[i] : __float2bfloat16_rn(0.0f);
  memcpy(to, chunk, sizeof chunk);
}

/* A left operand: rows `row` on, inner index from chunk `chunk` on, of a tile whose rows are rows of the operand. */
template <int COLUMNS>
__device__ __forceinline__ void load_left(const uint4 *tile, int row, int chunk, uint32_t *to) {
  int lane = (int)threadIdx.x % WARP;
  mma_load(tile + tile_at<COLUMNS>(row + lane % 16, chunk + lane / 16), to);
}

/* ... of a tile whose rows are the inner index: from row `row`, operand rows from chunk `chunk` on. */
template <int COLUMNS>
__device__ __forceinline__ void load_left_across(const uint4 *tile, int row, int chunk, uint32_t *to) {
  int lane = (int)threadIdx.x % WARP;
  mma_load_transposed(tile + tile_at<COLUMNS>(row + lane / 16 * 8 + lane % 8, chunk + lane / 8 % 2), to);
}

/* Two right operands, of columns `row` on and row + 8 on, of a tile whose rows are columns of the operands. */
template <int COLUMNS>
__device__ __forceinline__ void load_right_across(const uint4 *tile, int row, int chunk, uint32_t *to) {
  int lane = (int)threadIdx.x % WARP;
  mma_load(tile + tile_at<COLUMNS>(row + lane / 16 * 8 + lane % 8, chunk + lane / 8 % 2), to);
}

/* ... of a tile whose rows are the inner index: columns from chunk `chunk` on, and the next chunk's. */
template <int COLUMNS>
__device__ __forceinline__ void load_right(const uint4 *tile, int row, int chunk, uint32_t *to) {
  int lane = (int)threadIdx.x % WARP;
  mma_load_transposed(tile + tile_at<COLUMNS>(row + lane % 16, chunk + lane / 16), to);
}

/* Two neighbouring elements of a row, of which `left` are inside it. */
template <typename T>
__device__ __forceinline__ void store_pair(T *to, int64_t left, float x, float y) {
  if (left >= 2 && (uintptr_t)to % (2 * sizeof(T)) == 0) {
    T pair[2];
    store(pair, 0, x);
    store(pair, 1, y);
    if (sizeof(T) == 2) {
      uint32_t bits;
      memcpy(&bits, pair, sizeof bits);
      *(uint32_t *)to = bits;
    } else {
      *(float2 *)to = make_float2(x, y);
    }
    return;
  }
  if (left > 0) store(to, 0, x);
  if (left > 1) store(to, 1, y);
}

#endif
