/* math_constants.h - CUDART_INF_F is in the emulated cuda_runtime.h. */
