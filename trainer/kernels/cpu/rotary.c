/* rotary.c - rotary positions. Angles are exact fractions of a turn: position times the frequency as a 64-bit fixed-point
 * number, modulo 2^64, so no position loses accuracy and no libm runs in the loop. */
#include "trainer/kernels/cpu/math.h"
#include "trainer/kernels/cpu/parallel.h"
#include "trainer/kernels/cpu/table.h"

enum { MAX_HALF = 512 };

static void rotate_row(const gd_rotary *a, int64_t row, int half, const uint64_t *turns) {
  int64_t position = a->positions ? a->positions[row] : a->first_position + (a->period > 0 ? row % a->period : row);
  for (int i = 0; i < half; i += VF_LANES) {
    int n = vf_left(i, half);
    int32_t fraction[VF_LANES] = {0};
    for (int lane = 0; lane < n; lane++) fraction[lane] = (int32_t)(uint32_t)((uint64_t)position * turns[i + lane] >> 32);
    vf sine, cosine;
    vf_sincos_turn(vi_load(fraction), &sine, &cosine);
    if (a->inverse) sine = vf_neg(sine);
    for (int32_t head = 0; head < a->heads; head++) {
      int64_t at = row * a->ld + (int64_t)head * a->head_size + i;
      vf x = vf_load_as(a->dtype, a->x, at, n), y = vf_load_as(a->dtype, a->x, at + half, n);
      vf_store_as(a->dtype, a->x, at, vf_fma(x, cosine, vf_neg(vf_mul(y, sine))), n);
      vf_store_as(a->dtype, a->x, at + half, vf_fma(y, cosine, vf_mul(x, sine)), n);
    }
  }
}

static gd_status rotary_run(const gd_rotary *a, const gd_cpu_context *context) {
  int half = a->head_size / 2;
  if (a->head_size % 2 || half > MAX_HALF)
    return gd_fail(GD_BUG, "rotary positions for a head of %d elements", (int)a->head_size);
  uint64_t turns[MAX_HALF];
  double log_theta = float64_log((double)a->theta);
  for (int i = 0; i < half; i++) turns[i] = rotary_turn(log_theta, &a->rope, i, a->head_size);
#pragma omp parallel num_threads(gd_parallel_threads(context->threads, a->rows * a->heads * a->head_size))
  {
    int64_t first, end;
    gd_parallel_range(a->rows, 1, &first, &end);
    for (int64_t row = first; row < end; row++) rotate_row(a, row, half, turns);
  }
  return GD_OK;
}
GD_CPU_KERNEL(rotary, gd_rotary, NULL, 0)
