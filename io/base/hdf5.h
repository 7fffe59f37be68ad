/* hdf5.h - what token shards and checkpoints share of HDF5: one thread at a time, silence, the text of a fault, and files
 * without locks.
 *
 * HDF5 is called from one thread of a process at a time: the reader of token shards and the checkpoint writer, which work on
 * threads of their own, stand between gd_hdf5_enter and gd_hdf5_leave (not recursive). All calls are local. */
#ifndef GD_IO_BASE_HDF5_H
#define GD_IO_BASE_HDF5_H

#include <hdf5.h>
#include <stdbool.h>
#include <stdint.h>

#include "shard/base/status.h"

/* Takes the lock and turns HDF5's own printing off (that setting belongs to the thread). */
void gd_hdf5_enter(void);
void gd_hdf5_leave(void);

/* True where `result`, of any HDF5 call, is a fault; keeps HDF5's text of it for gd_hdf5_text, since every later call, a
 * close too, empties HDF5's own stack. */
bool gd_hdf5_failed(hid_t result);
/* What the system or the format refused in this thread's last fault since gd_hdf5_enter. */
const char *gd_hdf5_text(void);
/* The status of that fault: GD_IO where the system refused the call, GD_NO_MEMORY where memory ran out, `otherwise` where HDF5
 * did not like what it found. */
GD_CHECKED gd_status gd_hdf5_status(gd_status otherwise);

/* A file access list for H5Fcreate and H5Fopen, the caller's to close: no file locks. Files are private to one writer until
 * they are published, and many shared file systems know no locks. < 0: failed. */
hid_t gd_hdf5_access(void);

/* After a failed write: HDF5 cannot close a file whose metadata it cannot write, and an open file keeps its disk space even
 * when it is removed. The last writes of `file` go to memory from now on, and it can be closed. */
void gd_hdf5_let_go(hid_t file);

/* Forces to the disk what was written so far, so that the end of a large file does not wait for all of it at once, which a
 * watchdog could not tell from a dead disk. Returns 0 or an errno. */
int gd_hdf5_sync(hid_t file);

/* Selects [first, first + count) of a dataset of one dimension and reads it into `to`, or writes it from `from` where that is
 * not NULL. < 0: failed; gd_hdf5_text says why. */
herr_t gd_hdf5_transfer(hid_t dataset, hid_t memory_type, int64_t first, int64_t count, const void *from, void *to);

#endif
