/* mma.cuh - instructions of compute capability 8.0 and newer, a function each: products of bfloat16 matrices by a warp with
 * float32 sums, loads of their operands from shared memory, copies to shared memory that nobody waits for yet. PTX ISA 8.0,
 * "Warp Level Matrix Multiply-Accumulate Instructions" and "cp.async". tests/gpu/emulation/mma.cuh has the same in plain C++.
 * Not run on a GPU.
 *
 * Where the elements of a matrix are, for lane l of the warp (two bfloat16 a register, the lower half first):
 *   left  [16][16]  x[0]: row l / 4, columns 2 (l % 4) and the next; x[1]: row + 8; x[2]: columns + 8; x[3]: both
 *   right [16][8]   x[0]: rows 2 (l % 4) and the next, column l / 4; x[1]: rows + 8
 *   sums  [16][8]   x[0], x[1]: row l / 4, columns 2 (l % 4) and the next; x[2], x[3]: row + 8 */
#ifndef GD_TRAINER_KERNELS_CUDA_MMA_CUH
#define GD_TRAINER_KERNELS_CUDA_MMA_CUH

#include "trainer/kernels/cuda/common.cuh"

typedef struct mma_sums {
  float x[4];
} mma_sums;

/* sums += left * right. The products are exact; the order and the rounding of a step's sum are the tensor core's. All lanes. */
__device__ __forceinline__ void mma_add(const uint32_t *left, const uint32_t *right, mma_sums *sums) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(sums->x[0]), "+f"(sums->x[1]), "+f"(sums->x[2]), "+f"(sums->x[3])
               : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right[0]), "r"(right[1]));
}

/* Four matrices of 8 rows of 16 bytes in shared memory: lane l gives the address of row l % 8 of matrix l / 8, and gets of
 * matrix i in to[i] columns 2 (l % 4) and the next of row l / 4. All lanes. */
__device__ __forceinline__ void mma_load(const void *row, uint32_t *to) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"((uint32_t)__cvta_generic_to_shared(row))
               : "memory");
}

/* ... of the transposed matrices: rows 2 (l % 4) and the next of column l / 4. */
__device__ __forceinline__ void mma_load_transposed(const void *row, uint32_t *to) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"((uint32_t)__cvta_generic_to_shared(row))
               : "memory");
}

/* Two numbers, each rounded to nearest even, as a register of an operand. */
__device__ __forceinline__ uint32_t mma_pack(float low, float high) {
  uint32_t both;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
  return both;
}

/* 16 bytes of shared memory at `to` become the first `bytes` (0 to 16) at `from` and zeros; both aligned to 16. They are there
 * for this thread after copy_wait, for others after a barrier behind it. */
__device__ __forceinline__ void copy_async(void *to, const void *from, int bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"((uint32_t)__cvta_generic_to_shared(to)),
               "l"(__cvta_generic_to_global(from)), "r"(bytes)
               : "memory");
}

/* The copies since the last commit become one group. */
__device__ __forceinline__ void copy_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

/* Waits for all groups of this thread but the last LATER. */
template <int LATER>
__device__ __forceinline__ void copy_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(LATER) : "memory");
}

#endif
