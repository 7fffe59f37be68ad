/* shard_check.h - no byte of a token shard reaches HDF5 before the file's SHA-256 was compared with the one in its index.
 *
 * A file is hashed once, before its first use, and known again at later opens by what the system says of it (device, inode,
 * size, times of the last change): where that differs it is hashed again. Ranks of one host may share the records
 * (gd_dataset_check), so that each file is hashed once a host: by whoever wants it first, while the others wait. All calls are
 * local and safe from several threads. */
#ifndef GD_IO_DATA_SHARD_CHECK_H
#define GD_IO_DATA_SHARD_CHECK_H

#include <stdatomic.h>
#include <stdint.h>

#include "io/base/sha256.h"
#include "shard/base/status.h"

/* What is known of one file; all zeros: nothing. Lies in memory that processes share. */
typedef struct gd_shard_check {
  _Atomic uint64_t known; /* 0 nothing, 1 somebody is at it, else which file had the right digest: a hash of its identity */
  _Atomic uint64_t parts; /* grows while somebody is at it */
} gd_shard_check;

/* What the checks of all who share the records took. */
typedef struct gd_shard_check_cost {
  _Atomic int64_t files, bytes, nanoseconds;
} gd_shard_check_cost;

/* A shard as its index names it. Texts and records outlive the shard that is opened from it. */
typedef struct gd_shard_source {
  const char *path, *index; /* index: the file that holds the digest, for faults */
  char sha256[GD_SHA256_HEX_BYTES];
  gd_shard_check *check;
  gd_shard_check_cost *cost; /* NULL: nobody asks */
} gd_shard_source;

/* Opens the file for reading (*file is the caller's to close), hashes it where it is not known yet. *identity is what
 * gd_shard_check_identity says of it. GD_BAD_DATA: missing, other bytes (both digests are told), or written to meanwhile;
 * GD_IO. */
GD_CHECKED gd_status gd_shard_check_open(const gd_shard_source *source, int *file, uint64_t *identity);

/* A hash of which file this is and when it was last changed, above 1; 0: the system does not say. */
uint64_t gd_shard_check_identity(int file);

#endif
