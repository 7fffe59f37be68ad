/* What faults.h promises. Every function here finds the one it hides with dlsym and asks strike() first. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "tests/fault/faults.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { FILES = 4096, PATH_BYTES = 512 };

static const gd_faults *armed;
static atomic_long seen;
static char paths[FILES][PATH_BYTES]; /* of open descriptors; "" unknown */
static pthread_mutex_t log_mutex = PTHREAD_MUTEX_INITIALIZER;

void gd_faults_arm(const gd_faults *faults) {
  atomic_store(&seen, 0);
  armed = faults;
}

long gd_faults_seen(void) {
  return atomic_load(&seen);
}

__attribute__((constructor)) static void arm_from_environment(void) {
  static gd_faults faults;
  const char *text, *rank = getenv("GD_FAULT_RANK"), *mine = getenv("OMPI_COMM_WORLD_RANK");
  if (!getenv("GD_FAULT_PATH") || (rank && (!mine || strcmp(rank, mine) != 0))) return;
  faults.path = getenv("GD_FAULT_PATH");
  faults.calls = getenv("GD_FAULT_CALLS");
  faults.log = getenv("GD_FAULT_LOG");
  faults.nth = (text = getenv("GD_FAULT_NTH")) ? atol(text) : 0;
  faults.error = (text = getenv("GD_FAULT_ERRNO")) ? atoi(text) : EIO;
  faults.delay_ms = (text = getenv("GD_FAULT_DELAY_MS")) ? atoi(text) : 0;
  faults.pass = (text = getenv("GD_FAULT_PASS")) ? atol(text) : 0;
  faults.sticky = getenv("GD_FAULT_STICKY") != NULL;
  faults.kill = getenv("GD_FAULT_KILL") != NULL;
  faults.stop = getenv("GD_FAULT_STOP") != NULL;
  faults.flip = getenv("GD_FAULT_FLIP") != NULL;
  faults.no_exchange = getenv("GD_FAULT_NO_EXCHANGE") != NULL;
  gd_faults_arm(&faults);
}

/* The function that NAME hides, looked up once. */
#define REAL(name, type)                                               \
  static type real_##name;                                             \
  if (!real_##name) {                                                  \
    void *found = dlsym(RTLD_NEXT, #name);                             \
    memcpy(&real_##name, &found, sizeof found); /* no cast in ISO C */ \
  }

static void note(const char *call, const char *path, const char *to) {
  char line[2 * PATH_BYTES + 32];
  int length = snprintf(line, sizeof line, "%s %s%s%s\n", call, path, to ? " " : "", to ? to : "");
  long file = syscall(SYS_openat, AT_FDCWD, armed->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (file < 0 || length < 0) return;
  pthread_mutex_lock(&log_mutex);
  (void)!syscall(SYS_write, file, line, (size_t)length);
  pthread_mutex_unlock(&log_mutex);
  syscall(SYS_close, file);
}

static bool counts(const char *call, const char *path, const char *to) {
  if (!armed || !path || !path[0]) return false;
  if (!strstr(path, armed->path) && !(to && strstr(to, armed->path))) return false;
  if (!armed->calls || !armed->calls[0]) return true;
  size_t length = strlen(call);
  for (const char *at = armed->calls; (at = strstr(at, call)); at += length)
    if ((at == armed->calls || at[-1] == ' ') && (at[length] == 0 || at[length] == ' ')) return true;
  return false;
}

typedef enum verdict { GO_ON, FAIL, FLIP } verdict;

/* Counts the call and says what becomes of it; errno is set on FAIL. */
static verdict strike(const char *call, const char *path, const char *to) {
  if (!counts(call, path, to)) return GO_ON;
  long number = atomic_fetch_add(&seen, 1) + 1;
  if (armed->log) note(call, path, to);
  if (!armed->nth || number < armed->nth || (number > armed->nth && !armed->sticky)) return GO_ON;
  if (armed->pass && (number - armed->nth + 1) % armed->pass == 0) return GO_ON;
  if (armed->log) note("struck", path, to);
  if (armed->kill) kill(getpid(), SIGKILL);
  if (armed->stop) {
    kill(getpid(), SIGSTOP);
    return GO_ON;
  }
  if (armed->delay_ms) {
    nanosleep(&(struct timespec){armed->delay_ms / 1000, armed->delay_ms % 1000 * 1000000L}, NULL);
    return GO_ON;
  }
  if (armed->flip) return strcmp(call, "write") == 0 ? FLIP : GO_ON;
  errno = armed->error;
  return FAIL;
}

static const char *path_of(int file) {
  return file >= 0 && file < FILES ? paths[file] : "";
}

/* /proc/self/fd/N is the file that N is. */
static const char *named(const char *path) {
  static const char descriptors[] = "/proc/self/fd/";
  if (strncmp(path, descriptors, sizeof descriptors - 1) != 0) return path;
  return path_of(atoi(path + sizeof descriptors - 1));
}

static void remember(int file, int parent, const char *path) {
  if (file < 0 || file >= FILES) return;
  path = named(path);
  const char *folder = parent == AT_FDCWD || path[0] == '/' ? "" : path_of(parent);
  snprintf(paths[file], PATH_BYTES, "%.250s%s%.250s", folder, folder[0] ? "/" : "", path);
}

/* A path of an ...at call as it is matched and noted. */
static const char *joined(int parent, const char *path, char out[PATH_BYTES]) {
  path = named(path);
  const char *folder = parent == AT_FDCWD || path[0] == '/' ? "" : path_of(parent);
  snprintf(out, PATH_BYTES, "%.250s%s%.250s", folder, folder[0] ? "/" : "", path);
  return out;
}

static int open_any(int parent, const char *path, int flags, mode_t mode) {
  typedef int (*type)(int, const char *, int, ...);
  char text[PATH_BYTES];
  REAL(openat, type)
  if (strike("open", joined(parent, path, text), NULL) == FAIL) return -1;
  int file = real_openat(parent, path, flags, mode);
  remember(file, parent, path);
  return file;
}

#define MODE_OF(flags, mode)             \
  mode_t mode = 0;                       \
  if ((flags) & (O_CREAT | O_TMPFILE)) { \
    va_list list;                        \
    va_start(list, flags);               \
    mode = (mode_t)va_arg(list, int);    \
    va_end(list);                        \
  }

int open(const char *path, int flags, ...) {
  MODE_OF(flags, mode)
  return open_any(AT_FDCWD, path, flags, mode);
}
int open64(const char *path, int flags, ...) {
  MODE_OF(flags, mode)
  return open_any(AT_FDCWD, path, flags, mode);
}
int openat(int parent, const char *path, int flags, ...) {
  MODE_OF(flags, mode)
  return open_any(parent, path, flags, mode);
}

DIR *opendir(const char *path) {
  typedef DIR *(*type)(const char *);
  REAL(opendir, type)
  if (strike("open", path, NULL) == FAIL) return NULL;
  DIR *entries = real_opendir(path);
  if (entries) remember(dirfd(entries), AT_FDCWD, path);
  return entries;
}

struct dirent *readdir(DIR *entries) {
  typedef struct dirent *(*type)(DIR *);
  REAL(readdir, type)
  return strike("list", path_of(dirfd(entries)), NULL) == FAIL ? NULL : real_readdir(entries);
}

int close(int file) {
  typedef int (*type)(int);
  REAL(close, type)
  bool fails = strike("close", path_of(file), NULL) == FAIL;
  int error = errno;
  if (file >= 0 && file < FILES) paths[file][0] = 0;
  int result = real_close(file); /* Linux frees the descriptor of a close that fails, too */
  if (!fails) return result;
  errno = error;
  return -1;
}

ssize_t read(int file, void *bytes, size_t count) {
  typedef ssize_t (*type)(int, void *, size_t);
  REAL(read, type)
  return strike("read", path_of(file), NULL) == FAIL ? -1 : real_read(file, bytes, count);
}

ssize_t pread(int file, void *bytes, size_t count, off_t offset) {
  typedef ssize_t (*type)(int, void *, size_t, off_t);
  REAL(pread, type)
  return strike("read", path_of(file), NULL) == FAIL ? -1 : real_pread(file, bytes, count, offset);
}

/* A copy of the bytes with one bit of their middle turned; the caller frees it. */
static void *flipped(const void *bytes, size_t count) {
  uint8_t *copy = malloc(count + 1);
  if (!copy || !count) return copy;
  memcpy(copy, bytes, count);
  copy[count / 2] ^= 1;
  return copy;
}

ssize_t write(int file, const void *bytes, size_t count) {
  typedef ssize_t (*type)(int, const void *, size_t);
  REAL(write, type)
  verdict what = strike("write", path_of(file), NULL);
  if (what == FAIL) return -1;
  void *copy = what == FLIP ? flipped(bytes, count) : NULL;
  ssize_t result = real_write(file, copy ? copy : bytes, count);
  free(copy);
  return result;
}

ssize_t pwrite(int file, const void *bytes, size_t count, off_t offset) {
  typedef ssize_t (*type)(int, const void *, size_t, off_t);
  REAL(pwrite, type)
  verdict what = strike("write", path_of(file), NULL);
  if (what == FAIL) return -1;
  void *copy = what == FLIP ? flipped(bytes, count) : NULL;
  ssize_t result = real_pwrite(file, copy ? copy : bytes, count, offset);
  free(copy);
  return result;
}

int fsync(int file) {
  typedef int (*type)(int);
  REAL(fsync, type)
  return strike("fsync", path_of(file), NULL) == FAIL ? -1 : real_fsync(file);
}

int rename(const char *from, const char *to) {
  typedef int (*type)(const char *, const char *);
  REAL(rename, type)
  return strike("rename", from, to) == FAIL ? -1 : real_rename(from, to);
}

int renameat2(int old_parent, const char *from, int new_parent, const char *to, unsigned flags) {
  typedef int (*type)(int, const char *, int, const char *, unsigned);
  REAL(renameat2, type)
  if (flags && armed && armed->no_exchange) {
    errno = EINVAL;
    return -1;
  }
  return strike(flags ? "exchange" : "rename", from, to) == FAIL ? -1 : real_renameat2(old_parent, from, new_parent, to, flags);
}

int unlink(const char *path) {
  typedef int (*type)(const char *);
  REAL(unlink, type)
  return strike("unlink", path, NULL) == FAIL ? -1 : real_unlink(path);
}

int unlinkat(int parent, const char *path, int flags) {
  typedef int (*type)(int, const char *, int);
  char text[PATH_BYTES];
  REAL(unlinkat, type)
  return strike("unlink", joined(parent, path, text), NULL) == FAIL ? -1 : real_unlinkat(parent, path, flags);
}

int mkdir(const char *path, mode_t mode) {
  typedef int (*type)(const char *, mode_t);
  REAL(mkdir, type)
  return strike("mkdir", path, NULL) == FAIL ? -1 : real_mkdir(path, mode);
}

int stat(const char *restrict path, struct stat *restrict info) {
  typedef int (*type)(const char *, struct stat *);
  REAL(stat, type)
  return strike("stat", path, NULL) == FAIL ? -1 : real_stat(path, info);
}

int access(const char *path, int mode) {
  typedef int (*type)(const char *, int);
  REAL(access, type)
  return strike("stat", path, NULL) == FAIL ? -1 : real_access(path, mode);
}
