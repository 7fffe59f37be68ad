/* dtype.h - the element types of stored tensors and the rounding between them. */
#ifndef GD_SHARD_BASE_DTYPE_H
#define GD_SHARD_BASE_DTYPE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef enum gd_dtype { GD_FLOAT32, GD_BFLOAT16, GD_INT32, GD_UINT16, GD_UINT8, GD_INT64 } gd_dtype;

typedef uint16_t gd_bfloat16; /* the upper half of an IEEE single */

static inline size_t gd_dtype_bytes(gd_dtype dtype) {
  static const size_t bytes[] = {4, 2, 4, 2, 1, 8};
  return bytes[dtype];
}

static inline const char *gd_dtype_name(gd_dtype dtype) {
  static const char *const names[] = {"float32", "bfloat16", "int32", "uint16", "uint8", "int64"};
  return names[dtype];
}

static inline float gd_bfloat16_to_float(gd_bfloat16 value) {
  uint32_t bits = (uint32_t)value << 16;
  float result;
  memcpy(&result, &bits, sizeof result);
  return result;
}

/* Rounds to nearest, ties to even; every NaN becomes a quiet one. */
static inline gd_bfloat16 gd_bfloat16_from_float(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return (gd_bfloat16)((bits >> 16) | 0x40u);
  return (gd_bfloat16)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

#endif
