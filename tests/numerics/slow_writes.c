/* slow_writes.c - preloaded into a program: every pwrite to a checkpoint's rank file takes SLOW_WRITES_MS longer, so that
 * training goes on for steps while a save is under way. With SLOW_WRITES_LOG, the slowed writes are counted there, a byte each.
 */
#define _GNU_SOURCE /* RTLD_NEXT */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int in_checkpoint(int fd) {
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length <= 0) return 0;
  path[length] = 0;
  return strstr(path, "/rank-") != NULL;
}

ssize_t pwrite(int fd, const void *data, size_t bytes, off_t offset) {
  static ssize_t (*real)(int, const void *, size_t, off_t);
  if (!real) *(void **)&real = dlsym(RTLD_NEXT, "pwrite");
  const char *delay = getenv("SLOW_WRITES_MS"), *log = getenv("SLOW_WRITES_LOG");
  if (delay && in_checkpoint(fd)) {
    nanosleep(&(struct timespec){atol(delay) / 1000, atol(delay) % 1000 * 1000000L}, NULL);
    int out = log ? open(log, O_WRONLY | O_APPEND | O_CREAT, 0644) : -1;
    if (out >= 0) {
      if (write(out, ".", 1) < 0) abort();
      close(out);
    }
  }
  return real(fd, data, bytes, offset);
}
