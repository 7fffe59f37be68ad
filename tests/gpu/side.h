/* side.h - one device with its kernels in a check: buffers with guards around them, random input, results noted as floats. */
#ifndef GD_TESTS_GPU_SIDE_H
#define GD_TESTS_GPU_SIDE_H

#include <math.h>

#include "tests/gpu/gpu.h"
#include "trainer/kernels.h"
#include "trainer/kernels/cuda/table.h"

enum { MAX_NOTES = 1 << 20, MAX_BUFFERS = 64, GUARD_BYTES = 256, GUARD = 0xff /* NaNs */, ARENA_BYTES = 32 << 20 };

typedef struct buffer {
  unsigned char *memory; /* guard, bytes, guard */
  size_t bytes;
  bool own; /* not from the arena */
} buffer;

typedef struct side {
  gd_device device;
  gd_kernels kernels;
  buffer buffers[MAX_BUFFERS]; /* of the case under way */
  int buffer_count;
  unsigned char *arena; /* where buffers come from as long as there is room: ARENA_BYTES, taken once */
  size_t arena_used;
  bool overrun; /* a case wrote outside its buffers */
  float *notes;
  int64_t note_count;
} side;

/* When all is done. */
static inline void side_close(side *s) {
  if (s->arena) s->device.ops->free(&s->device, s->arena);
  gd_kernels_close(&s->kernels);
  s->device.ops->close(&s->device);
}

/* A kernel of CUDA may use `bytes` of scratch memory (0: all); gives what it had. */
static inline size_t limit_scratch(side *s, size_t bytes) {
  if (strcmp(s->kernels.ops->name, "cuda") != 0) return 0;
  gd_cuda_state *state = s->kernels.state;
  size_t had = state->scratch_bytes;
  if (bytes) state->scratch_bytes = bytes;
  return had;
}

/* Around each buffer lie GUARD_BYTES that no kernel may touch. They are compared when the case is over, and where the program
 * runs under AddressSanitizer (the emulation), reading them is a fault too. */
static inline void fence(const void *from, size_t bytes, bool closed) {
  void (*poison)(const void *, size_t), (*open)(const void *, size_t);
  void *symbols[] = {dlsym(RTLD_DEFAULT, "__asan_poison_memory_region"), dlsym(RTLD_DEFAULT, "__asan_unpoison_memory_region")};
  if (!symbols[0] || !symbols[1]) return;
  memcpy(&poison, &symbols[0], sizeof poison);
  memcpy(&open, &symbols[1], sizeof open);
  (closed ? poison : open)(from, bytes);
}

static inline void *fresh(side *s, size_t bytes) {
  size_t whole = (bytes + 2 * GUARD_BYTES + GUARD_BYTES - 1) / GUARD_BYTES * GUARD_BYTES;
  void *pointer;
  if (!s->arena) {
    gpu_must(s->device.ops->alloc(&s->device, ARENA_BYTES, &pointer));
    s->arena = pointer;
  }
  bool own = whole > ARENA_BYTES - s->arena_used;
  if (own) {
    gpu_must(s->device.ops->alloc(&s->device, whole, &pointer));
  } else {
    pointer = s->arena + s->arena_used;
    s->arena_used += whole;
  }
  if (s->buffer_count == MAX_BUFFERS) abort();
  s->buffers[s->buffer_count++] = (buffer){pointer, bytes, own};
  gpu_must(s->device.ops->fill(s->kernels.stream, pointer, GUARD, bytes + 2 * GUARD_BYTES));
  gpu_must(s->device.ops->stream_sync(s->kernels.stream));
  fence(pointer, GUARD_BYTES, true);
  fence((char *)pointer + GUARD_BYTES + bytes, GUARD_BYTES, true);
  return (char *)pointer + GUARD_BYTES;
}

/* Frees all buffers; false where one was written outside its ends. */
static inline bool release(side *s) {
  bool whole = true;
  for (int i = 0; i < s->buffer_count; i++) {
    unsigned char *memory = s->buffers[i].memory, guards[2 * GUARD_BYTES];
    unsigned char *end = memory + GUARD_BYTES + s->buffers[i].bytes;
    fence(memory, GUARD_BYTES, false);
    fence(end, GUARD_BYTES, false);
    gpu_must(s->device.ops->copy(s->kernels.stream, guards, memory, GUARD_BYTES, GD_COPY_DEVICE_TO_HOST));
    gpu_must(s->device.ops->copy(s->kernels.stream, guards + GUARD_BYTES, end, GUARD_BYTES, GD_COPY_DEVICE_TO_HOST));
    gpu_must(s->device.ops->stream_sync(s->kernels.stream));
    for (int b = 0; b < 2 * GUARD_BYTES; b++) whole = whole && guards[b] == GUARD;
    if (s->buffers[i].own) s->device.ops->free(&s->device, memory);
  }
  s->buffer_count = 0;
  s->arena_used = 0;
  return whole;
}

static inline void *upload(side *s, const void *host, size_t bytes) {
  void *pointer = fresh(s, bytes);
  gpu_must(s->device.ops->copy(s->kernels.stream, pointer, host, bytes, GD_COPY_HOST_TO_DEVICE));
  gpu_must(s->device.ops->stream_sync(s->kernels.stream));
  return pointer;
}

/* Uniform in [-scale, scale) + shift, rounded to dtype. */
static inline void *input(side *s, uint64_t seed, int64_t elements, gd_dtype dtype, float scale, float shift) {
  gd_rng rng = gd_rng_make(seed, GD_RNG_WEIGHTS, 0, 0, 0);
  unsigned char *host = malloc((size_t)elements * gd_dtype_bytes(dtype));
  for (int64_t i = 0; i < elements; i++) {
    float x = (2.0f * gd_rng_uniform(&rng, (uint64_t)i) - 1.0f) * scale + shift;
    gd_bfloat16 rounded = gd_bfloat16_from_float(x);
    if (dtype == GD_FLOAT32)
      memcpy(host + 4 * i, &x, 4);
    else
      memcpy(host + 2 * i, &rounded, 2);
  }
  void *pointer = upload(s, host, (size_t)elements * gd_dtype_bytes(dtype));
  free(host);
  return pointer;
}

static inline int32_t *integers(side *s, uint64_t seed, int64_t elements, uint32_t below) {
  gd_rng rng = gd_rng_make(seed, GD_RNG_WEIGHTS, 1, 0, 0);
  int32_t *host = malloc((size_t)elements * sizeof *host);
  for (int64_t i = 0; i < elements; i++) host[i] = (int32_t)(gd_rng_word(&rng, (uint64_t)i) % below);
  int32_t *pointer = upload(s, host, (size_t)elements * sizeof *host);
  free(host);
  return pointer;
}

/* Length `what` of the shape number `shape` of those that are drawn: uniform from low to high. GPTDIST_CHECK_SEED: others. */
static inline int64_t drawn(int shape, int what, int64_t low, int64_t high) {
  const char *seed = getenv("GPTDIST_CHECK_SEED");
  gd_rng rng = gd_rng_make(seed ? strtoull(seed, NULL, 10) : 1, GD_RNG_WEIGHTS, 3, (uint32_t)shape, 0);
  return low + (int64_t)(gd_rng_word(&rng, (uint64_t)what) % (uint64_t)(high - low + 1));
}

/* Zeroed, so that elements no kernel writes are equal on both sides. */
static inline void *output(side *s, int64_t elements, gd_dtype dtype) {
  size_t bytes = (size_t)elements * gd_dtype_bytes(dtype);
  void *pointer = fresh(s, bytes);
  gpu_must(s->device.ops->fill(s->kernels.stream, pointer, 0, bytes));
  return pointer;
}

static inline void note(side *s, const void *pointer, int64_t elements, gd_dtype dtype) {
  size_t bytes = (size_t)elements * gd_dtype_bytes(dtype);
  unsigned char *host = malloc(bytes);
  gpu_must(s->device.ops->copy(s->kernels.stream, host, pointer, bytes, GD_COPY_DEVICE_TO_HOST));
  gpu_must(s->device.ops->stream_sync(s->kernels.stream));
  if (s->note_count + elements > MAX_NOTES) abort();
  for (int64_t i = 0; i < elements; i++) {
    float x;
    gd_bfloat16 rounded;
    if (dtype == GD_FLOAT32) {
      memcpy(&x, host + 4 * i, 4);
    } else {
      memcpy(&rounded, host + 2 * i, 2);
      x = gd_bfloat16_to_float(rounded);
    }
    s->notes[s->note_count++] = x;
  }
  free(host);
}

/* The bits of a double, which a float would round. */
static inline void note_double(side *s, double x) {
  uint16_t parts[4];
  memcpy(parts, &x, sizeof parts);
  for (int i = 0; i < 4; i++) s->notes[s->note_count++] = (float)parts[i];
}

static inline void note_doubles(side *s, const double *pointer, int64_t count) {
  size_t bytes = (size_t)count * sizeof *pointer;
  double *host = malloc(bytes);
  gpu_must(s->device.ops->copy(s->kernels.stream, host, pointer, bytes, GD_COPY_DEVICE_TO_HOST));
  gpu_must(s->device.ops->stream_sync(s->kernels.stream));
  if (s->note_count + 4 * count > MAX_NOTES) abort();
  for (int64_t i = 0; i < count; i++) note_double(s, host[i]);
  free(host);
}

#endif
