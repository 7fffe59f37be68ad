/* mma.cuh - in place of trainer/kernels/cuda/mma.cuh: the same functions on the CPU (tensor.cu). A step of a product is a chain
 * of 16 fused multiply-adds ascending; a copy that was not waited for has left NaNs where it goes to. */
#ifndef GD_TRAINER_KERNELS_CUDA_MMA_CUH
#define GD_TRAINER_KERNELS_CUDA_MMA_CUH

#include "trainer/kernels/cuda/common.cuh"

typedef struct mma_sums {
  float x[4];
} mma_sums;

void emulate_product(int line, const uint32_t *left, const uint32_t *right, float *sums);
void emulate_load_matrices(int line, const void *row, bool transposed, uint32_t *to);
void emulate_copy(void *to, const void *from, const void *data);
void emulate_copy_commit();
void emulate_copy_wait(int later);

static inline void mma_add(const uint32_t *left, const uint32_t *right, mma_sums *sums) {
  emulate_product(__LINE__, left, right, sums->x);
}
static inline void mma_load(const void *row, uint32_t *to) {
  emulate_load_matrices(__LINE__, row, false, to);
}
static inline void mma_load_transposed(const void *row, uint32_t *to) {
  emulate_load_matrices(__LINE__, row, true, to);
}
static inline uint32_t mma_pack(float low, float high) {
  return __float2bfloat16_rn(low).bits | (uint32_t)__float2bfloat16_rn(high).bits << 16;
}
/* Read here, where AddressSanitizer sees it. */
static inline void copy_async(void *to, const void *from, int bytes) {
  unsigned char data[16] = {};
  emulate_must(bytes >= 0 && bytes <= 16, "the size of a copy");
  memcpy(data, from, (size_t)bytes);
  emulate_copy(to, from, data);
}
static inline void copy_commit() {
  emulate_copy_commit();
}
template <int LATER>
static inline void copy_wait() {
  emulate_copy_wait(LATER);
}

#endif
