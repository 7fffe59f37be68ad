/* slow_disk.c - a disk on which each write, fsync and removal takes its time: loaded before a program (LD_PRELOAD). SLOW_DISK
 * is a part of the paths that it holds, SLOW_DISK_MS what a call takes. SLOW_DISK_LOG, another path, gets a byte for each of
 * them.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static void wait_for_disk(int file) {
  const char *part = getenv("SLOW_DISK"), *ms = getenv("SLOW_DISK_MS"), *log = getenv("SLOW_DISK_LOG");
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (!part || !ms || length <= 0) return;
  path[length] = 0;
  long wait = atol(ms);
  if (!strstr(path, part)) return;
  nanosleep(&(struct timespec){.tv_sec = wait / 1000, .tv_nsec = wait % 1000 * 1000000}, NULL);
  int count = log ? open(log, O_WRONLY | O_APPEND | O_CREAT, 0644) : -1;
  if (count < 0) return;
  if (write(count, ".", 1) < 0) perror(log);
  close(count);
}

/* POSIX lets dlsym's pointer be a function; C has no cast for it. */
#define NEXT(name)                          \
  static __typeof__(&(name)) next;          \
  if (!next) {                              \
    void *symbol = dlsym(RTLD_NEXT, #name); \
    memcpy(&next, &symbol, sizeof next);    \
  }                                         \
  wait_for_disk(file)

ssize_t write(int file, const void *from, size_t bytes) {
  NEXT(write);
  return next(file, from, bytes);
}

ssize_t pwrite(int file, const void *from, size_t bytes, off_t offset) {
  NEXT(pwrite);
  return next(file, from, bytes, offset);
}

ssize_t pwrite64(int file, const void *from, size_t bytes, off64_t offset) {
  NEXT(pwrite64);
  return next(file, from, bytes, offset);
}

int fsync(int file) {
  NEXT(fsync);
  return next(file);
}

int fdatasync(int file) {
  NEXT(fdatasync);
  return next(file);
}

int unlinkat(int file, const char *name, int flags) {
  NEXT(unlinkat);
  return next(file, name, flags);
}
