/* tensorboard.h - TensorBoard event files: records framed as length, masked CRC-32C of the length, message, masked CRC-32C of
 * the message (little endian). All calls are local. */
#ifndef GD_IO_METRICS_TENSORBOARD_H
#define GD_IO_METRICS_TENSORBOARD_H

#include <stddef.h>
#include <stdint.h>

#include "shard/base/status.h"

typedef struct gd_tensorboard gd_tensorboard;

typedef struct gd_scalar {
  const char *tag; /* "loss/train" */
  double value;
} gd_scalar;

/* A new file in `folder`, which is made. start_step: the first step that will be written; older files' values from it on are
 * dropped by TensorBoard. GD_IO. */
GD_CHECKED gd_status gd_tensorboard_open(const char *folder, int64_t start_step, gd_tensorboard **out);
/* At most 16 scalars of one step; a record that the disk refuses is lost, with a warning. GD_NO_MEMORY. */
GD_CHECKED gd_status gd_tensorboard_write(gd_tensorboard *board, int64_t step, const gd_scalar *scalars, int count);
void gd_tensorboard_close(gd_tensorboard *board);

/* CRC-32C (Castagnoli), as in RFC 3720. */
uint32_t gd_crc32c(const void *bytes, size_t count);

#endif
