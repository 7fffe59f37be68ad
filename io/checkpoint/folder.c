/* folder.c - the names in RUN/checkpoints: which steps are there, what is left of a save, what is published or removed. */
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
#include "shard/base/log.h"

static const char prefix[] = "step-", replaced[] = ".replaced";

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

/* aside: also the step of a checkpoint that stepped aside for a newer one. */
static int64_t step_of_entry(const char *name, bool aside) {
  char plain[32];
  const char *dot = strchr(name, '.');
  if (!aside || !dot || strcmp(dot, replaced) != 0 || (size_t)(dot - name) >= sizeof plain) return gd_checkpoint_step_of(name);
  memcpy(plain, name, (size_t)(dot - name));
  plain[dot - name] = 0;
  return gd_checkpoint_step_of(plain);
}

static gd_status list_steps(const char *folder, bool with_aside, int64_t **steps, int32_t *count, int32_t *bad) {
  int32_t used = 0, room = 0, aside = 0;
  int64_t *list = NULL;
  *steps = NULL;
  *count = 0;
  if (bad) *bad = 0;
  DIR *entries = opendir(folder);
  if (!entries && (errno == ENOENT || errno == ENOTDIR)) return GD_OK;
  if (!entries) return gd_fail(GD_IO, "cannot read the folder %s: %s", folder, strerror(errno));
  struct dirent *entry = NULL;
  gd_status status = GD_OK;
  while ((status = gd_folder_next(entries, folder, &entry)) == GD_OK && entry) {
    int64_t step = step_of_entry(entry->d_name, with_aside);
    if (step < 0) {
      if (strncmp(entry->d_name, prefix, sizeof prefix - 1) == 0 && strstr(entry->d_name, ".bad")) aside++;
      continue;
    }
    if (used == room) {
      room = room ? 2 * room : 64;
      int64_t *grown = realloc(list, (size_t)room * sizeof *grown);
      if (!grown) {
        status = gd_fail(GD_NO_MEMORY, "no memory for a list of checkpoints");
        break;
      }
      list = grown;
    }
    list[used++] = step;
  }
  closedir(entries);
  if (status != GD_OK) {
    free(list);
    return status;
  }
  if (used) qsort(list, (size_t)used, sizeof *list, newest_first);
  *steps = list;
  *count = used;
  if (bad) *bad = aside;
  return GD_OK;
}

gd_status gd_checkpoint_list(const char *folder, int64_t **steps, int32_t *count, int32_t *bad) {
  return list_steps(folder, false, steps, count, bad);
}

gd_status gd_checkpoint_list_unrecovered(const char *folder, int64_t **steps, int32_t *count, int32_t *bad) {
  return list_steps(folder, true, steps, count, bad);
}

gd_status gd_checkpoint_aside(const char *folder, int64_t step, char out[GD_PATH_BYTES]) {
  char name[32 + sizeof replaced];
  gd_checkpoint_step_name(step, name);
  memcpy(name + strlen(name), replaced, sizeof replaced);
  return gd_path_join(out, GD_PATH_BYTES, folder, name);
}

gd_status gd_checkpoint_place(const char *folder, int64_t step, char out[GD_PATH_BYTES]) {
  char name[32];
  gd_path_kind plain;
  gd_checkpoint_step_name(step, name);
  GD_TRY(gd_path_join(out, GD_PATH_BYTES, folder, name));
  GD_TRY(gd_path_look(out, &plain));
  return plain == GD_PATH_NOTHING ? gd_checkpoint_aside(folder, step, out) : GD_OK;
}

/* `from` becomes PATH.WHY, or PATH.WHY.2 and so on. */
static gd_status set_aside(const char *from, const char *path, const char *why, char renamed[GD_PATH_BYTES]) {
  for (int n = 1; n < 1000; n++) {
    int length = n == 1 ? snprintf(renamed, GD_PATH_BYTES, "%s.%s", path, why)
                        : snprintf(renamed, GD_PATH_BYTES, "%s.%s.%d", path, why, n);
    if (length < 0 || length >= GD_PATH_BYTES) return gd_fail_user(GD_USAGE, "the path %s is too long", path);
    if (gd_folder_exists(renamed) || gd_file_exists(renamed)) continue;
    if (rename(from, renamed)) return gd_fail(GD_IO, "cannot rename %s to %s: %s", from, renamed, strerror(errno));
    return GD_OK;
  }
  return gd_fail_user(GD_IO, "%s: too many set aside before", path);
}

/* FOLDER/NAME, of a checkpoint that stepped aside for a newer one of its step: back to its own name where no newer one came,
 * else it is an old one. Which of two is whole is not known here. */
static gd_status recover_one(const char *folder, const char *name) {
  char aside[GD_PATH_BYTES], path[GD_PATH_BYTES], old[GD_PATH_BYTES];
  gd_path_kind kind;
  GD_TRY(gd_path_join(aside, sizeof aside, folder, name));
  memcpy(path, aside, sizeof path);
  path[strlen(path) - (sizeof replaced - 1)] = 0;
  GD_TRY(gd_path_look(path, &kind));
  if (kind != GD_PATH_NOTHING) {
    GD_TRY(set_aside(aside, path, "old", old));
    gd_log(GD_LOG_WARNING, "%s, left by a start that was killed as it replaced it, is kept as %s", aside,
           strrchr(old, '/') + 1);
  } else if (rename(aside, path)) {
    return gd_fail(GD_IO, "cannot rename %s to %s: %s", aside, path, strerror(errno));
  }
  return gd_folder_sync(folder);
}

gd_status gd_checkpoint_recover(const char *folder) {
  DIR *entries = opendir(folder);
  if (!entries && (errno == ENOENT || errno == ENOTDIR)) return GD_OK;
  if (!entries) return gd_fail(GD_IO, "cannot read the folder %s: %s", folder, strerror(errno));
  struct dirent *entry = NULL;
  gd_status status = GD_OK;
  while (status == GD_OK && (status = gd_folder_next(entries, folder, &entry)) == GD_OK && entry) {
    const char *dot = strchr(entry->d_name, '.');
    if (dot && strncmp(entry->d_name, prefix, sizeof prefix - 1) == 0 && strcmp(dot, replaced) == 0)
      status = recover_one(folder, entry->d_name);
  }
  closedir(entries);
  return status;
}

gd_status gd_checkpoint_sweep(const char *folder) {
  GD_TRY(gd_checkpoint_recover(folder));
  DIR *entries = opendir(folder);
  if (!entries) return gd_fail(GD_IO, "cannot read the folder %s: %s", folder, strerror(errno));
  struct dirent *entry = NULL;
  gd_status status = GD_OK;
  while (status == GD_OK && (status = gd_folder_next(entries, folder, &entry)) == GD_OK && entry) {
    char path[GD_PATH_BYTES];
    if (!strstr(entry->d_name, ".tmp-")) continue;
    status = gd_path_join(path, sizeof path, folder, entry->d_name);
    if (status == GD_OK) status = gd_folder_remove(path);
  }
  closedir(entries);
  return status;
}

gd_status gd_checkpoint_hint(const char *folder, const char *hint, int64_t *step) {
  char path[GD_PATH_BYTES];
  gd_path_kind kind;
  gd_bytes text = {0};
  *step = -1;
  GD_TRY(gd_path_join(path, sizeof path, folder, hint));
  GD_TRY(gd_path_look(path, &kind));
  if (kind != GD_PATH_FILE) return GD_OK;
  gd_status status = gd_file_read(path, 256, &text);
  if (status == GD_OK) {
    text.bytes[strcspn(text.bytes, "\n")] = 0;
    *step = gd_checkpoint_step_of(text.bytes);
  }
  gd_bytes_free(&text);
  return status == GD_BAD_DATA ? GD_OK : status;
}

gd_status gd_checkpoint_set_hint(const char *folder, const char *hint, int64_t step) {
  char path[GD_PATH_BYTES], text[40];
  GD_TRY(gd_path_join(path, sizeof path, folder, hint));
  if (step < 0) return unlink(path) && errno != ENOENT ? gd_fail(GD_IO, "cannot remove %s: %s", path, strerror(errno)) : GD_OK;
  gd_checkpoint_step_name(step, text);
  size_t length = strlen(text);
  text[length++] = '\n';
  return gd_file_replace(path, text, length);
}

/* TEMPORARY takes the place of the checkpoint at `path`, whose step it has, and the old one goes to `aside`: in one go but for
 * its name, where the file system can swap names. */
static gd_status swap(const char *temporary, const char *path, const char *aside) {
  if (renameat2(AT_FDCWD, temporary, AT_FDCWD, path, RENAME_EXCHANGE) == 0) {
    if (rename(temporary, aside) == 0) return GD_OK;
    gd_status status = gd_fail(GD_IO, "cannot rename %s to %s: %s", temporary, aside, strerror(errno));
    (void)!renameat2(AT_FDCWD, temporary, AT_FDCWD, path, RENAME_EXCHANGE);
    return status;
  }
  if (rename(path, aside)) return gd_fail(GD_IO, "cannot rename %s to %s: %s", path, aside, strerror(errno));
  if (rename(temporary, path) == 0) return GD_OK;
  gd_status status = gd_fail(GD_IO, "cannot rename %s to %s: %s", temporary, path, strerror(errno));
  (void)!rename(aside, path); /* where that fails, too, the next start does it: gd_checkpoint_recover */
  return status;
}

/* And back. */
static void swap_back(const char *temporary, const char *path, const char *aside) {
  if (renameat2(AT_FDCWD, aside, AT_FDCWD, path, RENAME_EXCHANGE) == 0)
    (void)!rename(aside, temporary);
  else if (rename(path, temporary) == 0)
    (void)!rename(aside, path);
}

static gd_status replace(const char *folder, const char *temporary, const char *path, int64_t step) {
  char aside[GD_PATH_BYTES];
  GD_TRY(gd_checkpoint_aside(folder, step, aside));
  GD_TRY(gd_folder_remove(aside)); /* of an earlier save of this writer, which could not remove it; of others there is none */
  GD_TRY(swap(temporary, path, aside));
  gd_status status = gd_folder_sync(folder);
  if (status != GD_OK) swap_back(temporary, path, aside); /* to the old one, which the disk surely has */
  if (status == GD_OK && gd_folder_remove(aside) != GD_OK) gd_log_fault(GD_LOG_WARNING, "%s", gd_error_text());
  return status;
}

gd_status gd_checkpoint_publish(const char *folder, const char *temporary, int64_t step) {
  char path[GD_PATH_BYTES], name[32];
  gd_path_kind kind;
  gd_checkpoint_step_name(step, name);
  GD_TRY(gd_path_join(path, sizeof path, folder, name));
  GD_TRY(gd_folder_sync(temporary));
  GD_TRY(gd_path_look(path, &kind));
  if (kind != GD_PATH_NOTHING) return replace(folder, temporary, path, step);
  if (rename(temporary, path)) return gd_fail(GD_IO, "cannot rename %s to %s: %s", temporary, path, strerror(errno));
  gd_status status = gd_folder_sync(folder);
  if (status != GD_OK) (void)!rename(path, temporary); /* what is told as not saved must not be found */
  return status;
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
  return set_aside(path, path, why, renamed);
}
