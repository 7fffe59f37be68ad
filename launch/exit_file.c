/* exit_file.c - RUN/exit.json: running, then ended with a code and a reason. */
#include "launch/exit_file.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "io/base/files.h"
#include "io/base/json.h"
#include "io/base/lockfile.h"
#include "shard/spec.h"

enum { LIMIT = 65536, TIME_BYTES = 32 };

/* Who began: set in rank 0 alone. */
static struct { char host[64], start[TIME_BYTES]; } self;

static void now_text(char out[TIME_BYTES]) {
  time_t now = time(NULL);
  struct tm parts;
  gmtime_r(&now, &parts);
  strftime(out, TIME_BYTES, "%Y-%m-%dT%H:%M:%SZ", &parts);
}

/* By rename. On a full disk the bytes go over those that are there, which takes no new block. */
static void put(const char *path, const gd_bytes *text) {
  char temporary[GD_PATH_BYTES + 32];
  int length = snprintf(temporary, sizeof temporary, "%s.tmp", path);
  if (length < 0 || (size_t)length >= sizeof temporary) return;
  if (gd_file_write(temporary, text->bytes, text->count) == GD_OK && rename(temporary, path) == 0) return;
  gd_error_clear();
  unlink(temporary);
  int file = open(path, O_WRONLY | O_CLOEXEC);
  if (file < 0) return;
  if (pwrite(file, text->bytes, text->count, 0) == (ssize_t)text->count) (void)!ftruncate(file, (off_t)text->count);
  close(file);
}

static gd_status put_text(gd_bytes *out, const char *name, const char *text) {
  GD_TRY(gd_bytes_printf(out, ", \"%s\": ", name));
  return gd_json_quote(out, text, strlen(text));
}

/* code < 0: running. launch may be NULL. */
static gd_status format(gd_bytes *out, int code, const char *reason, int64_t pid, const char *host, const char *start,
                        const char *launch) {
  char end[TIME_BYTES];
  now_text(end);
  GD_TRY(gd_bytes_printf(out, "{\"state\": \"%s\"", code < 0 ? "running" : "ended"));
  if (code >= 0) GD_TRY(gd_bytes_printf(out, ", \"code\": %d", code));
  if (code >= 0) GD_TRY(put_text(out, "reason", reason));
  GD_TRY(gd_bytes_printf(out, ", \"pid\": %lld", (long long)pid));
  GD_TRY(put_text(out, "host", host));
  GD_TRY(put_text(out, "start", start));
  if (launch) GD_TRY(put_text(out, "launch", launch));
  if (code >= 0) GD_TRY(put_text(out, "end", end));
  return gd_bytes_append(out, "}\n", 2);
}

static void write_own(const char *directory, int code, const char *reason) {
  char path[GD_PATH_BYTES + 16];
  gd_bytes text = {0};
  snprintf(path, sizeof path, "%s/exit.json", directory);
  if (format(&text, code, reason, getpid(), self.host, self.start, getenv(GD_LAUNCH_MARK)) == GD_OK) put(path, &text);
  gd_bytes_free(&text);
}

void gd_exit_file_begin(const char *directory) {
  gethostname(self.host, sizeof self.host - 1);
  now_text(self.start);
  write_own(directory, -1, "");
}

void gd_exit_file_end(const char *directory, int code, const char *reason) {
  char path[GD_PATH_BYTES + 16];
  snprintf(path, sizeof path, "%s/exit.json", directory);
  if (*self.start)
    write_own(directory, code, reason);
  else
    gd_exit_file_complete(path, getenv(GD_LAUNCH_MARK), code, reason);
}

static bool same_text(const char *a, const char *b) {
  return a && b ? strcmp(a, b) == 0 : a == b;
}

/* GD_OK with *out = NULL where there is none of this start. */
static gd_status read_of(const char *path, const char *launch, gd_json **out) {
  *out = NULL;
  if (!gd_file_exists(path)) return GD_OK;
  GD_TRY(gd_json_read(path, LIMIT, out));
  if (same_text(gd_json_string(gd_json_get(*out, "launch")), launch)) return GD_OK;
  gd_json_free(*out);
  *out = NULL;
  return GD_OK;
}

gd_exit_file_state gd_exit_file_read(const char *path, const char *launch, int *code, char *reason, size_t bytes) {
  gd_json *root;
  int64_t found;
  gd_exit_file_state state = GD_EXIT_FILE_NONE;
  if (read_of(path, launch, &root) != GD_OK) gd_error_clear();
  if (root) state = GD_EXIT_FILE_RUNNING;
  if (gd_json_integer(gd_json_get(root, "code"), &found) && found >= 0 && found < 256) {
    const char *text = gd_json_string(gd_json_get(root, "reason"));
    *code = (int)found;
    snprintf(reason, bytes, "%s", text ? text : "");
    state = GD_EXIT_FILE_ENDED;
  }
  gd_json_free(root);
  return state;
}

static bool end_of(const char *path, const char *launch, bool ended_too, int code, const char *reason) {
  gd_json *root;
  gd_bytes text = {0};
  int64_t pid = 0;
  if (read_of(path, launch, &root) != GD_OK) gd_error_clear();
  const char *state = gd_json_string(gd_json_get(root, "state")), *host = gd_json_string(gd_json_get(root, "host"));
  const char *start = gd_json_string(gd_json_get(root, "start"));
  bool mine =
      state && host && start && (ended_too || strcmp(state, "running") == 0) && gd_json_integer(gd_json_get(root, "pid"), &pid);
  if (mine && format(&text, code, reason, pid, host, start, launch) == GD_OK) put(path, &text);
  gd_bytes_free(&text);
  gd_json_free(root);
  return mine;
}

void gd_exit_file_complete(const char *path, const char *launch, int code, const char *reason) {
  (void)end_of(path, launch, false, code, reason);
}

bool gd_exit_file_overrule(const char *path, const char *launch, int code, const char *reason) {
  return end_of(path, launch, true, code, reason);
}

void gd_exit_file_replace(const char *directory, const gd_bytes *before, int code, const char *reason) {
  char path[GD_PATH_BYTES + 16];
  gd_bytes now = {0};
  gd_lockfile *lock = NULL;
  snprintf(path, sizeof path, "%s/exit.json", directory);
  gd_status status = gd_file_exists(path) ? gd_lockfile_take(directory, &lock) : GD_IO;
  if (status == GD_OK && before) status = gd_file_read(path, LIMIT, &now);
  bool same = status == GD_OK && (!before || now.count == before->count);
  if (same && before && now.count) same = memcmp(now.bytes, before->bytes, now.count) == 0;
  if (status != GD_OK) gd_error_clear();
  if (same) {
    gethostname(self.host, sizeof self.host - 1);
    now_text(self.start);
    write_own(directory, code, reason);
  }
  gd_lockfile_release(lock);
  gd_bytes_free(&now);
}
