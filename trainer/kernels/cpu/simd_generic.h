/* simd_generic.h - vf in plain C: what the other two are compared with. Included by simd.h only. */
#ifndef GD_TRAINER_KERNELS_CPU_SIMD_GENERIC_H
#define GD_TRAINER_KERNELS_CPU_SIMD_GENERIC_H

typedef struct vf {
  float x[16];
} vf;
typedef struct vi {
  int32_t x[16];
} vi;
typedef struct vm {
  bool x[16];
} vm;

#define GD_LANES for (int lane = 0; lane < 16; lane++)

static inline vf vf_set1(float value) {
  vf r;
  GD_LANES r.x[lane] = value;
  return r;
}
static inline vi vi_set1(int32_t value) {
  vi r;
  GD_LANES r.x[lane] = value;
  return r;
}
static inline vm vm_first(int n) {
  vm r;
  GD_LANES r.x[lane] = lane < n;
  return r;
}
static inline vf vf_load(const float *p) {
  vf r;
  memcpy(r.x, p, sizeof r.x);
  return r;
}
static inline void vf_store(float *p, vf a) {
  memcpy(p, a.x, sizeof a.x);
}
static inline vf vf_load_n(const float *p, int n) {
  vf r = {{0}};
  memcpy(r.x, p, (size_t)n * sizeof *p);
  return r;
}
static inline void vf_store_n(float *p, vf a, int n) {
  memcpy(p, a.x, (size_t)n * sizeof *p);
}
static inline vi vi_load(const int32_t *p) {
  vi r;
  memcpy(r.x, p, sizeof r.x);
  return r;
}
static inline void vi_store(int32_t *p, vi a) {
  memcpy(p, a.x, sizeof a.x);
}
static inline vi vi_load_n(const int32_t *p, int n) {
  vi r = {{0}};
  memcpy(r.x, p, (size_t)n * sizeof *p);
  return r;
}

#define GD_LANEWISE(type, name, expression) \
  static inline type name(type a, type b) { \
    type r;                                 \
    GD_LANES r.x[lane] = (expression);      \
    return r;                               \
  }
GD_LANEWISE(vf, vf_add, a.x[lane] + b.x[lane])
GD_LANEWISE(vf, vf_sub, a.x[lane] - b.x[lane])
GD_LANEWISE(vf, vf_mul, a.x[lane] * b.x[lane])
GD_LANEWISE(vf, vf_div, a.x[lane] / b.x[lane])
/* The second operand where either is NaN. */
GD_LANEWISE(vf, vf_max, a.x[lane] > b.x[lane] ? a.x[lane] : b.x[lane])
GD_LANEWISE(vf, vf_min, a.x[lane] < b.x[lane] ? a.x[lane] : b.x[lane])
GD_LANEWISE(vi, vi_add, (int32_t)((uint32_t)a.x[lane] + (uint32_t)b.x[lane]))
GD_LANEWISE(vi, vi_sub, (int32_t)((uint32_t)a.x[lane] - (uint32_t)b.x[lane]))
GD_LANEWISE(vi, vi_and, a.x[lane] & b.x[lane])
GD_LANEWISE(vi, vi_or, a.x[lane] | b.x[lane])
GD_LANEWISE(vi, vi_xor, a.x[lane] ^ b.x[lane])

#define GD_COMPARISON(type, name, expression) \
  static inline vm name(type a, type b) {     \
    vm r;                                     \
    GD_LANES r.x[lane] = (expression);        \
    return r;                                 \
  }
GD_COMPARISON(vf, vf_lt, a.x[lane] < b.x[lane])
GD_COMPARISON(vf, vf_le, a.x[lane] <= b.x[lane])
GD_COMPARISON(vf, vf_gt, a.x[lane] > b.x[lane])
GD_COMPARISON(vi, vi_eq, a.x[lane] == b.x[lane])
GD_COMPARISON(vi, vi_gt, a.x[lane] > b.x[lane])

static inline vf vf_sqrt(vf a) {
  GD_LANES a.x[lane] = sqrtf(a.x[lane]);
  return a;
}
/* a * b + c, one rounding. */
static inline vf vf_fma(vf a, vf b, vf c) {
  GD_LANES c.x[lane] = fmaf(a.x[lane], b.x[lane], c.x[lane]);
  return c;
}
static inline vm vf_is_nan(vf a) {
  vm r;
  GD_LANES r.x[lane] = a.x[lane] != a.x[lane];
  return r;
}
/* m ? a : b in each lane. */
static inline vf vf_select(vm m, vf a, vf b) {
  GD_LANES b.x[lane] = m.x[lane] ? a.x[lane] : b.x[lane];
  return b;
}
static inline vi vi_select(vm m, vi a, vi b) {
  GD_LANES b.x[lane] = m.x[lane] ? a.x[lane] : b.x[lane];
  return b;
}
static inline vi vf_bits(vf a) {
  vi r;
  memcpy(r.x, a.x, sizeof r.x);
  return r;
}
static inline vf vf_from_bits(vi a) {
  vf r;
  memcpy(r.x, a.x, sizeof r.x);
  return r;
}
/* Right shift is arithmetic (sra) or logical (srl). */
static inline vi vi_shl(vi a, int count) {
  GD_LANES a.x[lane] = (int32_t)((uint32_t)a.x[lane] << count);
  return a;
}
static inline vi vi_sra(vi a, int count) {
  GD_LANES a.x[lane] = a.x[lane] >> count;
  return a;
}
static inline vi vi_srl(vi a, int count) {
  GD_LANES a.x[lane] = (int32_t)((uint32_t)a.x[lane] >> count);
  return a;
}
/* Rounds to nearest even; |a| < 2^31. Out of range and NaN give the smallest integer, as the processors do. */
static inline vi vf_to_int(vf a) {
  vi r;
  GD_LANES r.x[lane] = fabsf(a.x[lane]) < 2147483648.0f ? (int32_t)rintf(a.x[lane]) : INT32_MIN;
  return r;
}
static inline vf vi_to_float(vi a) {
  vf r;
  GD_LANES r.x[lane] = (float)a.x[lane];
  return r;
}

static inline vf vf_load_bf16_n(const gd_bfloat16 *p, int n) {
  vf r = {{0}};
  for (int lane = 0; lane < n; lane++) r.x[lane] = gd_bfloat16_to_float(p[lane]);
  return r;
}
static inline vf vf_load_bf16(const gd_bfloat16 *p) {
  return vf_load_bf16_n(p, 16);
}
static inline void vf_store_bf16_n(gd_bfloat16 *p, vf a, int n) {
  for (int lane = 0; lane < n; lane++) p[lane] = gd_bfloat16_from_float(a.x[lane]);
}
static inline void vf_store_bf16(gd_bfloat16 *p, vf a) {
  vf_store_bf16_n(p, a, 16);
}

#endif
