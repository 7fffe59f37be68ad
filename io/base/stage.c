/* stage.c - a folder filled under another name and then renamed. */
#include "io/base/stage.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "io/base/files.h"
#include "shard/base/log.h"

/* "a/b/" is "a/b": a rename would take the other name into it. */
static gd_status plain(const char *path, char out[GD_PATH_BYTES]) {
  size_t length = strlen(path);
  while (length > 1 && path[length - 1] == '/') length--;
  if (length + sizeof ".tmp-new" > GD_PATH_BYTES) return gd_fail_user(GD_USAGE, "the path %s is too long", path);
  memcpy(out, path, length);
  out[length] = 0;
  return GD_OK;
}

static gd_status check_free(const char *path) {
  gd_path_kind kind;
  GD_TRY(gd_path_look(path, &kind));
  if (kind == GD_PATH_FILE) return gd_fail_user(GD_USAGE, "%s: exists already", path);
  if (kind == GD_PATH_NOTHING) return GD_OK;
  struct dirent *entry = NULL;
  DIR *entries = opendir(path);
  if (!entries) return gd_fail(GD_IO, "cannot read the folder %s: %s", path, strerror(errno));
  gd_status status = gd_folder_next(entries, path, &entry);
  closedir(entries);
  if (status == GD_OK && entry) status = gd_fail_user(GD_USAGE, "%s: exists already and is not empty", path);
  return status;
}

gd_status gd_stage_open(const char *path, char staged[GD_PATH_BYTES]) {
  char final[GD_PATH_BYTES];
  GD_TRY(plain(path, final));
  GD_TRY(check_free(final));
  memcpy(staged, final, sizeof final);
  memcpy(staged + strlen(staged), ".tmp-new", sizeof ".tmp-new");
  GD_TRY(gd_folder_remove(staged));
  return gd_folder_make(staged);
}

static gd_status publish(const char *path, const char *staged) {
  char final[GD_PATH_BYTES];
  GD_TRY(plain(path, final));
  GD_TRY(gd_folder_sync(staged));
  if (rename(staged, final)) return gd_fail(GD_IO, "cannot rename %s to %s: %s", staged, final, strerror(errno));
  char *slash = strrchr(final, '/');
  if (slash) slash[slash == final ? 1 : 0] = 0;
  return gd_folder_sync(slash ? final : ".");
}

gd_status gd_stage_close(const char *path, const char *staged, gd_status so_far) {
  gd_error fault;
  gd_error_take(so_far == GD_OK ? publish(path, staged) : so_far, &fault);
  gd_path_kind kind = GD_PATH_NOTHING;
  gd_status status = gd_path_look(staged, &kind);
  if (status == GD_OK && kind != GD_PATH_NOTHING) status = gd_folder_remove(staged);
  if (status != GD_OK) gd_log_fault(GD_LOG_WARNING, "%s", gd_error_text());
  return gd_error_raise(&fault);
}
