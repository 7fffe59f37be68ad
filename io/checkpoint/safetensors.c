/* safetensors.c - the header of a .safetensors file, checked, and its tensors read. */
#include "io/checkpoint/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/base/json.h"
#include "shard/base/dtype.h"
#include "shard/base/progress.h"

enum { HEADER_LIMIT = 100 << 20, MOST_DIMS = 8, SLAB_BYTES = 1 << 20 };

struct gd_safetensors {
  char *path;
  int file;
  int64_t data; /* where the data part begins in the file */
  gd_json *header;
  gd_safetensor *tensors; /* by name */
  int32_t count;
};

/* ---- the header ---- */

static const struct {
  const char *name;
  int64_t bytes;
  gd_safetensors_dtype dtype;
} dtypes[] = {
    {"F32", 4, GD_SAFETENSORS_F32},    {"F16", 2, GD_SAFETENSORS_F16},       {"BF16", 2, GD_SAFETENSORS_BF16},
    {"F64", 8, GD_SAFETENSORS_OTHER},  {"I64", 8, GD_SAFETENSORS_OTHER},     {"U64", 8, GD_SAFETENSORS_OTHER},
    {"I32", 4, GD_SAFETENSORS_OTHER},  {"U32", 4, GD_SAFETENSORS_OTHER},     {"I16", 2, GD_SAFETENSORS_OTHER},
    {"U16", 2, GD_SAFETENSORS_OTHER},  {"I8", 1, GD_SAFETENSORS_OTHER},      {"U8", 1, GD_SAFETENSORS_OTHER},
    {"BOOL", 1, GD_SAFETENSORS_OTHER}, {"F8_E4M3", 1, GD_SAFETENSORS_OTHER}, {"F8_E5M2", 1, GD_SAFETENSORS_OTHER},
};

static gd_status read_shape(const char *path, const gd_json *shape, gd_safetensor *out, int64_t *elements) {
  *elements = 1;
  if (!gd_json_is_array(shape)) return gd_fail_user(GD_BAD_DATA, "%s: %s has no shape", path, out->name);
  for (const gd_json *dim = gd_json_first(shape); dim; dim = gd_json_next(dim)) {
    int64_t size = 0;
    if (out->dims == MOST_DIMS) return gd_fail_user(GD_BAD_DATA, "%s: %s has more than %d dims", path, out->name, MOST_DIMS);
    if (!gd_json_integer(dim, &size) || size < 0 || (size && *elements > (INT64_MAX / 8) / size))
      return gd_fail_user(GD_BAD_DATA, "%s: %s has an impossible shape", path, out->name);
    *elements *= size;
    out->shape[out->dims++] = size;
  }
  return GD_OK;
}

static gd_status read_entry(const char *path, const gd_json *entry, int64_t data_bytes, gd_safetensor *out) {
  const char *dtype = gd_json_string(gd_json_get(entry, "dtype"));
  int64_t elements, begin, end, element_bytes = 0;
  out->name = gd_json_key(entry);
  if (!out->name || !gd_json_is_object(entry))
    return gd_fail_user(GD_BAD_DATA, "%s: an entry of the header is no tensor", path);
  for (size_t i = 0; dtype && i < sizeof dtypes / sizeof *dtypes; i++) {
    if (strcmp(dtypes[i].name, dtype) != 0) continue;
    out->dtype = dtypes[i].dtype;
    out->dtype_name = dtypes[i].name;
    element_bytes = dtypes[i].bytes;
  }
  if (!element_bytes)
    return gd_fail_user(GD_BAD_DATA, "%s: %s has the unknown dtype %.16s", path, out->name, dtype ? dtype : "(none)");
  GD_TRY(read_shape(path, gd_json_get(entry, "shape"), out, &elements));
  const gd_json *offsets = gd_json_get(entry, "data_offsets"), *first = gd_json_first(offsets), *second = gd_json_next(first);
  if (!gd_json_is_array(offsets) || !gd_json_integer(first, &begin) || !gd_json_integer(second, &end) || gd_json_next(second) ||
      begin < 0 || end < begin || end > data_bytes)
    return gd_fail_user(GD_BAD_DATA, "%s: the data offsets of %s lie outside the %" PRId64 " bytes of data", path, out->name,
                        data_bytes);
  if (end - begin != elements * element_bytes)
    return gd_fail_user(GD_BAD_DATA, "%s: %s takes %" PRId64 " bytes, its shape and dtype make %" PRId64, path, out->name,
                        end - begin, elements * element_bytes);
  out->offset = begin;
  out->bytes = end - begin;
  return GD_OK;
}

static int by_offset(const void *left, const void *right) {
  const gd_safetensor *a = left, *b = right;
  if (a->offset != b->offset) return a->offset < b->offset ? -1 : 1;
  return (a->bytes > b->bytes) - (a->bytes < b->bytes);
}

static int by_name(const void *left, const void *right) {
  return strcmp(((const gd_safetensor *)left)->name, ((const gd_safetensor *)right)->name);
}

static gd_status read_entries(gd_safetensors *file, int64_t data_bytes) {
  size_t room = 1;
  if (!gd_json_is_object(file->header)) return gd_fail_user(GD_BAD_DATA, "%s: its header is no JSON object", file->path);
  for (const gd_json *entry = gd_json_first(file->header); entry; entry = gd_json_next(entry)) room++;
  file->tensors = calloc(room, sizeof *file->tensors);
  if (!file->tensors) return gd_fail(GD_NO_MEMORY, "no memory for %zu tensors", room);
  for (const gd_json *entry = gd_json_first(file->header); entry; entry = gd_json_next(entry)) {
    const char *name = gd_json_key(entry);
    if (name && strcmp(name, "__metadata__") == 0) continue;
    GD_TRY(read_entry(file->path, entry, data_bytes, &file->tensors[file->count]));
    file->count++;
  }
  qsort(file->tensors, (size_t)file->count, sizeof *file->tensors, by_offset);
  int64_t next = 0;
  for (int32_t i = 0; i < file->count; i++) {
    if (file->tensors[i].offset != next)
      return gd_fail_user(GD_BAD_DATA, "%s: the data of %s begins at %" PRId64 ", expected %" PRId64 " (%s)", file->path,
                          file->tensors[i].name, file->tensors[i].offset, next,
                          file->tensors[i].offset < next ? "it overlaps another tensor" : "a gap");
    next += file->tensors[i].bytes;
  }
  if (next != data_bytes)
    return gd_fail_user(GD_BAD_DATA, "%s: %" PRId64 " bytes of data, its header describes %" PRId64, file->path, data_bytes,
                        next);
  qsort(file->tensors, (size_t)file->count, sizeof *file->tensors, by_name);
  for (int32_t i = 1; i < file->count; i++)
    if (strcmp(file->tensors[i - 1].name, file->tensors[i].name) == 0)
      return gd_fail_user(GD_BAD_DATA, "%s: %s is there twice", file->path, file->tensors[i].name);
  return GD_OK;
}

static gd_status read_at(const gd_safetensors *file, void *out, size_t count, int64_t offset) {
  char *next = out;
  while (count) {
    ssize_t got = pread(file->file, next, count, (off_t)offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return gd_fail(gd_fault_listed(errno), "cannot read %s: %s", file->path, strerror(errno));
    if (got == 0) return gd_fail_user(GD_BAD_DATA, "%s: is truncated", file->path);
    gd_progress();
    next += got;
    offset += got;
    count -= (size_t)got;
  }
  return GD_OK;
}

static gd_status read_header(gd_safetensors *file) {
  struct stat info;
  uint8_t head[8];
  uint64_t length = 0;
  if (fstat(file->file, &info)) return gd_fail(GD_IO, "cannot look at %s: %s", file->path, strerror(errno));
  if (info.st_size < 8)
    return gd_fail_user(GD_BAD_DATA, "%s: %" PRId64 " bytes are no safetensors file", file->path, (int64_t)info.st_size);
  GD_TRY(read_at(file, head, sizeof head, 0));
  for (int i = 7; i >= 0; i--) length = length << 8 | head[i];
  if (memcmp(head, "version ", sizeof head) == 0)
    return gd_fail_user(GD_BAD_DATA, "%s: is a pointer of Git LFS: the file itself was not downloaded", file->path);
  if (length > HEADER_LIMIT || length > (uint64_t)info.st_size - 8)
    return gd_fail_user(GD_BAD_DATA,
                        "%s: a header of %" PRIu64 " bytes in a file of %" PRId64 ": truncated, or no safetensors file",
                        file->path, length, (int64_t)info.st_size);
  char *text = malloc((size_t)length + 1);
  if (!text) return gd_fail(GD_NO_MEMORY, "no memory for a header of %" PRIu64 " bytes", length);
  gd_status status = read_at(file, text, (size_t)length, 8);
  if (status == GD_OK) status = gd_json_parse(text, (size_t)length, file->path, 1, &file->header);
  free(text);
  GD_TRY(status);
  file->data = 8 + (int64_t)length;
  return read_entries(file, (int64_t)info.st_size - file->data);
}

gd_status gd_safetensors_open(const char *path, gd_safetensors **out) {
  *out = NULL;
  gd_safetensors *file = calloc(1, sizeof *file);
  if (!file) return gd_fail(GD_NO_MEMORY, "no memory for a file");
  gd_status status = GD_OK;
  file->path = strdup(path);
  file->file = open(path, O_RDONLY | O_CLOEXEC);
  if (file->file < 0)
    status = gd_fail(gd_fault_listed(errno), "cannot open %s: %s", path, strerror(errno));
  else if (!file->path)
    status = gd_fail(GD_NO_MEMORY, "no memory for a path");
  else
    status = read_header(file);
  if (status == GD_OK)
    *out = file;
  else
    gd_safetensors_close(file);
  return status;
}

void gd_safetensors_close(gd_safetensors *file) {
  if (!file) return;
  if (file->file >= 0) close(file->file);
  if (file->header) gd_json_free(file->header);
  free(file->tensors);
  free(file->path);
  free(file);
}

const gd_safetensor *gd_safetensors_list(const gd_safetensors *file, int32_t *count) {
  *count = file->count;
  return file->tensors;
}

const gd_safetensor *gd_safetensors_find(const gd_safetensors *file, const char *name) {
  gd_safetensor key = {.name = name};
  return file->count ? bsearch(&key, file->tensors, (size_t)file->count, sizeof key, by_name) : NULL;
}

/* ---- elements ---- */

static float half_to_float(uint16_t half) {
  uint32_t sign = (uint32_t)(half & 0x8000u) << 16, exponent = (half >> 10) & 31u, fraction = half & 0x3ffu, bits;
  float result;
  if (exponent == 0) { /* zero or subnormal: fraction / 2^24 is exact */
    result = (float)fraction * 0x1p-24f;
    return sign ? -result : result;
  }
  bits = sign | (exponent == 31 ? 0x7f800000u : (exponent + 112) << 23) | fraction << 13;
  memcpy(&result, &bits, sizeof result);
  return result;
}

static void widen(gd_safetensors_dtype dtype, const void *from, int64_t count, float *out) {
  const uint16_t *halves = from;
  if (dtype == GD_SAFETENSORS_F32) {
    memcpy(out, from, (size_t)count * sizeof *out);
    return;
  }
  for (int64_t i = 0; i < count; i++)
    out[i] = dtype == GD_SAFETENSORS_BF16 ? gd_bfloat16_to_float(halves[i]) : half_to_float(halves[i]);
}

/* `count` neighbouring elements from `first` on; the file is little endian, as is every machine this runs on. */
static gd_status read_run(const gd_safetensors *file, const gd_safetensor *tensor, int64_t first, int64_t count, void *slab,
                          float *out) {
  int64_t bytes = tensor->dtype == GD_SAFETENSORS_F32 ? 4 : 2, most = SLAB_BYTES / bytes;
  while (count) {
    int64_t piece = count < most ? count : most;
    GD_TRY(read_at(file, slab, (size_t)(piece * bytes), file->data + tensor->offset + first * bytes));
    widen(tensor->dtype, slab, piece, out);
    first += piece;
    out += piece;
    count -= piece;
  }
  return GD_OK;
}

gd_status gd_safetensors_read(const gd_safetensors *file, const gd_safetensor *tensor, gd_box box, float *out) {
  if (tensor->dtype == GD_SAFETENSORS_OTHER || tensor->dims < 1 || tensor->dims > 2)
    return gd_fail_user(GD_BAD_DATA, "%s: %s is %s of %d dims, expected F32, F16 or BF16 of 1 or 2", file->path, tensor->name,
                        tensor->dtype_name, tensor->dims);
  int64_t rows = tensor->shape[0], cols = tensor->dims == 2 ? tensor->shape[1] : 1;
  if (box.row < 0 || box.rows < 0 || box.rows > rows - box.row || box.col < 0 || box.cols < 0 || box.cols > cols - box.col)
    return gd_fail_user(GD_BAD_DATA, "%s: %s is %" PRId64 " x %" PRId64 ", a box of it lies outside", file->path, tensor->name,
                        rows, cols);
  int64_t most = SLAB_BYTES / 4, elements = box.rows * box.cols;
  void *slab = malloc((size_t)(elements < most ? elements + 1 : most) * 4);
  if (!slab) return gd_fail(GD_NO_MEMORY, "no memory to read %s", file->path);
  gd_status status = GD_OK;
  if (box.cols == cols)
    status = read_run(file, tensor, box.row * cols, box.rows * cols, slab, out);
  else
    for (int64_t r = 0; status == GD_OK && r < box.rows; r++)
      status = read_run(file, tensor, (box.row + r) * cols + box.col, box.cols, slab, out + r * box.cols);
  free(slab);
  return status;
}
