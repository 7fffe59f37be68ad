/* internal.h - what the files of checkpoint.h share: an open checkpoint and the reader of its boxes. */
#ifndef GD_IO_CHECKPOINT_INTERNAL_H
#define GD_IO_CHECKPOINT_INTERNAL_H

#include "io/checkpoint/file.h"

struct gd_checkpoint {
  char path[GD_PATH_BYTES], tokenizer[GD_PATH_BYTES];
  gd_manifest manifest;
};

/* Keeps a few rank files open between reads, so a stream through a tensor does not open each file again and again. */
enum { GD_READER_FILES = 8 };
typedef struct gd_checkpoint_reader {
  const gd_checkpoint *checkpoint;
  struct {
    gd_checkpoint_file *open; /* NULL: free */
    int32_t file;
    uint64_t used;
  } slot[GD_READER_FILES];
  uint64_t clock;
} gd_checkpoint_reader;

/* Fills boxes whose `tensor` counts the checkpoint's own tensors. Local. */
GD_CHECKED gd_status gd_checkpoint_reader_read(gd_checkpoint_reader *reader, const gd_checkpoint_box *boxes, int32_t count);
void gd_checkpoint_reader_close(gd_checkpoint_reader *reader);

#endif
