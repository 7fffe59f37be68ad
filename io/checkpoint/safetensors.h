/* safetensors.h - reading and writing a .safetensors file: 8 bytes header length (little endian), a JSON header {"name":
 * {"dtype", "shape", "data_offsets"}, ...}, data. Any bytes are safe: the header is checked whole before a tensor is read. All
 * calls are local. */
#ifndef GD_IO_CHECKPOINT_SAFETENSORS_H
#define GD_IO_CHECKPOINT_SAFETENSORS_H

#include <stdint.h>

#include "shard/base/status.h"
#include "shard/tensor.h"

typedef enum gd_safetensors_dtype {
  GD_SAFETENSORS_F32,
  GD_SAFETENSORS_F16,
  GD_SAFETENSORS_BF16,
  GD_SAFETENSORS_OTHER, /* an element type that is listed and cannot be read as float32 */
} gd_safetensors_dtype;

typedef struct gd_safetensor {
  const char *name; /* lives as long as the file is open */
  gd_safetensors_dtype dtype;
  const char *dtype_name; /* "F32" */
  int32_t dims;           /* 0 to 8 */
  int64_t shape[8];
  int64_t offset, bytes; /* in the data part */
} gd_safetensor;

typedef struct gd_safetensors gd_safetensors;

/* GD_IO where the file cannot be read; GD_BAD_DATA naming the file and what is wrong: truncated, header too long or no JSON,
 * offsets that overlap, leave gaps or end outside, a size that its shape and dtype do not make, a name given twice. */
GD_CHECKED gd_status gd_safetensors_open(const char *path, gd_safetensors **out);
/* Sorted by name. */
const gd_safetensor *gd_safetensors_list(const gd_safetensors *file, int32_t *count);
/* NULL: none of that name. */
const gd_safetensor *gd_safetensors_find(const gd_safetensors *file, const char *name);

/* A box of a tensor of one (n x 1) or two dims as float32 into out, dense box.rows x box.cols. GD_BAD_DATA for another dtype or
 * number of dims or a box outside; GD_IO. Safe from several threads. */
GD_CHECKED gd_status gd_safetensors_read(const gd_safetensors *file, const gd_safetensor *tensor, gd_box box, float *out);
void gd_safetensors_close(gd_safetensors *file);

/* ---- writing (safetensors_write.c) ---- */

/* "F32", "F16", "BF16", and the bytes of an element. */
const char *gd_safetensors_dtype_name(gd_safetensors_dtype dtype);
int64_t gd_safetensors_dtype_bytes(gd_safetensors_dtype dtype);

typedef struct gd_safetensors_writer gd_safetensors_writer;

/* A new file with a header for tensors[count] (name, dtype, dims and shape are read), whose data follow in this order. The list
 * must live until the writer is closed. GD_IO. */
GD_CHECKED gd_status gd_safetensors_create(const char *path, const gd_safetensor *tensors, int32_t count,
                                           gd_safetensors_writer **out);
/* The next values[count] of the tensor that is not complete yet, rounded to its dtype (to nearest, ties to even). GD_BAD_DATA
 * naming the tensor where a finite value would become infinite; GD_IO. */
GD_CHECKED gd_status gd_safetensors_append(gd_safetensors_writer *writer, const float *values, int64_t count);
/* Forces the file to the disk; all tensors must be complete. GD_IO. */
GD_CHECKED gd_status gd_safetensors_finish(gd_safetensors_writer *writer);
void gd_safetensors_writer_close(gd_safetensors_writer *writer);

#endif
