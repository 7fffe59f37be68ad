/* file.h - one rank's file of a checkpoint: HDF5 with a run of float32 for each kind.
 *
 *   /weights /first /second   float32 [elements], chunked, Fletcher-32; boxes dense one after another
 *   /boxes                    int64 [n][7]: tensor, kind, offset, row, rows, col, cols (as in the manifest)
 *   /tensors                  text [m]: the names that `tensor` counts
 *
 * Calls are local and hold gd_hdf5_lock while in HDF5. */
#ifndef GD_IO_CHECKPOINT_FILE_H
#define GD_IO_CHECKPOINT_FILE_H

#include "io/checkpoint/checkpoint.h"
#include "io/checkpoint/manifest.h"

/* Where the elements of boxes come from that are not in memory: out[count] = elements first, first + 1, ... of the box, row by
 * row. Asked twice, to write and to compare. */
typedef struct gd_checkpoint_feed {
  gd_status (*read)(void *context, const gd_checkpoint_box *box, int64_t first, int64_t count, float *out);
  void *context;
} gd_checkpoint_feed;

/* Writes the boxes (feed NULL: what their data point to), closes, forces the file to the disk, compares and digests what the
 * disk then holds. file->name is set by the caller; bytes and sha256 are filled. stored[count] receives where each box went
 * (its `file` is left alone). GD_IO naming the file. */
GD_CHECKED gd_status gd_checkpoint_file_write(const char *path, const gd_tensor *tensors, int32_t tensor_count,
                                              const gd_checkpoint_box *boxes, int32_t count, const gd_checkpoint_feed *feed,
                                              gd_stored_box *stored, gd_manifest_file *file);

/* Reading elements of one kind. A window of the last chunk is kept, so ascending small reads cost one read a chunk. */
typedef struct gd_checkpoint_file gd_checkpoint_file;
GD_CHECKED gd_status gd_checkpoint_file_open(const char *path, gd_checkpoint_file **out);
/* out[count] = elements first .. first + count - 1. GD_BAD_DATA where the file has no such elements. */
GD_CHECKED gd_status gd_checkpoint_file_read(gd_checkpoint_file *file, gd_checkpoint_kind kind, int64_t first, int64_t count,
                                             float *out);
void gd_checkpoint_file_close(gd_checkpoint_file *file);

/* "weights", "first", "second". Static text. */
const char *gd_checkpoint_kind_name(gd_checkpoint_kind kind);

/* "1.10.8". */
void gd_checkpoint_file_library(char out[32]);

#endif
