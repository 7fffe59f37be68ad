#include "io/checkpoint/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/base/files.h"

static const char prefix[] = "step-";

int64_t gd_checkpoint_step_of(const char *name) {
  if (strncmp(name, prefix, sizeof prefix - 1) != 0) return -1;
  const char *digits = name + sizeof prefix - 1;
  size_t count = strspn(digits, "0123456789");
  if (count < 8 || count > 18 || digits[count]) return -1;
  return strtoll(digits, NULL, 10);
}

void gd_checkpoint_step_name(int64_t step, char out[32]) {
  snprintf(out, 32, "%s%08" PRId64, prefix, step);
}

static int newest_first(const void *left, const void *right) {
  int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
  return (a < b) - (a > b);
}

gd_status gd_checkpoint_list(const char *folder, int64_t **steps, int32_t *count, int32_t *bad) {
  int32_t used = 0, room = 0, aside = 0;
  int64_t *list = NULL;
  *steps = NULL;
  *count = 0;
  if (bad) *bad = 0;
  DIR *entries = opendir(folder);
  if (!entries && (errno == ENOENT || errno == ENOTDIR)) return GD_OK;
  if (!entries) return gd_fail(GD_IO, "cannot read the folder %s: %s", folder, strerror(errno));
  for (struct dirent *entry; (entry = readdir(entries));) {
    int64_t step = gd_checkpoint_step_of(entry->d_name);
    if (step < 0) {
      if (strncmp(entry->d_name, prefix, sizeof prefix - 1) == 0 && strstr(entry->d_name, ".bad")) aside++;
      continue;
    }
    if (used == room) {
      room = room ? 2 * room : 64;
      int64_t *grown = realloc(list, (size_t)room * sizeof *grown);
      if (!grown) {
        free(list);
        closedir(entries);
        return gd_fail(GD_NO_MEMORY, "no memory for a list of checkpoints");
      }
      list = grown;
    }
    list[used++] = step;
  }
  closedir(entries);
  if (used) qsort(list, (size_t)used, sizeof *list, newest_first);
  *steps = list;
  *count = used;
  if (bad) *bad = aside;
  return GD_OK;
}

gd_status gd_checkpoint_sweep(const char *folder) {
  gd_status status = GD_OK;
  DIR *entries = opendir(folder);
  if (!entries) return gd_fail(GD_IO, "cannot read the folder %s: %s", folder, strerror(errno));
  for (struct dirent *entry; status == GD_OK && (entry = readdir(entries));) {
    char path[GD_PATH_BYTES];
    if (!strstr(entry->d_name, ".tmp-")) continue;
    status = gd_path_join(path, sizeof path, folder, entry->d_name);
    if (status == GD_OK) status = gd_folder_remove(path);
  }
  closedir(entries);
  return status;
}

int64_t gd_checkpoint_hint(const char *folder, const char *hint) {
  char path[GD_PATH_BYTES];
  gd_bytes text = {0};
  int64_t step = -1;
  if (gd_path_join(path, sizeof path, folder, hint) == GD_OK && gd_file_exists(path) &&
      gd_file_read(path, 256, &text) == GD_OK) {
    text.bytes[strcspn(text.bytes, "\n")] = 0;
    step = gd_checkpoint_step_of(text.bytes);
  }
  gd_bytes_free(&text);
  return step;
}

gd_status gd_checkpoint_set_hint(const char *folder, const char *hint, int64_t step) {
  char path[GD_PATH_BYTES], text[40];
  GD_TRY(gd_path_join(path, sizeof path, folder, hint));
  gd_checkpoint_step_name(step, text);
  size_t length = strlen(text);
  text[length++] = '\n';
  return gd_file_replace(path, text, length);
}

gd_status gd_checkpoint_publish(const char *folder, const char *temporary, int64_t step) {
  char path[GD_PATH_BYTES], name[32];
  gd_checkpoint_step_name(step, name);
  GD_TRY(gd_path_join(path, sizeof path, folder, name));
  GD_TRY(gd_folder_sync(temporary));
  if (!gd_folder_exists(path)) {
    if (rename(temporary, path)) return gd_fail(GD_IO, "cannot rename %s to %s: %s", temporary, path, strerror(errno));
    return gd_folder_sync(folder);
  }
  /* The same step again, on another layout or after its older self was found to end early: swap, then drop the old one. Where
   * the file system cannot swap, the old one steps aside under a name that the next start removes. */
  if (renameat2(AT_FDCWD, temporary, AT_FDCWD, path, RENAME_EXCHANGE)) {
    char aside[GD_PATH_BYTES];
    if ((size_t)snprintf(aside, sizeof aside, "%s.tmp-old", path) >= sizeof aside)
      return gd_fail_user(GD_USAGE, "the path %s is too long", path);
    GD_TRY(gd_folder_remove(aside));
    if (rename(path, aside) || rename(temporary, path))
      return gd_fail(GD_IO, "cannot rename %s to %s: %s", temporary, path, strerror(errno));
    GD_TRY(gd_folder_sync(folder));
    return gd_folder_remove(aside);
  }
  GD_TRY(gd_folder_sync(folder));
  return gd_folder_remove(temporary);
}

gd_status gd_checkpoint_remove(const char *folder, int64_t step) {
  char path[GD_PATH_BYTES], aside[GD_PATH_BYTES], name[32];
  gd_checkpoint_step_name(step, name);
  GD_TRY(gd_path_join(path, sizeof path, folder, name));
  if ((size_t)snprintf(aside, sizeof aside, "%s.tmp-old", path) >= sizeof aside)
    return gd_fail_user(GD_USAGE, "the path %s is too long", path);
  GD_TRY(gd_folder_remove(aside));
  if (rename(path, aside)) return gd_fail(GD_IO, "cannot rename %s: %s", path, strerror(errno));
  return gd_folder_remove(aside);
}

gd_status gd_checkpoint_set_aside(const char *path, const char *why, char renamed[GD_PATH_BYTES]) {
  for (int n = 1; n < 1000; n++) {
    int length = n == 1 ? snprintf(renamed, GD_PATH_BYTES, "%s.%s", path, why)
                        : snprintf(renamed, GD_PATH_BYTES, "%s.%s.%d", path, why, n);
    if (length < 0 || length >= GD_PATH_BYTES) return gd_fail_user(GD_USAGE, "the path %s is too long", path);
    if (gd_folder_exists(renamed) || gd_file_exists(renamed)) continue;
    if (rename(path, renamed)) return gd_fail(GD_IO, "cannot rename %s to %s: %s", path, renamed, strerror(errno));
    return GD_OK;
  }
  return gd_fail_user(GD_IO, "%s: too many set aside before", path);
}
