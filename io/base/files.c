/* files.c - small files and folders: read or written whole, made, published by rename, removed. */
#include "io/base/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shard/base/progress.h"

gd_status gd_bytes_reserve(gd_bytes *buffer, size_t more) {
  size_t wanted = buffer->count + more + 1;
  if (wanted <= buffer->capacity) return GD_OK;
  size_t capacity = buffer->capacity ? buffer->capacity : 64;
  while (capacity < wanted) capacity *= 2;
  char *bytes = realloc(buffer->bytes, capacity);
  if (!bytes) return gd_fail(GD_NO_MEMORY, "no memory for %zu bytes", capacity);
  buffer->bytes = bytes;
  buffer->capacity = capacity;
  buffer->bytes[buffer->count] = 0;
  return GD_OK;
}

gd_status gd_bytes_append(gd_bytes *buffer, const void *bytes, size_t count) {
  GD_TRY(gd_bytes_reserve(buffer, count));
  if (count) memcpy(buffer->bytes + buffer->count, bytes, count);
  buffer->count += count;
  buffer->bytes[buffer->count] = 0;
  return GD_OK;
}

gd_status gd_bytes_printf(gd_bytes *buffer, const char *format, ...) {
  va_list list;
  va_start(list, format);
  int length = vsnprintf(NULL, 0, format, list);
  va_end(list);
  if (length < 0) return gd_fail(GD_BUG, "bad format");
  GD_TRY(gd_bytes_reserve(buffer, (size_t)length));
  va_start(list, format);
  vsnprintf(buffer->bytes + buffer->count, (size_t)length + 1, format, list);
  va_end(list);
  buffer->count += (size_t)length;
  return GD_OK;
}

void gd_bytes_free(gd_bytes *buffer) {
  free(buffer->bytes);
  *buffer = (gd_bytes){0};
}

static bool is_absence(int fault) {
  return fault == ENOENT || fault == ENOTDIR || fault == ELOOP || fault == ENAMETOOLONG;
}

gd_status gd_fault_named(int fault) {
  return is_absence(fault) ? GD_USAGE : GD_IO;
}

gd_status gd_fault_listed(int fault) {
  return is_absence(fault) || fault == EISDIR ? GD_BAD_DATA : GD_IO;
}

gd_status gd_path_named(const char *path, gd_path_kind kind, const char *expected) {
  struct stat info;
  if (stat(path, &info) != 0)
    return gd_fail_user(gd_fault_named(errno), "%s: %s, expected %s", path, strerror(errno), expected);
  bool folder = S_ISDIR(info.st_mode);
  if (kind != GD_PATH_ANY && folder != (kind == GD_PATH_FOLDER))
    return gd_fail_user(GD_USAGE, "%s: found a %s, expected %s", path, folder ? "folder" : "file", expected);
  if (access(path, folder ? R_OK | X_OK : R_OK) != 0)
    return gd_fail_user(gd_fault_named(errno), "cannot read %s: %s", path, strerror(errno));
  return GD_OK;
}

gd_status gd_file_read(const char *path, size_t limit, gd_bytes *out) {
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return gd_fail(gd_fault_listed(errno), "cannot open %s: %s", path, strerror(errno));
  gd_status status = GD_OK;
  size_t start = out->count;
  for (;;) {
    GD_TRY_GOTO(status, done, gd_bytes_reserve(out, 1 << 16));
    ssize_t got = read(file, out->bytes + out->count, out->capacity - out->count - 1);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      status = gd_fail(gd_fault_listed(errno), "cannot read %s: %s", path, strerror(errno));
      goto done;
    }
    out->count += (size_t)got;
    out->bytes[out->count] = 0;
    if (out->count - start > limit) {
      status = gd_fail_user(GD_BAD_DATA, "%s: larger than the %zu bytes expected of such a file", path, limit);
      goto done;
    }
    if (got == 0) break;
  }
done:
  close(file);
  return status;
}

gd_status gd_file_write(const char *path, const void *bytes, size_t count) {
  int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (file < 0) return gd_fail(GD_IO, "cannot create %s: %s", path, strerror(errno));
  const char *next = bytes;
  while (count) {
    ssize_t put = write(file, next, count);
    gd_progress();
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) {
      int fault = errno;
      close(file);
      return gd_fail(GD_IO, "cannot write %s: %s", path, strerror(fault));
    }
    next += put;
    count -= (size_t)put;
  }
  int fault = fsync(file) ? errno : 0;
  gd_progress();
  if (close(file) && !fault) fault = errno;
  if (fault) return gd_fail(GD_IO, "cannot write %s: %s", path, strerror(fault));
  return GD_OK;
}

gd_status gd_file_replace(const char *path, const void *bytes, size_t count) {
  size_t size = strlen(path) + sizeof ".tmp-new";
  char *name = malloc(size);
  if (!name) return gd_fail(GD_NO_MEMORY, "no memory for a path");
  snprintf(name, size, "%s.tmp-new", path);
  gd_status status = gd_file_write(name, bytes, count);
  if (status == GD_OK && rename(name, path)) status = gd_fail(GD_IO, "cannot rename %s to %s: %s", name, path, strerror(errno));
  if (status != GD_OK) {
    unlink(name);
  } else { /* the folder's path fits where the file's did */
    memcpy(name, path, strlen(path) + 1);
    char *slash = strrchr(name, '/');
    if (slash) slash[slash == name ? 1 : 0] = 0;
    status = gd_folder_sync(slash ? name : ".");
  }
  free(name);
  return status;
}

bool gd_file_exists(const char *path) {
  struct stat info;
  return stat(path, &info) == 0 && !S_ISDIR(info.st_mode);
}

bool gd_folder_exists(const char *path) {
  struct stat info;
  return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

gd_status gd_path_look(const char *path, gd_path_kind *out) {
  struct stat info;
  *out = GD_PATH_NOTHING;
  if (stat(path, &info)) {
    if (errno == ENOENT || errno == ENOTDIR || errno == ENAMETOOLONG) return GD_OK;
    return gd_fail(GD_IO, "cannot look at %s: %s", path, strerror(errno));
  }
  *out = S_ISDIR(info.st_mode) ? GD_PATH_FOLDER : GD_PATH_FILE;
  return GD_OK;
}

gd_status gd_folder_next(DIR *entries, const char *path, struct dirent **out) {
  do {
    errno = 0;
    *out = readdir(entries);
  } while (*out && (strcmp((*out)->d_name, ".") == 0 || strcmp((*out)->d_name, "..") == 0));
  if (*out || errno == 0) return GD_OK;
  return gd_fail(GD_IO, "cannot read the folder %s: %s", path, strerror(errno));
}

gd_status gd_folder_make(const char *path) {
  char *copy = strdup(path);
  if (!copy) return gd_fail(GD_NO_MEMORY, "no memory for a path");
  gd_status status = GD_OK;
  for (char *at = copy + 1; status == GD_OK && *at; at++) {
    if (*at != '/') continue;
    *at = 0;
    if (mkdir(copy, 0777) && errno != EEXIST) status = gd_fail(GD_IO, "cannot make the folder %s: %s", copy, strerror(errno));
    *at = '/';
  }
  if (status == GD_OK && mkdir(copy, 0777) && errno != EEXIST)
    status = gd_fail(GD_IO, "cannot make the folder %s: %s", copy, strerror(errno));
  gd_path_kind kind = GD_PATH_FOLDER;
  if (status == GD_OK) status = gd_path_look(copy, &kind);
  if (status == GD_OK && kind != GD_PATH_FOLDER) status = gd_fail(GD_IO, "%s: exists and is not a folder", copy);
  free(copy);
  return status;
}

gd_status gd_folder_sync(const char *path) {
  int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) return gd_fail(GD_IO, "cannot open the folder %s: %s", path, strerror(errno));
  int fault = fsync(folder) ? errno : 0;
  gd_progress();
  close(folder);
  if (fault) return gd_fail(GD_IO, "cannot force the folder %s to the disk: %s", path, strerror(fault));
  return GD_OK;
}

static int remove_under(int parent, const char *name) {
  if (unlinkat(parent, name, 0) == 0 || errno == ENOENT) return 0;
  if (errno != EISDIR && errno != EPERM) return -1;
  int folder = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (folder < 0) return -1;
  DIR *entries = fdopendir(folder);
  if (!entries) {
    close(folder);
    return -1;
  }
  int result = 0;
  for (struct dirent *entry; result == 0 && (entry = readdir(entries));) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    result = remove_under(folder, entry->d_name);
  }
  closedir(entries);
  return result ? result : unlinkat(parent, name, AT_REMOVEDIR);
}

gd_status gd_folder_remove(const char *path) {
  if (remove_under(AT_FDCWD, path)) return gd_fail(GD_IO, "cannot remove %s: %s", path, strerror(errno));
  return GD_OK;
}

gd_status gd_path_join(char *out, size_t size, const char *folder, const char *name) {
  size_t length = strlen(folder);
  const char *slash = length && folder[length - 1] == '/' ? "" : "/";
  if ((size_t)snprintf(out, size, "%s%s%s", folder, slash, name) >= size)
    return gd_fail_user(GD_USAGE, "the path %s/%s is longer than %zu bytes", folder, name, size - 1);
  return GD_OK;
}
