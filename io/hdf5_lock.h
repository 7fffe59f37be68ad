/* hdf5_lock.h - HDF5 is called from one thread of a process at a time: the reader of token shards and the checkpoint
 * writer, which work on threads of their own, hold this lock around their calls. It is not recursive. */
#ifndef GD_IO_HDF5_LOCK_H
#define GD_IO_HDF5_LOCK_H

void gd_hdf5_lock(void);
void gd_hdf5_unlock(void);

#endif
