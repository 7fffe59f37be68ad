/* math.h - the functions of trainer/kernels/math.h on 16 lanes. */
#ifndef GD_TRAINER_KERNELS_CPU_MATH_H
#define GD_TRAINER_KERNELS_CPU_MATH_H

#include "trainer/kernels/cpu/simd.h"

#define VF_INLINE static inline
#include "trainer/kernels/math.h"

#endif
