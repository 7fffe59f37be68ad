/* inject_calls.c - the calls on files that --inject makes fail, wait or bring other bytes: gptdist-train's own, and those of
 * the libraries it is linked to, come here first, since the program's functions hide the C library's. In gptdist-train alone.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "shard/base/inject.h"

/* The function that NAME hides, looked up once. */
#define NEXT(name)                                              \
  static __typeof__(&(name)) next;                              \
  if (!next) {                                                  \
    void *symbol = dlsym(RTLD_NEXT, #name);                     \
    memcpy(&next, &symbol, sizeof next); /* no cast in ISO C */ \
  }

/* The path of an open file, "" for what has none. */
static const char *path_of(int file, char out[PATH_MAX]) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t length = readlink(link, out, PATH_MAX - 1);
  out[length > 0 && out[0] == '/' ? length : 0] = 0;
  return out;
}

/* The path of a name that a call is to make or remove: its folder as the system has it. */
static const char *path_at(int parent, const char *name, char out[PATH_MAX]) {
  char folder[PATH_MAX], resolved[PATH_MAX];
  if (parent != AT_FDCWD && name[0] != '/') {
    path_of(parent, resolved);
  } else {
    const char *slash = strrchr(name, '/');
    int length = snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - name) + 1 : 1, slash ? name : ".");
    if (length < 0 || (size_t)length >= sizeof folder || !realpath(folder, resolved)) resolved[0] = 0;
    name = slash ? slash + 1 : name;
  }
  return (size_t)snprintf(out, PATH_MAX, "%s/%s", resolved, name) < PATH_MAX ? out : "";
}

/* Whether the call fails; errno is set then. */
static bool fails(const char *call, const char *path) {
  bool writes = !strcmp(call, "write");
  if (!*path) return false;
  const gd_injection *f = writes || !strcmp(call, "fsync") ? gd_inject_strike(GD_INJECT_SLOW_DISK, path, NULL) : NULL;
  if (f) nanosleep(&(struct timespec){.tv_sec = f->ms / 1000, .tv_nsec = f->ms % 1000 * 1000000}, NULL);
  if (writes && gd_inject_strike(GD_INJECT_DISK_FULL, path, NULL)) {
    errno = ENOSPC;
    return true;
  }
  f = gd_inject_strike(GD_INJECT_ERROR, path, call);
  if (f) errno = (int)f->error;
  return f != NULL;
}

static bool file_fails(const char *call, int file) {
  char path[PATH_MAX];
  return gd_inject_armed && fails(call, path_of(file, path));
}

static bool name_fails(const char *call, int parent, const char *name) {
  char path[PATH_MAX];
  return gd_inject_armed && fails(call, path_at(parent, name, path));
}

/* What a read has brought. */
static ssize_t brought(int file, void *to, ssize_t bytes) {
  char path[PATH_MAX];
  if (gd_inject_armed && bytes > 0 && *path_of(file, path) && gd_inject_strike(GD_INJECT_CORRUPT_SHARD, path, NULL))
    ((uint8_t *)to)[bytes / 2] ^= 1;
  return bytes;
}

ssize_t read(int file, void *to, size_t bytes) {
  NEXT(read)
  return file_fails("read", file) ? -1 : brought(file, to, next(file, to, bytes));
}

ssize_t pread(int file, void *to, size_t bytes, off_t offset) {
  NEXT(pread)
  return file_fails("read", file) ? -1 : brought(file, to, next(file, to, bytes, offset));
}

ssize_t pread64(int file, void *to, size_t bytes, off64_t offset) {
  NEXT(pread64)
  return file_fails("read", file) ? -1 : brought(file, to, next(file, to, bytes, offset));
}

ssize_t write(int file, const void *from, size_t bytes) {
  NEXT(write)
  return file_fails("write", file) ? -1 : next(file, from, bytes);
}

ssize_t pwrite(int file, const void *from, size_t bytes, off_t offset) {
  NEXT(pwrite)
  return file_fails("write", file) ? -1 : next(file, from, bytes, offset);
}

ssize_t pwrite64(int file, const void *from, size_t bytes, off64_t offset) {
  NEXT(pwrite64)
  return file_fails("write", file) ? -1 : next(file, from, bytes, offset);
}

int fsync(int file) {
  NEXT(fsync)
  return file_fails("fsync", file) ? -1 : next(file);
}

int fdatasync(int file) {
  NEXT(fdatasync)
  return file_fails("fsync", file) ? -1 : next(file);
}

int rename(const char *from, const char *to) {
  NEXT(rename)
  return name_fails("rename", AT_FDCWD, to) ? -1 : next(from, to);
}

int renameat2(int from_parent, const char *from, int to_parent, const char *to, unsigned flags) {
  NEXT(renameat2)
  return name_fails("rename", to_parent, to) ? -1 : next(from_parent, from, to_parent, to, flags);
}

int unlink(const char *name) {
  NEXT(unlink)
  return name_fails("unlink", AT_FDCWD, name) ? -1 : next(name);
}

int unlinkat(int parent, const char *name, int flags) {
  NEXT(unlinkat)
  return name_fails("unlink", parent, name) ? -1 : next(parent, name, flags);
}

int mkdir(const char *name, mode_t mode) {
  NEXT(mkdir)
  return name_fails("mkdir", AT_FDCWD, name) ? -1 : next(name, mode);
}
