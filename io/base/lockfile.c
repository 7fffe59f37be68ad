/* lockfile.c - the lock of a folder, which ends with the process that holds it. */
#include "io/base/lockfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/base/files.h"
#include "shard/spec.h"

struct gd_lockfile {
  int file, folder;                    /* folder: -1 where it cannot be held */
  char path[GD_PATH_BYTES], text[128]; /* what the file says of its holder: process and host, token */
};

/* A third line, as long as nobody who had this file has done work there. */
static const char starts[] = "starts\n";

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

/* No two processes have the same, also where all containers have a process 1 on a host of one name. */
static unsigned long long own_token(void) {
  static unsigned long long token;
  if (!token && getrandom(&token, sizeof token, 0) != (ssize_t)sizeof token) token = (unsigned long long)getpid();
  return token;
}

/* Whether a start that had the lock began its work: nobody works under a file without a text. */
static bool has_begun(const char *text) {
  const char *line = strchr(text, '\n');
  line = line ? strchr(line + 1, '\n') : NULL;
  return *text && !(line && strcmp(line + 1, starts) == 0);
}

/* A start behind one that began does not hide that, should it be refused. */
static bool write_text(gd_lockfile *lock, int file, int length) {
  char before[sizeof lock->text + sizeof starts] = "";
  ssize_t got = pread(file, before, sizeof before - 1, 0);
  if (got < 0 || ftruncate(file, 0) || pwrite(file, lock->text, (size_t)length, 0) != length) return false;
  return has_begun(before) || pwrite(file, starts, sizeof starts - 1, length) == (ssize_t)sizeof starts - 1;
}

gd_status gd_lockfile_take(const char *folder, gd_lockfile **out) {
  char path[GD_PATH_BYTES], host[64] = "";
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
  gd_lockfile *lock = calloc(1, sizeof *lock);
  int length =
      lock ? snprintf(lock->text, sizeof lock->text, "process %ld on %s\n%016llx\n", (long)getpid(), host, own_token()) : 0;
  if (!lock)
    status = gd_fail(GD_NO_MEMORY, "no memory for a lock");
  else if (!write_text(lock, file, length))
    status = gd_fail(GD_IO, "cannot write the lock %s: %s", path, strerror(errno));
  if (status != GD_OK) {
    close(file);
    free(lock);
    return status;
  }
  lock->file = file;
  lock->folder = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
  memcpy(lock->path, path, sizeof lock->path);
  *out = lock;
  return GD_OK;
}

gd_status gd_lockfile_begin(gd_lockfile *lock) {
  if (ftruncate(lock->file, (off_t)strlen(lock->text)) == 0) return GD_OK;
  return gd_fail(GD_IO, "cannot write the lock %s: %s", lock->path, strerror(errno));
}

gd_lockfile_state gd_lockfile_look(const gd_lockfile *lock) {
  struct stat mine, there;
  if (stat(lock->path, &there) != 0) return errno == ENOENT || errno == ENOTDIR ? GD_LOCKFILE_REMOVED : GD_LOCKFILE_HELD;
  if (fstat(lock->file, &mine) != 0 || (mine.st_dev == there.st_dev && mine.st_ino == there.st_ino)) return GD_LOCKFILE_HELD;
  /* Some file systems number a file anew: whose it is, it says itself. One of this process that nobody holds was put back. */
  char text[sizeof lock->text + sizeof starts] = "";
  struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  int file = open(lock->path, O_RDWR | O_CLOEXEC);
  if (file < 0) return errno == ENOENT ? GD_LOCKFILE_REMOVED : GD_LOCKFILE_HELD;
  bool is_free = fcntl(file, F_OFD_GETLK, &whole) == 0 && whole.l_type == F_UNLCK;
  ssize_t got = pread(file, text, sizeof text - 1, 0);
  close(file);
  if (got < 0) return GD_LOCKFILE_HELD;
  if (strncmp(text, lock->text, strlen(lock->text)) == 0) return is_free ? GD_LOCKFILE_REMOVED : GD_LOCKFILE_HELD;
  return !is_free || has_begun(text) ? GD_LOCKFILE_REPLACED : GD_LOCKFILE_REMOVED;
}

/* While it is held open no other folder gets its number. */
bool gd_lockfile_folder_stays(const gd_lockfile *lock) {
  char path[GD_PATH_BYTES];
  struct stat mine, there;
  memcpy(path, lock->path, sizeof path);
  *strrchr(path, '/') = 0;
  if (lock->folder < 0 || fstat(lock->folder, &mine) != 0 || stat(path, &there) != 0) return false;
  return mine.st_dev == there.st_dev && mine.st_ino == there.st_ino;
}

/* The file stays: to remove it would let two others lock two different files of that name. Its text says what became of it to
 * who had the folder before, or comes back to it. */
void gd_lockfile_release(gd_lockfile *lock) {
  if (!lock) return;
  close(lock->file);
  if (lock->folder >= 0) close(lock->folder);
  free(lock);
}
