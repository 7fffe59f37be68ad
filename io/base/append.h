/* append.h - a file that grows by whole records and may be on a disk that fills up: a record is in it, or nothing of it is. All
 * calls are local. */
#ifndef GD_IO_BASE_APPEND_H
#define GD_IO_BASE_APPEND_H

#include "io/base/files.h"
#include "shard/spec.h"

typedef struct gd_append {
  char path[GD_PATH_BYTES];
  int file;      /* -1: not open */
  int64_t whole; /* bytes of whole records */
  bool torn;     /* behind them lies a part of one */
  int64_t lost;  /* records since the last one that went in */
} gd_append;

/* Opens file->path, which the caller has set; flags: O_EXCL for a file that must be new, else 0. GD_IO; errno is open's. */
GD_CHECKED gd_status gd_append_open(gd_append *file, int flags);
/* With the system when the call returns. GD_IO: nothing of the record is in the file, or it will be cut off before the next. */
GD_CHECKED gd_status gd_append_write(gd_append *file, const void *record, size_t count);
/* The same where a lost record is no fault: warns of the first that is lost, and when the next one goes in, or at the close, of
 * how many there were. */
void gd_append_offer(gd_append *file, const void *record, size_t count);
void gd_append_close(gd_append *file);

#endif
