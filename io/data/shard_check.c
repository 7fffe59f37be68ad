/* shard_check.c - a token shard's bytes against its digest, before HDF5 sees them. */
#include "io/data/shard_check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "io/base/files.h"
#include "shard/base/progress.h"

enum { NOTHING, BUSY, IDENTITIES /* from here on */, PIECE_BYTES = 1 << 20, WAIT_NS = 1000000 };

static uint64_t mix(uint64_t hash, uint64_t word) {
  hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
  return hash ^ hash >> 29;
}

uint64_t gd_shard_check_identity(int file) {
  struct stat about;
  if (fstat(file, &about)) return NOTHING;
  const uint64_t words[] = {about.st_dev,
                            about.st_ino,
                            (uint64_t)about.st_size,
                            (uint64_t)about.st_mtim.tv_sec,
                            (uint64_t)about.st_mtim.tv_nsec,
                            (uint64_t)about.st_ctim.tv_sec,
                            (uint64_t)about.st_ctim.tv_nsec};
  uint64_t hash = 1;
  for (size_t i = 0; i < sizeof words / sizeof *words; i++) hash = mix(hash, words[i]);
  return hash < IDENTITIES ? IDENTITIES : hash;
}

static gd_status hash_file(const gd_shard_source *source, int file, char hex[GD_SHA256_HEX_BYTES], int64_t *bytes) {
  gd_sha256 *sha256 = NULL;
  uint8_t digest[GD_SHA256_BYTES];
  char *piece = malloc(PIECE_BYTES);
  gd_status status = piece ? gd_sha256_open(&sha256) : gd_fail(GD_NO_MEMORY, "no memory to read %s", source->path);
  *bytes = 0;
  while (status == GD_OK) {
    ssize_t got = pread(file, piece, PIECE_BYTES, (off_t)*bytes);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) status = gd_fail(gd_fault_listed(errno), "cannot read %s: %s", source->path, strerror(errno));
    if (got <= 0) break;
    *bytes += got;
    status = gd_sha256_update(sha256, piece, (size_t)got);
    atomic_fetch_add(&source->check->parts, 1);
    gd_progress();
  }
  if (status == GD_OK) status = gd_sha256_finish(sha256, digest);
  if (status == GD_OK) gd_sha256_hex(digest, hex);
  gd_sha256_close(sha256);
  free(piece);
  return status;
}

static int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* The caller has the record to itself. */
static gd_status compare(const gd_shard_source *source, int file, uint64_t identity) {
  char hex[GD_SHA256_HEX_BYTES];
  int64_t bytes, start = now_ns();
  GD_TRY(hash_file(source, file, hex, &bytes));
  if (strcmp(hex, source->sha256) != 0)
    return gd_fail_user(GD_BAD_DATA,
                        "%s: is damaged or another shard: SHA-256 is %s, %s expects %s; copy it from where it is whole, or "
                        "prepare the dataset again",
                        source->path, hex, source->index, source->sha256);
  if (gd_shard_check_identity(file) != identity)
    return gd_fail_user(GD_BAD_DATA, "%s: was written to while it was compared with its SHA-256; datasets must not change",
                        source->path);
  if (!source->cost) return GD_OK;
  atomic_fetch_add(&source->cost->files, 1);
  atomic_fetch_add(&source->cost->bytes, bytes);
  atomic_fetch_add(&source->cost->nanoseconds, now_ns() - start);
  return GD_OK;
}

static gd_status check_file(const gd_shard_source *source, int file, uint64_t *out) {
  gd_shard_check *check = source->check;
  uint64_t parts = atomic_load(&check->parts);
  for (;;) {
    uint64_t identity = gd_shard_check_identity(file), known = atomic_load(&check->known);
    if (identity == NOTHING) return gd_fail(GD_IO, "cannot look at %s: %s", source->path, strerror(errno));
    *out = identity;
    if (known == identity) return GD_OK;
    if (known == BUSY) { /* whoever is at it works: so does who waits */
      nanosleep(&(struct timespec){0, WAIT_NS}, NULL);
      uint64_t now = atomic_load(&check->parts);
      if (now != parts) gd_progress();
      parts = now;
      continue;
    }
    if (!atomic_compare_exchange_strong(&check->known, &known, BUSY)) continue;
    gd_status status = compare(source, file, identity);
    atomic_store(&check->known, status == GD_OK ? identity : NOTHING);
    return status;
  }
}

gd_status gd_shard_check_open(const gd_shard_source *source, int *file, uint64_t *identity) {
  *file = open(source->path, O_RDONLY | O_CLOEXEC);
  if (*file < 0) return gd_fail(gd_fault_listed(errno), "cannot open %s: %s", source->path, strerror(errno));
  gd_status status = check_file(source, *file, identity);
  if (status == GD_OK) return GD_OK;
  close(*file);
  *file = -1;
  return status;
}
