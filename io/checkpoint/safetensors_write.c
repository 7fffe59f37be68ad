/* safetensors_write.c - a .safetensors file written from float32 values, tensor by tensor. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/base/json.h"
#include "io/checkpoint/safetensors.h"
#include "shard/base/dtype.h"
#include "shard/base/progress.h"

enum { SLAB_ELEMS = 1 << 18 };

struct gd_safetensors_writer {
  char *path;
  int file;
  const gd_safetensor *tensors;
  int32_t count, at; /* the tensor that is being written */
  int64_t left;      /* elements of it */
  void *slab;
};

const char *gd_safetensors_dtype_name(gd_safetensors_dtype dtype) {
  return dtype == GD_SAFETENSORS_F32 ? "F32" : dtype == GD_SAFETENSORS_F16 ? "F16" : "BF16";
}

int64_t gd_safetensors_dtype_bytes(gd_safetensors_dtype dtype) {
  return dtype == GD_SAFETENSORS_F32 ? 4 : 2;
}

static int64_t elements_of(const gd_safetensor *tensor) {
  int64_t elements = 1;
  for (int32_t i = 0; i < tensor->dims; i++) elements *= tensor->shape[i];
  return elements;
}

static gd_status write_all(gd_safetensors_writer *writer, const void *bytes, size_t count) {
  for (const char *next = bytes; count;) {
    ssize_t written = write(writer->file, next, count);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return gd_fail(GD_IO, "cannot write %s: %s", writer->path, strerror(errno));
    gd_progress();
    next += written;
    count -= (size_t)written;
  }
  return GD_OK;
}

/* `format` is what transformers asks for. Spaces behind the header let the data begin at a multiple of eight bytes. */
static gd_status put_header(const gd_safetensors_writer *writer, gd_bytes *out) {
  int64_t offset = 0;
  GD_TRY(gd_bytes_printf(out, "{\"__metadata__\":{\"format\":\"pt\"}"));
  for (int32_t i = 0; i < writer->count; i++) {
    const gd_safetensor *tensor = &writer->tensors[i];
    int64_t bytes = elements_of(tensor) * gd_safetensors_dtype_bytes(tensor->dtype);
    GD_TRY(gd_bytes_append(out, ",", 1));
    GD_TRY(gd_json_quote(out, tensor->name, strlen(tensor->name)));
    GD_TRY(gd_bytes_printf(out, ":{\"dtype\":\"%s\",\"shape\":[", gd_safetensors_dtype_name(tensor->dtype)));
    for (int32_t d = 0; d < tensor->dims; d++) GD_TRY(gd_bytes_printf(out, "%s%" PRId64, d ? "," : "", tensor->shape[d]));
    GD_TRY(gd_bytes_printf(out, "],\"data_offsets\":[%" PRId64 ",%" PRId64 "]}", offset, offset + bytes));
    offset += bytes;
  }
  GD_TRY(gd_bytes_append(out, "}", 1));
  while (out->count % 8) GD_TRY(gd_bytes_append(out, " ", 1));
  return GD_OK;
}

static gd_status write_header(gd_safetensors_writer *writer) {
  gd_bytes header = {0};
  uint8_t length[8];
  gd_status status = put_header(writer, &header);
  for (int i = 0; i < 8; i++) length[i] = (uint8_t)((uint64_t)header.count >> 8 * i);
  if (status == GD_OK) status = write_all(writer, length, sizeof length);
  if (status == GD_OK) status = write_all(writer, header.bytes, header.count);
  gd_bytes_free(&header);
  return status;
}

gd_status gd_safetensors_create(const char *path, const gd_safetensor *tensors, int32_t count, gd_safetensors_writer **out) {
  *out = NULL;
  gd_safetensors_writer *writer = calloc(1, sizeof *writer);
  if (!writer) return gd_fail(GD_NO_MEMORY, "no memory for a file");
  gd_status status = GD_OK;
  writer->tensors = tensors;
  writer->count = count;
  writer->left = count ? elements_of(&tensors[0]) : 0;
  writer->path = strdup(path);
  writer->slab = malloc(SLAB_ELEMS * sizeof(float));
  writer->file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (writer->file < 0)
    status = gd_fail(GD_IO, "cannot create the file %s: %s", path, strerror(errno));
  else if (!writer->path || !writer->slab)
    status = gd_fail(GD_NO_MEMORY, "no memory to write %s", path);
  else
    status = write_header(writer);
  if (status == GD_OK)
    *out = writer;
  else
    gd_safetensors_writer_close(writer);
  return status;
}

void gd_safetensors_writer_close(gd_safetensors_writer *writer) {
  if (!writer) return;
  if (writer->file >= 0) close(writer->file);
  free(writer->slab);
  free(writer->path);
  free(writer);
}

/* IEEE 754 binary16, to nearest, ties to even. */
static uint16_t half_from_float(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  uint32_t sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return (uint16_t)(sign | 0x7e00u | (magnitude >> 13 & 0x3ffu));
  if (magnitude >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u);
  if (magnitude < 0x38800000u) { /* subnormal: one half has steps of 2^-24, too */
    float shifted = fabsf(value) + 0.5f;
    memcpy(&bits, &shifted, sizeof bits);
    return (uint16_t)(sign | (bits - 0x3f000000u));
  }
  magnitude += 0xfffu + (magnitude >> 13 & 1u);
  return (uint16_t)(sign | (magnitude - 0x38000000u) >> 13);
}

static gd_status narrow(const gd_safetensors_writer *writer, const float *values, int64_t count) {
  const gd_safetensor *tensor = &writer->tensors[writer->at];
  uint16_t *out = writer->slab;
  if (tensor->dtype == GD_SAFETENSORS_F32) {
    memcpy(writer->slab, values, (size_t)count * sizeof *values);
    return GD_OK;
  }
  for (int64_t i = 0; i < count; i++) {
    bool half = tensor->dtype == GD_SAFETENSORS_F16;
    out[i] = half ? half_from_float(values[i]) : gd_bfloat16_from_float(values[i]);
    if (isfinite(values[i]) && (out[i] & 0x7fffu) == (half ? 0x7c00u : 0x7f80u))
      return gd_fail_user(GD_BAD_DATA, "%s holds %g, which %s cannot; choose another dtype", tensor->name, (double)values[i],
                          half ? "float16" : "bfloat16");
  }
  return GD_OK;
}

gd_status gd_safetensors_append(gd_safetensors_writer *writer, const float *values, int64_t count) {
  if (count > writer->left) return gd_fail(GD_BUG, "%s: %" PRId64 " values too many", writer->path, count - writer->left);
  while (count) {
    int64_t piece = count < SLAB_ELEMS ? count : SLAB_ELEMS;
    GD_TRY(narrow(writer, values, piece));
    GD_TRY(write_all(writer, writer->slab, (size_t)(piece * gd_safetensors_dtype_bytes(writer->tensors[writer->at].dtype))));
    values += piece;
    count -= piece;
    writer->left -= piece;
  }
  if (!writer->left && ++writer->at < writer->count) writer->left = elements_of(&writer->tensors[writer->at]);
  return GD_OK;
}

gd_status gd_safetensors_finish(gd_safetensors_writer *writer) {
  if (writer->at < writer->count)
    return gd_fail(GD_BUG, "%s: %s is not complete", writer->path, writer->tensors[writer->at].name);
  if (fsync(writer->file)) return gd_fail(GD_IO, "cannot force %s to the disk: %s", writer->path, strerror(errno));
  int file = writer->file;
  writer->file = -1;
  if (close(file)) return gd_fail(GD_IO, "cannot close %s: %s", writer->path, strerror(errno));
  gd_progress();
  return GD_OK;
}
