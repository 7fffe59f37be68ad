/* file.c - one rank's file of a checkpoint, written and read. */
#include "io/checkpoint/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/base/files.h"
#include "io/base/hdf5.h"
#include "shard/base/progress.h"

enum { CHUNK_ELEMS = 1 << 20, BOX_COLUMNS = 7, SYNC_ELEMS = 16 * CHUNK_ELEMS };

const char *gd_checkpoint_kind_name(gd_checkpoint_kind kind) {
  static const char *const names[GD_KINDS] = {"weights", "first", "second"};
  return names[kind];
}

void gd_checkpoint_file_library(char out[32]) {
  unsigned major = 0, minor = 0, release = 0;
  gd_hdf5_enter();
  H5get_libversion(&major, &minor, &release);
  gd_hdf5_leave();
  snprintf(out, 32, "%u.%u.%u", major, minor, release);
}

static gd_status fail_hdf5(gd_status code, const char *path, const char *what) {
  (void)gd_hdf5_failed(-1);
  return gd_fail(gd_hdf5_status(code), "%s: cannot %s: HDF5: %s", path, what, gd_hdf5_text());
}

/* ---- writing ---- */

/* Everything so far reaches the file, or the fault shows while the file can still be let go. */
static gd_status flush(hid_t file, const char *path, bool written) {
  gd_progress();
  if (written && H5Fflush(file, H5F_SCOPE_LOCAL) >= 0) {
    gd_progress();
    return GD_OK;
  }
  gd_status status = fail_hdf5(GD_IO, path, "write");
  gd_error fault;
  gd_error_take(status, &fault);
  gd_hdf5_let_go(file);
  return gd_error_raise(&fault);
}

/* A dataset of one dimension (two for cols > 0) that is never filled before it is written. < 0: failed. */
static hid_t create_dataset(hid_t file, const char *name, hid_t type, int64_t rows, int64_t cols) {
  hsize_t dims[2] = {(hsize_t)rows, (hsize_t)cols};
  hsize_t chunk[2] = {(hsize_t)(rows < CHUNK_ELEMS ? rows : CHUNK_ELEMS), (hsize_t)cols};
  int rank = cols ? 2 : 1;
  hid_t space = H5Screate_simple(rank, dims, NULL), plist = H5Pcreate(H5P_DATASET_CREATE), data = -1;
  if (space >= 0 && plist >= 0 && H5Pset_chunk(plist, rank, chunk) >= 0 && H5Pset_fletcher32(plist) >= 0 &&
      H5Pset_fill_time(plist, H5D_FILL_TIME_NEVER) >= 0 && H5Pset_obj_track_times(plist, 0) >= 0)
    data = H5Dcreate2(file, name, type, space, H5P_DEFAULT, plist, H5P_DEFAULT);
  (void)gd_hdf5_failed(data); /* the closes below would lose the text */
  if (plist >= 0) H5Pclose(plist);
  if (space >= 0) H5Sclose(space);
  return data;
}

/* Elements of a box: those in memory, or what the feed gives. */
static gd_status take(const gd_checkpoint_feed *feed, const gd_checkpoint_box *box, int64_t first, int64_t count, float *out) {
  if (feed) return feed->read(feed->context, box, first, count, out);
  memcpy(out, box->data + first, (size_t)count * sizeof *out);
  return GD_OK;
}

/* Boxes of one kind, one behind the other, written in whole chunks: a partly written chunk would be read back to be summed. */
static gd_status write_kind(hid_t file, const char *path, gd_checkpoint_kind kind, const gd_checkpoint_box *boxes,
                            int32_t count, const gd_checkpoint_feed *feed, gd_stored_box *stored, float *chunk) {
  const char *name = gd_checkpoint_kind_name(kind);
  int64_t elements = 0;
  for (int32_t i = 0; i < count; i++) {
    if (boxes[i].kind != kind) continue;
    stored[i].tensor = boxes[i].tensor;
    stored[i].kind = (int32_t)kind;
    stored[i].reserved = 0;
    stored[i].box = boxes[i].box;
    stored[i].offset = elements;
    elements += gd_box_elements(boxes[i].box);
  }
  if (!elements) return GD_OK;
  hid_t data = create_dataset(file, name, H5T_IEEE_F32LE, elements, 0);
  if (data < 0) return flush(file, path, false);
  gd_status status = GD_OK;
  int64_t written = 0, held = 0;
  for (int32_t i = 0; status == GD_OK && i < count; i++) {
    if (boxes[i].kind != kind) continue;
    int64_t size = gd_box_elements(boxes[i].box);
    for (int64_t done = 0; status == GD_OK && done < size;) {
      int64_t piece = size - done < CHUNK_ELEMS - held ? size - done : CHUNK_ELEMS - held;
      status = take(feed, &boxes[i], done, piece, chunk + held);
      held += piece;
      done += piece;
      if (status != GD_OK || (held < CHUNK_ELEMS && written + held < elements)) continue;
      if (gd_hdf5_transfer(data, H5T_NATIVE_FLOAT, written, held, chunk, NULL) < 0) status = flush(file, path, false);
      written += held;
      held = 0;
      int fault = status == GD_OK && written % SYNC_ELEMS == 0 ? gd_hdf5_sync(file) : 0;
      if (fault) {
        status = gd_fail(GD_IO, "cannot force %s to the disk: %s", path, strerror(fault));
        gd_hdf5_let_go(file);
      }
    }
  }
  if (status == GD_OK) status = flush(file, path, true);
  if (H5Dclose(data) < 0 && status == GD_OK) status = fail_hdf5(GD_IO, path, "write");
  return status;
}

static gd_status write_table(hid_t file, const char *path, const gd_stored_box *stored, int32_t count) {
  int64_t *table = malloc(((size_t)count * BOX_COLUMNS + 1) * sizeof *table);
  if (!table) return gd_fail(GD_NO_MEMORY, "no memory for a table of %d boxes", count);
  for (int32_t i = 0; i < count; i++) {
    const gd_stored_box *s = &stored[i];
    const int64_t row[BOX_COLUMNS] = {s->tensor, s->kind, s->offset, s->box.row, s->box.rows, s->box.col, s->box.cols};
    memcpy(table + (size_t)i * BOX_COLUMNS, row, sizeof row);
  }
  gd_status status = GD_OK;
  if (count) {
    hid_t data = create_dataset(file, "boxes", H5T_STD_I64LE, count, BOX_COLUMNS);
    bool good = data >= 0 && H5Dwrite(data, H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, table) >= 0;
    status = flush(file, path, good);
    if (data >= 0 && H5Dclose(data) < 0 && status == GD_OK) status = fail_hdf5(GD_IO, path, "write");
  }
  free(table);
  return status;
}

static gd_status write_names(hid_t file, const char *path, const gd_tensor *tensors, int32_t count) {
  if (!count) return GD_OK;
  char *names = calloc((size_t)count, GD_NAME_BYTES);
  if (!names) return gd_fail(GD_NO_MEMORY, "no memory for %d names", count);
  for (int32_t i = 0; i < count; i++) memcpy(names + (size_t)i * GD_NAME_BYTES, tensors[i].name, GD_NAME_BYTES);
  gd_status status = GD_OK;
  hid_t type = H5Tcopy(H5T_C_S1), data = -1;
  if (type >= 0 && H5Tset_size(type, GD_NAME_BYTES) >= 0) data = create_dataset(file, "tensors", type, count, 0);
  bool good = data >= 0 && H5Dwrite(data, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, names) >= 0;
  status = flush(file, path, good);
  if (data >= 0 && H5Dclose(data) < 0 && status == GD_OK) status = fail_hdf5(GD_IO, path, "write");
  if (type >= 0) H5Tclose(type);
  free(names);
  return status;
}

static gd_status write_file(const char *path, const gd_tensor *tensors, int32_t tensor_count, const gd_checkpoint_box *boxes,
                            int32_t count, const gd_checkpoint_feed *feed, gd_stored_box *stored) {
  float *chunk = malloc(CHUNK_ELEMS * sizeof *chunk);
  if (!chunk) return gd_fail(GD_NO_MEMORY, "no memory for a chunk of %d elements", CHUNK_ELEMS);
  hid_t list = gd_hdf5_access(), file = list < 0 ? -1 : H5Fcreate(path, H5F_ACC_EXCL, H5P_DEFAULT, list);
  (void)gd_hdf5_failed(file); /* the close below would lose the text */
  if (list >= 0) H5Pclose(list);
  if (file < 0) {
    free(chunk);
    return fail_hdf5(GD_IO, path, "create the file");
  }
  gd_status status = GD_OK;
  for (int kind = 0; status == GD_OK && kind < GD_KINDS; kind++)
    status = write_kind(file, path, (gd_checkpoint_kind)kind, boxes, count, feed, stored, chunk);
  if (status == GD_OK) status = write_table(file, path, stored, count);
  if (status == GD_OK) status = write_names(file, path, tensors, tensor_count);
  if (H5Fclose(file) < 0 && status == GD_OK) status = fail_hdf5(GD_IO, path, "write");
  free(chunk);
  return status;
}

/* A failed fsync loses pages silently, so it ends this checkpoint. The cached pages are then dropped where the system agrees,
 * and the digest that follows reads what the disk holds. */
static gd_status force_to_disk(const char *path) {
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return gd_fail(GD_IO, "cannot open %s: %s", path, strerror(errno));
  int fault = fsync(file) ? errno : 0;
  gd_progress();
  if (!fault) (void)posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
  if (close(file) && !fault) fault = errno;
  if (fault) return gd_fail(GD_IO, "cannot force %s to the disk: %s", path, strerror(fault));
  return GD_OK;
}

/* ---- reading ---- */

struct gd_checkpoint_file {
  char *path;
  hid_t file;
  hid_t data[GD_KINDS]; /* -1: not there */
  int64_t elements[GD_KINDS];
  float *window; /* elements [start, start + length) of window_kind */
  int64_t start, length;
  int window_kind;
};

static gd_status open_kind(gd_checkpoint_file *file, gd_checkpoint_kind kind) {
  const char *name = gd_checkpoint_kind_name(kind);
  htri_t there = H5Lexists(file->file, name, H5P_DEFAULT);
  if (there < 0) return fail_hdf5(GD_BAD_DATA, file->path, "look for a dataset");
  if (!there) return GD_OK;
  hid_t data = H5Dopen2(file->file, name, H5P_DEFAULT);
  if (data < 0) return fail_hdf5(GD_BAD_DATA, file->path, "open a dataset");
  file->data[kind] = data;
  hid_t space = H5Dget_space(data), type = H5Dget_type(data);
  hsize_t dims[1] = {0};
  bool good = space >= 0 && type >= 0 && H5Sget_simple_extent_ndims(space) == 1 && H5Tget_class(type) == H5T_FLOAT &&
              H5Tget_size(type) == 4 && H5Sget_simple_extent_dims(space, dims, NULL) == 1;
  if (type >= 0) H5Tclose(type);
  if (space >= 0) H5Sclose(space);
  if (!good) return gd_fail_user(GD_BAD_DATA, "%s: /%s is not a run of float32", file->path, name);
  file->elements[kind] = (int64_t)dims[0];
  return GD_OK;
}

gd_status gd_checkpoint_file_open(const char *path, gd_checkpoint_file **out) {
  *out = NULL;
  gd_checkpoint_file *file = calloc(1, sizeof *file);
  if (!file) return gd_fail(GD_NO_MEMORY, "no memory for a file");
  for (int kind = 0; kind < GD_KINDS; kind++) file->data[kind] = -1;
  file->window_kind = -1;
  file->path = strdup(path);
  file->window = malloc(CHUNK_ELEMS * sizeof *file->window);
  gd_status status =
      access(path, R_OK) == 0 ? GD_OK : gd_fail(gd_fault_listed(errno), "cannot open %s: %s", path, strerror(errno));
  gd_hdf5_enter();
  hid_t list = gd_hdf5_access();
  file->file = status == GD_OK && file->path && list >= 0 ? H5Fopen(path, H5F_ACC_RDONLY, list) : -1;
  (void)gd_hdf5_failed(file->file);
  if (list >= 0) H5Pclose(list);
  if (!file->path || !file->window)
    status = gd_fail(GD_NO_MEMORY, "no memory to read %s", path);
  else if (status == GD_OK && file->file < 0)
    status = fail_hdf5(GD_BAD_DATA, path, "open the file");
  for (int kind = 0; status == GD_OK && kind < GD_KINDS; kind++) status = open_kind(file, (gd_checkpoint_kind)kind);
  gd_hdf5_leave();
  if (status == GD_OK)
    *out = file;
  else
    gd_checkpoint_file_close(file);
  return status;
}

/* Moves the window onto the chunk that holds `element`. */
static gd_status fill_window(gd_checkpoint_file *file, gd_checkpoint_kind kind, int64_t element) {
  int64_t start = element - element % CHUNK_ELEMS;
  int64_t length = file->elements[kind] - start < CHUNK_ELEMS ? file->elements[kind] - start : CHUNK_ELEMS;
  file->window_kind = -1;
  gd_hdf5_enter();
  gd_status status = GD_OK;
  if (gd_hdf5_transfer(file->data[kind], H5T_NATIVE_FLOAT, start, length, NULL, file->window) < 0)
    status = fail_hdf5(GD_BAD_DATA, file->path, "read");
  gd_hdf5_leave();
  GD_TRY(status);
  file->window_kind = (int)kind;
  file->start = start;
  file->length = length;
  return GD_OK;
}

gd_status gd_checkpoint_file_read(gd_checkpoint_file *file, gd_checkpoint_kind kind, int64_t first, int64_t count, float *out) {
  if (file->data[kind] < 0 || first < 0 || count < 0 || first > file->elements[kind] - count)
    return gd_fail_user(GD_BAD_DATA, "%s: /%s has no elements %" PRId64 " to %" PRId64, file->path,
                        gd_checkpoint_kind_name(kind), first, first + count - 1);
  while (count) {
    if (file->window_kind != (int)kind || first < file->start || first >= file->start + file->length)
      GD_TRY(fill_window(file, kind, first));
    int64_t piece = file->start + file->length - first;
    if (piece > count) piece = count;
    memcpy(out, file->window + (first - file->start), (size_t)piece * sizeof *out);
    out += piece;
    first += piece;
    count -= piece;
  }
  return GD_OK;
}

void gd_checkpoint_file_close(gd_checkpoint_file *file) {
  if (!file) return;
  gd_hdf5_enter();
  for (int kind = 0; kind < GD_KINDS; kind++)
    if (file->data[kind] >= 0) H5Dclose(file->data[kind]);
  if (file->file >= 0) H5Fclose(file->file);
  gd_hdf5_leave();
  free(file->window);
  free(file->path);
  free(file);
}

/* ---- writing, and reading back ---- */

static gd_status compare_box(gd_checkpoint_file *file, const gd_checkpoint_box *box, const gd_checkpoint_feed *feed,
                             const gd_stored_box *stored, float *pieces) {
  float *piece = pieces, *wanted = pieces + CHUNK_ELEMS;
  int64_t size = gd_box_elements(box->box);
  for (int64_t done = 0; done < size;) {
    int64_t count = size - done < CHUNK_ELEMS ? size - done : CHUNK_ELEMS;
    GD_TRY(gd_checkpoint_file_read(file, box->kind, stored->offset + done, count, piece));
    GD_TRY(take(feed, box, done, count, wanted));
    if (memcmp(piece, wanted, (size_t)count * sizeof *piece) != 0)
      return gd_fail_user(GD_BAD_DATA, "other elements in /%s", gd_checkpoint_kind_name(box->kind));
    done += count;
  }
  return GD_OK;
}

/* What the disk holds is what was to be written: a digest of it alone would vouch for a bit that turned on the way, and the
 * older checkpoints go once this one is published. */
static gd_status read_back(const char *path, const gd_checkpoint_box *boxes, int32_t count, const gd_checkpoint_feed *feed,
                           const gd_stored_box *stored) {
  gd_checkpoint_file *file = NULL;
  float *piece = malloc(2 * CHUNK_ELEMS * sizeof *piece);
  gd_status status = piece ? gd_checkpoint_file_open(path, &file) : gd_fail(GD_NO_MEMORY, "no memory to read %s", path);
  for (int kind = 0; kind < GD_KINDS; kind++)
    for (int32_t i = 0; status == GD_OK && i < count; i++)
      if ((int)boxes[i].kind == kind) status = compare_box(file, &boxes[i], feed, &stored[i], piece);
  gd_checkpoint_file_close(file);
  free(piece);
  if (status != GD_BAD_DATA) return status;
  gd_error fault;
  gd_error_take(status, &fault);
  return gd_fail(GD_IO, "%s: what the disk holds is not what was written: %s", path, fault.text);
}

gd_status gd_checkpoint_file_write(const char *path, const gd_tensor *tensors, int32_t tensor_count,
                                   const gd_checkpoint_box *boxes, int32_t count, const gd_checkpoint_feed *feed,
                                   gd_stored_box *stored, gd_manifest_file *file) {
  gd_hdf5_enter();
  gd_status status = write_file(path, tensors, tensor_count, boxes, count, feed, stored);
  gd_hdf5_leave();
  GD_TRY(status);
  GD_TRY(force_to_disk(path));
  GD_TRY(read_back(path, boxes, count, feed, stored));
  return gd_sha256_file(path, file->sha256, &file->bytes);
}
