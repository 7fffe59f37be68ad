/* cuda_bf16.h - bfloat16 as the CPU rounds it. */
#ifndef GD_TESTS_EMULATION_BF16_H
#define GD_TESTS_EMULATION_BF16_H
#include "shard/base/dtype.h"
struct __nv_bfloat16 {
  uint16_t bits;
};
static inline float __bfloat162float(__nv_bfloat16 x) {
  return gd_bfloat16_to_float(x.bits);
}
static inline __nv_bfloat16 __float2bfloat16_rn(float x) {
  return {gd_bfloat16_from_float(x)};
}

#endif
