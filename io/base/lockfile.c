/* lockfile.c - the lock of a folder, which ends with the process that holds it. */
#include "io/base/lockfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/base/files.h"
#include "shard/spec.h"

struct gd_lockfile {
  int file;
};

/* An open-file-description lock (fcntl): held by this descriptor alone, also where another part of the process opens the file,
 * and known to network file systems. */
static int try_lock(int file) {
  struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  return fcntl(file, F_OFD_SETLK, &whole);
}

/* "process 123 on node7": who wrote the file. */
static gd_status fail_held(int file, const char *path, const char *folder) {
  char holder[192] = "another process";
  ssize_t got = pread(file, holder, sizeof holder - 1, 0);
  if (got > 0) holder[got] = 0;
  holder[strcspn(holder, "\n")] = 0;
  return gd_fail_user(GD_IO, "%s is in use by %s (it holds the lock %s)", folder, holder, path);
}

gd_status gd_lockfile_take(const char *folder, gd_lockfile **out) {
  char path[GD_PATH_BYTES], host[64] = "", text[128];
  *out = NULL;
  GD_TRY(gd_path_join(path, sizeof path, folder, "lock"));
  int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (file < 0) return gd_fail(GD_IO, "cannot create the lock %s: %s", path, strerror(errno));
  gd_status status = GD_OK;
  if (try_lock(file)) {
    status = errno == EAGAIN || errno == EACCES ? fail_held(file, path, folder)
                                                : gd_fail(GD_IO, "cannot lock %s: %s", path, strerror(errno));
    close(file);
    return status;
  }
  gethostname(host, sizeof host - 1);
  int length = snprintf(text, sizeof text, "process %ld on %s\n", (long)getpid(), host);
  gd_lockfile *lock = malloc(sizeof *lock);
  if (!lock)
    status = gd_fail(GD_NO_MEMORY, "no memory for a lock");
  else if (ftruncate(file, 0) || pwrite(file, text, (size_t)length, 0) != length)
    status = gd_fail(GD_IO, "cannot write the lock %s: %s", path, strerror(errno));
  if (status != GD_OK) {
    close(file);
    free(lock);
    return status;
  }
  lock->file = file;
  *out = lock;
  return GD_OK;
}

/* The file stays: to remove it would let two others lock two different files of that name. */
void gd_lockfile_release(gd_lockfile *lock) {
  if (!lock) return;
  if (ftruncate(lock->file, 0)) { /* only its text; the lock goes with the descriptor */
  }
  close(lock->file);
  free(lock);
}
