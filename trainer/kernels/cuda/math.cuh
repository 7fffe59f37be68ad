/* math.cuh - the functions of trainer/kernels/math.h on one number of a thread: a vf is a float. Each operation below rounds as
 * the CPU's of the same name (cpu/simd.h) does, and the intrinsics keep a compiler from fusing two of them. */
#ifndef GD_TRAINER_KERNELS_CUDA_MATH_CUH
#define GD_TRAINER_KERNELS_CUDA_MATH_CUH

#include <cuda_runtime.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#define VF_INLINE static __device__ __forceinline__

typedef float vf;
typedef int32_t vi;
typedef bool vm;

VF_INLINE vf vf_set1(float x) {
  return x;
}
VF_INLINE vf vf_zero() {
  return 0.0f;
}
VF_INLINE vi vi_set1(int32_t x) {
  return x;
}
VF_INLINE vf vf_add(vf a, vf b) {
  return __fadd_rn(a, b);
}
VF_INLINE vf vf_sub(vf a, vf b) {
  return __fsub_rn(a, b);
}
VF_INLINE vf vf_mul(vf a, vf b) {
  return __fmul_rn(a, b);
}
VF_INLINE vf vf_div(vf a, vf b) {
  return __fdiv_rn(a, b);
}
/* a * b + c, one rounding. */
VF_INLINE vf vf_fma(vf a, vf b, vf c) {
  return __fmaf_rn(a, b, c);
}
/* The second operand where either is NaN. */
VF_INLINE vf vf_max(vf a, vf b) {
  return a > b ? a : b;
}
VF_INLINE vf vf_min(vf a, vf b) {
  return a < b ? a : b;
}
VF_INLINE vm vf_lt(vf a, vf b) {
  return a < b;
}
VF_INLINE vm vf_gt(vf a, vf b) {
  return a > b;
}
VF_INLINE vm vf_is_nan(vf a) {
  return a != a;
}
VF_INLINE vf vf_select(vm m, vf a, vf b) {
  return m ? a : b;
}
VF_INLINE vi vf_bits(vf a) {
  return __float_as_int(a);
}
VF_INLINE vf vf_from_bits(vi a) {
  return __int_as_float(a);
}
VF_INLINE vi vi_add(vi a, vi b) {
  return (vi)((uint32_t)a + (uint32_t)b);
}
VF_INLINE vi vi_sub(vi a, vi b) {
  return (vi)((uint32_t)a - (uint32_t)b);
}
VF_INLINE vi vi_and(vi a, vi b) {
  return a & b;
}
VF_INLINE vi vi_or(vi a, vi b) {
  return a | b;
}
VF_INLINE vi vi_xor(vi a, vi b) {
  return a ^ b;
}
VF_INLINE vm vi_eq(vi a, vi b) {
  return a == b;
}
/* Right shift is arithmetic (sra) or logical (srl). */
VF_INLINE vi vi_shl(vi a, int count) {
  return (vi)((uint32_t)a << count);
}
VF_INLINE vi vi_sra(vi a, int count) {
  return a >> count;
}
VF_INLINE vi vi_srl(vi a, int count) {
  return (vi)((uint32_t)a >> count);
}
/* Rounds to nearest even; |a| < 2^31. */
VF_INLINE vi vf_to_int(vf a) {
  return __float2int_rn(a);
}
VF_INLINE vf vi_to_float(vi a) {
  return __int2float_rn(a);
}
VF_INLINE vf vf_neg(vf a) {
  return -a;
}
VF_INLINE vf vf_abs(vf a) {
  return fabsf(a);
}
/* |a| with the sign of b; a must not be negative. */
VF_INLINE vf vf_with_sign(vf a, vf b) {
  return copysignf(a, b);
}

#include "trainer/kernels/math.h"

#endif
