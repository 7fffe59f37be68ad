/* cuda.h - what the project uses of the CUDA driver. */
#ifndef GD_TESTS_EMULATION_CUDA_H
#define GD_TESTS_EMULATION_CUDA_H
#include <stdint.h>
typedef struct CUstream_st *CUstream;
typedef unsigned long long CUdeviceptr;
typedef enum CUresult { CUDA_SUCCESS } CUresult;
enum { CU_STREAM_WAIT_VALUE_GEQ };
#endif
