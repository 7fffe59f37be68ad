/* activation.c - GELU (exact and GPT-2's tanh form) and SwiGLU, element by element. */
#include "trainer/kernels/cpu/math.h"
#include "trainer/kernels/cpu/parallel.h"
#include "trainer/kernels/cpu/table.h"

/* dtype is a constant wherever these are inlined, and so is exact. Whole groups of vectors come first, then what is left. */

static ALWAYS_INLINE void gelu_forward(const gd_activation_args *args, int64_t first, int64_t end, const gd_dtype dtype,
                                       const bool exact) {
  const gd_activation_args local = *args, *a = &local;
  int64_t i = first;
  for (; i + VF_GROUP_LANES <= end; i += VF_GROUP_LANES) {
    vf x[VF_GROUP];
    vf_load_group(dtype, a->x, i, x);
    VF_FOR_GROUP(v) x[v] = exact ? gelu(x[v]) : gelu_tanh(x[v]);
    vf_store_group(dtype, a->y, i, x);
  }
  for (; i < end; i += VF_LANES) {
    int n = vf_left(i, end);
    vf x = vf_load_as(dtype, a->x, i, n);
    vf_store_as(dtype, a->y, i, exact ? gelu(x) : gelu_tanh(x), n);
  }
}

static ALWAYS_INLINE void gelu_backward(const gd_activation_args *args, int64_t first, int64_t end, const gd_dtype dtype,
                                        const bool exact) {
  const gd_activation_args local = *args, *a = &local;
  const bool groups = !exact || VF_GROUP > 2; /* of two exponentials 16 registers hold no two vectors */
  int64_t i = first;
  for (; groups && i + VF_GROUP_LANES <= end; i += VF_GROUP_LANES) {
    vf x[VF_GROUP], dy[VF_GROUP];
    vf_load_group(dtype, a->x, i, x);
    VF_FOR_GROUP(v) x[v] = exact ? gelu_slope(x[v]) : gelu_tanh_slope(x[v]);
    vf_load_group(dtype, a->dy, i, dy);
    VF_FOR_GROUP(v) x[v] = vf_mul(dy[v], x[v]);
    vf_store_group(dtype, a->dx, i, x);
  }
  for (; i < end; i += VF_LANES) {
    int n = vf_left(i, end);
    vf x = vf_load_as(dtype, a->x, i, n), dy = vf_load_as(dtype, a->dy, i, n);
    vf slope = exact ? gelu_slope(x) : gelu_tanh_slope(x);
    vf_store_as(dtype, a->dx, i, vf_mul(dy, slope), n);
  }
}

static ALWAYS_INLINE vf swiglu(vf gate, vf up) {
  return vf_mul(vf_mul(gate, vf_sigmoid(gate)), up);
}

static ALWAYS_INLINE void swiglu_forward_row(const gd_activation_args *args, int64_t row, const gd_dtype dtype) {
  const gd_activation_args local = *args, *a = &local;
  int64_t gate_at = 2 * row * a->width, up_at = gate_at + a->width, to = row * a->width, c = 0;
  for (; c + VF_GROUP_LANES <= a->width; c += VF_GROUP_LANES) {
    vf gate[VF_GROUP], up[VF_GROUP];
    vf_load_group(dtype, a->x, gate_at + c, gate);
    vf_load_group(dtype, a->x, up_at + c, up);
    VF_FOR_GROUP(v) up[v] = swiglu(gate[v], up[v]);
    vf_store_group(dtype, a->y, to + c, up);
  }
  for (; c < a->width; c += VF_LANES) {
    int n = vf_left(c, a->width);
    vf gate = vf_load_as(dtype, a->x, gate_at + c, n), up = vf_load_as(dtype, a->x, up_at + c, n);
    vf_store_as(dtype, a->y, to + c, swiglu(gate, up), n);
  }
}

/* gate and up become their gradients. */
static ALWAYS_INLINE void swiglu_slopes(vf *gate, vf *up, vf dy) {
  vf s = vf_sigmoid(*gate), silu = vf_mul(*gate, s);
  vf slope = vf_fma(silu, vf_sub(vf_set1(1.0f), s), s); /* silu' = s + x s (1 - s) */
  *gate = vf_mul(vf_mul(dy, *up), slope);
  *up = vf_mul(dy, silu);
}

static ALWAYS_INLINE void swiglu_backward_row(const gd_activation_args *args, int64_t row, const gd_dtype dtype) {
  const gd_activation_args local = *args, *a = &local;
  int64_t gate_at = 2 * row * a->width, up_at = gate_at + a->width, from = row * a->width, c = 0;
  for (; c + VF_GROUP_LANES <= a->width; c += VF_GROUP_LANES) {
    vf gate[VF_GROUP], up[VF_GROUP], dy[VF_GROUP];
    vf_load_group(dtype, a->x, gate_at + c, gate);
    vf_load_group(dtype, a->x, up_at + c, up);
    vf_load_group(dtype, a->dy, from + c, dy);
    VF_FOR_GROUP(v) swiglu_slopes(&gate[v], &up[v], dy[v]);
    vf_store_group(dtype, a->dx, gate_at + c, gate);
    vf_store_group(dtype, a->dx, up_at + c, up);
  }
  for (; c < a->width; c += VF_LANES) {
    int n = vf_left(c, a->width);
    vf gate = vf_load_as(dtype, a->x, gate_at + c, n), up = vf_load_as(dtype, a->x, up_at + c, n);
    swiglu_slopes(&gate, &up, vf_load_as(dtype, a->dy, from + c, n));
    vf_store_as(dtype, a->dx, gate_at + c, gate, n);
    vf_store_as(dtype, a->dx, up_at + c, up, n);
  }
}

static ALWAYS_INLINE void gelu_part(const gd_activation_args *a, int64_t first, int64_t end, bool backward,
                                    const gd_dtype dtype, const bool exact) {
  if (backward) {
    gelu_backward(a, first, end, dtype, exact);
  } else {
    gelu_forward(a, first, end, dtype, exact);
  }
}

/* Elements, or rows of swiglu, first .. end. */
static ALWAYS_INLINE void part(const gd_activation_args *a, int64_t first, int64_t end, bool backward, const gd_dtype dtype) {
  if (a->kind == GD_ACTIVATION_SWIGLU) {
    for (int64_t row = first; row < end; row++) {
      if (backward) {
        swiglu_backward_row(a, row, dtype);
      } else {
        swiglu_forward_row(a, row, dtype);
      }
    }
  } else if (a->kind == GD_ACTIVATION_GELU) {
    gelu_part(a, first, end, backward, dtype, true);
  } else {
    gelu_part(a, first, end, backward, dtype, false);
  }
}

static gd_status run(const gd_activation_args *a, const gd_cpu_context *context, bool backward) {
  bool swiglu = a->kind == GD_ACTIVATION_SWIGLU;
#pragma omp parallel num_threads(gd_parallel_threads(context->threads, a->rows * a->width))
  {
    int64_t first, end;
    gd_parallel_range(swiglu ? a->rows : a->rows * a->width, swiglu ? 1 : 64, &first, &end);
    if (a->dtype == GD_BFLOAT16) {
      part(a, first, end, backward, GD_BFLOAT16);
    } else {
      part(a, first, end, backward, GD_FLOAT32);
    }
  }
  return GD_OK;
}

static gd_status activation_forward_run(const gd_activation_args *a, const gd_cpu_context *context) {
  return run(a, context, false);
}
static gd_status activation_backward_run(const gd_activation_args *a, const gd_cpu_context *context) {
  return run(a, context, true);
}
GD_CPU_KERNEL(activation_forward, gd_activation_args, args->y, (size_t)(args->rows * args->width) * gd_dtype_bytes(args->dtype))
GD_CPU_KERNEL(activation_backward, gd_activation_args, NULL, 0) /* dx may be x */
