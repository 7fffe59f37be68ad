/* norm.cuh - the forward norm of a row, for those that have just made it. */
#ifndef GD_TRAINER_KERNELS_CUDA_NORM_CUH
#define GD_TRAINER_KERNELS_CUDA_NORM_CUH

#include "trainer/kernels/cuda/common.cuh"

/* The forward norm of a row, by its warp. */
template <typename T>
__device__ __forceinline__ void normalise_row(const gd_norm_args &a, int64_t row) {
  const T *x = (const T *)a.x + row * a.width, *weight = (const T *)a.weight, *bias = (const T *)a.bias;
  T *y = (T *)a.y + row * a.width;
  float mean = 0.0f;
  if (a.kind == GD_NORM_LAYERNORM) {
    quad sum = {};
    for (int64_t c = row_start(); c < a.width; c += ROW_LANES) {
      quad q = load_quad(x, c, a.width);
      for (int i = 0; i < 4; i++) sum.x[i] += q.x[i];
    }
    mean = row_total(sum) / (float)a.width;
  }
  quad squares = {};
  for (int64_t c = row_start(); c < a.width; c += ROW_LANES) {
    quad q = load_quad(x, c, a.width);
    for (int i = 0; i < 4; i++) {
      float d = c + i < a.width ? q.x[i] - mean : 0.0f;
      squares.x[i] = fmaf(d, d, squares.x[i]);
    }
  }
  float rstd = 1.0f / sqrtf(row_total(squares) / (float)a.width + a.epsilon);
  if (row_start() == 0) {
    if (a.mean) a.mean[row] = mean;
    a.rstd[row] = rstd;
  }
  for (int64_t c = row_start(); c < a.width; c += ROW_LANES) {
    quad q = load_quad(x, c, a.width), w = load_quad(weight, c, a.width), shift = {};
    if (bias) shift = load_quad(bias, c, a.width);
    for (int i = 0; i < 4; i++) {
      float normal = (q.x[i] - mean) * rstd;
      q.x[i] = bias ? fmaf(normal, w.x[i], shift.x[i]) : normal * w.x[i];
    }
    store_quad(y, c, a.width, q);
  }
}

#endif
