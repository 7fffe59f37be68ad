/* rows.c - the end of a row-parallel product or an embedding: bias, learned position, dropout, residual, one rounding; the norm
 * of a row while it is in the cache; rows by number; and rows on their way into a cache for generation. */
#include <string.h>

#include "trainer/kernels/cpu/parallel.h"
#include "trainer/kernels/cpu/philox.h"
#include "trainer/kernels/cpu/table.h"

/* ahead: elements behind these that come to the cache meanwhile, for a norm comes between; 0: none. dtype is a constant
 * wherever this is inlined. */
static ALWAYS_INLINE void finish_row(const gd_rows_finish *args, int64_t row, uint32_t threshold, float kept, int64_t ahead,
                                     const gd_dtype dtype) {
  const gd_rows_finish local = *args, *a = &local;
  int64_t at = row * a->width;
  int64_t place = a->positions ? a->positions[row] : a->period > 0 ? (a->first_row + row) % a->period : a->first_row + row;
  int64_t table_at = a->table ? place * a->width : 0;
  uint64_t index = (uint64_t)((a->first_row + row) * a->width); /* of the mask */
  for (int64_t block = 0; block < a->width; block += PHILOX_ELEMS) {
    float factors[PHILOX_ELEMS];
    if (a->dropout > 0.0f) philox_dropout64(&a->rng, index + (uint64_t)block, threshold, kept, factors);
    int64_t stop = block + PHILOX_ELEMS < a->width ? block + PHILOX_ELEMS : a->width;
    for (int64_t c = block; c < stop; c += VF_LANES) {
      int n = vf_left(c, stop);
      if (ahead) __builtin_prefetch(a->sum + at + c + ahead);
      if (ahead && a->residual)
        __builtin_prefetch((const char *)a->residual + (at + c + ahead) * (int64_t)gd_dtype_bytes(dtype));
      vf x = vf_load_as(GD_FLOAT32, a->sum, at + c, n);
      if (a->bias) x = vf_add(x, vf_load_as(dtype, a->bias, c, n));
      if (a->table) x = vf_add(x, vf_load_as(dtype, a->table, table_at + c, n));
      if (a->dropout > 0.0f) x = vf_mul(x, vf_load(factors + (c - block)));
      if (a->residual) x = vf_add(x, vf_load_as(dtype, a->residual, at + c, n));
      vf_store_as(dtype, a->out, at + c, x, n);
    }
  }
}

/* So many rows of bfloat16 are finished before they are normed, in the cache. Those of float32 that are not narrow wait for
 * memory in any case. */
enum { NORM_ROWS = 4, NARROW = 192 };

static gd_status rows_finish_run(const gd_rows_finish *a, const gd_cpu_context *context) {
  gd_norm_args norm = gd_norm_of_rows(a);
  uint32_t threshold = gd_rng_dropout_threshold(a->dropout);
  float kept = 1.0f / (1.0f - a->dropout);
  int64_t together = a->dtype == GD_BFLOAT16 || a->width <= NARROW ? NORM_ROWS : 1;
  int64_t ahead = a->norm.y && a->dropout == 0.0f ? together * a->width : 0; /* masks take longer than memory */
#pragma omp parallel num_threads(gd_parallel_threads(context->threads, a->rows * a->width))
  {
    int64_t first, end;
    gd_parallel_range(a->rows, 1, &first, &end);
    for (int64_t row = first, stop; row < end; row = stop) {
      stop = row + together < end ? row + together : end;
      for (int64_t r = row; r < stop; r++) {
        if (a->dtype == GD_BFLOAT16) {
          finish_row(a, r, threshold, kept, ahead, GD_BFLOAT16);
        } else {
          finish_row(a, r, threshold, kept, ahead, GD_FLOAT32);
        }
      }
      if (a->norm.y) GD_CPU(norm_forward_rows)(&norm, row, stop);
    }
  }
  return GD_OK;
}
GD_CPU_KERNEL(rows_finish, gd_rows_finish, NULL, 0) /* out may be residual */

static gd_status dropout_backward_run(const gd_dropout_backward *a, const gd_cpu_context *context) {
  uint32_t threshold = gd_rng_dropout_threshold(a->dropout);
  float kept = 1.0f / (1.0f - a->dropout);
  int64_t elements = a->rows * a->width;
  uint64_t index = (uint64_t)(a->first_row * a->width);
#pragma omp parallel num_threads(gd_parallel_threads(context->threads, elements))
  {
    int64_t first, end;
    gd_parallel_range(elements, PHILOX_ELEMS, &first, &end);
    for (int64_t block = first; block < end; block += PHILOX_ELEMS) {
      float factors[PHILOX_ELEMS];
      philox_dropout64(&a->rng, index + (uint64_t)block, threshold, kept, factors);
      int64_t stop = block + PHILOX_ELEMS < end ? block + PHILOX_ELEMS : end;
      for (int64_t i = block; i < stop; i += VF_LANES) {
        int n = vf_left(i, stop);
        vf dy = vf_load_as(a->dtype, a->dy, i, n);
        vf_store_as(a->dtype, a->dx, i, vf_mul(dy, vf_load(factors + (i - block))), n);
      }
    }
  }
  return GD_OK;
}
GD_CPU_KERNEL(dropout_backward, gd_dropout_backward, NULL, 0) /* dx may be dy */

static gd_status cache_rows_run(const gd_cache_rows *a, const gd_cpu_context *context) {
  size_t element = gd_dtype_bytes(a->dtype), bytes = (size_t)a->width * element;
#pragma omp parallel num_threads(gd_parallel_threads(context->threads, a->rows * a->width))
  {
    int64_t first, end;
    gd_parallel_range(a->rows, 1, &first, &end);
    for (int64_t row = first; row < end; row++) {
      int64_t place = a->slots[row] * a->capacity + a->positions[row];
      memcpy((char *)a->cache + (size_t)place * bytes, (const char *)a->x + (size_t)(row * a->ld) * element, bytes);
    }
  }
  return GD_OK;
}
GD_CPU_KERNEL(cache_rows, gd_cache_rows, NULL, 0) /* other rows of the cache stay */
/* Rows are copied, or zeros written: bytes, whatever the dtype. */
static gd_status rows_pick_run(const gd_rows_pick *a, const gd_cpu_context *context) {
  (void)context;
  size_t bytes = (size_t)a->width * gd_dtype_bytes(a->dtype);
  for (int64_t i = 0; i < a->count; i++) {
    int64_t row = a->index[i] - a->first;
    char *to = (char *)a->to + (size_t)i * bytes;
    if (a->index[i] >= 0 && row >= 0 && row < a->size)
      memcpy(to, (const char *)a->from + (size_t)row * bytes, bytes);
    else
      memset(to, 0, bytes);
  }
  return GD_OK;
}
GD_CPU_KERNEL(rows_pick, gd_rows_pick, args->to, args->count * args->width * (int64_t)gd_dtype_bytes(args->dtype))

static gd_status rows_put_run(const gd_rows_pick *a, const gd_cpu_context *context) {
  (void)context;
  size_t bytes = (size_t)a->width * gd_dtype_bytes(a->dtype);
  for (int64_t i = 0; i < a->count; i++) {
    int64_t row = a->index[i] - a->first;
    if (a->index[i] >= 0 && row >= 0 && row < a->size)
      memcpy((char *)a->to + (size_t)row * bytes, (const char *)a->from + (size_t)i * bytes, bytes);
  }
  return GD_OK;
}
GD_CPU_KERNEL(rows_put, gd_rows_pick, NULL, 0)
