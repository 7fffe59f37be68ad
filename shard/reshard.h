/* reshard.h - boxes on disk x boxes wanted -> copy list. Pure: no files, no ranks. Everything here is local. */
#ifndef GD_SHARD_RESHARD_H
#define GD_SHARD_RESHARD_H

#include <stdint.h>

#include "shard/base/status.h"
#include "shard/tensor.h"

/* A box of a tensor that lies dense (box.rows x box.cols float32, row-major) at element `offset` of a file's run of one kind
 * (weights, first or second moment: gd_checkpoint_kind). */
typedef struct gd_stored_box {
  int32_t tensor; /* index into the tensors, sorted by name */
  int32_t kind;
  int32_t file;
  int32_t reserved; /* 0: tables of boxes travel between ranks as bytes */
  int64_t offset;
  gd_box box;
} gd_stored_box;

/* The part `box` (in the tensor's coordinates) of stored[source] goes to wanted[target]. */
typedef struct gd_copy {
  int32_t source, target;
  gd_box box;
} gd_copy;

/* Stored boxes in the order of (tensor, kind, row): index[count] receives a permutation of 0 .. count - 1. GD_NO_MEMORY. */
GD_CHECKED gd_status gd_reshard_index(const gd_stored_box *stored, int32_t count, int32_t **index);

/* Whether the boxes of every (tensor, kind) that occurs cover that tensor exactly once. kinds[t] (may be NULL) receives the
 * mask of 1 << kind that tensor t has. GD_BAD_DATA naming the tensor and the first element that is missing or there twice. */
GD_CHECKED gd_status gd_reshard_check_cover(const gd_tensor *tensors, int32_t tensor_count, const gd_stored_box *stored,
                                            int32_t count, const int32_t *index, uint32_t *kinds);

/* The copies that fill every wanted box (its tensor, kind and box are read), given stored boxes that passed the cover check.
 * Sorted by (file, kind, offset of the source box). The caller frees *copies. GD_BAD_DATA naming the tensor where elements are
 * not stored; GD_NO_MEMORY. */
GD_CHECKED gd_status gd_reshard_plan(const gd_tensor *tensors, const gd_stored_box *stored, int32_t count, const int32_t *index,
                                     const gd_stored_box *wanted, int32_t wanted_count, gd_copy **copies, int64_t *copy_count);

#endif
