/* elementwise.cu - activation, rotary positions, the end of a row-parallel product with dropout, conversion: a thread an
 * element, no sums, but for the norm behind that end. */
#include "trainer/kernels/cuda/common.cuh"
#include "trainer/kernels/cuda/math.cuh"
#include "trainer/kernels/cuda/norm.cuh"

/* ---- GELU and SwiGLU ---- */

template <typename T>
static __global__ void activate(gd_activation_args a, bool backward) {
  int64_t i = flat_index();
  if (i >= a.rows * a.width) return;
  const T *x = (const T *)a.x, *dy = (const T *)a.dy;
  T *y = (T *)a.y, *dx = (T *)a.dx;
  if (a.kind != GD_ACTIVATION_SWIGLU) {
    bool exact = a.kind == GD_ACTIVATION_GELU;
    float value = load(x, i);
    if (backward)
      store(dx, i, load(dy, i) * (exact ? gelu_slope(value) : gelu_tanh_slope(value)));
    else
      store(y, i, exact ? gelu(value) : gelu_tanh(value));
    return;
  }
  int64_t gate_at = i / a.width * 2 * a.width + i % a.width, up_at = gate_at + a.width;
  float gate = load(x, gate_at), up = load(x, up_at), s = vf_sigmoid(gate), silu = gate * s;
  if (!backward) {
    store(y, i, silu * up);
    return;
  }
  float d = load(dy, i), slope = fmaf(silu, 1.0f - s, s); /* silu' = s + x s (1 - s) */
  store(dx, gate_at, d * up * slope);
  store(dx, up_at, d * silu);
}

static gd_status activation(gd_kernels *kernels, const gd_activation_args *args, bool backward, const char *name) {
  int64_t blocks = blocks_of(args->rows * args->width, FLAT_THREADS);
  if (blocks == 0) return GD_OK;
  GD_TRY(check_grid(name, blocks));
  cudaStream_t stream = enter(kernels);
  WITH_STORED(args->dtype, name, activate<T><<<(unsigned)blocks, FLAT_THREADS, 0, stream>>>(*args, backward));
  return launched(name);
}

gd_status gd_cuda_activation_forward(gd_kernels *kernels, const gd_activation_args *args) {
  return activation(kernels, args, false, "activation_forward");
}

gd_status gd_cuda_activation_backward(gd_kernels *kernels, const gd_activation_args *args) {
  return activation(kernels, args, true, "activation_backward");
}

/* ---- rotary positions ---- */

/* A thread turns pair i of every head of a row. */
template <typename T>
static __global__ void rotate(gd_rotary a) {
  int64_t half = a.head_size / 2, item = flat_index();
  if (item >= a.rows * half) return;
  int64_t row = item / half, i = item % half;
  int64_t position = a.positions ? (int64_t)a.positions[row] : a.first_position + (a.period > 0 ? row % a.period : row);
  uint64_t turns = rotary_turn(float64_log((double)a.theta), &a.rope, i, a.head_size);
  int32_t fraction = (int32_t)(uint32_t)(((uint64_t)position * turns) >> 32); /* of 2^32 = one turn */
  float sine, cosine;
  vf_sincos_turn(fraction, &sine, &cosine);
  if (a.inverse) sine = -sine;
  T *x = (T *)a.x + row * a.ld + i;
  for (int32_t head = 0; head < a.heads; head++, x += a.head_size) {
    float low = load(x, 0), high = load(x, half);
    store(x, 0, fmaf(low, cosine, -(high * sine)));
    store(x, half, fmaf(high, cosine, low * sine));
  }
}

gd_status gd_cuda_rotary(gd_kernels *kernels, const gd_rotary *args) {
  if (args->head_size % 2) return gd_fail(GD_BUG, "rotary positions for a head of %d elements", (int)args->head_size);
  int64_t blocks = blocks_of(args->rows * (args->head_size / 2), FLAT_THREADS);
  if (blocks == 0) return GD_OK;
  GD_TRY(check_grid("rotary", blocks));
  cudaStream_t stream = enter(kernels);
  WITH_STORED(args->dtype, "rotary", rotate<T><<<(unsigned)blocks, FLAT_THREADS, 0, stream>>>(*args));
  return launched("rotary");
}

/* ---- rows by number ---- */

template <typename T>
static __global__ void pick_rows(gd_rows_pick a) {
  int64_t i = flat_index();
  if (i >= a.count * a.width) return;
  int64_t index = a.index[i / a.width], row = index - a.first;
  bool there = index >= 0 && row >= 0 && row < a.size;
  ((T *)a.to)[i] = there ? ((const T *)a.from)[row * a.width + i % a.width] : T();
}

template <typename T>
static __global__ void put_rows(gd_rows_pick a) {
  int64_t i = flat_index();
  if (i >= a.count * a.width) return;
  int64_t index = a.index[i / a.width], row = index - a.first;
  if (index >= 0 && row >= 0 && row < a.size) ((T *)a.to)[row * a.width + i % a.width] = ((const T *)a.from)[i];
}

gd_status gd_cuda_rows_pick(gd_kernels *kernels, const gd_rows_pick *args) {
  int64_t blocks = blocks_of(args->count * args->width, FLAT_THREADS);
  if (blocks == 0) return GD_OK;
  GD_TRY(check_grid("rows_pick", blocks));
  cudaStream_t stream = enter(kernels);
  WITH_STORED(args->dtype, "rows_pick", pick_rows<T><<<(unsigned)blocks, FLAT_THREADS, 0, stream>>>(*args));
  return launched("rows_pick");
}

gd_status gd_cuda_rows_put(gd_kernels *kernels, const gd_rows_pick *args) {
  int64_t blocks = blocks_of(args->count * args->width, FLAT_THREADS);
  if (blocks == 0) return GD_OK;
  GD_TRY(check_grid("rows_put", blocks));
  cudaStream_t stream = enter(kernels);
  WITH_STORED(args->dtype, "rows_put", put_rows<T><<<(unsigned)blocks, FLAT_THREADS, 0, stream>>>(*args));
  return launched("rows_put");
}

/* ---- dropout ---- */

/* What the mask of one dropout is made of; threshold 0 keeps all. */
typedef struct mask {
  gd_rng rng;
  uint32_t threshold;
  float kept; /* 1 / (1 - p) */
} mask;

static mask mask_of(const gd_rng *rng, float dropout) {
  mask m;
  m.rng = *rng;
  m.threshold = gd_rng_dropout_threshold(dropout);
  m.kept = 1.0f / (1.0f - dropout);
  return m;
}

/* The factor of element `index` of the global tensor: the words and indices of shard/base/rng.h. */
__device__ __forceinline__ float mask_factor(const mask *m, uint64_t index) {
  return gd_rng_word(&m->rng, index) < m->threshold ? 0.0f : m->kept;
}

template <typename T>
static __global__ void finish_rows(gd_rows_finish a, mask m) {
  int64_t i = flat_index();
  if (i >= a.rows * a.width) return;
  int64_t row = i / a.width, c = i % a.width, global_row = a.first_row + row;
  int64_t place = a.positions ? a.positions[row] : a.period > 0 ? global_row % a.period : global_row;
  float x = a.sum[i];
  if (a.bias) x += load((const T *)a.bias, c);
  if (a.table) x += load((const T *)a.table, place * a.width + c);
  if (a.dropout > 0.0f) x *= mask_factor(&m, (uint64_t)(global_row * a.width + c));
  if (a.residual) x += load((const T *)a.residual, i);
  store((T *)a.out, i, x);
}

template <typename T>
static __global__ void dropout_rows(gd_dropout_backward a, mask m) {
  int64_t i = flat_index();
  if (i >= a.rows * a.width) return;
  store((T *)a.dx, i, load((const T *)a.dy, i) * mask_factor(&m, (uint64_t)(a.first_row * a.width + i)));
}

/* A warp a row: what is stored is what the norm reads. */
template <typename T>
static __global__ void finish_rows_and_norm(gd_rows_finish a, mask m, gd_norm_args norm) {
  int64_t row = warp_row(), global_row = a.first_row + row;
  if (row >= a.rows) return;
  int64_t at = a.positions ? a.positions[row] : a.period > 0 ? global_row % a.period : global_row;
  const T *table = a.table ? (const T *)a.table + at * a.width : NULL;
  for (int64_t c = row_start(); c < a.width; c += ROW_LANES) {
    quad x = load_quad(a.sum + row * a.width, c, a.width), bias = {}, place = {}, rest = {};
    if (a.bias) bias = load_quad((const T *)a.bias, c, a.width);
    if (table) place = load_quad(table, c, a.width);
    if (a.residual) rest = load_quad((const T *)a.residual + row * a.width, c, a.width);
    for (int i = 0; i < 4; i++) {
      if (a.bias) x.x[i] += bias.x[i];
      if (table) x.x[i] += place.x[i];
      if (a.dropout > 0.0f) x.x[i] *= mask_factor(&m, (uint64_t)(global_row * a.width + c + i));
      if (a.residual) x.x[i] += rest.x[i];
    }
    store_quad((T *)a.out + row * a.width, c, a.width, x);
  }
  normalise_row<T>(norm, row); /* a thread reads the elements that it has written */
}

gd_status gd_cuda_rows_finish(gd_kernels *kernels, const gd_rows_finish *args) {
  int64_t blocks = blocks_of(args->rows * args->width, FLAT_THREADS);
  if (blocks == 0) return GD_OK;
  GD_TRY(check_grid("rows_finish", blocks));
  cudaStream_t stream = enter(kernels);
  mask m = mask_of(&args->rng, args->dropout);
  if (args->norm.y) {
    gd_norm_args norm = gd_norm_of_rows(args);
    unsigned rows = (unsigned)row_blocks(args->rows);
    WITH_STORED(args->dtype, "rows_finish", finish_rows_and_norm<T><<<rows, FLAT_THREADS, 0, stream>>>(*args, m, norm));
    return launched("rows_finish");
  }
  WITH_STORED(args->dtype, "rows_finish", finish_rows<T><<<(unsigned)blocks, FLAT_THREADS, 0, stream>>>(*args, m));
  return launched("rows_finish");
}

gd_status gd_cuda_dropout_backward(gd_kernels *kernels, const gd_dropout_backward *args) {
  int64_t blocks = blocks_of(args->rows * args->width, FLAT_THREADS);
  if (blocks == 0) return GD_OK;
  GD_TRY(check_grid("dropout_backward", blocks));
  cudaStream_t stream = enter(kernels);
  mask m = mask_of(&args->rng, args->dropout);
  WITH_STORED(args->dtype, "dropout_backward", dropout_rows<T><<<(unsigned)blocks, FLAT_THREADS, 0, stream>>>(*args, m));
  return launched("dropout_backward");
}

/* ---- rows to a cache ---- */

template <typename T>
static __global__ void cache_flat(gd_cache_rows a) {
  int64_t i = flat_index();
  if (i >= a.rows * a.width) return;
  int64_t row = i / a.width, c = i % a.width;
  ((T *)a.cache)[(a.slots[row] * a.capacity + a.positions[row]) * a.width + c] = ((const T *)a.x)[row * a.ld + c];
}

gd_status gd_cuda_cache_rows(gd_kernels *kernels, const gd_cache_rows *args) {
  int64_t blocks = blocks_of(args->rows * args->width, FLAT_THREADS);
  if (blocks == 0) return GD_OK;
  GD_TRY(check_grid("cache_rows", blocks));
  cudaStream_t stream = enter(kernels);
  WITH_STORED(args->dtype, "cache_rows", cache_flat<T><<<(unsigned)blocks, FLAT_THREADS, 0, stream>>>(*args));
  return launched("cache_rows");
}

/* ---- conversion ---- */

template <typename To, typename From>
static __global__ void convert_flat(To *to, const From *from, int64_t elements) {
  int64_t i = flat_index();
  if (i < elements) store(to, i, load(from, i));
}

gd_status gd_cuda_convert(gd_kernels *kernels, gd_dtype to_dtype, void *to, gd_dtype from_dtype, const void *from,
                          int64_t elements) {
  int64_t blocks = blocks_of(elements, FLAT_THREADS);
  if (blocks == 0) return GD_OK;
  GD_TRY(check_grid("convert", blocks));
  cudaStream_t stream = enter(kernels);
  unsigned grid = (unsigned)blocks;
  WITH_STORED(from_dtype, "convert", {
    if (to_dtype == GD_FLOAT32)
      convert_flat<<<grid, FLAT_THREADS, 0, stream>>>((float *)to, (const T *)from, elements);
    else if (to_dtype == GD_BFLOAT16)
      convert_flat<<<grid, FLAT_THREADS, 0, stream>>>((bf16 *)to, (const T *)from, elements);
    else
      return gd_fail(GD_BUG, "convert to %s: expected float32 or bfloat16", gd_dtype_name(to_dtype));
  });
  return launched("convert");
}
